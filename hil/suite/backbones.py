"""A backbone of integers, the extractors that boards are tried with, and how far two decoded streams are apart."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import tomli_w
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from featlink_codec.errors import FeatlinkError
from featlink_codec.extractor import (
    SETTINGS_FILE,
    ExtractorSettings,
    ModelFiles,
    PackingSettings,
    QuantizerSettings,
    sha256_of,
)
from featlink_codec.extractor.coding import quantizer_of
from featlink_codec.extractor.preprocess import Preprocessor
from featlink_codec.video.clip import Clip

from .networks import CHANNELS, HEIGHT, TENSOR, WIDTH

#: The map as integers, one operator before `feature`.
LEVELS = "levels"
#: onnxruntime's kernels agree on weights up to it: beyond, some sum 8-bit products in 16 bits; -128 is worse.
LARGEST_WEIGHT = 63
LEAST_WEIGHT = -64
#: Powers of two: then every sum is exact as float32 too, whatever the runtime fuses and in which order it adds.
IMAGE_SCALE, WEIGHT_SCALE, MIDDLE_SCALE, LEVEL_SCALE = 2.0**-8, 2.0**-6, 2.0**-6, 2.0**-4


def integer_network(path: Path) -> Path:
    """image -> 2 x (Conv, Relu) in 8-bit integers (`levels`), as float32 (`feature`) -> GlobalMaxPool (`scores`).

    QDQ: every tensor between two operators goes through QuantizeLinear and DequantizeLinear.
    """
    rng = np.random.default_rng(7)
    values: dict[str, np.ndarray] = {"zero": np.array(0, np.uint8), "signed_zero": np.array(0, np.int8)}
    values["wide_zero"] = np.array(0, np.int32)
    nodes: list[onnx.NodeProto] = []

    def scale(name: str, value: float) -> str:
        values[name] = np.array(value, np.float32)
        return name

    def conv(name: str, given: str, into: int, out: int, stride: int, in_scale: float, out_scale: float) -> str:
        weights = rng.integers(LEAST_WEIGHT, LARGEST_WEIGHT + 1, (out, into, 3, 3))
        values[f"{name}_w"] = weights.astype(np.int8)
        # Of one unit of the sum, as QLinearConv has it.
        values[f"{name}_b"] = rng.integers(-2000, 2000, out).astype(np.int32)
        scale(f"{name}_w_scale", WEIGHT_SCALE)
        scale(f"{name}_b_scale", WEIGHT_SCALE * in_scale)
        scale(f"{name}_scale", out_scale)
        nodes.extend(
            [
                helper.make_node("DequantizeLinear", [f"{name}_w", f"{name}_w_scale", "signed_zero"], [f"{name}_wf"]),
                helper.make_node("DequantizeLinear", [f"{name}_b", f"{name}_b_scale", "wide_zero"], [f"{name}_bf"]),
                helper.make_node(
                    "Conv", [given, f"{name}_wf", f"{name}_bf"], [name], strides=[stride] * 2, pads=[1, 1, 1, 1]
                ),
                helper.make_node("Relu", [name], [f"{name}_relu"]),
            ]
        )
        return f"{name}_relu"

    def quantized(given: str, levels: str, out: str, by: str) -> str:
        nodes.append(helper.make_node("QuantizeLinear", [given, by, "zero"], [levels]))
        nodes.append(helper.make_node("DequantizeLinear", [levels, by, "zero"], [out]))
        return out

    given = quantized("image", "image_levels", "image_exact", scale("image_scale", IMAGE_SCALE))
    given = conv("first", given, 3, 8, 1, IMAGE_SCALE, MIDDLE_SCALE)
    given = quantized(given, "middle_levels", "middle", "first_scale")
    given = conv("second", given, 8, CHANNELS, 2, MIDDLE_SCALE, LEVEL_SCALE)
    quantized(given, LEVELS, TENSOR, "second_scale")
    nodes.append(helper.make_node("GlobalMaxPool", [TENSOR], ["scores"]))
    graph = helper.make_graph(
        nodes,
        "integer",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, HEIGHT, WIDTH])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, CHANNELS, 1, 1])],
        [numpy_helper.from_array(array, name) for name, array in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def integer_extractor(model: Path, prepared: Path, out: Path) -> Path:
    """An extractor whose map is `levels` itself: uint8, never quantized by featlink (feat_integer).

    `featlink-host prepare split` cuts float32 tensors only.

    :param model: as `integer_network` wrote it
    :param prepared: the extractor of it, split at `feature`
    :param out: the folder to make
    """
    settings = ExtractorSettings.load(prepared)
    out.mkdir(parents=True)
    files = {"backbone": (["image"], [LEVELS]), "head": ([LEVELS], ["scores"])}
    for half, (inputs, outputs) in files.items():
        onnx.utils.extract_model(str(model), str(out / f"{half}.onnx"), inputs, outputs)
    hashes = {f"{half}_sha256": sha256_of(out / f"{half}.onnx") for half in files}
    feature = settings.maps[0]
    plain = QuantizerSettings("uniform", 8, 255.0)
    integers = replace(feature, tensor=LEVELS, quantizer=plain, integer=True)
    models = ModelFiles(backbone="backbone.onnx", head="head.onnx", **hashes)
    return _write(replace(settings, maps=(integers,), models=models), out)


def refused_extractor(prepared: Path, out: Path) -> Path:
    """A copy of an extractor with pictures that no encoder takes, an odd row in 4:2:0; `prepare split` would never."""
    settings = ExtractorSettings.load(prepared)
    shutil.copytree(prepared, out)
    feature = replace(settings.maps[0], packing=PackingSettings("stack", pad_h=1))
    return _write(replace(settings, maps=(feature,), video=replace(settings.video, chroma="420")), out)


def coded_extractor(prepared: Path, out: Path, **video: object) -> Path:
    """A copy of an extractor whose pictures are coded another way.

    :param video: fields of [video] that change
    """
    settings = ExtractorSettings.load(prepared)
    shutil.copytree(prepared, out)
    return _write(replace(settings, video=replace(settings.video, **video)), out)  # type: ignore[arg-type]


def _write(settings: ExtractorSettings, folder: Path) -> Path:
    (folder / SETTINGS_FILE).write_text(tomli_w.dumps(settings.to_dict()), encoding="utf-8")
    return folder


@dataclass(frozen=True)
class Apart:
    """How far the maps of two streams are apart, in levels.

    :param maps: pairs that were compared
    :param largest: difference of a sample
    :param differing: share of the samples that differ at all, 0..1
    """

    maps: int
    largest: int
    differing: float


def decoded_levels(folder: Path) -> list[NDArray[np.int32]]:
    """The maps that `featlink-host decode` wrote into a folder, in order, int32 [H, W, C] each."""
    return [np.load(path) for path in sorted(folder.glob("[0-9]*_levels.npy"))]


def own_levels(extractor: Path, pictures: Path) -> Iterator[NDArray[np.integer]]:
    """The same way on this machine, written plainly: picture, tensor, backbone, NumPy's definition of the quantizer."""
    settings = ExtractorSettings.load(extractor)
    session = onnxruntime.InferenceSession(str(extractor / "backbone.onnx"), providers=["CPUExecutionProvider"])
    preprocess, quantizer = Preprocessor(settings.input), quantizer_of(settings.maps[0])
    assert quantizer is not None
    for picture in Clip(pictures):
        (features,) = session.run(None, {"image": preprocess(picture.frame)})
        yield quantizer.quantize(features[0].transpose(1, 2, 0))


def sha256_of_levels(levels: NDArray[np.integer]) -> str:
    """As `featlink-device check` has it."""
    return hashlib.sha256(np.ascontiguousarray(levels, "<i4").tobytes()).hexdigest()


def hashes_of(maps: list[NDArray[np.int32]]) -> list[str]:
    """SHA-256 of each map: shape and levels."""
    return [hashlib.sha256(f"{found.shape}".encode() + found.tobytes()).hexdigest() for found in maps]


def apart(ours: list[NDArray[np.int32]], theirs: list[NDArray[np.int32]]) -> Apart:
    """:raises FeatlinkError: another number of maps, other shapes, or none at all"""
    if not ours or [one.shape for one in ours] != [one.shape for one in theirs]:
        raise FeatlinkError(f"found {len(theirs)} maps of other shapes or number than {len(ours)}, expected the same")
    differences = [np.abs(a.astype(np.int64) - b) for a, b in zip(ours, theirs, strict=True)]
    samples = sum(one.size for one in differences)
    differing = sum(int(np.count_nonzero(one)) for one in differences)
    return Apart(len(ours), max(int(one.max()) for one in differences), differing / samples)
