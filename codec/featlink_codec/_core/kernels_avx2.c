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
    __m256 top;
    __m256d scale;
    __m256i bits, positive; /* the largest seen, as unsigned and as signed numbers */
    const uint8_t *samples; /* NULL where they are the levels */
    int rows;               /* of 16 samples, up to that of the highest level */
    uint32_t a, b;          /* (level * a + b) >> 8 is the sample, unless a is 0 */
} floats;

static inline floats begin(const fl_quantizer *q) {
    return (floats){.top = _mm256_set1_ps(q->top), .scale = _mm256_set1_pd(q->scale), .samples = q->samples,
                    .rows = (int)(q->count / 16) + 1, .a = q->a, .b = q->b};
}

/* Levels in the upper bytes of 16 bits to samples in 16 bits. */
static inline __m256i samples_of(__m256i levels, __m256i a, __m256i b) {
    const __m256i x = _mm256_and_si256(levels, _mm256_set1_epi16((short)0xff00));
    return _mm256_mulhi_epu16(_mm256_or_si256(x, b), a);
}

/* Levels of up to 127 to their samples; where they cannot be computed, as in avx2_table8. */
static inline __m256i sampled(const floats *f, __m256i levels) {
    if (f->a) {
        const __m256i a = _mm256_set1_epi16((short)f->a), b = _mm256_set1_epi16((short)f->b);
        const __m256i even = samples_of(_mm256_slli_epi16(levels, 8), a, b), odd = samples_of(levels, a, b);
        return _mm256_or_si256(even, _mm256_slli_epi16(odd, 8));
    }
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

/* A line, for elements that may have one each: 8 of them, as 4 and 4. */
typedef struct {
    __m256d bottom[2], top[2], scale[2], offset[2];
    __m256 low_end, high_end; /* bottom and top once more */
} lines;

static inline lines lines_of(const fl_quantizer *q) {
    const __m256d bottom = _mm256_set1_pd(q->bottom), top = _mm256_set1_pd(q->top);
    const __m256d scale = _mm256_set1_pd(q->scale), offset = _mm256_set1_pd(q->offset);
    return (lines){{bottom, bottom}, {top, top}, {scale, scale}, {offset, offset},
                   _mm256_set1_ps(q->bottom), _mm256_set1_ps(q->top)};
}

/* 8 numbers within the ends to the upper words of the sums in which their levels are: as byte 1; in the order of linear8. */
static inline __m256i sums8(__m256d a, __m256d b, const lines *to) {
    a = _mm256_fmadd_pd(a, to->scale[0], to->offset[0]);
    b = _mm256_fmadd_pd(b, to->scale[1], to->offset[1]);
    return _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castpd_ps(a), _mm256_castpd_ps(b), 0xdd));
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

/* max(NaN, bottom) is the second operand. They are clamped as doubles, as converting what comes from memory is cheaper than
 * taking registers apart. */
static inline __m256i line32(floats *f, const lines *to, const void *in, size_t k) {
    const float *from = (const float *)in + k;
    const __m256d a = _mm256_cvtps_pd(_mm_loadu_ps(from)), b = _mm256_cvtps_pd(_mm_loadu_ps(from + 4));
    note(f, _mm256_loadu_si256((const __m256i *)from));
    return sums8(_mm256_min_pd(_mm256_max_pd(a, to->bottom[0]), to->top[0]),
                 _mm256_min_pd(_mm256_max_pd(b, to->bottom[1]), to->top[1]), to);
}

static inline __m256i line16(floats *f, const lines *to, const void *in, size_t k) {
    const __m256 bits = load_f16(in, k), x = _mm256_min_ps(_mm256_max_ps(bits, to->low_end), to->high_end);
    note(f, _mm256_castps_si256(bits));
    return sums8(_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)), to);
}

/* Byte 1 of each word of two registers, and two other ones, in 16 bits, or their samples. */
typedef struct {
    __m256i one, other;
} pairs;

static inline pairs first_pairs(__m256i a, __m256i b, __m256i c, __m256i d) {
    return (pairs){_mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xaa),
                   _mm256_blend_epi16(c, _mm256_slli_epi32(d, 16), 0xaa)};
}

