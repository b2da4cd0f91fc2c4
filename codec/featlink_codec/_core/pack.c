/* fl_pack: how the elements of a map find their way to the kernels and the samples theirs into the picture. */
#include "pack_job.h"

static const uint8_t ELEMENT_SIZE[] = {1, 1, 2, 2, 2, 4};

static void put_rows(uint8_t *to, int64_t stride, const uint8_t *from, uint32_t width, size_t n) {
    for (; to && n; n -= width, from += width, to += stride) fl_copy_short(to, from, width);
}

/* One channel of a block, for kernels that know but one row. */
static void pack_plane(job *j, const char *in, const fl_block *b, target to) {
    uint8_t samples[2][BLOCK];
    if (b->rows == 1 || b->width >= SHORT_ROW || b->map_row != (int64_t)b->width * j->element) {
        for (uint32_t h = 0; h < b->rows; h++, in += b->map_row, to = moved(to, 1, 0))
            j->run(j->q, in, to.low, to.high, b->width, &j->seen);
        return;
    }
    /* Short rows in a row: as many as a block holds. */
    const uint32_t together = BLOCK / b->width;
    for (uint32_t h = 0; h < b->rows; h += together, in += (int64_t)together * b->map_row) {
        const size_t n = (size_t)(b->rows - h < together ? b->rows - h : together) * b->width;
        const target part = moved(to, h, 0);
        j->run(j->q, in, to.low ? samples[0] : NULL, to.high ? samples[1] : NULL, n, &j->seen);
        put_rows(part.low, part.low_stride, samples[0], b->width, n);
        put_rows(part.high, part.high_stride, samples[1], b->width, n);
    }
}

/* Planes from `first` on, with the kernel of that one's quantizer if they have theirs: how many they are. */
static uint32_t use_kernel(job *j, const fl_block *b, uint32_t first) {
    if (!b->ids) return b->planes;
    use(j, fl_quantizer_of(b, first));
    uint32_t end = j->mixed ? first + 1 : b->planes;
    while (end < b->planes && fl_quantizer_of(b, end)->kernel == j->q->kernel) end++;
    return end - first;
}

void fl_pack_block(job *j, const char *in, fl_block b, target to) {
    b.picture_row = to.low_stride;
    b.picture_plane = b.width;
    for (uint32_t first = 0, n; first < b.planes; first += n) {
        n = use_kernel(j, &b, first);
        if (j->run_rows && !to.high) {
            fl_block part = b;
            part.planes = n;
            if (b.order)
                part.order += first;
            else if (b.ids)
                part.ids += first * b.id_plane;
            const char *from = in + (b.order ? 0 : first * b.map_plane);
            j->run_rows(j->q, from, moved(to, 0, fl_tile_of(&b, first)).low, &part, &j->seen);
            continue;
        }
        for (uint32_t plane = first; plane < first + n; plane++) {
            if (b.ids) j->q = fl_quantizer_of(&b, plane); /* of the same kernel */
            pack_plane(j, in + fl_plane_of(&b, plane), &b, moved(to, 0, fl_tile_of(&b, plane)));
        }
    }
}

/* Elements at any distance are brought together first, a part of a row at a time. */
static void pack_apart(job *j, const char *in, target to) {
    _Alignas(8) char elements[BLOCK];
    const uint32_t width = j->packing->width, element = j->element, most = BLOCK / 4;
    for (uint32_t h = 0; h < j->packing->height; h++, in += j->map->stride_h)
        for (uint32_t w = 0; w < width; w += most) {
            const uint32_t n = width - w < most ? width - w : most;
            const char *from = in + (int64_t)w * j->map->stride_w;
            const target part = moved(to, h, w);
            for (uint32_t k = 0; k < n; k++, from += j->map->stride_w) memcpy(elements + (size_t)k * element, from, element);
            j->run(j->q, elements, part.low, part.high, n, &j->seen);
        }
}

