"""Inputs of a network, labelled or not, read a batch at a time: arrays of samples, pictures, video."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from featlink_codec.errors import FeatlinkError, SettingsError
from featlink_codec.extractor import InputSettings
from featlink_codec.extractor.preprocess import Preprocessor
from featlink_codec.video.clip import IMAGE_SUFFIXES, Clip, open_source

from .calibrate import spread
from .calibration_maps import runs_of
from .graph import DataGraph
from .pipeline import PrepareOptions, input_settings
from .rows import Rows, open_rows

#: Ends of names of files with arrays of samples; "ubyte" as MNIST's files are called.
ARRAY_SUFFIXES = (".npz", ".npy", "ubyte", ".idx", ".gz")
#: Array of an .npz that holds labels.
LABELS = "labels"


@dataclass(frozen=True)
class Preprocessing:
    """How samples become numbers: x * scale + offset.

    :param scale: of integers and pictures, and of floats too where it is given on purpose
    :param colour: "rgb", "bgr", "gray"; empty: by the input's channels
    """

    scale: float = 1 / 255
    offset: float = 0.0
    colour: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale):
            raise SettingsError(f"scale: found {self.scale:g}, expected a number other than 0")
        if not math.isfinite(self.offset):
            raise SettingsError(f"offset: found {self.offset:g}, expected a finite number")


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples.

    :param inputs: by the names of the network's inputs, samples along the first axis
    :param labels: integers [N], None where there are none
    :param first: place of the first one among all that are gone through
    """

    inputs: dict[str, NDArray[Any]]
    labels: NDArray[np.int64] | None
    first: int


