"""`python -m bench.model`: sizes and accuracies of model streams, beside int8 with xz and, where it is there, nncodec.

    python -m bench.model [--data FOLDER] [--detector MODEL.onnx] [--nncodec PYTHON] [--out docs/bench-model.json]

Fashion-MNIST is Debian's `dataset-fashion-mnist`, fetched where --data does not name the folder with its files. Steps
are chosen on 1,024 training images, accuracies are of all 10,000 test images. The detector is one of float weights with
inputs as the demo's; steps by ten pictures of its clip, distortions on 25 others. nncodec is run by another Python.
"""

from __future__ import annotations

import argparse
import json
import lzma
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlink_codec.model import EncodeSettings, ModelStream, TensorSettings, encode
from featlink_codec.model.reconstruction import qp_for_step, step_size
from featlink_host.model.encoding import base_after, encode_model, update_to
from featlink_host.model.evaluate import Evaluator, accuracy, distortion
from featlink_host.model.feedback import Feedback
from featlink_host.model.onnx_graph import OnnxModel, read_onnx
from featlink_host.model.search import Point, Way, settings_at
from featlink_host.model.sensitivity import offsets, sensitivities

from . import fashion_mnist

Tensor = NDArray[Any]
ROOT = Path(__file__).parents[1]
ASSETS = ROOT / "tests" / "assets"
WAYS = (Way(), Way(0.1), Way(1.29), Way(feedback=True))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.model", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with Fashion-MNIST's four files")
    parser.add_argument("--detector", type=Path, help="a detector with the demo's inputs, of float weights")
    parser.add_argument("--nncodec", help="a Python that has nncodec 2.1.3")
    parser.add_argument("--out", type=Path, default=Path("out/bench-model.json"))
    options = parser.parse_args()
    found: dict[str, Any] = {"fmnist": fmnist(options.data or fashion_mnist.fetched(), options.nncodec)}
    if options.detector is not None:
        found["detector"] = detector(options.detector)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")


class Coder:
    """Encodes a model at points, steps by what tensors do to the outputs."""

    def __init__(self, model: OnnxModel, evaluator: Evaluator) -> None:
        self.model = model
        self._steps = offsets(sensitivities(evaluator), {name: one.size for name, one in model.tensors.items()})
        self._feedback = Feedback(evaluator)

    def stream(self, point: Point, equal: bool = False) -> tuple[bytes, dict[str, Tensor], float]:
        """The stream, what it decodes to, and the seconds it took. :param equal: the same step for all weights"""
        begin = time.perf_counter()
        tensors = dict(self.model.tensors)
        rounded = [name for name in tensors if point.way.feedback and name in self._feedback]
        settings = settings_at(tensors, point, offsets=None if equal else self._steps, rounded=rounded)
        for name in rounded:
            step = float(step_size(settings.of(name, tensors[name].ndim).qp, settings.qp_density))
            tensors[name] = self._feedback.round(name, step)
        made = encode_model(self.model, settings, tensors=tensors)
        return made.data, made.tensors, time.perf_counter() - begin


def fmnist(data: Path, nncodec: str | None) -> dict[str, Any]:
    """The CNN: sizes and accuracies, updates."""
    model, after = read_onnx(ASSETS / "fmnist_cnn.onnx"), read_onnx(ASSETS / "fmnist_cnn_update.onnx")
    images, labels = fashion_mnist.images(data, "t10k"), fashion_mnist.labels(data, "t10k")
    fitting = fashion_mnist.images(data, "train")[:1024]
    test = Evaluator(model, {"image": images})
    coder = Coder(model, Evaluator(model, {"image": fitting}))
    raw = sum(values.nbytes for values in model.tensors.values())

    def row(what: str, size: int, tensors: Mapping[str, Tensor], **more: Any) -> dict[str, Any]:
        outputs = test.outputs(tensors)
        found = {
            "what": what, "bytes": size, "share": size / raw, "accuracy": accuracy(outputs[0], labels),
            "distortion": distortion(test.reference, outputs), **more,
        }  # fmt: skip
        _say(found)
        return found

    rows = [row("fp32", raw, {})]
    size, values = int8_xz(model.tensors)
    rows.append(row("int8 per tensor, xz", size, values))
    streams: dict[Path, Path] = {}
    folder = Path(tempfile.mkdtemp())
    for qp in (-36, -32, -28, -24):
        stream, decoded, seconds = coder.stream(Point(4 * qp), equal=True)
        rows.append(row(f"equal steps, qp {qp}", len(stream), decoded, seconds=seconds))
    for way, points in zip(
        WAYS, ((-28, -26, -24, -22), (-28, -26, -24), (-36, -34, -32), (-24, -22, -20, -18, -17, -16, -15)), strict=True
    ):
        for qp in points:
            stream, decoded, seconds = coder.stream(Point(4 * qp, way))
            rows.append(row(f"steps by outputs, {way.text}, qp {qp}", len(stream), decoded, seconds=seconds))
            path = folder / f"{len(rows)}.nnc"
            path.write_bytes(stream)
            np.savez(path.with_suffix(".npz"), **decoded)
            streams[path] = path.with_suffix(".npz")
    updates = _updates(model, after, coder, images, labels, raw)
    peer = None
    if nncodec is not None:
        peer = _peer(
            nncodec, model, streams, lambda what, size, tensors, seconds: row(what, size, tensors, seconds=seconds)
        )
    return {"rows": rows, "updates": updates, "nncodec": peer}


