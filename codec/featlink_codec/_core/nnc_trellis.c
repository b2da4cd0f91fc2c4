/* Dependent quantization with the least squared error: a Viterbi search over its 8 states, rates left out. */
#include "nnc_quantize.h"

#if defined(__SSE2__)
#include <emmintrin.h>
typedef __m128 floats;
#define ADD _mm_add_ps
#define LEAST _mm_min_ps
#define SUBTRACT _mm_sub_ps
#define ALL(x) _mm_set1_ps(x)
#define LOAD _mm_loadu_ps
/* Bit k: whether lane k of b is less than that of a. */
static inline uint32_t less(floats b, floats a) { return (uint32_t)_mm_movemask_ps(_mm_cmplt_ps(b, a)); }
#define LOW_PAIRS(x, y) _mm_unpacklo_ps(x, y)
#define HIGH_PAIRS(x, y) _mm_unpackhi_ps(x, y)
#define TWICE_LOW(x) _mm_unpacklo_ps(x, x)
#define HALVES_SWAPPED(x) _mm_shuffle_ps(x, x, _MM_SHUFFLE(1, 0, 3, 2))
/* Lanes 0, 0, 2, 2 and 1, 1, 3, 3. */
#define EVEN_TWICE(x) _mm_shuffle_ps(x, x, _MM_SHUFFLE(2, 2, 0, 0))
#define ODD_TWICE(x) _mm_shuffle_ps(x, x, _MM_SHUFFLE(3, 3, 1, 1))
#elif defined(__ARM_NEON)
#include <arm_neon.h>
typedef float32x4_t floats;
#define ADD vaddq_f32
#define LEAST vminq_f32
#define SUBTRACT vsubq_f32
#define ALL vdupq_n_f32
#define LOAD vld1q_f32
static inline uint32_t less(floats b, floats a) {
    const uint32x4_t bits = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcltq_f32(b, a), bits));
}
#define LOW_PAIRS(x, y) vzip1q_f32(x, y)
#define HIGH_PAIRS(x, y) vzip2q_f32(x, y)
#define HALVES_SWAPPED(x) vextq_f32(x, x, 2)
#define EVEN_TWICE(x) vtrn1q_f32(x, x)
#define ODD_TWICE(x) vtrn2q_f32(x, x)
#else
#error "no vectors of four floats known here"
#endif

const uint8_t fl_nnc_sources[2][8] = {{0, 2, 4, 6, 7, 5, 3, 1}, {4, 6, 0, 2, 3, 1, 7, 5}};

#define CHUNK 256
/* Adding and subtracting 3 * 2^51 rounds a double to an integer, to nearest. */
#define ROUND 0x1.8p52

/* A weight's magnitude is 4 * m + s steps, s within -2..2. */
static inline double round_quarter(float weight, double scale, double *s) {
    double a = (double)weight * scale;
    a = a < 0 ? -a : a;
    double m = (a * 0.25 + ROUND) - ROUND;
    *s = a - 4 * m;
    return m;
}

static inline float square(float x) { return x * x; }

/* Squared errors of the nearest level of each kind: of the even quantizer by parity, then of the odd one. */
static void find_errors(const float *weights, const float *importance, double scale, size_t count, float (*errors)[4]) {
    for (size_t k = 0; k < count; k++) {
        double exact;
        const double m = round_quarter(weights[k], scale, &exact);
        const float s = (float)exact, size = s < 0 ? -s : s;
        const float below = m > 0 ? 1 : 0, turn = m > 0 ? 1 : 1.5f;
        errors[k][0] = square(s);
        errors[k][1] = square(2 - size);
        errors[k][2] = square(s > turn ? s - 3 : s + below);
        errors[k][3] = square(s < -1 ? s + 3 : s - 1);
    }
    for (size_t k = 0; importance && k < count; k++)
        for (unsigned kind = 0; kind < 4; kind++) errors[k][kind] *= importance[k];
}

/* The odd quantizer's candidates are chosen as find_errors has it; choices: bit 0 its use, bit 1 the parity. */
static void find_indices(const float *weights, double scale, const uint8_t *choices, size_t count, int32_t *indices) {
    for (size_t k = 0; k < count; k++) {
        double exact;
        const double rounded = round_quarter(weights[k], scale, &exact);
        const int32_t m = (int32_t)rounded, choice = choices[k];
        const float s = (float)exact, turn = m ? 1 : 1.5f;
        const int32_t even = exact < 0 ? -1 : 1, odd_even = s > turn ? 2 : 0, odd_odd = s < -1 ? -1 : 1;
        /* Masks rather than branches: nobody foresees these. */
        const int32_t quantizer = -(choice & 1), parity = -(choice >> 1);
        const int32_t more = (parity & ((quantizer & odd_odd) | (~quantizer & even))) | (~parity & quantizer & odd_even);
        const int32_t index = 2 * m + more, negative = -(int32_t)(weights[k] < 0);
        indices[k] = (index ^ negative) - negative;
    }
}

/* Costs of the states 0, 2, 1, 3 and 4, 6, 5, 7: these lead to 0, 1, 7, 6 and 2, 3, 5, 4 with either parity. */
typedef struct {
    floats low, high;
} costs;

