"""What the law leaves to an encoder driver: one choice of everything, and hypothesis' strategy over all choices."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st

#: featlink's names of raw formats; those ending in M have one plane of memory for each plane of samples.
RAW = ("GREY", "NV12", "NV12M", "YUV420", "YUV420M")
SEPARATE_MEMORY = ("NV12M", "YUV420M")

#: How a control can be other than there and obedient.
CONTROL_MODES = ("ok", "missing", "read_only", "clamped")
#: Of each dialect, those that a session may look for (numbers and ranges: legal_controls.py).
KERNEL_CONTROLS = (
    *("bitrate_mode", "bitrate", "gop_size", "b_frames", "frame_rc_enable", "header_mode", "force_key_frame"),
    *("repeat_seq_header", "prepend_spspps", "i_qp", "p_qp", "b_qp", "min_qp", "max_qp", "profile", "level", "tier"),
    *("refresh_type", "refresh_period", "loop_filter", "lossless_cu", "min_buffers_for_output"),
)
NVIDIA_CONTROLS = (
    *("bitrate_mode", "bitrate", "gop_size", "frame_rc_enable", "h265_profile", "idr_interval", "num_bframes"),
    *("insert_sps_pps", "qp_range", "max_performance", "allintra", "h265_level", "force_idr", "init_frame_qp"),
    "lossless",
)


@dataclass(frozen=True)
class Faults:
    """What goes wrong, counted in pictures queued since the device was opened; None: nothing."""

    #: this picture comes back with FLAG_ERROR
    error_at: int | None = None
    #: "capture", "output" (no CAPTURE buffer comes for it then) or "both"
    error_on: str = "capture"
    #: QBUF of this picture and everything after it gives EIO
    eio_at: int | None = None
    #: from this picture on nothing comes out of either queue
    stall_at: int | None = None


@dataclass(frozen=True)
class Behaviour:
    """One driver. The defaults are the plainest one; `behaviours` draws all others."""

    #: "kernel" (dev-encoder.rst) or "nvidia" (its libv4l2 plugin)
    dialect: str = "kernel"
    multi_planar: bool = False
    #: whether capabilities stand in device_caps
    device_caps: bool = True
    #: coded formats in the order of ENUM_FMT; the first is active when the device is opened
    coded: tuple[str, ...] = ("HEVC",)
    #: raw formats for HEVC, in the order of ENUM_FMT
    formats: tuple[str, ...] = ("NV12", "GREY")
    #: ENUM_FRAMESIZES: "stepwise", "continuous", "discrete", or "none" (ENOTTY; the limits hold all the same)
    sizes: str = "stepwise"
    min_size: tuple[int, int] = (1, 1)
    max_size: tuple[int, int] = (8192, 8192)
    step: tuple[int, int] = (1, 1)
    #: with "discrete": all sizes, the largest last
    discrete: tuple[tuple[int, int], ...] = ((512, 512),)
    #: S_FMT makes bytesperline and the returned height multiples of these
    align_line: int = 1
    align_rows: int = 1
    #: bytes more in each plane than needed
    spare: int = 0
    #: S_SELECTION is there; its rectangles have sides that are multiples of crop_step and at least crop_min
    crop: bool = True
    crop_step: int = 1
    crop_min: int = 1
    #: S_PARM is there
    frame_interval: bool = True
    #: (name, mode) of the controls that are not "ok"
    controls: tuple[tuple[str, str], ...] = ()
    #: QUERY_EXT_CTRL is there
    queries: bool = True
    #: defaults of controls
    gop_size: int = 12
    b_frames: int = 0
    #: what begins a GOP: 0 an I picture that is no random access point, 1 CRA, 2 IDR
    refresh: int = 2
    #: REQBUFS gives as many more (or fewer) than asked
    extra_buffers: int = 0
    #: pictures held back until as many more are queued, or a drain
    delay: int = 0
    #: buffers are given back by STREAMOFF and REQBUFS(0) although they are mapped
    orphans: bool = True
    #: EXPBUF is there (NVIDIA's dialect has it always)
    exports: bool = True
    #: an OUTPUT buffer is given back behind its CAPTURE one
    output_after: bool = False
    #: the LAST buffer carries the last picture where one is left inside
    last_with_data: bool = False
    #: ENCODER_CMD is there
    encoder_cmd: bool = True
    #: parameter sets: "each" (with every IDR picture), "first" (with the first), "separate" (alone, before the first)
    headers: str = "each"
    #: the buffer of "separate" has the timestamp of its picture, else 0
    headers_timed: bool = True
    #: an access unit delimiter begins each picture
    delimiters: bool = False
    #: IDR_W_RADL 19 or IDR_N_LP 20
    idr_type: int = 19
    #: of CAPTURE planes (multi-planar alone)
    data_offset: int = 0
    #: every undetermined choice takes the next of these, from the start again behind the last; 0 is the plainest
    schedule: tuple[int, ...] = (0,)
    #: a dequeue gives nothing now and then although something is there (EAGAIN)
    eagain: bool = False
    faults: Faults = field(default=Faults())

    def mode(self, control: str) -> str:
        """How the control is there: one of CONTROL_MODES."""
        known = NVIDIA_CONTROLS if self.dialect == "nvidia" else KERNEL_CONTROLS
        return dict(self.controls).get(control, "ok") if control in known else "missing"

    @property
    def coded_format(self) -> str:
        """The fourcc of HEVC."""
        return "H265" if self.dialect == "nvidia" else "HEVC"

    @property
    def min_output(self) -> int:
        """Fewest OUTPUT buffers that keep coding going; NVIDIA's end needs one more."""
        return self.delay + 1 + (self.dialect == "nvidia")


