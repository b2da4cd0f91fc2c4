/* From thresholds and tables to the form that the kernels work on. */
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

/* Find a scale and an offset for which floor(x * scale + offset) is the level, and prove it as above. The width of the
 * choice is concave in the scale, so a search in three parts finds the scale that leaves most of it. */
static int find_line(fl_quantizer *q, const float *thresholds, uint32_t count) {
    const double first = thresholds[0], last = thresholds[count - 1];
    if (!(first >= -0x1p100) || !(last <= 0x1p100)) return 0;
    for (uint32_t t = 0; t < count; t++)
        if (thresholds[t] <= LEAST_NORMAL && thresholds[t] > -LEAST_NORMAL) return 0;
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
    if (!(offsets_of(scale, thresholds, count, &middle) > 0)) return 0;
    const double offset = middle + FL_LINE;
    for (uint32_t t = 1; t <= count; t++) {
        const double at = scale * thresholds[t - 1], under = scale * below(thresholds[t - 1]);
        const double margin = 0x1p-38 + MARGIN * (at < 0 ? -at : at) + MARGIN * (under < 0 ? -under : under);
        const double reached = at + (offset - FL_LINE), missed = under + (offset - FL_LINE);
        if (!(reached - margin > t && missed + margin < t)) return 0;
        if (t == 1 && !(missed - margin > 0)) return 0;
        if (t == count && !(reached + margin < count + 1)) return 0;
    }
    q->scale = scale;
    q->offset = offset;
    q->bottom = below(thresholds[0]);
    q->top = thresholds[count - 1];
    return 1;
}

static int32_t threshold_key(float threshold) {
    /* -0.0 reaches a threshold of 0, and stands one below it in the order of keys. */
    return threshold == 0 ? -1 : fl_key(fl_float_bits(threshold));
}

/* Cut the bit patterns between the first and the last threshold into buckets with at most one threshold each: the upper
 * half of an entry is the level at the bucket's start, the lower half the threshold's low bits. */
