/* What the files of the virtual encoder know of each other. Functions that take a device want its mutex held. */
#ifndef FEATLINK_VENC_H
#define FEATLINK_VENC_H

#include <limits.h>
#include <linux/videodev2.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MAX_BUFFERS = 32, MAX_PLANES = 3, MAX_FAULTS = 64, RAW_FORMATS = 5 };

/* Of the family of controls that the kernel defines, of NVIDIA's, of both. */
enum family { KERNEL = 1, NVIDIA = 2, BOTH = 3 };

enum control_index {
    C_MIN_BUFFERS,
    C_B_FRAMES,
    C_GOP_SIZE,
    C_BITRATE_MODE,
    C_BITRATE,
    C_FRAME_RC_ENABLE,
    C_HEADER_MODE,
    C_REPEAT_SEQ_HEADER,
    C_FORCE_KEY_FRAME,
    C_MIN_QP,
    C_MAX_QP,
    C_I_QP,
    C_P_QP,
    C_B_QP,
    C_PROFILE,
    C_LEVEL,
    C_LOSSLESS,
    C_PREPEND_SPSPPS,
    N_H265_PROFILE,
    N_IDR_INTERVAL,
    N_NUM_BFRAMES,
    N_INSERT_SPS_PPS,
    N_QP_RANGE,
    N_MAX_PERFORMANCE,
    N_ALLINTRA,
    N_H265_LEVEL,
    N_FORCE_IDR,
    N_INIT_FRAME_QP,
    N_LOSSLESS,
    CONTROLS
};

struct size {
    uint32_t width, height;
};

enum headers { EACH_IDR, FIRST, SEPARATE };

/* The node's file: how this device behaves. */
struct config {
    char node[PATH_MAX], report[PATH_MAX];
    bool multi, height_padded, crop, enum_sizes, last_has_data, encoder_cmd, eos_empty, export, first_session;
    uint32_t fourcc, raw[RAW_FORMATS];
    unsigned n_raw;
    struct size align, min, max, step;
    uint32_t data_offset, capture_size, extra_buffers, fewer_buffers, min_buffers, delay;
    enum family family;
    enum headers headers;
    bool refused[CONTROLS], ignored[CONTROLS];
    uint32_t error_at[MAX_FAULTS];
    unsigned n_errors;
    int64_t eio_at, stall_at; /* -1: never */
};

/* Raw pictures: how they lie in memory. `planes` are those of buffers, not of colours. */
struct raw_layout {
    uint32_t fourcc;
    struct size size;
    unsigned planes;
    uint32_t bytesperline[MAX_PLANES], sizeimage[MAX_PLANES];
};

/* The colours of a raw picture, wherever they lie. */
struct components {
    unsigned count;        /* 1: grey, 2: interleaved chroma, 3 */
    unsigned plane[3];     /* of the buffer */
    size_t offset[3];      /* of the first sample of the crop rectangle in that plane */
    uint32_t stride[3];    /* bytes */
};

struct colours {
    uint32_t colorspace, transfer, encoding, quantization;
};

struct plane {
    uint8_t *data;
    size_t length;
    uint32_t offset; /* for mmap */
    int fd;          /* for VIDIOC_EXPBUF, or -1 */
};

enum buffer_state { IDLE, QUEUED, DONE };

struct buffer {
    enum buffer_state state;
    struct plane planes[MAX_PLANES];
    uint32_t bytesused[MAX_PLANES], data_offset;
    uint32_t flags, sequence;
    struct timeval timestamp;
    bool force_key;
};

struct fifo {
    uint8_t items[MAX_BUFFERS];
    unsigned head, count;
};

struct queue {
    uint32_t type;
    unsigned n_buffers, n_planes;
    struct buffer buffers[MAX_BUFFERS];
    struct fifo queued, done;
    bool streaming, format_set;
    unsigned streams; /* that have ended */
    uint32_t sequence;
};

/* What the encoder made, until a CAPTURE buffer is there for it. */
struct packet {
    struct packet *next;
    bool picture; /* else parameter sets alone */
    bool error;
    uint32_t flags;
    struct timeval timestamp;
    size_t size;
    uint8_t data[];
};

enum drain { RUNNING, DRAINING, STOPPED, ENDED };

struct encoder;

