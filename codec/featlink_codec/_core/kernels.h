/* The kernels in plain C, for the compiler to vectorise: included once for each instruction set. */
#include "internal.h"

static inline void saw(fl_seen *seen, uint32_t bits, uint32_t magnitude) {
    seen->bits = bits > seen->bits ? bits : seen->bits;
    seen->magnitude = magnitude > seen->magnitude ? magnitude : seen->magnitude;
}

/* IEEE binary16 to binary32, exactly; without subnormal operands, which some threads flush to zero. */
static inline uint32_t half_bits(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, rest = (uint32_t)(half & 0x7fffu) << 13;
    uint32_t normal = rest + (112u << 23), special = rest + (224u << 23);
    uint32_t subnormal = fl_float_bits(fl_bits_float(rest + (113u << 23)) - 0x1p-14f);
    uint32_t exponent = rest & 0x0f800000u;
    return sign | (exponent == 0 ? subnormal : exponent == 0x0f800000u ? special : normal);
}

static inline uint32_t bits_f32(const void *in, size_t k) {
    uint32_t bits;
    memcpy(&bits, (const char *)in + 4 * k, 4);
    return bits;
}

static inline uint32_t bits_f16(const void *in, size_t k) {
    uint16_t half;
    memcpy(&half, (const char *)in + 2 * k, 2);
    return half_bits(half);
}

static inline uint16_t bits_u16(const void *in, size_t k) {
    uint16_t bits;
    memcpy(&bits, (const char *)in + 2 * k, 2);
    return bits;
}

/* NaN becomes 0, and so do the numbers below. By their bits: a comparison may become ARM's fmaxnm, for which a
 * signalling NaN is a NaN still. */
static inline uint32_t level_linear(const fl_quantizer *q, uint32_t bits) {
    float x = fl_bits_float(bits > FL_INFINITY ? 0 : bits);
    x = x < q->top ? x : q->top;
    double y = (double)x * q->scale + FL_ROUND;
    uint64_t level;
    memcpy(&level, &y, 8);
    return (uint32_t)level;
}

/* The clamped ends are those of level 0 and of the highest one, so the sum is within 2^12 and 2^13. */
static inline uint32_t level_on_line(uint32_t bits, float bottom, float top, double scale, double offset) {
    float x = fl_bits_float((bits << 1) > (FL_INFINITY << 1) ? fl_float_bits(bottom) : bits);
    x = x < top ? x : top;
    x = x > bottom ? x : bottom;
    double y = (double)x * scale + offset;
    uint64_t level;
    memcpy(&level, &y, 8);
    return (uint32_t)(level >> 40) & 0xff;
}

static inline uint32_t level_line(const fl_quantizer *q, uint32_t bits) {
    return level_on_line(bits, q->bottom, q->top, q->scale, q->offset);
}

/* The level by a table of buckets in which `at` is that of key 0. NaN goes as the lowest key. */
static inline uint32_t level_in_bucket(uint32_t bits, const uint32_t *buckets, int32_t at, int32_t low, int32_t high,
                                       int32_t gap, int32_t shift, int32_t mask) {
    int32_t key = fl_folded_key(bits, gap);
    key = (bits << 1) > (FL_INFINITY << 1) ? low : key;
    key = key < low ? low : key;
    key = key > high ? high : key;
    const uint32_t bucket = buckets[(key >> shift) + at];
    return (bucket >> 24) + ((uint32_t)(key & mask) >= (bucket & 0xffffff));
}

static inline uint32_t level_buckets(const fl_quantizer *q, uint32_t bits) {
    return level_in_bucket(bits, q->memory, -q->first, q->key_low, q->key_high, q->gap, q->shift, q->mask);
}

static inline uint32_t level_steps(const fl_quantizer *q, uint32_t bits) {
    const int32_t *keys = q->memory;
    int32_t key = fl_key(bits);
    key = (bits << 1) > (FL_INFINITY << 1) ? q->key_low : key;
    key = key < q->key_low ? q->key_low : key;
    key = key > q->key_high ? q->key_high : key;
    const uint32_t start = q->starts[(key >> q->shift) - q->first];
    uint32_t level = start;
    /* those of the next buckets are not reached, and count nothing */
    for (uint32_t k = 0; k < q->most; k++) level += keys[start + k] <= key;
    return level;
}

