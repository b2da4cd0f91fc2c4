/* Which kernels this machine runs. */
#include "internal.h"

#if defined(__x86_64__)
#include <cpuid.h>

static unsigned long long xgetbv(void) {
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (unsigned long long)high << 32 | low;
}

static int all(unsigned found, unsigned wanted) { return (found & wanted) == wanted; }

static int has_avx2(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    /* FMA, OSXSAVE, AVX, F16C; and the system keeps the registers */
    if (!all(c, 1u << 12 | 1u << 27 | 1u << 28 | 1u << 29) || (xgetbv() & 6) != 6) return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && all(b, 1u << 5);
}

static int has_avx512(void) {
    unsigned a, b, c, d;
    if (!has_avx2() || (xgetbv() & 0xe6) != 0xe6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    /* F, DQ, BW, VL, and VBMI: the byte permutes are what it pays for */
    return all(b, 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31) && all(c, 1u << 1);
}
#endif

static const fl_kernels *known(int index) {
    const fl_kernels *found[4] = {NULL};
    int n = 0;
#if defined(__x86_64__)
    if (has_avx512()) found[n++] = &fl_avx512;
    if (has_avx2()) found[n++] = &fl_avx2;
#elif defined(__aarch64__)
    found[n++] = &fl_neon;
#endif
    found[n++] = &fl_portable;
    return index >= 0 && index < n ? found[index] : NULL;
}

static const fl_kernels *chosen;

const fl_kernels *fl_current(void) {
    const fl_kernels *kernels = __atomic_load_n(&chosen, __ATOMIC_RELAXED);
    if (!kernels) {
        kernels = known(0);
        __atomic_store_n(&chosen, kernels, __ATOMIC_RELAXED); /* every thread would find the same */
    }
    return kernels;
}

int fl_abi(void) { return FL_ABI; }

size_t fl_size(int structure) {
    static const size_t sizes[] = {sizeof(fl_packing), sizeof(fl_map), sizeof(fl_picture), sizeof(fl_quantizer),
                                   sizeof(fl_values), sizeof(fl_classes)};
    return structure >= 0 && structure < 6 ? sizes[structure] : 0;
}

const char *fl_path(int index) {
    const fl_kernels *kernels = known(index);
    return kernels ? kernels->name : NULL;
}

const char *fl_chosen_path(void) { return fl_current()->name; }

int fl_choose_path(const char *name) {
    for (int k = 0; known(k); k++)
        if (!strcmp(known(k)->name, name)) {
            __atomic_store_n(&chosen, known(k), __ATOMIC_RELAXED);
            return 0;
        }
    return -1;
}
