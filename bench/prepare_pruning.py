"""Pruning and factorization: size and MACs against accuracy (Fashion-MNIST) and agreement (the demo's detector).

Run: python -m bench.prepare_pruning FASHION_MNIST_FOLDER [--out docs/prepare-pruning.json]

Importances, covariances and refits see training images of Fashion-MNIST and the first half of the demo's clip; scores
are of all test images and of the clip's second half. Points that OUT has are not measured again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from featlink_codec.files import write_whole
from featlink_codec.video.clip import Clip, Picture
from featlink_host.demo import demo_model, demo_options, demo_source_clip
from featlink_host.prepare.factorization.step import FactorOptions, factorize
from featlink_host.prepare.pruning.sizes import size_of
from featlink_host.prepare.pruning.structured import ChannelOptions, prune_channels
from featlink_host.prepare.pruning.unstructured import WeightOptions, prune_weights
from featlink_host.prepare.samples import Preprocessing, open_samples
from featlink_host.prepare.scoring import Judge, detector_judge, labelled_judge

FASHION_MNIST = Path(__file__).parent.parent / "tests" / "assets" / "fmnist_cnn.onnx"
ABOUT = "fitted on training images and the clip's first half, scored on test images and the clip's second half"
TRAINING_IMAGES = 1024
CALIBRATION_FRAMES, TEST_FRAMES = 24, 48

#: Of each method: what is varied, and its values on Fashion-MNIST and on the detector.
BUDGETS = ((0.75, 0.5, 0.25), (0.98, 0.95, 0.9, 0.8))
SPARSITIES = ((0.5, 0.7, 0.8, 0.9), (0.1, 0.3, 0.5))
SHARES = ((0.25, 0.5, 0.75), (0.1,))
FACTORS = ((0.97, 0.95, 0.93), (0.95, 0.9, 0.85, 0.8))
SPATIAL = ((0.75, 0.5, 0.25), ())


class Part(Clip):
    """Some consecutive pictures of a clip."""

    def __init__(self, path: Path, first: float, last: float) -> None:
        super().__init__(path)
        whole = super().count()
        self._range = range(int(whole * first), int(whole * last))

    def count(self) -> int:
        """How many there are."""
        return len(self._range)

    def __iter__(self) -> Iterator[Picture]:
        for picture in super().__iter__():
            if picture.number in self._range:
                yield picture._replace(number=picture.number - self._range.start)


@dataclass(frozen=True)
class Case:
    """A network, what it is fitted on and what it is judged on."""

    name: str
    model: onnx.ModelProto
    fitting: Judge
    judge: Judge
    calibration: int


def fashion_mnist(folder: Path) -> Case:
    """The CNN that the tests use."""
    model = onnx.load(FASHION_MNIST)
    how = Preprocessing(1 / 255 / 0.353, -0.286 / 0.353)

    def judge(part: str, limit: int | None) -> Judge:
        images, labels = folder / f"{part}-images-idx3-ubyte.gz", folder / f"{part}-labels-idx1-ubyte.gz"
        return labelled_judge(model, open_samples(images, labels, model, how), limit)

    return Case("Fashion-MNIST CNN", model, judge("train", TRAINING_IMAGES), judge("t10k", None), TRAINING_IMAGES)


def detector() -> Case:
    """The demo's."""
    model = onnx.load(demo_model())
    first, second = Part(demo_source_clip(), 0, 0.5), Part(demo_source_clip(), 0.5, 1)
    fitting = detector_judge(model, demo_options(), first, CALIBRATION_FRAMES)
    judge = detector_judge(model, demo_options(), second, TEST_FRAMES)
    return Case("demo detector", model, fitting, judge, CALIBRATION_FRAMES)


