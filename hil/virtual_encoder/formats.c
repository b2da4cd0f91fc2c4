/* Raw and coded formats: their layout in memory, and sizes that are adjusted. */
#include <errno.h>
#include <string.h>

#include "venc.h"

static const struct raw_format {
    const char *name, *description;
    uint32_t fourcc;
    unsigned planes, components;
} raw_formats[RAW_FORMATS] = {
    {"GREY", "8-bit Greyscale", V4L2_PIX_FMT_GREY, 1, 1},
    {"NV12", "Y/UV 4:2:0", V4L2_PIX_FMT_NV12, 1, 2},
    {"YUV420", "Planar YUV 4:2:0", V4L2_PIX_FMT_YUV420, 1, 3},
    {"NV12M", "Y/UV 4:2:0 (N-C)", V4L2_PIX_FMT_NV12M, 2, 2},
    {"YUV420M", "Planar YUV 4:2:0 (N-C)", V4L2_PIX_FMT_YUV420M, 3, 3},
};

static const struct raw_format *raw_format(uint32_t fourcc) {
    for (unsigned k = 0; k < RAW_FORMATS; k++) {
        if (raw_formats[k].fourcc == fourcc) return &raw_formats[k];
    }
    return NULL;
}

const char *fv_raw_name(unsigned index) { return raw_formats[index].name; }
uint32_t fv_raw_fourcc(unsigned index) { return raw_formats[index].fourcc; }
unsigned fv_raw_planes(uint32_t fourcc) { return raw_format(fourcc)->planes; }

static uint32_t up(uint32_t value, uint32_t multiple) { return (value + multiple - 1) / multiple * multiple; }

/* Steps of both sides: chroma is halved, so that sides are even where there is any. */
static struct size steps(const struct config *config, uint32_t fourcc) {
    struct size step = config->step;
    if (fourcc != V4L2_PIX_FMT_GREY) step.width = up(step.width, 2), step.height = up(step.height, 2);
    return step;
}

static uint32_t adjusted(uint32_t asked, uint32_t least, uint32_t most, uint32_t step) {
    if (asked < least) asked = least;
    if (asked > most) asked = most;
    asked = up(asked, step);
    return asked > most ? asked - step : asked;
}

static struct raw_layout layout(const struct config *config, uint32_t fourcc, struct size asked) {
    struct raw_layout found = {.fourcc = config->raw[0]};
    for (unsigned k = 0; k < config->n_raw; k++) {
        if (config->raw[k] == fourcc) found.fourcc = fourcc;
    }
    const struct raw_format *format = raw_format(found.fourcc);
    struct size step = steps(config, found.fourcc), align = config->align;
    found.size.width = adjusted(asked.width, config->min.width, config->max.width, step.width);
    found.size.height = adjusted(asked.height, config->min.height, config->max.height, step.height);
    uint32_t rows = up(found.size.height, align.height), stride = up(found.size.width, align.width);
    if (format->components > 1) stride = up(stride, 2), rows = up(rows, 2);
    if (config->height_padded) found.size = (struct size){stride, rows};
    found.planes = format->planes;
    found.bytesperline[0] = stride;
    found.sizeimage[0] = stride * rows;
    if (found.planes == 1) {
        if (format->components > 1) found.sizeimage[0] += stride * rows / 2;
        return found;
    }
    for (unsigned k = 1; k < found.planes; k++) {
        /* each plane is padded on its own, as NVIDIA's surfaces are */
        found.bytesperline[k] = format->components == 2 ? stride : up(found.size.width / 2, align.width);
        found.sizeimage[k] = found.bytesperline[k] * (rows / 2);
    }
    return found;
}

