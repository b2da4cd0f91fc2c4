/* AVX-512 with VBMI, by hand where the compiler falls short: byte tables in registers, floats 64 at a time, gathers, and
 * short rows several at a time, as masks let each part go its own way. */
#include <immintrin.h>

#include "kernels.h"

#define INLINE static inline __attribute__((always_inline))

INLINE __mmask64 first64(size_t n) { return n >= 64 ? ~0ull : (1ull << n) - 1; }
INLINE __mmask16 first16(size_t n) { return (__mmask16)(n >= 16 ? 0xffff : (1u << n) - 1); }

/* What a loop keeps in registers. */
typedef struct {
    __m512i table[4];
    __m512 top;
    __m512d scale;
    __m512i least, most, first, mask;
    __m128i shift;
    const void *memory;
    __m512i steps; /* level -> sample, where samples are scaled: at most 16 levels then */
    int stepped;
    __m512i bits, magnitude; /* the largest seen */
} loop;

INLINE loop begin(const fl_quantizer *q) {
    const uint8_t *table = q->memory;
    uint8_t steps[16];
    for (uint32_t k = 0; k < 16; k++) steps[k] = (uint8_t)(k * q->step);
    loop l = {
        .top = _mm512_set1_ps(q->top),
        .scale = _mm512_set1_pd(q->scale),
        .least = _mm512_set1_epi32(q->key_low),
        .most = _mm512_set1_epi32(q->key_high),
        .first = _mm512_set1_epi32(q->first),
        .mask = _mm512_set1_epi32(q->mask),
        .shift = _mm_cvtsi32_si128(q->shift),
        .memory = table,
        .steps = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)steps)),
        .stepped = q->step > 1,
        .bits = _mm512_setzero_si512(),
        .magnitude = _mm512_setzero_si512(),
    };
    for (int k = 0; k < 4; k++) l.table[k] = _mm512_loadu_si512(table + 64 * k);
    return l;
}

INLINE void finish_floats(const loop *l, fl_seen *seen) {
    saw(seen, _mm512_reduce_max_epu32(l->bits), _mm512_reduce_max_epu32(l->magnitude));
}

INLINE void finish_bytes(const loop *l, fl_seen *seen) {
    uint8_t bytes[64];
    _mm512_storeu_si512(bytes, l->bits);
    for (int k = 0; k < 64; k++) saw(seen, bytes[k], 0);
}

INLINE void note(loop *l, __m512i bits) {
    l->bits = _mm512_max_epu32(l->bits, bits);
    l->magnitude = _mm512_max_epu32(l->magnitude, _mm512_slli_epi32(bits, 1));
}