/* The planes of a block, row by row of each. */
static void pack_planes(job *j, const char *in, const fl_block *b, target to) {
    const fl_map *map = j->map;
    if (map->stride_w == j->element || b->width == 1) {
        fl_pack_block(j, in, *b, to);
        return;
    }
    for (uint32_t plane = 0; plane < b->planes; plane++) {
        if (b->ids) use(j, fl_quantizer_of(b, plane));
        pack_apart(j, in + fl_plane_of(b, plane), moved(to, 0, plane * (int64_t)b->width));
    }
}

/* Of large pictures a row of samples at a time, so that they are written from first to last, while as many channels are
 * read as stand side by side. */
static int is_large(const job *j) {
    const fl_packing *p = j->packing;
    const uint64_t size = (uint64_t)fl_used_places(p, j->picture) * p->height * p->width;
    return size >= LARGE && p->width >= LARGE_ROW && (j->map->stride_w == j->element || p->width == 1);
}

/* Channels lie apart. A row of tiles at a time. */
static void pack_planar(job *j, target to) {
    const fl_packing *p = j->packing;
    const fl_map *map = j->map;
    const uint32_t first = j->picture * fl_places(p), used = fl_used_places(p, j->picture);
    const int64_t id_plane = j->classes ? j->classes->stride_c : 0;
    const int large = is_large(j);
    for (uint32_t place = 0; place < used; place += p->tile_w, to = moved(to, p->height, 0)) {
        const uint32_t channel = p->order ? 0 : first + place; /* that the block counts from */
        const fl_block b = {.planes = used - place < p->tile_w ? used - place : p->tile_w,
                            .rows = large ? 1 : p->height, .width = p->width,
                            .order = p->order ? p->order + first + place : NULL, .map_plane = map->stride_c,
                            .map_row = map->stride_h, .quantizers = j->quantizers,
                            .ids = j->classes ? j->classes->ids + channel * id_plane : NULL, .id_plane = id_plane};
        const char *in = (const char *)map->data + channel * map->stride_c;
        for (uint32_t h = 0; h < p->height; h += b.rows) pack_planes(j, in + h * map->stride_h, &b, moved(to, h, 0));
    }
}

/* Samples [columns][channels] go to their tiles; `tiles` has each channel's place in the plane, or INT64_MIN. */
static void scatter(uint8_t *plane, const int64_t *tiles, const uint8_t *from, uint32_t columns, uint32_t channels) {
    for (uint32_t c = 0; c < channels; c += SQUARE) {
        fl_v16 rows[SQUARE] = {{0}};
        const uint32_t n = channels - c < SQUARE ? channels - c : SQUARE;
        if (n == SQUARE)
            for (uint32_t k = 0; k < columns; k++) memcpy(&rows[k], from + (size_t)k * channels + c, SQUARE);
        else
            for (uint32_t k = 0; k < columns; k++) fl_copy_short((uint8_t *)&rows[k], from + (size_t)k * channels + c, n);
        fl_transpose(rows);
        for (uint32_t k = 0; k < n; k++)
            if (tiles[c + k] != INT64_MIN) {
                if (columns == SQUARE)
                    memcpy(plane + tiles[c + k], &rows[k], SQUARE);
                else
                    fl_copy_fixed(plane + tiles[c + k], (const uint8_t *)&rows[k], columns);
            }
    }
}

/* Channels side by side, each through the quantizer of its own class. */
static void pack_lanes(job *j, const char *in, fl_block b, const fl_lanes *lanes, target to) {
    b.picture_row = to.low_stride;
    j->lanes(lanes, in, to.low, &b, &j->seen);
}

/* Columns beside each other that are of one class in all channels. */
static void pack_columns(job *j, const char *in, const fl_block *b, uint32_t h, uint32_t w, target to) {
    for (uint32_t k = 0, end; k < b->rows; k = end) {
        fl_block part = *b;
        const uint32_t class = class_at(j->classes, h, w + k, 0);
        for (end = k + 1; end < b->rows && class_at(j->classes, h, w + end, 0) == class;) end++;
        part.rows = end - k;
        use(j, j->quantizers + class);
        fl_pack_block(j, in + k * b->map_row, part, moved(to, k, 0));
    }
}

