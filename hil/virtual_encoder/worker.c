/* The worker: pictures from OUTPUT into the encoder, packets into CAPTURE, and the drain at the end. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "venc.h"

/* Whether a fault that is due is had: with faults = first_session only one session ever has them. */
bool fv_fault(struct device *device) {
    if (!device->faults_on || device->fault_had || !device->config.first_session) return device->faults_on;
    char marker[PATH_MAX + 16];
    snprintf(marker, sizeof marker, "%s.faulted", device->config.node);
    int fd = open(marker, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
    device->faults_on = device->fault_had = fd >= 0;
    if (fd >= 0) close(fd);
    return device->faults_on;
}

static void push_packet(struct device *device, struct packet *packet) {
    *device->last = packet;
    device->last = &packet->next;
    device->held += packet->picture;
}

static struct packet *pop_packet(struct device *device) {
    struct packet *packet = device->first;
    device->first = packet->next;
    if (!device->first) device->last = &device->first;
    device->held -= packet->picture;
    return packet;
}

void fv_drop_packets(struct device *device) {
    while (device->first) free(pop_packet(device));
}

/* Nothing of the drain is still in OUTPUT. */
static bool drained(const struct device *device) { return device->drain == DRAINING && !device->drain_left; }

static bool packet_is_due(const struct device *device) {
    if (!device->first) return false;
    return !device->first->picture || device->drain == DRAINING || device->held > device->config.delay;
}

static void end_drain(struct device *device, struct buffer *buffer) {
    device->drain = device->config.eos_empty ? ENDED : STOPPED;
    if (!device->config.eos_empty) buffer->flags |= V4L2_BUF_FLAG_LAST;
}

/* Gives a CAPTURE buffer back, if there is one and something for it. */
static bool deliver(struct device *device) {
    bool packet_due = packet_is_due(device), end = drained(device) && !device->first;
    unsigned index;
    if (!(packet_due || end) || !fv_pop(&device->capture.queued, &index)) return false;
    struct buffer *buffer = &device->capture.buffers[index];
    if (end) {
        end_drain(device, buffer);
    } else {
        struct packet *packet = pop_packet(device);
        size_t offset = device->config.data_offset, room = fv_capture_size(device);
        buffer->timestamp = packet->timestamp;
        buffer->flags = packet->flags;
        if (packet->error || packet->size + offset > room) {
            buffer->flags = V4L2_BUF_FLAG_ERROR;
        } else {
            memcpy(buffer->planes[0].data + offset, packet->data, packet->size);
            buffer->data_offset = (uint32_t)offset;
            buffer->bytesused[0] = (uint32_t)(offset + packet->size);
        }
        free(packet);
        device->packets++;
        if (drained(device) && !device->first && device->config.last_has_data && !device->config.eos_empty)
            end_drain(device, buffer);
    }
    fv_finish(device, &device->capture, index);
    return true;
}

static bool has_error(struct device *device) {
    for (unsigned k = 0; k < device->config.n_errors; k++) {
        if (device->config.error_at[k] == device->pictures) return fv_fault(device);
    }
    return false;
}

static bool is_key(const struct device *device, const struct buffer *buffer) {
    uint32_t period = device->values[C_GOP_SIZE][0];
    if (device->config.family == NVIDIA) {
        if (device->values[N_ALLINTRA][0]) period = 1;
        else if (device->values[N_IDR_INTERVAL][0]) period = device->values[N_IDR_INTERVAL][0];
    }
    return buffer->force_key || (period && device->since_idr >= period);
}

static void encode(struct device *device, const struct buffer *buffer) {
    bool first = !device->encoder, failed = false;
    if (first) device->encoder = fv_open_encoder(device);
    if (!device->encoder) {
        device->broken = true;
        pthread_cond_broadcast(&device->changed);
        return;
    }
    bool error = has_error(device), key = first || is_key(device, buffer);
    enum headers headers = fv_headers(device);
    bool with_headers = key && (headers == EACH_IDR || (headers == FIRST && !device->headers_given));
    bool apart = headers == SEPARATE && !device->headers_given;
    struct packet *sets = NULL, *picture;
    device->busy = true;
    pthread_mutex_unlock(&device->mutex);
    if (apart) failed = !(sets = fv_parameter_sets(device->encoder));
    picture = fv_encode(device->encoder, buffer, key, with_headers);
    pthread_mutex_lock(&device->mutex);
    device->busy = false;
    failed |= !picture;
    device->staged = fv_staged(device->encoder);
    device->since_idr = key ? 1 : device->since_idr + 1;
    device->headers_given = true;
    device->pictures++;
    if (sets) push_packet(device, sets);
    if (picture) {
        /* The picture is lost, not undone: those after it refer to it, as with hardware. */
        picture->error = error;
        push_packet(device, picture);
    }
    device->broken |= failed;
    pthread_cond_broadcast(&device->changed);
}

/* Takes the next picture, if it may be taken. */
static bool take(struct device *device) {
    unsigned index;
    if (!device->output.queued.count || device->drain >= STOPPED || drained(device)) return false;
    /* as v4l2-mem2mem: a picture is taken when there is a buffer for what becomes of it */
    if (device->held + !device->capture.queued.count > device->config.delay) return false;
    if (device->faults_on && device->config.stall_at >= 0 && device->pictures >= (uint64_t)device->config.stall_at &&
        fv_fault(device)) {
        device->stalled = true;
        return false;
    }
    fv_pop(&device->output.queued, &index);
    if (device->drain_left) device->drain_left--;
    struct buffer *buffer = &device->output.buffers[index];
    if (!buffer->bytesused[0]) {
        device->drain = DRAINING;
        device->drain_left = 0;
    } else {
        encode(device, buffer);
        if (device->broken) return false;
    }
    /* STREAMOFF may have come meanwhile: then it waits for this, and takes the buffer back itself. */
    fv_finish(device, &device->output, index);
    return true;
}

static bool step(struct device *device) {
    if (!device->output.streaming && !drained(device)) return false;
    if (!device->capture.streaming || device->broken || device->stalled) return false;
    return deliver(device) || take(device);
}

void *fv_work(void *argument) {
    struct device *device = argument;
    pthread_mutex_lock(&device->mutex);
    while (!device->quit) {
        if (!step(device)) pthread_cond_wait(&device->changed, &device->mutex);
    }
    pthread_mutex_unlock(&device->mutex);
    return NULL;
}

int fv_try_encoder_cmd(struct device *device, void *argument) {
    struct v4l2_encoder_cmd *command = argument;
    if (!device->config.encoder_cmd) return ENOTTY;
    if (command->cmd != V4L2_ENC_CMD_STOP && command->cmd != V4L2_ENC_CMD_START) return EINVAL;
    command->flags = 0;
    return 0;
}

int fv_encoder_cmd(struct device *device, void *argument) {
    const struct v4l2_encoder_cmd *command = argument;
    int wrong = fv_try_encoder_cmd(device, argument);
    if (wrong) return wrong;
    if (device->drain == DRAINING) return EBUSY;
    if (command->cmd == V4L2_ENC_CMD_START) {
        device->drain = RUNNING;
        device->last_dequeued = false;
    } else if (device->drain == RUNNING && device->output.streaming && device->capture.streaming) {
        /* where not both stream: no error and no drain, as dev-encoder has it */
        device->drain = DRAINING;
        device->drain_left = device->output.queued.count;
    }
    pthread_cond_broadcast(&device->changed);
    return 0;
}
