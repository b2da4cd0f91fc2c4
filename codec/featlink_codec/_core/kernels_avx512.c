/* AVX-512 with VBMI, by hand where the compiler falls short: byte tables in registers, floats 64 at a time, gathers, and
 * short rows several at a time, as masks let each part go its own way. */
#include <immintrin.h>

#include "kernels.h"

#define INLINE static inline __attribute__((always_inline))

INLINE __mmask64 first64(size_t n) { return n >= 64 ? ~0ull : (1ull << n) - 1; }
INLINE __mmask16 first16(size_t n) { return (__mmask16)(n >= 16 ? 0xffff : (1u << n) - 1); }

/* Up to 64 bytes with their masks made once. A move that crosses a line of the cache costs twice, and 64 bytes almost
 * always do: short ones go as short ones. */
typedef struct {
    size_t n;
    __mmask16 mask16;
    __mmask32 mask32;
    __mmask64 mask64;
} span;

INLINE span span_of(size_t n) {
    return (span){n, first16(n), (__mmask32)first64(n > 32 ? 32 : n), first64(n)};
}

INLINE void store16(uint8_t *out, span s, __m512i y) { _mm_mask_storeu_epi8(out, s.mask16, _mm512_castsi512_si128(y)); }
INLINE void store32(uint8_t *out, span s, __m512i y) {
    _mm256_mask_storeu_epi8(out, s.mask32, _mm512_castsi512_si256(y));
}
INLINE __m512i load16(const void *in, span s) { return _mm512_zextsi128_si512(_mm_maskz_loadu_epi8(s.mask16, in)); }
INLINE __m512i load32(const void *in, span s) { return _mm512_zextsi256_si512(_mm256_maskz_loadu_epi8(s.mask32, in)); }

INLINE void store_bytes(uint8_t *out, span s, __m512i y) {
    if (s.n <= 16)
        store16(out, s, y);
    else if (s.n <= 32)
        store32(out, s, y);
    else if (s.n < 64)
        _mm512_mask_storeu_epi8(out, s.mask64, y);
    else
        _mm512_storeu_si512(out, y);
}

INLINE __m512i load_bytes(const void *in, span s) {
    if (s.n <= 16) return load16(in, s);
    if (s.n <= 32) return load32(in, s);
    if (s.n < 64) return _mm512_maskz_loadu_epi8(s.mask64, in);
    return _mm512_loadu_si512(in);
}

/* 0, 1, 2 ... 63 */
INLINE __m512i places(void) {
    uint8_t bytes[64];
    for (int k = 0; k < 64; k++) bytes[k] = (uint8_t)k;
    return _mm512_loadu_si512(bytes);
}

/* What a loop keeps in registers. */
typedef struct {
    __m512i table[4];
    __m512 bottom, top;
    __m512d scale, offset;
    __m512i least, most, gap, first, mask;
    __m128i shift;
    const void *memory, *starts;
    uint32_t most_steps;
    __m512i samples[2]; /* of each level, where they are scaled: at most 128 levels then */
    int scaled, limited;
    __m512i bits, positive; /* the largest seen, as unsigned and as signed numbers: of any negative floats, of the others */
} loop;

/* Go on with another quantizer. */
INLINE void aim(loop *l, const fl_quantizer *q) {
    l->bottom = _mm512_set1_ps(q->bottom);
    l->top = _mm512_set1_ps(q->top);
    l->scale = _mm512_set1_pd(q->scale);
    l->offset = _mm512_set1_pd(q->offset);
    l->least = _mm512_set1_epi32(q->key_low);
    l->most = _mm512_set1_epi32(q->key_high);
    l->gap = _mm512_set1_epi32(q->gap);
    l->first = _mm512_set1_epi32(q->first);
    l->mask = _mm512_set1_epi32(q->mask);
    l->shift = _mm_cvtsi32_si128(q->shift);
    l->memory = q->memory;
    l->starts = q->starts;
    l->most_steps = q->most;
    l->scaled = q->samples != NULL;
    for (int k = 0; k < 4; k++) l->table[k] = _mm512_loadu_si512((const uint8_t *)q->memory + 64 * k);
    for (int k = 0; k < 2 && l->scaled; k++) l->samples[k] = _mm512_loadu_si512(q->samples + 64 * k);
}

