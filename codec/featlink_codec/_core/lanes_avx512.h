/* Elements beside each other with a quantizer each. For kernels_avx512.c alone. */

/* What 16 lanes have of their own. */
typedef struct {
    __m512 bottom, top;
    __m512d scale[2], offset[2];
} line_lanes;

INLINE line_lanes line_lanes_of(const fl_lanes *p, size_t k) {
    return (line_lanes){_mm512_loadu_ps(p->bottom + k),
                        _mm512_loadu_ps(p->top + k),
                        {_mm512_loadu_pd(p->scale + k), _mm512_loadu_pd(p->scale + k + 8)},
                        {_mm512_loadu_pd(p->offset + k), _mm512_loadu_pd(p->offset + k + 8)}};
}

INLINE __m512i line_lane(loop *l, const line_lanes *c, __m512i bits) {
    return on_line(l, bits, c->bottom, c->top, c->scale, c->offset);
}

typedef struct {
    __m512i least, most, gap, shift, mask, at;
    const void *base;
} bucket_lanes;

INLINE bucket_lanes bucket_lanes_of(const fl_lanes *p, size_t k) {
    return (bucket_lanes){_mm512_loadu_si512(p->key_low + k), _mm512_loadu_si512(p->key_high + k),
                          _mm512_loadu_si512(p->gap + k),     _mm512_loadu_si512(p->shift + k),
                          _mm512_loadu_si512(p->mask + k),    _mm512_loadu_si512(p->at + k),
                          p->base};
}

INLINE __m512i bucket_lane(loop *l, const bucket_lanes *c, __m512i bits) {
    note(l, bits);
    const __m512i key = folded_key(bits, c->gap, c->least, c->most);
    const __m512i at = _mm512_add_epi32(_mm512_srav_epi32(key, c->shift), c->at);
    return level_of(_mm512_i32gather_epi32(at, c->base, 4), key, c->mask);
}

typedef struct {
    __m512i at;
    const void *base;
} table_lanes;

INLINE table_lanes table_lanes_of(const fl_lanes *p, size_t k) {
    return (table_lanes){_mm512_loadu_si512(p->at + k), p->base};
}

/* The gather reads up to 3 bytes behind an entry: `memory` has them. */
INLINE __m512i table_lane(loop *l, const table_lanes *c, __m512i x) {
    l->bits = _mm512_max_epu32(l->bits, x);
    return _mm512_and_si512(_mm512_i32gather_epi32(_mm512_add_epi32(x, c->at), c->base, 1), _mm512_set1_epi32(0xff));
}

INLINE __m512i load_u8(const void *in, size_t k, size_t n) {
    return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(first16(n), (const uint8_t *)in + k));
}

/* Levels as byte 1 of each word of four registers, to 64 samples in order. The numbers are those of the first and second
 * register, and of the other two, in the halves of words. */
INLINE __m512i samples_of(const __m512i *levels, const __m512i *a, const __m512i *b) {
    uint8_t places[64];
    for (int k = 0; k < 64; k++) places[k] = (uint8_t)(k % 16 / 4 * 16 + k % 4 * 2 + k / 16 % 2 + k / 32 * 8);
    const __m512i upper = _mm512_set1_epi16((short)0xff00), half = _mm512_set1_epi32(0xffff);
    __m512i x[2];
    for (int k = 0; k < 2; k++) {
        /* 0xca: where the first has ones, the second, else the third */
        x[k] = _mm512_ternarylogic_epi32(half, levels[2 * k], _mm512_slli_epi32(levels[2 * k + 1], 16), 0xca);
        x[k] = _mm512_mulhi_epu16(_mm512_ternarylogic_epi32(upper, x[k], b[k], 0xca), a[k]);
    }
    return _mm512_permutexvar_epi8(_mm512_loadu_si512(places), _mm512_packus_epi16(x[0], x[1]));
}

/* Of 16 lanes of four rows. */
INLINE __m512i rows_of_samples(const fl_lanes *p, size_t k, const __m512i *levels) {
    const __m512i a = _mm512_loadu_si512(p->a + k), b = _mm512_loadu_si512(p->b + k);
    return samples_of(levels, (const __m512i[]){a, a}, (const __m512i[]){b, b});
}

/* Of 64 lanes of one row. */
INLINE __m512i row_of_samples(const fl_lanes *p, size_t k, const __m512i *levels) {
    const __mmask32 odd = 0xaaaaaaaa;
    __m512i a[2], b[2];
    for (size_t j = 0; j < 2; j++) {
        const uint32_t *of = p->a + k + 32 * j, *plus = p->b + k + 32 * j;
        a[j] = _mm512_mask_blend_epi16(odd, _mm512_loadu_si512(of), _mm512_loadu_si512(of + 16));
        b[j] = _mm512_mask_blend_epi16(odd, _mm512_loadu_si512(plus), _mm512_loadu_si512(plus + 16));
    }
    return samples_of(levels, a, b);
}

