/* featlink_core: a feature map to and from the 8-bit pictures of the feature-map stream, in one pass.
 *
 * T/AI part 4, clause 7.2: quantization and repack. C11, no dependency but memcpy, no allocation, no global state but
 * the chosen instruction set. Every quantizer is its table of thresholds: level(x) = number of thresholds <= x. Each
 * result is a function of the inputs alone, the same bits on every machine.
 *
 * Firmware may use this header too: fill an fl_packing, prepare an fl_quantizer once, then call fl_pack per picture.
 */
#ifndef FEATLINK_CORE_H
#define FEATLINK_CORE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FL_API __attribute__((visibility("default")))

/* Raised whenever a structure or a signature below changes. */
#define FL_ABI 2

/* Element types of a map. */
enum { FL_U8 = 0, FL_I8 = 1, FL_U16 = 2, FL_I16 = 3, FL_F16 = 4, FL_F32 = 5 };

/* What fl_pack saw, or-ed; 0: nothing of note. The picture is written all the same, with NaN as level 0. With an order
 * and channels side by side, other pictures' channels may be looked at, too. */
enum {
    FL_SAW_NAN = 1,
    FL_SAW_INFINITY = 2, /* told only where there is no NaN */
    FL_SAW_NEGATIVE = 4, /* a number below 0, or a NaN with a sign; -0.0 is none */
    FL_SAW_EXCESS = 8,   /* an integer above the limit of the table, or below 0 */
};

/* For thresholds: samples over the whole range of a byte. */
#define FL_SCALED 0

/* For tables: no integer is an excess. */
#define FL_NO_LIMIT UINT32_MAX

/* Errors; nothing was written. */
enum {
    FL_BAD_TYPE = -1,    /* an element type that the call does not take */
    FL_BAD_TABLE = -2,   /* thresholds that are NaN or decrease, or a level beyond its type */
    FL_BAD_MEMORY = -3,  /* less memory than FL_MEMORY, or none */
    FL_BAD_PICTURE = -4, /* no picture of that number */
    FL_BAD_PLANE = -5,   /* no plane to write to or to read from */
};

/* Bytes that a quantizer or a value table needs at most. */
#define FL_MEMORY (65536 * 6 + 128)

/* Where each channel of a map stands in the pictures (7.2.2). */
typedef struct {
    uint32_t height, width, channels; /* of the map; each at least 1 */
    uint32_t tile_h, tile_w;          /* tiles down and across one picture; 1, 1 in mode stack */
    uint32_t pad_h, pad_w;            /* rows below and columns right of the tiles, written as 0 */
    const uint16_t *order;            /* place p carries channel order[p]; NULL: the identity */
    const uint16_t *place_of;         /* its inverse; NULL together with it */
} fl_packing;

/* A map in memory: element [h, w, c] stands at data + h * stride_h + w * stride_w + c * stride_c, in bytes. */
typedef struct {
    void *data;
    int64_t stride_h, stride_w, stride_c;
} fl_map;

/* A picture in memory; a 16-bit map has one for the low bytes and one for the high ones. Rows are `stride` bytes
 * apart. Either of low and high may be NULL where it is not wanted; a map of up to 8 bits has no high. */
typedef struct {
    uint8_t *low, *high;
    int64_t low_stride, high_stride;
} fl_picture;

/* Which of several quantizers, or tables of values, each element of a map goes through: the one whose number stands at
 * ids + h * stride_h + w * stride_w + c * stride_c, in bytes. A stride of 0 is an axis that it does not depend on. */
typedef struct {
    const uint8_t *ids; /* each below count */
    int64_t stride_h, stride_w, stride_c;
    uint32_t count;
} fl_classes;

/* From elements to samples. Opaque: fl_quantizer_thresholds or fl_quantizer_table prepare it; it points into `memory`,
 * which must stay where it is. */
typedef struct {
    int32_t kernel, type;
    uint32_t peak, step;        /* sample = (level * step + 2^15) >> 16 */
    uint32_t limit;             /* integers above it are an excess */
    int32_t key_low, key_high;  /* clamp of float keys: below the first threshold, at the last */
    int32_t first, shift, mask; /* buckets: (key >> shift) - first; mask: its low bits */
    uint32_t a, b;              /* affine: (mulhi(x << 8, a) + b) >> 8; floats: mulhi((level << 8) + b, a), or a is 0 */
    union {
        uint32_t low; /* affine: the least x */
        int32_t gap;  /* floats: magnitudes that the keys of buckets leave out */
    };
    union {
        uint32_t high;  /* affine: the largest x */
        uint32_t forms; /* floats: that there are */
    };
    double scale;               /* linear: round(x * scale), x up to top */
    double offset;              /* line: floor(x * scale + offset - 2^12), x within bottom..top */
    float bottom, top;
    uint32_t count, most;       /* thresholds in all, and in one bucket */
    const uint16_t *starts;     /* steps: the level at the start of each bucket */
    const uint8_t *samples;     /* of each level, 128 of them, where step is not that of 1 */
    const void *memory;
} fl_quantizer;