static int find_buckets(fl_quantizer *q, const float *thresholds, uint32_t count, uint32_t *buckets) {
    int32_t least = threshold_key(thresholds[0]), most = threshold_key(thresholds[count - 1]);
    if (least == INT32_MIN) return 0;
    q->key_low = least - 1;
    q->key_high = most;
    for (q->shift = 15; q->shift >= 0; q->shift--) {
        int32_t first = q->key_low >> q->shift;
        int64_t size = ((int64_t)most >> q->shift) - first + 1;
        if (size > MAX_BUCKETS) return 0;
        int crowded = 0;
        for (uint32_t t = 1; t < count && !crowded; t++)
            crowded = threshold_key(thresholds[t]) >> q->shift == threshold_key(thresholds[t - 1]) >> q->shift;
        if (crowded) continue;
        q->first = first;
        q->mask = (int32_t)((1u << q->shift) - 1);
        for (uint32_t t = 0, k = 0; k < (uint32_t)size; k++) {
            uint32_t level = t, within = 1u << q->shift;
            if (t < count && (threshold_key(thresholds[t]) >> q->shift) - first == (int32_t)k)
                within = (uint32_t)(threshold_key(thresholds[t++]) & q->mask);
            buckets[k] = level << 16 | within;
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

int fl_quantizer_thresholds(fl_quantizer *q, int type, const float *thresholds, uint32_t count, uint32_t step,
                            void *memory, size_t memory_size) {
    if (type != FL_F16 && type != FL_F32) return FL_BAD_TYPE;
    if (!memory || memory_size < FL_MEMORY) return FL_BAD_MEMORY;
    if (count < 1 || count > 65535 || (step > 1 && (uint64_t)count * step > 255)) return FL_BAD_TABLE;
    if (step == FL_SCALED && count > 127 && count != 255) return FL_BAD_TABLE;
    for (uint32_t t = 0; t < count; t++)
        if (thresholds[t] != thresholds[t] || (t && thresholds[t] < thresholds[t - 1])) return FL_BAD_TABLE;
    memset(q, 0, sizeof *q);
    q->type = type;
    q->peak = count;
    q->step = step == FL_SCALED ? (255 * FL_STEP + count / 2) / count : step * FL_STEP;
    q->count = count;
    q->limit = UINT32_MAX;
    q->memory = memory;
    if (q->step != FL_STEP) { /* so there are few thresholds, and the end of the memory is free */
        uint8_t *samples = (uint8_t *)memory + FL_MEMORY - 128;
        for (uint32_t k = 0; k < 128; k++) samples[k] = (uint8_t)((k * q->step + 0x8000) >> 16);
        q->samples = samples;
    }
    int half = type == FL_F16, wide = count > 255;
    if (find_linear(q, thresholds, count)) {
        q->kernel = wide ? (half ? K_LINEAR16W : K_LINEAR32W) : (half ? K_LINEAR16 : K_LINEAR32);
    } else if (!wide && find_line(q, thresholds, count)) {
        q->kernel = half ? K_LINE16 : K_LINE32;
    } else if (!wide && find_buckets(q, thresholds, count, memory)) {
        q->kernel = half ? K_BUCKETS16 : K_BUCKETS32;
    } else {
        int32_t *keys = memory;
        for (uint32_t t = 0; t < count + STEPS; t++) keys[t] = t < count ? threshold_key(thresholds[t]) : INT32_MAX;
        if (find_steps(q, keys, count, (uint16_t *)(keys + count + STEPS)))
            q->kernel = wide ? (half ? K_STEPS16W : K_STEPS32W) : (half ? K_STEPS16 : K_STEPS32);
        else
            q->kernel = half ? K_SEARCH16 : K_SEARCH32;
    }
    return 0;
}

/* Find a, b with (mulhi(x << 8, a) + b) >> 8 = level, x clamped to where the table still changes; proved for all 256.
 * `level` is in the order of the elements' values. */
static int find_affine(fl_quantizer *q, const uint8_t *level) {
    uint32_t low = 0, high = 255;
    while (low < 255 && level[low + 1] == level[0]) low++;
    while (high > low && level[high - 1] == level[255]) high--;
    for (uint32_t x = low; x < high; x++)
        if (level[x + 1] < level[x]) return 0;
    uint32_t span = high - low ? high - low : 1;
    int64_t middle = (int64_t)(level[255] - level[0]) * 65536 / span;
    /* The clamped ends may lie anywhere within their levels, so the slope may be off by a level at either end. */
    int64_t reach = 2 * 65536 / span + 2, stride = reach / 256 + 1;
    for (int64_t a = middle - reach; a <= middle + reach; a += stride) {
        if (a < 0 || a > 65535) continue;
        int64_t least = -65536, most = 65535;
        for (uint32_t x = low; x <= high; x++) {
            int64_t product = (int64_t)((x << 8) * (uint64_t)a >> 16), floor = 256 * level[x] - product;
            least = floor > least ? floor : least;
            most = floor + 255 < most ? floor + 255 : most;
        }
        if (least > most) continue;
        q->a = (uint32_t)a;
        q->b = (uint32_t)(least + (most - least) / 2) & 0xffff; /* sums wrap around at 16 bits, as they do in the kernel */
        q->low = low;
        q->high = high;
        return 1;
    }
    return 0;
}

int fl_quantizer_table(fl_quantizer *q, int type, const uint16_t *table, int wide, uint32_t limit, void *memory,
                       size_t memory_size) {
    if (type != FL_U8 && type != FL_I8 && type != FL_U16 && type != FL_I16) return FL_BAD_TYPE;
    if (!memory || memory_size < FL_MEMORY) return FL_BAD_MEMORY;
    int bytes = type == FL_U8 || type == FL_I8, is_signed = type == FL_I8 || type == FL_I16;
    uint32_t size = bytes ? 256 : 65536, identity = 1;
    for (uint32_t k = 0; k < size; k++) {
        if (!wide && table[k] > 255) return FL_BAD_TABLE;
        identity &= table[k] == k;
    }
    memset(q, 0, sizeof *q);
    q->type = type;
    q->memory = memory;
    q->count = size;
    /* Negative numbers have the highest bits of all. */
    q->limit = is_signed && limit != FL_NO_LIMIT && limit > size / 2 - 1 ? size / 2 - 1 : limit;
    if (wide) {
        memcpy(memory, table, size * 2);
        q->kernel = bytes ? K_TABLE8W : identity ? K_SPLIT16 : K_TABLE16W;
        return 0;
    }
    uint8_t *narrow = memory, level[256];
    for (uint32_t k = 0; k < size; k++) narrow[k] = (uint8_t)table[k];
    if (!bytes) {
        q->kernel = K_TABLE16;
        return 0;
    }
    for (uint32_t k = 0; k < 256; k++) level[k] = narrow[is_signed ? k ^ 0x80 : k];
    q->kernel = identity ? K_COPY : find_affine(q, level) ? K_AFFINE8 : K_TABLE8;
    return 0;
}

const char *fl_quantizer_kernel(const fl_quantizer *q) {
    switch (q->kernel) {
    case K_COPY: case K_SPLIT16: return "copy";
    case K_AFFINE8: return "affine";
    case K_LINEAR32: case K_LINEAR16: case K_LINEAR32W: case K_LINEAR16W: case K_LINE32: case K_LINE16:
        return "linear";
    case K_BUCKETS32: case K_BUCKETS16: return "buckets";
    case K_STEPS32: case K_STEPS16: case K_STEPS32W: case K_STEPS16W: return "steps";
    case K_SEARCH32: case K_SEARCH16: return "search";
    default: return "table";
    }
}

/* Find a step for which (float)(step * level) is the table: try the neighbours of the one that its last entry names. */
static int find_step(fl_values *v, const float *table, uint32_t size) {
    /* Entries behind the last level repeat it; they are never looked up, but may be. */
    double low = 0, high = 0x1p1000;
    if (fl_float_bits(table[0]) != 0) return 0;
    for (uint32_t k = 1; k < size; k++) {
        float x = table[k];
        if (!(x >= LEAST_NORMAL && x <= 0x1p126f)) return 0;
        double under = ((double)x + before(x)) / 2, over = ((double)x + fl_bits_float(fl_float_bits(x) + 1)) / 2;
        low = under / k > low ? under / k : low;
        high = over / k < high ? over / k : high;
    }
    double step = low + (high - low) / 2;
    for (uint32_t k = 0; k < size; k++)
        if ((float)(step * (double)k) != table[k]) return 0;
    v->step = step;
    return 1;
}

int fl_values_table(fl_values *v, const void *table, uint32_t element_size, int wide, int float32, void *memory,
                    size_t memory_size) {
    if (element_size != 1 && element_size != 2 && element_size != 4) return FL_BAD_TYPE;
    if ((wide && element_size == 1) || (float32 && element_size != 4)) return FL_BAD_TYPE;
    if (!memory || memory_size < FL_MEMORY) return FL_BAD_MEMORY;
    uint32_t size = wide ? 65536 : 256;
    memset(v, 0, sizeof *v);
    v->size = element_size;
    v->memory = memory;
    memcpy(memory, table, (size_t)size * element_size);
    if (wide) {
        v->kernel = element_size == 2 ? U_TABLE2W : U_TABLE4W;
        int identity = element_size == 2;
        for (uint32_t k = 0; identity && k < size; k++) identity = ((const uint16_t *)memory)[k] == k;
        if (identity) v->kernel = U_JOIN;
    } else {
        v->kernel = element_size == 1 ? U_TABLE1 : element_size == 2 ? U_TABLE2 : U_TABLE4;
        int identity = element_size == 1;
        for (uint32_t k = 0; identity && k < size; k++) identity = ((const uint8_t *)memory)[k] == k;
        if (identity) v->kernel = U_COPY;
    }
    if (float32 && find_step(v, memory, size)) v->kernel = wide ? U_LINEARW : U_LINEAR;
    return 0;
}

const char *fl_values_kernel(const fl_values *v) {
    switch (v->kernel) {
    case U_COPY: case U_JOIN: return "copy";
    case U_LINEAR: case U_LINEARW: return "linear";
    default: return "table";
    }
}
