/* AVX2 with FMA and F16C, by hand where the compiler falls short. */
#include <immintrin.h>

#include "kernels.h"

/* 16 shuffles, one for each upper half of the byte: an element of another row is 16 or more after the xor, 0x80 or more
 * after the saturating sum, and a shuffle gives 0 for that. */
static void avx2_table8(const fl_quantizer *q, const void *restrict in, uint8_t *restrict low, uint8_t *high, size_t n,
                        fl_seen *seen) {
    const uint8_t *bytes = in, *table = q->memory;
    size_t k = 0;
    (void)high;
    saw_bytes(q, in, n, seen);
    for (; k + 64 <= n; k += 64) {
        const __m256i x0 = _mm256_loadu_si256((const __m256i *)(bytes + k));
        const __m256i x1 = _mm256_loadu_si256((const __m256i *)(bytes + k + 32));
        __m256i y0 = _mm256_setzero_si256(), y1 = y0;
        for (int row = 0; row < 16; row++) {
            const __m256i entries = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(table + 16 * row)));
            const __m256i flip = _mm256_set1_epi8((char)(16 * row)), lift = _mm256_set1_epi8(0x70);
            const __m256i at0 = _mm256_adds_epu8(_mm256_xor_si256(x0, flip), lift);
            const __m256i at1 = _mm256_adds_epu8(_mm256_xor_si256(x1, flip), lift);
            y0 = _mm256_or_si256(y0, _mm256_shuffle_epi8(entries, at0));
            y1 = _mm256_or_si256(y1, _mm256_shuffle_epi8(entries, at1));
        }
        _mm256_storeu_si256((__m256i *)(low + k), y0);
        _mm256_storeu_si256((__m256i *)(low + k + 32), y1);
    }
    for (; k < n; k++) low[k] = table[bytes[k]];
}

static void avx2_affine8(const fl_quantizer *q, const void *restrict in, uint8_t *restrict low, uint8_t *high, size_t n,
                         fl_seen *seen) {
    const uint8_t *bytes = in;
    const __m256i flip = _mm256_set1_epi8(q->type == FL_I8 ? (char)0x80 : 0), zero = _mm256_setzero_si256();
    const __m256i first = _mm256_set1_epi8((char)q->low), last = _mm256_set1_epi8((char)q->high);
    const __m256i a = _mm256_set1_epi16((short)q->a), b = _mm256_set1_epi16((short)q->b);
    size_t k = 0;
    saw_bytes(q, in, n, seen);
    for (; k + 32 <= n; k += 32) {
        __m256i x = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(bytes + k)), flip);
        x = _mm256_min_epu8(_mm256_max_epu8(x, first), last);
        /* x << 8 in 16 bits is x behind a zero; packing undoes the order that unpacking makes */
        const __m256i p = _mm256_add_epi16(_mm256_mulhi_epu16(_mm256_unpacklo_epi8(zero, x), a), b);
        const __m256i r = _mm256_add_epi16(_mm256_mulhi_epu16(_mm256_unpackhi_epi8(zero, x), a), b);
        const __m256i y = _mm256_packus_epi16(_mm256_srli_epi16(p, 8), _mm256_srli_epi16(r, 8));
        _mm256_storeu_si256((__m256i *)(low + k), y);
    }
    if (k < n) pack_affine8(q, bytes + k, low + k, high, n - k, seen);
}

static void avx2_values1(const fl_values *v, const uint8_t *restrict low, const uint8_t *high, void *restrict out,
                         size_t n) {
    const fl_quantizer q = {.limit = UINT32_MAX, .memory = v->memory};
    fl_seen seen = {.bits = 0};
    (void)high;
    avx2_table8(&q, low, out, NULL, n, &seen);
}

typedef struct {
    __m256 bottom, top;
    __m256d scale, offset;
    __m256i bits, positive; /* the largest seen, as unsigned and as signed numbers */
    const uint8_t *samples; /* NULL where they are the levels */
    int rows;               /* of 16 samples, up to that of the highest level */
} floats;