struct components fv_components(const struct device *device) {
    const struct raw_layout *raw = &device->raw;
    const struct v4l2_rect *crop = &device->crop;
    uint32_t stride = raw->bytesperline[0], left = (uint32_t)crop->left, top = (uint32_t)crop->top;
    struct components found = {.count = raw_format(raw->fourcc)->components};
    found.stride[0] = stride;
    found.offset[0] = (size_t)stride * top + left;
    for (unsigned k = 1; k < found.count; k++) {
        size_t start = (size_t)stride * raw->size.height; /* of the height that was returned, not of the padded one */
        found.stride[k] = found.count == 2 ? stride : stride / 2;
        if (raw->planes > 1) {
            found.plane[k] = k, found.stride[k] = raw->bytesperline[k], start = 0;
        } else if (k == 2) {
            start += (size_t)found.stride[1] * (raw->size.height / 2);
        }
        found.offset[k] = start + (size_t)found.stride[k] * (top / 2) + (found.count == 2 ? left : left / 2);
    }
    return found;
}

uint32_t fv_capture_size(const struct device *device) {
    if (device->config.capture_size) return device->config.capture_size;
    /* lossless noise takes a little more than its samples */
    uint32_t enough = device->raw.size.width * device->raw.size.height * 2 + 65536 + device->config.data_offset;
    return device->capture_asked > enough && device->capture_asked < 1u << 30 ? device->capture_asked : enough;
}

static void use_layout(struct device *device, struct raw_layout raw) {
    device->raw = raw;
    device->crop = (struct v4l2_rect){0, 0, raw.size.width, raw.size.height};
    device->output.n_planes = raw.planes;
    device->capture.n_planes = 1;
}

void fv_reset_formats(struct device *device) {
    device->output.type = device->config.multi ? V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE : V4L2_BUF_TYPE_VIDEO_OUTPUT;
    device->capture.type = device->config.multi ? V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE : V4L2_BUF_TYPE_VIDEO_CAPTURE;
    device->interval = (struct v4l2_fract){1, 30};
    device->colours = (struct colours){V4L2_COLORSPACE_REC709, 0, 0, 0};
    use_layout(device, layout(&device->config, device->config.raw[0], (struct size){640, 480}));
}

int fv_enum_fmt(struct device *device, void *argument) {
    struct v4l2_fmtdesc *to = argument;
    struct v4l2_fmtdesc found = {.index = to->index, .type = to->type};
    if (to->type == device->capture.type && to->index == 0) {
        found.pixelformat = device->config.fourcc;
        found.flags = V4L2_FMT_FLAG_COMPRESSED;
        strcpy((char *)found.description, "HEVC");
    } else if (to->type == device->output.type && to->index < device->config.n_raw) {
        found.pixelformat = device->config.raw[to->index];
        strcpy((char *)found.description, raw_format(found.pixelformat)->description);
    } else {
        return EINVAL;
    }
    *to = found;
    return 0;
}

int fv_enum_framesizes(struct device *device, void *argument) {
    struct v4l2_frmsizeenum *to = argument;
    const struct config *config = &device->config;
    if (!config->enum_sizes) return ENOTTY;
    bool known = to->pixel_format == config->fourcc;
    for (unsigned k = 0; k < config->n_raw; k++) known |= to->pixel_format == config->raw[k];
    if (!known || to->index) return EINVAL;
    struct size step = steps(config, to->pixel_format == config->fourcc ? V4L2_PIX_FMT_GREY : to->pixel_format);
    to->type = V4L2_FRMSIZE_TYPE_STEPWISE;
    to->stepwise = (struct v4l2_frmsize_stepwise){
        .min_width = up(config->min.width, step.width),
        .max_width = config->max.width / step.width * step.width,
        .step_width = step.width,
        .min_height = up(config->min.height, step.height),
        .max_height = config->max.height / step.height * step.height,
        .step_height = step.height,
    };
    return 0;
}

static void tell_single(struct v4l2_pix_format *to, uint32_t fourcc, struct size size, const struct colours *colours) {
    *to = (struct v4l2_pix_format){
        .width = size.width, .height = size.height, .pixelformat = fourcc, .field = V4L2_FIELD_NONE,
        .colorspace = colours->colorspace, .priv = V4L2_PIX_FMT_PRIV_MAGIC, .ycbcr_enc = colours->encoding,
        .quantization = colours->quantization, .xfer_func = colours->transfer,
    };
}