/* Channels stand side by side in memory: quantize them as they come, and transpose in squares. */
static void pack_interleaved(job *j, target to) {
    fl_lanes lanes;
    const fl_packing *p = j->packing;
    uint8_t samples[2][SQUARE * BLOCK_CHANNELS];
    int64_t tiles[2][BLOCK_CHANNELS];
    uint32_t first = 0, end = p->channels;
    if (!p->place_of) {
        first = j->picture * fl_places(p);
        end = first + fl_used_places(p, j->picture);
    }
    for (uint32_t c = first; c < end; c += BLOCK_CHANNELS) {
        const uint32_t channels = end - c < BLOCK_CHANNELS ? end - c : BLOCK_CHANNELS;
        fl_tiles(p, j->picture, c, channels, to.low_stride, tiles[0]);
        fl_tiles(p, j->picture, c, channels, to.high_stride, tiles[1]);
        clear_lanes(j, &lanes);
        for (uint32_t k = 0; j->lanes && k < filled_lanes(channels); k++)
            set_lane(j, &lanes, k, j->quantizers + class_at(j->classes, 0, 0, c + (k < channels ? k : channels - 1)));
        for (uint32_t h = 0; h < p->height; h++)
            for (uint32_t w = 0; w < p->width; w += SQUARE) {
                const uint32_t columns = p->width - w < SQUARE ? p->width - w : SQUARE;
                const char *in = (const char *)j->map->data + (int64_t)h * j->map->stride_h +
                                 (int64_t)w * j->map->stride_w + (int64_t)c * j->element;
                const target block = {to.low ? samples[0] : NULL, to.high ? samples[1] : NULL, channels, channels};
                const fl_block b = {.planes = 1, .rows = columns, .width = channels, .map_row = j->map->stride_w};
                if (!j->classes)
                    fl_pack_block(j, in, b, block);
                else if (j->classes->stride_c)
                    pack_lanes(j, in, b, &lanes, block);
                else
                    pack_columns(j, in, &b, h, w, block);
                const target part = moved(to, h, w);
                if (to.low) scatter(part.low, tiles[0], samples[0], columns, channels);
                if (to.high) scatter(part.high, tiles[1], samples[1], columns, channels);
            }
    }
}

static void fill(const fl_packing *p, uint32_t picture, uint8_t *plane, int64_t stride) {
    if (!plane) return;
    const size_t columns = (size_t)p->tile_w * p->width;
    const uint32_t rows = p->tile_h * p->height;
    for (uint32_t place = fl_used_places(p, picture); place < fl_places(p); place++)
        for (uint32_t h = 0; h < p->height; h++) memset(plane + fl_tile(p, place, stride) + (int64_t)h * stride, 0, p->width);
    for (uint32_t h = 0; p->pad_w && h < rows; h++) memset(plane + (int64_t)h * stride + columns, 0, p->pad_w);
    for (uint32_t h = 0; h < p->pad_h; h++) memset(plane + (int64_t)(rows + h) * stride, 0, columns + p->pad_w);
}

/* What the map held. */
static int saw_of(job *j) {
    fl_seen *seen = &j->seen;
    for (int k = 0; k < 16; k++) {
        const uint32_t bits = seen->lane_bits[k], positive = seen->lane_positive[k] << 1;
        const uint32_t magnitude = bits << 1 > positive ? bits << 1 : positive;
        seen->bits = bits > seen->bits ? bits : seen->bits;
        seen->magnitude = magnitude > seen->magnitude ? magnitude : seen->magnitude;
    }
    if (j->quantizers->type != FL_F16 && j->quantizers->type != FL_F32) return seen->bits > j->limit ? FL_SAW_EXCESS : 0;
    /* -inf has a NaN's bits where the sign counts, so what is infinite is told from the magnitude alone. */
    int saw = 0;
    if (seen->magnitude > FL_INFINITY << 1) saw |= FL_SAW_NAN;
    if (seen->magnitude == FL_INFINITY << 1) saw |= FL_SAW_INFINITY;
    if (seen->bits > 0x80000000u) saw |= FL_SAW_NEGATIVE;
    return saw;
}

