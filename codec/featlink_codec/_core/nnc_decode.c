/* The payload of a tensor to its levels. */
#include "nnc_engine.h"

size_t fl_nnc_size(int structure) {
    static const size_t sizes[] = {sizeof(fl_nnc_coding), sizeof(fl_nnc_reader), sizeof(fl_nnc_writer),
                                   sizeof(fl_nnc_entry)};
    return structure >= 0 && structure < 4 ? sizes[structure] : 0;
}

uint64_t fl_nnc_position(const fl_nnc_reader *r) { return 8 * r->next - 9 - (uint64_t)(r->left + 8); }

uint32_t fl_nnc_register(const fl_nnc_reader *r) { return (uint32_t)(r->window >> FL_REGISTER); }

void fl_nnc_read(fl_nnc_reader *r, const uint8_t *data, size_t size) {
    *r = (fl_nnc_reader){.data = data, .size = size, .range = 510 - 256, .left = -9 - 8};
    fl_refill(r); /* 9 of them are the register */
}

int fl_nnc_seek(fl_nnc_reader *r, uint64_t position, uint32_t value) {
    if (value > 255 || position > 8 * r->size) return FL_NNC_BAD_ENTRY;
    uint64_t first = position + 9;
    r->next = first >> 3;
    r->window = r->range = 0;
    r->left = -8;
    fl_refill(r);
    r->window <<= first & 7;
    r->left -= (int32_t)(first & 7);
    /* What was shifted up into the register's place is not part of it. */
    r->window &= ((uint64_t)1 << FL_REGISTER) - 1;
    r->window |= (uint64_t)value << FL_REGISTER;
    return 0;
}

uint32_t fl_nnc_read_bits(fl_nnc_reader *r, unsigned count) { return fl_read_even(r, count); }

static int past_end(fl_nnc_reader *r) {
    /* The stop bit comes 8 bits after the place where the last bin ends. */
    if (fl_nnc_position(r) + 8 < 8 * r->size) return 0;
    r->bit = 8 * r->size;
    return FL_NNC_TRUNCATED;
}

int fl_nnc_read_end(fl_nnc_reader *r, uint64_t *consumed) {
    uint64_t position = fl_nnc_position(r), stop = position + 8;
    r->bit = position;
    if ((stop >> 3) >= r->size) {
        r->bit = 8 * r->size;
        return FL_NNC_TRUNCATED;
    }
    if (r->window < (uint64_t)(r->range + 256 - 2) << FL_REGISTER) return FL_NNC_NO_END;
    if ((uint8_t)(r->data[stop >> 3] << (stop & 7)) != 0x80) return FL_NNC_BAD_PADDING;
    *consumed = (stop >> 3) + 1;
    return 0;
}

/* The register is below the range, and stays so from then on. */
static int beyond_range(fl_nnc_reader *r) {
    if (r->window < (uint64_t)(r->range + 256) << FL_REGISTER) return 0;
    r->bit = fl_nnc_position(r);
    return FL_NNC_REGISTER;
}

typedef struct {
    fl_nnc_reader *r;
    fl_context *contexts, *flag;
} setup;

static int read_set(void *with, unsigned context) {
    setup *s = with;
    unsigned set = fl_read_bin(s->r, s->flag) ? 1 + fl_read_even(s->r, 3) : 0;
    fl_context_set(&s->contexts[context], set);
    return 0;
}

int fl_nnc_read_setup(fl_nnc_reader *r, const fl_nnc_coding *coding, void *memory, size_t memory_size) {
    int bad = fl_nnc_check(coding);
    if (bad) return bad;
    if (!memory || memory_size < fl_nnc_memory(coding)) return FL_NNC_BAD_MEMORY;
    bad = beyond_range(r);
    if (bad) return bad;
    const uint32_t n = coding->unary_length;
    fl_nnc_state state = fl_nnc_state_in(coding, memory);
    for (unsigned k = 0; k < FL_CONTEXTS(n); k++) fl_context_set(&state.contexts[k], 0);
    *state.rows_skipped = *state.history_used = 0;
    if (fl_nnc_has_flags(coding)) {
        if (coding->parent) *state.history_used = (uint8_t)fl_read_even(r, 1);
        *state.rows_skipped = (uint8_t)fl_read_even(r, 1);
        for (uint32_t k = 0; *state.rows_skipped && k < coding->rows; k++) {
            state.skip[k] = (uint8_t)fl_read_bin(r, &state.contexts[FL_ROW_SKIP(n)]);
            if (!(k & 1023) && past_end(r)) return FL_NNC_TRUNCATED;
        }
    }
    setup s = {r, state.contexts, &state.contexts[FL_SET_FLAG(n)]};
    fl_nnc_each_coded(coding, *state.history_used, read_set, &s);
    return past_end(r);
}

