/* The plugin as libv4l2 sees it: a device is opened, asked by ioctl, and closed.
 *
 * The fd that was opened becomes a memfd of the session's own, so that mmap of it gives this session's buffers; it is
 * always ready to poll(). libv4l2 hands every ioctl of a device that is no plain capture device on, without a lock. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "venc.h"

/* libv4l2's interface of a plugin, as libv4l 1.22 has it. */
struct operations {
    void *(*init)(int fd);
    void (*close)(void *device);
    int (*ioctl)(void *device, int fd, unsigned long request, void *argument);
    ssize_t (*read)(void *device, int fd, void *to, size_t n);
    ssize_t (*write)(void *device, int fd, const void *from, size_t n);
    void (*reserved[7])(void);
};

static int querycap(struct device *device, void *argument) {
    struct v4l2_capability *to = argument;
    *to = (struct v4l2_capability){.version = 0x060100};
    strcpy((char *)to->driver, "featlink-venc");
    strcpy((char *)to->card, "featlink virtual HEVC encoder");
    strcpy((char *)to->bus_info, "platform:featlink-venc");
    to->device_caps = device->config.multi ? V4L2_CAP_VIDEO_M2M_MPLANE : V4L2_CAP_VIDEO_M2M;
    to->device_caps |= V4L2_CAP_STREAMING | V4L2_CAP_EXT_PIX_FORMAT;
    to->capabilities = to->device_caps | V4L2_CAP_DEVICE_CAPS;
    return 0;
}

static const struct {
    unsigned request;
    const char *name;
    int (*answer)(struct device *device, void *argument); /* 0, or an errno */
} ioctls[] = {
    {VIDIOC_QUERYCAP, "QUERYCAP", querycap},
    {VIDIOC_ENUM_FMT, "ENUM_FMT", fv_enum_fmt},
    {VIDIOC_ENUM_FRAMESIZES, "ENUM_FRAMESIZES", fv_enum_framesizes},
    {VIDIOC_G_FMT, "G_FMT", fv_g_fmt},
    {VIDIOC_S_FMT, "S_FMT", fv_s_fmt},
    {VIDIOC_TRY_FMT, "TRY_FMT", fv_try_fmt},
    {VIDIOC_G_SELECTION, "G_SELECTION", fv_g_selection},
    {VIDIOC_S_SELECTION, "S_SELECTION", fv_s_selection},
    {VIDIOC_G_PARM, "G_PARM", fv_g_parm},
    {VIDIOC_S_PARM, "S_PARM", fv_s_parm},
    {VIDIOC_QUERYCTRL, "QUERYCTRL", fv_queryctrl},
    {VIDIOC_QUERY_EXT_CTRL, "QUERY_EXT_CTRL", fv_query_ext_ctrl},
    {VIDIOC_QUERYMENU, "QUERYMENU", fv_querymenu},
    {VIDIOC_G_CTRL, "G_CTRL", fv_g_ctrl},
    {VIDIOC_S_CTRL, "S_CTRL", fv_s_ctrl},
    {VIDIOC_G_EXT_CTRLS, "G_EXT_CTRLS", fv_g_ext_ctrls},
    {VIDIOC_S_EXT_CTRLS, "S_EXT_CTRLS", fv_s_ext_ctrls},
    {VIDIOC_TRY_EXT_CTRLS, "TRY_EXT_CTRLS", fv_try_ext_ctrls},
    {VIDIOC_REQBUFS, "REQBUFS", fv_reqbufs},
    {VIDIOC_QUERYBUF, "QUERYBUF", fv_querybuf},
    {VIDIOC_EXPBUF, "EXPBUF", fv_expbuf},
    {VIDIOC_QBUF, "QBUF", fv_qbuf},
    {VIDIOC_DQBUF, "DQBUF", fv_dqbuf},
    {VIDIOC_STREAMON, "STREAMON", fv_streamon},
    {VIDIOC_STREAMOFF, "STREAMOFF", fv_streamoff},
    {VIDIOC_ENCODER_CMD, "ENCODER_CMD", fv_encoder_cmd},
    {VIDIOC_TRY_ENCODER_CMD, "TRY_ENCODER_CMD", fv_try_encoder_cmd},
};
enum { IOCTLS = sizeof ioctls / sizeof *ioctls };

struct session {
    struct device device;
    uint64_t counts[IOCTLS];
};

static int ask(void *opened, int fd, unsigned long request, void *argument) {
    struct session *session = opened;
    int wrong = ENOTTY;
    (void)fd;
    pthread_mutex_lock(&session->device.mutex);
    for (unsigned k = 0; k < IOCTLS; k++) {
        if (ioctls[k].request != (unsigned)request) continue;
        session->counts[k]++;
        wrong = ioctls[k].answer(&session->device, argument);
        break;
    }
    pthread_mutex_unlock(&session->device.mutex);
    if (!wrong) return 0;
    errno = wrong;
    return -1;
}

/* Puts a memfd in the place of the node's file, under the same number and with the same flags. */
static bool replace_fd(int fd) {
    int status = fcntl(fd, F_GETFL), flags = fcntl(fd, F_GETFD), memory = memfd_create("featlink-venc", MFD_CLOEXEC);
    bool done = memory >= 0 && fcntl(memory, F_SETFL, status & O_NONBLOCK) >= 0 &&
                dup3(memory, fd, flags & FD_CLOEXEC ? O_CLOEXEC : 0) >= 0;
    if (memory >= 0) close(memory);
    return done;
}

static void *open_device(int fd) {
    struct session *session = calloc(1, sizeof *session);
    struct device *device = &session->device;
    bool is_node = false;
    char marker[PATH_MAX + 16];
    if (!session) return NULL;
    if (!fv_read_config(fd, &device->config, &is_node) || !replace_fd(fd)) {
        free(session);
        return NULL;
    }
    device->fd = fd;
    device->last = &device->first;
    snprintf(marker, sizeof marker, "%s.faulted", device->config.node);
    device->faults_on = !device->config.first_session || access(marker, F_OK);
    fv_reset_formats(device);
    fv_reset_controls(device);
    pthread_mutex_init(&device->mutex, NULL);
    pthread_cond_init(&device->changed, NULL);
    if (pthread_create(&device->worker, NULL, fv_work, device)) {
        free(session);
        return NULL;
    }
    return session;
}

static void close_device(void *opened) {
    struct session *session = opened;
    struct device *device = &session->device;
    const char *names[IOCTLS];
    pthread_mutex_lock(&device->mutex);
    device->quit = true;
    pthread_cond_broadcast(&device->changed);
    pthread_mutex_unlock(&device->mutex);
    pthread_join(device->worker, NULL);
    for (unsigned k = 0; k < IOCTLS; k++) names[k] = ioctls[k].name;
    fv_report(device, names, session->counts, IOCTLS);
    fv_drop_packets(device);
    fv_close_encoder(device->encoder);
    fv_free_buffers(device, &device->output);
    fv_free_buffers(device, &device->capture);
    pthread_cond_destroy(&device->changed);
    pthread_mutex_destroy(&device->mutex);
    free(session);
}

__attribute__((visibility("default"))) const struct operations libv4l2_plugin = {
    .init = open_device,
    .close = close_device,
    .ioctl = ask,
};
