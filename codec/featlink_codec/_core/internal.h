/* Between the files of the core: kernels by instruction set, and what they share. */
#ifndef FEATLINK_INTERNAL_H
#define FEATLINK_INTERNAL_H

#include <string.h>

#include "featlink_core.h"

/* Kernels of fl_pack: `n` elements that lie in a row become `n` samples. */
enum {
    K_COPY,      /* u8: the sample is the element */
    K_TABLE8,    /* u8, i8: 256 bytes */
    K_AFFINE8,   /* the same, where 16-bit integer arithmetic gives the table */
    K_TABLE8W,   /* u8, i8: 256 x 16 bits */
    K_TABLE16,   /* u16, i16: 65536 bytes */
    K_TABLE16W,  /* u16, i16: 65536 x 16 bits */
    K_SPLIT16,   /* u16: the sample is the element */
    K_LINEAR32,  /* f32: round(x * scale) in binary64, proved against every threshold */
    K_LINEAR16,  /* f16 */
    K_LINEAR32W, /* samples of 16 bits */
    K_LINEAR16W,
    K_LINE32, /* f32: floor(x * scale + offset) in binary64, proved likewise; narrow */
    K_LINE16,
    K_BUCKETS32, /* f32: at most one threshold in each bucket of bit patterns */
    K_BUCKETS16,
    K_STEPS32, /* f32: up to STEPS thresholds in each bucket */
    K_STEPS16,
    K_STEPS32W,
    K_STEPS16W,
    K_SEARCH32, /* any thresholds, narrow or wide */
    K_SEARCH16,
    PACK_KERNELS
};

/* Thresholds in a bucket beyond which a binary search is faster. */
#define STEPS 16

/* Kernels of fl_unpack: samples in a row become elements. */
enum {
    U_COPY,      /* one byte, as it is */
    U_TABLE1,    /* 256 x 1, 2, 4 bytes */
    U_TABLE2,
    U_TABLE4,
    U_LINEAR,    /* binary32: (float)(step * sample) */
    U_JOIN,      /* two planes to u16, as they are */
    U_TABLE2W,   /* two planes, 65536 x 2, 4 bytes */
    U_TABLE4W,
    U_LINEARW,
    UNPACK_KERNELS
};

/* Largest seen. Floats: of the bits, and of the bits without their sign, as unsigned numbers. Integers: of the bits.
 * Vector kernels keep floats apart by lane, so that short calls need not bring them together: the bits as unsigned and as
 * signed numbers, which are the largest of any negative floats, and of the others. */
typedef struct {
    _Alignas(64) uint32_t lane_bits[16];
    uint32_t lane_positive[16];
    uint32_t bits, magnitude;
} fl_seen;

typedef void (*fl_pack_run)(const fl_quantizer *q, const void *in, uint8_t *low, uint8_t *high, size_t n, fl_seen *seen);
typedef void (*fl_unpack_run)(const fl_values *v, const uint8_t *low, const uint8_t *high, void *out, size_t n);

/* The same for `rows` rows of `width`, and that for `planes` channels: those that `order` names, or, where it is NULL, the
 * first ones; to tiles beside each other. Picture and map are what is read and written, or the other way round; strides
 * are in bytes. Where `ids` is not NULL each channel has a quantizer of its own, of those at `quantizers`. */
typedef struct {
    uint32_t planes, rows, width;
    const uint16_t *order;
    int64_t map_plane, map_row, picture_plane, picture_row;
    const fl_quantizer *quantizers;
    const uint8_t *ids;
    int64_t id_plane; /* from one channel's to the next one's */
} fl_block;

/* Elements beside each other that go through a quantizer each, by one of three forms: */
enum {
    LANES_LINE32, /* lines */
    LANES_LINE16,
    LANES_BUCKETS32, /* buckets */
    LANES_BUCKETS16,
    LANES_TABLE8, /* tables of bytes, of 8-bit and of 16-bit elements */
    LANES_TABLE16,
    LANES_KERNELS
};

