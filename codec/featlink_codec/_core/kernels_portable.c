/* Plain C for any machine. */
#include "kernels.h"

const fl_kernels fl_portable = {"portable", {PLAIN_PACK_KERNELS}, {PLAIN_UNPACK_KERNELS}, {NULL}, {NULL},
                                {PLAIN_LANES}};
