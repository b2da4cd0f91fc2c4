/* What a session came to: one line of JSON at its end. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "venc.h"

void fv_report(const struct device *device, const char *const *names, const uint64_t *counts, unsigned n) {
    char *text = NULL;
    size_t size = 0;
    FILE *to = *device->config.report ? open_memstream(&text, &size) : NULL;
    if (!to) return;
    fprintf(to, "{\"pictures\": %" PRIu64 ", \"packets\": %" PRIu64 ", \"staged_bytes\": %" PRIu64 ", \"ioctls\": {",
            device->pictures, device->packets, device->staged);
    const char *between = "";
    for (unsigned k = 0; k < n; k++) {
        if (counts[k]) fprintf(to, "%s\"%s\": %" PRIu64, between, names[k], counts[k]), between = ", ";
    }
    fprintf(to, "}}\n");
    fclose(to);
    /* one write: other sessions add lines, too */
    int fd = open(device->config.report, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0 || write(fd, text, size) != (ssize_t)size) perror(device->config.report);
    if (fd >= 0) close(fd);
    free(text);
}
