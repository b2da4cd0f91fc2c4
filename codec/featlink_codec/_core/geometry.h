/* What pack and unpack share: blocks in the first-level cache, short copies, transposition. */
#ifndef FEATLINK_GEOMETRY_H
#define FEATLINK_GEOMETRY_H

#include "internal.h"

/* The class of an element. */
static inline uint32_t class_at(const fl_classes *c, uint32_t h, uint32_t w, uint32_t channel) {
    return c->ids[h * c->stride_h + w * c->stride_w + channel * c->stride_c];
}

/* Elements of a block: its samples and its elements of up to 4 bytes stay in the first-level cache. */
#define BLOCK 4096
/* Rows shorter than this are handled many at a time: a kernel has its fixed cost. */
#define SHORT_ROW 256
/* Side of the square of bytes that is transposed at once, and channels of an interleaved block. */
#define SQUARE 16
#define BLOCK_CHANNELS 256
/* Pictures of so many bytes leave the second-level cache before they are full; rows of tiles narrower than that would
 * cost more than they gain. */
#define LARGE (1 << 20)
#define LARGE_ROW 64

typedef uint8_t fl_v16 __attribute__((vector_size(16)));

static inline void fl_copy_fixed(uint8_t *to, const uint8_t *from, size_t n) {
    /* two overlapping moves of the next power of two below */
    if (n >= 8) {
        uint64_t a, b;
        memcpy(&a, from, 8), memcpy(&b, from + n - 8, 8);
        memcpy(to, &a, 8), memcpy(to + n - 8, &b, 8);
    } else if (n >= 4) {
        uint32_t a, b;
        memcpy(&a, from, 4), memcpy(&b, from + n - 4, 4);
        memcpy(to, &a, 4), memcpy(to + n - 4, &b, 4);
    } else {
        for (size_t k = 0; k < n; k++) to[k] = from[k];
    }
}

/* A short row, without the call that memcpy of an unknown length is. */
static inline void fl_copy_short(uint8_t *to, const uint8_t *from, size_t n) {
    if (n < 16) {
        fl_copy_fixed(to, from, n);
        return;
    }
    fl_v16 last;
    memcpy(&last, from + n - 16, 16);
    for (size_t k = 0; k + 16 < n; k += 16) {
        fl_v16 v;
        memcpy(&v, from + k, 16);
        memcpy(to + k, &v, 16);
    }
    memcpy(to + n - 16, &last, 16);
}

#define FL_ZIP_LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define FL_ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)

/* 16 rows of 16 bytes become 16 columns: four rounds that interleave row k with row k + 8. */
static inline void fl_transpose(fl_v16 *rows) {
    fl_v16 other[16];
    for (int round = 0; round < 2; round++) {
        for (int k = 0; k < 8; k++) {
            other[2 * k] = FL_ZIP_LOW(rows[k], rows[k + 8]);
            other[2 * k + 1] = FL_ZIP_HIGH(rows[k], rows[k + 8]);
        }
        for (int k = 0; k < 8; k++) {
            rows[2 * k] = FL_ZIP_LOW(other[k], other[k + 8]);
            rows[2 * k + 1] = FL_ZIP_HIGH(other[k], other[k + 8]);
        }
    }
}

/* Places of one picture, and how many of them hold channels. */
static inline uint32_t fl_places(const fl_packing *p) { return p->tile_h * p->tile_w; }

static inline uint32_t fl_used_places(const fl_packing *p, uint32_t picture) {
    uint64_t before = (uint64_t)picture * fl_places(p);
    uint64_t rest = p->channels - before;
    return rest < fl_places(p) ? (uint32_t)rest : fl_places(p);
}

static inline int fl_has_picture(const fl_packing *p, uint32_t picture) {
    return (uint64_t)picture * fl_places(p) < p->channels;
}

static inline uint32_t fl_channel(const fl_packing *p, uint32_t place) { return p->order ? p->order[place] : place; }

/* Offset of the tile of a place within its picture. */
static inline int64_t fl_tile(const fl_packing *p, uint32_t place_within, int64_t stride) {
    return (int64_t)(place_within / p->tile_w) * p->height * stride + (int64_t)(place_within % p->tile_w) * p->width;
}

/* The same for channels c, c + 1, ...; INT64_MIN for those of another picture. Strides may be negative, so may offsets. */
static inline void fl_tiles(const fl_packing *p, uint32_t picture, uint32_t channel, uint32_t channels, int64_t stride,
                            int64_t *tiles) {
    const uint32_t first = picture * fl_places(p), used = fl_used_places(p, picture);
    for (uint32_t c = 0; c < channels; c++) {
        const uint32_t place = (p->place_of ? p->place_of[channel + c] : channel + c) - first; /* wraps below the first */
        tiles[c] = place < used ? fl_tile(p, place, stride) : INT64_MIN;
    }
}

#endif
