/* NEON, by hand where the compiler falls short: byte tables in registers. */
#include <arm_neon.h>

#include "kernels.h"

static void neon_table8(const fl_quantizer *q, const void *restrict in, uint8_t *restrict low, uint8_t *high, size_t n,
                        fl_seen *seen) {
    const uint8_t *bytes = in, *table = q->memory;
    const uint8x16x4_t t0 = vld1q_u8_x4(table), t1 = vld1q_u8_x4(table + 64);
    const uint8x16x4_t t2 = vld1q_u8_x4(table + 128), t3 = vld1q_u8_x4(table + 192);
    const uint8x16_t quarter = vdupq_n_u8(64);
    size_t k = 0;
    (void)high;
    saw_bytes(q, in, n, seen);
    for (; k + 16 <= n; k += 16) {
        /* a look-up beyond the 64 entries gives 0, or keeps what was there */
        uint8x16_t x = vld1q_u8(bytes + k), y = vqtbl4q_u8(t0, x);
        y = vqtbx4q_u8(y, t1, x = vsubq_u8(x, quarter));
        y = vqtbx4q_u8(y, t2, x = vsubq_u8(x, quarter));
        y = vqtbx4q_u8(y, t3, vsubq_u8(x, quarter));
        vst1q_u8(low + k, y);
    }
    for (; k < n; k++) low[k] = table[bytes[k]];
}

static void neon_values1(const fl_values *v, const uint8_t *restrict low, const uint8_t *high, void *restrict out,
                         size_t n) {
    const fl_quantizer q = {.limit = UINT32_MAX, .memory = v->memory};
    fl_seen seen = {.bits = 0};
    (void)high;
    neon_table8(&q, low, out, NULL, n, &seen);
}

const fl_kernels fl_neon = {
    "neon",
    {PLAIN_PACK_KERNELS, [K_TABLE8] = neon_table8},
    {PLAIN_UNPACK_KERNELS, [U_TABLE1] = neon_values1},
    {NULL},
    {NULL},
    {PLAIN_LANES},
};
