/* Elements beside each other with a quantizer each, in plain C. For kernels.h alone. */

static inline uint32_t lane_line(const fl_lanes *l, size_t k, uint32_t bits) {
    return level_on_line(bits, l->bottom[k], l->top[k], l->scale[k], l->offset[k]);
}

static inline uint32_t lane_bucket(const fl_lanes *l, size_t k, uint32_t bits) {
    return level_in_bucket(bits, l->base, l->at[k], l->key_low[k], l->key_high[k], l->gap[k], l->shift[k], l->mask[k]);
}

static inline uint8_t lane_sample(const fl_lanes *l, size_t k, uint32_t level) {
    return (uint8_t)(((level << 8) + (l->b[k] & 0xff)) * (l->a[k] & 0xffff) >> 16);
}

#define LANES_LOOP(READ, LEVEL, STORE)                                             \
    do {                                                                           \
        uint32_t bits_max = 0, magnitude_max = 0;                                  \
        for (size_t k = first; k < end; k++) {                                     \
            const uint32_t bits = READ(in, k), magnitude = bits << 1;              \
            bits_max = bits > bits_max ? bits : bits_max;                          \
            magnitude_max = magnitude > magnitude_max ? magnitude : magnitude_max; \
            const uint32_t level = LEVEL(l, k, bits);                              \
            STORE;                                                                 \
        }                                                                          \
        saw(seen, bits_max, magnitude_max);                                        \
    } while (0)

/* All lanes of all rows. */
#define ALL_LANES(NAME)                                                                                          \
    static inline void NAME(const fl_lanes *l, const void *in, uint8_t *out, const fl_block *b, fl_seen *seen) { \
        for (uint32_t row = 0; row < b->rows; row++, in = (const char *)in + b->map_row, out += b->picture_row)  \
            NAME##_rest(l, in, out, 0, b->width, seen);                                                          \
    }

/* Lanes from `first` on of one row, and all of them. */
#define LANES_KERNEL(NAME, READ, LEVEL)                                                                      \
    static void NAME##_rest(const fl_lanes *restrict l, const void *restrict in, uint8_t *restrict out,      \
                            size_t first, size_t end, fl_seen *restrict seen) {                              \
        if (l->stepped)                                                                                      \
            LANES_LOOP(READ, LEVEL, out[k] = lane_sample(l, k, level));                                      \
        else                                                                                                 \
            LANES_LOOP(READ, LEVEL, out[k] = (uint8_t)level);                                                \
    }                                                                                                        \
    ALL_LANES(NAME)

LANES_KERNEL(lanes_line32, bits_f32, lane_line)
LANES_KERNEL(lanes_line16, bits_f16, lane_line)
LANES_KERNEL(lanes_buckets32, bits_f32, lane_bucket)
LANES_KERNEL(lanes_buckets16, bits_f16, lane_bucket)

static inline uint32_t bits_u8(const void *in, size_t k) { return ((const uint8_t *)in)[k]; }

#define TABLE_LANES(NAME, READ)                                                                         \
    static void NAME##_rest(const fl_lanes *restrict l, const void *restrict in, uint8_t *restrict out, \
                            size_t first, size_t end, fl_seen *restrict seen) {                         \
        const uint8_t *base = l->base;                                                                  \
        uint32_t most = 0;                                                                              \
        for (size_t k = first; k < end; k++) {                                                          \
            const uint32_t bits = READ(in, k);                                                          \
            most = bits > most ? bits : most;                                                           \
            out[k] = base[l->at[k] + (int32_t)bits];                                                    \
        }                                                                                               \
        saw(seen, most, 0);                                                                             \
    }                                                                                                   \
    ALL_LANES(NAME)

TABLE_LANES(lanes_table8, bits_u8)
TABLE_LANES(lanes_table16, bits_u16)

#define PLAIN_LANES                                                                                  \
    [LANES_LINE32] = lanes_line32, [LANES_LINE16] = lanes_line16, [LANES_BUCKETS32] = lanes_buckets32, \
    [LANES_BUCKETS16] = lanes_buckets16, [LANES_TABLE8] = lanes_table8, [LANES_TABLE16] = lanes_table16
