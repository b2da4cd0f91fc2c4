/* What lies in which queue: buffers go in, are taken and finished by the worker, and come out again. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "venc.h"

static void push(struct fifo *fifo, unsigned item) {
    fifo->items[(fifo->head + fifo->count++) % MAX_BUFFERS] = (uint8_t)item;
}

bool fv_pop(struct fifo *fifo, unsigned *item) {
    if (!fifo->count) return false;
    *item = fifo->items[fifo->head];
    fifo->head = (fifo->head + 1) % MAX_BUFFERS, fifo->count--;
    return true;
}

void fv_finish(struct device *device, struct queue *queue, unsigned index) {
    queue->buffers[index].state = DONE;
    queue->buffers[index].sequence = queue->sequence++;
    push(&queue->done, index);
    pthread_cond_broadcast(&device->changed);
}

/* Bytes of a plane up to its last sample: fewer are a picture that is not whole. */
static size_t needed(const struct device *device, unsigned plane) {
    struct components parts = fv_components(device);
    size_t most = 0;
    for (unsigned k = 0; k < parts.count; k++) {
        if (parts.plane[k] != plane) continue;
        uint32_t width = k && parts.count == 3 ? device->crop.width / 2 : device->crop.width;
        uint32_t rows = k ? device->crop.height / 2 : device->crop.height;
        size_t end = parts.offset[k] + (size_t)parts.stride[k] * (rows - 1) + width;
        if (end > most) most = end;
    }
    return most;
}

static int take_output(struct device *device, struct buffer *buffer, const struct v4l2_buffer *from) {
    uint32_t used[MAX_PLANES] = {0};
    if (from->field != V4L2_FIELD_NONE && from->field != V4L2_FIELD_ANY) return EINVAL;
    for (unsigned k = 0; k < device->output.n_planes; k++) {
        used[k] = device->config.multi ? from->m.planes[k].bytesused : from->bytesused;
        if (device->config.multi && from->m.planes[k].data_offset) return EINVAL;
        if (used[k] > buffer->planes[k].length) return EINVAL;
    }
    if (used[0] || !device->config.eos_empty) {
        for (unsigned k = 0; k < device->output.n_planes; k++) {
            if (used[k] < needed(device, k)) return EINVAL;
        }
        buffer->force_key = device->force_key;
        device->force_key = false;
    }
    memcpy(buffer->bytesused, used, sizeof used);
    buffer->timestamp = from->timestamp;
    buffer->flags = 0;
    return 0;
}

int fv_qbuf(struct device *device, void *argument) {
    struct v4l2_buffer *from = argument;
    struct queue *queue = fv_queue(device, from->type);
    if (!queue) return EINVAL;
    if (queue == &device->output && device->faults_on && device->config.eio_at >= 0 &&
        device->output_queued++ >= (uint64_t)device->config.eio_at && fv_fault(device)) {
        device->broken = true;
        pthread_cond_broadcast(&device->changed);
    }
    if (device->broken) return EIO;
    if (from->index >= queue->n_buffers || from->memory != V4L2_MEMORY_MMAP) return EINVAL;
    struct buffer *buffer = &queue->buffers[from->index];
    if (buffer->state != IDLE) return EINVAL;
    if (device->config.multi && (!from->m.planes || from->length < queue->n_planes || from->length > VIDEO_MAX_PLANES))
        return EINVAL;
    if (queue == &device->output) {
        int wrong = take_output(device, buffer, from);
        if (wrong) return wrong;
    } else {
        *buffer->bytesused = buffer->data_offset = buffer->flags = 0;
        buffer->timestamp = (struct timeval){0};
    }
    buffer->state = QUEUED;
    push(&queue->queued, from->index);
    pthread_cond_broadcast(&device->changed);
    return fv_tell_buffer(device, queue, from->index, from);
}

int fv_dqbuf(struct device *device, void *argument) {
    struct v4l2_buffer *to = argument;
    struct queue *queue = fv_queue(device, to->type);
    if (!queue || to->memory != V4L2_MEMORY_MMAP) return EINVAL;
    if (device->config.multi && (!to->m.planes || to->length < queue->n_planes || to->length > VIDEO_MAX_PLANES))
        return EINVAL;
    unsigned stream = queue->streams;
    for (;;) {
        /* off, or off and on again */
        if (!queue->streaming || queue->streams != stream) return EINVAL;
        if (device->broken) return EIO;
        if (queue->done.count) break;
        if (queue == &device->capture && device->last_dequeued) return EPIPE;
        /* as the application has it now, not as it opened the device */
        if (fcntl(device->fd, F_GETFL) & O_NONBLOCK) return EAGAIN;
        pthread_cond_wait(&device->changed, &device->mutex);
    }
    unsigned index = 0;
    fv_pop(&queue->done, &index);
    queue->buffers[index].state = IDLE;
    if (queue->buffers[index].flags & V4L2_BUF_FLAG_LAST) device->last_dequeued = true;
    pthread_cond_broadcast(&device->changed);
    return fv_tell_buffer(device, queue, index, to);
}

int fv_streamon(struct device *device, void *argument) {
    struct queue *queue = fv_queue(device, *(uint32_t *)argument);
    if (!queue || !queue->n_buffers) return EINVAL;
    queue->streaming = true;
    pthread_cond_broadcast(&device->changed);
    return 0;
}

int fv_streamoff(struct device *device, void *argument) {
    struct queue *queue = fv_queue(device, *(uint32_t *)argument);
    if (!queue) return EINVAL;
    bool was = queue->streaming;
    queue->streaming = false;
    queue->streams++;
    pthread_cond_broadcast(&device->changed);
    /* The worker reads and writes buffers without the mutex. */
    while (device->busy) pthread_cond_wait(&device->changed, &device->mutex);
    queue->queued = queue->done = (struct fifo){0};
    for (unsigned k = 0; k < queue->n_buffers; k++) queue->buffers[k].state = IDLE, queue->buffers[k].flags = 0;
    queue->sequence = 0;
    if (device->stalled) device->stalled = false, device->config.stall_at = -1;
    if (queue == &device->output) {
        device->drain_left = 0; /* a drain that waits for what is gone now ends */
        pthread_cond_broadcast(&device->changed);
    } else if (was) {
        /* What is coded from here on starts anew: dev-encoder, "Reset" */
        fv_drop_packets(device);
        fv_close_encoder(device->encoder);
        device->encoder = NULL;
        device->drain = RUNNING, device->last_dequeued = device->headers_given = false;
    }
    return 0;
}