INLINE loop begin(const fl_quantizer *q) {
    loop l;
    aim(&l, q);
    l.limited = q->limit < 255;
    l.bits = l.positive = _mm512_setzero_si512();
    return l;
}

INLINE void begin_floats(loop *l, const fl_seen *seen) {
    l->bits = _mm512_load_si512(seen->lane_bits);
    l->positive = _mm512_load_si512(seen->lane_positive);
}

INLINE void finish_floats(const loop *l, fl_seen *seen) {
    _mm512_store_si512(seen->lane_bits, l->bits);
    _mm512_store_si512(seen->lane_positive, l->positive);
}

INLINE void begin_bytes(loop *l, const fl_seen *seen) { (void)l, (void)seen; }

INLINE void finish_bytes(const loop *l, fl_seen *seen) {
    uint8_t bytes[64];
    if (!l->limited) return;
    _mm512_storeu_si512(bytes, l->bits);
    for (int k = 0; k < 64; k++) saw(seen, bytes[k], 0);
}

INLINE void note(loop *l, __m512i bits) {
    l->bits = _mm512_max_epu32(l->bits, bits);
    l->positive = _mm512_max_epi32(l->positive, bits);
}


INLINE __m512i load_f32(const void *in, size_t k, size_t n) {
    const float *from = (const float *)in + k;
    return _mm512_castps_si512(n >= 16 ? _mm512_loadu_ps(from) : _mm512_maskz_loadu_ps(first16(n), from));
}

INLINE __m512i load_f16(const void *in, size_t k, size_t n) {
    const uint16_t *from = (const uint16_t *)in + k;
    const __m256i half = n >= 16 ? _mm256_loadu_si256((const void *)from) : _mm256_maskz_loadu_epi16(first16(n), from);
    return _mm512_castps_si512(_mm512_cvtph_ps(half));
}

INLINE __m512i load_u16(const void *in, size_t k, size_t n) {
    const uint16_t *from = (const uint16_t *)in + k;
    const __m256i half = n >= 16 ? _mm256_loadu_si256((const void *)from) : _mm256_maskz_loadu_epi16(first16(n), from);
    return _mm512_cvtepu16_epi32(half);
}

/* 16 floats to their levels. max(NaN, 0) is the second operand. */
INLINE __m512i linear(loop *l, __m512i bits) {
    const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512d round = _mm512_set1_pd(FL_ROUND);
    note(l, bits);
    const __m512 x = _mm512_min_ps(_mm512_max_ps(_mm512_castsi512_ps(bits), _mm512_setzero_ps()), l->top);
    __m512d a = _mm512_cvtps_pd(_mm512_castps512_ps256(x)), b = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
    a = _mm512_fmadd_pd(a, l->scale, round);
    b = _mm512_fmadd_pd(b, l->scale, round);
    return _mm512_permutex2var_epi32(_mm512_castpd_si512(a), even, _mm512_castpd_si512(b));
}

/* 16 floats to the upper words of the sums in which their levels are: as byte 1. max(NaN, bottom) is the second operand. */
INLINE __m512i on_line(loop *l, __m512i bits, __m512 bottom, __m512 top, const __m512d *scale, const __m512d *offset) {
    const __m512i odd = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    note(l, bits);
    const __m512 x = _mm512_min_ps(_mm512_max_ps(_mm512_castsi512_ps(bits), bottom), top);
    __m512d a = _mm512_cvtps_pd(_mm512_castps512_ps256(x)), b = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
    a = _mm512_fmadd_pd(a, scale[0], offset[0]);
    b = _mm512_fmadd_pd(b, scale[1], offset[1]);
    return _mm512_permutex2var_epi32(_mm512_castpd_si512(a), odd, _mm512_castpd_si512(b));
}

INLINE __m512i line(loop *l, __m512i bits) {
    const __m512d scale[2] = {l->scale, l->scale}, offset[2] = {l->offset, l->offset};
    return on_line(l, bits, l->bottom, l->top, scale, offset);
}

