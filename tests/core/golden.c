/* Packs and unpacks what golden.txt lists, on every instruction set of the machine, and prints what came out.
 *
 * golden.txt comes in by standard input. A line is a case, the return values and a hash: these two are computed anew.
 * twin.py computes the same with NumPy: change both together. */
#include "../../codec/featlink_codec/_core/featlink_core.h"
#include "golden_data.h"

#define BYTE_AROUND 99
#define MAX_CASES 768

/* An allocation that ends where its last byte is, and the array in it. */
typedef struct {
    uint8_t *bytes, *data;
    size_t size;
} block;

typedef struct {
    block all;
    fl_map map;
} array;

/* The layout names the axes from outermost to innermost: a digit behind one is its gap, a capital goes backwards. */
static array array_of(const test_case *t, uint32_t size) {
    int64_t extent = size, back = 0, whole = size, gap = 1;
    array a;
    for (int k = (int)strlen(t->layout) - 1; k >= 0; k--) {
        const char axis = t->layout[k];
        if (axis >= '1' && axis <= '9') {
            gap = axis - '0';
            continue;
        }
        const int backward = axis < 'a', which = axis | 32;
        const int64_t n = which == 'h' ? t->height : which == 'w' ? t->width : t->channels, stride = whole * gap;
        int64_t *to = which == 'h' ? &a.map.stride_h : which == 'w' ? &a.map.stride_w : &a.map.stride_c;
        *to = backward ? -stride : stride;
        extent += (n - 1) * stride;
        back += backward ? (n - 1) * stride : 0;
        whole = stride * n;
        gap = 1;
    }
    a.all.size = t->offset + (size_t)extent;
    a.all.bytes = owned(a.all.size);
    memset(a.all.bytes, BYTE_AROUND, a.all.size);
    a.map.data = a.all.data = a.all.bytes + t->offset + back;
    return a;
}

static uint8_t *at(const array *a, uint32_t h, uint32_t w, uint32_t c) {
    return a->all.data + h * a->map.stride_h + w * a->map.stride_w + c * a->map.stride_c;
}

static int64_t plane_stride(const test_case *t) {
    const int64_t columns = (int64_t)t->tile_w * t->width + t->pad_w;
    return t->margin < 0 ? -(columns - 1 - t->margin) : columns + t->margin;
}

static block plane_of(const test_case *t) {
    const int64_t stride = plane_stride(t), far = stride < 0 ? -stride : stride;
    const size_t rows = (size_t)t->tile_h * t->height + t->pad_h, columns = (size_t)t->tile_w * t->width + t->pad_w;
    block b;
    b.size = t->offset + (rows - 1) * (size_t)far + columns;
    b.bytes = owned(b.size);
    memset(b.bytes, BYTE_AROUND, b.size);
    b.data = b.bytes + t->offset + (stride < 0 ? (rows - 1) * (size_t)far : 0);
    return b;
}

/* Its hash; it is wiped, and nothing around it may differ from what was there. */
static uint64_t hash_plane(const test_case *t, const block *b, uint64_t hash) {
    const size_t rows = (size_t)t->tile_h * t->height + t->pad_h, columns = (size_t)t->tile_w * t->width + t->pad_w;
    for (size_t k = 0; k < rows; k++) {
        uint8_t *row = b->data + (int64_t)k * plane_stride(t);
        hash = fnv(hash, row, columns);
        memset(row, BYTE_AROUND, columns);
    }
    for (size_t k = 0; k < b->size; k++)
        if (b->bytes[k] != BYTE_AROUND) stop("wrote beside the picture", t->layout);
    return hash;
}

