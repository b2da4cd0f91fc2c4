/* Dependent quantization with the least squared error plus lambda times bits: rates follow the contexts. */
#include <float.h>

#include "nnc_quantize.h"

/* Weights between two looks at the contexts. */
#define CHUNK 1024

/* Bits of a decision: 0-7: the edge of parity 1 leads into this state; 8-15: parity 0 from this state means zero;
 * 16, 17: in the even, the odd quantizer, the candidate that has the other parity is the larger one. */
#define ZERO 8
#define LARGER 16

typedef struct {
    float cost[8];
    uint8_t side[8]; /* of the last weight: 0 zero, 1 negative, 2 positive */
} survivors;

/* Levels of quantizer q (even 0, odd 1) are 2 * k - q: the greatest k whose level is not above a. */
static inline int64_t greatest(double a, uint32_t q) { return (int64_t)((a + q) * 0.5); }

/* Errors and rates of the candidates that are not zero: [quantizer][parity]. Returns the bits of the decision. */
static uint32_t find_candidates(const fl_nnc_rates *rates, double a, uint32_t negative, int32_t b, float importance,
                                float costs[2][2]) {
    uint32_t larger = 0;
    for (uint32_t q = 0; q < 2; q++) {
        const int64_t k = greatest(a, q);
        const float over = (float)(a - (double)(2 * k - q));
        const uint32_t parity = (uint32_t)k & 1;
        const float up = (2 - over) * (2 - over) * importance + fl_nnc_rate_of(rates, negative, b, (uint64_t)k + 1);
        costs[q][parity] = k ? over * over * importance + fl_nnc_rate_of(rates, negative, b, (uint64_t)k) : FLT_MAX;
        costs[q][1 - parity] = up;
        larger |= 1u << (LARGER + q);
        if (k > 1) {
            const float rate = fl_nnc_rate_of(rates, negative, b, (uint64_t)k - 1);
            const float down = (2 + over) * (2 + over) * importance + rate;
            if (down < up) {
                costs[q][1 - parity] = down;
                larger &= ~(1u << (LARGER + q));
            }
        }
    }
    return larger;
}

static void run(const fl_nnc_task *task, const fl_nnc_rates *rates, survivors *now, uint64_t first, size_t count,
                uint32_t *decisions) {
    const double scale = 1 / task->step;
    survivors s = *now;
    for (uint64_t place = first; place < first + count; place++) {
        const float weight = task->weights[place], importance = task->importance ? task->importance[place] : 1;
        const double exact = (double)weight * scale, a = exact < 0 ? -exact : exact;
        const uint32_t negative = weight < 0;
        const int32_t b = task->base ? task->base[place] : 0;
        const int seen = task->history && task->history[place];
        float costs[2][2], edge[2][8];
        uint32_t decision = find_candidates(rates, a, negative, b, importance, costs);
        const float error = (float)(a * a) * importance;
        for (uint32_t state = 0; state < 8; state++) {
            const uint32_t q = state & 1, side = s.side[state], sig = fl_nnc_sig(state, side, b, seen);
            const float other = rates->other[sig] + rates->sign[b ? 3 + (b > 0) : side][negative];
            const float nonzero = costs[q][0] + other, zero = error + rates->zero[sig];
            decision |= (uint32_t)(zero < nonzero) << (ZERO + state);
            edge[0][state] = s.cost[state] + (zero < nonzero ? zero : nonzero);
            edge[1][state] = s.cost[state] + costs[q][1] + other;
        }
        survivors next;
        for (uint32_t state = 0; state < 8; state++) {
            const uint32_t even = fl_nnc_sources[0][state], odd = fl_nnc_sources[1][state];
            const uint32_t one = edge[1][odd] < edge[0][even];
            decision |= one << state;
            next.cost[state] = one ? edge[1][odd] : edge[0][even];
            next.side[state] = (uint8_t)(!one && decision >> (ZERO + even) & 1 ? 0 : 2 - negative);
        }
        s = next;
        decisions[place] = decision;
        if (!(place & 15)) {
            float least = s.cost[0];
            for (unsigned k = 1; k < 8; k++) least = s.cost[k] < least ? s.cost[k] : least;
            for (unsigned k = 0; k < 8; k++) s.cost[k] -= least;
        }
    }
    *now = s;
}

