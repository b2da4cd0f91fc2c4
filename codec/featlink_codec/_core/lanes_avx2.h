/* Elements beside each other with a quantizer each. For kernels_avx2.c alone. */

/* What 8 lanes have of their own, and 8 elements to their levels. */
typedef lines line_lanes;

static inline line_lanes line_lanes_of(const fl_lanes *p, size_t k) {
    return (line_lanes){{_mm256_loadu_pd(p->least + k), _mm256_loadu_pd(p->least + k + 4)},
                        {_mm256_loadu_pd(p->most + k), _mm256_loadu_pd(p->most + k + 4)},
                        {_mm256_loadu_pd(p->scale + k), _mm256_loadu_pd(p->scale + k + 4)},
                        {_mm256_loadu_pd(p->offset + k), _mm256_loadu_pd(p->offset + k + 4)},
                        _mm256_loadu_ps(p->bottom + k),
                        _mm256_loadu_ps(p->top + k)};
}

static inline __m256i words_at(const int32_t *from) { return _mm256_loadu_si256((const __m256i *)from); }

typedef struct {
    __m256i least, most, gap, shift, mask, at;
    const void *base;
} bucket_lanes;

static inline bucket_lanes bucket_lanes_of(const fl_lanes *p, size_t k) {
    return (bucket_lanes){words_at(p->key_low + k), words_at(p->key_high + k), words_at(p->gap + k),
                          words_at(p->shift + k),   words_at(p->mask + k),     words_at(p->at + k),
                          p->base};
}

static inline __m256i bucket_lane(floats *f, const bucket_lanes *c, __m256 x) {
    const __m256i bits = _mm256_castps_si256(x), key = folded_key(bits, c->gap, c->least, c->most);
    note(f, bits);
    const __m256i at = _mm256_add_epi32(_mm256_srav_epi32(key, c->shift), c->at);
    return level_of(_mm256_i32gather_epi32(c->base, at, 4), key, c->mask);
}

typedef struct {
    __m256i at;
    const void *base;
} table_lanes;

static inline table_lanes table_lanes_of(const fl_lanes *p, size_t k) {
    return (table_lanes){words_at(p->at + k), p->base};
}

/* The gather reads up to 3 bytes behind an entry: `memory` has them. */
static inline __m256i table_lane(floats *f, const table_lanes *c, __m256i x) {
    f->bits = _mm256_max_epu32(f->bits, x);
    return _mm256_and_si256(_mm256_i32gather_epi32(c->base, _mm256_add_epi32(x, c->at), 1), _mm256_set1_epi32(0xff));
}

static inline __m256i load_u8(const void *in, size_t k) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)((const uint8_t *)in + k)));
}

static inline __m256i load_u16(const void *in, size_t k) {
    return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)((const uint16_t *)in + k)));
}

#define LANE(NAME, LOAD, KIND)                                                                       \
    static inline __m256i NAME(floats *f, const KIND##_lanes *c, const void *in, size_t k) {         \
        return KIND##_lane(f, c, LOAD(in, k));                                                       \
    }

LANE(buckets32_lane, load_f32, bucket)
LANE(buckets16_lane, load_f16, bucket)
LANE(table8_lane, load_u8, table)
LANE(table16_lane, load_u16, table)

/* Numbers of 8 lanes, in the order of linear8. */
static inline __m256i numbers_at(const uint32_t *from) {
    return _mm256_permute4x64_epi64(_mm256_loadu_si256((const __m256i *)from), 0xd8);
}

/* Of 8 lanes of four rows. */
static inline __m256i rows_of_samples(const fl_lanes *p, size_t k, pairs x) {
    const __m256i a = numbers_at(p->a + k), b = numbers_at(p->b + k);
    return bytes_of_pairs((pairs){samples_of(x.one, a, b), samples_of(x.other, a, b)});
}

/* Of 32 lanes of one row. */
static inline __m256i row_of_samples(const fl_lanes *p, size_t k, pairs x) {
    const __m256i a = _mm256_blend_epi16(numbers_at(p->a + k), numbers_at(p->a + k + 8), 0xaa);
    const __m256i b = _mm256_blend_epi16(numbers_at(p->b + k), numbers_at(p->b + k + 8), 0xaa);
    const __m256i c = _mm256_blend_epi16(numbers_at(p->a + k + 16), numbers_at(p->a + k + 24), 0xaa);
    const __m256i d = _mm256_blend_epi16(numbers_at(p->b + k + 16), numbers_at(p->b + k + 24), 0xaa);
    return bytes_of_pairs((pairs){samples_of(x.one, a, b), samples_of(x.other, c, d)});
}

/* Levels as byte 1 of words in the order of linear8, or as words in order. */
static inline __m256i line_bytes(const __m256i *c) {
    const pairs p = first_pairs(c[0], c[1], c[2], c[3]);
    return bytes_of_pairs((pairs){_mm256_srli_epi16(p.one, 8), _mm256_srli_epi16(p.other, 8)});
}

