/* A tensor's indices to its payload. */
#include "nnc_binarize.h"

/* Weights between two looks at whether there is room: each takes 289 bins of 7 bits at most. */
#define PATIENCE 2048

FL_PUT_ALL(write, FL_WRITING)

void fl_nnc_write(fl_nnc_writer *w, uint8_t *out, size_t capacity) {
    *w = (fl_nnc_writer){.out = out, .capacity = capacity, .range = 510 - 256};
}

void fl_nnc_write_to(fl_nnc_writer *w, uint8_t *out, size_t capacity) {
    w->out = out;
    w->capacity = capacity;
}

void fl_nnc_write_bits(fl_nnc_writer *w, uint32_t value, unsigned count) { fl_write_even(w, value, count); }

size_t fl_nnc_write_memory(const fl_nnc_coding *coding) {
    size_t held = fl_nnc_memory(coding);
    return held ? (held + 7) / 8 * 8 + fl_nnc_choice_memory(coding) : 0;
}

static int all_zero(const int32_t *indices, uint32_t count) {
    for (uint32_t k = 0; k < count; k++)
        if (indices[k]) return 0;
    return 1;
}

int fl_nnc_write_setup(const fl_nnc_coding *coding, void *memory, size_t memory_size, const int32_t *indices,
                       const int32_t *base, const uint8_t *history, int row_skip, int choose_sets) {
    int bad = fl_nnc_check(coding);
    if (bad) return bad;
    if (!memory || memory_size < fl_nnc_write_memory(coding)) return FL_NNC_BAD_MEMORY;
    const fl_nnc_state held = fl_nnc_state_in(coding, memory);
    for (unsigned k = 0; k < FL_CONTEXTS(coding->unary_length); k++) fl_context_set(&held.contexts[k], 0);
    const int flags = fl_nnc_has_flags(coding);
    *held.history_used = flags && coding->parent && history;
    *held.rows_skipped = flags && row_skip;
    for (uint32_t row = 0; *held.rows_skipped && row < coding->rows; row++)
        held.skip[row] = (uint8_t)all_zero(indices + (uint64_t)row * coding->columns, coding->columns);
    if (!choose_sets || fl_nnc_codebook(coding) == 1) return 0;
    uint8_t *rest = (uint8_t *)memory + (fl_nnc_memory(coding) + 7) / 8 * 8;
    return fl_nnc_choose_sets(coding, &held, rest, indices, base, history);
}

typedef struct {
    fl_nnc_writer *w;
    fl_context *contexts, *flag;
} setup;

static int write_set(void *with, unsigned context) {
    setup *s = with;
    unsigned set = s->contexts[context].set;
    fl_write_bin(s->w, s->flag, set > 0);
    if (set) fl_write_even(s->w, set - 1, 3);
    return 0;
}

/* What stands before the weights; skipped rows first, as far as there is room. */
static int write_setup(fl_nnc_writer *w, const fl_nnc_coding *coding, const fl_nnc_state *held) {
    const uint32_t n = coding->unary_length;
    /* A flag takes 7 bits at most, a parameter-id 10. */
    if (w->capacity - w->size < FL_CONTEXTS(n) * 2 + (uint64_t)coding->rows + 64) return FL_NNC_FULL;
    if (fl_nnc_has_flags(coding)) {
        if (coding->parent) fl_write_even(w, *held->history_used, 1);
        fl_write_even(w, *held->rows_skipped, 1);
        for (uint32_t k = 0; *held->rows_skipped && k < coding->rows; k++)
            fl_write_bin(w, &held->contexts[FL_ROW_SKIP(n)], held->skip[k]);
    }
    setup s = {w, held->contexts, &held->contexts[FL_SET_FLAG(n)]};
    fl_nnc_each_coded(coding, *held->history_used, write_set, &s);
    fl_nnc_restart(coding, held->contexts);
    return 0;
}