/* Byte 1 of each word of four registers, to 64 bytes in order. */
INLINE __m512i first_bytes(__m512i a, __m512i b, __m512i c, __m512i d) {
    uint8_t places[64];
    for (int k = 0; k < 64; k++) places[k] = (uint8_t)(k % 16 * 4 + k / 16);
    /* 0xca: where the first has ones, the second, else the third */
    const __m512i one = _mm512_ternarylogic_epi32(_mm512_set1_epi32(0xff), _mm512_srli_epi32(a, 8), b, 0xca);
    const __m512i other = _mm512_ternarylogic_epi32(_mm512_set1_epi32(0xff0000), _mm512_slli_epi32(c, 8),
                                                    _mm512_slli_epi32(d, 16), 0xca);
    const __m512i all = _mm512_ternarylogic_epi32(_mm512_set1_epi32(0xffff), one, other, 0xca);
    return _mm512_permutexvar_epi8(_mm512_loadu_si512(places), all);
}

/* NaN goes as the lowest key. */
INLINE __m512i clamped(__m512i key, __m512i bits, __m512i least, __m512i most) {
    const __m512i infinity = _mm512_set1_epi32((int)(FL_INFINITY << 1));
    const __mmask16 nan = _mm512_cmpgt_epu32_mask(_mm512_slli_epi32(bits, 1), infinity);
    return _mm512_mask_mov_epi32(_mm512_min_epi32(_mm512_max_epi32(key, least), most), nan, least);
}

INLINE __m512i clamped_key(loop *l, __m512i bits) {
    note(l, bits);
    const __m512i flip = _mm512_and_si512(_mm512_srai_epi32(bits, 31), _mm512_set1_epi32(0x7fffffff));
    return clamped(_mm512_xor_si512(bits, flip), bits, l->least, l->most);
}

INLINE __m512i folded_key(__m512i bits, __m512i gap, __m512i least, __m512i most) {
    const __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff));
    const __m512i beyond = _mm512_sub_epi32(_mm512_max_epi32(magnitude, gap), gap);
    return clamped(_mm512_xor_si512(beyond, _mm512_srai_epi32(bits, 31)), bits, least, most);
}

/* The level by a bucket's entry. */
INLINE __m512i level_of(__m512i entry, __m512i key, __m512i mask) {
    const __m512i bound = _mm512_and_si512(entry, _mm512_set1_epi32(0xffffff)), level = _mm512_srli_epi32(entry, 24);
    const __mmask16 reached = _mm512_cmpge_epu32_mask(_mm512_and_si512(key, mask), bound);
    return _mm512_mask_sub_epi32(level, reached, level, _mm512_set1_epi32(-1));
}

INLINE __m512i bucket(loop *l, __m512i bits) {
    note(l, bits);
    const __m512i key = folded_key(bits, l->gap, l->least, l->most);
    const __m512i at = _mm512_sub_epi32(_mm512_sra_epi32(key, l->shift), l->first);
    return level_of(_mm512_i32gather_epi32(at, l->memory, 4), key, l->mask);
}

/* The gather of starts reads 2 bytes behind an entry: `memory` has them. */
INLINE __m512i step_by_step(loop *l, __m512i bits) {
    const __m512i key = clamped_key(l, bits), one = _mm512_set1_epi32(1);
    const __m512i at = _mm512_sub_epi32(_mm512_sra_epi32(key, l->shift), l->first);
    const __m512i start = _mm512_and_si512(_mm512_i32gather_epi32(at, l->starts, 2), _mm512_set1_epi32(0xffff));
    __m512i level = start, next = start;
    for (uint32_t k = 0; k < l->most_steps; k++, next = _mm512_add_epi32(next, one)) {
        const __m512i bound = _mm512_i32gather_epi32(next, l->memory, 4);
        level = _mm512_mask_add_epi32(level, _mm512_cmple_epi32_mask(bound, key), level, one);
    }
    return level;
}

/* The gather reads up to 3 bytes behind an entry: `memory` has them. */
INLINE __m512i word(loop *l, __m512i index) {
    return _mm512_and_si512(_mm512_i32gather_epi32(index, l->memory, 1), _mm512_set1_epi32(0xff));
}

