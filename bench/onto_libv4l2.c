/* To be preloaded: whoever opens /dev/videoN by open(2) gets what libv4l2 makes of the file videoN of a folder.
 *
 * FEATLINK_BENCH_DEV    the folder, which also is listed in place of /dev
 * FEATLINK_LIBV4L2      the library
 *
 * The virtual encoder's fd is a memfd, always ready to poll(): poll() of it is made of DQBUF here, which waits as the
 * kernel's poll() would, and keeps what came until it is asked for. One thread a device. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PUBLIC __attribute__((visibility("default")))
#define IN (POLLIN | POLLRDNORM)
#define OUT (POLLOUT | POLLWRNORM)
enum { DEVICES = 8 };

/* What DQBUF gave, ahead of being asked. */
struct stash {
    bool full;
    int wrong; /* errno of that DQBUF */
    struct v4l2_buffer buffer;
    struct v4l2_plane planes[VIDEO_MAX_PLANES];
};

static struct device {
    bool open, multi;
    int fd;
    struct stash in, out;
} devices[DEVICES];
static unsigned long raised;

static int (*v4l2_open_)(const char *, int, ...);
static int (*v4l2_close_)(int);
static int (*v4l2_ioctl_)(int, unsigned long, ...);

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

static struct device *device_of(int fd) {
    for (unsigned k = 0; k < DEVICES; k++) {
        if (devices[k].open && devices[k].fd == fd) return &devices[k];
    }
    return NULL;
}

static bool load(void) {
    void *library = v4l2_open_ ? NULL : dlopen(getenv("FEATLINK_LIBV4L2"), RTLD_NOW);
    if (library) {
        *(void **)&v4l2_open_ = dlsym(library, "v4l2_open");
        *(void **)&v4l2_close_ = dlsym(library, "v4l2_close");
        *(void **)&v4l2_ioctl_ = dlsym(library, "v4l2_ioctl");
    }
    if (!v4l2_open_) fprintf(stderr, "%s\n", dlerror());
    return v4l2_open_;
}

static int open_device(const char *folder, const char *name, int flags) {
    char path[PATH_MAX];
    for (unsigned k = 0; k < DEVICES; k++) {
        struct device *device = &devices[k];
        if (device->open) continue;
        snprintf(path, sizeof path, "%s/%s", folder, name);
        *device = (struct device){.fd = load() ? v4l2_open_(path, flags) : -1};
        device->open = device->fd >= 0;
        return device->fd;
    }
    errno = EMFILE;
    return -1;
}

PUBLIC DIR *opendir(const char *path) {
    DIR *(*real)(const char *);
    *(void **)&real = next("opendir");
    const char *folder = getenv("FEATLINK_BENCH_DEV");
    return real(folder && !strcmp(path, "/dev") ? folder : path);
}

static int open_file(const char *function, const char *path, int flags, mode_t mode) {
    int (*real)(const char *, int, ...);
    const char *folder = getenv("FEATLINK_BENCH_DEV");
    if (folder && !strncmp(path, "/dev/video", 10)) return open_device(folder, path + 5, flags);
    *(void **)&real = next(function);
    return real(path, flags, mode);
}

PUBLIC int open(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = va_arg(list, mode_t);
    va_end(list);
    return open_file("open", path, flags, mode);
}

PUBLIC int open64(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = va_arg(list, mode_t);
    va_end(list);
    return open_file("open64", path, flags, mode);
}

PUBLIC int close(int fd) {
    int (*real)(int);
    struct device *device = device_of(fd);
    if (device) {
        device->open = false;
        return v4l2_close_(fd);
    }
    *(void **)&real = next("close");
    return real(fd);
}

/* POLLERR for a queue that does not stream, as in the kernel; else `events` where DQBUF has something to say, for which
 * it waits if it may. */