@st.composite
def behaviours(draw: st.DrawFn, formats: tuple[str, ...] = RAW, faults: Faults | None = None) -> Behaviour:
    """Any driver that the law allows.

    :param formats: raw formats to choose from
    :param faults: None: none
    """
    nvidia = draw(st.booleans())
    multi = nvidia or draw(st.booleans())
    offered = [one for one in formats if (multi or one not in SEPARATE_MEMORY) and not (nvidia and one == "GREY")]
    names = NVIDIA_CONTROLS if nvidia else KERNEL_CONTROLS
    odd = draw(st.lists(st.sampled_from(names), unique=True, max_size=draw(st.sampled_from([0, 2, len(names)]))))
    own = "H265" if nvidia else "HEVC"
    # Without ENCODER_CMD nothing gets pictures out that are held back: that would be no legal encoder.
    encoder_cmd = not nvidia and draw(st.booleans())
    # Most pictures shall fit: what has to be refused says little about coding.
    least = st.sampled_from([1, 1, 1, 16, 32, 144])
    most = st.sampled_from([8192, 8192, 160])
    steps = st.sampled_from([1, 1, 2, 8, 16, 32])
    discrete = draw(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=1, max_size=3, unique=True))
    return Behaviour(
        dialect="nvidia" if nvidia else "kernel",
        multi_planar=multi,
        device_caps=draw(st.booleans()),
        coded=tuple(draw(st.permutations(draw(st.sampled_from([(own,), (own, "H264"), (own, "H264", "VP80")]))))),
        formats=tuple(draw(st.permutations(draw(st.lists(st.sampled_from(offered), min_size=1, unique=True))))),
        sizes=draw(st.sampled_from(["stepwise", "continuous", "none", "discrete"])),
        min_size=(draw(least), draw(least)),
        max_size=(draw(most), draw(most)),
        step=(draw(steps), draw(steps)),
        discrete=tuple(sorted(((64 * w, 32 * h) for w, h in discrete), key=lambda size: size[0] * size[1])),
        align_line=draw(st.sampled_from([1, 2, 16, 64, 128, 256])),
        align_rows=draw(st.sampled_from([1, 2, 16, 32])),
        spare=draw(st.sampled_from([0, 1, 100, 4096])),
        crop=draw(st.sampled_from([True, True, True, False])),
        crop_step=draw(st.sampled_from([1, 1, 1, 2, 8])),
        crop_min=draw(st.sampled_from([1, 1, 1, 32])),
        frame_interval=draw(st.booleans()),
        controls=tuple((name, draw(st.sampled_from(CONTROL_MODES))) for name in odd),
        queries=not nvidia or draw(st.booleans()),
        gop_size=draw(st.sampled_from([0, 1, 2, 12])),
        b_frames=draw(st.sampled_from([0, 2])),
        refresh=draw(st.integers(0, 2)),
        extra_buffers=draw(st.integers(-3, 3)),
        delay=draw(st.integers(0, 2)) if nvidia or encoder_cmd else 0,
        orphans=draw(st.booleans()),
        exports=nvidia or draw(st.booleans()),
        output_after=draw(st.booleans()),
        last_with_data=draw(st.booleans()),
        encoder_cmd=encoder_cmd,
        headers=draw(st.sampled_from(["each", "first", "separate"])),
        headers_timed=draw(st.booleans()),
        delimiters=draw(st.booleans()),
        idr_type=draw(st.sampled_from([19, 20])),
        data_offset=draw(st.sampled_from([0, 1, 64])) if multi else 0,
        schedule=tuple(draw(st.lists(st.integers(0, 11), min_size=1, max_size=40))),
        eagain=draw(st.booleans()),
        faults=faults or Faults(),
    )
