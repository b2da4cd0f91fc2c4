/* Controls: what there is, what values they take, what the application set. */
#include <errno.h>
#include <linux/v4l2-controls.h>
#include <string.h>

#include "venc.h"

/* NVIDIA's own, in the same class: numbers of its header. */
#define OWN(n) (0x990900 + (n))
enum { INT = V4L2_CTRL_TYPE_INTEGER, BOOL = V4L2_CTRL_TYPE_BOOLEAN, MENU = V4L2_CTRL_TYPE_MENU,
       BUTTON = V4L2_CTRL_TYPE_BUTTON, WORDS = V4L2_CTRL_TYPE_U32 };

static const struct control {
    const char *name;        /* in the node's file */
    const char *description;
    uint32_t id;
    enum family family;
    uint32_t type;
    int32_t min, max, initial;
    unsigned words;          /* of a struct control */
    bool at_run_time;
} controls[CONTROLS] = {
    [C_MIN_BUFFERS] = {"min_buffers", "Min Number of Output Buffers",
        V4L2_CID_MIN_BUFFERS_FOR_OUTPUT, BOTH, INT, 1, 32, 1},
    [C_B_FRAMES] = {"b_frames", "Number of B Frames", V4L2_CID_MPEG_VIDEO_B_FRAMES, KERNEL, INT, 0, 0, 0},
    [C_GOP_SIZE] = {"gop_size", "Video GOP Size", V4L2_CID_MPEG_VIDEO_GOP_SIZE, BOTH, INT, 0, 65535, 30},
    [C_BITRATE_MODE] = {"bitrate_mode", "Video Bitrate Mode", V4L2_CID_MPEG_VIDEO_BITRATE_MODE, BOTH, MENU, 0, 1, 0},
    [C_BITRATE] = {"bitrate", "Video Bitrate", V4L2_CID_MPEG_VIDEO_BITRATE, BOTH, INT, 1000, 1000000000, 2000000},
    [C_FRAME_RC_ENABLE] = {"frame_rc_enable", "Frame Level Rate Control Enable",
        V4L2_CID_MPEG_VIDEO_FRAME_RC_ENABLE, BOTH, BOOL, 0, 1, 1},
    [C_HEADER_MODE] = {"header_mode", "Sequence Header Mode", V4L2_CID_MPEG_VIDEO_HEADER_MODE, KERNEL, MENU, 0, 1, 1},
    [C_REPEAT_SEQ_HEADER] = {"repeat_seq_header", "Repeat Sequence Header",
        V4L2_CID_MPEG_VIDEO_REPEAT_SEQ_HEADER, KERNEL, BOOL, 0, 1, 0},
    [C_FORCE_KEY_FRAME] = {"force_key_frame", "Force Key Frame",
        V4L2_CID_MPEG_VIDEO_FORCE_KEY_FRAME, KERNEL, BUTTON, 0, 0, 0, .at_run_time = true},
    [C_MIN_QP] = {"min_qp", "HEVC Minimum QP Value", V4L2_CID_MPEG_VIDEO_HEVC_MIN_QP, KERNEL, INT, 0, 51, 0},
    [C_MAX_QP] = {"max_qp", "HEVC Maximum QP Value", V4L2_CID_MPEG_VIDEO_HEVC_MAX_QP, KERNEL, INT, 0, 51, 51},
    [C_I_QP] = {"i_qp", "HEVC I-Frame QP Value", V4L2_CID_MPEG_VIDEO_HEVC_I_FRAME_QP, KERNEL, INT, 1, 51, 26},
    [C_P_QP] = {"p_qp", "HEVC P-Frame QP Value", V4L2_CID_MPEG_VIDEO_HEVC_P_FRAME_QP, KERNEL, INT, 1, 51, 28},
    [C_B_QP] = {"b_qp", "HEVC B-Frame QP Value", V4L2_CID_MPEG_VIDEO_HEVC_B_FRAME_QP, KERNEL, INT, 1, 51, 30},
    [C_PROFILE] = {"profile", "HEVC Profile", V4L2_CID_MPEG_VIDEO_HEVC_PROFILE, KERNEL, MENU, 0, 0, 0},
    [C_LEVEL] = {"level", "HEVC Level", V4L2_CID_MPEG_VIDEO_HEVC_LEVEL, KERNEL, MENU, 0, 12, 12},
    [C_LOSSLESS] = {"lossless", "Lossless Encoding", V4L2_CID_MPEG_VIDEO_HEVC_LOSSLESS_CU, KERNEL, BOOL, 0, 1, 0},
    [C_PREPEND_SPSPPS] = {"prepend_spspps", "Prepend SPS/PPS to IDR",
        V4L2_CID_MPEG_VIDEO_PREPEND_SPSPPS_TO_IDR, KERNEL, BOOL, 0, 1, 0},
    [N_H265_PROFILE] = {"h265_profile", "H265 Profile", OWN(513), NVIDIA, MENU, 0, 0, 0},
    [N_IDR_INTERVAL] = {"idr_interval", "IDR Interval", OWN(514), NVIDIA, INT, 0, 65535, 0},
    [N_NUM_BFRAMES] = {"num_bframes", "Number of B Frames", OWN(534), NVIDIA, INT, 0, 0, 0},
    [N_INSERT_SPS_PPS] = {"insert_sps_pps", "Insert SPS PPS at IDR", OWN(535), NVIDIA, BOOL, 0, 1, 0},
    [N_QP_RANGE] = {"qp_range", "QP Range", OWN(539), NVIDIA, WORDS, 0, 51, 0, .words = 6},
    [N_MAX_PERFORMANCE] = {"max_performance", "Maximum Performance", OWN(554), NVIDIA, BOOL, 0, 1, 0},
    [N_ALLINTRA] = {"allintra", "All Intra", OWN(555), NVIDIA, BOOL, 0, 1, 0},
    [N_H265_LEVEL] = {"level", "H265 Level", OWN(561), NVIDIA, INT, 0, 255, 0},
    [N_FORCE_IDR] = {"force_idr", "Force IDR", OWN(567), NVIDIA, BOOL, 0, 1, 0, .at_run_time = true},
    [N_INIT_FRAME_QP] = {"init_frame_qp", "Initial QP", OWN(574), NVIDIA, WORDS, 0, 51, 28, .words = 3},
    /* for 4:4:4 alone, which there is not */
    [N_LOSSLESS] = {"lossless", "Lossless", OWN(575), NVIDIA, BOOL, 0, 0, 0},
};

