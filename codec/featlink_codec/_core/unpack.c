/* fl_unpack: how the samples of a picture find their way to the kernels and the elements theirs into the map. */
#include "geometry.h"

typedef struct {
    const fl_packing *packing;
    const fl_values *values;
    const fl_classes *classes; /* NULL: one table for all */
    const fl_map *map;
    uint32_t picture;
    const fl_kernels *kernels;
    const fl_values *v; /* the one in use, and its kernels */
    fl_unpack_run run;
    fl_unpack_rows run_rows; /* NULL where there is none */
} job;

/* Go on with another table. */
static inline void use(job *j, uint32_t number) {
    j->v = j->values + number;
    j->run = j->kernels->unpack[j->v->kernel];
    j->run_rows = j->kernels->unpack_rows[j->v->kernel];
}

/* Where samples come from; high is NULL in maps of up to 8 bits. */
typedef struct {
    const uint8_t *low, *high;
    int64_t low_stride, high_stride;
} source;

static inline source moved(source s, int64_t row, int64_t column) {
    s.low += row * s.low_stride + column;
    if (s.high) s.high += row * s.high_stride + column;
    return s;
}

static void take_rows(uint8_t *to, const uint8_t *from, int64_t stride, uint32_t width, size_t n) {
    for (; from && n; n -= width, to += width, from += stride) fl_copy_short(to, from, width);
}

/* One channel of a block, for kernels that know but one row. */
static void unpack_plane(const job *j, source from, const fl_block *b, char *out) {
    uint8_t samples[2][BLOCK];
    if (b->rows == 1 || b->width >= SHORT_ROW || b->map_row != (int64_t)b->width * j->v->size) {
        for (uint32_t h = 0; h < b->rows; h++, out += b->map_row, from = moved(from, 1, 0))
            j->run(j->v, from.low, from.high, out, b->width);
        return;
    }
    const uint32_t together = BLOCK / b->width;
    for (uint32_t h = 0; h < b->rows; h += together, out += (int64_t)together * b->map_row) {
        const size_t n = (size_t)(b->rows - h < together ? b->rows - h : together) * b->width;
        const source part = moved(from, h, 0);
        take_rows(samples[0], part.low, part.low_stride, b->width, n);
        take_rows(samples[1], part.high, part.high_stride, b->width, n);
        j->run(j->v, samples[0], part.high ? samples[1] : NULL, out, n);
    }
}

/* Tiles side by side become channels of rows of elements that lie in a row. */
static void unpack_block(const job *j, source from, fl_block b, char *out) {
    b.picture_row = from.low_stride;
    b.picture_plane = b.width;
    if (j->run_rows && !from.high) {
        j->run_rows(j->v, from.low, out, &b);
        return;
    }
    for (uint32_t plane = 0; plane < b.planes; plane++)
        unpack_plane(j, moved(from, 0, (int64_t)plane * b.width), &b, out + fl_plane_of(&b, plane));
}

/* Elements at any distance. */
static void unpack_apart(const job *j, source from, char *out) {
    _Alignas(8) char elements[BLOCK];
    const uint32_t width = j->packing->width, size = j->v->size, most = BLOCK / 4;
    for (uint32_t h = 0; h < j->packing->height; h++, out += j->map->stride_h)
        for (uint32_t w = 0; w < width; w += most) {
            const uint32_t n = width - w < most ? width - w : most;
            const source part = moved(from, h, w);
            char *to = out + (int64_t)w * j->map->stride_w;
            j->run(j->v, part.low, part.high, elements, n);
            for (uint32_t k = 0; k < n; k++, to += j->map->stride_w) memcpy(to, elements + (size_t)k * size, size);
        }
}