def _updates(
    model: OnnxModel, after: OnnxModel, coder: Coder, images: Tensor, labels: Tensor, raw: int
) -> list[dict[str, Any]]:
    """Updates over a lossless base, and over a compressed one."""
    test = Evaluator(after, {"image": images})
    rows = [{"what": "the new model, fp32", "accuracy": accuracy(test.reference[0], labels)}]
    _say(rows[0])
    lossless = encode_model(model, settings_at(model.tensors, Point(0)), lossless=True).data
    compressed = coder.stream(Point(4 * -18, Way(feedback=True)))[0]
    for what, base in (("lossless", lossless), ("compressed", compressed)):
        with ModelStream(base) as stream:
            have = base_after(stream)
        for qp, weight in ((-40, 0.0), (-36, 0.0), (-35, 0.0), (-34, 0.0), (-32, 0.0), (-36, 0.3)):
            weights, vectors = (TensorSettings(qp=one, rate_weight=weight) for one in (qp, qp - 12))
            made = update_to(have, after, EncodeSettings(weights=weights, vectors=vectors), original=model)
            rows.append(
                {
                    "what": f"update of a {what} base of {len(base)} bytes, qp {qp}, lambda {weight:g}",
                    "bytes": len(made.data),
                    "share": len(made.data) / raw,
                    "accuracy": test.accuracy(made.tensors, labels),
                }
            )  # fmt: skip
            _say(rows[-1])
    return rows


def detector(path: Path) -> dict[str, Any]:
    """The detector: bytes over distortion of its outputs, beside int8 with xz."""
    from featlink_codec.extractor import InputSettings
    from featlink_codec.extractor.preprocess import Preprocessor
    from featlink_codec.video.clip import open_source
    from featlink_host.demo import demo_source_clip

    model = read_onnx(path)
    prepare = Preprocessor(InputSettings("image", 300, 300, scale=1 / 127.5, offset=-1.0))
    pictures = {picture.number: prepare(picture.frame).copy() for picture in open_source(demo_source_clip())}
    test = Evaluator(model, {"image": np.concatenate([pictures[k] for k in range(0, 250, 10)])})
    coder = Coder(model, Evaluator(model, {"image": np.concatenate([pictures[k] for k in range(5, 250, 25)])}))
    raw = 4 * sum(values.size for values in model.tensors.values())

    def row(what: str, size: int, tensors: Mapping[str, Tensor], **more: Any) -> dict[str, Any]:
        found = {
            "what": what, "bytes": size, "share": size / raw, "distortion": test.distortion(tensors),
            "weights_snr_db": snr(model.tensors, tensors), **more,
        }  # fmt: skip
        _say(found)
        return found

    rows = []
    for channels in (False, True):
        size, values = int8_xz(model.tensors, channels)
        rows.append(row(f"int8 per {'channel' if channels else 'tensor'}, xz", size, values))
    curves: dict[str, list[dict[str, Any]]] = {}
    for way in (Way(), Way(feedback=True)):
        curve = curves[way.text] = []
        for qp in (-36, -32, -28, -24, -20, -16):
            stream, decoded, seconds = coder.stream(Point(4 * qp, way))
            curve.append(row(f"steps by outputs, {way.text}, qp {qp}", len(stream), decoded, seconds=seconds))
        rows += curve
    ratios = {
        f"{text} against {rival['what']}": None
        if (size := bytes_at(curve, rival["distortion"])) is None
        else size / rival["bytes"]
        for text, curve in curves.items()
        for rival in rows[:2]
    }
    # The step of int8 itself, without anything but the coder and dependent quantization.
    same = same_step(model.tensors)
    rows.append(row("int8's own steps, uniform", len(same[0][0]), same[0][1]))
    rows.append(row("int8's own steps, dependent, 3 lower", len(same[1][0]), same[1][1]))
    _say(ratios)
    return {"rows": rows, "bytes_at_equal_distortion": ratios}