INLINE __m512i samples_table(loop *l, const void *in, span s) {
    const __m512i x = load_bytes(in, s);
    l->bits = _mm512_max_epu8(l->bits, x);
    const __m512i low = _mm512_permutex2var_epi8(l->table[0], x, l->table[1]);
    const __m512i high = _mm512_permutex2var_epi8(l->table[2], x, l->table[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high);
}

INLINE __m512i samples_copy(loop *l, const void *in, span s) {
    const __m512i x = load_bytes(in, s);
    l->bits = _mm512_max_epu8(l->bits, x);
    return x;
}

/* Up to 64 elements, 16 at a time, to 64 bytes in order. */
INLINE __m512i packed(__m512i a, __m512i b, __m512i c, __m512i d) {
    const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    const __m512i y = _mm512_packus_epi16(_mm512_packus_epi32(a, b), _mm512_packus_epi32(c, d));
    return _mm512_permutexvar_epi32(order, y);
}

#define SIXTEENS(NAME, LOAD, LEVEL, TOGETHER)                                                              \
    INLINE __m512i NAME(loop *l, const void *in, span s) {                                                 \
        const size_t n = s.n;                                                                              \
        const __m512i none = _mm512_setzero_si512();                                                       \
        const __m512i a = LEVEL(l, LOAD(in, 0, n));                                                        \
        const __m512i b = n > 16 ? LEVEL(l, LOAD(in, 16, n - 16)) : none;                              \
        const __m512i c = n > 32 ? LEVEL(l, LOAD(in, 32, n - 32)) : none;                              \
        const __m512i d = n > 48 ? LEVEL(l, LOAD(in, 48, n - 48)) : none;                              \
        const __m512i levels = TOGETHER(a, b, c, d);                                                       \
        return l->scaled ? _mm512_permutex2var_epi8(l->samples[0], levels, l->samples[1]) : levels;        \
    }

SIXTEENS(samples_linear32, load_f32, linear, packed)
SIXTEENS(samples_linear16, load_f16, linear, packed)
SIXTEENS(samples_line32, load_f32, line, first_bytes)
SIXTEENS(samples_line16, load_f16, line, first_bytes)
SIXTEENS(samples_buckets32, load_f32, bucket, packed)
SIXTEENS(samples_buckets16, load_f16, bucket, packed)
SIXTEENS(samples_steps32, load_f32, step_by_step, packed)
SIXTEENS(samples_steps16, load_f16, step_by_step, packed)
SIXTEENS(samples_words, load_u16, word, packed)

/* Short rows, as many at a time as 64 bytes hold: TOGETHER is a constant where the compiler shall unroll the loop. */
#define PACK_TOGETHER(SAMPLES, SIZE, STORE, TOGETHER)                                                    \
    for (; row + TOGETHER <= rows; row += TOGETHER, from += all.n * SIZE) {                             \
        const __m512i y = SAMPLES(&l, from, all);                                                       \
        __m512i at = places();                                                                          \
        STORE(to, one, y);                                                                              \
        to += picture_row;                                                                              \
        for (size_t k = 1; k < TOGETHER; k++, to += picture_row) {                                      \
            at = _mm512_add_epi8(at, step);                                                             \
            STORE(to, one, _mm512_permutexvar_epi8(at, y));                                             \
        }                                                                                               \
    }

/* A row, and many of them. Rows of up to 32 that lie in a row go as many at a time as 64 bytes hold. */
#define PACK(NAME, SAMPLES, SIZE, KIND)                                                                            \
    static void NAME(const fl_quantizer *q, const void *restrict in, uint8_t *restrict low, uint8_t *high,         \
                     size_t n, fl_seen *seen) {                                                                    \
        loop l = begin(q);                                                                                         \
        begin_##KIND(&l, seen);                                                                                    \
        size_t k = 0;                                                                                              \
        (void)high;                                                                                                \
        const span full = span_of(64), rest = span_of(n % 64);                                                     \
        for (; k + 64 <= n; k += 64) store_bytes(low + k, full, SAMPLES(&l, (const char *)in + k * SIZE, full));   \
        if (k < n) store_bytes(low + k, rest, SAMPLES(&l, (const char *)in + k * SIZE, rest));                     \
        finish_##KIND(&l, seen);                                                                                   \
    }                                                                                                              \
    static void NAME##_rows(const fl_quantizer *q, const void *restrict in, uint8_t *restrict out,                 \
                            const fl_block *b, fl_seen *seen) {                                                    \
        loop l = begin(q);                                                                                         \
        begin_##KIND(&l, seen);                                                                                    \
        const size_t width = b->width, rows = b->rows;                                                             \
        const int64_t map_row = b->map_row, picture_row = b->picture_row;                                          \
        const size_t together = width <= 32 && b->map_row == (int64_t)width * SIZE ? 64 / width : 0;               \
        const __m512i step = _mm512_set1_epi8((char)width);                                                        \
        const span full = span_of(64), rest = span_of(width % 64), one = span_of(width), all = span_of(together * width); \
        for (uint32_t plane = 0; plane < b->planes; plane++) {                                                     \
            const char *from = (const char *)in + fl_plane_of(b, plane);                                           \
            uint8_t *to = out + fl_tile_of(b, plane);                                                              \
            size_t row = 0;                                                                                        \
            if (b->ids) aim(&l, fl_quantizer_of(b, plane));                                                        \
            if (together == 2)                                                                                     \
                PACK_TOGETHER(SAMPLES, SIZE, store32, 2)                                                           \
            else if (together == 3)                                                                                \
                PACK_TOGETHER(SAMPLES, SIZE, store32, 3)                                                           \
            else if (together)                                                                                     \
                PACK_TOGETHER(SAMPLES, SIZE, store16, together)                                                    \
            for (; row < rows; row++, from += map_row, to += picture_row) {                                        \
                size_t k = 0;                                                                                      \
                for (; k + 64 <= width; k += 64) store_bytes(to + k, full, SAMPLES(&l, from + k * SIZE, full));    \
                if (k < width) store_bytes(to + k, rest, SAMPLES(&l, from + k * SIZE, rest));                      \
            }                                                                                                      \
        }                                                                                                          \
        finish_##KIND(&l, seen);                                                                                   \
    }

