"""Split, calibrate, choose a packing, write the extractor's folder."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import tomli_w
from numpy.typing import NDArray
from onnx.external_data_helper import uses_external_data

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import (
    SETTINGS_FILE,
    ExtractorSettings,
    Identity,
    InputSettings,
    MapSettings,
    ModelFiles,
    NoTask,
    PackingSettings,
    QuantizerSettings,
    SourceModel,
    SsdDetectorTask,
    Task,
    VideoSettings,
    sha256_of,
    write_thresholds,
)
from featlink_codec.extractor.coding import quantizer_of
from featlink_codec.features.adaptive import Structure
from featlink_codec.video.clip import Clip, open_source

from .calibrate import DEFAULT_FRAMES, Calibration, Progress, calibrate, pictures_of
from .folder import check_free, new_folder
from .graph import Cut, DataGraph
from .packing import choose_packing
from .quantizer_fits import AdaptiveChoice, Fitter
from .quantizer_sensitivity import head_sensitivity
from .split import check_cut, open_graph, write_halves
from .structure import read_structure

BACKBONE_FILE = "backbone.onnx"
HEAD_FILE = "head.onnx"
WHOLE_FILE = "whole.onnx"


@dataclass(frozen=True)
class PrepareOptions:
    """What the model does not say itself; everything else of extractor.toml is found out."""

    #: name for people; empty: the folder's
    name: str = ""
    feat_extractor_id: int = 0
    feat_type_id: int = 0
    colour: str = "rgb"
    scale: float = 1 / 255
    offset: float = 0.0
    #: (width, height), only where the model leaves its input's size open
    input_size: tuple[int, int] | None = None
    mode: str = "uniform"
    bit_depth: int = 8
    #: mode adaptive only: which quantizers, fitted to the pictures to calibrate with
    quantizer: AdaptiveChoice | None = None
    #: mode adaptive only: they are fitted anew on the device, for each intra period
    on_device: bool = False
    #: mode custom only
    partitions: tuple[float, ...] | None = None
    #: None: chosen from the map's shape
    packing: PackingSettings | None = None
    video: VideoSettings = field(default_factory=VideoSettings)
    task: Task = field(default_factory=NoTask)
    #: of each of the task's files, by its key in [task]: where to copy it from
    task_files: Mapping[str, Path] = field(default_factory=dict)
    #: pictures to calibrate with
    frames: int = DEFAULT_FRAMES
    #: a copy of the whole network goes into the folder, to compare with
    keep_whole: bool = False


@dataclass(frozen=True)
class Prepared:
    """A finished extractor.

    :param folder: where it is
    :param settings: its extractor.toml
    :param cut: where the network was split
    :param calibration: what the feature map looked like
    """

    folder: Path
    settings: ExtractorSettings
    cut: Cut
    calibration: Calibration


def prepare_split(
    model: Path | str,
    tensor: str,
    source: Clip | Path | str,
    out_dir: Path | str,
    options: PrepareOptions | None = None,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Make an extractor out of a whole network.

    The range of the quantizer is the largest value over the calibration pictures; adaptive ones are fitted to them.

    :param model: the whole network, an ONNX file
    :param tensor: where to split it
    :param source: pictures to calibrate with: a video, an image, a folder of images
    :param out_dir: the folder to make; it appears when everything is done, and after an error nothing is left behind
    :param force: an extractor that stands there already is replaced
    :param progress: called with ("split" | "calibrate" | "write", steps done, steps in all)
    :raises SettingsError: anything that does not fit: the model, the tensor, the map, an option, the folder
    :raises FeatlinkError: the source cannot be read
    """
    options = _with_profile(options or PrepareOptions())
    model, out = Path(model), Path(out_dir)
    tell = progress or (lambda stage, done, total: None)
    check_free(out, force)
    clip = source if isinstance(source, Clip) else open_source(source)
    tell("split", 0, 1)
    graph = open_graph(model)
    cut = check_cut(graph, tensor)
    inputs = input_settings(graph, options)
    _check_task(graph, options)
    if options.keep_whole:
        _check_one_file(model)
    with new_folder(out, force) as folder:
        write_halves(graph, cut, folder / BACKBONE_FILE, folder / HEAD_FILE)
        tell("split", 1, 1)
        near = graph.near(tensor, non_negative=True)
        seen: list[NDArray[np.float32]] = []
        adaptive = options.mode == "adaptive"
        calibration = calibrate(
            folder / BACKBONE_FILE, clip, inputs, options.frames, near, progress,
            signed=adaptive, look=seen.append if adaptive else None,
        )  # fmt: skip
        tell("write", 0, 1)
        pictures = partial(pictures_of, clip, inputs, options.frames)
        fitter = _fitter(folder, tensor, seen, read_structure(graph, tensor), pictures) if adaptive else None
        feature = store_thresholds(_map_settings(calibration, options, fitter), folder)
        if options.keep_whole:
            shutil.copyfile(model, folder / WHOLE_FILE)
        for key, name in options.task.files:
            shutil.copyfile(options.task_files[key], folder / name)
        settings = ExtractorSettings(
            extractor=Identity(options.name or out.absolute().name, options.feat_extractor_id),
            source_model=SourceModel(model.name, sha256_of(model), tensor),
            input=inputs,
            maps=(feature,),
            video=options.video,
            models=ModelFiles(
                BACKBONE_FILE,
                sha256_of(folder / BACKBONE_FILE),
                HEAD_FILE,
                sha256_of(folder / HEAD_FILE),
                WHOLE_FILE if options.keep_whole else None,
            ),
            task=options.task,
        )
        (folder / SETTINGS_FILE).write_text(tomli_w.dumps(settings.to_dict()), encoding="utf-8")
        if ExtractorSettings.load(folder) != settings:
            raise SettingsError(f"{folder / SETTINGS_FILE}: does not read back as it was written")
    tell("write", 1, 1)
    return Prepared(out, settings, cut, calibration)


