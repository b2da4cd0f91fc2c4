"""Run the backbone on real pictures and look at the feature map that comes out: shape, range, share of zeros."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import FeatlinkError, SettingsError
from featlink_codec.extractor import InputSettings
from featlink_codec.extractor.preprocess import Preprocessor
from featlink_codec.video.clip import Clip

from ..inference import one_line, open_session
from .graph import Cut

#: How many pictures are looked at unless told otherwise.
DEFAULT_FRAMES = 32

#: Told after each step: what is being done, how much of it is done, of how much.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Calibration:
    """What a feature map looked like over some pictures.

    :param tensor: its name
    :param shape: the tensor's shape
    :param minimum: smallest value
    :param maximum: largest value: the quantizer's range
    :param zeros: share of values that are exactly 0, 0..1
    :param frames: pictures looked at
    """

    tensor: str
    shape: tuple[int, ...]
    minimum: float
    maximum: float
    zeros: float
    frames: int


def spread(count: int, frames: int) -> list[int]:
    """Which of `count` pictures to look at: `frames` of them, or all if there are fewer, evenly, first to last."""
    frames = min(frames, count)
    if frames <= 1:
        return [0] * frames
    return [place * (count - 1) // (frames - 1) for place in range(frames)]


def pictures_of(source: Clip, settings: InputSettings, frames: int) -> Iterator[NDArray[np.float32]]:
    """The pictures that `calibrate` looks at, one after the other, as the network has them: float32 [H, W, colors]."""
    preprocess = Preprocessor(settings)
    for picture in source.picked(spread(source.count(), frames)):
        (one,) = preprocess(picture.frame)
        yield one if settings.layout == "NHWC" else one.transpose(1, 2, 0)


def calibrate(
    backbone: Path | str,
    source: Clip,
    settings: InputSettings,
    frames: int = DEFAULT_FRAMES,
    nearest: Sequence[Cut] = (),
    progress: Progress | None = None,
    *,
    signed: bool = False,
    look: Callable[[NDArray[np.float32]], None] | None = None,
) -> Calibration:
    """Run the backbone on pictures spread evenly over a source.

    :param backbone: ONNX file with one input and one output, as `split_model` writes it
    :param frames: how many pictures; all of them if the source has fewer
    :param nearest: cuts to propose where the map turns out to be signed, e.g. ``graph.near(..., non_negative=True)``
    :param signed: values below 0 are taken, as adaptive quantizers do
    :param look: shown every map, the tensor as it is
    :raises SettingsError: the map is signed and must not be, always zero, not finite, not float32 or of changing shape;
        or onnxruntime refuses the model or the input
    :raises FeatlinkError: the source cannot be read
    """
    if frames < 1:
        raise SettingsError(f"frames: found {frames}, expected at least 1")
    session = open_session(backbone)
    output = session.get_outputs()[0].name
    preprocess = Preprocessor(settings)
    tensor = preprocess.new_tensor()
    chosen = spread(source.count(), frames)
    low, high, zeros, values, seen = np.inf, -np.inf, 0, 0, 0
    shape: tuple[int, ...] = ()
    for picture in source.picked(chosen):
        preprocess(picture.frame, tensor)
        try:
            (found,) = session.run([output], {settings.tensor: tensor})
        except Exception as error:  # onnxruntime's errors share no base but Exception
            raise SettingsError(f"{backbone}: cannot be run: {one_line(error)}") from None
        if found.dtype != np.float32:
            raise SettingsError(f"tensor {output!r}: found {found.dtype}, expected float32")
        if shape and found.shape != shape:
            raise SettingsError(f"tensor {output!r}: found shape {found.shape} after {shape}, expected one shape")
        if not np.isfinite(found).all():
            raise SettingsError(
                f"tensor {output!r}: found NaN or infinity in picture {picture.number} of {source.path}"
            )
        shape = found.shape
        if look is not None:
            look(found)
        low, high = min(low, float(found.min())), max(high, float(found.max()))
        zeros += found.size - int(np.count_nonzero(found))
        values += found.size
        seen += 1
        if progress:
            progress("calibrate", seen, len(chosen))
    if not values:
        raise FeatlinkError(f"{source.path}: none of its pictures could be looked at")
    if low < 0 and not signed:
        raise SettingsError(_signed(output, low, nearest))
    if high <= 0 and low >= 0:
        raise SettingsError(
            f"tensor {output!r}: found nothing but zeros in {seen} pictures of {source.path}, expected other values too"
        )
    return Calibration(output, shape, low, high, zeros / values, seen)


def _signed(tensor: str, low: float, nearest: Iterable[Cut]) -> str:
    lines = "".join(f"\n    {cut}" for cut in nearest)
    hint = f"the nearest:{lines}" if lines else "this network has no single-tensor cut there"
    return (
        f"tensor {tensor!r}: found values down to {low:.6g}, but the standard's quantizers take non-negative maps "
        f"only: take mode adaptive, or choose a cut after a ReLU; {hint}"
    )
