/* fl_pack where the class of an element depends on its position: by region or by block. A row of a channel at a time. */
#include "pack_job.h"

/* A part of a row of one channel, in a row in memory. */
typedef struct {
    uint32_t h, w, n, channel;
    const char *in;
} part;

/* The same class for as long as it stays: one kernel call for each run. */
static void pack_runs(job *j, const part *p, uint8_t *to) {
    for (uint32_t k = 0, end; k < p->n; k = end) {
        const uint32_t class = class_at(j->classes, p->h, p->w + k, p->channel);
        for (end = k + 1; end < p->n && class_at(j->classes, p->h, p->w + end, p->channel) == class;) end++;
        use(j, j->quantizers + class);
        j->run(j->q, p->in + (size_t)k * j->element, to + k, NULL, end - k, &j->seen);
    }
}

static void fill_lanes(const job *j, const part *p, fl_lanes *lanes) {
    clear_lanes(j, lanes);
    for (uint32_t k = 0; k < filled_lanes(p->n); k++) {
        const uint32_t w = p->w + (k < p->n ? k : p->n - 1);
        set_lane(j, lanes, k, j->quantizers + class_at(j->classes, p->h, w, p->channel));
    }
}

/* Whether a part's classes are those of the same part of another channel. */
static int same_classes(const job *j, const part *p, uint32_t other) {
    const fl_classes *c = j->classes;
    if (!c->stride_c) return 1;
    for (uint32_t k = 0; k < p->n; k++)
        if (class_at(c, p->h, p->w + k, p->channel) != class_at(c, p->h, p->w + k, other)) return 0;
    return 1;
}

void fl_pack_mixed(job *j, target to) {
    _Alignas(8) char elements[LANES * 4];
    fl_lanes lanes;
    const fl_packing *p = j->packing;
    const uint32_t first = j->picture * fl_places(p), used = fl_used_places(p, j->picture);
    const int in_a_row = j->map->stride_w == j->element;
    part row = {.h = 0};
    for (row.h = 0; row.h < p->height; row.h++)
        for (row.w = 0; row.w < p->width; row.w += LANES) {
            uint32_t filled = UINT32_MAX; /* channel whose classes stand in the lanes */
            row.n = p->width - row.w < LANES ? p->width - row.w : LANES;
            for (uint32_t place = 0; place < used; place++) {
                row.channel = fl_channel(p, first + place);
                row.in = (const char *)j->map->data + row.h * j->map->stride_h + row.w * j->map->stride_w +
                         row.channel * j->map->stride_c;
                uint8_t *out = to.low + fl_tile(p, place, to.low_stride) + row.h * to.low_stride + row.w;
                if (!in_a_row) {
                    const char *from = row.in;
                    for (uint32_t k = 0; k < row.n; k++, from += j->map->stride_w)
                        memcpy(elements + (size_t)k * j->element, from, j->element);
                    row.in = elements;
                }
                if (!j->lanes) {
                    pack_runs(j, &row, out);
                    continue;
                }
                if (filled == UINT32_MAX || !same_classes(j, &row, filled)) fill_lanes(j, &row, &lanes);
                filled = row.channel;
                const fl_block b = {.planes = 1, .rows = 1, .width = row.n};
                j->lanes(&lanes, row.in, out, &b, &j->seen);
            }
        }
}
