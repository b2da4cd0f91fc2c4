"""Adaptive quantizers on the demo's detector: errors, agreement and bytes at signed cuts and cuts behind a ReLU.

Run: nice python -m bench.adaptive --work DIR [--frames 250] [--bits 6,5] [--errors] [--so-far]

Quantizers are fitted and chosen on every other run of 8 consecutive pictures of the demo's clip; figures are of the
runs between. It takes hours on a busy machine, goes on where it was stopped (DIR has its notes), and --so-far writes
what the notes hold. Results: docs/adaptive.json.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from featlink_codec.features.adaptive import DECIDERS
from featlink_codec.video.clip import open_source
from featlink_host.demo import demo_model, demo_options, demo_source_clip
from featlink_host.model.notes import Notes
from featlink_host.prepare.build_points import Way
from featlink_host.prepare.build_search import Target
from featlink_host.prepare.quantizer_cut import CutBench, open_cut
from featlink_host.prepare.quantizer_fits import AdaptiveChoice
from featlink_host.prepare.quantizer_run import QuantizerOptions, compare_quantizers
from featlink_host.prepare.quantizer_ways import equal_bits
from featlink_host.prepare.record import digest_of, plain, step_key

OUT = Path(__file__).parents[1] / "docs" / "adaptive.json"
#: A bottleneck, a residual sum, a map before its ReLU6; then two behind a ReLU6.
SIGNED = ("expanded_conv_6/project/add_1", "expanded_conv_9/AddOpsRewrite_add", "expanded_conv_6/depthwise/add_1")
POSITIVE = ("expanded_conv_6/depthwise/Relu6", "expanded_conv_13/expand/Relu6")
DEPTHS = range(2, 9)
#: F1 that the winner has at least, where it is chosen.
AGREEMENT = 0.95


def errors_of(bench: CutBench) -> dict[str, dict[str, float]]:
    """By quantizer and bits: mean squared error over the map's variance, on maps that nothing was fitted to."""
    found: dict[str, dict[str, float]] = {}
    for bits in DEPTHS:
        ways = [Way.adapted(one, None) for one in equal_bits(bench.bench.feature.channels, bits)]
        # Depths of classes differ by whole bits, and bounds leave nothing to give at 2 and at 8.
        ways = [way for way in ways if way.adaptive is not None and (way.adaptive.bits is None or 2 < bits < 8)]
        if not bench.signed:
            ways += [Way(mode, bits, None) for mode in ("uniform", "logarithmic") if bits in (2, 4, 8)]
        for way in ways:
            name = way.name.rsplit(",", 1)[0] if way.adaptive is not None else f"standard {way.mode}"
            found.setdefault(name, {})[str(bits)] = bench.error(way)
            sys.stderr.write(f"{bench.tensor}: {way.name}: {found[name][str(bits)]:.3g}\n")
    return found


def decided(bench: CutBench) -> dict[str, str]:
    """By decider: the distribution that it takes here."""
    found = {}
    for name in DECIDERS:
        (one,) = bench.fitter.decision(AdaptiveChoice(name, "least-squares", 6)).classes
        found[name] = one.distribution.name.lower()
    return found


def points_of(notes: Path) -> dict[str, list[dict[str, Any]]]:
    """By cut: what the notes hold, a line a way."""
    held = json.loads(notes.read_text())["found"]
    found: dict[str, list[dict[str, Any]]] = {}
    for name, figures in held.items():
        if isinstance(figures, dict) and "chosen_on" in figures:
            found.setdefault(name.split(" ")[0], []).append(line_of(figures))
    for lines in found.values():
        lines.sort(key=lambda one: one["way"])
    return found


#: Families of quantizers, by what their names hold; all that is left is one class with fitted spreads.
FAMILIES = {
    "channel classes": "channel classes",
    "region and block classes": " classes",
    "one class, min..max": "min..max",
}
DISTORTIONS = (0.01, 0.005, 0.003, 0.002, 0.001, 0.0005)