int fv_control_named(const char *name, size_t length, bool *marks) {
    int found = 0;
    for (unsigned k = 0; k < CONTROLS; k++) {
        if (strlen(controls[k].name) == length && !memcmp(controls[k].name, name, length)) marks[k] = true, found++;
    }
    return found;
}

void fv_reset_controls(struct device *device) {
    for (unsigned k = 0; k < CONTROLS; k++) {
        for (unsigned word = 0; word < 6; word++) device->values[k][word] = (uint32_t)controls[k].initial;
    }
    for (unsigned word = 0; word < 6; word++) device->values[N_QP_RANGE][word] = word & 1 ? 51 : 0;
    device->values[C_MIN_BUFFERS][0] = device->config.min_buffers;
    if (device->config.headers == SEPARATE) device->values[C_HEADER_MODE][0] = 0;
}

enum headers fv_headers(const struct device *device) {
    static const unsigned switches[] = {C_REPEAT_SEQ_HEADER, C_PREPEND_SPSPPS, N_INSERT_SPS_PPS};
    for (unsigned k = 0; k < 3; k++) {
        if (device->values[switches[k]][0]) return EACH_IDR;
    }
    /* as venus does: joined with the first frame is joined with every IDR */
    if (device->header_mode_set) return device->values[C_HEADER_MODE][0] ? EACH_IDR : SEPARATE;
    return device->config.headers;
}

static bool has(const struct device *device, unsigned index) {
    return (controls[index].family & device->config.family) && !device->config.refused[index];
}

static int find(const struct device *device, uint32_t id) {
    for (unsigned k = 0; k < CONTROLS; k++) {
        if (controls[k].id == id && has(device, k)) return (int)k;
    }
    return -1;
}

