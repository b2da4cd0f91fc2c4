/* Between the files of fl_pack: one call's constants, and blocks of channels on their way to the kernels. */
#ifndef FEATLINK_PACK_JOB_H
#define FEATLINK_PACK_JOB_H

#include "geometry.h"

/* One call's constants; but for the quantizer, of which there may be several. */
typedef struct {
    const fl_packing *packing;
    const fl_quantizer *quantizers;
    const fl_classes *classes; /* NULL: one quantizer for all */
    const fl_map *map;
    uint32_t picture, element;
    const fl_kernels *kernels;
    const fl_quantizer *q; /* the one in use, and its kernels */
    fl_pack_run run;
    fl_pack_rows run_rows; /* NULL where there is none */
    int mixed;             /* quantizers have different kernels */
    int form;              /* of all quantizers, as lanes, and its kernel: NULL where they have none in common */
    fl_pack_lanes lanes;
    uint32_t limit; /* the least of all */
    fl_seen seen;
} job;

/* Where samples go: a plane of low bytes and one of high bytes, either of which may be missing. */
typedef struct {
    uint8_t *low, *high;
    int64_t low_stride, high_stride;
} target;

static inline target moved(target t, int64_t row, int64_t column) {
    if (t.low) t.low += row * t.low_stride + column;
    if (t.high) t.high += row * t.high_stride + column;
    return t;
}

/* Go on with another quantizer. */
static inline void use(job *j, const fl_quantizer *q) {
    j->q = q;
    j->run = j->kernels->pack[j->q->kernel];
    j->run_rows = j->kernels->pack_rows[j->q->kernel];
}

/* Where a quantizer's table lies, seen from that of the first one. */
static inline int64_t fl_table_at(const job *j, const fl_quantizer *q) {
    return (int64_t)((intptr_t)q->memory - (intptr_t)j->quantizers->memory);
}

static inline void clear_lanes(const job *j, fl_lanes *lanes) {
    lanes->base = j->quantizers->memory;
    lanes->stepped = 0;
}

static inline void set_lane(const job *j, fl_lanes *lanes, uint32_t lane, const fl_quantizer *q) {
    const int plain = q->step == FL_STEP;
    if (j->form == LANES_TABLE8 || j->form == LANES_TABLE16) {
        lanes->at[lane] = (int32_t)fl_table_at(j, q);
        return;
    }
    if (j->form == LANES_LINE32 || j->form == LANES_LINE16) {
        lanes->least[lane] = lanes->bottom[lane] = q->bottom;
        lanes->most[lane] = lanes->top[lane] = q->top;
        lanes->scale[lane] = q->scale;
        lanes->offset[lane] = q->offset;
    } else {
        lanes->key_low[lane] = q->key_low;
        lanes->key_high[lane] = q->key_high;
        lanes->gap[lane] = q->gap;
        lanes->shift[lane] = q->shift;
        lanes->mask[lane] = q->mask;
        lanes->at[lane] = (int32_t)(fl_table_at(j, q) / 4) - q->first;
    }
    lanes->a[lane] = (plain ? 256 : q->a) * 0x10001;
    lanes->b[lane] = (plain ? 0 : q->b) * 0x10001;
    lanes->stepped |= !plain;
}

/* Vector kernels work on so many lanes at once: those behind the last one have its quantizer, too. */
static inline uint32_t filled_lanes(uint32_t lanes) { return (lanes + 15) & ~15u; }

/* Channels of rows of elements that lie in a row become tiles side by side, by the quantizer in use. */
void fl_pack_block(job *j, const char *in, fl_block b, target to);

/* Classes that change along rows. */
void fl_pack_mixed(job *j, target to);

#endif