PACK(vbmi_copy, samples_copy, 1, bytes)
PACK(vbmi_table8, samples_table, 1, bytes)
PACK(vbmi_linear32, samples_linear32, 4, floats)
PACK(vbmi_linear16, samples_linear16, 2, floats)
PACK(vbmi_line32, samples_line32, 4, floats)
PACK(vbmi_line16, samples_line16, 2, floats)
PACK(vbmi_buckets32, samples_buckets32, 4, floats)
PACK(vbmi_buckets16, samples_buckets16, 2, floats)
PACK(vbmi_steps32, samples_steps32, 4, floats)
PACK(vbmi_steps16, samples_steps16, 2, floats)

#include "lanes_avx512.h"

static void vbmi_table16(const fl_quantizer *q, const void *restrict in, uint8_t *restrict low, uint8_t *high, size_t n,
                         fl_seen *seen) {
    loop l = begin(q);
    (void)high;
    saw_words(q, in, n, seen);
    for (size_t k = 0; k < n; k += 64) {
        const span here = span_of(n - k < 64 ? n - k : 64);
        store_bytes(low + k, here, samples_words(&l, (const char *)in + 2 * k, here));
    }
}

/* What an unpacking loop keeps in registers. */
typedef struct {
    __m512i table[4];
    const void *memory;
    __m512d step;
} values;

INLINE values values_of(const fl_values *v) {
    values found = {.memory = v->memory, .step = _mm512_set1_pd(v->step)};
    for (int k = 0; k < 4; k++) found.table[k] = _mm512_loadu_si512((const char *)v->memory + 64 * k);
    return found;
}

/* Samples become elements. */
INLINE void put_copy(const values *v, void *out, span s, __m512i x) {
    (void)v;
    store_bytes(out, s, x);
}

INLINE void put_table1(const values *v, void *out, span s, __m512i x) {
    const __m512i low = _mm512_permutex2var_epi8(v->table[0], x, v->table[1]);
    const __m512i high = _mm512_permutex2var_epi8(v->table[2], x, v->table[3]);
    put_copy(v, out, s, _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high));
}

