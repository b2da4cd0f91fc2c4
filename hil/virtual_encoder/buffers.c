/* Buffers' memory: one memfd that is the application's fd, or one a plane that VIDIOC_EXPBUF hands out. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "venc.h"

enum { PAGE = 4096 };
/* Of a device whose buffers map by VIDIOC_EXPBUF alone: mmap refuses an offset within a page. */
#define NO_OFFSET 0x7e57ab1u

struct queue *fv_queue(struct device *device, uint32_t type) {
    return type == device->output.type ? &device->output : type == device->capture.type ? &device->capture : NULL;
}

static int map_plane(struct device *device, struct plane *plane, size_t length) {
    *plane = (struct plane){.length = (length + PAGE - 1) / PAGE * PAGE, .fd = -1};
    int fd = device->fd;
    if (device->config.export) {
        fd = plane->fd = memfd_create("featlink-plane", MFD_CLOEXEC);
        plane->offset = NO_OFFSET;
        if (fd < 0 || ftruncate(fd, (off_t)plane->length)) return ENOMEM;
    } else {
        if (plane->length > UINT32_MAX - device->next_offset) return ENOMEM; /* of 32 bits in QUERYBUF */
        plane->offset = device->next_offset;
        device->next_offset += (uint32_t)plane->length;
        if (ftruncate(fd, device->next_offset)) return ENOMEM;
    }
    off_t start = plane->fd < 0 ? plane->offset : 0;
    void *data = mmap(NULL, plane->length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, start);
    if (data == MAP_FAILED) return ENOMEM;
    plane->data = data;
    return 0;
}

static void unmap_plane(struct device *device, struct plane *plane) {
    if (plane->data) munmap(plane->data, plane->length);
    if (plane->fd >= 0) {
        close(plane->fd);
    } else if (plane->data) {
        fallocate(device->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, plane->offset, (off_t)plane->length);
    }
    *plane = (struct plane){.fd = -1};
}

void fv_free_buffers(struct device *device, struct queue *queue) {
    for (unsigned k = 0; k < queue->n_buffers; k++) {
        for (unsigned j = 0; j < MAX_PLANES; j++) unmap_plane(device, &queue->buffers[k].planes[j]);
    }
    queue->n_buffers = 0;
    queue->queued = queue->done = (struct fifo){0};
    if (!device->output.n_buffers && !device->capture.n_buffers) device->next_offset = 0;
}

static uint32_t granted(const struct device *device, const struct queue *queue, uint32_t asked) {
    const struct config *config = &device->config;
    if (queue == &device->output && asked < config->min_buffers) asked = config->min_buffers;
    asked += asked < MAX_BUFFERS ? config->extra_buffers : 0;
    if (asked > MAX_BUFFERS) asked = MAX_BUFFERS;
    return asked > config->fewer_buffers ? asked - config->fewer_buffers : 1;
}

int fv_reqbufs(struct device *device, void *argument) {
    struct v4l2_requestbuffers *request = argument;
    struct queue *queue = fv_queue(device, request->type);
    if (!queue || request->memory != V4L2_MEMORY_MMAP) return EINVAL;
    if (queue->streaming || device->busy) return EBUSY;
    fv_free_buffers(device, queue);
    request->capabilities = V4L2_BUF_CAP_SUPPORTS_MMAP;
    if (!request->count) return 0;
    uint32_t count = granted(device, queue, request->count);
    for (uint32_t k = 0; k < count; k++) {
        struct buffer *buffer = &queue->buffers[k];
        *buffer = (struct buffer){.state = IDLE};
        for (unsigned j = 0; j < MAX_PLANES; j++) buffer->planes[j].fd = -1;
        queue->n_buffers = k + 1;
        for (unsigned j = 0; j < queue->n_planes; j++) {
            uint32_t size = queue == &device->output ? device->raw.sizeimage[j] : fv_capture_size(device);
            int wrong = map_plane(device, &buffer->planes[j], size);
            if (wrong) return fv_free_buffers(device, queue), wrong;
        }
    }
    request->count = count;
    return 0;
}

int fv_tell_buffer(struct device *device, struct queue *queue, unsigned index, struct v4l2_buffer *to) {
    const struct buffer *buffer = &queue->buffers[index];
    const uint32_t states[] = {[IDLE] = 0, [QUEUED] = V4L2_BUF_FLAG_QUEUED, [DONE] = V4L2_BUF_FLAG_DONE};
    bool multi = device->config.multi;
    if (multi && (!to->m.planes || to->length < queue->n_planes || to->length > VIDEO_MAX_PLANES)) return EINVAL;
    to->index = index;
    to->type = queue->type;
    to->memory = V4L2_MEMORY_MMAP;
    to->field = V4L2_FIELD_NONE;
    to->flags = buffer->flags | states[buffer->state] | V4L2_BUF_FLAG_TIMESTAMP_COPY;
    to->timestamp = buffer->timestamp;
    to->sequence = buffer->sequence;
    if (!multi) {
        to->bytesused = buffer->bytesused[0];
        to->length = (uint32_t)buffer->planes[0].length;
        to->m.offset = buffer->planes[0].offset;
        return 0;
    }
    to->bytesused = 0;
    to->length = queue->n_planes;
    for (unsigned k = 0; k < queue->n_planes; k++) {
        struct v4l2_plane *plane = &to->m.planes[k];
        *plane = (struct v4l2_plane){.bytesused = buffer->bytesused[k], .length = (uint32_t)buffer->planes[k].length,
                                     .m.mem_offset = buffer->planes[k].offset, .data_offset = buffer->data_offset};
    }
    return 0;
}

int fv_querybuf(struct device *device, void *argument) {
    struct v4l2_buffer *to = argument;
    struct queue *queue = fv_queue(device, to->type);
    if (!queue || to->index >= queue->n_buffers) return EINVAL;
    return fv_tell_buffer(device, queue, to->index, to);
}

int fv_expbuf(struct device *device, void *argument) {
    struct v4l2_exportbuffer *to = argument;
    struct queue *queue = fv_queue(device, to->type);
    if (!device->config.export) return ENOTTY;
    if (!queue || to->index >= queue->n_buffers || to->plane >= queue->n_planes) return EINVAL;
    int how = to->flags & O_CLOEXEC ? F_DUPFD_CLOEXEC : F_DUPFD;
    int fd = fcntl(queue->buffers[to->index].planes[to->plane].fd, how, 0);
    if (fd < 0) return errno;
    to->fd = fd;
    return 0;
}