def int8_xz(tensors: Mapping[str, Tensor], channels: bool = False) -> tuple[int, dict[str, Tensor]]:
    """Weights as symmetric int8, the rest as it is, all of it by xz -9; and what that decodes to."""
    packed, decoded = bytearray(), {}
    for name, values in tensors.items():
        if values.ndim < 2 or values.dtype.kind != "f":
            packed += values.tobytes()
            continue
        flat = values.astype(np.float32).reshape(len(values), -1)
        largest = np.abs(flat).max(axis=1, keepdims=True) if channels else np.abs(flat).max().reshape(1, 1)
        scale = np.maximum(largest, 1e-12) / np.float32(127)
        levels = np.rint(flat / scale)
        packed += levels.astype(np.int8).tobytes() + scale.astype(np.float32).tobytes()
        decoded[name] = (levels * scale).reshape(values.shape).astype(values.dtype)
    return len(lzma.compress(bytes(packed), preset=9)), decoded


def same_step(tensors: Mapping[str, Tensor]) -> list[tuple[bytes, dict[str, Tensor]]]:
    """Streams with the steps of int8 per tensor: uniform, and dependent with the quantization parameter 3 lower."""
    found = []
    for dq, lower in ((False, 0), (True, 3 * 4)):
        base = EncodeSettings(weights=TensorSettings(qp=-32 * 4), vectors=TensorSettings(qp=-75 * 4), qp_density=4)
        own = {
            name: TensorSettings(qp=qp_for_step(float(np.abs(values.astype(np.float32)).max()) / 127, 4) - lower, dq=dq)
            for name, values in tensors.items()
            if values.ndim > 1 and values.dtype.kind == "f"
        }
        made = encode(tensors, replace(base, tensors=own))
        found.append((made.data, made.tensors))
    return found


def snr(tensors: Mapping[str, Tensor], decoded: Mapping[str, Tensor]) -> float:
    """Of all weights, in dB: mean over the tensors of two dimensions and more."""
    found = []
    for name, values in tensors.items():
        if values.ndim > 1 and values.dtype.kind == "f" and name in decoded:
            error = np.square(values.astype(np.float64) - decoded[name].astype(np.float64)).sum()
            found.append(10 * np.log10(np.square(values.astype(np.float64)).sum() / max(float(error), 1e-300)))
    return float(np.mean(found))


def bytes_at(curve: list[dict[str, Any]], wanted: float) -> float | None:
    """Bytes of a curve at a distortion, between its points; None beyond them."""
    points = sorted((row["distortion"], row["bytes"]) for row in curve)
    if not points[0][0] <= wanted <= points[-1][0]:
        return None
    return float(np.interp(np.log(wanted), np.log([point[0] for point in points]), [point[1] for point in points]))


def _peer(
    python: str, model: OnnxModel, streams: Mapping[Path, Path], row: Callable[..., dict[str, Any]]
) -> dict[str, Any]:
    """What nncodec makes of the same tensors, and of our streams."""
    folder = Path(tempfile.mkdtemp())
    np.savez(folder / "model.npz", **model.tensors)
    wanted = [
        {"qp": qp, "nonweight_qp": -75, "use_dq": True, "param_opt": True, "row_skipping": True, "lambda_scale": weight}
        for qp, weight in ((-32, 0), (-28, 0), (-24, 0), (-30, 4))
    ]
    decode = {str(stream): str(values) for stream, values in streams.items()}
    job = {"tensors": str(folder / "model.npz"), "encode": wanted, "decode": decode}
    (folder / "job.json").write_text(json.dumps(job))
    script = str(Path(__file__).with_name("nncodec_peer.py"))
    done = subprocess.run([python, script, str(folder / "job.json")], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{python}: {done.stderr.strip().splitlines()[-1:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    rows = []
    for one in found["encode"]:
        with np.load(one["tensors"]) as archive:
            values = {name: archive[name].astype(np.float32) for name in archive.files}
        rows.append(
            row(f"nncodec, qp {one['qp']}, lambda_scale {one['lambda_scale']}", one["bytes"], values, one["seconds"])
        )
    exact = sum(found["decode"].values())
    result = {"rows": rows, "our_streams_it_decodes_exactly": f"{exact} of {len(found['decode'])}"}
    _say({"nncodec decodes exactly": result["our_streams_it_decodes_exactly"]})
    return result


def _say(row: Mapping[str, Any]) -> None:
    words = [f"{key} {value:.6g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()]
    sys.stdout.write(", ".join(words) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