/* Tiles side by side: channels of one class at a time. `first` is that of the first place. */
static void unpack_tiles(job *j, source from, const fl_block *b, uint32_t first, int in_a_row, char *out) {
    for (uint32_t k = 0, end; k < b->planes; k = end) {
        end = b->planes;
        if (j->classes) {
            const uint32_t class = class_at(j->classes, 0, 0, b->order ? b->order[k] : first + k);
            for (end = k + 1; end < b->planes; end++)
                if (class_at(j->classes, 0, 0, b->order ? b->order[end] : first + end) != class) break;
            use(j, class);
        }
        fl_block part = *b;
        part.planes = end - k;
        if (b->order) part.order += k;
        char *to = out + (b->order ? 0 : k * b->map_plane);
        const source here = moved(from, 0, (int64_t)k * b->width);
        if (in_a_row)
            unpack_block(j, here, part, to);
        else
            for (uint32_t plane = 0; plane < part.planes; plane++)
                unpack_apart(j, moved(here, 0, (int64_t)plane * b->width), to + fl_plane_of(&part, plane));
    }
}

static void unpack_planar(job *j, source from) {
    const fl_packing *p = j->packing;
    const fl_map *map = j->map;
    const uint32_t first = j->picture * fl_places(p), used = fl_used_places(p, j->picture);
    const int in_a_row = map->stride_w == (int64_t)j->v->size || p->width == 1;
    for (uint32_t place = 0; place < used; place += p->tile_w, from = moved(from, p->height, 0)) {
        const fl_block b = {.planes = used - place < p->tile_w ? used - place : p->tile_w, .rows = p->height,
                            .width = p->width, .order = p->order ? p->order + first + place : NULL,
                            .map_plane = map->stride_c, .map_row = map->stride_h};
        char *out = (char *)map->data + (p->order ? 0 : (int64_t)(first + place) * map->stride_c);
        unpack_tiles(j, from, &b, first + place, in_a_row, out);
    }
}

/* Each element through the table of its own class. */
static void unpack_mixed(const job *j, source from) {
    const fl_packing *p = j->packing;
    const fl_map *map = j->map;
    const uint32_t first = j->picture * fl_places(p), used = fl_used_places(p, j->picture), size = j->v->size;
    for (uint32_t h = 0; h < p->height; h++)
        for (uint32_t place = 0; place < used; place++) {
            const uint32_t channel = fl_channel(p, first + place);
            const uint8_t *samples = from.low + fl_tile(p, place, from.low_stride) + h * from.low_stride;
            char *out = (char *)map->data + h * map->stride_h + channel * map->stride_c;
            for (uint32_t w = 0; w < p->width; w++, out += map->stride_w) {
                const char *table = j->values[class_at(j->classes, h, w, channel)].memory;
                memcpy(out, table + (size_t)samples[w] * size, size);
            }
        }
}

/* The samples of up to 16 columns, from the tiles of `channels` channels, as [columns][channels]. */
static void gather(const uint8_t *plane, const int64_t *tiles, uint8_t *to, uint32_t columns, uint32_t channels) {
    for (uint32_t c = 0; c < channels; c += SQUARE) {
        fl_v16 rows[SQUARE] = {{0}};
        const uint32_t n = channels - c < SQUARE ? channels - c : SQUARE;
        if (columns == SQUARE)
            for (uint32_t k = 0; k < n; k++) memcpy(&rows[k], plane + tiles[c + k], SQUARE);
        else
            for (uint32_t k = 0; k < n; k++) fl_copy_fixed((uint8_t *)&rows[k], plane + tiles[c + k], columns);
        fl_transpose(rows);
        for (uint32_t k = 0; k < columns; k++) fl_copy_short(to + (size_t)k * channels + c, (const uint8_t *)&rows[k], n);
    }
}