static inline floats begin(const fl_quantizer *q) {
    return (floats){_mm256_set1_ps(q->bottom), _mm256_set1_ps(q->top), _mm256_set1_pd(q->scale),
                    _mm256_set1_pd(q->offset), .samples = q->samples, .rows = (int)(q->count / 16) + 1};
}

/* Levels of up to 127 to their samples, as in avx2_table8. */
static inline __m256i sampled(const floats *f, __m256i levels) {
    __m256i y = _mm256_setzero_si256();
    for (int row = 0; row < f->rows; row++) {
        const __m256i entries = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(f->samples + 16 * row)));
        const __m256i at = _mm256_xor_si256(levels, _mm256_set1_epi8((char)(16 * row)));
        y = _mm256_or_si256(y, _mm256_shuffle_epi8(entries, _mm256_adds_epu8(at, _mm256_set1_epi8(0x70))));
    }
    return y;
}

static inline void note(floats *f, __m256i bits) {
    f->bits = _mm256_max_epu32(f->bits, bits);
    f->positive = _mm256_max_epi32(f->positive, bits);
}

static inline void begin_seen(floats *f, const fl_seen *seen) {
    f->bits = _mm256_load_si256((const __m256i *)seen->lane_bits);
    f->positive = _mm256_load_si256((const __m256i *)seen->lane_positive);
}

static inline void finish(const floats *f, fl_seen *seen) {
    _mm256_store_si256((__m256i *)seen->lane_bits, f->bits);
    _mm256_store_si256((__m256i *)seen->lane_positive, f->positive);
}

/* 8 floats to 32-bit levels, in the order 0 1 4 5 2 3 6 7. max(NaN, 0) is the second operand. */
static inline __m256i linear8(floats *f, __m256 x) {
    const __m256d round = _mm256_set1_pd(FL_ROUND);
    note(f, _mm256_castps_si256(x));
    x = _mm256_min_ps(_mm256_max_ps(x, _mm256_setzero_ps()), f->top);
    __m256d a = _mm256_cvtps_pd(_mm256_castps256_ps128(x)), b = _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1));
    a = _mm256_fmadd_pd(a, f->scale, round);
    b = _mm256_fmadd_pd(b, f->scale, round);
    return _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castpd_ps(a), _mm256_castpd_ps(b), 0x88));
}

/* The same for a line, of which each element may have its own. Byte 5 of a sum is the level. max(NaN, bottom) is the
 * second operand. */
static inline __m256i on_line8(floats *f, __m256 x, __m256 bottom, __m256 top, const __m256d *scale,
                               const __m256d *offset) {
    const __m256i fifth = _mm256_setr_epi8(1, -1, -1, -1, 5, -1, -1, -1, 9, -1, -1, -1, 13, -1, -1, -1,
                                           1, -1, -1, -1, 5, -1, -1, -1, 9, -1, -1, -1, 13, -1, -1, -1);
    note(f, _mm256_castps_si256(x));
    x = _mm256_min_ps(_mm256_max_ps(x, bottom), top);
    __m256d a = _mm256_cvtps_pd(_mm256_castps256_ps128(x)), b = _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1));
    a = _mm256_fmadd_pd(a, scale[0], offset[0]);
    b = _mm256_fmadd_pd(b, scale[1], offset[1]);
    const __m256 high = _mm256_shuffle_ps(_mm256_castpd_ps(a), _mm256_castpd_ps(b), 0xdd);
    return _mm256_shuffle_epi8(_mm256_castps_si256(high), fifth);
}

static inline __m256i line8(floats *f, __m256 x) {
    const __m256d scale[2] = {f->scale, f->scale}, offset[2] = {f->offset, f->offset};
    return on_line8(f, x, f->bottom, f->top, scale, offset);
}

