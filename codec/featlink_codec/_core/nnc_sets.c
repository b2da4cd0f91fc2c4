/* Which parameter-id suits each context: by what the bins cost under each of the nine. */
#include "nnc_binarize.h"

/* What it takes to say that a context has another set than 0. */
#define SET_COST (4 * 1024)
/* Of large tensors, all of the first chunks are priced, then one of so many. */
#define ALL_CHUNKS 4
#define EVERY 8

/* Sets with the same windows forget where they began: after a chunk, one stands for all. */
static const uint8_t stands_for[FL_SETS] = {0, 0, 0, 3, 4, 4, 4, 7, 7};

/* Behind the nine, room for what nobody asks for. */
#define SPARE FL_SETS

typedef struct {
    fl_context as[FL_SETS + 3];
    uint64_t cost[FL_SETS + 3];
    int settled;
} price;

FL_PUT_ALL(count, FL_COUNTING)

size_t fl_nnc_choice_memory(const fl_nnc_coding *coding) {
    return FL_CONTEXTS(coding->unary_length) * (sizeof(price) + sizeof(uint16_t) + FL_NNC_CHUNK) + 8;
}

static void begin(price *p) {
    for (unsigned set = 0; set < FL_SETS + 3; set++) fl_context_set(&p->as[set], set < FL_SETS ? set : 0);
    p->settled = 0;
}

/* Sets that are priced together: none waits for the others. */
#define TOGETHER 4

static void add_costs(price *p, const uint8_t *which, const uint8_t *bins, uint32_t count) {
    fl_context as[TOGETHER];
    uint32_t sums[TOGETHER] = {0};
    for (unsigned j = 0; j < TOGETHER; j++) as[j] = p->as[which[j]];
    for (uint32_t k = 0; k < count; k++) {
        const uint32_t bin = bins[k];
        for (unsigned j = 0; j < TOGETHER; j++) {
            sums[j] += fl_nnc_bin_cost(&as[j], bin);
            fl_context_update(&as[j], bin);
        }
    }
    for (unsigned j = 0; j < TOGETHER; j++) {
        p->as[which[j]] = as[j];
        p->cost[which[j]] += sums[j];
    }
}

static void settle(price *p, const uint8_t *bins, uint32_t count) {
    static const uint8_t all[3][TOGETHER] = {{0, 1, 2, 3}, {4, 5, 6, 7}, {8, SPARE, SPARE + 1, SPARE + 2}};
    static const uint8_t some[TOGETHER] = {0, 3, 4, 7};
    uint64_t before[FL_SETS];
    memcpy(before, p->cost, sizeof before);
    if (!p->settled) {
        for (unsigned k = 0; k < 3; k++) add_costs(p, all[k], bins, count);
        p->settled = count >= FL_NNC_CHUNK / 4;
        return;
    }
    add_costs(p, some, bins, count);
    for (unsigned set = 0; set < FL_SETS; set++)
        if (stands_for[set] != set) p->cost[set] += p->cost[stands_for[set]] - before[stands_for[set]];
}

static void flush(fl_nnc_putting *g) {
    price *prices = g->prices;
    for (unsigned k = 0; k < FL_CONTEXTS(g->run.n); k++) {
        if (g->run.bins.count[k]) settle(&prices[k], g->run.bins.of[k], g->run.bins.count[k]);
        g->run.bins.count[k] = 0;
    }
}

static int count_start(void *with, uint32_t block_row) {
    fl_nnc_putting *g = with;
    price *prices = g->prices;
    if (block_row) flush(g);
    for (unsigned k = 0; block_row && k < FL_CONTEXTS(g->run.n); k++) begin(&prices[k]);
    g->w->side = 0;
    return 0;
}

static int count_zeros(void *with, uint64_t place, uint32_t count) {
    fl_nnc_putting *g = with;
    (void)place, (void)count;
    if (g->coding->dq) g->w->state = fl_nnc_skip_state(g->w->state, g->coding->columns);
    return 0;
}

