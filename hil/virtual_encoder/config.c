/* The node's file: a magic line, then `key = value` lines. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "venc.h"

#define MAGIC "featlink virtual HEVC encoder"
enum { MAX_FILE = 65536 };

static const struct config defaults = {
    .crop = true,
    .enum_sizes = true,
    .encoder_cmd = true,
    .fourcc = V4L2_PIX_FMT_HEVC,
    .raw = {V4L2_PIX_FMT_NV12, V4L2_PIX_FMT_GREY},
    .n_raw = 2,
    .align = {1, 1},
    .min = {17, 17},
    .max = {8192, 8192},
    .step = {1, 1},
    .min_buffers = 1,
    .family = KERNEL,
    .eio_at = -1,
    .stall_at = -1,
};

/* One of two words: false for the first. */
static const char *read_choice(const char *value, const char *no, const char *yes, bool *to) {
    static _Thread_local char expected[64];
    if (!strcmp(value, no) || !strcmp(value, yes)) {
        *to = !strcmp(value, yes);
        return NULL;
    }
    snprintf(expected, sizeof expected, "%s or %s", no, yes);
    return expected;
}

static const char *read_number(const char *value, uint32_t most, uint32_t *to) {
    char *end;
    errno = 0;
    unsigned long found = strtoul(value, &end, 10);
    if (!isdigit((unsigned char)*value) || *end || errno || found > most) return "a number in range";
    *to = (uint32_t)found;
    return NULL;
}

static const char *read_size(const char *value, uint32_t least, struct size *to) {
    int used = 0;
    uint32_t width, height;
    if (sscanf(value, "%5ux%5u%n", &width, &height, &used) != 2 || value[used] || width < least || height < least ||
        width > 8192 || height > 8192)
        return least == 17 ? "WIDTHxHEIGHT, 17 to 8192 each: libx265's P pictures are wrong at 16" : "WIDTHxHEIGHT";
    *to = (struct size){width, height};
    return NULL;
}

/* Calls `take` for every item of a list, until one is wrong. */
static const char *read_list(struct config *config, char *value, const char *(*take)(struct config *, const char *)) {
    char *rest = value, *item;
    const char *wrong = NULL;
    while (!wrong && (item = strsep(&rest, ", \t"))) {
        if (*item) wrong = take(config, item);
    }
    return wrong;
}

static const char *take_format(struct config *config, const char *item) {
    for (unsigned k = 0; k < RAW_FORMATS; k++) {
        if (!strcmp(item, fv_raw_name(k)) && config->n_raw < RAW_FORMATS) {
            config->raw[config->n_raw++] = fv_raw_fourcc(k);
            return NULL;
        }
    }
    return "GREY, NV12, YUV420, NV12M, YUV420M";
}

static const char *take_refused(struct config *config, const char *item) {
    return fv_control_named(item, strlen(item), config->refused) ? NULL : "names of controls";
}

static const char *take_ignored(struct config *config, const char *item) {
    return fv_control_named(item, strlen(item), config->ignored) ? NULL : "names of controls";
}

static const char *take_error(struct config *config, const char *item) {
    if (config->n_errors == MAX_FAULTS) return "64 numbers at most";
    return read_number(item, UINT32_MAX, &config->error_at[config->n_errors++]);
}

static const char *read_when(const char *value, int64_t *to) {
    uint32_t found = 0;
    const char *wrong = read_number(value, UINT32_MAX, &found);
    if (!wrong) *to = found;
    return wrong;
}

static const char *read_headers(const char *value, enum headers *to) {
    static const char *const names[] = {[EACH_IDR] = "each_idr", [FIRST] = "first", [SEPARATE] = "separate"};
    for (unsigned k = 0; k < 3; k++) {
        if (!strcmp(value, names[k])) {
            *to = k;
            return NULL;
        }
    }
    return "each_idr, first or separate";
}