INLINE __m512i load_bytes(const void *in, size_t k, size_t n) {
    return n >= 64 ? _mm512_loadu_si512((const char *)in + k)
                   : _mm512_maskz_loadu_epi8(first64(n), (const char *)in + k);
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

INLINE __m512i bucket(loop *l, __m512i bits) {
    note(l, bits);
    const __m512i infinity = _mm512_set1_epi32((int)(FL_INFINITY << 1));
    const __mmask16 nan = _mm512_cmpgt_epu32_mask(_mm512_slli_epi32(bits, 1), infinity);
    const __m512i flip = _mm512_and_si512(_mm512_srai_epi32(bits, 31), _mm512_set1_epi32(0x7fffffff));
    __m512i key = _mm512_min_epi32(_mm512_max_epi32(_mm512_xor_si512(bits, flip), l->least), l->most);
    key = _mm512_mask_mov_epi32(key, nan, l->least);
    const __m512i at = _mm512_sub_epi32(_mm512_sra_epi32(key, l->shift), l->first);
    const __m512i entry = _mm512_i32gather_epi32(at, l->memory, 4);
    const __m512i bound = _mm512_and_si512(entry, _mm512_set1_epi32(0xffff));
    const __mmask16 reached = _mm512_cmpge_epu32_mask(_mm512_and_si512(key, l->mask), bound);
    const __m512i level = _mm512_srli_epi32(entry, 16);
    return _mm512_mask_sub_epi32(level, reached, level, _mm512_set1_epi32(-1));
}

/* The gather reads up to 3 bytes behind an entry: `memory` has them. */
INLINE __m512i word(loop *l, __m512i index) {
    return _mm512_and_si512(_mm512_i32gather_epi32(index, l->memory, 1), _mm512_set1_epi32(0xff));
}

INLINE __m512i samples_table(loop *l, const void *in, size_t k, size_t n) {
    const __m512i x = load_bytes(in, k, n);
    l->bits = _mm512_max_epu8(l->bits, x);
    const __m512i low = _mm512_permutex2var_epi8(l->table[0], x, l->table[1]);
    const __m512i high = _mm512_permutex2var_epi8(l->table[2], x, l->table[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high);
}

INLINE __m512i samples_copy(loop *l, const void *in, size_t k, size_t n) {
    const __m512i x = load_bytes(in, k, n);
    l->bits = _mm512_max_epu8(l->bits, x);
    return x;
}

/* Up to 64 elements, 16 at a time, to 64 bytes in order. */
#define SIXTEENS(NAME, LOAD, LEVEL)                                                                        \
    INLINE __m512i NAME(loop *l, const void *in, size_t k, size_t n) {                                     \
        const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);      \
        const __m512i none = _mm512_setzero_si512();                                                       \
        const __m512i a = LEVEL(l, LOAD(in, k, n));                                                        \
        const __m512i b = n > 16 ? LEVEL(l, LOAD(in, k + 16, n - 16)) : none;                              \
        const __m512i c = n > 32 ? LEVEL(l, LOAD(in, k + 32, n - 32)) : none;                              \
        const __m512i d = n > 48 ? LEVEL(l, LOAD(in, k + 48, n - 48)) : none;                              \
        const __m512i y = _mm512_packus_epi16(_mm512_packus_epi32(a, b), _mm512_packus_epi32(c, d));       \
        const __m512i levels = _mm512_permutexvar_epi32(order, y);                                         \
        return l->stepped ? _mm512_shuffle_epi8(l->steps, levels) : levels;                                \
    }

SIXTEENS(samples_linear32, load_f32, linear)
SIXTEENS(samples_linear16, load_f16, linear)
SIXTEENS(samples_buckets32, load_f32, bucket)
SIXTEENS(samples_buckets16, load_f16, bucket)
SIXTEENS(samples_words, load_u16, word)

/* A row, and many of them. Rows of up to 32 that lie in a row go as many at a time as 64 bytes hold. */
#define PACK(NAME, SAMPLES, SIZE, FINISH)                                                                          \
    static void NAME(const fl_quantizer *q, const void *restrict in, uint8_t *restrict low, uint8_t *high,         \
                     size_t n, fl_seen *seen) {                                                                    \
        loop l = begin(q);                                                                                         \
        size_t k = 0;                                                                                              \
        (void)high;                                                                                                \
        for (; k + 64 <= n; k += 64) _mm512_storeu_si512(low + k, SAMPLES(&l, in, k, 64));                         \
        if (k < n) _mm512_mask_storeu_epi8(low + k, first64(n - k), SAMPLES(&l, in, k, n - k));                    \
        FINISH(&l, seen);                                                                                          \
    }                                                                                                              \
    static void NAME##_rows(const fl_quantizer *q, const void *restrict in, uint8_t *restrict out,                 \
                            const fl_rectangle *r, fl_seen *seen) {                                                \
        loop l = begin(q);                                                                                         \
        const char *from = in;                                                                                     \
        const size_t width = r->width, rows = r->rows;                                                             \
        size_t row = 0;                                                                                            \
        if (width <= 32 && r->in_stride == (int64_t)width * SIZE) {                                                \
            const size_t together = 64 / width, n = together * width;                                              \
            const __mmask64 one = first64(width);                                                                  \
            for (; row + together <= rows; row += together, from += n * SIZE) {                                    \
                const __m512i y = SAMPLES(&l, from, 0, n);                                                         \
                for (size_t k = 0, at = 0; k < together; k++, at += width, out += r->out_stride)                   \
                    _mm512_mask_storeu_epi8(out - at, one << at, y);                                               \
            }                                                                                                      \
        }                                                                                                          \
        for (; row < rows; row++, from += r->in_stride, out += r->out_stride) {                                    \
            size_t k = 0;                                                                                          \
            for (; k + 64 <= width; k += 64) _mm512_storeu_si512(out + k, SAMPLES(&l, from, k, 64));               \
            if (k < width) _mm512_mask_storeu_epi8(out + k, first64(width - k), SAMPLES(&l, from, k, width - k));  \
        }                                                                                                          \
        FINISH(&l, seen);                                                                                          \
    }

PACK(vbmi_copy, samples_copy, 1, finish_bytes)
PACK(vbmi_table8, samples_table, 1, finish_bytes)
PACK(vbmi_linear32, samples_linear32, 4, finish_floats)
PACK(vbmi_linear16, samples_linear16, 2, finish_floats)
PACK(vbmi_buckets32, samples_buckets32, 4, finish_floats)
PACK(vbmi_buckets16, samples_buckets16, 2, finish_floats)