static int is_wide(const fl_quantizer *q) {
    return q->kernel == K_TABLE8W || q->kernel == K_TABLE16W || q->kernel == K_SPLIT16 || q->peak > 255;
}

/* What all quantizers can do side by side: the form of its lanes, or -1. A table may lie anywhere in memory, but for what
 * an index of 32 bits reaches. */
static int common_form(const job *j, uint32_t count) {
    const int type = j->quantizers->type, half = type == FL_F16;
    uint32_t forms = FORM_LINE | FORM_BUCKETS;
    for (uint32_t k = 0; k < count; k++) {
        const fl_quantizer *q = j->quantizers + k;
        const int64_t at = fl_table_at(j, q);
        if (q->step != FL_STEP && !q->a) return -1;
        forms &= at > -(1 << 30) && at < 1 << 30 ? q->forms : q->forms & FORM_LINE;
    }
    if (forms & FORM_LINE) return half ? LANES_LINE16 : LANES_LINE32;
    return forms & FORM_BUCKETS ? half ? LANES_BUCKETS16 : LANES_BUCKETS32 : -1;
}

static int common_table(const job *j, uint32_t count) {
    const int type = j->quantizers->type;
    for (uint32_t k = 0; k < count; k++) {
        const int64_t at = fl_table_at(j, j->quantizers + k);
        if (at <= -(1 << 30) || at >= 1 << 30) return -1;
    }
    return type == FL_U8 || type == FL_I8 ? LANES_TABLE8 : LANES_TABLE16;
}

/* Whether channels stand side by side, and their classes, if any, do not change from channel to channel as well as from
 * position to position. Where channels of other classes meet, and no lanes take them, they are fetched one by one. */
static int is_interleaved(const job *j) {
    const fl_map *map = j->map;
    if (map->stride_c != j->element || map->stride_w == j->element || j->packing->channels == 1) return 0;
    return !j->classes || !j->classes->stride_c || j->lanes;
}

static int pack(job *j, const fl_picture *out) {
    const fl_classes *classes = j->classes;
    const target to = {out->low, out->high, out->low_stride, out->high_stride};
    const int by_position = classes && (classes->stride_h || classes->stride_w);
    if (!fl_has_picture(j->packing, j->picture)) return FL_BAD_PICTURE;
    if (is_wide(j->q) ? !(out->low || out->high) : !out->low || out->high) return FL_BAD_PLANE;
    if (by_position && (classes->stride_c || !is_interleaved(j)))
        fl_pack_mixed(j, to);
    else if (is_interleaved(j))
        pack_interleaved(j, to);
    else
        pack_planar(j, to);
    fill(j->packing, j->picture, out->low, out->low_stride);
    fill(j->packing, j->picture, out->high, out->high_stride);
    return saw_of(j);
}

int fl_pack(const fl_packing *packing, const fl_quantizer *q, const fl_map *map, uint32_t picture,
            const fl_picture *out) {
    job j = {.packing = packing, .quantizers = q, .map = map, .picture = picture, .element = ELEMENT_SIZE[q->type],
             .kernels = fl_current(), .limit = q->limit};
    use(&j, q);
    return pack(&j, out);
}

int fl_pack_classes(const fl_packing *packing, const fl_quantizer *quantizers, const fl_classes *classes,
                    const fl_map *map, uint32_t picture, const fl_picture *out) {
    const int type = quantizers->type;
    job j = {.packing = packing, .quantizers = quantizers, .classes = classes, .map = map, .picture = picture,
             .element = ELEMENT_SIZE[type], .kernels = fl_current(), .limit = UINT32_MAX};
    for (uint32_t k = 0; k < classes->count; k++) {
        if (quantizers[k].type != type || is_wide(quantizers + k)) return FL_BAD_TYPE;
        j.mixed |= quantizers[k].kernel != quantizers->kernel;
        j.limit = quantizers[k].limit < j.limit ? quantizers[k].limit : j.limit;
    }
    j.form = type == FL_F16 || type == FL_F32 ? common_form(&j, classes->count) : common_table(&j, classes->count);
    if (j.form >= 0) j.lanes = j.kernels->lanes[j.form];
    use(&j, quantizers);
    return pack(&j, out);
}