/* The control of exactly this number, or with NEXT_CTRL that of the next one. */
static int asked_control(const struct device *device, uint32_t id) {
    if (!(id & (V4L2_CTRL_FLAG_NEXT_CTRL | V4L2_CTRL_FLAG_NEXT_COMPOUND))) return find(device, id);
    uint32_t after = id & V4L2_CTRL_ID_MASK;
    int found = -1;
    for (unsigned k = 0; k < CONTROLS; k++) {
        bool wanted = id & (controls[k].words ? V4L2_CTRL_FLAG_NEXT_COMPOUND : V4L2_CTRL_FLAG_NEXT_CTRL);
        if (wanted && has(device, k) && controls[k].id > after && (found < 0 || controls[k].id < controls[found].id))
            found = (int)k;
    }
    return found;
}

int fv_query_ext_ctrl(struct device *device, void *argument) {
    struct v4l2_query_ext_ctrl *to = argument;
    int index = asked_control(device, to->id);
    if (index < 0) return EINVAL;
    const struct control *control = &controls[index];
    *to = (struct v4l2_query_ext_ctrl){
        .id = control->id, .type = control->type, .minimum = control->min, .maximum = control->max,
        .step = control->type != BUTTON, .default_value = control->initial, .elem_size = 4,
        .elems = control->words ? control->words : 1, .nr_of_dims = control->words != 0,
    };
    if (control->words) to->dims[0] = control->words, to->flags |= V4L2_CTRL_FLAG_HAS_PAYLOAD;
    if (control->type == BUTTON) to->flags |= V4L2_CTRL_FLAG_WRITE_ONLY | V4L2_CTRL_FLAG_EXECUTE_ON_WRITE;
    if (index == C_MIN_BUFFERS) to->flags |= V4L2_CTRL_FLAG_READ_ONLY;
    strncpy(to->name, control->description, sizeof to->name - 1);
    return 0;
}

int fv_queryctrl(struct device *device, void *argument) {
    struct v4l2_queryctrl *to = argument;
    struct v4l2_query_ext_ctrl found = {.id = to->id & ~V4L2_CTRL_FLAG_NEXT_COMPOUND};
    int wrong = fv_query_ext_ctrl(device, &found);
    if (wrong || found.nr_of_dims) return EINVAL;
    *to = (struct v4l2_queryctrl){
        .id = found.id, .type = found.type, .minimum = (int32_t)found.minimum, .maximum = (int32_t)found.maximum,
        .step = (int32_t)found.step, .default_value = (int32_t)found.default_value, .flags = found.flags,
    };
    memcpy(to->name, found.name, sizeof to->name);
    return 0;
}

int fv_querymenu(struct device *device, void *argument) {
    static const char *const names[CONTROLS][13] = {
        [C_BITRATE_MODE] = {"Variable Bitrate", "Constant Bitrate"},
        [C_HEADER_MODE] = {"Separate Buffer", "Joined With 1st Frame"},
        [C_PROFILE] = {"Main"},
        [C_LEVEL] = {"1", "2", "2.1", "3", "3.1", "4", "4.1", "5", "5.1", "5.2", "6", "6.1", "6.2"},
        [N_H265_PROFILE] = {"Main"},
    };
    struct v4l2_querymenu *to = argument;
    int index = find(device, to->id);
    if (index < 0 || controls[index].type != MENU || to->index > (uint32_t)controls[index].max) return EINVAL;
    to->reserved = 0;
    memset(to->name, 0, sizeof to->name);
    strcpy((char *)to->name, names[index][to->index]);
    return 0;
}

/* Takes one control; `words` are changed to what is kept. */
static int check(const struct device *device, int index, uint32_t *words) {
    const struct control *control = &controls[index];
    if (index == C_MIN_BUFFERS) return EACCES;
    if (!control->at_run_time) {
        if (device->output.streaming || device->capture.streaming) return EBUSY;
        /* NVIDIA: after both formats, before the buffers */
        if (control->family == NVIDIA && (device->output.n_buffers || device->capture.n_buffers)) return EBUSY;
        if (control->family == NVIDIA && !(device->output.format_set && device->capture.format_set)) return EINVAL;
    }
    for (unsigned k = 0; k < (control->words ? control->words : 1); k++) {
        int32_t value = (int32_t)words[k];
        bool outside = value < control->min || value > control->max;
        if (outside && (control->type == MENU || control->type == WORDS)) return ERANGE;
        if (control->type == BOOL) value = value != 0;
        if (value > control->max) value = control->max;
        if (value < control->min) value = control->min;
        words[k] = (uint32_t)value;
    }
    return 0;
}