/* From samples to elements. Opaque, too: fl_values_table prepares it. */
typedef struct {
    int32_t kernel;
    uint32_t size; /* bytes of an element */
    double step;   /* linear: (float)(step * level) */
    const void *memory;
} fl_values;

FL_API int fl_abi(void);
/* Bytes of fl_packing, fl_map, fl_picture, fl_quantizer, fl_values, fl_classes (0 to 5), for callers that cannot include
 * this. */
FL_API size_t fl_size(int structure);

/* The instruction sets that this machine has and the library knows, best first; NULL behind the last one. */
FL_API const char *fl_path(int index);
/* The one in use. */
FL_API const char *fl_chosen_path(void);
/* Use another one, for tests and comparisons. Returns 0, or -1 where this machine does not have it. Not to be called
 * while another thread packs. */
FL_API int fl_choose_path(const char *name);

/* A quantizer of FL_F16 or FL_F32 elements.
 * thresholds: `count` = peak of them, not decreasing, no NaN; count 1 to 65535
 * step: the sample of level 1: 1, or 255 / peak where levels are scaled to 0..255 (count * step <= 255, or step 1).
 *   FL_SCALED: sample = floor(level * 255 / count + 0.5), for any count up to 127, and 255
 * memory: FL_MEMORY bytes, aligned to 8 */
FL_API int fl_quantizer_thresholds(fl_quantizer *q, int type, const float *thresholds, uint32_t count, uint32_t step,
                                   void *memory, size_t memory_size);

/* A quantizer of integer elements: table[bits of the element] is the sample, 256 or 65536 of them.
 * wide: samples have 16 bits, for two planes; else all must be below 256
 * limit: elements above it, and negative ones, are reported as FL_SAW_EXCESS; FL_NO_LIMIT: none are */
FL_API int fl_quantizer_table(fl_quantizer *q, int type, const uint16_t *table, int wide, uint32_t limit, void *memory,
                              size_t memory_size);

/* The name of the kernel that a quantizer came to: "copy", "table", "affine", "linear", "buckets",
 * "steps", "search". */
FL_API const char *fl_quantizer_kernel(const fl_quantizer *q);

/* Write picture number `picture` of a map: tiles, unused tiles and pads. Returns what was seen, or an error. */
FL_API int fl_pack(const fl_packing *packing, const fl_quantizer *q, const fl_map *map, uint32_t picture,
                   const fl_picture *out);

/* The same with several quantizers, all of one element type and of samples of up to 8 bits. FL_BAD_TYPE where they are
 * not; FL_SAW_NEGATIVE is told as ever, though their thresholds may well be below 0. */
FL_API int fl_pack_classes(const fl_packing *packing, const fl_quantizer *quantizers, const fl_classes *classes,
                           const fl_map *map, uint32_t picture, const fl_picture *out);

/* A table of values: element_size 1, 2 or 4 bytes each, one per sample: 256, or 65536 with wide (two planes).
 * float32: whether elements of 4 bytes are binary32, so that a linear table may be computed rather than looked up */
FL_API int fl_values_table(fl_values *v, const void *table, uint32_t element_size, int wide, int float32, void *memory,
                           size_t memory_size);

FL_API const char *fl_values_kernel(const fl_values *v);

/* Read picture number `picture` into its channels. */
FL_API int fl_unpack(const fl_packing *packing, const fl_values *v, const fl_picture *in, uint32_t picture,
                     const fl_map *map);

/* The same with several tables, all of one element size and without a second plane. */
FL_API int fl_unpack_classes(const fl_packing *packing, const fl_values *values, const fl_classes *classes,
                             const fl_picture *in, uint32_t picture, const fl_map *map);

/* 1 where a map of elements of `size` bytes has two elements that overlap, or may have: its strides do not nest. */
FL_API int fl_overlaps(const fl_packing *packing, const fl_map *map, uint32_t size);

#ifdef __cplusplus
}
#endif
#endif