struct device {
    struct config config;
    int fd; /* the application's, a memfd since init */
    uint32_t next_offset;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    pthread_t worker;
    bool quit, busy, broken, stalled, faults_on, fault_had;

    struct raw_layout raw;
    struct v4l2_rect crop;
    struct colours colours;
    uint32_t capture_asked; /* sizeimage */
    struct v4l2_fract interval;
    uint32_t values[CONTROLS][6];
    /* of ignored controls: what reads back */
    uint32_t read_back[CONTROLS][6];
    bool read_back_differs[CONTROLS];
    bool header_mode_set;
    struct queue output, capture;

    struct encoder *encoder;
    bool force_key, headers_given;
    uint32_t since_idr;
    struct packet *first, **last;
    unsigned held; /* pictures among the packets */
    enum drain drain;
    unsigned drain_left; /* pictures queued before the drain */
    bool last_dequeued;

    uint64_t pictures, output_queued, packets, staged;
};

/* config.c: false, and a line on stderr, for a file that is not understood. */
bool fv_read_config(int fd, struct config *config, bool *is_node);

/* formats.c */
const char *fv_raw_name(unsigned index);
uint32_t fv_raw_fourcc(unsigned index);
unsigned fv_raw_planes(uint32_t fourcc);
void fv_reset_formats(struct device *device);
uint32_t fv_capture_size(const struct device *device);
struct components fv_components(const struct device *device);
int fv_enum_fmt(struct device *device, void *argument);
int fv_enum_framesizes(struct device *device, void *argument);
int fv_g_fmt(struct device *device, void *argument);
int fv_s_fmt(struct device *device, void *argument);
int fv_try_fmt(struct device *device, void *argument);

/* window.c */
int fv_g_selection(struct device *device, void *argument);
int fv_s_selection(struct device *device, void *argument);
int fv_g_parm(struct device *device, void *argument);
int fv_s_parm(struct device *device, void *argument);

/* controls.c */
int fv_control_named(const char *name, size_t length, bool *marks);
void fv_reset_controls(struct device *device);
enum headers fv_headers(const struct device *device);
int fv_query_ext_ctrl(struct device *device, void *argument);
int fv_queryctrl(struct device *device, void *argument);
int fv_querymenu(struct device *device, void *argument);
int fv_g_ext_ctrls(struct device *device, void *argument);
int fv_s_ext_ctrls(struct device *device, void *argument);
int fv_try_ext_ctrls(struct device *device, void *argument);
int fv_g_ctrl(struct device *device, void *argument);
int fv_s_ctrl(struct device *device, void *argument);

/* buffers.c: memory */
int fv_reqbufs(struct device *device, void *argument);
int fv_querybuf(struct device *device, void *argument);
int fv_expbuf(struct device *device, void *argument);
void fv_free_buffers(struct device *device, struct queue *queue);
struct queue *fv_queue(struct device *device, uint32_t type);
int fv_tell_buffer(struct device *device, struct queue *queue, unsigned index, struct v4l2_buffer *to);

/* queue.c: what lies in which queue */
bool fv_pop(struct fifo *fifo, unsigned *item);
void fv_finish(struct device *device, struct queue *queue, unsigned index);
int fv_qbuf(struct device *device, void *argument);
int fv_dqbuf(struct device *device, void *argument);
int fv_streamon(struct device *device, void *argument);
int fv_streamoff(struct device *device, void *argument);

/* worker.c: pictures in, packets out, and the drain between them */
void *fv_work(void *device);
void fv_drop_packets(struct device *device);
bool fv_fault(struct device *device);
int fv_encoder_cmd(struct device *device, void *argument);
int fv_try_encoder_cmd(struct device *device, void *argument);

/* encode.c: libx265. fv_encode() runs without the mutex; NULL: libx265 failed. */
struct encoder *fv_open_encoder(const struct device *device);
void fv_close_encoder(struct encoder *encoder);
struct packet *fv_encode(struct encoder *encoder, const struct buffer *buffer, bool key, bool with_headers);
struct packet *fv_parameter_sets(const struct encoder *encoder);
uint64_t fv_staged(const struct encoder *encoder);

/* report.c */
void fv_report(const struct device *device, const char *const *names, const uint64_t *counts, unsigned n);

#endif