/* The state of dependent quantization behind weights that are not priced. */
static uint32_t pass(uint32_t state, const int32_t *indices, size_t count) {
    /* Four transitions at once. */
    uint8_t four[8][16];
    for (uint32_t from = 0; from < 8; from++)
        for (uint32_t parities = 0; parities < 16; parities++) {
            uint32_t to = from;
            for (unsigned k = 0; k < 4; k++) to = fl_nnc_transitions[2 * to + (parities >> k & 1)];
            four[from][parities] = (uint8_t)to;
        }
    size_t k = 0;
    for (; k + 4 <= count; k += 4) {
        const uint32_t odd[4] = {indices[k] & 1, indices[k + 1] & 1, indices[k + 2] & 1, indices[k + 3] & 1};
        state = four[state][odd[0] | odd[1] << 1 | odd[2] << 2 | odd[3] << 3];
    }
    for (; k < count; k++) state = fl_nnc_transitions[2 * state + ((uint32_t)indices[k] & 1)];
    return state;
}

static int count_weights(void *with, uint64_t place, uint64_t count) {
    fl_nnc_putting *g = with;
    while (count) {
        /* w->done: weights of this chunk; passed: chunks */
        size_t room = FL_NNC_CHUNK - (size_t)g->w->done, now = count < room ? (size_t)count : room;
        const int32_t *indices = g->indices + place;
        if (g->passed < ALL_CHUNKS || g->passed % EVERY == 0) {
            if (g->some(g->w, &g->run, indices, g->base ? g->base + place : 0, g->history ? g->history + place : 0,
                        now) < now)
                return FL_NNC_BAD_LEVEL;
        } else {
            if (g->coding->dq) g->w->state = pass(g->w->state, indices, now);
            const int32_t last = indices[now - 1];
            g->w->side = last ? 1 + (last > 0) : 0;
        }
        place += now, count -= now;
        g->w->done += now;
        if (g->w->done == FL_NNC_CHUNK) {
            g->w->done = 0;
            g->passed++;
            flush(g);
        }
    }
    return 0;
}

typedef struct {
    const price *prices;
    fl_context *contexts;
} choice;

static int choose(void *with, unsigned context) {
    choice *c = with;
    const price *p = &c->prices[context];
    unsigned best = 0;
    for (unsigned set = 1; set < FL_SETS; set++)
        if (p->cost[set] + SET_COST < p->cost[best] + (best ? SET_COST : 0)) best = set;
    fl_context_set(&c->contexts[context], best);
    return 0;
}

int fl_nnc_choose_sets(const fl_nnc_coding *coding, const fl_nnc_state *held, void *memory, const int32_t *indices,
                       const int32_t *base, const uint8_t *history) {
    static const fl_nnc_visitor visitor = {count_start, count_zeros, count_weights};
    const uint32_t contexts = FL_CONTEXTS(coding->unary_length);
    price *prices = memory;
    fl_nnc_writer w = {.state = 0};
    if (!coding->temporal) base = 0;
    if (!*held->history_used) history = 0;
    fl_nnc_putting g = {.w = &w,
                        .coding = coding,
                        .run = fl_nnc_run_of(coding, held->contexts),
                        .some = count[coding->dq != 0][!base && !history && !fl_nnc_codebook(coding)],
                        .indices = indices,
                        .base = base,
                        .history = history,
                        .prices = prices};
    g.run.bins.count = (uint16_t *)(prices + contexts);
    g.run.bins.of = (uint8_t(*)[FL_NNC_CHUNK])(g.run.bins.count + contexts);
    memset(memory, 0, fl_nnc_choice_memory(coding));
    for (unsigned k = 0; k < contexts; k++) begin(&prices[k]);
    int bad = fl_nnc_walk(coding, *held->rows_skipped ? held->skip : 0, 0, fl_nnc_block_rows(coding), &visitor, &g);
    if (bad) return bad;
    flush(&g);
    choice c = {prices, held->contexts};
    return fl_nnc_each_coded(coding, *held->history_used, choose, &c);
}
