/* libx265: the bytes of a picture, the same in every run. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <x265.h>

#include "venc.h"

/* All encoders of a process must agree on it; the smallest lets pictures be small. */
enum { CTU = 16 };

struct encoder {
    x265_encoder *x265;
    x265_param *param;
    x265_picture *in, *out;
    struct packet *sets;
    struct components parts;
    size_t chroma_width, chroma_rows;
    uint8_t *chroma; /* both planes of it, for interleaved chroma: libx265 takes none */
    uint64_t staged;
};

/* Encoders are opened in many threads, and libx265 sets up what they share without a lock. */
static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;

static void set_rate(x265_param *param, const struct device *device) {
    const uint32_t(*values)[6] = device->values;
    bool kernel = device->config.family == KERNEL;
    uint32_t i_qp = kernel ? values[C_I_QP][0] : values[N_INIT_FRAME_QP][0];
    uint32_t p_qp = kernel ? values[C_P_QP][0] : values[N_INIT_FRAME_QP][1];
    param->rc.aqMode = X265_AQ_NONE;
    param->rc.cuTree = 0;
    param->bLossless = kernel && values[C_LOSSLESS][0];
    if (param->bLossless || !values[C_FRAME_RC_ENABLE][0]) {
        param->rc.rateControlMode = X265_RC_CQP;
        param->rc.qp = (int)p_qp;
        /* the QP of I pictures, as libx265 wants to be told it */
        param->rc.ipFactor = exp2(((double)p_qp - (double)i_qp) / 6);
        return;
    }
    param->rc.rateControlMode = X265_RC_ABR;
    param->rc.bitrate = (int)(values[C_BITRATE][0] / 1000);
    param->rc.qpMin = (int)(kernel ? values[C_MIN_QP][0] : values[N_QP_RANGE][2]);
    param->rc.qpMax = (int)(kernel ? values[C_MAX_QP][0] : values[N_QP_RANGE][3]);
}

static void set_param(x265_param *param, const struct device *device, unsigned components) {
    x265_param_default_preset(param, "ultrafast", "zerolatency");
    param->logLevel = X265_LOG_ERROR;
    param->sourceWidth = (int)device->crop.width;
    param->sourceHeight = (int)device->crop.height;
    param->fpsNum = device->interval.denominator;
    param->fpsDenom = device->interval.numerator;
    param->internalCsp = components == 1 ? X265_CSP_I400 : X265_CSP_I420;
    param->maxCUSize = CTU;
    param->minCUSize = 8;
    /* one thread, no choice that depends on time */
    param->numaPools = "none";
    param->frameNumThreads = 1;
    param->bEnableWavefront = 0;
    /* one packet a picture; which are IDR is said with each */
    param->bframes = 0;
    param->lookaheadDepth = 0;
    param->scenecutThreshold = 0;
    param->bOpenGOP = 0;
    param->keyframeMax = -1;
    param->keyframeMin = 1;
    param->bAnnexB = 1;
    param->bEmitInfoSEI = 0;
    param->bRepeatHeaders = 0;
    set_rate(param, device);
}

static struct packet *pack(const struct packet *sets, const x265_nal *nals, uint32_t count) {
    size_t before = sets ? sets->size : 0, size = before;
    for (uint32_t k = 0; k < count; k++) size += nals[k].sizeBytes;
    struct packet *packet = calloc(1, sizeof *packet + size);
    if (!packet) return NULL;
    if (sets) memcpy(packet->data, sets->data, before);
    packet->size = before;
    for (uint32_t k = 0; k < count; k++) {
        memcpy(packet->data + packet->size, nals[k].payload, nals[k].sizeBytes);
        packet->size += nals[k].sizeBytes;
    }
    return packet;
}

struct encoder *fv_open_encoder(const struct device *device) {
    struct encoder *encoder = calloc(1, sizeof *encoder);
    x265_nal *nals;
    uint32_t count;
    if (!encoder) return NULL;
    encoder->parts = fv_components(device);
    encoder->chroma_width = device->crop.width / 2, encoder->chroma_rows = device->crop.height / 2;
    pthread_mutex_lock(&opening);
    encoder->param = x265_param_alloc();
    if (encoder->param) {
        set_param(encoder->param, device, encoder->parts.count);
        encoder->x265 = x265_encoder_open(encoder->param);
    }
    pthread_mutex_unlock(&opening);
    /* now, and never again: libx265 would add them to the last picture's NAL units */
    if (encoder->x265 && x265_encoder_headers(encoder->x265, &nals, &count) >= 0)
        encoder->sets = pack(NULL, nals, count);
    encoder->in = x265_picture_alloc(), encoder->out = x265_picture_alloc();
    if (encoder->parts.count == 2) encoder->chroma = malloc(encoder->chroma_width * encoder->chroma_rows * 2);
    if (encoder->sets && encoder->in && encoder->out && (encoder->parts.count != 2 || encoder->chroma)) return encoder;
    fv_close_encoder(encoder);
    return NULL;
}

void fv_close_encoder(struct encoder *encoder) {
    if (!encoder) return;
    pthread_mutex_lock(&opening);
    if (encoder->x265) x265_encoder_close(encoder->x265);
    if (encoder->param) x265_param_free(encoder->param);
    pthread_mutex_unlock(&opening);
    if (encoder->in) x265_picture_free(encoder->in);
    if (encoder->out) x265_picture_free(encoder->out);
    free(encoder->sets);
    free(encoder->chroma);
    free(encoder);
}

struct packet *fv_parameter_sets(const struct encoder *encoder) { return pack(encoder->sets, NULL, 0); }

/* Chroma that is interleaved comes apart: the one copy of samples that is made here. */
static void split_chroma(struct encoder *encoder, const uint8_t *from) {
    size_t width = encoder->chroma_width, size = width * encoder->chroma_rows;
    for (size_t y = 0; y < encoder->chroma_rows; y++) {
        uint8_t *to = encoder->chroma + y * width;
        const uint8_t *row = from + y * encoder->parts.stride[1];
        for (size_t x = 0; x < width; x++) to[x] = row[2 * x], to[size + x] = row[2 * x + 1];
    }
    encoder->staged += 2 * size;
    for (unsigned k = 0; k < 2; k++) {
        encoder->in->planes[1 + k] = encoder->chroma + k * size;
        encoder->in->stride[1 + k] = (int)width;
    }
}

struct packet *fv_encode(struct encoder *encoder, const struct buffer *buffer, bool key, bool with_headers) {
    struct packet *packet = NULL;
    x265_nal *nals;
    uint32_t count;
    const struct components *parts = &encoder->parts;
    x265_picture_init(encoder->param, encoder->in);
    for (unsigned k = 0; k < parts->count; k++) {
        encoder->in->planes[k] = buffer->planes[parts->plane[k]].data + parts->offset[k];
        encoder->in->stride[k] = (int)parts->stride[k];
    }
    if (encoder->chroma) split_chroma(encoder, encoder->in->planes[1]);
    encoder->in->bitDepth = 8;
    encoder->in->sliceType = key ? X265_TYPE_IDR : X265_TYPE_P;
    if (x265_encoder_encode(encoder->x265, &nals, &count, encoder->in, encoder->out) == 1)
        packet = pack(with_headers ? encoder->sets : NULL, nals, count);
    if (!packet) return NULL;
    packet->picture = true;
    packet->flags = key ? V4L2_BUF_FLAG_KEYFRAME : V4L2_BUF_FLAG_PFRAME;
    packet->timestamp = buffer->timestamp;
    return packet;
}

uint64_t fv_staged(const struct encoder *encoder) { return encoder->staged; }
