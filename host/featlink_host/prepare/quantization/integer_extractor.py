"""An extractor whose map is a backbone's own levels: no float, and no quantizer of featlink, on the camera's way."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import onnx.utils
import tomli_w

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import SETTINGS_FILE, ExtractorSettings, QuantizerSettings, sha256_of
from featlink_codec.tables import parse_json, read_text

from ..folder import new_folder
from ..pipeline import BACKBONE_FILE, HEAD_FILE
from .affine import Affine
from .golden import Golden, golden
from .integer import IntegerBackbone

#: Hashes of the backbone's levels for fixed inputs, beside it.
GOLDEN_FILE = "golden.json"


def integer_extractor(prepared: Path, found: IntegerBackbone, out: Path, *, force: bool = False) -> Path:
    """The same extractor with the integer backbone: identity, input, packing, video settings and task stay.

    The map becomes uint8 (feat_integer) and its tensor the levels. The head begins with DequantizeLinear.

    :param prepared: an extractor of the same network, split at the same tensor
    :param out: the folder to make; it appears when everything is done
    :param force: an extractor that stands there is replaced
    :raises SettingsError: another network, split or depth, or a map that is not [1, C, H, W]; or the folder
    """
    settings = check_split(prepared, found.cut.name)
    feature = settings.maps[0]
    shape = _shape(found)
    channels_first = feature.layout == "NCHW"
    wanted = (feature.channels, feature.height, feature.width)
    wanted = wanted if channels_first else (*wanted[1:], wanted[0])
    if shape[1:] != wanted:
        raise SettingsError(f"{prepared}: a map of {wanted}, the integer backbone's is {shape[1:]}")
    with new_folder(out, force) as folder:
        onnx.save(found.backbone, str(folder / BACKBONE_FILE))
        onnx.save(found.head, str(folder / HEAD_FILE))
        write_golden(folder / GOLDEN_FILE, found)
        kept = [name for _, name in settings.task.files]
        if settings.models.whole is not None:
            kept.append(settings.models.whole)
        for name in kept:
            shutil.copyfile(prepared / name, folder / name)
        integers = replace(
            feature,
            tensor=found.tensor,
            quantizer=QuantizerSettings("uniform", 8, float(found.affine.last)),
            integer=True,
        )
        models = replace(
            settings.models,
            backbone=BACKBONE_FILE,
            backbone_sha256=sha256_of(folder / BACKBONE_FILE),
            head=HEAD_FILE,
            head_sha256=sha256_of(folder / HEAD_FILE),
        )
        made = replace(settings, maps=(integers,), models=models)
        (folder / SETTINGS_FILE).write_text(tomli_w.dumps(made.to_dict()), encoding="utf-8")
        if ExtractorSettings.load(folder) != made:
            raise SettingsError(f"{folder / SETTINGS_FILE}: does not read back as it was written")
    return out


def check_split(prepared: Path, tensor: str) -> ExtractorSettings:
    """An extractor's settings (SettingsError: it is none, or is split elsewhere)."""
    settings = ExtractorSettings.load(prepared)
    if len(settings.maps) != 1 or settings.maps[0].tensor != tensor:
        raise SettingsError(f"{prepared}: split at {settings.source_model.split_tensor!r}, expected {tensor!r}")
    return settings


def write_golden(path: Path, found: IntegerBackbone) -> None:
    """The hashes, and what the inputs are made with, as JSON."""
    given = found.network.quantizers[found.backbone.graph.input[0].name]
    text = {
        "input": {"step": given.scale, "zero_point": given.zero_point, "bits": given.bits},
        "tensor": found.tensor,
        **found.golden.figures(),
    }
    path.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")


def check_golden(backbone: Path, golden_file: Path) -> Golden:
    """Compute the hashes again, here and now, with all settings.

    :raises SettingsError: the files cannot be read, or the hashes are others
    """
    found = parse_json(read_text(golden_file), golden_file, "golden hashes")
    try:
        given = found["input"]
        affine = Affine(float(given["step"]), int(given["zero_point"]), int(given["bits"]))
        wanted = tuple(found["sha256"])
    except (KeyError, TypeError, ValueError):
        raise SettingsError(f"{golden_file}: no golden hashes") from None
    computed = golden(_to_levels(onnx.load(str(backbone))), affine, pictures=len(wanted))
    if computed.hashes != wanted:
        raise SettingsError(f"{backbone}: gives {', '.join(computed.hashes)}, expected {', '.join(wanted)}")
    return computed


def _to_levels(backbone: onnx.ModelProto) -> onnx.ModelProto:
    """A backbone that ends with its levels: where its map is what they stand for, without the last operator."""
    (out,) = (value.name for value in backbone.graph.output)
    for node in backbone.graph.node:
        if out in node.output and node.op_type == "DequantizeLinear":
            inferred = onnx.shape_inference.infer_shapes(backbone)
            given = [value.name for value in backbone.graph.input]
            return onnx.utils.Extractor(inferred).extract_model(given, [node.input[0]])
    return backbone


def _shape(found: IntegerBackbone) -> tuple[int, ...]:
    value = found.backbone.graph.output[0]
    return tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