/* 16 of the 64 samples as 32-bit numbers; the index is a constant once the loop is unrolled. */
#define QUARTER(X, J) _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(X, J))

INLINE __m512i value_linear(const values *v, __m512i x) {
    const __m512d a = _mm512_mul_pd(v->step, _mm512_cvtepi32_pd(_mm512_castsi512_si256(x)));
    const __m512d b = _mm512_mul_pd(v->step, _mm512_cvtepi32_pd(_mm512_extracti32x8_epi32(x, 1)));
    const __m512 low = _mm512_castps256_ps512(_mm512_cvtpd_ps(a));
    return _mm512_castps_si512(_mm512_insertf32x8(low, _mm512_cvtpd_ps(b), 1));
}

INLINE __m512i value_table4(const values *v, __m512i x) { return _mm512_i32gather_epi32(x, v->memory, 4); }
/* The gather reads up to 2 bytes behind an entry: `memory` has them. */
INLINE __m512i value_table2(const values *v, __m512i x) { return _mm512_i32gather_epi32(x, v->memory, 2); }

INLINE void store4(void *out, size_t k, size_t n, __m512i y) {
    if (n >= 16)
        _mm512_storeu_si512((char *)out + 4 * k, y);
    else
        _mm512_mask_storeu_epi32((char *)out + 4 * k, first16(n), y);
}

INLINE void store2(void *out, size_t k, size_t n, __m512i y) {
    _mm256_mask_storeu_epi16((char *)out + 2 * k, first16(n), _mm512_cvtepi32_epi16(y));
}

#define PUT(NAME, VALUE, STORE)                                                        \
    INLINE void NAME(const values *v, void *out, span s, __m512i x) {                  \
        STORE(out, 0, s.n, VALUE(v, QUARTER(x, 0)));                                   \
        if (s.n > 16) STORE(out, 16, s.n - 16, VALUE(v, QUARTER(x, 1)));               \
        if (s.n > 32) STORE(out, 32, s.n - 32, VALUE(v, QUARTER(x, 2)));               \
        if (s.n > 48) STORE(out, 48, s.n - 48, VALUE(v, QUARTER(x, 3)));               \
    }

PUT(put_linear, value_linear, store4)
PUT(put_table4, value_table4, store4)
PUT(put_table2, value_table2, store2)

#define UNPACK_TOGETHER(PUT, SIZE, LOAD, TOGETHER)                                                       \
    for (; row + TOGETHER <= rows; row += TOGETHER, to += all.n * SIZE) {                               \
        __m512i x = LOAD(from, one), at = places();                                                     \
        __mmask64 here = one.mask64;                                                                    \
        from += picture_row;                                                                            \
        for (size_t k = 1; k < TOGETHER; k++, from += picture_row) {                                    \
            here <<= width;                                                                             \
            at = _mm512_sub_epi8(at, step);                                                             \
            x = _mm512_mask_permutexvar_epi8(x, here, at, LOAD(from, one));                             \
        }                                                                                               \
        PUT(&v, to, all, x);                                                                            \
    }