def bytes_at(points: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """By family and distortion: bytes of a map that it takes, between two points as the logarithms of both go.

    Of the pictures that are reported on; only points that nothing beats in both count.
    """
    families: dict[str, list[tuple[float, float]]] = {}
    for one in points:
        found = one["reported_on"]
        pair = found["map_bytes"], found["distortion"]
        name = "standard"
        if one["way"].startswith("adaptive"):
            name = next((name for name, part in FAMILIES.items() if part in one["way"]), "one class, fitted spread")
        families.setdefault(name, []).append(pair)
    found = {name: _reached(sorted(pairs)) for name, pairs in families.items()}
    adaptive = [sizes for name, sizes in found.items() if name != "standard"]
    best = {str(one): [sizes[str(one)] for sizes in adaptive if str(one) in sizes] for one in DISTORTIONS}
    return {**found, "adaptive, best": {one: min(sizes) for one, sizes in best.items() if sizes}}


def _reached(pairs: list[tuple[float, float]]) -> dict[str, int]:
    front: list[tuple[float, float]] = []
    for size, distortion in pairs:
        if not front or distortion < front[-1][1]:
            front.append((size, distortion))
    found = {}
    for wanted in DISTORTIONS:
        for (less, worse), (more, better) in pairwise(front):
            if better <= wanted <= worse:
                share = math.log(worse / wanted) / math.log(worse / better)
                found[str(wanted)] = round(less * (more / less) ** share)
    return found


def line_of(figures: dict[str, Any]) -> dict[str, Any]:
    """A way's figures, without what can be told from others."""
    from featlink_host.prepare.build_points import point_of

    one, other = (point_of(figures[key]) for key in ("chosen_on", "reported_on"))
    return {
        "way": str(one.way),
        "header_bytes": figures["header_bytes"],
        "chosen_on": {"map_bytes": round(one.map_bytes, 1), "f1": one.score.f1, "distortion": one.score.distortion},
        "reported_on": {
            "map_bytes": round(other.map_bytes, 1),
            "f1": other.score.f1,
            "recall": other.score.value,
            "precision": other.score.precision,
            "distortion": other.score.distortion,
            "objects": other.score.counted,
        },
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=250)
    parser.add_argument("--bits", default="6,5")
    parser.add_argument("--errors", action="store_true", help="only errors of quantizers: minutes")
    parser.add_argument("--so-far", action="store_true", help="measure nothing: write what the notes hold")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args(arguments)
    given.work.mkdir(parents=True, exist_ok=True)
    model, source = demo_model(), demo_source_clip()
    files = {"model": digest_of(model), "source": digest_of(source)}
    notes = Notes(given.work / "notes.json", step_key("adaptive", files, {"frames": given.frames}))
    written: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {}
    clip = open_source(source)
    if given.errors:
        for number, tensor in enumerate((*SIGNED, *POSITIVE)):
            folder = given.work / f"errors-{number}"
            bench = open_cut(model, tensor, clip, demo_options(), given.frames, None, None, folder, notes)
            written.setdefault("errors", {})[tensor] = errors_of(bench)
            written.setdefault("decided", {})[tensor] = decided(bench)
    elif not given.so_far:
        bits = tuple(int(one) for one in given.bits.split(","))
        options = QuantizerOptions(
            (*SIGNED, *POSITIVE), Target(agreement=AGREEMENT), demo_options(), given.frames, None, bits
        )
        written["reason"] = compare_quantizers(model, clip, options, given.work, notes=notes).reason
    if (given.work / "notes.json").exists():
        written["frames"] = given.frames
        written["points"] = points_of(given.work / "notes.json")
        written["bytes_at_distortion"] = {tensor: bytes_at(points) for tensor, points in written["points"].items()}
    text = json.dumps(plain(rounded(written)), indent=1)
    given.out.write_text(text + "\n")


def rounded(value: Any) -> Any:
    """Floats with four digits that count."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.4g}") if abs(value) < 1000 else round(value)
    return value


if __name__ == "__main__":
    main()
