"""`python -m bench.nnc_tensor`: parameters a second through the model stream's coder, on ResNet-50's shapes.

Where nncodec's extension can be imported (PYTHONPATH names the folder of deepCABAC), its coder takes turns with ours.
With --whole, so does all that `nn.encode` does, in another Python, with all that our `encode` does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlink_codec.model import EncodeSettings, TensorSettings, encode, tensor_core
from featlink_codec.model.tensor_coding import TensorCoding

#: Scale of the Laplace distribution: what ResNet-50 comes to in bits at these steps.
SCALE = 0.0195
N = 11


def resnet50() -> list[tuple[int, int]]:
    """[rows, columns] of its 54 weights, 25.5 million in all."""
    shapes, inputs = [(64, 3 * 49)], 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            shapes += [(width, inputs), (width, width * 9), (4 * width, width)]
            if not block:
                shapes.append((4 * width, inputs))
            inputs = 4 * width
    return [*shapes, (1000, 2048)]


def step_of(qp: int) -> float:
    """The step of a qp with density 2."""
    return (4 + (qp & 3)) * 2.0 ** ((qp >> 2) - 2)


class Clock:
    """The least time that each thing took, summed over the tensors."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def run(self, name: str, call: Callable[[], Any], rounds: int) -> Any:
        """Call it; its least time counts."""
        least = float("inf")
        for _ in range(rounds):
            start = time.perf_counter()
            result = call()
            least = min(least, time.perf_counter() - start)
        self.seconds[name] = self.seconds.get(name, 0.0) + least
        return result


def encoded(indices: NDArray[np.int32], coding: TensorCoding) -> bytes:
    """A payload, with the sets that cost least."""
    encoder = tensor_core.PayloadEncoder()
    encoder.tensor(indices, coding, row_skip=True)
    return encoder.finish()


def decoded(payload: bytes, coding: TensorCoding, step: float) -> NDArray[np.float32]:
    """Its values."""
    decoder = tensor_core.PayloadDecoder(payload)
    levels = decoder.tensor(coding)
    decoder.finish()
    return tensor_core.dequantize(levels, step, levels.view(np.float32))


class Peer:
    """nncodec's coder, without what its Python does around it."""

    def __init__(self) -> None:
        self._module = import_module("deepCABAC")
        self._history = (self._module.HdspMode.AlwaysOff, np.zeros(0, np.int8))

    def quantized(self, weights: NDArray[np.float32], coding: TensorCoding, qp: int) -> NDArray[np.int32]:
        """Its quantizer: levels."""
        levels = np.zeros(weights.shape, np.int32)
        self._module.Encoder().quantLayer(weights, levels, int(coding.dq), 2, qp, 0.0, N, 0, 1)
        return levels

    def encoded(self, levels: NDArray[np.int32], coding: TensorCoding) -> Any:
        """Its encoder, which tries all sets."""
        encoder = self._module.Encoder()
        encoder.initCtxModels(N, 1)
        skip = (1, np.ascontiguousarray(~levels.any(axis=1), np.int32))
        encoder.encodeLayer(levels, int(coding.dq), 0, 1, 0, *skip, *self._history, 0, 0)
        return encoder.finish()

    def decoded(self, payload: NDArray[np.uint8], coding: TensorCoding, qp: int) -> NDArray[np.float32]:
        """Its decoder, and values."""
        levels = np.zeros((coding.rows, coding.columns), np.int32)
        values = np.zeros_like(levels, np.float32)
        decoder = self._module.Decoder()
        decoder.setStream(payload)
        decoder.initCtxModels(N)
        decoder.decodeLayer(levels, int(coding.dq), 0, 1, 0, *self._history, 0, 0)
        decoder.finish()
        decoder.dequantLayer(values, levels, 2, qp, 0)
        return values