def input_settings(graph: DataGraph, options: PrepareOptions) -> InputSettings:
    """The [input] table, from the model's own input where it says enough."""
    kind = graph.type_of(graph.input)
    where = f"{graph.name}: input {graph.input!r}"
    if kind.dtype != "float32":
        raise SettingsError(f"{where}: found {kind.dtype or 'no known type'}, expected float32")
    channels = 1 if options.colour == "gray" else 3
    shape = kind.shape
    if shape is None or len(shape) != 4 or shape[0] not in (1, None) or channels not in (shape[1], shape[3]):
        wanted = f"1x{channels}xHxW or 1xHxWx{channels} for colour {options.colour!r}"
        raise SettingsError(f"{where}: found shape {_shape(shape)}, expected {wanted}")
    layout = "NCHW" if shape[1] == channels else "NHWC"
    height, width = shape[2:] if layout == "NCHW" else shape[1:3]
    asked_w, asked_h = options.input_size or (width, height)
    if asked_w is None or asked_h is None:
        raise SettingsError(f"{where}: found shape {_shape(shape)}, which leaves the size open: give the input's size")
    if width not in (None, asked_w) or height not in (None, asked_h):
        raise SettingsError(f"{where}: found shape {_shape(shape)}, which is not {asked_w} wide and {asked_h} high")
    return InputSettings(
        graph.input, asked_w, asked_h, layout, options.colour, scale=options.scale, offset=options.offset
    )


def _with_profile(options: PrepareOptions) -> PrepareOptions:
    """Mode adaptive is of a profile of its own, and needs to know which quantizers."""
    adaptive = options.mode == "adaptive"
    if not adaptive:
        if options.quantizer is not None or options.on_device:
            found = options.quantizer or "quantizers that are fitted on the device"
            raise SettingsError(f"mode {options.mode!r}: found {found}, expected mode 'adaptive' for it")
        return options
    profile = options.video.profile
    if profile not in ("standard", "adaptive"):
        raise SettingsError(f"profile: found {profile!r}, expected 'adaptive', as mode 'adaptive' has it")
    choice = options.quantizer or AdaptiveChoice(depth=min(options.bit_depth, 8))
    return replace(options, quantizer=choice, video=replace(options.video, profile="adaptive"))


def _fitter(
    folder: Path,
    tensor: str,
    seen: Sequence[NDArray[np.float32]],
    structure: Structure,
    pictures: Callable[[], Iterable[NDArray[np.float32]]],
) -> Fitter:
    if any(one.ndim != 4 or one.shape[0] != 1 for one in seen):
        raise SettingsError(f"tensor {tensor!r}: found shape {_shape(seen[0].shape)}, expected 1xCxHxW")
    sensitivity = partial(head_sensitivity, folder / HEAD_FILE, tensor, seen)
    return Fitter(folder, [one[0].transpose(1, 2, 0) for one in seen], structure, sensitivity, pictures)


