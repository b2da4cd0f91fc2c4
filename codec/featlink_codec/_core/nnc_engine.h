/* The arithmetic decoder, bin by bin. All of it inline: the reader lives in registers while weights are read. */
#ifndef FEATLINK_NNC_ENGINE_H
#define FEATLINK_NNC_ENGINE_H

#include "nnc_contexts.h"

/* Where the register's 9 bits end in the window: one bit is free above them. */
#define FL_REGISTER 54

FL_INLINE uint64_t fl_load_32(const uint8_t *data) {
    uint32_t x;
    memcpy(&x, data, 4);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    x = __builtin_bswap32(x);
#endif
    return x;
}

/* The last bytes, then zeros. */
static __attribute__((noinline, cold)) uint64_t fl_load_end(const uint8_t *data, uint64_t size, uint64_t next) {
    uint64_t bits = 0;
    for (unsigned k = 0; k < 4; k++) bits = bits << 8 | (next + k < size ? data[next + k] : 0);
    return bits;
}

/* 32 bits more. */
FL_INLINE void fl_refill(fl_nnc_reader *r) {
    uint64_t more = __builtin_expect(r->next + 4 <= r->size, 1) ? fl_load_32(r->data + r->next)
                                                                : fl_load_end(r->data, r->size, r->next);
    r->next += 4;
    r->window |= more << (FL_REGISTER - 32 - 8 - r->left);
    r->left += 32;
}

/* See that 8 bits and `more` (up to 14) are there: an improbable bin takes up to 7, a probable one 1 at most. */
FL_INLINE void fl_look_ahead(fl_nnc_reader *r, int32_t more) {
    if (__builtin_expect(r->left < more, 0)) fl_refill(r);
}
/* For a whole index with up to so many greater-than bins, but for what fl_look_ahead is called for in between. */
#define FL_MORE 14
#define FL_SHORT 14

FL_INLINE void fl_take(fl_nnc_reader *r, unsigned bits) {
    r->window <<= bits;
    r->left -= (int32_t)bits;
    fl_look_ahead(r, 0);
}

/* When the next bits are seen to: at once, or only where an improbable 1 comes. */
enum { FL_AT_ONCE, FL_AFTER_ONE, FL_LATER };

/* Take the more probable bin, or the other one. */
FL_INLINE uint32_t fl_take_bin(fl_nnc_reader *r, fl_context *c, uint32_t state, const uint32_t more_probable,
                               const int when) {
    const fl_split *split = &fl_nnc_splits[state >> 7];
    const uint32_t width = split->width[r->range], rest = r->range + 256 - width;
    const uint64_t edge = (uint64_t)rest << FL_REGISTER;
    if (__builtin_expect(r->window < edge, 1)) {
        fl_context_update(c, more_probable);
        r->range = split->after[r->range];
        r->window <<= rest >> 8 ^ 1;
        r->left -= (int32_t)(rest >> 8 ^ 1);
        if (when == FL_AT_ONCE) fl_look_ahead(r, 0);
        return more_probable;
    }
    fl_context_update(c, 1 - more_probable);
    const unsigned shift = (unsigned)__builtin_clz(width) - 23;
    r->window = (r->window - edge) << shift;
    r->range = (width << shift) - 256;
    r->left -= (int32_t)shift;
    if (when == FL_AT_ONCE) fl_look_ahead(r, 0);
    if (when == FL_AFTER_ONE && !more_probable) fl_look_ahead(r, FL_MORE);
    return 1 - more_probable;
}

/* A bin whose value decides what comes next: where it is known, the update is that of a constant. */
FL_INLINE uint32_t fl_read_bin_when(fl_nnc_reader *r, fl_context *c, const int when) {
    const uint32_t state = fl_context_state(c);
    return state >> 12 ? fl_take_bin(r, c, state, 1, when) : fl_take_bin(r, c, state, 0, when);
}

FL_INLINE uint32_t fl_read_bin(fl_nnc_reader *r, fl_context *c) { return fl_read_bin_when(r, c, FL_AT_ONCE); }

/* The same without a branch, for a bin that is hard to foresee and decides little. */
FL_INLINE uint32_t fl_read_bin_plain(fl_nnc_reader *r, fl_context *c) {
    uint32_t state = fl_context_state(c), bin = state >> 12;
    uint32_t width = fl_nnc_splits[state >> 7].width[r->range], rest = r->range + 256 - width;
    uint64_t edge = (uint64_t)rest << FL_REGISTER, other = (uint64_t)0 - (r->window >= edge);
    uint32_t range = rest ^ ((rest ^ width) & (uint32_t)other);
    unsigned shift = (unsigned)__builtin_clz(range) - 23;
    bin ^= (uint32_t)other & 1;
    fl_context_update(c, bin);
    r->window = (r->window - (edge & other)) << shift;
    r->range = (range << shift) - 256;
    r->left -= (int32_t)shift;
    fl_look_ahead(r, FL_MORE);
    return bin;
}

FL_INLINE uint32_t fl_read_even(fl_nnc_reader *r, unsigned count) {
    uint32_t value = 0;
    uint64_t edge = (uint64_t)(r->range + 256) << FL_REGISTER;
    while (count--) {
        fl_take(r, 1);
        uint64_t one = (uint64_t)0 - (r->window >= edge);
        r->window -= edge & one;
        value = value << 1 | ((uint32_t)one & 1);
    }
    return value;
}

#endif
