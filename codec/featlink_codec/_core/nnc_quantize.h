/* Between the quantizers: one trellis' survivors, and what rates they are told. */
#ifndef FEATLINK_NNC_QUANTIZE_H
#define FEATLINK_NNC_QUANTIZE_H

#include "nnc_binarize.h"

/* Into each state of dependent quantization leads one edge of either parity: from these states. */
extern FL_HIDDEN const uint8_t fl_nnc_sources[2][8];

/* What is to be quantized. */
typedef struct {
    const fl_nnc_coding *coding;
    const float *weights, *importance; /* importance may be NULL: of each weight's squared error */
    double step, lambda;               /* lambda: squared steps per bit */
    const int32_t *base;
    const uint8_t *history, *skip; /* skip: rows that become zero, or NULL */
    int32_t *indices;
} fl_nnc_task;

/* Magnitudes whose rate is kept in a table. */
#define FL_RATES 128

/* Lambda times the bits of everything, as the contexts stand. */
typedef struct {
    float zero[48], other[48]; /* by the context of sig */
    float sign[5][2];
    float magnitude[2][FL_RATES]; /* without base: [negative][|index|] */
    float bit;                    /* lambda */
    const fl_context *contexts;
    uint32_t n;
} fl_nnc_rates;

void fl_nnc_rates_of(fl_nnc_rates *rates, const fl_context *contexts, uint32_t n, double lambda);
float fl_nnc_rate_of(const fl_nnc_rates *rates, uint32_t negative, int32_t base, uint64_t magnitude);

/* The context of sig, of a state and the side of the weight before. */
FL_INLINE uint32_t fl_nnc_sig(uint32_t state, uint32_t side, int32_t b, int seen) {
    if (seen) return FL_SIG_HISTORY + state;
    return b ? FL_SIG_BASE + 2 * state + (b > 1 || b < -1) : FL_SIG + 3 * state + side;
}

/* Update contexts by indices; *w as in fl_put_run, w->low grows by the cost in 1/1024 bit. */
void fl_nnc_adapt(fl_nnc_writer *w, const fl_nnc_run *run, int dq, const int32_t *indices, const int32_t *base,
                  const uint8_t *history, size_t count);

int fl_nnc_quantize_uniform(const fl_nnc_task *task, fl_context *contexts);
void fl_nnc_quantize_nearest(const fl_nnc_task *task);
void fl_nnc_trellis(const fl_nnc_task *task, uint8_t *decisions);
void fl_nnc_trellis_rates(const fl_nnc_task *task, fl_context *contexts, uint32_t *decisions);

#endif