static const char *read_key(struct config *config, const char *key, char *value) {
    bool found = false;
    const char *wrong;
#define IS(name) (!strcmp(key, name))
    if (IS("planes")) return read_choice(value, "single", "multi", &config->multi);
    if (IS("fourcc")) {
        if ((wrong = read_choice(value, "HEVC", "H265", &found))) return wrong;
        config->fourcc = found ? v4l2_fourcc('H', '2', '6', '5') : V4L2_PIX_FMT_HEVC;
        return NULL;
    }
    if (IS("formats")) {
        config->n_raw = 0;
        wrong = read_list(config, value, take_format);
        return wrong ? wrong : config->n_raw ? NULL : "one format at least";
    }
    if (IS("align")) return read_size(value, 1, &config->align);
    if (IS("height_returned")) return read_choice(value, "asked", "padded", &config->height_padded);
    if (IS("crop")) return read_choice(value, "no", "yes", &config->crop);
    if (IS("min")) return read_size(value, 17, &config->min);
    if (IS("max")) return read_size(value, 17, &config->max);
    if (IS("step")) return read_size(value, 1, &config->step);
    if (IS("enum_sizes")) return read_choice(value, "no", "yes", &config->enum_sizes);
    if (IS("data_offset")) return read_number(value, 1 << 20, &config->data_offset);
    if (IS("last")) return read_choice(value, "empty", "data", &config->last_has_data);
    if (IS("encoder_cmd")) return read_choice(value, "no", "yes", &config->encoder_cmd);
    if (IS("eos")) return read_choice(value, "cmd", "empty_buffer", &config->eos_empty);
    if (IS("refuse")) return read_list(config, value, take_refused);
    if (IS("ignore")) return read_list(config, value, take_ignored);
    if (IS("controls")) {
        if ((wrong = read_choice(value, "kernel", "nvidia", &found))) return wrong;
        config->family = found ? NVIDIA : KERNEL;
        return NULL;
    }
    if (IS("headers")) return read_headers(value, &config->headers);
    if (IS("extra_buffers")) return read_number(value, MAX_BUFFERS, &config->extra_buffers);
    if (IS("fewer_buffers")) return read_number(value, MAX_BUFFERS, &config->fewer_buffers);
    if (IS("min_buffers")) return read_number(value, MAX_BUFFERS, &config->min_buffers);
    if (IS("delay")) return read_number(value, MAX_BUFFERS, &config->delay);
    if (IS("error_at")) return read_list(config, value, take_error);
    if (IS("eio_at")) return read_when(value, &config->eio_at);
    if (IS("stall_at")) return read_when(value, &config->stall_at);
    if (IS("faults")) return read_choice(value, "every_session", "first_session", &config->first_session);
    if (IS("capture_size")) return read_number(value, 1u << 30, &config->capture_size);
    if (IS("mapping")) return read_choice(value, "mmap", "export", &config->export);
    if (IS("report")) {
        if (*value != '/' || strlen(value) >= sizeof config->report) return "an absolute path";
        strcpy(config->report, value);
        return NULL;
    }
#undef IS
    return "a key of the virtual encoder";
}

/* What the keys say together. */
static const char *contradiction(const struct config *config) {
    for (unsigned k = 0; k < config->n_raw; k++) {
        if (!config->multi && fv_raw_planes(config->raw[k]) > 1)
            return "formats: NV12M and YUV420M need planes = multi";
    }
    if (!config->multi && config->data_offset) return "data_offset: needs planes = multi";
    if (config->min.width > config->max.width || config->min.height > config->max.height) return "min: beyond max";
    return NULL;
}

static char *trimmed(char *text) {
    while (isspace((unsigned char)*text)) text++;
    for (size_t n = strlen(text); n && isspace((unsigned char)text[n - 1]);) text[--n] = 0;
    return text;
}

static bool read_lines(struct config *config, char *rest) {
    char *line;
    while ((line = strsep(&rest, "\n"))) {
        char *key = trimmed(line), *value = strchr(key, '=');
        if (!*key || *key == '#') continue;
        if (!value) {
            fprintf(stderr, "%s: found '%s', expected key = value\n", config->node, key);
            return false;
        }
        *value++ = 0;
        key = trimmed(key), value = trimmed(value);
        char found[256];
        snprintf(found, sizeof found, "%s", value);
        const char *wrong = read_key(config, key, value);
        if (wrong) {
            fprintf(stderr, "%s: key '%s': found '%s', expected %s\n", config->node, key, found, wrong);
            return false;
        }
    }
    const char *wrong = contradiction(config);
    if (wrong) fprintf(stderr, "%s: %s\n", config->node, wrong);
    return !wrong;
}

bool fv_read_config(int fd, struct config *config, bool *is_node) {
    struct stat info;
    char start[sizeof MAGIC], link[32], text[MAX_FILE];
    *is_node = false;
    /* Other people's devices are opened through this library, too: they are not to be read from. */
    if (fstat(fd, &info) || !S_ISREG(info.st_mode)) return false;
    if (pread(fd, start, sizeof start, 0) != sizeof start || memcmp(start, MAGIC "\n", sizeof start)) return false;
    *is_node = true;
    *config = defaults;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, config->node, sizeof config->node - 1);
    ssize_t size = pread(fd, text, sizeof text - 1, sizeof start);
    if (length < 0 || size < 0 || size == sizeof text - 1) {
        fprintf(stderr, "virtual encoder: the node's file cannot be read, or has more than %d bytes\n", MAX_FILE);
        return false;
    }
    text[size] = 0;
    return read_lines(config, text);
}