def measure(qp: int, dq: bool, shapes: list[tuple[int, int]], rounds: int, peer: Peer | None) -> dict[str, Any]:
    """Millions of parameters a second, and the size."""
    clock, step, size, count = Clock(), step_of(qp), 0, 0
    rng = np.random.default_rng(1)
    for rows, columns in shapes:
        coding = TensorCoding(rows, columns, N, dq)
        weights = rng.laplace(0, SCALE, (rows, columns)).astype(np.float32)
        indices = clock.run("quantize", lambda c=coding, w=weights: tensor_core.quantize(w, step, c), rounds)
        payload = clock.run("encode", lambda c=coding, k=indices: encoded(k, c), rounds)
        values = clock.run("decode", lambda c=coding, p=payload: decoded(p, c, step), rounds)
        size, count = size + len(payload), count + rows * columns
        if peer:
            levels = clock.run("peer quantize", lambda c=coding, w=weights: peer.quantized(w, c, qp), 1)
            clock.run("peer encode", lambda c=coding, k=levels: peer.encoded(k, c), 1)
            data = np.frombuffer(payload, np.uint8)
            others = clock.run("peer decode", lambda c=coding, p=data: peer.decoded(p, c, qp), rounds)
            assert values.tobytes() == others.tobytes(), "the two decoders differ"
    rates = {name: round(count / seconds / 1e6, 2) for name, seconds in clock.seconds.items()}
    seconds = clock.seconds
    rates["quantize and encode"] = round(count / (seconds["quantize"] + seconds["encode"]) / 1e6, 2)
    if peer:
        rates["decode ratio"] = round(seconds["peer decode"] / seconds["decode"], 2)
        both = seconds["quantize"] + seconds["encode"]
        rates["encode ratio"] = round((seconds["peer quantize"] + seconds["peer encode"]) / both, 2)
    return {"qp": qp, "dq": dq, "bits": round(8 * size / count, 3), **rates}


def whole(python: str, qp: int, dq: bool, shapes: list[tuple[int, int]], rounds: int) -> dict[str, Any]:
    """Our `encode` and nncodec's `nn.encode`, as their users call them, in turns: medians of seconds, and bytes."""
    rng = np.random.default_rng(1)
    tensors = {f"t{k}": rng.laplace(0, SCALE, shape).astype(np.float32) for k, shape in enumerate(shapes)}
    settings = EncodeSettings(TensorSettings(qp=qp, dq=dq), TensorSettings(dq=dq))
    ours, theirs, ratios = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "x.npz", **tensors)
        job = {"tensors": f"{folder}/x.npz", "encode": [], "decode": {}, "whole": [{"qp": qp, "use_dq": dq}]}
        (Path(folder) / "job.json").write_text(json.dumps(job))
        command = [python, str(Path(__file__).with_name("nncodec_peer.py")), f"{folder}/job.json"]
        for _ in range(rounds):
            start = time.perf_counter()
            size = len(encode(tensors, settings).data)
            ours.append(time.perf_counter() - start)
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            peer = json.loads(printed.splitlines()[-1])["whole"][0]
            theirs.append(peer["seconds"])
            ratios.append(theirs[-1] / ours[-1])
    count = sum(rows * columns for rows, columns in shapes) / 1e6
    return {
        "whole": {
            "qp": qp,
            "dq": dq,
            "parameters": count,
            "rounds": rounds,
            "bytes": size,
            "peer bytes": peer["bytes"],
        },
        "encode": round(count / statistics.median(ours), 2),
        "peer encode": round(count / statistics.median(theirs), 2),
        "encode ratio": round(statistics.median(ratios), 2),
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure, one line of JSON for each setting."""
    parser = argparse.ArgumentParser(prog="python -m bench.nnc_tensor", description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="only one of so many tensors")
    parser.add_argument("--rounds", type=int, default=3, help="the least time of so many counts")
    parser.add_argument("--peer", action="store_true", help="measure nncodec's coder, too")
    parser.add_argument(
        "--whole", metavar="PYTHON", help="instead: a Python that has nncodec, to compare whole encodes"
    )
    options = parser.parse_args(arguments)
    peer = Peer() if options.peer else None
    for qp in (-38, -32, -26):
        for dq in (True, False):
            shapes = resnet50()[:: options.every]
            if options.whole:
                found = whole(options.whole, qp, dq, shapes, options.rounds)
            else:
                found = measure(qp, dq, shapes, options.rounds, peer)
            sys.stdout.write(json.dumps(found) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