/* What a run of weights needs to know, and what it leaves. */
typedef struct {
    fl_context *contexts;
    uint32_t n, state, side; /* side: of the weight before: 0 zero, 1 negative, 2 positive */
    int64_t most[2];         /* of a positive and of a negative index; INT64_MAX without a codebook */
    int one_sided;
} run;

/* The rest of an index behind its N greater-than bins: order 0 Exp-Golomb. Returns it, or one that is too large. */
static __attribute__((noinline)) uint64_t read_rest(fl_nnc_reader *r, fl_context *prefix, uint64_t least,
                                                    uint64_t most) {
    unsigned k = 0;
    while (k < FL_PREFIXES && most >= least + ((uint64_t)1 << k) && fl_read_bin(r, &prefix[k]))
        least += (uint64_t)1 << k++;
    return least + fl_read_even(r, k);
}

/* `count` weights that stand side by side. Returns their number, or fewer where one is too large. */
FL_INLINE size_t read_any(fl_nnc_reader *reader, run *with, const int32_t *base, const uint8_t *history,
                          int32_t *levels, size_t count, const int dq) {
    fl_nnc_reader r = *reader;
    fl_context *const contexts = with->contexts;
    const uint32_t n = with->n;
    uint32_t state = dq ? with->state : 0, side = with->side;
    size_t k = 0;
    for (; k < count; k++) {
        const int32_t b = base ? base[k] : 0;
        uint32_t sig = FL_SIG + 3 * state + side;
        if (history && history[k])
            sig = FL_SIG_HISTORY + state;
        else if (b)
            sig = FL_SIG_BASE + 2 * state + (b > 1 || b < -1);
        if (!fl_read_bin(&r, &contexts[sig])) {
            levels[k] = 0;
            side = 0;
            if (dq) state = fl_nnc_transitions[2 * state];
            continue;
        }
        const uint32_t negative = with->one_sided
                                      ? with->most[1] != 0
                                      : fl_read_bin(&r, &contexts[b ? FL_SIGN_BASE + (b > 0) : FL_SIGN + side]);
        const uint64_t most = (uint64_t)with->most[negative], magnitude = (uint64_t)(b < 0 ? -(int64_t)b : b);
        fl_context *const greater = &contexts[FL_GREATER + (b ? 2 * n : negative)];
        uint64_t a = 1;
        while (a <= n && a < most && fl_read_bin(&r, &greater[2 * (a - 1) + (b && magnitude < a - 1)])) a++;
        /* Where the codebook ended the greater-than bins, it leaves nothing for the rest. */
        if (a > n) a = read_rest(&r, &contexts[FL_PREFIX(n)], a, most);
        const uint64_t level = dq ? 2 * a - (state & 1) : a;
        if (level > (uint64_t)INT32_MAX + negative || a > most) break;
        side = 2 - negative;
        levels[k] = (int32_t)(negative ? 0 - (uint32_t)level : (uint32_t)level);
        if (dq) state = fl_nnc_transitions[2 * state + (a & 1)];
    }
    *reader = r;
    with->state = state;
    with->side = side;
    return k;
}

/* The common case, without base, history and codebook, and with few greater-than bins: what is looked ahead for an
 * index lasts for all of it. */
FL_INLINE size_t read_plain(fl_nnc_reader *reader, run *with, int32_t *levels, size_t count, const int dq) {
    fl_nnc_reader r = *reader;
    fl_context *const contexts = with->contexts;
    const uint32_t n = with->n;
    uint32_t state = dq ? with->state : 0, side = with->side;
    size_t k = 0;
    for (; k < count; k++) {
        fl_look_ahead(&r, FL_MORE);
        if (!fl_read_bin_when(&r, &contexts[FL_SIG + 3 * state + side], FL_LATER)) {
            levels[k] = 0;
            side = 0;
            if (dq) state = fl_nnc_transitions[2 * state];
            continue;
        }
        const uint32_t negative = fl_read_bin_plain(&r, &contexts[FL_SIGN + side]);
        fl_context *greater = &contexts[FL_GREATER + negative];
        const fl_context *const start = greater, *const end = greater + 2 * n;
        while (fl_read_bin_when(&r, greater, FL_AFTER_ONE))
            if ((greater += 2) == end) break;
        uint64_t a = 1 + (uint64_t)(greater - start) / 2;
        if (__builtin_expect(greater == end, 0)) {
            /* A copy, lest the reader be in memory all the time. */
            fl_nnc_reader out_of_line = r;
            a = read_rest(&out_of_line, &contexts[FL_PREFIX(n)], a, INT64_MAX);
            r = out_of_line;
        }
        const uint64_t level = dq ? 2 * a - (state & 1) : a;
        if (__builtin_expect(level > (uint64_t)INT32_MAX + negative, 0)) break;
        side = 2 - negative;
        levels[k] = (int32_t)(((uint32_t)level ^ (0 - negative)) + negative);
        if (dq) state = fl_nnc_transitions[2 * state + (a & 1)];
    }
    fl_look_ahead(&r, 0);
    *reader = r;
    with->state = state;
    with->side = side;
    return k;
}

