"""Split, calibrate, choose a packing, write the extractor's folder."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx
import tomli_w
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
from featlink_codec.video.clip import Clip, open_source

from .calibrate import DEFAULT_FRAMES, Calibration, Progress, calibrate
from .folder import check_free, new_folder
from .graph import Cut, DataGraph
from .packing import choose_packing
from .split import check_cut, open_graph, write_halves

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

    The range of the quantizer is the largest value over the calibration pictures.

    :param model: the whole network, an ONNX file
    :param tensor: where to split it
    :param source: pictures to calibrate with: a video, an image, a folder of images
    :param out_dir: the folder to make; it appears when everything is done, and after an error nothing is left behind
    :param force: an extractor that stands there already is replaced
    :param progress: called with ("split" | "calibrate" | "write", steps done, steps in all)
    :raises SettingsError: anything that does not fit: the model, the tensor, the map, an option, the folder
    :raises FeatlinkError: the source cannot be read
    """
    options = options or PrepareOptions()
    model, out = Path(model), Path(out_dir)
    tell = progress or (lambda stage, done, total: None)
    check_free(out, force)
    clip = source if isinstance(source, Clip) else open_source(source)
    tell("split", 0, 1)
    graph = open_graph(model)
    cut = check_cut(graph, tensor)
    inputs = _input_settings(graph, options)
    _check_task(graph, options)
    if options.keep_whole:
        _check_one_file(model)
    with new_folder(out, force) as folder:
        write_halves(graph, cut, folder / BACKBONE_FILE, folder / HEAD_FILE)
        tell("split", 1, 1)
        near = graph.near(tensor, non_negative=True)
        calibration = calibrate(folder / BACKBONE_FILE, clip, inputs, options.frames, near, progress)
        tell("write", 0, 1)
        feature = _store_thresholds(_map_settings(calibration, options), folder)
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


def _input_settings(graph: DataGraph, options: PrepareOptions) -> InputSettings:
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


def _map_settings(calibration: Calibration, options: PrepareOptions) -> MapSettings:
    """The [[maps]] table of what came out of the backbone."""
    shape = calibration.shape
    if len(shape) != 4 or shape[0] != 1:
        raise SettingsError(f"tensor {calibration.tensor!r}: found shape {_shape(shape)}, expected 1xCxHxW")
    _, channels, height, width = shape
    largest = math.log2(calibration.maximum + 1) if options.mode == "logarithmic" else calibration.maximum
    even = options.video.chroma == "420"
    return MapSettings(
        options.feat_type_id,
        calibration.tensor,
        height,
        width,
        channels,
        QuantizerSettings(options.mode, options.bit_depth, largest, options.partitions),
        options.packing or choose_packing(channels, height, width, even),
    )


def _store_thresholds(settings: MapSettings, folder: Path) -> MapSettings:
    """The [[maps]] table with the file of its quantizer's thresholds, which is written; a map of integers has none."""
    quantizer = quantizer_of(settings)
    if quantizer is None:
        return settings
    name = f"thresholds-{settings.feat_type_id}.npy"
    digest = write_thresholds(folder / name, quantizer.thresholds)
    return replace(settings, quantizer=replace(settings.quantizer, thresholds=name, thresholds_sha256=digest))


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
