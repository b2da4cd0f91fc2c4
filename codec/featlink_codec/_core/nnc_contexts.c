/* Tables of the probability estimator, and which contexts a tensor has. */
#include "nnc_contexts.h"

fl_split fl_nnc_splits[64];

const uint8_t fl_nnc_transitions[16] = {0, 2, 7, 5, 1, 3, 6, 4, 2, 0, 5, 7, 3, 1, 4, 6};

/* Widths of the less probable bin: [(range >> 5) & 7][|S >> 7|]. */
static const uint8_t widths[8][32] = {
    {128, 112, 97, 84, 74, 65, 57, 50, 45, 39, 34, 30, 27, 23, 20, 18,
     15, 14, 12, 11, 10, 9, 7, 7, 5, 5, 4, 4, 3, 3, 2, 2},
    {142, 125, 108, 93, 82, 72, 63, 56, 50, 43, 38, 33, 30, 26, 22, 20,
     17, 16, 13, 12, 11, 10, 8, 8, 6, 6, 5, 5, 3, 3, 2, 2},
    {156, 137, 119, 103, 90, 79, 70, 61, 55, 48, 42, 37, 33, 28, 24, 22,
     19, 17, 15, 13, 12, 11, 9, 9, 6, 6, 5, 5, 4, 4, 2, 2},
    {171, 150, 130, 112, 99, 87, 76, 67, 60, 52, 46, 40, 36, 31, 27, 24,
     21, 19, 16, 15, 13, 12, 10, 10, 7, 7, 6, 6, 4, 4, 3, 3},
    {185, 162, 141, 121, 107, 94, 82, 73, 65, 56, 50, 43, 39, 34, 29, 26,
     22, 21, 17, 16, 14, 13, 11, 11, 8, 8, 6, 6, 4, 4, 3, 3},
    {199, 175, 152, 131, 115, 101, 89, 78, 70, 61, 54, 47, 42, 36, 31, 28,
     24, 22, 19, 17, 15, 14, 12, 12, 8, 8, 7, 7, 5, 5, 3, 3},
    {213, 187, 163, 140, 123, 108, 95, 84, 75, 65, 58, 50, 45, 39, 33, 30,
     26, 24, 20, 18, 16, 15, 13, 13, 9, 9, 7, 7, 5, 5, 3, 3},
    {228, 200, 174, 150, 132, 116, 102, 90, 80, 70, 62, 54, 48, 42, 36, 32,
     28, 26, 22, 20, 18, 16, 14, 14, 10, 10, 8, 8, 6, 6, 4, 4},
};

/* The mean over all ranges, by the widths above. */
const uint16_t fl_nnc_bin_costs[2][64] = {
    {11,   11,   11,   16,   16,   23,   23,   29,   29,   41,   41,   49,   54,   60,   66,   79,
     85,   100,  111,  131,  153,  171,  198,  226,  264,  298,  344,  398,  463,  539,  647,  776,
     1130, 1323, 1532, 1751, 1940, 2131, 2324, 2510, 2674, 2884, 3068, 3271, 3428, 3649, 3875, 4027,
     4256, 4372, 4624, 4761, 4922, 5051, 5331, 5331, 5848, 5848, 6148, 6148, 6667, 6667, 7315, 7315},
    {7315, 7315, 7315, 6667, 6667, 6148, 6148, 5848, 5848, 5331, 5331, 5051, 4922, 4761, 4624, 4372,
     4256, 4027, 3875, 3649, 3428, 3271, 3068, 2884, 2674, 2510, 2324, 2131, 1940, 1751, 1532, 1323,
     926,  776,  647,  539,  463,  398,  344,  298,  264,  226,  198,  171,  153,  131,  111,  100,
     85,   79,   66,   60,   54,   49,   41,   41,   29,   29,   23,   23,   16,   16,   11,   11},
};

/* How far a state moves, by how sure it is already: [16 + (state >> 3)], [16 + (state >> 7)]. */
static const int16_t curve[32] = {2512, 2288, 2064, 1840, 1616, 1392, 1168, 944, 720, 560, 464, 368, 272, 208, 144, 80,
                                  64,   64,   64,   64,   64,   64,   64,   64,  64,  64,  64,  64,  64,  64,  64,  0};

/* Parameter-ids: window sizes sh0, sh1, and the states S, S0 to begin with. */
static const struct {
    uint8_t dynamics;
    int16_t state;
    int8_t fast;
} sets[FL_SETS] = {{0, 0, 0},    {0, -1310, -41}, {0, 3039, 95}, {1, 0, 0},   {2, 962, 30},
                   {2, 3039, 95}, {2, -673, -21},  {3, 0, 0},     {3, 962, 30}};
static const uint8_t shifts[4][2] = {{1, 4}, {0, 5}, {2, 6}, {3, 5}};
static fl_dynamics dynamics[4];

__attribute__((constructor)) static void fill(void) {
    for (int row = 0; row < 64; row++)
        for (int r = 0; r < 256; r++) {
            /* No state comes below -31. */
            int sure = row < 32 ? 32 - row - !row : row - 32, width = widths[r >> 5][sure], rest = 256 + r - width;
            fl_nnc_splits[row].width[r] = (uint8_t)width;
            fl_nnc_splits[row].after[r] = (uint8_t)(rest < 256 ? 2 * rest : rest);
        }
    for (int k = 0; k < 4; k++)
        for (int bin = 0; bin < 2; bin++) {
            int sign = bin ? 1 : -1;
            for (int s = -128; s < 128; s++) {
                int mirrored = sign * s < 127 ? sign * s : 127;
                int next = s + sign * (curve[16 + (mirrored >> 3)] >> (shifts[k][0] + 4));
                dynamics[k].next_fast[bin][s + 128] = (uint16_t)(2 * (next + 128));
            }
            /* The index is that of the state for a bin of 1, of its negative's, negated, for 0. */
            for (int at = 0; at < 33; at++) {
                int mirrored = sign * (at - 16);
                int step = mirrored < -16 || mirrored > 15 ? 0 : curve[16 + mirrored] >> shifts[k][1];
                dynamics[k].slow_step[bin][at] = (int16_t)(sign * step);
            }
        }
}