static int write_start(void *with, uint32_t block_row) {
    fl_nnc_putting *g = with;
    if (block_row < g->w->started) return 0;
    g->w->started = block_row + 1;
    if (fl_nnc_block_rows(g->coding) > 1) g->w->range = 0;
    if (block_row) fl_nnc_restart(g->coding, g->run.contexts);
    g->w->side = 0;
    if (g->entries)
        g->entries[block_row] = (fl_nnc_entry){8 * g->w->size + g->w->pending, g->w->low & 511, g->w->state};
    return 0;
}

static int write_zeros(void *with, uint64_t place, uint32_t count) {
    fl_nnc_putting *g = with;
    (void)place;
    g->passed += count;
    if (g->passed <= g->w->done) return 0;
    g->w->done = g->passed;
    if (g->coding->dq) g->w->state = fl_nnc_skip_state(g->w->state, g->coding->columns);
    return 0;
}

static int write_weights(void *with, uint64_t place, uint64_t count) {
    fl_nnc_putting *g = with;
    uint64_t before = g->w->done > g->passed ? g->w->done - g->passed : 0;
    g->passed += count;
    if (before >= count) return 0;
    for (place += before, count -= before; count;) {
        const size_t now = count < PATIENCE ? (size_t)count : PATIENCE;
        if (g->w->capacity - g->w->size < FL_NNC_ROOM) return FL_NNC_FULL;
        if (g->some(g->w, &g->run, g->indices + place, g->base ? g->base + place : 0,
                    g->history ? g->history + place : 0, now) < now)
            return FL_NNC_BAD_LEVEL;
        place += now, count -= now;
        g->w->done += now;
    }
    return 0;
}

int fl_nnc_write_tensor(fl_nnc_writer *w, const fl_nnc_coding *coding, void *memory, size_t memory_size,
                        const int32_t *indices, const int32_t *base, const uint8_t *history, fl_nnc_entry *entries) {
    static const fl_nnc_visitor visitor = {write_start, write_zeros, write_weights};
    int bad = fl_nnc_check(coding);
    if (bad) return bad;
    if (!memory || memory_size < fl_nnc_memory(coding)) return FL_NNC_BAD_MEMORY;
    const fl_nnc_state held = fl_nnc_state_in(coding, memory);
    if (!coding->temporal) base = 0;
    if (!*held.history_used) history = 0;
    const uint32_t codebook = fl_nnc_codebook(coding);
    if (!w->started) {
        w->done = w->state = w->side = 0;
        bad = write_setup(w, coding, &held);
        if (bad) return bad;
    }
    const int plain = !base && !history && !codebook;
    fl_nnc_putting g = {.w = w,
                        .coding = coding,
                        .run = fl_nnc_run_of(coding, held.contexts),
                        .some = write[coding->dq != 0][plain],
                        .indices = indices,
                        .base = base,
                        .history = history,
                        .entries = entries};
    if (codebook == 1) {
        /* Nothing is coded but where block rows begin. */
        for (uint32_t k = 0; k < fl_nnc_block_rows(coding); k++) write_start(&g, k);
    } else {
        bad = fl_nnc_walk(coding, *held.rows_skipped ? held.skip : 0, 0, fl_nnc_block_rows(coding), &visitor, &g);
    }
    if (bad != FL_NNC_FULL) w->started = 0;
    return bad;
}

void fl_nnc_write_end(fl_nnc_writer *w) {
    w->low += w->range + 256 - 2;
    fl_give(w, 7);
    uint64_t bits = (w->low >> 8) << 1 | 1;
    unsigned count = w->pending + 2, pad = (0 - count) & 7;
    if (bits >> count) {
        uint8_t *at = w->out + w->size;
        while (!++*--at) {}
    }
    bits <<= pad;
    for (count += pad; count; count -= 8) w->out[w->size++] = (uint8_t)(bits >> (count - 8));
}
