/* To be preloaded: counts the bytes that memcpy and memmove write into memory that is watched. */
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>

#define PUBLIC __attribute__((visibility("default")))
enum { MOST = 64 };

typedef void *copy(void *, const void *, size_t);

static struct {
    uintptr_t start, length;
} watched[MOST];
static unsigned n_watched;
static uint64_t counted;
static copy *real_memcpy, *real_memmove;

static void count(const void *to, size_t n) {
    for (unsigned k = 0; k < n_watched; k++) {
        if ((uintptr_t)to - watched[k].start < watched[k].length) counted += n;
    }
}

PUBLIC void *memcpy(void *restrict to, const void *restrict from, size_t n) {
    if (!real_memcpy) real_memcpy = (copy *)dlsym(RTLD_NEXT, "memcpy");
    count(to, n);
    return real_memcpy(to, from, n);
}

PUBLIC void *memmove(void *to, const void *from, size_t n) {
    if (!real_memmove) real_memmove = (copy *)dlsym(RTLD_NEXT, "memmove");
    count(to, n);
    return real_memmove(to, from, n);
}

PUBLIC int featlink_watch(uintptr_t start, uintptr_t length) {
    if (n_watched == MOST) return -1;
    watched[n_watched].start = start, watched[n_watched].length = length;
    return (int)n_watched++;
}

PUBLIC uint64_t featlink_counted(void) { return counted; }