static inline __m256i lane8(floats *f, const fl_lanes *p, size_t k, __m256 x) {
    const __m256d scale[2] = {_mm256_loadu_pd(p->scale + k), _mm256_loadu_pd(p->scale + k + 4)};
    const __m256d offset[2] = {_mm256_loadu_pd(p->offset + k), _mm256_loadu_pd(p->offset + k + 4)};
    const __m256i y = on_line8(f, x, _mm256_loadu_ps(p->bottom + k), _mm256_loadu_ps(p->top + k), scale, offset);
    if (!p->stepped) return y;
    /* steps in the order of the levels: 0 1 4 5 2 3 6 7 */
    const __m256i step = _mm256_permute4x64_epi64(_mm256_loadu_si256((const __m256i *)(p->step + k)), 0xd8);
    const __m256i sample = _mm256_add_epi32(_mm256_mullo_epi32(y, step), _mm256_set1_epi32(0x8000));
    return _mm256_srli_epi32(sample, 16);
}

static inline __m256 load_f32(const void *in, size_t k) { return _mm256_loadu_ps((const float *)in + k); }

static inline __m256 load_f16(const void *in, size_t k) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint16_t *)in + k)));
}

/* Four times 8 levels in the order of linear8 to 32 bytes in order. */
static inline __m256i bytes_of(__m256i a, __m256i b, __m256i c, __m256i d) {
    /* after the packs, 16 bits at a time: a01 a45 b01 b45 c01 c45 d01 d45 | a23 a67 b23 b67 c23 c67 d23 d67 */
    const __m256i y = _mm256_packus_epi16(_mm256_packus_epi32(a, b), _mm256_packus_epi32(c, d));
    const __m256i halves = _mm256_permute4x64_epi64(y, 0xd8);
    const __m256i order = _mm256_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15,
                                           0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15);
    return _mm256_shuffle_epi8(halves, order);
}

#define LINEAR(NAME, LEVEL8, LOAD, TAIL, SIZE)                                                                    \
    static void NAME(const fl_quantizer *q, const void *restrict in, uint8_t *restrict low, uint8_t *high,       \
                     size_t n, fl_seen *seen) {                                                                  \
        floats f = begin(q);                                                                                     \
        begin_seen(&f, seen);                                                                                    \
        size_t k = 0;                                                                                            \
        for (; k + 32 <= n; k += 32) {                                                                           \
            const __m256i a = LEVEL8(&f, LOAD(in, k)), b = LEVEL8(&f, LOAD(in, k + 8));                          \
            const __m256i c = LEVEL8(&f, LOAD(in, k + 16)), d = LEVEL8(&f, LOAD(in, k + 24));                    \
            __m256i y = bytes_of(a, b, c, d);                                                                    \
            if (f.samples) y = sampled(&f, y);                                                                   \
            _mm256_storeu_si256((__m256i *)(low + k), y);                                                        \
        }                                                                                                        \
        finish(&f, seen);                                                                                        \
        if (k < n) TAIL(q, (const char *)in + SIZE * k, low + k, high, n - k, seen);                             \
    }

LINEAR(avx2_linear32, linear8, load_f32, pack_linear32, 4)
LINEAR(avx2_linear16, linear8, load_f16, pack_linear16, 2)
LINEAR(avx2_line32, line8, load_f32, pack_line32, 4)
LINEAR(avx2_line16, line8, load_f16, pack_line16, 2)

#define LANES_OF(NAME, LOAD, PLAIN, SIZE)                                                                          \
    static void NAME(const fl_lanes *p, const void *in, uint8_t *out, const fl_block *b, fl_seen *seen) {          \
        floats f;                                                                                                  \
        begin_seen(&f, seen);                                                                                      \
        const char *from = in;                                                                                     \
        for (uint32_t row = 0; row < b->rows; row++, from += b->map_row, out += b->picture_row) {                  \
            size_t k = 0;                                                                                          \
            for (; k + 32 <= b->width; k += 32) {                                                                  \
                const __m256i c0 = lane8(&f, p, k, LOAD(from, k)), c1 = lane8(&f, p, k + 8, LOAD(from, k + 8));    \
                const __m256i c2 = lane8(&f, p, k + 16, LOAD(from, k + 16));                                       \
                const __m256i c3 = lane8(&f, p, k + 24, LOAD(from, k + 24));                                       \
                _mm256_storeu_si256((__m256i *)(out + k), bytes_of(c0, c1, c2, c3));                               \
            }                                                                                                      \
            if (k < b->width) PLAIN##_rest(p, from, out, k, b->width, seen);                                       \
        }                                                                                                          \
        finish(&f, seen);                                                                                          \
    }

