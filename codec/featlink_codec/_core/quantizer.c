/* From thresholds and tables to the form that the kernels work on. */
#include "quantizer_forms.h"

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
        find_samples(q);
    }
    const int half = type == FL_F16, wide = count > 255, linear = find_linear(q, thresholds, count);
    /* Beside other quantizers a linear one may have to go as they do. */
    const double scale = q->scale;
    if (!wide && (linear ? take_line(q, thresholds, count, scale, 0.5) : find_line(q, thresholds, count)))
        q->forms |= FORM_LINE;
    if (!wide && find_buckets(q, thresholds, count, memory)) q->forms |= FORM_BUCKETS;
    if (linear) {
        q->kernel = wide ? (half ? K_LINEAR16W : K_LINEAR32W) : (half ? K_LINEAR16 : K_LINEAR32);
    } else if (q->forms & FORM_LINE) {
        q->kernel = half ? K_LINE16 : K_LINE32;
    } else if (q->forms & FORM_BUCKETS) {
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
