/* Which part of a raw picture is coded, and how long a picture lasts. */
#include <errno.h>

#include "venc.h"

/* Either name of the type is right for a selection, whatever the buffers' type is. */
static bool is_output(uint32_t type) {
    return type == V4L2_BUF_TYPE_VIDEO_OUTPUT || type == V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE;
}

int fv_g_selection(struct device *device, void *argument) {
    struct v4l2_selection *to = argument;
    if (!device->config.crop) return ENOTTY;
    if (!is_output(to->type)) return EINVAL;
    switch (to->target) {
    case V4L2_SEL_TGT_CROP: to->r = device->crop; return 0;
    case V4L2_SEL_TGT_CROP_DEFAULT:
    case V4L2_SEL_TGT_CROP_BOUNDS:
        to->r = (struct v4l2_rect){0, 0, device->raw.size.width, device->raw.size.height};
        return 0;
    default: return EINVAL;
    }
}

/* A side of the rectangle that lies in the picture; `even`: start and length are. */
static void fit(int32_t *start, uint32_t *length, uint32_t whole, uint32_t least, bool even) {
    if (*start < 0) *start = 0;
    if (*length < least) *length = least;
    if (even) *start &= ~1, *length = (*length + 1) & ~1u;
    if (*length > whole) *length = whole;
    if ((uint32_t)*start > whole - *length) *start = (int32_t)(whole - *length);
}

int fv_s_selection(struct device *device, void *argument) {
    struct v4l2_selection *from = argument;
    if (!device->config.crop) return ENOTTY;
    if (!is_output(from->type) || from->target != V4L2_SEL_TGT_CROP) return EINVAL;
    if (device->output.streaming || device->capture.streaming) return EBUSY;
    bool even = device->raw.fourcc != V4L2_PIX_FMT_GREY;
    struct v4l2_rect rect = from->r;
    fit(&rect.left, &rect.width, device->raw.size.width, 17, even);
    fit(&rect.top, &rect.height, device->raw.size.height, 17, even);
    device->crop = from->r = rect;
    return 0;
}

int fv_g_parm(struct device *device, void *argument) {
    struct v4l2_streamparm *to = argument;
    if (!is_output(to->type)) return EINVAL;
    to->parm.output = (struct v4l2_outputparm){.capability = V4L2_CAP_TIMEPERFRAME, .timeperframe = device->interval};
    return 0;
}

int fv_s_parm(struct device *device, void *argument) {
    struct v4l2_streamparm *from = argument;
    struct v4l2_fract asked = from->parm.output.timeperframe;
    if (!is_output(from->type)) return EINVAL;
    device->interval = asked.numerator && asked.denominator ? asked : (struct v4l2_fract){1, 30};
    return fv_g_parm(device, argument);
}
