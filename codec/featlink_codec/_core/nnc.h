/* The payload of a tensor in an NNC bitstream (ISO/IEC 15938-17): arithmetic coding and quantization.
 *
 * Part of featlink_core: no allocation, no global state but constant tables, the same bits on every machine. Callers
 * hand in all memory; nothing that stands in a payload makes these functions read or write beside it, nor take longer
 * than linear in rows * columns and the payload's size.
 */
#ifndef FEATLINK_NNC_H
#define FEATLINK_NNC_H

#include "featlink_core.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Errors. Readers leave the place in `bit`; what they have written so far is not to be used. */
enum {
    FL_NNC_BAD_CODING = -1,  /* a member of fl_nnc_coding, or an argument, out of its range */
    FL_NNC_BAD_MEMORY = -2,  /* less memory than is needed */
    FL_NNC_TRUNCATED = -3,   /* the payload ends before the codeword does */
    FL_NNC_BAD_LEVEL = -4,   /* a level beyond 32 bits */
    FL_NNC_BAD_INDEX = -5,   /* an index beyond the codebook */
    FL_NNC_NO_END = -6,      /* no terminate bin where it must be */
    FL_NNC_BAD_PADDING = -7, /* behind the terminate bin: not a one, then zeros */
    FL_NNC_BAD_ENTRY = -8,   /* an entry point beyond the payload, or with a value or state that cannot be */
    FL_NNC_FULL = -9,        /* the output buffer is full: take what is there and go on */
    FL_NNC_REGISTER = -10,   /* the codeword lies beyond the range: no encoder writes that */
};

/* How a tensor is coded, of its view as rows and columns. */
typedef struct {
    uint32_t rows, columns; /* each at least 1, their product below 2^40 */
    uint32_t unary_length;  /* cabac_unary_length: 1 to 256 */
    uint32_t codebook_size; /* 0: no codebook */
    uint32_t zero_offset;   /* below codebook_size */
    uint8_t dq, scan_order, profile_idc, parent;
    uint8_t temporal; /* levels of an earlier update are given as base */
    uint8_t reserved[3];
} fl_nnc_coding;

/* A place in a payload. */
typedef struct {
    const uint8_t *data;
    uint64_t size;
    uint64_t next;   /* byte that is taken next; beyond size, zeros are */
    uint64_t window; /* 9 bits of the register at 62..54, what was looked ahead below */
    int32_t left;    /* bits looked ahead, less 8 */
    uint32_t range;  /* less 256 */
    uint64_t bit;    /* after an error: where, in bits */
} fl_nnc_reader;

/* A codeword on its way. */
typedef struct {
    uint8_t *out;
    uint64_t capacity, size; /* bytes of out: there are, are written */
    uint64_t low;            /* 9 bits that are not settled, `pending` above that are, but for a carry */
    uint32_t pending, range; /* range: less 256 */
    uint64_t done;           /* weights of the tensor that are written */
    uint32_t started;        /* block rows of it that are begun */
    uint32_t state, side;    /* of dependent quantization; of the weight before */
} fl_nnc_writer;

/* Where a block row begins. */
typedef struct {
    uint64_t position;   /* bits before the register */
    uint32_t low, state; /* 9 bits: an entry point's value is the codeword's 9 bits there, less these, modulo 512 */
} fl_nnc_entry;

/* Bytes of the structures above and below (0: fl_nnc_coding, 1: fl_nnc_reader, 2: fl_nnc_writer, 3: fl_nnc_entry). */
FL_API size_t fl_nnc_size(int structure);

/* Bytes that reading or writing a tensor takes for contexts and row flags; 0: the coding cannot be. */
FL_API size_t fl_nnc_memory(const fl_nnc_coding *coding);

/* Begin to read a codeword. */
FL_API void fl_nnc_read(fl_nnc_reader *r, const uint8_t *data, size_t size);

/* `count` (up to 32) equiprobable bits, most significant first. */
FL_API uint32_t fl_nnc_read_bits(fl_nnc_reader *r, unsigned count);

/* What stands before a tensor's weights: flags, skipped rows and parameter-ids. Prepares `memory`, aligned to 8. */
FL_API int fl_nnc_read_setup(fl_nnc_reader *r, const fl_nnc_coding *coding, void *memory, size_t memory_size);

/* The number of block rows: 1 without block scan. */
FL_API uint32_t fl_nnc_block_rows(const fl_nnc_coding *coding);