/* Weights whose errors are found while the search waits for its sums: these go one after the other. */
#define BESIDE 16

static void run(costs *c, const fl_nnc_task *task, double scale, uint64_t place, size_t count, uint8_t *decisions) {
    floats low = c->low, high = c->high;
    for (size_t first = 0; first < count; first += BESIDE) {
        float errors[BESIDE][4];
        const size_t now = count - first < BESIDE ? count - first : BESIDE;
        const float *importance = task->importance ? task->importance + place + first : 0;
        find_errors(task->weights + place + first, importance, scale, now, errors);
        for (size_t k = 0; k < now; k++) {
            const floats error = LOAD(errors[k]), even = EVEN_TWICE(error), odd = ODD_TWICE(error);
            const floats x = ADD(low, even), x_other = ADD(high, odd), y = ADD(low, odd), y_other = ADD(high, even);
            decisions[first + k] = (uint8_t)(less(x_other, x) | less(y_other, y) << 4);
            const floats to_x = LEAST(x, x_other), to_y = LEAST(y, y_other);
            low = LOW_PAIRS(to_x, to_y);
            high = HALVES_SWAPPED(HIGH_PAIRS(to_y, to_x));
        }
    }
    /* Only differences count, and small numbers are exact. */
    const floats least = LEAST(low, high), pairs = LEAST(least, HALVES_SWAPPED(least));
    const floats all = LEAST(EVEN_TWICE(pairs), ODD_TWICE(pairs));
    c->low = SUBTRACT(low, all);
    c->high = SUBTRACT(high, all);
}

/* Where a state's cost stands among eight, and its decision's bit. */
static const uint8_t lanes[8] = {0, 2, 1, 3, 4, 6, 5, 7};
static const uint8_t bits[8] = {0, 1, 4, 5, 7, 6, 3, 2};

/* By state and decision: the state before, and how (as choices). States 2 to 5 have the edge of parity 1 first. */
static const uint8_t came_from[16] = {0, 4, 2, 6, 0, 4, 2, 6, 3, 7, 1, 5, 3, 7, 1, 5};
static const uint8_t how[16] = {0, 2, 0, 2, 2, 0, 2, 0, 3, 1, 3, 1, 1, 3, 1, 3};

/* From a state back over weights. Returns the state before them. */
static uint32_t trace(uint32_t state, const uint8_t *decisions, size_t count, uint8_t *choices) {
    for (size_t k = count; k--;) {
        const uint32_t edge = 2 * state + (decisions[k] >> bits[state] & 1);
        choices[k] = how[edge];
        state = came_from[edge];
    }
    return state;
}

static void skip_row(costs *c, uint32_t columns) {
    for (uint32_t k = columns & 3; k; k--) {
        float before[8], after[8];
        memcpy(before, &c->low, 16), memcpy(before + 4, &c->high, 16);
        for (unsigned state = 0; state < 8; state++) after[lanes[fl_nnc_transitions[2 * state]]] = before[lanes[state]];
        memcpy(&c->low, after, 16), memcpy(&c->high, after + 4, 16);
    }
}

void fl_nnc_trellis(const fl_nnc_task *task, uint8_t *decisions) {
    const uint32_t rows = task->coding->rows, columns = task->coding->columns;
    const uint8_t *skip = task->skip;
    const double scale = 1 / task->step;
    uint8_t choices[BESIDE];
    const float begin[4] = {0, 0x1p60f, 0x1p60f, 0x1p60f};
    costs c = {LOAD(begin), ALL(0x1p60f)};
    uint64_t place = 0;
    for (uint32_t row = 0; row < rows;) {
        if (skip && skip[row]) {
            skip_row(&c, columns);
            place += columns, row++;
            continue;
        }
        uint32_t more = 1;
        while (row + more < rows && !(skip && skip[row + more])) more++;
        row += more;
        for (uint64_t end = place + (uint64_t)more * columns; place < end;) {
            const size_t now = end - place < CHUNK ? (size_t)(end - place) : CHUNK;
            run(&c, task, scale, place, now, decisions + place);
            place += now;
        }
    }
    float last[8];
    memcpy(last, &c.low, 16), memcpy(last + 4, &c.high, 16);
    uint32_t state = 0;
    for (unsigned k = 1; k < 8; k++)
        if (last[lanes[k]] < last[lanes[state]]) state = k;
    for (uint32_t row = rows; row--;) {
        const uint64_t first = (uint64_t)row * columns;
        if (skip && skip[row]) {
            memset(task->indices + first, 0, (size_t)columns * 4);
            /* Back by as many transitions of parity 0. */
            for (uint32_t k = columns & 3; k; k--) state = fl_nnc_sources[0][state];
            continue;
        }
        for (uint64_t end = first + columns; end > first;) {
            const size_t now = end - first < BESIDE ? (size_t)(end - first) : BESIDE;
            end -= now;
            state = trace(state, decisions + end, now, choices);
            find_indices(task->weights + end, scale, choices, now, task->indices + end);
        }
    }
}
