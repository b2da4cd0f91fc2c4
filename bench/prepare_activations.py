"""Activations as levels: all methods and schemes on two networks, and the detector's integer backbone.

    python -m bench.prepare_activations [--part fashion-mnist | detector | integer] [--data FOLDER] [--out FILE]

Fashion-MNIST: weights of 8 bits within -64..63, inputs of layers of 8 bits (the first layer's stays as it is);
calibrated on 1,024 training images, accuracy of all 10,000 test images. The detector: activations of its backbone
alone, weights and head in float; calibrated on 16 pictures of the demo's clip, scored on 64. The clip has only 250
pictures: those of the calibration are among the scored ones. Integer backbones are fitted on 16 pictures and scored on
64, all 250, and on those of the 250 that nothing was fitted on. Each part replaces its own figures in the file.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from featlink_host.demo import SPLIT_TENSOR, demo_model
from featlink_host.detector import Agreement, agreement
from featlink_host.prepare.calibrate import spread
from featlink_host.prepare.graph import DataGraph
from featlink_host.prepare.quantization.folding import folded
from featlink_host.prepare.quantization.integer import IntegerOptions, integer_backbone
from featlink_host.prepare.quantization.places import find_places
from featlink_host.prepare.quantization.qdq import QdqOptions, insert_qdq
from featlink_host.prepare.quantization.ranges import METHODS, SCHEMES, RangeOptions, observe
from featlink_host.prepare.samples import Preprocessing, open_samples
from featlink_host.prepare.scoring import DetectorJudge, Score, demo_judge, labelled_judge
from featlink_host.prepare.scoring_runs import ModelRunner
from featlink_host.prepare.split import extract_halves

from .fashion_mnist import fetched

ROOT = Path(__file__).parents[1]
FMNIST = ROOT / "tests" / "assets" / "fmnist_cnn.onnx"
HOW = Preprocessing(1 / 255 / 0.353, -0.286 / 0.353)
TRAINING_IMAGES, FRAMES, SCORED_FRAMES, CLIP_FRAMES = 1024, 16, 64, 250
#: Integer backbones: what is compared.
BACKBONES = {
    "power-of-two, not fitted": IntegerOptions(fine_tune=False, wide_share=1),
    "free, not fitted": IntegerOptions(scale_steps="free", fine_tune=False),
    "power-of-two, not equalized": IntegerOptions(equalize=False, wide_share=1),
    "power-of-two, all 8 bits": IntegerOptions(wide_share=1),
    "power-of-two, fewer tensors of 11 bits": IntegerOptions(wide_share=0.02),
    "power-of-two": IntegerOptions(),
    "activations": IntegerOptions(scale_steps="activations"),
    "free": IntegerOptions(scale_steps="free"),
}


def main() -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", choices=("fashion-mnist", "detector", "integer"))
    parser.add_argument("--only", help="of the integer backbones, with semicolons between")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "prepare-activations.json")
    given = parser.parse_args()
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "fashion-mnist": lambda: fashion_mnist(given.data or fetched()),
        "detector": detector,
        "integer": lambda: integer(given.only),
    }
    for name, make in parts.items():
        if given.part in (None, name):
            made = make()
            have = json.loads(given.out.read_text()) if given.out.exists() else {}
            # Backbones one by one take the place of those that are there.
            have[name] = {**have.get(name, {}), **made} if name == "integer" else made
            given.out.write_text(json.dumps(have, indent=1) + "\n")


def fashion_mnist(data: Path) -> dict[str, Any]:
    """Accuracies by scheme and method, and those of wider inputs."""
    model = onnx.load(str(FMNIST))
    test, train = (
        open_samples(data / f"{part}-images-idx3-ubyte.gz", data / f"{part}-labels-idx1-ubyte.gz", model, HOW)
        for part in ("t10k", "train")
    )
    judge = labelled_judge(model, test)
    plain = folded(model, 21)
    seen = observe(plain, (one.inputs for one in train.batches(64, TRAINING_IMAGES)), find_places(plain).leaders)
    rows = []
    for scheme in SCHEMES:
        for method in METHODS:
            for exact in (False, True) if scheme == "power-of-two" else (False,):
                ranges = RangeOptions(method, scheme)  # type: ignore[arg-type]
                network = insert_qdq(plain, None, seen, QdqOptions(ranges, exact_weights=exact))
                rows.append(_row(judge.score(network.model), scheme=scheme, method=method, exact_weights=exact))
    wider = []
    for bits in (8, 10, 12, 16, 24, 32):
        network = insert_qdq(plain, None, seen, QdqOptions(RangeOptions("minmax", "asymmetric", bits)))
        wider.append(_row(judge.score(network.model), bits=bits))
    return {"float": _row(judge.score(model)), "methods": rows, "bits": wider}


def detector() -> dict[str, Any]:
    """Recall, precision and distortion by scheme and method; activations only."""
    judge = demo_judge(SCORED_FRAMES)
    graph = DataGraph(onnx.load(str(demo_model())))
    near, far = extract_halves(graph, [SPLIT_TENSOR])
    near, head = folded(near), ModelRunner(far)
    places = find_places(near, first_input=True, outputs=True)
    seen = observe(near, judge.batches(FRAMES), places.leaders)
    rows = []
    for scheme in SCHEMES:
        for method in METHODS:
            ranges = RangeOptions(method, scheme)  # type: ignore[arg-type]
            options = QdqOptions(ranges, first_input=True, outputs=True, plain=frozenset(places.layers))
            score = _score(judge, insert_qdq(near, None, seen, options).model, head)
            rows.append(_row(score, scheme=scheme, method=method))
    return {"methods": rows}


def integer(only: str | None) -> dict[str, Any]:
    """Backbones: agreement, golden hashes, seconds."""
    short, whole = demo_judge(SCORED_FRAMES), demo_judge(CLIP_FRAMES)
    model = onnx.load(str(demo_model()))
    made: dict[str, Any] = {}
    for name, options in BACKBONES.items():
        if only is not None and name not in only.split(";"):
            continue
        began = time.perf_counter()
        options = replace(options, samples=FRAMES, tune_samples=FRAMES)
        found = integer_backbone(
            model,
            SPLIT_TENSOR,
            None,
            options,
            batches=lambda: short.batches(FRAMES),
        )
        seconds = time.perf_counter() - began
        made[name] = {
            "seconds": round(seconds, 1),
            "scored": _row(short.score(found.whole)),
            "all": _row(whole.score(found.whole)),
            "unseen": _unseen(whole, found.whole),
            "wide": [name for name, one in found.network.quantizers.items() if one.bits > 8],
            "wide_weights": {name: list(found.network.weights[name].span) for name in sorted(found.network.wide)},
            "doubts": len(found.network.doubts),
            "golden": found.golden.figures(),
            "largest_sum": max(found.network.sums.values()),
        }
        print(json.dumps({name: made[name]}), flush=True)  # noqa: T201 (a command line)
    return made


def _unseen(judge: DetectorJudge, model: onnx.ModelProto) -> dict[str, Any]:
    """Agreement on the pictures of the clip that nothing was fitted on."""
    fitted = set(spread(CLIP_FRAMES, FRAMES))
    run, total, frames = ModelRunner(model), Agreement(), 0
    for number, batch in enumerate(judge.batches()):
        if number not in fitted:
            (ours,) = judge.detections(run(batch))
            total += agreement(judge.reference[number], ours)
            frames += 1
    return {"recall": round(total.recall, 4), "precision": round(total.precision, 4), "frames": frames}


def _score(judge: DetectorJudge, near: onnx.ModelProto, head: ModelRunner) -> Score:
    run = ModelRunner(near)

    def both(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return head(run(inputs))

    return judge.score_of(both)


def _row(score: Score, **more: object) -> dict[str, Any]:
    kept = {key: value for key, value in score.figures().items() if key not in ("kind", "f1") and value is not None}
    return {**more, **{key: round(value, 5) if isinstance(value, float) else value for key, value in kept.items()}}


if __name__ == "__main__":
    main()