static void tell_multi(struct v4l2_pix_format_mplane *to, uint32_t fourcc, struct size size,
                       const struct colours *from) {
    *to = (struct v4l2_pix_format_mplane){
        .width = size.width, .height = size.height, .pixelformat = fourcc, .field = V4L2_FIELD_NONE,
        .colorspace = from->colorspace, .num_planes = 1, .ycbcr_enc = (uint8_t)from->encoding,
        .quantization = (uint8_t)from->quantization, .xfer_func = (uint8_t)from->transfer,
    };
}

static void tell_raw(const struct device *device, const struct raw_layout *raw, struct v4l2_format *to,
                     const struct colours *colours) {
    if (!device->config.multi) {
        tell_single(&to->fmt.pix, raw->fourcc, raw->size, colours);
        to->fmt.pix.bytesperline = raw->bytesperline[0];
        to->fmt.pix.sizeimage = raw->sizeimage[0];
        return;
    }
    tell_multi(&to->fmt.pix_mp, raw->fourcc, raw->size, colours);
    to->fmt.pix_mp.num_planes = (uint8_t)raw->planes;
    for (unsigned k = 0; k < raw->planes; k++) {
        to->fmt.pix_mp.plane_fmt[k].bytesperline = raw->bytesperline[k];
        to->fmt.pix_mp.plane_fmt[k].sizeimage = raw->sizeimage[k];
    }
}

static void tell_coded(const struct device *device, struct v4l2_format *to, uint32_t sizeimage) {
    struct size size = {device->crop.width, device->crop.height};
    if (device->config.multi) {
        tell_multi(&to->fmt.pix_mp, device->config.fourcc, size, &device->colours);
        to->fmt.pix_mp.plane_fmt[0].sizeimage = sizeimage;
    } else {
        tell_single(&to->fmt.pix, device->config.fourcc, size, &device->colours);
        to->fmt.pix.sizeimage = sizeimage;
    }
}

int fv_g_fmt(struct device *device, void *argument) {
    struct v4l2_format *to = argument;
    if (to->type == device->output.type) {
        tell_raw(device, &device->raw, to, &device->colours);
    } else if (to->type == device->capture.type) {
        tell_coded(device, to, fv_capture_size(device));
    } else {
        return EINVAL;
    }
    return 0;
}

/* Of an application's format what is looked at. */
struct wish {
    uint32_t fourcc, sizeimage;
    struct size size;
    struct colours colours;
};

static struct wish wish(const struct device *device, const struct v4l2_format *from) {
    const struct v4l2_pix_format *pix = &from->fmt.pix;
    const struct v4l2_pix_format_mplane *many = &from->fmt.pix_mp;
    if (!device->config.multi)
        return (struct wish){pix->pixelformat, pix->sizeimage, {pix->width, pix->height},
                             {pix->colorspace, pix->xfer_func, pix->ycbcr_enc, pix->quantization}};
    return (struct wish){many->pixelformat, many->plane_fmt[0].sizeimage, {many->width, many->height},
                         {many->colorspace, many->xfer_func, many->ycbcr_enc, many->quantization}};
}

static int set_fmt(struct device *device, struct v4l2_format *format, bool keep) {
    struct queue *queue = fv_queue(device, format->type);
    if (!queue) return EINVAL;
    /* CAPTURE buffers were made for the picture's size */
    if (keep && (device->capture.n_buffers || queue->n_buffers)) return EBUSY;
    struct wish asked = wish(device, format);
    if (queue == &device->output) {
        struct raw_layout raw = layout(&device->config, asked.fourcc, asked.size);
        if (keep) device->colours = asked.colours, use_layout(device, raw);
        tell_raw(device, &raw, format, &asked.colours);
    } else {
        uint32_t before = device->capture_asked;
        device->capture_asked = asked.sizeimage;
        tell_coded(device, format, fv_capture_size(device));
        if (!keep) device->capture_asked = before;
    }
    if (keep) queue->format_set = true;
    return 0;
}

int fv_s_fmt(struct device *device, void *argument) { return set_fmt(device, argument, true); }
int fv_try_fmt(struct device *device, void *argument) { return set_fmt(device, argument, false); }
