/* Probabilities of the model stream: states of contexts, their update, and where each context stands. */
#ifndef FEATLINK_NNC_CONTEXTS_H
#define FEATLINK_NNC_CONTEXTS_H

#include "internal.h"
#include "nnc.h"

#if defined(__GNUC__)
#define FL_INLINE static inline __attribute__((always_inline))
#else
#define FL_INLINE static inline
#endif

/* Found without a look into the table of what the library offers. */
#define FL_HIDDEN __attribute__((visibility("hidden")))

/* One pair of window sizes (sh0, sh1) of the estimator, as tables by the bin that came. */
typedef struct {
    uint16_t next_fast[2][256]; /* fast state -> next one */
    int16_t slow_step[2][34];   /* slow state >> 7 -> what is added */
} fl_dynamics;

/* The estimate of one bin: S = 16 * S0 + S1, each kept without a sign. */
typedef struct {
    uint16_t slow; /* S1 + 2048 */
    uint16_t fast; /* 2 * (S0 + 128): where the next one stands in its table, in bytes */
    uint32_t set;  /* parameter-id: 0 to 8 */
    const fl_dynamics *dynamics;
} fl_context;

/* Positions of contexts; N is cabac_unary_length. */
enum {
    FL_SIG = 0,
    FL_SIG_BASE = 24,
    FL_SIG_HISTORY = 40,
    FL_SIGN = 48,
    FL_SIGN_BASE = 51,
    FL_GREATER = 53, /* 2 N without base, 2 N with it */
    FL_PREFIXES = 31,
    FL_SETS = 9,
};
#define FL_PREFIX(n) (53 + 4 * (n))
#define FL_SET_FLAG(n) (53 + 4 * (n) + 34)
#define FL_ROW_SKIP(n) (53 + 4 * (n) + 36)
#define FL_CONTEXTS(n) (53 + 4 * (n) + 37)

/* By range - 256: the width of the less probable bin; the range after the more probable one, shifted, less 256. */
typedef struct {
    uint8_t width[256], after[256];
} fl_split;

/* [(S >> 7) + 32]. Filled when the library is loaded. */
extern FL_HIDDEN fl_split fl_nnc_splits[64];

void fl_context_set(fl_context *context, unsigned set);

/* S + 4096, 205 to 7987: the more probable bin is its bit 12. */
FL_INLINE uint32_t fl_context_state(const fl_context *c) { return c->slow + 8u * c->fast; }

/* [bin][(S >> 7) + 32]: what a bin costs, in 1/1024 bit. */
extern FL_HIDDEN const uint16_t fl_nnc_bin_costs[2][64];

FL_INLINE uint32_t fl_nnc_bin_cost(const fl_context *c, uint32_t bin) {
    return fl_nnc_bin_costs[bin][fl_context_state(c) >> 7];
}

FL_INLINE void fl_context_update(fl_context *c, uint32_t bin) {
    const fl_dynamics *d = c->dynamics;
    /* The definition mirrors the state for a bin of 0, then shifts: that rounds the other way. */
    uint32_t slow = c->slow, at = (slow + (127 & (bin - 1))) >> 7;
    memcpy(&c->fast, (const uint8_t *)d->next_fast[bin] + c->fast, 2);
    c->slow = (uint16_t)(slow + (uint32_t)d->slow_step[bin][at]);
}

/* Memory of a tensor: contexts, then a byte per row. */
typedef struct {
    fl_context *contexts;
    uint8_t *skip; /* [rows] */
    uint8_t *rows_skipped, *history_used; /* flags */
} fl_nnc_state;

int fl_nnc_check(const fl_nnc_coding *coding);
fl_nnc_state fl_nnc_state_in(const fl_nnc_coding *coding, void *memory);
/* All contexts as their sets begin. */
void fl_nnc_restart(const fl_nnc_coding *coding, fl_context *contexts);

/* The contexts whose parameter-ids are coded, in order; calls `visit` for each. */
typedef int (*fl_nnc_visit)(void *with, unsigned context);
int fl_nnc_each_coded(const fl_nnc_coding *coding, int history, fl_nnc_visit visit, void *with);

/* Entries of the codebook, as far as it shortens the binarisation: profile 0 has it as a table only. */
static inline uint32_t fl_nnc_codebook(const fl_nnc_coding *c) { return c->profile_idc == 1 ? c->codebook_size : 0; }

/* Flags and skipped rows are there at all. */
static inline int fl_nnc_has_flags(const fl_nnc_coding *c) {
    return c->profile_idc == 1 && c->columns > 1 && c->rows > 1 && fl_nnc_codebook(c) != 1;
}

/* Side of a block; 0: no block scan. */
static inline uint32_t fl_nnc_block(const fl_nnc_coding *c) {
    return c->scan_order && c->rows > 1 && c->columns > 1 ? 4u << c->scan_order : 0;
}

/* What a tensor is made of, in scan order. Each call returns 0, or what fl_nnc_walk is to stop with. */
typedef struct {
    /* A block row begins: without block scan, there is one. */
    int (*start)(void *with, uint32_t block_row);
    /* A skipped row, or its part in a block. */
    int (*zeros)(void *with, uint64_t place, uint32_t count);
    /* Weights side by side. */
    int (*weights)(void *with, uint64_t place, uint64_t count);
} fl_nnc_visitor;

/* Block rows first .. first + count - 1. skip: [rows], or NULL. */
int fl_nnc_walk(const fl_nnc_coding *coding, const uint8_t *skip, uint32_t first, uint32_t count,
                const fl_nnc_visitor *visitor, void *with);

/* Next states of dependent quantization, by parity: [2 * state + parity]. */
extern FL_HIDDEN const uint8_t fl_nnc_transitions[16];

/* `columns` transitions of parity 0: their cycles have 1, 2 or 4 states. */
static inline uint32_t fl_nnc_skip_state(uint32_t state, uint32_t columns) {
    for (uint32_t k = columns & 3; k; k--) state = fl_nnc_transitions[2 * state];
    return state;
}

#endif