/* Channels will stand side by side in memory. */
static void unpack_interleaved(const job *j, source from) {
    const fl_packing *p = j->packing;
    uint8_t samples[2][SQUARE * BLOCK_CHANNELS];
    int64_t tiles[2][BLOCK_CHANNELS];
    const uint32_t first = j->picture * fl_places(p), end = first + fl_used_places(p, j->picture);
    for (uint32_t c = first; c < end; c += BLOCK_CHANNELS) {
        const uint32_t channels = end - c < BLOCK_CHANNELS ? end - c : BLOCK_CHANNELS;
        fl_tiles(p, j->picture, c, channels, from.low_stride, tiles[0]);
        fl_tiles(p, j->picture, c, channels, from.high_stride, tiles[1]);
        for (uint32_t h = 0; h < p->height; h++)
            for (uint32_t w = 0; w < p->width; w += SQUARE) {
                const uint32_t columns = p->width - w < SQUARE ? p->width - w : SQUARE;
                char *out = (char *)j->map->data + (int64_t)h * j->map->stride_h + (int64_t)w * j->map->stride_w +
                            (int64_t)c * j->v->size;
                const source part = moved(from, h, w);
                const source block = {samples[0], from.high ? samples[1] : NULL, channels, channels};
                gather(part.low, tiles[0], samples[0], columns, channels);
                if (from.high) gather(part.high, tiles[1], samples[1], columns, channels);
                const fl_block b = {.planes = 1, .rows = columns, .width = channels, .map_row = j->map->stride_w};
                unpack_block(j, block, b, out);
            }
    }
}

static int unpack(job *j, const fl_picture *in) {
    const fl_packing *packing = j->packing;
    const fl_map *map = j->map;
    const fl_classes *classes = j->classes;
    const int wide = j->v->kernel >= U_JOIN;
    if (!fl_has_picture(packing, j->picture)) return FL_BAD_PICTURE;
    if (!in->low || wide != (in->high != NULL)) return FL_BAD_PLANE;
    const source from = {in->low, in->high, in->low_stride, in->high_stride};
    int interleaved = map->stride_c == (int64_t)j->v->size && map->stride_w != (int64_t)j->v->size && packing->channels > 1;
    if (classes && (interleaved || classes->stride_h || classes->stride_w))
        unpack_mixed(j, from);
    /* With an order, channels side by side are not those of one picture, unless there is but one. */
    else if (interleaved && (!packing->place_of || packing->channels <= fl_places(packing)))
        unpack_interleaved(j, from);
    else
        unpack_planar(j, from);
    return 0;
}

int fl_unpack(const fl_packing *packing, const fl_values *v, const fl_picture *in, uint32_t picture,
              const fl_map *map) {
    job j = {.packing = packing, .values = v, .map = map, .picture = picture, .kernels = fl_current()};
    use(&j, 0);
    return unpack(&j, in);
}

int fl_unpack_classes(const fl_packing *packing, const fl_values *values, const fl_classes *classes,
                      const fl_picture *in, uint32_t picture, const fl_map *map) {
    job j = {.packing = packing, .values = values, .classes = classes, .map = map, .picture = picture,
             .kernels = fl_current()};
    for (uint32_t k = 0; k < classes->count; k++)
        if (values[k].size != values->size || values[k].kernel >= U_JOIN) return FL_BAD_TYPE;
    use(&j, 0);
    return unpack(&j, in);
}

static void sort3(int64_t a[3][2]) {
    for (int round = 0; round < 2; round++)
        for (int k = 0; k < 2; k++)
            if (a[k][0] > a[k + 1][0]) {
                int64_t stride = a[k][0], count = a[k][1];
                a[k][0] = a[k + 1][0], a[k][1] = a[k + 1][1];
                a[k + 1][0] = stride, a[k + 1][1] = count;
            }
}

int fl_overlaps(const fl_packing *p, const fl_map *map, uint32_t size) {
    int64_t axes[3][2] = {{map->stride_h, p->height}, {map->stride_w, p->width}, {map->stride_c, p->channels}};
    for (int k = 0; k < 3; k++) {
        if (axes[k][1] == 1) axes[k][0] = 0;
        if (axes[k][0] < 0) axes[k][0] = -axes[k][0];
    }
    sort3(axes);
    int64_t extent = size; /* of all elements along the axes so far */
    for (int k = 0; k < 3; k++) {
        if (axes[k][1] == 1) continue;
        if (axes[k][0] < extent) return 1;
        extent += axes[k][0] * (axes[k][1] - 1);
    }
    return 0;
}