static fl_packing packing_of(const test_case *t, uint16_t *order, uint16_t *place_of) {
    fl_packing p = {t->height, t->width, t->channels, t->tile_h, t->tile_w, t->pad_h, t->pad_w, NULL, NULL};
    if (strcmp(t->order, "shuffled")) return p;
    for (uint32_t k = 0; k < t->channels; k++) order[k] = (uint16_t)k;
    for (uint32_t k = t->channels - 1; k > 0; k--) {
        const uint32_t j = (uint32_t)(draw(t->seed + 1, k) % (k + 1));
        const uint16_t other = order[k];
        order[k] = order[j], order[j] = other;
    }
    for (uint32_t k = 0; k < t->channels; k++) place_of[order[k]] = (uint16_t)k;
    p.order = order;
    p.place_of = place_of;
    return p;
}

static int type_of(const char *name) {
    static const char *const names[] = {"u8", "i8", "u16", "i16", "f16", "f32"};
    for (int k = 0; k < 6; k++)
        if (!strcmp(names[k], name)) return k;
    stop("no type", name);
    return -1;
}

/* Quantizers of a case, one or one for each class, and what they are made of. */
typedef struct {
    fl_quantizer each[CLASSES];
    float *thresholds[CLASSES];
    uint32_t counts[CLASSES], number;
    uint8_t *memory;
} quantizers;

static quantizers quantizers_of(const test_case *t, int type, uint32_t size) {
    const char *const *set = classes_of(t->table);
    const int wide = !strcmp(t->planes, "both") || !strcmp(t->planes, "low") || !strcmp(t->planes, "high");
    quantizers q = {.number = set ? CLASSES : 1, .memory = owned((size_t)CLASSES * FL_MEMORY)};
    uint16_t *table = owned(65536 * 2);
    for (uint32_t k = 0; k < q.number; k++) {
        const char *name = set ? set[k] : t->table;
        void *memory = q.memory + (size_t)k * FL_MEMORY;
        int code;
        q.thresholds[k] = owned(65536 * 4);
        if (type == FL_F16 || type == FL_F32) {
            q.counts[k] = thresholds_of(name, q.thresholds[k]);
            code = fl_quantizer_thresholds(&q.each[k], type, q.thresholds[k], q.counts[k], t->step, memory, FL_MEMORY);
        } else {
            samples_of(name, table, size == 1 ? 256 : 65536, type == FL_I8 || type == FL_I16, wide);
            const uint32_t limit = strcmp(name, "clamp15") ? FL_NO_LIMIT : 15;
            code = fl_quantizer_table(&q.each[k], type, table, wide, limit, memory, FL_MEMORY);
        }
        if (code) stop("the quantizer was refused", name);
    }
    free(table);
    return q;
}

static void free_quantizers(quantizers *q) {
    for (uint32_t k = 0; k < q->number; k++) free(q->thresholds[k]);
    free(q->memory);
}

/* Drawn by channel or by region; 0 where there is but one. */
static fl_classes draw_classes(const test_case *t, uint8_t *ids) {
    const int by_channel = !strcmp(t->planes, "channel"), by_region = !strcmp(t->planes, "region");
    const uint32_t n = by_channel ? t->channels : by_region ? t->height * t->width : 1;
    for (uint32_t k = 0; k < n; k++) ids[k] = by_channel || by_region ? (uint8_t)(draw(t->seed + 2, k) % CLASSES) : 0;
    return (fl_classes){ids, by_region ? t->width : 0, by_region, by_channel, CLASSES};
}

