/* Indices to bins, and what becomes of them. */
#ifndef FEATLINK_NNC_BINARIZE_H
#define FEATLINK_NNC_BINARIZE_H

#include "nnc_writer.h"

/* Weights that are looked at in one go. */
#define FL_NNC_CHUNK 2048

/* Bins by their context, in order. */
typedef struct {
    uint16_t *count;                  /* [contexts] */
    uint8_t (*of)[FL_NNC_CHUNK];      /* [contexts] */
} fl_nnc_bins;

/* What a run of weights needs to know. */
typedef struct {
    fl_context *contexts;
    uint32_t n;
    uint64_t most[2]; /* of a positive and of a negative index: INT64_MAX without a codebook */
    int one_sided;
    fl_nnc_bins bins;
} fl_nnc_run;

static inline fl_nnc_run fl_nnc_run_of(const fl_nnc_coding *coding, fl_context *contexts) {
    const uint32_t codebook = fl_nnc_codebook(coding);
    fl_nnc_run run = {contexts, coding->unary_length, {INT64_MAX, INT64_MAX}, 0, {0, 0}};
    if (codebook) {
        run.most[0] = codebook - 1 - coding->zero_offset;
        run.most[1] = coding->zero_offset;
        run.one_sided = !run.most[0] || !run.most[1];
    }
    return run;
}

/* What becomes of a bin: it is written, collected to find the cheapest parameter-ids, or w->low grows by its cost. */
enum { FL_WRITING, FL_COUNTING, FL_COSTING };

FL_INLINE void fl_put(fl_nnc_writer *w, const fl_nnc_run *run, uint32_t context, uint32_t bin, const int use) {
    if (use == FL_COUNTING) {
        run->bins.of[context][run->bins.count[context]++] = (uint8_t)bin;
    } else if (use == FL_COSTING) {
        w->low += fl_nnc_bin_cost(&run->contexts[context], bin);
        fl_context_update(&run->contexts[context], bin);
    } else {
        fl_write_bin(w, &run->contexts[context], bin);
    }
}

/* `count` weights that stand side by side; w has the state of dependent quantization and the side of the weight
 * before. Returns their number, or fewer where a level does not fit in 32 bits. */
FL_INLINE size_t fl_put_run(fl_nnc_writer *writer, const fl_nnc_run *run, const int32_t *indices, const int32_t *base,
                            const uint8_t *history, size_t count, const int dq, const int plain, const int use) {
    fl_nnc_writer w = *writer;
    const uint32_t n = run->n;
    uint32_t state = dq ? w.state : 0, side = w.side;
    size_t k = 0;
    for (; k < count; k++) {
        const int32_t index = indices[k], b = !plain && base ? base[k] : 0;
        uint32_t sig = FL_SIG + 3 * state + side;
        if (!plain && history && history[k])
            sig = FL_SIG_HISTORY + state;
        else if (!plain && b)
            sig = FL_SIG_BASE + 2 * state + (b > 1 || b < -1);
        if (!index) {
            fl_put(&w, run, sig, 0, use);
            side = 0;
            if (dq) state = fl_nnc_transitions[2 * state];
            continue;
        }
        fl_put(&w, run, sig, 1, use);
        const uint32_t negative = (uint32_t)index >> 31;
        const uint32_t sign = !plain && b ? FL_SIGN_BASE + (b > 0) : FL_SIGN + side;
        if (use != FL_WRITING || !plain) {
            if (plain || !run->one_sided) fl_put(&w, run, sign, negative, use);
        } else {
            fl_write_bin_plain(&w, &run->contexts[sign], negative);
        }
        const uint32_t a = negative ? 0 - (uint32_t)index : (uint32_t)index;
        const uint64_t most = plain ? INT64_MAX : run->most[negative];
        const uint32_t greater = FL_GREATER + (!plain && b ? 2 * n : negative);
        const uint32_t magnitude = b < 0 ? 0 - (uint32_t)b : (uint32_t)b;
        uint32_t found = 1, step = 0;
        for (; plain && found <= n && found < a; found++, step += 2) fl_put(&w, run, greater + step, 1, use);
        if (plain && found <= n) fl_put(&w, run, greater + step, 0, use);
        for (; !plain && found <= n && found < most; found++, step += 2) {
            uint32_t more = a > found;
            fl_put(&w, run, greater + step + (b ? magnitude < found - 1 : 0), more, use);
            if (!more) break;
        }
        if (found > n && (plain || found < most)) {
            unsigned prefix = 0;
            uint64_t least = found;
            for (; prefix < FL_PREFIXES && (plain || most >= least + ((uint64_t)1 << prefix)); prefix++) {
                uint32_t more = a >= least + ((uint64_t)1 << prefix);
                fl_put(&w, run, FL_PREFIX(n) + prefix, more, use);
                if (!more) break;
                least += (uint64_t)1 << prefix;
            }
            if (use == FL_WRITING) fl_write_even(&w, (uint32_t)(a - least), prefix);
            if (use == FL_COSTING) w.low += (uint64_t)prefix << 10;
            if (dq && 2 * (uint64_t)a - (state & 1) > (uint64_t)INT32_MAX + negative) break;
        }
        side = 2 - negative;
        if (dq) state = fl_nnc_transitions[2 * state + (a & 1)];
    }
    w.state = state;
    w.side = side;
    *writer = w;
    return k;
}

typedef size_t (*fl_put_some)(fl_nnc_writer *, const fl_nnc_run *, const int32_t *, const int32_t *, const uint8_t *,
                              size_t);

/* The four ways that fl_put_run comes in: name[dq][plain]. */
#define FL_PUT(name, dq, plain, use)                                                                               \
    static size_t name(fl_nnc_writer *w, const fl_nnc_run *run, const int32_t *indices, const int32_t *base,       \
                       const uint8_t *history, size_t count) {                                                     \
        return fl_put_run(w, run, indices, base, history, count, dq, plain, use);                                  \
    }
#define FL_PUT_ALL(name, use)                                             \
    FL_PUT(name##_uniform_any, 0, 0, use)                                 \
    FL_PUT(name##_uniform, 0, 1, use)                                     \
    FL_PUT(name##_dependent_any, 1, 0, use)                               \
    FL_PUT(name##_dependent, 1, 1, use)                                   \
    static const fl_put_some name[2][2] = {{name##_uniform_any, name##_uniform}, \
                                           {name##_dependent_any, name##_dependent}};

/* What goes through a tensor with them. */
typedef struct {
    fl_nnc_writer *w;
    const fl_nnc_coding *coding;
    fl_nnc_run run;
    fl_put_some some;
    const int32_t *indices, *base;
    const uint8_t *history;
    uint64_t passed;
    fl_nnc_entry *entries;
    void *prices;
} fl_nnc_putting;

/* Choose the sets of all contexts (nnc_sets.c). */
int fl_nnc_choose_sets(const fl_nnc_coding *coding, const fl_nnc_state *held, void *memory, const int32_t *indices,
                       const int32_t *base, const uint8_t *history);
size_t fl_nnc_choice_memory(const fl_nnc_coding *coding);

#endif