static inline uint32_t level_search(const fl_quantizer *q, uint32_t bits) {
    const int32_t *keys = q->memory, *base = keys;
    int32_t key = (bits << 1) > (FL_INFINITY << 1) ? INT32_MIN : fl_key(bits);
    uint32_t n = q->count;
    while (n > 1) {
        uint32_t half = n / 2;
        base = base[half - 1] <= key ? base + half : base;
        n -= half;
    }
    return (uint32_t)(base - keys) + (base[0] <= key);
}

#define SAMPLE(level, step) (uint8_t)(((level) * (step) + 0x8000) >> 16)

/* A loop over float elements: LEVEL of each, narrow (one plane) or wide (two, of which either may be missing). */
#define FLOAT_LOOP(READ, LEVEL, STORE)                             \
    do {                                                           \
        uint32_t bits_max = 0, magnitude_max = 0;                  \
        for (size_t k = 0; k < n; k++) {                           \
            uint32_t bits = READ(in, k), magnitude = bits << 1;    \
            bits_max = bits > bits_max ? bits : bits_max;          \
            magnitude_max = magnitude > magnitude_max ? magnitude : magnitude_max; \
            uint32_t level = LEVEL(q, bits);                       \
            STORE;                                                 \
        }                                                          \
        saw(seen, bits_max, magnitude_max);                        \
    } while (0)

#define NARROW_KERNEL(NAME, READ, LEVEL)                                                                      \
    static void NAME(const fl_quantizer *q0, const void *restrict in, uint8_t *restrict low, uint8_t *high,   \
                     size_t n, fl_seen *seen) {                                                               \
        const fl_quantizer copy = *q0, *q = &copy; /* nothing that is written can change it */                \
        (void)high;                                                                                           \
        if (q->samples)                                                                                       \
            FLOAT_LOOP(READ, LEVEL, low[k] = SAMPLE(level, q->step));                                         \
        else                                                                                                  \
            FLOAT_LOOP(READ, LEVEL, low[k] = (uint8_t)level);                                                 \
    }

#define WIDE_KERNEL(NAME, READ, LEVEL)                                                                        \
    static void NAME(const fl_quantizer *q0, const void *restrict in, uint8_t *restrict low,                  \
                     uint8_t *restrict high, size_t n, fl_seen *seen) {                                       \
        const fl_quantizer copy = *q0, *q = &copy;                                                            \
        if (low && high)                                                                                      \
            FLOAT_LOOP(READ, LEVEL, (low[k] = (uint8_t)level, high[k] = (uint8_t)(level >> 8)));              \
        else if (low)                                                                                         \
            FLOAT_LOOP(READ, LEVEL, low[k] = SAMPLE(level, q->step));                                          \
        else                                                                                                  \
            FLOAT_LOOP(READ, LEVEL, high[k] = (uint8_t)(level >> 8));                                         \
    }

NARROW_KERNEL(pack_linear32, bits_f32, level_linear)
NARROW_KERNEL(pack_linear16, bits_f16, level_linear)
WIDE_KERNEL(pack_linear32w, bits_f32, level_linear)
WIDE_KERNEL(pack_linear16w, bits_f16, level_linear)
NARROW_KERNEL(pack_line32, bits_f32, level_line)
NARROW_KERNEL(pack_line16, bits_f16, level_line)
NARROW_KERNEL(pack_buckets32, bits_f32, level_buckets)
NARROW_KERNEL(pack_buckets16, bits_f16, level_buckets)
NARROW_KERNEL(pack_steps32, bits_f32, level_steps)
NARROW_KERNEL(pack_steps16, bits_f16, level_steps)
WIDE_KERNEL(pack_steps32w, bits_f32, level_steps)
WIDE_KERNEL(pack_steps16w, bits_f16, level_steps)
WIDE_KERNEL(pack_search32, bits_f32, level_search)
WIDE_KERNEL(pack_search16, bits_f16, level_search)