static size_t read_uniform_any(fl_nnc_reader *r, run *with, const int32_t *base, const uint8_t *history,
                               int32_t *levels, size_t count) {
    return read_any(r, with, base, history, levels, count, 0);
}

static size_t read_dependent_any(fl_nnc_reader *r, run *with, const int32_t *base, const uint8_t *history,
                                 int32_t *levels, size_t count) {
    return read_any(r, with, base, history, levels, count, 1);
}

static size_t read_uniform(fl_nnc_reader *r, run *with, const int32_t *base, const uint8_t *history, int32_t *levels,
                           size_t count) {
    (void)base, (void)history;
    return read_plain(r, with, levels, count, 0);
}

static size_t read_dependent(fl_nnc_reader *r, run *with, const int32_t *base, const uint8_t *history, int32_t *levels,
                             size_t count) {
    (void)base, (void)history;
    return read_plain(r, with, levels, count, 1);
}

/* Weights between two looks at whether the payload has ended. */
#define PATIENCE 65536

typedef size_t (*read_some)(fl_nnc_reader *, run *, const int32_t *, const uint8_t *, int32_t *, size_t);

typedef struct {
    fl_nnc_reader *r;
    const fl_nnc_coding *coding;
    run run;
    read_some some;
    uint32_t block_rows;
    const int32_t *base;
    const uint8_t *history;
    int32_t *levels;
} reading;

static int read_start(void *with, uint32_t block_row) {
    reading *g = with;
    if (block_row) {
        fl_nnc_restart(g->coding, g->run.contexts);
        g->run.side = 0;
    }
    if (g->block_rows == 1) return 0;
    g->r->range = 0;
    return beyond_range(g->r);
}

static int read_zeros(void *with, uint64_t place, uint32_t count) {
    reading *g = with;
    memset(g->levels + place, 0, (size_t)count * 4);
    if (g->coding->dq) g->run.state = fl_nnc_skip_state(g->run.state, g->coding->columns);
    return 0;
}

static int read_weights(void *with, uint64_t place, uint64_t count) {
    reading *g = with;
    if (fl_nnc_codebook(g->coding) == 1) {
        memset(g->levels + place, 0, (size_t)count * 4);
        return 0;
    }
    while (count) {
        const size_t now = count < PATIENCE ? (size_t)count : PATIENCE;
        size_t done = g->some(g->r, &g->run, g->base ? g->base + place : 0, g->history ? g->history + place : 0,
                              g->levels + place, now);
        if (past_end(g->r)) return FL_NNC_TRUNCATED;
        if (done < now) {
            g->r->bit = fl_nnc_position(g->r);
            return g->run.most[0] == INT64_MAX ? FL_NNC_BAD_LEVEL : FL_NNC_BAD_INDEX;
        }
        place += now, count -= now;
    }
    return 0;
}

int fl_nnc_read_rows(fl_nnc_reader *r, const fl_nnc_coding *coding, void *memory, size_t memory_size, uint32_t first,
                     uint32_t count, uint32_t *state, const int32_t *base, const uint8_t *history, int32_t *levels) {
    static const fl_nnc_visitor visitor = {read_start, read_zeros, read_weights};
    int bad = fl_nnc_check(coding);
    if (bad) return bad;
    const uint32_t block_rows = fl_nnc_block_rows(coding), codebook = fl_nnc_codebook(coding);
    if (first > block_rows || count > block_rows - first || *state > 7) return FL_NNC_BAD_CODING;
    if (!memory || memory_size < fl_nnc_memory(coding)) return FL_NNC_BAD_MEMORY;
    const fl_nnc_state held = fl_nnc_state_in(coding, memory);
    if (!coding->temporal) base = 0;
    if (!*held.history_used) history = 0;
    const int plain = !base && !history && !codebook && coding->unary_length <= FL_SHORT;
    reading g = {
        .r = r, .coding = coding, .block_rows = block_rows, .base = base, .history = history, .levels = levels,
        .run = {held.contexts, coding->unary_length, coding->dq ? *state : 0, 0, {INT64_MAX, INT64_MAX}, 0},
        .some = coding->dq ? (plain ? read_dependent : read_dependent_any) : (plain ? read_uniform : read_uniform_any),
    };
    if (codebook) {
        g.run.most[0] = (int64_t)codebook - 1 - coding->zero_offset;
        g.run.most[1] = coding->zero_offset;
        g.run.one_sided = !g.run.most[0] || !g.run.most[1];
    }
    bad = fl_nnc_walk(coding, *held.rows_skipped ? held.skip : 0, first, count, &visitor, &g);
    *state = g.run.state;
    return bad;
}