static uint64_t run_pack(const test_case *t, const fl_packing *p, int type, uint32_t size, char *saws) {
    const int high = !strcmp(t->planes, "high") || !strcmp(t->planes, "both"), low = strcmp(t->planes, "high") != 0;
    quantizers q = quantizers_of(t, type, size);
    uint8_t *ids = owned((size_t)t->height * t->width + t->channels);
    const fl_classes classes = draw_classes(t, ids);
    const array in = array_of(t, size);
    uint64_t k = 0, hash = 0xCBF29CE484222325u;
    for (uint32_t h = 0; h < t->height; h++)
        for (uint32_t w = 0; w < t->width; w++)
            for (uint32_t c = 0; c < t->channels; c++) {
                const uint32_t class = ids[h * classes.stride_h + w * classes.stride_w + c * classes.stride_c];
                const uint32_t bits = element_of(t, size, k++, q.thresholds[class], q.counts[class]);
                memcpy(at(&in, h, w, c), &bits, size);
            }
    const block planes[2] = {plane_of(t), plane_of(t)};
    for (uint32_t picture = 0; picture * p->tile_h * p->tile_w < p->channels; picture++) {
        uint8_t *to[2] = {low ? planes[0].data : NULL, high ? planes[1].data : NULL};
        const fl_picture out = {to[0], to[1], plane_stride(t), plane_stride(t)};
        const int saw = q.number > 1 ? fl_pack_classes(p, q.each, &classes, &in.map, picture, &out)
                                     : fl_pack(p, q.each, &in.map, picture, &out);
        if (saw < 0) stop("fl_pack failed", t->table);
        /* Beside NaN nothing else need be told. */
        *saws++ = "0123456789abcdef"[saw & FL_SAW_NAN ? FL_SAW_NAN : saw];
        if (low) hash = hash_plane(t, &planes[0], hash);
        if (high) hash = hash_plane(t, &planes[1], hash);
    }
    *saws = 0;
    free(planes[0].bytes), free(planes[1].bytes), free(in.all.bytes), free(ids), free_quantizers(&q);
    return hash;
}

static uint64_t run_unpack(const test_case *t, const fl_packing *p, int type, uint32_t size, void *memory, char *saws) {
    const int wide = strcmp(t->planes, "one") != 0;
    uint8_t *table = owned(65536 * 4);
    fl_values v;
    values_of(t->table, table, wide ? 65536 : 256, size);
    if (fl_values_table(&v, table, size, wide, type == FL_F32, memory, FL_MEMORY))
        stop("the values were refused", t->table);
    const array out = array_of(t, size);
    if (fl_overlaps(p, &out.map, size)) stop("said to overlap", t->layout);
    uint64_t hash = 0xCBF29CE484222325u;
    const block planes[2] = {plane_of(t), plane_of(t)};
    const uint32_t rows = t->tile_h * t->height + t->pad_h, columns = t->tile_w * t->width + t->pad_w;
    for (uint32_t picture = 0; picture * p->tile_h * p->tile_w < p->channels; picture++) {
        for (uint32_t plane = 0; plane < 2; plane++)
            for (uint32_t k = 0; k < rows * columns; k++)
                planes[plane].data[k / columns * plane_stride(t) + k % columns] =
                    (uint8_t)(draw(t->seed + 2 * picture + plane, k) >> 56);
        const fl_picture in = {planes[0].data, wide ? planes[1].data : NULL, plane_stride(t), plane_stride(t)};
        const int code = fl_unpack(p, &v, &in, picture, &out.map);
        if (code) stop("fl_unpack failed", t->table);
        *saws++ = '0';
    }
    *saws = 0;
    for (uint32_t h = 0; h < t->height; h++)
        for (uint32_t w = 0; w < t->width; w++)
            for (uint32_t c = 0; c < t->channels; c++) {
                hash = fnv(hash, at(&out, h, w, c), size);
                memset(at(&out, h, w, c), BYTE_AROUND, size);
            }
    for (size_t k = 0; k < out.all.size; k++)
        if (out.all.bytes[k] != BYTE_AROUND) stop("wrote beside the map", t->layout);
    free(planes[0].bytes), free(planes[1].bytes), free(out.all.bytes), free(table);
    return hash;
}