static inline void saw_bytes(const fl_quantizer *q, const uint8_t *in, size_t n, fl_seen *seen) {
    if (q->limit >= 255) return;
    uint8_t most = 0;
    for (size_t k = 0; k < n; k++) most = in[k] > most ? in[k] : most;
    saw(seen, most, 0);
}

static inline void saw_words(const fl_quantizer *q, const void *in, size_t n, fl_seen *seen) {
    if (q->limit >= 65535) return;
    uint16_t most = 0;
    for (size_t k = 0; k < n; k++) most = bits_u16(in, k) > most ? bits_u16(in, k) : most;
    saw(seen, most, 0);
}

static void pack_copy(const fl_quantizer *q, const void *restrict in, uint8_t *restrict low, uint8_t *high, size_t n,
                      fl_seen *seen) {
    (void)high;
    saw_bytes(q, in, n, seen);
    memcpy(low, in, n);
}

static void pack_table8(const fl_quantizer *q, const void *restrict in, uint8_t *restrict low, uint8_t *high, size_t n,
                        fl_seen *seen) {
    const uint8_t *table = q->memory, *bytes = in;
    (void)high;
    saw_bytes(q, in, n, seen);
    for (size_t k = 0; k < n; k++) low[k] = table[bytes[k]];
}

static void pack_affine8(const fl_quantizer *q, const void *restrict in, uint8_t *restrict low, uint8_t *high, size_t n,
                         fl_seen *seen) {
    const uint8_t *bytes = in;
    const uint8_t flip = q->type == FL_I8 ? 0x80 : 0, first = (uint8_t)q->low, last = (uint8_t)q->high;
    const uint16_t a = (uint16_t)q->a, b = (uint16_t)q->b;
    (void)high;
    saw_bytes(q, in, n, seen);
    for (size_t k = 0; k < n; k++) {
        uint8_t x = bytes[k] ^ flip;
        x = x < first ? first : x;
        x = x > last ? last : x;
        uint16_t product = (uint16_t)(((uint32_t)(x << 8) * a) >> 16);
        low[k] = (uint8_t)((uint16_t)(product + b) >> 8);
    }
}

/* Tables of 16-bit samples, and those of 16-bit elements. */
#define TABLE_LOOP(TYPE, READ)                                      \
    do {                                                            \
        const TYPE *table = q->memory;                              \
        if (low)                                                    \
            for (size_t k = 0; k < n; k++) low[k] = (uint8_t)table[READ]; \
        if (high)                                                   \
            for (size_t k = 0; k < n; k++) high[k] = (uint8_t)(table[READ] >> 8); \
    } while (0)

static void pack_table8w(const fl_quantizer *q, const void *restrict in, uint8_t *restrict low, uint8_t *restrict high,
                         size_t n, fl_seen *seen) {
    saw_bytes(q, in, n, seen);
    TABLE_LOOP(uint16_t, ((const uint8_t *)in)[k]);
}

static void pack_table16w(const fl_quantizer *q, const void *restrict in, uint8_t *restrict low, uint8_t *restrict high,
                          size_t n, fl_seen *seen) {
    saw_words(q, in, n, seen);
    TABLE_LOOP(uint16_t, bits_u16(in, k));
}

static void pack_table16(const fl_quantizer *q, const void *restrict in, uint8_t *restrict low, uint8_t *high, size_t n,
                         fl_seen *seen) {
    const uint8_t *table = q->memory;
    (void)high;
    saw_words(q, in, n, seen);
    for (size_t k = 0; k < n; k++) low[k] = table[bits_u16(in, k)];
}

static void pack_split16(const fl_quantizer *q, const void *restrict in, uint8_t *restrict low, uint8_t *restrict high,
                         size_t n, fl_seen *seen) {
    saw_words(q, in, n, seen);
    if (low)
        for (size_t k = 0; k < n; k++) low[k] = (uint8_t)bits_u16(in, k);
    if (high)
        for (size_t k = 0; k < n; k++) high[k] = (uint8_t)(bits_u16(in, k) >> 8);
}