static void vbmi_table16(const fl_quantizer *q, const void *restrict in, uint8_t *restrict low, uint8_t *high, size_t n,
                         fl_seen *seen) {
    loop l = begin(q);
    (void)high;
    saw_words(q, in, n, seen);
    for (size_t k = 0; k < n; k += 64) {
        const size_t here = n - k < 64 ? n - k : 64;
        _mm512_mask_storeu_epi8(low + k, first64(here), samples_words(&l, in, k, here));
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

/* Samples become elements k .. k + n - 1; n is at most 64. */
INLINE void put_copy(const values *v, void *out, size_t k, size_t n, __m512i x) {
    (void)v;
    if (n == 64)
        _mm512_storeu_si512((char *)out + k, x);
    else
        _mm512_mask_storeu_epi8((char *)out + k, first64(n), x);
}

INLINE void put_table1(const values *v, void *out, size_t k, size_t n, __m512i x) {
    const __m512i low = _mm512_permutex2var_epi8(v->table[0], x, v->table[1]);
    const __m512i high = _mm512_permutex2var_epi8(v->table[2], x, v->table[3]);
    put_copy(v, out, k, n, _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high));
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
    INLINE void NAME(const values *v, void *out, size_t k, size_t n, __m512i x) {      \
        STORE(out, k, n, VALUE(v, QUARTER(x, 0)));                                     \
        if (n > 16) STORE(out, k + 16, n - 16, VALUE(v, QUARTER(x, 1)));               \
        if (n > 32) STORE(out, k + 32, n - 32, VALUE(v, QUARTER(x, 2)));               \
        if (n > 48) STORE(out, k + 48, n - 48, VALUE(v, QUARTER(x, 3)));               \
    }

PUT(put_linear, value_linear, store4)
PUT(put_table4, value_table4, store4)
PUT(put_table2, value_table2, store2)

#define UNPACK(NAME, PUT, SIZE)                                                                                 \
    static void NAME(const fl_values *v0, const uint8_t *restrict low, const uint8_t *high, void *restrict out, \
                     size_t n) {                                                                                \
        const values v = values_of(v0);                                                                         \
        (void)high;                                                                                             \
        size_t k = 0;                                                                                           \
        for (; k + 64 <= n; k += 64) PUT(&v, out, k, 64, _mm512_loadu_si512(low + k));                          \
        if (k < n) PUT(&v, out, k, n - k, load_bytes(low, k, n - k));                                           \
    }                                                                                                           \
    static void NAME##_rows(const fl_values *v0, const uint8_t *restrict in, void *restrict out,                \
                            const fl_rectangle *r) {                                                            \
        const values v = values_of(v0);                                                                         \
        const size_t width = r->width, rows = r->rows;                                                          \
        char *to = out;                                                                                         \
        size_t row = 0;                                                                                         \
        if (width <= 32 && r->out_stride == (int64_t)width * SIZE) {                                            \
            const size_t together = 64 / width, n = together * width;                                           \
            const __mmask64 one = first64(width);                                                               \
            for (; row + together <= rows; row += together, to += n * SIZE) {                                   \
                __m512i x = _mm512_setzero_si512();                                                             \
                for (size_t k = 0, at = 0; k < together; k++, at += width, in += r->in_stride)                  \
                    x = _mm512_mask_loadu_epi8(x, one << at, in - at);                                          \
                PUT(&v, to, 0, n, x);                                                                           \
            }                                                                                                   \
        }                                                                                                       \
        for (; row < rows; row++, in += r->in_stride, to += r->out_stride) {                                    \
            size_t k = 0;                                                                                       \
            for (; k + 64 <= width; k += 64) PUT(&v, to, k, 64, _mm512_loadu_si512(in + k));                    \
            if (k < width) PUT(&v, to, k, width - k, load_bytes(in, k, width - k));                             \
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
     [K_BUCKETS32] = vbmi_buckets32, [K_BUCKETS16] = vbmi_buckets16},
    {PLAIN_UNPACK_KERNELS, [U_COPY] = vbmi_values_copy, [U_TABLE1] = vbmi_values1, [U_TABLE2] = vbmi_values2,
     [U_TABLE4] = vbmi_values4, [U_LINEAR] = vbmi_values_linear},
    {[K_COPY] = vbmi_copy_rows, [K_TABLE8] = vbmi_table8_rows, [K_AFFINE8] = vbmi_table8_rows,
     [K_LINEAR32] = vbmi_linear32_rows, [K_LINEAR16] = vbmi_linear16_rows, [K_BUCKETS32] = vbmi_buckets32_rows,
     [K_BUCKETS16] = vbmi_buckets16_rows},
    {[U_COPY] = vbmi_values_copy_rows, [U_TABLE1] = vbmi_values1_rows, [U_TABLE2] = vbmi_values2_rows,
     [U_TABLE4] = vbmi_values4_rows, [U_LINEAR] = vbmi_values_linear_rows},
};