static void keep(struct device *device, int index, const uint32_t *words) {
    const struct control *control = &controls[index];
    unsigned n = control->words ? control->words : 1;
    if (device->config.ignored[index]) {
        /* reads back as something else, whatever was set; the encoder goes on with what was */
        for (unsigned k = 0; k < n; k++) {
            int32_t other = words[k] != (uint32_t)control->initial ? control->initial
                            : control->initial == control->max     ? control->min
                                                                   : control->max;
            device->read_back[index][k] = (uint32_t)other;
        }
        device->read_back_differs[index] = true;
        return;
    }
    memcpy(device->values[index], words, n * sizeof *words);
    if (index == C_HEADER_MODE) device->header_mode_set = true;
    if (index == C_FORCE_KEY_FRAME || (index == N_FORCE_IDR && *words)) device->force_key = true;
}

/* The words of an application's control: a struct's are behind a pointer, in v4l2_ext_control.string with size 0. */
static void *words_of(const struct control *control, struct v4l2_ext_control *from) {
    if (!control->words) return (char *)from + offsetof(struct v4l2_ext_control, value);
    return from->size && from->size < control->words * 4 ? NULL : from->string;
}

static const uint32_t *read_words(const struct device *device, int index) {
    return device->read_back_differs[index] ? device->read_back[index] : device->values[index];
}

enum access { GET, TRY, SET };

static int one(struct device *device, struct v4l2_ext_control *from, enum access access) {
    int index = find(device, from->id);
    if (index < 0) return EINVAL;
    const struct control *control = &controls[index];
    void *words = words_of(control, from);
    uint32_t taken[6];
    unsigned n = control->words ? control->words : 1;
    if (!words) return control->words ? EFAULT : EINVAL;
    if (access == GET) {
        if (control->type == BUTTON) return EACCES;
        memcpy(words, read_words(device, index), n * sizeof *taken);
        return 0;
    }
    memcpy(taken, words, n * sizeof *taken);
    int wrong = check(device, index, taken);
    if (wrong) return wrong;
    if (access == SET) keep(device, index, taken);
    memcpy(words, access == SET && control->type != BUTTON ? read_words(device, index) : taken, n * sizeof *taken);
    return 0;
}

static int many(struct device *device, struct v4l2_ext_controls *all, enum access access) {
    if (all->which != V4L2_CTRL_WHICH_CUR_VAL && all->which != V4L2_CTRL_CLASS_CODEC) return EINVAL;
    all->error_idx = all->count;
    /* All are looked at before the first is set. The application's values stay what they were until then. */
    for (uint32_t k = 0; access != GET && k < all->count; k++) {
        int index = find(device, all->controls[k].id);
        uint32_t taken[6] = {0};
        const void *words = index < 0 ? NULL : words_of(&controls[index], &all->controls[k]);
        if (words) memcpy(taken, words, (controls[index].words ? controls[index].words : 1) * sizeof *taken);
        int wrong = words ? check(device, index, taken) : EINVAL;
        if (wrong) {
            if (access == TRY) all->error_idx = k;
            return wrong;
        }
    }
    for (uint32_t k = 0; k < all->count; k++) {
        int wrong = one(device, &all->controls[k], access);
        if (wrong) return all->error_idx = k, wrong;
    }
    return 0;
}

int fv_g_ext_ctrls(struct device *device, void *argument) { return many(device, argument, GET); }
int fv_s_ext_ctrls(struct device *device, void *argument) { return many(device, argument, SET); }
int fv_try_ext_ctrls(struct device *device, void *argument) { return many(device, argument, TRY); }

static int simple(struct device *device, struct v4l2_control *from, enum access access) {
    int index = find(device, from->id);
    if (index < 0 || controls[index].words) return EINVAL;
    struct v4l2_ext_control extended = {.id = from->id, .value = from->value};
    int wrong = one(device, &extended, access);
    if (!wrong) from->value = extended.value;
    return wrong;
}

int fv_g_ctrl(struct device *device, void *argument) { return simple(device, argument, GET); }
int fv_s_ctrl(struct device *device, void *argument) { return simple(device, argument, SET); }
