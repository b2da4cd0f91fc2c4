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
    fl_pack_lanes lanes;   /* NULL where not every quantizer is a line */
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
static inline void use(job *j, uint32_t number) {
    j->q = j->quantizers + number;
    j->run = j->kernels->pack[j->q->kernel];
    j->run_rows = j->kernels->pack_rows[j->q->kernel];
}

static inline void set_lane(fl_lanes *lanes, uint32_t lane, const fl_quantizer *q) {
    lanes->bottom[lane] = q->bottom;
    lanes->top[lane] = q->top;
    lanes->scale[lane] = q->scale;
    lanes->offset[lane] = q->offset;
    lanes->step[lane] = q->step;
    lanes->stepped |= q->step != FL_STEP;
}

/* Channels of rows of elements that lie in a row become tiles side by side, by the quantizer in use. */
void fl_pack_block(job *j, const char *in, fl_block b, target to);

/* Classes that change along rows. */
void fl_pack_mixed(job *j, target to);

#endif