/* What the quantizers have of their own, in arrays. Tables lie at `base` + `at`: in words for buckets, in bytes else. */
#define LANES 256
typedef struct {
    union {
        struct {
            float bottom[LANES], top[LANES];
            double scale[LANES], offset[LANES], least[LANES], most[LANES]; /* bottom and top once more */
        };
        struct {
            int32_t key_low[LANES], key_high[LANES], gap[LANES], shift[LANES], mask[LANES], at[LANES];
        };
    };
    uint32_t a[LANES], b[LANES]; /* sample = ((level << 8) + b) * a >> 16: in either half */
    const void *base;
    int stepped; /* any sample is not the level */
} fl_lanes;

/* `rows` rows of `width`, at most LANES, of one plane. */
typedef void (*fl_pack_lanes)(const fl_lanes *lanes, const void *in, uint8_t *out, const fl_block *b, fl_seen *seen);

typedef void (*fl_pack_rows)(const fl_quantizer *q, const void *in, uint8_t *out, const fl_block *b, fl_seen *seen);
typedef void (*fl_unpack_rows)(const fl_values *v, const uint8_t *in, void *out, const fl_block *b);

typedef struct {
    const char *name;
    fl_pack_run pack[PACK_KERNELS];
    fl_unpack_run unpack[UNPACK_KERNELS];
    /* For one plane of bytes; NULL where a row at a time is all there is. */
    fl_pack_rows pack_rows[PACK_KERNELS];
    fl_unpack_rows unpack_rows[UNPACK_KERNELS];
    fl_pack_lanes lanes[LANES_KERNELS];
} fl_kernels;

/* The one in use: never NULL. */
const fl_kernels *fl_current(void);

extern const fl_kernels fl_portable;
#if defined(__x86_64__)
extern const fl_kernels fl_avx2;
extern const fl_kernels fl_avx512;
#elif defined(__aarch64__)
extern const fl_kernels fl_neon;
#endif

static inline uint32_t fl_float_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

static inline float fl_bits_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

/* Orders floats as integers: a sign flip extends the order of non-negative ones. -0.0 stands just below 0.0. */
static inline int32_t fl_key(uint32_t bits) {
    int32_t s = (int32_t)bits;
    return s ^ ((s >> 31) & 0x7fffffff);
}

static inline uint32_t fl_channel_of(const fl_block *b, uint32_t plane) { return b->order ? b->order[plane] : plane; }

static inline int64_t fl_plane_of(const fl_block *b, uint32_t plane) { return fl_channel_of(b, plane) * b->map_plane; }

static inline int64_t fl_tile_of(const fl_block *b, uint32_t plane) { return (int64_t)plane * b->picture_plane; }

/* Only where there are ids. */
static inline const fl_quantizer *fl_quantizer_of(const fl_block *b, uint32_t plane) {
    return b->quantizers + b->ids[fl_channel_of(b, plane) * b->id_plane];
}

/* Bits above it, shifted by one for the sign, are NaN. */
#define FL_INFINITY 0x7f800000u
/* Adding 2^52 rounds a double to an integer, to nearest, and leaves it in the low bits. */
#define FL_ROUND 0x1p52
/* Adding 2^12 leaves the integer in the twelve bits from 40 on, and 40 bits of the fraction below. */
#define FL_LINE 0x1p12
/* fl_quantizer.step: levels are the samples. */
#define FL_STEP 65536u
/* fl_quantizer.forms of floats: what is there besides what the kernel needs. */
enum { FORM_LINE = 1, FORM_BUCKETS = 2 };

/* Floats in their order, without the `gap` smallest magnitudes of either sign, as no threshold is among them: so a table
 * by key is not much larger for signed maps than for others. `gap` is 0 where 0 is a threshold. */
static inline int32_t fl_folded_key(uint32_t bits, int32_t gap) {
    const int32_t s = (int32_t)bits, magnitude = s & 0x7fffffff;
    return ((magnitude > gap ? magnitude : gap) - gap) ^ (s >> 31);
}

#endif