/* From a state back over weights side by side: their indices. Returns the state before them. */
static uint32_t trace(const fl_nnc_task *task, uint32_t state, uint64_t first, uint64_t count,
                      const uint32_t *decisions) {
    const double scale = 1 / task->step;
    for (uint64_t place = first + count; place-- > first;) {
        const uint32_t decision = decisions[place], parity = decision >> state & 1;
        const uint32_t source = fl_nnc_sources[parity][state], q = source & 1;
        const double exact = (double)task->weights[place] * scale;
        int64_t k = greatest(exact < 0 ? -exact : exact, q);
        if (!parity && decision >> (ZERO + source) & 1)
            k = 0;
        else if (parity != ((uint32_t)k & 1))
            k += decision >> (LARGER + q) & 1 ? 1 : -1;
        task->indices[place] = (int32_t)(task->weights[place] < 0 ? -k : k);
        state = source;
    }
    return state;
}

static uint32_t best(const survivors *s) {
    uint32_t state = 0;
    for (unsigned k = 1; k < 8; k++)
        if (s->cost[k] < s->cost[state]) state = k;
    return state;
}

static void skip_row(survivors *s, uint32_t columns) {
    for (uint32_t k = columns & 3; k; k--) {
        const survivors before = *s;
        for (unsigned state = 0; state < 8; state++) {
            const uint32_t to = fl_nnc_transitions[2 * state];
            s->cost[to] = before.cost[state];
            s->side[to] = before.side[state];
        }
    }
}

/* One chunk; the contexts learn from its best path, though later weights may turn it. */
static void run_chunk(const fl_nnc_task *task, const fl_nnc_run *contexts, fl_nnc_writer *learnt, survivors *s,
                      uint64_t first, size_t count, uint32_t *decisions) {
    fl_nnc_rates rates;
    fl_nnc_rates_of(&rates, contexts->contexts, contexts->n, task->lambda);
    run(task, &rates, s, first, count, decisions);
    learnt->state = trace(task, best(s), first, count, decisions);
    fl_nnc_adapt(learnt, contexts, 1, task->indices + first, task->base ? task->base + first : 0,
                 task->history ? task->history + first : 0, count);
}

void fl_nnc_trellis_rates(const fl_nnc_task *task, fl_context *contexts, uint32_t *decisions) {
    const uint32_t rows = task->coding->rows, columns = task->coding->columns;
    const uint64_t all = (uint64_t)rows * columns;
    const fl_nnc_run run_of = fl_nnc_run_of(task->coding, contexts);
    fl_nnc_writer learnt = {.state = 0};
    survivors s = {{0, 0x1p60f, 0x1p60f, 0x1p60f, 0x1p60f, 0x1p60f, 0x1p60f, 0x1p60f}, {0}};
    /* The first chunk would be told rates that nothing was learnt for: it comes twice. */
    survivors trial = s;
    run_chunk(task, &run_of, &learnt, &trial, 0, all < CHUNK ? (size_t)all : CHUNK, decisions);
    learnt.side = 0;
    for (uint32_t row = 0; row < rows;) {
        uint64_t place = (uint64_t)row * columns;
        if (task->skip && task->skip[row]) {
            skip_row(&s, columns);
            row++;
            continue;
        }
        uint32_t more = 1;
        while (row + more < rows && !(task->skip && task->skip[row + more])) more++;
        row += more;
        for (uint64_t end = place + (uint64_t)more * columns; place < end;) {
            const size_t now = end - place < CHUNK ? (size_t)(end - place) : CHUNK;
            run_chunk(task, &run_of, &learnt, &s, place, now, decisions);
            place += now;
        }
    }
    uint32_t state = best(&s);
    for (uint32_t row = rows; row--;) {
        const uint64_t first = (uint64_t)row * columns;
        if (task->skip && task->skip[row]) {
            memset(task->indices + first, 0, (size_t)columns * 4);
            for (uint32_t k = columns & 3; k; k--) state = fl_nnc_sources[0][state];
        } else {
            state = trace(task, state, first, columns, decisions);
        }
    }
}