void fl_context_set(fl_context *context, unsigned set) {
    context->fast = (uint16_t)(2 * (sets[set].fast + 128));
    context->slow = (uint16_t)(sets[set].state - 16 * sets[set].fast + 2048);
    context->set = set;
    context->dynamics = &dynamics[sets[set].dynamics];
}

int fl_nnc_check(const fl_nnc_coding *c) {
    if (!c->rows || !c->columns || (uint64_t)c->rows * c->columns >> 40) return FL_NNC_BAD_CODING;
    if (c->unary_length < 1 || c->unary_length > 256 || c->scan_order > 4 || c->profile_idc > 1)
        return FL_NNC_BAD_CODING;
    if (c->codebook_size > 0x7fffffff || (c->codebook_size && c->zero_offset >= c->codebook_size))
        return FL_NNC_BAD_CODING;
    return 0;
}

size_t fl_nnc_memory(const fl_nnc_coding *coding) {
    if (fl_nnc_check(coding)) return 0;
    return FL_CONTEXTS(coding->unary_length) * sizeof(fl_context) + 2 + (size_t)coding->rows;
}

fl_nnc_state fl_nnc_state_in(const fl_nnc_coding *coding, void *memory) {
    fl_context *contexts = memory;
    uint8_t *flags = (uint8_t *)(contexts + FL_CONTEXTS(coding->unary_length));
    return (fl_nnc_state){contexts, flags + 2, flags, flags + 1};
}

void fl_nnc_restart(const fl_nnc_coding *coding, fl_context *contexts) {
    for (unsigned k = 0; k < FL_CONTEXTS(coding->unary_length); k++) fl_context_set(&contexts[k], contexts[k].set);
}

uint32_t fl_nnc_block_rows(const fl_nnc_coding *coding) {
    uint32_t side = fl_nnc_block(coding);
    return side ? (uint32_t)(((uint64_t)coding->rows + side - 1) / side) : 1;
}

int fl_nnc_each_coded(const fl_nnc_coding *c, int history, fl_nnc_visit visit, void *with) {
    const uint32_t n = c->unary_length, size = fl_nnc_codebook(c), zero = c->zero_offset;
    const uint64_t most = size ? (zero > size - 1 - zero ? zero : size - 1 - zero) : UINT64_MAX / 4;
    const unsigned states = c->dq ? 8 : 1;
    int bad = 0;
    if (size != 1) {
        for (unsigned k = 0; k < 3 * states && !bad; k++) bad = visit(with, FL_SIG + k);
        for (unsigned k = 0; c->temporal && k < 2 * states && !bad; k++) bad = visit(with, FL_SIG_BASE + k);
        for (unsigned k = 0; history && k < states && !bad; k++) bad = visit(with, FL_SIG_HISTORY + k);
        /* Where all entries lie on one side, nobody has to be told which. */
        int one_sided = size && (zero == 0 || zero == size - 1);
        for (unsigned k = 0; k < (c->temporal ? 5u : 3u) && !one_sided && !bad; k++) bad = visit(with, FL_SIGN + k);
    }
    for (unsigned k = 0; k < 2 * n && k < 2 * most && !bad; k++) bad = visit(with, FL_GREATER + k);
    for (unsigned k = 0; c->temporal && k < 2 * n && (int64_t)k < 2 * ((int64_t)most - 1) && !bad; k++)
        bad = visit(with, FL_GREATER + 2 * n + k);
    for (unsigned k = 0; k < FL_PREFIXES && n - 1 + ((UINT64_C(2) << k) - 1) < most && !bad; k++)
        bad = visit(with, FL_PREFIX(n) + k);
    return bad;
}

int fl_nnc_walk(const fl_nnc_coding *coding, const uint8_t *skip, uint32_t first, uint32_t count,
                const fl_nnc_visitor *visitor, void *with) {
    const uint32_t side = fl_nnc_block(coding), columns = coding->columns, width = side ? side : columns;
    int stop = 0;
    for (uint32_t block_row = first; block_row < first + count; block_row++) {
        const uint32_t top = block_row * side, below = coding->rows - top, rows = side && side < below ? side : below;
        stop = visitor->start(with, block_row);
        for (uint64_t left = 0; left < columns && !stop; left += width) {
            const uint32_t across = width < columns - left ? width : (uint32_t)(columns - left);
            for (uint32_t row = top; row < top + rows && !stop; row++) {
                const uint64_t place = (uint64_t)row * columns + left;
                if (skip && skip[row]) {
                    stop = visitor->zeros(with, place, across);
                    continue;
                }
                /* Rows that stand one behind the other are one. */
                uint32_t more = 1;
                while (across == columns && row + more < top + rows && !(skip && skip[row + more])) more++;
                stop = visitor->weights(with, place, (uint64_t)across * more);
                row += more - 1;
            }
        }
        if (stop) return stop;
    }
    return 0;
}