/* What featlink_core.h calls errors, in the order of its list. */
static void print_errors(void *memory) {
    const float bounds[3] = {1, 2, 3}, falling[3] = {1, 3, 2}, nan[1] = {of_bits(0x7fc00000)};
    const uint16_t table[256] = {[255] = 256};
    const fl_packing p = {1, 1, 1, 1, 1, 0, 0, NULL, NULL};
    float element = 1;
    uint8_t sample = BYTE_AROUND;
    const fl_map map = {&element, 4, 4, 4};
    const fl_picture picture = {&sample, NULL, 1, 0}, none = {NULL, NULL, 0, 0}, both = {&sample, &sample, 1, 1};
    fl_quantizer q;
    printf("errors %d", fl_quantizer_thresholds(&q, FL_U8, bounds, 3, 1, memory, FL_MEMORY));
    printf(" %d", fl_quantizer_table(&q, FL_F32, table, 1, 0, memory, FL_MEMORY));
    printf(" %d", fl_quantizer_thresholds(&q, FL_F32, falling, 3, 1, memory, FL_MEMORY));
    printf(" %d", fl_quantizer_thresholds(&q, FL_F32, nan, 1, 1, memory, FL_MEMORY));
    printf(" %d", fl_quantizer_thresholds(&q, FL_F32, bounds, 3, 86, memory, FL_MEMORY));
    printf(" %d", fl_quantizer_thresholds(&q, FL_F32, bounds, 0, 1, memory, FL_MEMORY));
    printf(" %d", fl_quantizer_table(&q, FL_U8, table, 0, 255, memory, FL_MEMORY));
    printf(" %d", fl_quantizer_thresholds(&q, FL_F32, bounds, 3, 1, memory, FL_MEMORY - 1));
    if (fl_quantizer_thresholds(&q, FL_F32, bounds, 3, 1, memory, FL_MEMORY)) stop("refused", "thresholds");
    printf(" %d", fl_pack(&p, &q, &map, 1, &picture));
    printf(" %d", fl_pack(&p, &q, &map, 0, &none));
    printf(" %d\n", fl_pack(&p, &q, &map, 0, &both));
    if (sample != BYTE_AROUND) stop("wrote in spite of an error", "fl_pack");
}

static int read_case(const char *line, test_case *t) {
    return sscanf(line, "%7s %7s %15s %u %ux%ux%u %ux%u %ux%u %11s %11s %u %d %7s %7s %llu", t->what, t->type, t->table,
                  &t->step, &t->height, &t->width, &t->channels, &t->tile_h, &t->tile_w, &t->pad_h, &t->pad_w, t->order,
                  t->layout, &t->offset, &t->margin, t->planes, t->fill, &t->seed) == 18;
}

static void run(const test_case *t) {
    static const uint32_t sizes[] = {1, 1, 2, 2, 2, 4};
    const int type = type_of(t->type);
    void *memory = owned(FL_MEMORY);
    uint16_t *orders = owned((size_t)t->channels * 4);
    char *saws = owned(t->channels + 1);
    const fl_packing p = packing_of(t, orders, orders + t->channels);
    const uint64_t hash = t->what[0] == 'p' ? run_pack(t, &p, type, sizes[type], saws)
                                            : run_unpack(t, &p, type, sizes[type], memory, saws);
    printf("%s %s %s %u %ux%ux%u %ux%u %ux%u %s %s %u %d %s %s %llu %s %016llx\n", t->what, t->type, t->table, t->step,
           t->height, t->width, t->channels, t->tile_h, t->tile_w, t->pad_h, t->pad_w, t->order, t->layout, t->offset,
           t->margin, t->planes, t->fill, t->seed, saws, (unsigned long long)hash);
    free(memory), free(orders), free(saws);
}

int main(void) {
    static test_case cases[MAX_CASES];
    char line[512];
    int n = 0;
    while (fgets(line, sizeof line, stdin)) {
        if (!strncmp(line, "errors", 6)) continue;
        if (n == MAX_CASES || !read_case(line, &cases[n++])) stop("not a case, or one too many", line);
    }
    for (int k = 0; fl_path(k); k++) {
        if (fl_choose_path(fl_path(k)) || strcmp(fl_chosen_path(), fl_path(k))) stop("cannot choose", fl_path(k));
        printf("path %s\n", fl_path(k));
        void *memory = owned(FL_MEMORY);
        print_errors(memory);
        free(memory);
        for (int t = 0; t < n; t++) run(&cases[t]);
    }
    return 0;
}