def _map_settings(calibration: Calibration, options: PrepareOptions, fitter: Fitter | None) -> MapSettings:
    """The [[maps]] table of what came out of the backbone.

    :param fitter: in mode adaptive
    """
    shape = calibration.shape
    if len(shape) != 4 or shape[0] != 1:
        raise SettingsError(f"tensor {calibration.tensor!r}: found shape {_shape(shape)}, expected 1xCxHxW")
    _, channels, height, width = shape
    largest = math.log2(calibration.maximum + 1) if options.mode == "logarithmic" else calibration.maximum
    even = options.video.chroma == "420"
    packing = options.packing or choose_packing(channels, height, width, even)
    if fitter is not None and options.quantizer is not None:
        table = fitter.table(options.quantizer)
        if options.on_device:
            table = replace(table, **options.quantizer.on_device)
        packing = packing if options.packing else fitter.packing(options.quantizer, packing)
    else:
        table = QuantizerSettings(options.mode, options.bit_depth, largest, options.partitions)
    return MapSettings(
        options.feat_type_id,
        calibration.tensor,
        height,
        width,
        channels,
        table,
        packing,
    )


def store_thresholds(settings: MapSettings, folder: Path) -> MapSettings:
    """The [[maps]] table with the file of its quantizer's thresholds, which is written; a map of integers has none."""
    quantizer = quantizer_of(settings, folder)
    if quantizer is None:
        return settings
    name = f"thresholds-{settings.feat_type_id}.npy"
    digest = write_thresholds(folder / name, quantizer.thresholds, classes=settings.quantizer.mode == "adaptive")
    return replace(settings, quantizer=replace(settings.quantizer, thresholds=name, thresholds_sha256=digest))


def write_variant(
    out: Path,
    made: Path,
    settings: ExtractorSettings,
    feature: MapSettings,
    video: VideoSettings,
    force: bool = False,
    class_maps: Path | None = None,
) -> ExtractorSettings:
    """Write an extractor that differs from one in how its map is coded: whole, or not at all.

    :param made: the other one's folder
    :param settings: of it; where its name is the folder's, the new one has the new folder's
    :param class_maps: folder of `feature`'s class map, if it has one
    :raises SettingsError: something stands in the way, or does not fit
    """
    with new_folder(out, force) as folder:
        old = settings.maps[0].quantizer
        for file in made.iterdir():
            if file.name not in (SETTINGS_FILE, old.thresholds, old.class_map):
                shutil.copyfile(file, folder / file.name)
        name = feature.quantizer.class_map
        if name is not None and class_maps is not None:
            shutil.copyfile(class_maps / name, folder / name)
        identity = settings.extractor
        if identity.name == made.name:
            identity = replace(identity, name=out.absolute().name)
        final = replace(settings, extractor=identity, maps=(store_thresholds(feature, folder),), video=video)
        (folder / SETTINGS_FILE).write_text(tomli_w.dumps(final.to_dict()), encoding="utf-8")
        if ExtractorSettings.load(folder) != final:
            raise SettingsError(f"{folder / SETTINGS_FILE}: does not read back as it was written")
    return final


def _check_task(graph: DataGraph, options: PrepareOptions) -> None:
    """The task's files and the outputs that it reads are there."""
    for key, _ in options.task.files:
        path = options.task_files.get(key)
        if path is None or not Path(path).is_file():
            raise SettingsError(f"[task] {key}: found {f'no file {path}' if path else 'no file'}, expected one to copy")
    if isinstance(options.task, SsdDetectorTask):
        for key in ("boxes_output", "logits_output"):
            name = getattr(options.task, key)
            if name not in graph.outputs:
                raise SettingsError(
                    f"[task] {key}: found {name!r}, expected an output of {graph.name}: {graph.outputs}"
                )


def _check_one_file(model: Path) -> None:
    """A network whose weights lie in other files cannot be kept by copying one."""
    proto = onnx.load(str(model), load_external_data=False)
    if any(uses_external_data(tensor) for tensor in proto.graph.initializer):
        raise SettingsError(f"{model}: its weights lie in other files, so it cannot be kept as {WHOLE_FILE}")


def _shape(shape: tuple[int | None, ...] | None) -> str:
    if shape is None:
        return "unknown"
    return "x".join("?" if axis is None else str(axis) for axis in shape)