/* Weights of block rows first .. first + count - 1, which must be read in order or begun at an entry point.
 * memory: as fl_nnc_read_setup left it, or a copy; state: of dependent quantization, 0 before the first
 * base, history, levels: of the whole tensor; base, history may be NULL. */
FL_API int fl_nnc_read_rows(fl_nnc_reader *r, const fl_nnc_coding *coding, void *memory, size_t memory_size,
                            uint32_t first, uint32_t count, uint32_t *state, const int32_t *base,
                            const uint8_t *history, int32_t *levels);

/* Bits of the codeword that the register has passed: what entry points count. */
FL_API uint64_t fl_nnc_position(const fl_nnc_reader *r);

/* Go to an entry point: `position` as above, and the register there. */
FL_API int fl_nnc_seek(fl_nnc_reader *r, uint64_t position, uint32_t value);

/* The register, as an entry point has it. */
FL_API uint32_t fl_nnc_register(const fl_nnc_reader *r);

/* The terminate bin and what is behind it. consumed: bytes of the codeword. */
FL_API int fl_nnc_read_end(fl_nnc_reader *r, uint64_t *consumed);

/* Room that a codeword must always have left: for what one call writes at least. */
#define FL_NNC_ROOM (1 << 20)

/* Begin a codeword: out must have FL_NNC_ROOM bytes at least. */
FL_API void fl_nnc_write(fl_nnc_writer *w, uint8_t *out, size_t capacity);

/* Go on in another buffer, which holds the same w->size bytes. */
FL_API void fl_nnc_write_to(fl_nnc_writer *w, uint8_t *out, size_t capacity);

FL_API void fl_nnc_write_bits(fl_nnc_writer *w, uint32_t value, unsigned count);

/* Bytes that writing a tensor takes; 0: the coding cannot be. */
FL_API size_t fl_nnc_write_memory(const fl_nnc_coding *coding);

/* Prepare `memory`, aligned to 8, for a tensor: look for rows of zeros where row_skip, and choose the parameter-ids
 * that cost least where choose_sets. Writes nothing. indices: quantization indices [rows, columns] */
FL_API int fl_nnc_write_setup(const fl_nnc_coding *coding, void *memory, size_t memory_size, const int32_t *indices,
                              const int32_t *base, const uint8_t *history, int row_skip, int choose_sets);

/* Write a prepared tensor. entries: [fl_nnc_block_rows], or NULL. FL_NNC_FULL: call again with more room. */
FL_API int fl_nnc_write_tensor(fl_nnc_writer *w, const fl_nnc_coding *coding, void *memory, size_t memory_size,
                               const int32_t *indices, const int32_t *base, const uint8_t *history,
                               fl_nnc_entry *entries);

/* The terminate bin and the stop bit; w->size is the codeword's size then. */
FL_API void fl_nnc_write_end(fl_nnc_writer *w);

/* Bytes that quantizing takes; 0: the coding cannot be. */
FL_API size_t fl_nnc_quantize_memory(const fl_nnc_coding *coding, double lambda);

/* Weights to quantization indices, in row-major order (whatever scan_order says, as far as rates go).
 * step: weights are levels * step; lambda: squared steps per bit, 0: the least squared error
 * importance: factors of the squared errors, or NULL; base, history: as for writing
 * skip: [rows], not 0: a row that becomes zero; or NULL */
FL_API int fl_nnc_quantize(const fl_nnc_coding *coding, void *memory, size_t memory_size, const float *weights,
                           double step, double lambda, const float *importance, const int32_t *base,
                           const uint8_t *history, const uint8_t *skip, int32_t *indices);

/* What the bins of each row cost, in bits, as contexts adapt that begin with set 0. memory: fl_nnc_memory */
FL_API int fl_nnc_costs(const fl_nnc_coding *coding, void *memory, size_t memory_size, const int32_t *indices,
                        const int32_t *base, const uint8_t *history, double *bits);

/* Indices to levels: dependent quantization undone, in scan order. May be the same memory. */
FL_API int fl_nnc_levels(const fl_nnc_coding *coding, const int32_t *indices, int32_t *levels);

/* binary32 products of binary32 factors. values may be where levels are. */
FL_API void fl_nnc_dequantize(const int32_t *levels, float step, uint64_t count, float *values);

#ifdef __cplusplus
}
#endif
#endif