#define UNPACK(NAME, PUT, SIZE)                                                                                 \
    static void NAME(const fl_values *v0, const uint8_t *restrict low, const uint8_t *high, void *restrict out, \
                     size_t n) {                                                                                \
        const values v = values_of(v0);                                                                         \
        (void)high;                                                                                             \
        size_t k = 0;                                                                                           \
        const span full = span_of(64), rest = span_of(n % 64);                                                  \
        for (; k + 64 <= n; k += 64) PUT(&v, (char *)out + k * SIZE, full, load_bytes(low + k, full));          \
        if (k < n) PUT(&v, (char *)out + k * SIZE, rest, load_bytes(low + k, rest));                            \
    }                                                                                                           \
    static void NAME##_rows(const fl_values *v0, const uint8_t *restrict in, void *restrict out,                \
                            const fl_block *b) {                                                                \
        const values v = values_of(v0);                                                                         \
        const size_t width = b->width, rows = b->rows;                                                          \
        const int64_t map_row = b->map_row, picture_row = b->picture_row;                                       \
        const size_t together = width <= 32 && b->map_row == (int64_t)width * SIZE ? 64 / width : 0;            \
        const __m512i step = _mm512_set1_epi8((char)width);                                                     \
        const span full = span_of(64), rest = span_of(width % 64), one = span_of(width), all = span_of(together * width); \
        for (uint32_t plane = 0; plane < b->planes; plane++) {                                                  \
            const uint8_t *from = in + fl_tile_of(b, plane);                                                    \
            char *to = (char *)out + fl_plane_of(b, plane);                                                     \
            size_t row = 0;                                                                                     \
            if (together == 2)                                                                                  \
                UNPACK_TOGETHER(PUT, SIZE, load32, 2)                                                           \
            else if (together == 3)                                                                             \
                UNPACK_TOGETHER(PUT, SIZE, load32, 3)                                                           \
            else if (together)                                                                                  \
                UNPACK_TOGETHER(PUT, SIZE, load16, together)                                                    \
            for (; row < rows; row++, from += picture_row, to += map_row) {                                     \
                size_t k = 0;                                                                                   \
                for (; k + 64 <= width; k += 64) PUT(&v, to + k * SIZE, full, load_bytes(from + k, full));      \
                if (k < width) PUT(&v, to + k * SIZE, rest, load_bytes(from + k, rest));                        \
            }                                                                                                   \
        }                                                                                                       \
    }

UNPACK(vbmi_values_copy, put_copy, 1)
UNPACK(vbmi_values1, put_table1, 1)
UNPACK(vbmi_values2, put_table2, 2)
UNPACK(vbmi_values4, put_table4, 4)
UNPACK(vbmi_values_linear, put_linear, 4)

/* A table in registers is as fast as arithmetic, so affine maps go by theirs. */
const fl_kernels fl_avx512 = {
    "avx512",
    {PLAIN_PACK_KERNELS, [K_COPY] = vbmi_copy, [K_TABLE8] = vbmi_table8, [K_AFFINE8] = vbmi_table8,
     [K_TABLE16] = vbmi_table16, [K_LINEAR32] = vbmi_linear32, [K_LINEAR16] = vbmi_linear16,
     [K_LINE32] = vbmi_line32, [K_LINE16] = vbmi_line16, [K_BUCKETS32] = vbmi_buckets32,
     [K_BUCKETS16] = vbmi_buckets16, [K_STEPS32] = vbmi_steps32,
     [K_STEPS16] = vbmi_steps16},
    {PLAIN_UNPACK_KERNELS, [U_COPY] = vbmi_values_copy, [U_TABLE1] = vbmi_values1, [U_TABLE2] = vbmi_values2,
     [U_TABLE4] = vbmi_values4, [U_LINEAR] = vbmi_values_linear},
    {[K_COPY] = vbmi_copy_rows, [K_TABLE8] = vbmi_table8_rows, [K_AFFINE8] = vbmi_table8_rows,
     [K_LINEAR32] = vbmi_linear32_rows, [K_LINEAR16] = vbmi_linear16_rows, [K_LINE32] = vbmi_line32_rows,
     [K_LINE16] = vbmi_line16_rows, [K_BUCKETS32] = vbmi_buckets32_rows,
     [K_BUCKETS16] = vbmi_buckets16_rows, [K_STEPS32] = vbmi_steps32_rows, [K_STEPS16] = vbmi_steps16_rows},
    {[U_COPY] = vbmi_values_copy_rows, [U_TABLE1] = vbmi_values1_rows, [U_TABLE2] = vbmi_values2_rows,
     [U_TABLE4] = vbmi_values4_rows, [U_LINEAR] = vbmi_values_linear_rows},
    {[LANES_LINE32] = vbmi_lanes_line32, [LANES_LINE16] = vbmi_lanes_line16,
     [LANES_BUCKETS32] = vbmi_lanes_buckets32, [LANES_BUCKETS16] = vbmi_lanes_buckets16,
     [LANES_TABLE8] = vbmi_lanes_table8, [LANES_TABLE16] = vbmi_lanes_table16},
};
