/* The arithmetic encoder, bin by bin. All of it inline: the writer lives in registers while weights are written. */
#ifndef FEATLINK_NNC_WRITER_H
#define FEATLINK_NNC_WRITER_H

#include "nnc_contexts.h"

/* Write 32 settled bits. A carry goes into what is written already. */
FL_INLINE void fl_settle(fl_nnc_writer *w) {
    uint64_t bits = w->low >> (9 + w->pending - 32);
    if (__builtin_expect(bits >> 32, 0)) {
        uint8_t *at = w->out + w->size;
        while (!++*--at) {}
    }
    for (unsigned k = 0; k < 4; k++) w->out[w->size + k] = (uint8_t)(bits >> (24 - 8 * k));
    w->size += 4;
    w->pending -= 32;
    w->low &= ((uint64_t)1 << (9 + w->pending)) - 1;
}

FL_INLINE void fl_give(fl_nnc_writer *w, unsigned bits) {
    w->low <<= bits;
    w->pending += bits;
    if (__builtin_expect(w->pending >= 32, 0)) fl_settle(w);
}

FL_INLINE void fl_write_bin(fl_nnc_writer *w, fl_context *c, uint32_t bin) {
    uint32_t state = fl_context_state(c);
    uint32_t width = fl_nnc_splits[state >> 7].width[w->range], rest = w->range + 256 - width;
    fl_context_update(c, bin);
    if (__builtin_expect(bin == (state >> 12), 1)) {
        w->range = fl_nnc_splits[state >> 7].after[w->range];
        fl_give(w, rest >> 8 ^ 1);
    } else {
        unsigned shift = (unsigned)__builtin_clz(width) - 23;
        w->low += rest;
        w->range = (width << shift) - 256;
        fl_give(w, shift);
    }
}

/* The same without a branch, for a bin that is hard to foresee. */
FL_INLINE void fl_write_bin_plain(fl_nnc_writer *w, fl_context *c, uint32_t bin) {
    uint32_t state = fl_context_state(c), other = 0 - (bin ^ state >> 12);
    uint32_t width = fl_nnc_splits[state >> 7].width[w->range], rest = w->range + 256 - width;
    uint32_t range = rest ^ ((rest ^ width) & other);
    unsigned shift = (unsigned)__builtin_clz(range) - 23;
    fl_context_update(c, bin);
    w->low += rest & other;
    w->range = (range << shift) - 256;
    fl_give(w, shift);
}

FL_INLINE void fl_write_even(fl_nnc_writer *w, uint32_t value, unsigned count) {
    while (count) {
        unsigned now = count > 8 ? 8 : count;
        count -= now;
        w->low = (w->low << now) + (uint64_t)(w->range + 256) * (value >> count & ((1u << now) - 1));
        w->pending += now;
        if (w->pending >= 32) fl_settle(w);
    }
}

#endif
