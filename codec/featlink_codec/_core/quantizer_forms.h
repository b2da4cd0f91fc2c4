/* The forms of thresholds: each is looked for and proved, best first. For quantizer.c alone. */
#ifndef FEATLINK_QUANTIZER_FORMS_H
#define FEATLINK_QUANTIZER_FORMS_H

#include "internal.h"

/* Margin of the proof below: products may be rounded, or not, before the sum is. */
#define MARGIN 0x1p-50
/* Entries of the bucket table at most. */
#define MAX_BUCKETS 65536
/* Below the least normal number some threads flush to zero. */
#define LEAST_NORMAL 0x1p-126f

#define HUGE 0x1p1000

/* The representable number below a positive one. */
static float before(float x) { return fl_bits_float(fl_float_bits(x) - 1); }

/* The same for any but 0. */
static float below(float x) { return fl_bits_float(x > 0 ? fl_float_bits(x) - 1 : fl_float_bits(x) + 1); }

/* Find a scale for which round(x * scale) is the level, and prove it: it is monotone in x, so it is right everywhere if
 * it is right at each threshold and just below. Any scale between all t - 0.5 over T[t], and over the number before
 * T[t], will do; the middle keeps farthest from rounding. */
static int find_linear(fl_quantizer *q, const float *thresholds, uint32_t count) {
    if (!(thresholds[0] > LEAST_NORMAL) || !(thresholds[count - 1] <= 0x1p126f)) return 0;
    double low = 0, high = 0x1p1000;
    for (uint32_t t = 1; t <= count; t++) {
        double bound = t - 0.5, at = thresholds[t - 1], under = before(thresholds[t - 1]);
        low = bound / at > low ? bound / at : low;
        high = bound / under < high ? bound / under : high;
    }
    if (!(low < high)) return 0;
    double scale = low + (high - low) / 2;
    for (uint32_t t = 1; t <= count; t++) {
        double bound = t - 0.5, at = thresholds[t - 1], under = before(thresholds[t - 1]);
        if (!(at * scale * (1 - MARGIN) > bound && under * scale * (1 + MARGIN) < bound)) return 0;
    }
    q->scale = scale;
    q->top = thresholds[count - 1];
    return 1;
}

/* How wide the choice of an offset is with this scale, and its middle: x reaches level t where x * scale + offset does. */
static double offsets_of(double scale, const float *thresholds, uint32_t count, double *middle) {
    double least = -HUGE, most = HUGE;
    for (uint32_t t = 1; t <= count; t++) {
        const double at = t - scale * thresholds[t - 1], under = t - scale * below(thresholds[t - 1]);
        least = at > least ? at : least;
        most = under < most ? under : most;
    }
    *middle = least + (most - least) / 2;
    return most - least;
}

/* Whether thresholds are such that a line may be computed: not too large, and not where numbers are flushed to zero. */
static int may_be_line(const float *thresholds, uint32_t count) {
    for (uint32_t t = 0; t < count; t++)
        if (thresholds[t] <= LEAST_NORMAL && thresholds[t] > -LEAST_NORMAL) return 0;
    return thresholds[0] >= -0x1p100 && thresholds[count - 1] <= 0x1p100;
}

/* Prove a scale and an offset as above, and take them: floor(x * scale + offset) is the level. */
static int take_line(fl_quantizer *q, const float *thresholds, uint32_t count, double scale, double middle) {
    const double sum = middle + FL_LINE, offset = sum - FL_LINE;
    if (!may_be_line(thresholds, count)) return 0;
    for (uint32_t t = 1; t <= count; t++) {
        const double at = scale * thresholds[t - 1], under = scale * below(thresholds[t - 1]);
        const double margin = 0x1p-38 + MARGIN * (at < 0 ? -at : at) + MARGIN * (under < 0 ? -under : under);
        if (!(at + offset - margin > t && under + offset + margin < t)) return 0;
        if (t == 1 && !(under + offset - margin > 0)) return 0;
        if (t == count && !(at + offset + margin < count + 1)) return 0;
    }
    q->scale = scale;
    q->offset = sum;
    q->bottom = below(thresholds[0]);
    q->top = thresholds[count - 1];
    return 1;
}

/* Find them. The width of the choice is concave in the scale, so a search in three parts finds the scale that leaves most
 * of it. */