static void unpack_copy(const fl_values *v, const uint8_t *restrict low, const uint8_t *high, void *restrict out,
                        size_t n) {
    (void)v, (void)high;
    memcpy(out, low, n);
}

#define UNPACK_TABLE(NAME, TYPE, INDEX)                                                                             \
    static void NAME(const fl_values *v, const uint8_t *restrict low, const uint8_t *restrict high,                 \
                     void *restrict out, size_t n) {                                                                \
        const TYPE *table = v->memory;                                                                              \
        (void)high;                                                                                                 \
        for (size_t k = 0; k < n; k++) memcpy((char *)out + sizeof(TYPE) * k, &table[INDEX], sizeof(TYPE));         \
    }

UNPACK_TABLE(unpack_table1, uint8_t, low[k])
UNPACK_TABLE(unpack_table2, uint16_t, low[k])
UNPACK_TABLE(unpack_table4, uint32_t, low[k])
UNPACK_TABLE(unpack_table2w, uint16_t, (uint32_t)high[k] << 8 | low[k])
UNPACK_TABLE(unpack_table4w, uint32_t, (uint32_t)high[k] << 8 | low[k])

static void unpack_linear(const fl_values *v, const uint8_t *restrict low, const uint8_t *high, void *restrict out,
                          size_t n) {
    const double step = v->step;
    (void)high;
    for (size_t k = 0; k < n; k++) {
        float x = (float)(step * (double)(int32_t)low[k]);
        memcpy((char *)out + 4 * k, &x, 4);
    }
}

static void unpack_linearw(const fl_values *v, const uint8_t *restrict low, const uint8_t *restrict high,
                           void *restrict out, size_t n) {
    const double step = v->step;
    for (size_t k = 0; k < n; k++) {
        float x = (float)(step * (double)(int32_t)((uint32_t)high[k] << 8 | low[k]));
        memcpy((char *)out + 4 * k, &x, 4);
    }
}

static void unpack_join(const fl_values *v, const uint8_t *restrict low, const uint8_t *restrict high,
                        void *restrict out, size_t n) {
    (void)v;
    for (size_t k = 0; k < n; k++) {
        uint16_t x = (uint16_t)((uint32_t)high[k] << 8 | low[k]);
        memcpy((char *)out + 2 * k, &x, 2);
    }
}

#include "lanes.h"

#define PLAIN_PACK_KERNELS                                                                                      \
    [K_COPY] = pack_copy, [K_TABLE8] = pack_table8, [K_AFFINE8] = pack_affine8, [K_TABLE8W] = pack_table8w,     \
    [K_TABLE16] = pack_table16, [K_TABLE16W] = pack_table16w, [K_SPLIT16] = pack_split16,                       \
    [K_LINEAR32] = pack_linear32, [K_LINEAR16] = pack_linear16, [K_LINEAR32W] = pack_linear32w,                 \
    [K_LINEAR16W] = pack_linear16w, [K_LINE32] = pack_line32, [K_LINE16] = pack_line16,                         \
    [K_BUCKETS32] = pack_buckets32, [K_BUCKETS16] = pack_buckets16,                                             \
    [K_STEPS32] = pack_steps32, [K_STEPS16] = pack_steps16, [K_STEPS32W] = pack_steps32w,                      \
    [K_STEPS16W] = pack_steps16w, [K_SEARCH32] = pack_search32, [K_SEARCH16] = pack_search16

#define PLAIN_UNPACK_KERNELS                                                                                    \
    [U_COPY] = unpack_copy, [U_TABLE1] = unpack_table1, [U_TABLE2] = unpack_table2, [U_TABLE4] = unpack_table4, \
    [U_LINEAR] = unpack_linear, [U_JOIN] = unpack_join, [U_TABLE2W] = unpack_table2w,                           \
    [U_TABLE4W] = unpack_table4w, [U_LINEARW] = unpack_linearw
