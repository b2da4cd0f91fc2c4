/* Weights to quantization indices, and levels to weights. */
#include "nnc_quantize.h"

#define ROUND 0x1.8p52
/* Indices and levels must fit in 32 bits, what the trellis tries included. */
#define GREATEST 2147483000.0

/* To the nearest multiple. */
void fl_nnc_quantize_nearest(const fl_nnc_task *task) {
    const uint64_t count = (uint64_t)task->coding->rows * task->coding->columns;
    const double scale = 1 / task->step;
    for (uint64_t k = 0; k < count; k++)
        task->indices[k] = (int32_t)(((double)task->weights[k] * scale + ROUND) - ROUND);
}

/* One after the other: nearest, one less or zero, as error and rate have it. */
int fl_nnc_quantize_uniform(const fl_nnc_task *task, fl_context *contexts) {
    const uint32_t rows = task->coding->rows, columns = task->coding->columns;
    const double scale = 1 / task->step;
    const fl_nnc_run run = fl_nnc_run_of(task->coding, contexts);
    fl_nnc_writer w = {.state = 0};
    fl_nnc_rates rates;
    /* Every so many weights the rates are found anew. */
    uint32_t until = 0, patience = 64;
    for (uint32_t row = 0; row < rows; row++) {
        uint64_t place = (uint64_t)row * columns;
        if (task->skip && task->skip[row]) {
            memset(task->indices + place, 0, (size_t)columns * 4);
            continue;
        }
        for (uint32_t x = 0; x < columns; x++, place++) {
            if (!until--) {
                fl_nnc_rates_of(&rates, contexts, run.n, task->lambda);
                until = patience;
                patience = patience < 1024 ? 2 * patience : patience;
            }
            const double exact = (double)task->weights[place] * scale, a = exact < 0 ? -exact : exact;
            const uint32_t negative = exact < 0;
            const int32_t b = task->base ? task->base[place] : 0;
            const float importance = task->importance ? task->importance[place] : 1;
            const uint32_t sig = fl_nnc_sig(0, w.side, b, task->history && task->history[place]);
            const float other = rates.other[sig] + rates.sign[b ? 3 + (b > 0) : w.side][negative];
            int64_t nearest = (int64_t)(a + 0.5), chosen = 0;
            float least = (float)(a * a) * importance + rates.zero[sig];
            for (int64_t k = nearest; k > 0 && k >= nearest - 1; k--) {
                const float error = (float)(a - (double)k);
                const float rate = other + fl_nnc_rate_of(&rates, negative, b, (uint64_t)k);
                const float cost = error * error * importance + rate;
                if (cost < least) least = cost, chosen = k;
            }
            task->indices[place] = (int32_t)(negative ? -chosen : chosen);
            fl_nnc_adapt(&w, &run, 0, task->indices + place, task->base ? task->base + place : 0,
                         task->history ? task->history + place : 0, 1);
        }
    }
    return 0;
}

size_t fl_nnc_quantize_memory(const fl_nnc_coding *coding, double lambda) {
    const size_t held = fl_nnc_memory(coding), count = (size_t)coding->rows * coding->columns;
    return held ? (held + 7) / 8 * 8 + (coding->dq ? count * (lambda > 0 ? 4 : 1) : 0) : 0;
}

int fl_nnc_quantize(const fl_nnc_coding *coding, void *memory, size_t memory_size, const float *weights, double step,
                    double lambda, const float *importance, const int32_t *base, const uint8_t *history,
                    const uint8_t *skip, int32_t *indices) {
    int bad = fl_nnc_check(coding);
    if (bad) return bad;
    if (!(step > 0) || !(lambda >= 0) || fl_nnc_codebook(coding)) return FL_NNC_BAD_CODING;
    if (!memory || memory_size < fl_nnc_quantize_memory(coding, lambda)) return FL_NNC_BAD_MEMORY;
    const uint64_t count = (uint64_t)coding->rows * coding->columns;
    /* A NaN is not below it, either. */
    const float most = (float)(GREATEST * step);
    int fits = 1;
    for (uint64_t k = 0; k < count; k++) fits &= weights[k] < most && weights[k] > -most;
    if (!fits) return FL_NNC_BAD_LEVEL;
    const fl_nnc_state held = fl_nnc_state_in(coding, memory);
    for (unsigned k = 0; k < FL_CONTEXTS(coding->unary_length); k++) fl_context_set(&held.contexts[k], 0);
    void *rest = (uint8_t *)memory + (fl_nnc_memory(coding) + 7) / 8 * 8;
    const fl_nnc_task task = {coding,  weights, importance, step,    lambda, coding->temporal ? base : 0,
                              history, skip,    indices};
    if (coding->dq && lambda > 0)
        fl_nnc_trellis_rates(&task, held.contexts, rest);
    else if (coding->dq)
        fl_nnc_trellis(&task, rest);
    else if (lambda > 0)
        fl_nnc_quantize_uniform(&task, held.contexts);
    else
        fl_nnc_quantize_nearest(&task);
    return 0;
}

typedef struct {
    const int32_t *indices;
    int32_t *levels;
    uint32_t state;
} reconstruction;

static int levels_start(void *with, uint32_t block_row) {
    (void)with, (void)block_row;
    return 0;
}

static int levels_of(void *with, uint64_t place, uint64_t count) {
    reconstruction *g = with;
    for (uint64_t k = place; k < place + count; k++) {
        const int64_t index = g->indices[k], odd = g->state & 1;
        const int64_t level = 2 * index - (index > 0 ? odd : index < 0 ? -odd : 0);
        if (level > INT32_MAX || level < INT32_MIN) return FL_NNC_BAD_LEVEL;
        g->levels[k] = (int32_t)level;
        g->state = fl_nnc_transitions[2 * g->state + ((uint32_t)index & 1)];
    }
    return 0;
}

int fl_nnc_levels(const fl_nnc_coding *coding, const int32_t *indices, int32_t *levels) {
    static const fl_nnc_visitor visitor = {levels_start, 0, levels_of};
    int bad = fl_nnc_check(coding);
    if (bad) return bad;
    if (!coding->dq) {
        memmove(levels, indices, (size_t)coding->rows * coding->columns * 4);
        return 0;
    }
    reconstruction g = {indices, levels, 0};
    return fl_nnc_walk(coding, 0, 0, fl_nnc_block_rows(coding), &visitor, &g);
}

void fl_nnc_dequantize(const int32_t *levels, float step, uint64_t count, float *values) {
    for (uint64_t k = 0; k < count; k++) values[k] = step * (float)levels[k];
}