static int find_line(fl_quantizer *q, const float *thresholds, uint32_t count) {
    if (!may_be_line(thresholds, count)) return 0;
    const double first = thresholds[0], last = thresholds[count - 1];
    const double size = last > -first ? last : -first, gap = last - below(thresholds[count - 1]);
    double low, high, middle;
    if (count == 1) {
        low = high = 0.5 / gap;
    } else {
        const double scale = (count - 1) / (last - first), error = 0x1p-20 * size / (last - first) + 0x1p-40;
        if (!(last > first) || error > 0.5) return 0;
        low = scale * (1 - error), high = scale * (1 + error);
    }
    for (int round = 0; round < 100 && low < high; round++) {
        const double a = low + (high - low) / 3, b = high - (high - low) / 3;
        if (!(a < b)) break;
        if (offsets_of(a, thresholds, count, &middle) < offsets_of(b, thresholds, count, &middle))
            low = a;
        else
            high = b;
    }
    const double scale = low + (high - low) / 2;
    return offsets_of(scale, thresholds, count, &middle) > 0 && take_line(q, thresholds, count, scale, middle);
}

static int32_t threshold_key(float threshold) {
    /* -0.0 reaches a threshold of 0, and stands one below it in the order of keys. */
    return threshold == 0 ? -1 : fl_key(fl_float_bits(threshold));
}

/* Cut the keys between the first and the last threshold into buckets with at most one threshold each: the highest byte of
 * an entry is the level at the bucket's start, the rest the threshold's low bits. */
static int find_buckets(fl_quantizer *q, const float *thresholds, uint32_t count, uint32_t *buckets) {
    int32_t keys[255], gap = INT32_MAX;
    for (uint32_t t = 0; t < count; t++) {
        const int32_t magnitude = (int32_t)(fl_float_bits(thresholds[t]) & 0x7fffffff);
        gap = magnitude < gap ? magnitude : gap;
    }
    gap -= gap > 0; /* the least stays apart from what is folded */
    for (uint32_t t = 0; t < count; t++)
        keys[t] = thresholds[t] == 0 ? -1 : fl_folded_key(fl_float_bits(thresholds[t]), gap); /* -0.0 reaches 0 */
    q->gap = gap;
    q->key_low = keys[0] - 1;
    q->key_high = keys[count - 1];
    for (q->shift = 23; q->shift >= 0; q->shift--) {
        const int32_t first = q->key_low >> q->shift;
        const int64_t size = ((int64_t)q->key_high >> q->shift) - first + 1;
        if (size > MAX_BUCKETS) return 0;
        int crowded = 0;
        for (uint32_t t = 1; t < count && !crowded; t++) crowded = keys[t] >> q->shift == keys[t - 1] >> q->shift;
        if (crowded) continue;
        q->first = first;
        q->mask = (int32_t)((1u << q->shift) - 1);
        for (uint32_t t = 0, k = 0; k < (uint32_t)size; k++) {
            uint32_t level = t, within = 1u << q->shift;
            if (t < count && (keys[t] >> q->shift) - first == (int32_t)k) within = (uint32_t)(keys[t++] & q->mask);
            buckets[k] = level << 24 | within;
        }
        return 1;
    }
    return 0;
}

/* Cut the bit patterns into wider buckets, with the level at each one's start, so that few thresholds are left to
 * compare with. `keys` has `count` of them and STEPS more that nothing reaches. */
static int find_steps(fl_quantizer *q, const int32_t *keys, uint32_t count, uint16_t *starts) {
    if (keys[0] == INT32_MIN) return 0;
    q->key_low = keys[0] - 1;
    q->key_high = keys[count - 1];
    int best = -1;
    q->most = STEPS + 1;
    for (int shift = 0; shift < 31; shift++) {
        if (((int64_t)q->key_high >> shift) - (q->key_low >> shift) + 1 > MAX_BUCKETS) continue;
        uint32_t most = 1, here = 1;
        for (uint32_t t = 1; t < count; t++) {
            here = keys[t] >> shift == keys[t - 1] >> shift ? here + 1 : 1;
            most = here > most ? here : most;
        }
        if (most < q->most) q->most = most, best = shift;
        if (most > STEPS) break; /* wider ones hold more */
    }
    if (best < 0) return 0;
    q->shift = best;
    q->first = q->key_low >> best;
    const int32_t last = q->key_high >> best;
    uint32_t t = 0;
    for (int32_t bucket = q->first;; bucket++) {
        while (t < count && keys[t] >> best < bucket) t++;
        starts[bucket - q->first] = (uint16_t)t;
        if (bucket == last) break;
    }
    q->starts = starts;
    return 1;
}

/* Find a, b with ((level << 8) + b) * a >> 16 = the sample, in 16 bits; there are for all peaks of 2^depth - 1. */
static void find_samples(fl_quantizer *q) {
    const uint32_t middle = (q->step + 128) >> 8;
    for (uint32_t a = middle > 8 ? middle - 8 : 1; a <= middle + 8 && a <= 65535; a++)
        for (uint32_t b = 0, level; b < 256; b++) {
            for (level = 0; level <= q->count; level++)
                if (((level << 8) + b) * a >> 16 != (level * q->step + 0x8000) >> 16) break;
            if (level <= q->count) continue;
            q->a = a;
            q->b = b;
            return;
        }
}

#endif