/* Pairs in the order of linear8 to 32 bytes in order. */
static inline __m256i bytes_of_pairs(pairs p) {
    /* 16 bits at a time, one: a0 b0 a1 b1 a4 b4 a5 b5 | a2 b2 a3 b3 a6 b6 a7 b7; bytes, packed: the same, and c0 d0 ... */
    const __m256i apart = _mm256_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15,
                                           0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
    /* words: a0145 b0145 c0145 d0145 | a2367 b2367 c2367 d2367 */
    const __m256i y = _mm256_shuffle_epi8(_mm256_packus_epi16(p.one, p.other), apart);
    /* a0145 a2367 b0145 b2367 ... */
    const __m256i z = _mm256_permutevar8x32_epi32(y, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    const __m256i order = _mm256_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15,
                                           0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
    return _mm256_shuffle_epi8(z, order);
}

/* 32 levels of a line; samples where those are computed, or else in a second step. */
static inline __m256i first_bytes(const floats *f, __m256i a, __m256i b, __m256i c, __m256i d) {
    pairs p = first_pairs(a, b, c, d);
    if (f->a) {
        const __m256i of = _mm256_set1_epi16((short)f->a), plus = _mm256_set1_epi16((short)f->b);
        return bytes_of_pairs((pairs){samples_of(p.one, of, plus), samples_of(p.other, of, plus)});
    }
    const __m256i y = bytes_of_pairs((pairs){_mm256_srli_epi16(p.one, 8), _mm256_srli_epi16(p.other, 8)});
    return f->samples ? sampled(f, y) : y;
}

static inline __m256i linear_bytes(const floats *f, __m256i a, __m256i b, __m256i c, __m256i d) {
    const __m256i y = bytes_of(a, b, c, d);
    return f->samples ? sampled(f, y) : y;
}

#define LEVELS(NAME, LOAD, LEVEL) \
    static inline __m256i NAME(floats *f, const lines *to, const void *in, size_t k) { \
        (void)to;                                                                      \
        return LEVEL(f, LOAD(in, k));                                                  \
    }

LEVELS(linear32, load_f32, linear8)
LEVELS(linear16, load_f16, linear8)

#define LINEAR(NAME, LEVEL8, TOGETHER, TAIL, SIZE)                                                               \
    static void NAME(const fl_quantizer *q, const void *restrict in, uint8_t *restrict low, uint8_t *high,       \
                     size_t n, fl_seen *seen) {                                                                  \
        floats f = begin(q);                                                                                     \
        begin_seen(&f, seen);                                                                                    \
        const lines to = lines_of(q);                                                                            \
        size_t k = 0;                                                                                            \
        for (; k + 32 <= n; k += 32) {                                                                           \
            const __m256i a = LEVEL8(&f, &to, in, k), b = LEVEL8(&f, &to, in, k + 8);                            \
            const __m256i c = LEVEL8(&f, &to, in, k + 16), d = LEVEL8(&f, &to, in, k + 24);                      \
            _mm256_storeu_si256((__m256i *)(low + k), TOGETHER(&f, a, b, c, d));                                 \
        }                                                                                                        \
        finish(&f, seen);                                                                                        \
        if (k < n) TAIL(q, (const char *)in + SIZE * k, low + k, high, n - k, seen);                             \
    }

LINEAR(avx2_linear32, linear32, linear_bytes, pack_linear32, 4)
LINEAR(avx2_linear16, linear16, linear_bytes, pack_linear16, 2)
LINEAR(avx2_line32, line32, first_bytes, pack_line32, 4)
LINEAR(avx2_line16, line16, first_bytes, pack_line16, 2)

/* Four times 8 levels in order to 32 bytes in order. */
static inline __m256i in_order(__m256i a, __m256i b, __m256i c, __m256i d) {
    const __m256i y = _mm256_packus_epi16(_mm256_packus_epi32(a, b), _mm256_packus_epi32(c, d));
    return _mm256_permutevar8x32_epi32(y, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/* NaN goes as the lowest key. */
static inline __m256i folded_key(__m256i bits, __m256i gap, __m256i least, __m256i most) {
    const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
    const __m256i nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(FL_INFINITY));
    const __m256i beyond = _mm256_sub_epi32(_mm256_max_epi32(magnitude, gap), gap);
    const __m256i key = _mm256_xor_si256(beyond, _mm256_srai_epi32(bits, 31));
    return _mm256_blendv_epi8(_mm256_min_epi32(_mm256_max_epi32(key, least), most), least, nan);
}

/* The level by a bucket's entry. */
static inline __m256i level_of(__m256i entry, __m256i key, __m256i mask) {
    const __m256i bound = _mm256_and_si256(entry, _mm256_set1_epi32(0xffffff));
    const __m256i missed = _mm256_cmpgt_epi32(bound, _mm256_and_si256(key, mask));
    return _mm256_add_epi32(_mm256_add_epi32(_mm256_srli_epi32(entry, 24), _mm256_set1_epi32(1)), missed);
}

/* What a loop over buckets keeps. */
typedef struct {
    __m256i least, most, gap, first, mask;
    __m128i shift;
    const void *memory;
} buckets;

static inline __m256i bucket8(floats *f, const buckets *t, __m256 x) {
    const __m256i bits = _mm256_castps_si256(x), key = folded_key(bits, t->gap, t->least, t->most);
    note(f, bits);
    const __m256i at = _mm256_sub_epi32(_mm256_sra_epi32(key, t->shift), t->first);
    return level_of(_mm256_i32gather_epi32(t->memory, at, 4), key, t->mask);
}

#define BUCKETS(NAME, LOAD, TAIL, SIZE)                                                                              \
    static void NAME(const fl_quantizer *q, const void *restrict in, uint8_t *restrict low, uint8_t *high,           \
                     size_t n, fl_seen *seen) {                                                                      \
        floats f = begin(q);                                                                                         \
        begin_seen(&f, seen);                                                                                        \
        const buckets t = {_mm256_set1_epi32(q->key_low), _mm256_set1_epi32(q->key_high), _mm256_set1_epi32(q->gap), \
                           _mm256_set1_epi32(q->first),   _mm256_set1_epi32(q->mask),     _mm_cvtsi32_si128(q->shift), \
                           q->memory};                                                                               \
        size_t k = 0;                                                                                                \
        for (; k + 32 <= n; k += 32) {                                                                               \
            const __m256i c0 = bucket8(&f, &t, LOAD(in, k)), c1 = bucket8(&f, &t, LOAD(in, k + 8));                  \
            const __m256i c2 = bucket8(&f, &t, LOAD(in, k + 16)), c3 = bucket8(&f, &t, LOAD(in, k + 24));            \
            __m256i y = in_order(c0, c1, c2, c3);                                                                    \
            if (f.samples) y = sampled(&f, y);                                                                       \
            _mm256_storeu_si256((__m256i *)(low + k), y);                                                            \
        }                                                                                                            \
        for (; k + 8 <= n; k += 8) {                                                                                 \
            const __m256i none = _mm256_setzero_si256();                                                             \
            __m256i y = in_order(bucket8(&f, &t, LOAD(in, k)), none, none, none);                                    \
            if (f.samples) y = sampled(&f, y);                                                                       \
            _mm_storel_epi64((__m128i *)(low + k), _mm256_castsi256_si128(y));                                       \
        }                                                                                                            \
        finish(&f, seen);                                                                                            \
        if (k < n) TAIL(q, (const char *)in + SIZE * k, low + k, high, n - k, seen);                                 \
    }

BUCKETS(avx2_buckets32, load_f32, pack_buckets32, 4)
BUCKETS(avx2_buckets16, load_f16, pack_buckets16, 2)

#include "lanes_avx2.h"

const fl_kernels fl_avx2 = {
    "avx2",
    {PLAIN_PACK_KERNELS, [K_TABLE8] = avx2_table8, [K_AFFINE8] = avx2_affine8, [K_LINEAR32] = avx2_linear32,
     [K_LINEAR16] = avx2_linear16, [K_LINE32] = avx2_line32, [K_LINE16] = avx2_line16,
     [K_BUCKETS32] = avx2_buckets32, [K_BUCKETS16] = avx2_buckets16},
    {PLAIN_UNPACK_KERNELS, [U_TABLE1] = avx2_values1},
    {NULL},
    {NULL},
    {[LANES_LINE32] = avx2_lanes_line32, [LANES_LINE16] = avx2_lanes_line16,
     [LANES_BUCKETS32] = avx2_lanes_buckets32, [LANES_BUCKETS16] = avx2_lanes_buckets16,
     [LANES_TABLE8] = avx2_lanes_table8, [LANES_TABLE16] = avx2_lanes_table16},
};