/* Levels as byte 1 of words, or as the words. */
INLINE __m512i line_bytes(const __m512i *c) { return first_bytes(c[0], c[1], c[2], c[3]); }
INLINE __m512i bucket_bytes(const __m512i *c) { return packed(c[0], c[1], c[2], c[3]); }
INLINE void line_raised(__m512i *c) { (void)c; }
INLINE void bucket_raised(__m512i *c) {
    for (int k = 0; k < 4; k++) c[k] = _mm512_slli_epi32(c[k], 8);
}
/* Tables know no steps. */
INLINE __m512i table_bytes(const __m512i *c) { return packed(c[0], c[1], c[2], c[3]); }
INLINE void table_raised(__m512i *c) { (void)c; }

INLINE void store_rows(uint8_t *out, int64_t stride, __mmask16 here, __m512i y) {
    _mm_mask_storeu_epi8(out, here, _mm512_castsi512_si128(y));
    _mm_mask_storeu_epi8(out + stride, here, _mm512_extracti32x4_epi32(y, 1));
    _mm_mask_storeu_epi8(out + 2 * stride, here, _mm512_extracti32x4_epi32(y, 2));
    _mm_mask_storeu_epi8(out + 3 * stride, here, _mm512_extracti32x4_epi32(y, 3));
}

/* Four rows at a time, 16 lanes of each, so that what lanes have of their own is fetched once for all of them; what is
 * left a row at a time. */
#define SAMPLES(KIND, OF) (p->stepped ? (KIND##_raised(c), OF##_of_samples(p, k, c)) : KIND##_bytes(c))

/* Addresses to prefetch, which need not be within the map: four rows ahead, as going down rows hides them from the
 * hardware. */
#define LATER(FROM, ROWS) ((uintptr_t)(FROM) + (uintptr_t)((ROWS) * stride))

#define LANES_OF(NAME, KIND, LOAD, SIZE)                                                                     \
    static void NAME(const fl_lanes *p, const void *in, uint8_t *out, const fl_block *b, fl_seen *seen) {    \
        loop l;                                                                                              \
        begin_floats(&l, seen);                                                                              \
        const __m512i none = _mm512_setzero_si512();                                                         \
        const int64_t stride = b->map_row, to = b->picture_row;                                              \
        const char *from = in;                                                                               \
        uint32_t row = 0;                                                                                    \
        for (; row + 4 <= b->rows; row += 4, from += 4 * stride, out += 4 * to)                              \
            for (size_t k = 0; k < b->width; k += 16) {                                                      \
                const KIND##_lanes of = KIND##_lanes_of(p, k);                                               \
                const size_t n = b->width - k;                                                               \
                __m512i c[4];                                                                                \
                for (int j = 0; j < 4; j++) {                                                                \
                    c[j] = KIND##_lane(&l, &of, LOAD(from + j * stride, k, n));                              \
                    _mm_prefetch((const char *)LATER(from, 4 + j) + SIZE * k, _MM_HINT_T0);                  \
                }                                                                                            \
                store_rows(out + k, to, first16(n), SAMPLES(KIND, rows));                                    \
            }                                                                                                \
        for (; row < b->rows; row++, from += stride, out += to)                                              \
            for (size_t k = 0; k < b->width; k += 64) {                                                      \
                const size_t n = b->width - k;                                                               \
                __m512i c[4] = {none, none, none, none};                                                     \
                for (size_t j = 0; j < 4 && 16 * j < n; j++) {                                               \
                    const KIND##_lanes of = KIND##_lanes_of(p, k + 16 * j);                                  \
                    c[j] = KIND##_lane(&l, &of, LOAD(from, k + 16 * j, n - 16 * j));                         \
                }                                                                                            \
                store_bytes(out + k, span_of(n < 64 ? n : 64), SAMPLES(KIND, row));                          \
            }                                                                                                \
        finish_floats(&l, seen);                                                                             \
    }

LANES_OF(vbmi_lanes_line32, line, load_f32, 4)
LANES_OF(vbmi_lanes_line16, line, load_f16, 2)
LANES_OF(vbmi_lanes_buckets32, bucket, load_f32, 4)
LANES_OF(vbmi_lanes_buckets16, bucket, load_f16, 2)
LANES_OF(vbmi_lanes_table8, table, load_u8, 1)
LANES_OF(vbmi_lanes_table16, table, load_u16, 2)