static int fill(const struct device *device, struct stash *stash, uint32_t type, int events, bool wait) {
    if (stash->full) return events;
    stash->buffer = (struct v4l2_buffer){.type = type, .memory = V4L2_MEMORY_MMAP};
    if (device->multi) {
        stash->buffer.type += V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE - V4L2_BUF_TYPE_VIDEO_CAPTURE;
        stash->buffer.m.planes = stash->planes, stash->buffer.length = VIDEO_MAX_PLANES;
    }
    int flags = wait ? fcntl(device->fd, F_GETFL) : 0;
    if (wait) fcntl(device->fd, F_SETFL, flags & ~O_NONBLOCK);
    stash->wrong = v4l2_ioctl_(device->fd, VIDIOC_DQBUF, &stash->buffer) ? errno : 0;
    if (wait) fcntl(device->fd, F_SETFL, flags);
    if (stash->wrong == EINVAL) return POLLERR;
    stash->full = stash->wrong != EAGAIN;
    return stash->full ? events : 0;
}

static int dequeue(struct device *device, struct v4l2_buffer *to) {
    struct stash *stash = V4L2_TYPE_IS_OUTPUT(to->type) ? &device->out : &device->in;
    struct v4l2_plane *planes = to->m.planes;
    if (!stash->full) return v4l2_ioctl_(device->fd, VIDIOC_DQBUF, to);
    stash->full = false;
    if (stash->wrong) {
        errno = stash->wrong;
        return -1;
    }
    *to = stash->buffer;
    if (device->multi) {
        memcpy(planes, stash->planes, to->length * sizeof *planes);
        to->m.planes = planes;
    }
    return 0;
}

/* The virtual encoder refuses a picture whose payload ends before its last sample, where most drivers do not look. */
static int queue(const struct device *device, struct v4l2_buffer *buffer) {
    int answer = v4l2_ioctl_(device->fd, VIDIOC_QBUF, buffer);
    if (!answer || errno != EINVAL || !V4L2_TYPE_IS_OUTPUT(buffer->type)) return answer;
    raised++;
    if (!device->multi) buffer->bytesused = buffer->length;
    for (unsigned k = 0; device->multi && k < buffer->length; k++)
        buffer->m.planes[k].bytesused = buffer->m.planes[k].length;
    return v4l2_ioctl_(device->fd, VIDIOC_QBUF, buffer);
}

/* Pictures whose payload was raised. */
PUBLIC unsigned long featlink_raised(void) { return raised; }

PUBLIC int ioctl(int fd, unsigned long request, ...) {
    int (*real)(int, unsigned long, ...);
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    struct device *device = device_of(fd);
    if (!device) {
        *(void **)&real = next("ioctl");
        return real(fd, request, argument);
    }
    request = (unsigned)request; /* it has 32 bits, and may come with its sign */
    if (request == VIDIOC_DQBUF) return dequeue(device, argument);
    if (request == VIDIOC_QBUF) return queue(device, argument);
    int answer = v4l2_ioctl_(fd, request, argument);
    if (request == VIDIOC_QUERYCAP && !answer)
        device->multi = ((struct v4l2_capability *)argument)->device_caps & V4L2_CAP_VIDEO_M2M_MPLANE;
    return answer;
}

PUBLIC int poll(struct pollfd *polled, nfds_t count, int timeout_ms) {
    int (*real)(struct pollfd *, nfds_t, int);
    struct device *device = count == 1 ? device_of(polled->fd) : NULL;
    if (!device) {
        *(void **)&real = next("poll");
        return real(polled, count, timeout_ms);
    }
    int wanted = polled->events, answer = 0;
    /* Whoever waits for both wants to go on when a picture was taken; what came of it is there then, too. */
    bool wait = timeout_ms && !device->in.full && !device->out.full;
    if (wanted & OUT) answer |= fill(device, &device->out, V4L2_BUF_TYPE_VIDEO_OUTPUT, wanted & OUT, wait);
    wait = wait && !(wanted & OUT);
    if (wanted & IN) answer |= fill(device, &device->in, V4L2_BUF_TYPE_VIDEO_CAPTURE, wanted & IN, wait);
    polled->revents = (short)answer;
    return answer != 0;
}