LANES_OF(avx2_lanes32, load_f32, pack_lanes32, 4)
LANES_OF(avx2_lanes16, load_f16, pack_lanes16, 2)

#define BUCKETS(NAME, LOAD, TAIL, SIZE)                                                                          \
    static void NAME(const fl_quantizer *q, const void *restrict in, uint8_t *restrict low, uint8_t *high,       \
                     size_t n, fl_seen *seen) {                                                                  \
        floats f = begin(q);                                                                                     \
        begin_seen(&f, seen);                                                                                    \
        const __m256i least = _mm256_set1_epi32(q->key_low), most = _mm256_set1_epi32(q->key_high);              \
        const __m256i first = _mm256_set1_epi32(q->first), mask = _mm256_set1_epi32(q->mask);                    \
        const __m256i half = _mm256_set1_epi32(0xffff), infinity = _mm256_set1_epi32(FL_INFINITY);               \
        const __m256i unsign = _mm256_set1_epi32(0x7fffffff);                                                    \
        const __m128i shift = _mm_cvtsi32_si128(q->shift);                                                       \
        size_t k = 0;                                                                                            \
        for (; k + 8 <= n; k += 8) {                                                                             \
            const __m256i bits = _mm256_castps_si256(LOAD(in, k));                                               \
            note(&f, bits);                                                                                      \
            const __m256i nan = _mm256_cmpgt_epi32(_mm256_and_si256(bits, unsign), infinity);                    \
            __m256i key = _mm256_xor_si256(bits, _mm256_and_si256(_mm256_srai_epi32(bits, 31), unsign));         \
            key = _mm256_min_epi32(_mm256_max_epi32(key, least), most);                                          \
            key = _mm256_blendv_epi8(key, least, nan);                                                           \
            const __m256i at = _mm256_sub_epi32(_mm256_sra_epi32(key, shift), first);                            \
            const __m256i bucket = _mm256_i32gather_epi32(q->memory, at, 4);                                     \
            const __m256i missed = _mm256_cmpgt_epi32(_mm256_and_si256(bucket, half), _mm256_and_si256(key, mask)); \
            __m256i level = _mm256_add_epi32(_mm256_srli_epi32(bucket, 16), _mm256_set1_epi32(1));               \
            level = _mm256_add_epi32(level, missed);                                                             \
            level = _mm256_packus_epi32(level, level);                                                           \
            __m128i y = _mm256_castsi256_si128(_mm256_permute4x64_epi64(level, 0x08));                           \
            y = _mm_packus_epi16(y, y);                                                                          \
            if (f.samples) y = _mm256_castsi256_si128(sampled(&f, _mm256_castsi128_si256(y)));                   \
            _mm_storel_epi64((__m128i *)(low + k), y);                                                           \
        }                                                                                                        \
        finish(&f, seen);                                                                                        \
        if (k < n) TAIL(q, (const char *)in + SIZE * k, low + k, high, n - k, seen);                             \
    }

BUCKETS(avx2_buckets32, load_f32, pack_buckets32, 4)
BUCKETS(avx2_buckets16, load_f16, pack_buckets16, 2)

const fl_kernels fl_avx2 = {
    "avx2",
    {PLAIN_PACK_KERNELS, [K_TABLE8] = avx2_table8, [K_AFFINE8] = avx2_affine8, [K_LINEAR32] = avx2_linear32,
     [K_LINEAR16] = avx2_linear16, [K_LINE32] = avx2_line32, [K_LINE16] = avx2_line16, [K_BUCKETS32] = avx2_buckets32, [K_BUCKETS16] = avx2_buckets16},
    {PLAIN_UNPACK_KERNELS, [U_TABLE1] = avx2_values1},
    {NULL},
    {NULL},
    avx2_lanes32,
    avx2_lanes16,
};