class Samples(Protocol):
    """Inputs that can be gone through again and again, never held as a whole."""

    count: int
    #: whether batches carry labels
    labelled: bool

    def batches(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """All of them in order, `size` at a time (the last batch may have fewer).

        :param limit: only so many, evenly spread
        """


class ArraySamples:
    """Samples in files of arrays.

    :param rows: by the names of the network's inputs
    :param types: of the network's inputs
    :param shapes: of one sample, as the network takes it; None for an open axis
    :param labels: one a sample
    :param preprocessing: None: integers are divided by their largest value where the input is a float, floats stay
    """

    def __init__(
        self,
        rows: Mapping[str, Rows],
        types: Mapping[str, str],
        shapes: Mapping[str, tuple[int | None, ...]],
        labels: NDArray[np.int64] | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        counts = {name: one.count for name, one in rows.items()}
        if len(set(counts.values())) != 1:
            raise SettingsError(f"inputs with different numbers of samples: {counts}")
        self.count = next(iter(counts.values()))
        self.labelled = labels is not None
        if not self.count:
            raise SettingsError(f"{next(iter(rows.values())).path}: no images: found 0 samples")
        _check_count(labels, self.count, "samples")
        self._rows, self._types, self._labels, self._preprocessing = rows, types, labels, preprocessing
        self._shapes = {name: _sample_shape(one, shapes[name], name) for name, one in rows.items()}

    def batches(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """See Samples."""
        places = spread(self.count, self.count if limit is None else limit)
        readers = {name: one.read(places, size) for name, one in self._rows.items()}
        for first in range(0, len(places), size):
            inputs = {name: self._number(name, next(reader)) for name, reader in readers.items()}
            for name, values in inputs.items():
                if values.dtype.kind == "f" and not np.isfinite(values).all():
                    raise SettingsError(f"{self._rows[name].path}: found NaN or infinity among the samples")
            some = places[first : first + size]
            yield Batch(inputs, None if self._labels is None else self._labels[some], first)

    def _number(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        dtype = np.dtype(self._types[name])
        shaped = values.reshape(len(values), *self._shapes[name])
        if dtype.kind != "f":
            return shaped.astype(dtype, copy=False)
        how = self._preprocessing
        if how is None:
            if shaped.dtype.kind == "f":
                return shaped.astype(dtype, copy=False)
            how = Preprocessing(1 / np.iinfo(shaped.dtype).max)
        scaled = shaped.astype(np.float32) * np.float32(how.scale) + np.float32(how.offset)
        return scaled.astype(dtype, copy=False)


class ClipSamples:
    """Pictures of a video, an image or a folder, as the network takes them.

    :param labels: one a picture, in their order
    :param runs: a limit takes short runs of consecutive pictures instead of single ones
    """

    def __init__(
        self, clip: Clip, settings: InputSettings, labels: NDArray[np.int64] | None = None, runs: bool = False
    ) -> None:
        self.clip, self.settings = clip, settings
        self.count = clip.count()
        self.labelled = labels is not None
        _check_count(labels, self.count, "pictures")
        self._labels, self._runs = labels, runs

    def places(self, limit: int | None = None) -> list[int]:
        """Numbers of the pictures that are gone through."""
        wanted = self.count if limit is None else limit
        if self._runs:
            return [number for run in runs_of(self.count, wanted) for number in run]
        return spread(self.count, wanted)

    def batches(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """See Samples; a video that says more pictures than it has gives those that it has."""
        preprocess = Preprocessor(self.settings)
        held: list[NDArray[np.float32]] = []
        numbers: list[int] = []
        done = 0
        for picture in self.clip.picked(self.places(limit)):
            held.append(preprocess(picture.frame))
            numbers.append(picture.number)
            if len(held) == size:
                yield self._batch(held, numbers, done)
                done += len(held)
                held, numbers = [], []
        if held:
            yield self._batch(held, numbers, done)
        elif not done:
            raise FeatlinkError(f"{self.clip.path}: no images: none of its pictures could be looked at")

    def _batch(self, held: list[NDArray[np.float32]], numbers: list[int], first: int) -> Batch:
        labels = None if self._labels is None else self._labels[numbers]
        return Batch({self.settings.tensor: np.concatenate(held)}, labels, first)


def open_samples(
    images: Path, labels: Path | None, model: onnx.ModelProto, preprocessing: Preprocessing | None = None
) -> Samples:
    """Samples for a network.

    :param images: IDX (gzipped too), .npy, .npz (arrays by the inputs' names, or one), image, folder of images, video
    :param labels: IDX, .npy, .npz (array `labels`, or the only one), or text with an integer a line; an .npz of images
        may hold them itself
    :raises SettingsError: files that do not fit the network or each other
    :raises FeatlinkError: pictures that cannot be read
    """
    images = Path(images)
    if not images.exists():
        raise SettingsError(f"{images}: no images: found no such file or folder")
    if images.is_dir() or not images.name.endswith(ARRAY_SUFFIXES):
        known = read_labels(labels) if labels is not None else None
        settings = picture_settings(model, preprocessing)
        if images.is_dir() and not any(file.suffix.lower() in IMAGE_SUFFIXES for file in images.iterdir()):
            raise SettingsError(f"{images}: no images in this folder ({', '.join(sorted(IMAGE_SUFFIXES))})")
        return ClipSamples(open_source(images), settings, known)
    graph_inputs = model_inputs(model)
    rows = open_rows(images)
    held = rows.pop(LABELS, None) if LABELS not in graph_inputs and len(rows) > 1 else None
    given = {name: one for name, one in rows.items() if name in graph_inputs}
    if not given and len(rows) == len(graph_inputs) == 1:
        given = {next(iter(graph_inputs)): next(iter(rows.values()))}
    if missing := [name for name in graph_inputs if name not in given]:
        raise SettingsError(
            f"{images}: no array for the model's input {missing[0]!r}; there are {', '.join(rows) or 'none'}"
        )
    known = read_labels(labels) if labels is not None else None
    if known is None and held is not None:
        known = _integers(held)
    types = {name: kind for name, (kind, _) in graph_inputs.items()}
    shapes = {name: shape[1:] for name, (_, shape) in graph_inputs.items()}
    return ArraySamples(given, types, shapes, known, preprocessing)


def picture_settings(model: onnx.ModelProto, preprocessing: Preprocessing | None = None) -> InputSettings:
    """The [input] table of a network that takes pictures (SettingsError: it does not, or leaves their size open)."""
    how = preprocessing or Preprocessing()
    graph = DataGraph(model)
    shape = graph.type_of(graph.input).shape or ()
    colour = how.colour or ("gray" if len(shape) == 4 and 3 not in (shape[1], shape[3]) else "rgb")
    return input_settings(graph, PrepareOptions(colour=colour, scale=how.scale, offset=how.offset))


def model_inputs(model: onnx.ModelProto) -> dict[str, tuple[str, tuple[int | None, ...]]]:
    """NumPy type name and shape of each data input (SettingsError: no shape)."""
    weights = {tensor.name for tensor in model.graph.initializer}
    found: dict[str, tuple[str, tuple[int | None, ...]]] = {}
    for value in model.graph.input:
        if value.name in weights:
            continue
        kind = value.type.tensor_type
        shape = tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in kind.shape.dim)
        if not shape:
            raise SettingsError(f"input {value.name!r}: found no shape, expected samples along its first axis")
        found[value.name] = (onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name, shape)
    if not found:
        raise SettingsError("the model has no data input")
    return found


def read_labels(path: Path) -> NDArray[np.int64]:
    """Labels, int64 [N]: the one thing of a set of samples that is read whole.

    :raises SettingsError: not a list of integers
    """
    if path.suffix in (".txt", ".csv"):
        try:
            lines = path.read_text(encoding="utf-8").split()
            return np.array([int(line.rstrip(",")) for line in lines], np.int64)
        except (OSError, ValueError) as error:
            raise SettingsError(f"{path}: expected an integer a line: {error}") from None
    rows = open_rows(path)
    if LABELS not in rows and len(rows) != 1:
        raise SettingsError(f"{path}: no array {LABELS!r}; there are {', '.join(rows)}")
    return _integers(rows[LABELS] if LABELS in rows else next(iter(rows.values())))


def _check_count(labels: NDArray[np.int64] | None, count: int, what: str) -> None:
    if labels is not None and len(labels) != count:
        raise SettingsError(f"found {len(labels)} labels for {count} {what}, expected one each")


def _integers(rows: Rows) -> NDArray[np.int64]:
    if rows.dtype.kind not in "iu" or any(side != 1 for side in rows.shape[1:]):
        raise SettingsError(f"{rows.path}: labels are {rows.dtype} {list(rows.shape)}, expected integers [N]")
    if not rows.count:
        return np.empty(0, np.int64)
    return next(rows.read(range(rows.count), rows.count)).reshape(-1).astype(np.int64)


def _sample_shape(rows: Rows, wanted: tuple[int | None, ...], name: str) -> tuple[int, ...]:
    """What one sample is reshaped to: axes of one may come and go, e.g. a gray picture's channel."""
    have = rows.shape[1:]
    if len(have) == len(wanted) and all(b in (None, a) for a, b in zip(have, wanted, strict=True)):
        return have
    fixed = tuple(side for side in wanted if side is not None)
    plain = [side for side in have if side != 1]
    if len(fixed) == len(wanted) and plain == [side for side in fixed if side != 1]:
        return fixed
    expected = "x".join("?" if side is None else str(side) for side in wanted)
    raise SettingsError(
        f"{rows.path}: samples of shape {'x'.join(map(str, have)) or 'none'}, input {name!r} takes {expected}"
    )