def methods(case: Case, at: int) -> Iterator[tuple[str, dict[str, Any], Callable[[], Any]]]:
    """Everything that is tried: a curve's name, the point's options, and the step; refits first, they say most."""
    for refit in (True, False):
        more = "refit" if refit else "no refit"
        common: dict[str, Any] = {"refit": refit, "calibration": case.calibration}
        # A refit of the detector takes minutes: one kind of importance and of threshold is enough for its curve.
        few = refit and at == 1
        for kind in ("contribution",) if few else ("contribution", "sensitivity") if refit else ("contribution", "l2"):
            for value in BUDGETS[at]:
                given = {"budget_macs": value, "importance": kind, **common}
                yield f"channels by budget, {kind}, {more}", given, _channels(case, given)
        for aware in (True,) if refit else (True, False):
            what = "data-aware" if aware else "plain"
            for spatial, values in ((False, FACTORS[at]), (True, SPATIAL[at])):
                kind = "SVD of all convolutions" if spatial else "SVD"
                for value in values:
                    given = {"budget_macs": value, "data_aware": aware, "spatial": spatial, **common}
                    yield f"{kind}, {what}, {more}", given, _factors(case, given)
        for scope in ("global",) if few else ("global", "tensor"):
            for value in SPARSITIES[at]:
                given = {"sparsity": value, "scope": scope, **common}
                yield f"weights, {scope}, {more}", given, _weights(case, given)
        for value in SHARES[at]:
            given = {"channels": value, "importance": "contribution", **common}
            yield f"channels by share, {more}", given, _channels(case, given)


def _channels(case: Case, given: dict[str, Any]) -> Callable[[], Any]:
    return lambda: prune_channels(case.model, case.fitting, ChannelOptions(**given))


def _factors(case: Case, given: dict[str, Any]) -> Callable[[], Any]:
    return lambda: factorize(case.model, case.fitting, FactorOptions(**given))


def _weights(case: Case, given: dict[str, Any]) -> Callable[[], Any]:
    return lambda: prune_weights(case.model, case.fitting, WeightOptions(**given))


def measure(case: Case, at: int, before: dict[str, Any], put: Callable[[dict[str, Any]], None]) -> None:
    """All curves of a network; points that are known already are taken from there.

    :param before: what is known of it
    :param put: given the network after each point
    """
    known = {
        (curve, json.dumps(point["options"], sort_keys=True)): point
        for curve, points in before.get("curves", {}).items()
        for point in points
    }
    curves: dict[str, list[dict[str, Any]]] = {}
    network = {
        "name": case.name,
        "calibration_samples": case.calibration,
        "whole": before.get("whole")
        or {"score": case.judge.score(case.model).figures(), "size": size_of(case.model).figures()},
        "curves": curves,
    }
    for curve, options, step in methods(case, at):
        point = known.pop((curve, json.dumps(options, sort_keys=True)), None)
        fresh = point is None
        point = point or _point(case, options, step)
        curves.setdefault(curve, []).append(point)
        if fresh:
            print(curve, options, point.get("score", {}).get("value", point.get("refused")), flush=True)  # noqa: T201 (a command line)
            left: dict[str, list[dict[str, Any]]] = {}
            for (name, _), one in known.items():
                left.setdefault(name, []).append(one)
            put({**network, "curves": {k: curves.get(k, []) + left.get(k, []) for k in {**curves, **left}}})
    put(network)


def _point(case: Case, options: dict[str, Any], step: Callable[[], Any]) -> dict[str, Any]:
    from featlink_codec.errors import SettingsError

    begin = time.perf_counter()
    try:
        found = step()
    except SettingsError as error:
        return {"options": options, "refused": str(error)}
    seconds = time.perf_counter() - begin
    score = case.judge.score(found.model).figures()
    return {"options": options, "score": score, "size": found.after.figures(), "seconds": round(seconds, 1)}


def main() -> None:
    """Measure everything and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fashion_mnist", type=Path, help="folder of dataset-fashion-mnist")
    parser.add_argument("--out", type=Path, default=Path("docs/prepare-pruning.json"))
    parser.add_argument("--only", choices=("fashion-mnist", "detector"), help="one of the networks")
    given = parser.parse_args()
    found: dict[str, Any] = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else {}
    found["about"] = ABOUT
    networks = {one["name"]: one for one in found.get("networks", ())}
    makers: dict[str, Callable[[], Case]] = {
        "fashion-mnist": lambda: fashion_mnist(given.fashion_mnist),
        "detector": detector,
    }
    for at, (name, make) in enumerate(makers.items()):
        if given.only not in (None, name):
            continue

        def put(network: dict[str, Any]) -> None:
            networks[network["name"]] = network
            write_whole(given.out, json.dumps({**found, "networks": [*networks.values()]}, indent=1) + "\n")

        case = make()
        measure(case, at, networks.get(case.name, {}), put)


if __name__ == "__main__":
    main()
