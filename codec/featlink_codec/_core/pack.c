/* fl_pack: how the elements of a map find their way to the kernels and the samples theirs into the picture. */
#include "geometry.h"

static const uint8_t ELEMENT_SIZE[] = {1, 1, 2, 2, 2, 4};

/* One call's constants. */
typedef struct {
    const fl_packing *packing;
    const fl_quantizer *q;
    const fl_map *map;
    const fl_picture *out;
    uint32_t picture, element;
    fl_pack_run run;
    fl_pack_rows run_rows; /* NULL where there is none */
    fl_seen seen;
} job;

/* Where samples go: a plane of low bytes and one of high bytes, either of which may be missing. */
typedef struct {
    uint8_t *low, *high;
    int64_t low_stride, high_stride;
} target;

static inline target moved(target t, int64_t row, int64_t column) {
    if (t.low) t.low += row * t.low_stride + column;
    if (t.high) t.high += row * t.high_stride + column;
    return t;
}

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

/* Channels of rows of elements that lie in a row become tiles side by side. */
static void pack_block(job *j, const char *in, fl_block b, target to) {
    b.picture_row = to.low_stride;
    b.picture_plane = b.width;
    if (j->run_rows && !to.high) {
        j->run_rows(j->q, in, to.low, &b, &j->seen);
        return;
    }
    for (uint32_t plane = 0; plane < b.planes; plane++)
        pack_plane(j, in + fl_plane_of(&b, plane), &b, moved(to, 0, (int64_t)plane * b.width));
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

/* Channels lie apart. A row of tiles at a time; of large pictures a row of samples at a time, so that they are written
 * from first to last, while as many channels are read as stand side by side. */
static void pack_planar(job *j, target to) {
    const fl_packing *p = j->packing;
    const fl_map *map = j->map;
    const uint32_t first = j->picture * fl_places(p), used = fl_used_places(p, j->picture);
    const int in_a_row = map->stride_w == j->element || p->width == 1;
    const int large = (uint64_t)used * p->height * p->width >= LARGE && p->width >= LARGE_ROW;
    for (uint32_t place = 0; place < used; place += p->tile_w, to = moved(to, p->height, 0)) {
        fl_block b = {.planes = used - place < p->tile_w ? used - place : p->tile_w, .rows = large ? 1 : p->height,
                      .width = p->width, .order = p->order ? p->order + first + place : NULL,
                      .map_plane = map->stride_c, .map_row = map->stride_h};
        const char *in = (const char *)map->data + (p->order ? 0 : (int64_t)(first + place) * map->stride_c);
        if (in_a_row)
            for (uint32_t h = 0; h < p->height; h += b.rows) pack_block(j, in + h * map->stride_h, b, moved(to, h, 0));
        else
            for (uint32_t k = 0; k < b.planes; k++)
                pack_apart(j, in + fl_plane_of(&b, k), moved(to, 0, (int64_t)k * p->width));
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

/* Channels stand side by side in memory: quantize them as they come, and transpose in squares. */
static void pack_interleaved(job *j, target to) {
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
        for (uint32_t h = 0; h < p->height; h++)
            for (uint32_t w = 0; w < p->width; w += SQUARE) {
                const uint32_t columns = p->width - w < SQUARE ? p->width - w : SQUARE;
                const char *in = (const char *)j->map->data + (int64_t)h * j->map->stride_h +
                                 (int64_t)w * j->map->stride_w + (int64_t)c * j->element;
                const target block = {to.low ? samples[0] : NULL, to.high ? samples[1] : NULL, channels, channels};
                const fl_block b = {.planes = 1, .rows = columns, .width = channels, .map_row = j->map->stride_w};
                pack_block(j, in, b, block);
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

int fl_pack(const fl_packing *packing, const fl_quantizer *q, const fl_map *map, uint32_t picture,
            const fl_picture *out) {
    int wide = q->kernel == K_TABLE8W || q->kernel == K_TABLE16W || q->kernel == K_SPLIT16 || q->peak > 255;
    if (!fl_has_picture(packing, picture)) return FL_BAD_PICTURE;
    if (wide ? !(out->low || out->high) : !out->low || out->high) return FL_BAD_PLANE;
    const fl_kernels *kernels = fl_current();
    job j = {packing, q, map, out, picture, ELEMENT_SIZE[q->type], kernels->pack[q->kernel], kernels->pack_rows[q->kernel], {0, 0}};
    const target to = {out->low, out->high, out->low_stride, out->high_stride};
    if (map->stride_c == j.element && map->stride_w != j.element && packing->channels > 1)
        pack_interleaved(&j, to);
    else
        pack_planar(&j, to);
    fill(packing, picture, out->low, out->low_stride);
    fill(packing, picture, out->high, out->high_stride);
    if (q->type != FL_F16 && q->type != FL_F32) return j.seen.bits > q->limit ? FL_SAW_EXCESS : 0;
    /* -inf has a NaN's bits where the sign counts, so what is infinite is told from the magnitude alone. */
    int saw = 0;
    if (j.seen.magnitude > FL_INFINITY << 1) saw |= FL_SAW_NAN;
    if (j.seen.magnitude == FL_INFINITY << 1) saw |= FL_SAW_INFINITY;
    if (j.seen.bits > 0x80000000u) saw |= FL_SAW_NEGATIVE;
    return saw;
}