static inline pairs line_pairs(const __m256i *c) { return first_pairs(c[0], c[1], c[2], c[3]); }

static inline __m256i bucket_bytes(const __m256i *c) { return in_order(c[0], c[1], c[2], c[3]); }

static inline pairs bucket_pairs(const __m256i *c) {
    __m256i x[4];
    for (int k = 0; k < 4; k++) x[k] = _mm256_permute4x64_epi64(_mm256_slli_epi32(c[k], 8), 0xd8);
    return first_pairs(x[0], x[1], x[2], x[3]);
}

/* Tables know no steps. */
static inline __m256i table_bytes(const __m256i *c) { return bucket_bytes(c); }
static inline pairs table_pairs(const __m256i *c) { return (pairs){c[0], c[1]}; }

static inline void store_rows(uint8_t *out, int64_t stride, __m256i y) {
    const __m128i low = _mm256_castsi256_si128(y), high = _mm256_extracti128_si256(y, 1);
    _mm_storel_epi64((__m128i *)out, low);
    _mm_storel_epi64((__m128i *)(out + stride), _mm_unpackhi_epi64(low, low));
    _mm_storel_epi64((__m128i *)(out + 2 * stride), high);
    _mm_storel_epi64((__m128i *)(out + 3 * stride), _mm_unpackhi_epi64(high, high));
}

#define SAMPLES(KIND, OF) (p->stepped ? OF##_of_samples(p, k, KIND##_pairs(c)) : KIND##_bytes(c))

/* Addresses to prefetch, which need not be within the map: four rows ahead, as going down rows hides them from the
 * hardware. */
#define LATER(FROM, ROWS) ((uintptr_t)(FROM) + (uintptr_t)((ROWS) * stride))

/* Four rows at a time, 8 lanes of each, so that what lanes have of their own is fetched once for all of them; what is
 * left a row at a time. */
#define LANES_OF(NAME, KIND, LANE, PLAIN, SIZE)                                                                  \
    static void NAME(const fl_lanes *p, const void *in, uint8_t *out, const fl_block *b, fl_seen *seen) {        \
        floats f;                                                                                                \
        begin_seen(&f, seen);                                                                                    \
        const int64_t stride = b->map_row, to = b->picture_row;                                                  \
        const char *from = in;                                                                                   \
        uint32_t row = 0;                                                                                        \
        for (; row + 4 <= b->rows; row += 4, from += 4 * stride, out += 4 * to) {                                \
            size_t k = 0;                                                                                        \
            for (; k + 8 <= b->width; k += 8) {                                                                  \
                const KIND##_lanes of = KIND##_lanes_of(p, k);                                                   \
                __m256i c[4];                                                                                    \
                for (int j = 0; j < 4; j++) {                                                                    \
                    c[j] = LANE(&f, &of, from + j * stride, k);                                                  \
                    _mm_prefetch((const char *)LATER(from, 4 + j) + SIZE * k, _MM_HINT_T0);                      \
                }                                                                                                \
                store_rows(out + k, to, SAMPLES(KIND, rows));                                                    \
            }                                                                                                    \
            for (int j = 0; j < 4 && k < b->width; j++)                                                          \
                PLAIN##_rest(p, from + j * stride, out + j * to, k, b->width, seen);                             \
        }                                                                                                        \
        for (; row < b->rows; row++, from += stride, out += to) {                                                \
            size_t k = 0;                                                                                        \
            for (; k + 32 <= b->width; k += 32) {                                                                \
                __m256i c[4];                                                                                    \
                for (size_t j = 0; j < 4; j++) {                                                                 \
                    const KIND##_lanes of = KIND##_lanes_of(p, k + 8 * j);                                       \
                    c[j] = LANE(&f, &of, from, k + 8 * j);                                                       \
                }                                                                                                \
                _mm256_storeu_si256((__m256i *)(out + k), SAMPLES(KIND, row));                                   \
            }                                                                                                    \
            if (k < b->width) PLAIN##_rest(p, from, out, k, b->width, seen);                                     \
        }                                                                                                        \
        finish(&f, seen);                                                                                        \
    }

LANES_OF(avx2_lanes_line32, line, line32, lanes_line32, 4)
LANES_OF(avx2_lanes_line16, line, line16, lanes_line16, 2)
LANES_OF(avx2_lanes_buckets32, bucket, buckets32_lane, lanes_buckets32, 4)
LANES_OF(avx2_lanes_buckets16, bucket, buckets16_lane, lanes_buckets16, 2)
LANES_OF(avx2_lanes_table8, table, table8_lane, lanes_table8, 1)
LANES_OF(avx2_lanes_table16, table, table16_lane, lanes_table16, 2)
