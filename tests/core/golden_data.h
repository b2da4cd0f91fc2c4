/* What the cases of golden.txt are made of: numbers, thresholds, tables and elements. All are functions of integers, or
 * of floats whose results are exact; twin.py has the same in NumPy. */
#ifndef GOLDEN_DATA_H
#define GOLDEN_DATA_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "thresholds.inc"

/* A line of golden.txt. */
typedef struct {
    char what[8], type[8], table[16], order[12], layout[12], planes[8], fill[8];
    unsigned step, height, width, channels, tile_h, tile_w, pad_h, pad_w, offset;
    int margin; /* bytes between two rows of a picture; below 0: -1 - margin, and rows go upwards in memory */
    unsigned long long seed;
} test_case;

static void stop(const char *why, const char *what) {
    fprintf(stderr, "golden: %s: %s\n", why, what);
    exit(2);
}

static void *owned(size_t size) {
    void *memory = malloc(size);
    if (!memory) stop("no memory", "");
    return memory;
}

/* splitmix64: number k of stream `seed`. */
static uint64_t draw(uint64_t seed, uint64_t k) {
    uint64_t z = seed * 0xD1342543DE82EF95u + (k + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static uint64_t fnv(uint64_t hash, const void *from, size_t n) {
    for (size_t k = 0; k < n; k++) hash = (hash ^ ((const uint8_t *)from)[k]) * 0x100000001B3u;
    return hash;
}

static float of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static uint32_t to_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

/* Floats in their order: -0.0 is -1, 0.0 is 0. */
static int64_t key_of(uint32_t bits) { return bits < 0x80000000u ? (int64_t)bits : 0x7fffffff - (int64_t)bits; }

static uint32_t of_key(int64_t key) {
    const int64_t infinity = 0x7f800000;
    key = key < -1 - infinity ? -1 - infinity : key > infinity ? infinity : key;
    return (uint32_t)(key >= 0 ? key : 0x7fffffff - key);
}

/* Equation (1) in binary64, and the least binary32 that it lifts to each level. */
static void uniform(float *to, uint32_t peak, float largest) {
    for (uint32_t t = 1; t <= peak; t++) {
        uint32_t bits = to_bits((float)((t - 0.5) * largest / peak));
        while ((int64_t)((double)of_bits(bits - 1) / largest * peak + 0.5) >= t) bits--;
        while ((int64_t)((double)of_bits(bits) / largest * peak + 0.5) < t) bits++;
        to[t - 1] = of_bits(bits);
    }
}

/* From key `start` on in random steps, now and then of 0 or 1. */
static void walk(float *to, uint32_t peak, int64_t start, uint32_t spread) {
    int64_t key = start;
    for (uint32_t t = 0; t < peak; t++) {
        const uint64_t r = draw(peak, t);
        to[t] = of_bits(of_key(key));
        key += (r & 7) == 0 ? (int64_t)(r >> 3 & 1) : (int64_t)((r >> 32) % spread);
    }
}

static uint32_t thresholds_of(const char *name, float *to) {
    for (size_t k = 0; k < sizeof STORED / sizeof *STORED; k++)
        if (!strcmp(STORED[k].name, name)) {
            memcpy(to, STORED[k].bits, STORED[k].count * 4);
            return STORED[k].count;
        }
    const struct { const char *name; uint32_t peak, largest; } rules[] = {
        {"uniform2", 3, 0x40c00000},      {"uniform4", 15, 0x40c00000},     {"uniform8", 255, 0x40c00000},
        {"uniform16", 65535, 0x40c00000}, {"odd8", 255, 0x404f765f},        {"odd16", 65535, 0x404f765f},
        {"dyadic4", 15, 0x3ff00000},      {"large8", 255, 0x7f61b1e6},      {"tiny8", 255, 0x00ffffff},
    };
    for (size_t k = 0; k < sizeof rules / sizeof *rules; k++)
        if (!strcmp(rules[k].name, name)) {
            uniform(to, rules[k].peak, of_bits(rules[k].largest));
            return rules[k].peak;
        }
    if (!strcmp(name, "walk8")) return walk(to, 255, key_of(0xc0800000u), 1u << 24), 255;
    if (!strcmp(name, "walk16")) return walk(to, 65535, key_of(0xc0000000u), 1u << 16), 65535;
    stop("no thresholds", name);
    return 0;
}

/* A sample for each of the elements' bits. */
static void samples_of(const char *name, uint16_t *to, uint32_t size, int is_signed, int wide) {
    for (uint32_t k = 0; k < size; k++) {
        const int32_t x = (int32_t)(is_signed ? k ^ size / 2 : k); /* in the order of values */
        const int32_t most = wide ? 65535 : 255;
        int32_t y = 0;
        if (!strcmp(name, "identity")) y = (int32_t)k;
        else if (!strcmp(name, "clamp15")) y = k < 15 ? (int32_t)k : 15;
        else if (!strcmp(name, "affine")) y = x * 3 / 4 + 20;
        else if (!strcmp(name, "ramp")) y = x * 5 / 2 - 100;
        else if (!strcmp(name, "steps")) y = x / 16 * 37 % (most + 1);
        else if (!strcmp(name, "random")) y = (int32_t)(draw(size, k) >> 40 & (uint32_t)most);
        else stop("no table", name);
        to[k] = (uint16_t)(y < 0 ? 0 : y > most ? most : y);
    }
}

#define CLASSES 4

/* What the classes of a map go through, or NULL where the name is no set's. */
static const char *const *classes_of(const char *name) {
    static const struct { const char *name, *members[CLASSES]; } sets[] = {
        {"lines", {"gauss8", "uniform8", "laplace5", "uniform4"}},
        {"buckets", {"signedlog8", "log8", "gauss8", "signedlog6"}},
        {"mixed", {"gauss8", "apart8", "walk8", "signedlog8"}},
        {"tables", {"affine", "ramp", "steps", "random"}},
    };
    for (size_t k = 0; k < sizeof sets / sizeof *sets; k++)
        if (!strcmp(sets[k].name, name)) return sets[k].members;
    return NULL;
}

/* A value for each sample. */
static void values_of(const char *name, uint8_t *to, uint32_t size, uint32_t element) {
    for (uint32_t k = 0; k < size; k++) {
        uint32_t bits = 0;
        if (!strcmp(name, "identity")) bits = k;
        else if (!strcmp(name, "random")) bits = (uint32_t)(draw(size, k) >> 32);
        else if (!strcmp(name, "uniform")) bits = to_bits((float)(6.0 / (size - 1) * k));
        else stop("no values", name);
        memcpy(to + (size_t)k * element, &bits, element); /* the machines have their low bytes first */
    }
}

/* Cut off, not rounded: any neighbour will do. */
static uint16_t half_of(uint32_t bits) {
    const uint32_t exponent = bits >> 23 & 255, fraction = bits & 0x7fffff, sign = bits >> 16 & 0x8000;
    if (exponent < 103) return (uint16_t)sign;
    if (exponent < 113) return (uint16_t)(sign | (fraction | 0x800000) >> (126 - exponent));
    if (exponent > 142) return (uint16_t)(sign | 0x7bff);
    return (uint16_t)(sign | (exponent - 112) << 10 | fraction >> 13);
}

/* Neighbours of thresholds, what lies between them, any bits, and the ends of the format. */
static uint32_t float_of(uint64_t r, const float *thresholds, uint32_t count, int half) {
    static const uint32_t ends[12] = {0, 0x80000000, 1, 0x80000001, 0x007fffff, 0x00800000,
                                      0x7f7fffff, 0xff7fffff, 0x807fffff, 0x3f800000, 0x7f800000, 0x7fc00001};
    static const uint32_t half_ends[12] = {0,      0x8000, 1,      0x8001, 0x3ff,  0x400,
                                           0x7bff, 0xfbff, 0x83ff, 0x3c00, 0x7c00, 0x7e01};
    const uint32_t upper = (uint32_t)(r >> 32), kind = r & 7;
    const int64_t key = key_of(to_bits(thresholds[upper % count]));
    const int64_t first = key_of(to_bits(thresholds[0])), last = key_of(to_bits(thresholds[count - 1]));
    uint32_t bits;
    if (kind == 3) return half ? upper & 0xffff : upper;
    if (kind == 4) return half ? half_ends[upper % 12] : ends[upper % 12];
    if (kind == 5) bits = of_key(key + (int64_t)(r >> 8 & 0xfffff) - 0x80000);
    else if (kind == 6) bits = of_key(first + (int64_t)(upper % (uint64_t)(last - first + 1)));
    else if (kind == 7) bits = to_bits((float)(r >> 40) * 0x1p-20f);
    else bits = of_key(key + (int64_t)((r >> 8) % 5) - 2);
    return half ? (uint16_t)(half_of(bits) + (r >> 11) % 3 - 1) : bits;
}

/* The bits of element k. */
static uint32_t element_of(const test_case *t, uint32_t size, uint64_t k, const float *thresholds, uint32_t count) {
    const uint64_t r = draw(t->seed, k);
    uint32_t bits = (uint32_t)(r >> 32);
    if (!strcmp(t->fill, "count")) return (uint32_t)k;
    if (t->type[0] != 'f') return !strcmp(t->fill, "small") ? bits & 15 : bits;
    bits = float_of(r, thresholds, count, size == 2);
    if (!strcmp(t->fill, "any")) return bits;
    if (size == 2) return (bits & 0x7c00) == 0x7c00 ? bits & ~0x400u : bits;
    return (bits & 0x7f800000) == 0x7f800000 ? bits & ~0x800000u : bits;
}

#endif
