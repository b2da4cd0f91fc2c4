/* What indices cost: exactly enough to choose between them, without writing them. */
#include "nnc_quantize.h"

FL_PUT_ALL(cost, FL_COSTING)

void fl_nnc_adapt(fl_nnc_writer *w, const fl_nnc_run *run, int dq, const int32_t *indices, const int32_t *base,
                  const uint8_t *history, size_t count) {
    cost[dq != 0][!base && !history && run->most[0] == INT64_MAX](w, run, indices, base, history, count);
}

void fl_nnc_rates_of(fl_nnc_rates *rates, const fl_context *contexts, uint32_t n, double lambda) {
    const float scale = (float)(lambda / 1024);
    rates->bit = (float)lambda;
    rates->contexts = contexts;
    rates->n = n;
    for (unsigned k = 0; k < 48; k++) {
        rates->zero[k] = scale * (float)fl_nnc_bin_cost(&contexts[FL_SIG + k], 0);
        rates->other[k] = scale * (float)fl_nnc_bin_cost(&contexts[FL_SIG + k], 1);
    }
    for (unsigned k = 0; k < 5; k++)
        for (unsigned negative = 0; negative < 2; negative++)
            rates->sign[k][negative] = scale * (float)fl_nnc_bin_cost(&contexts[FL_SIGN + k], negative);
    for (uint32_t negative = 0; negative < 2; negative++) {
        uint32_t before = 0, a = 1;
        const fl_context *greater = &contexts[FL_GREATER + negative], *prefix = &contexts[FL_PREFIX(n)];
        for (; a <= n && a < FL_RATES; a++, greater += 2) {
            rates->magnitude[negative][a] = scale * (float)(before + fl_nnc_bin_cost(greater, 0));
            before += fl_nnc_bin_cost(greater, 1);
        }
        for (uint32_t group = 0; a < FL_RATES; group++, prefix++) {
            float rate = scale * (float)(before + fl_nnc_bin_cost(prefix, 0) + (group << 10));
            for (uint32_t k = 0; k < 1u << group && a < FL_RATES; k++) rates->magnitude[negative][a++] = rate;
            before += fl_nnc_bin_cost(prefix, 1);
        }
        rates->magnitude[negative][0] = 0;
    }
}

float fl_nnc_rate_of(const fl_nnc_rates *rates, uint32_t negative, int32_t base, uint64_t magnitude) {
    if (!base && magnitude < FL_RATES) return rates->magnitude[negative][magnitude];
    const uint32_t n = rates->n, size = base < 0 ? 0 - (uint32_t)base : (uint32_t)base;
    const fl_context *greater = &rates->contexts[FL_GREATER + (base ? 2 * n : negative)];
    const fl_context *prefix = &rates->contexts[FL_PREFIX(n)];
    uint64_t cost = 0, a = 1;
    for (; a <= n; a++) {
        const uint32_t more = magnitude > a;
        cost += fl_nnc_bin_cost(&greater[2 * (a - 1) + (base && size < a - 1)], more);
        if (!more) return rates->bit / 1024 * (float)cost;
    }
    uint32_t group = 0;
    for (; group < FL_PREFIXES && magnitude >= a + ((uint64_t)1 << group); group++) {
        cost += fl_nnc_bin_cost(&prefix[group], 1);
        a += (uint64_t)1 << group;
    }
    if (group < FL_PREFIXES) cost += fl_nnc_bin_cost(&prefix[group], 0);
    return rates->bit / 1024 * (float)(cost + ((uint64_t)group << 10));
}

/* Bits of each row, as contexts adapt that begin with set 0. */
int fl_nnc_costs(const fl_nnc_coding *coding, void *memory, size_t memory_size, const int32_t *indices,
                 const int32_t *base, const uint8_t *history, double *bits) {
    int bad = fl_nnc_check(coding);
    if (bad) return bad;
    if (!memory || memory_size < fl_nnc_memory(coding)) return FL_NNC_BAD_MEMORY;
    const fl_nnc_state held = fl_nnc_state_in(coding, memory);
    for (unsigned k = 0; k < FL_CONTEXTS(coding->unary_length); k++) fl_context_set(&held.contexts[k], 0);
    const fl_nnc_run run = fl_nnc_run_of(coding, held.contexts);
    fl_nnc_writer w = {.state = 0};
    if (!coding->temporal) base = 0;
    for (uint32_t row = 0; row < coding->rows; row++) {
        const uint64_t place = (uint64_t)row * coding->columns;
        w.low = 0;
        if (fl_nnc_codebook(coding) != 1)
            fl_nnc_adapt(&w, &run, coding->dq, indices + place, base ? base + place : 0, history ? history + place : 0,
                         coding->columns);
        bits[row] = (double)w.low / 1024;
    }
    return 0;
}
