"""`python -m bench.prepare_sparsify`: what dropping small activations of the demo's map does.

    python -m bench.prepare_sparsify [--frames 48] [--out docs/prepare-sparsify.json]

The demo's detector on its street clip, runs of 8 consecutive pictures. A curve: threshold against zeros, bytes of HEVC
lossless and at QP 16, of zero run-length coding with and without Huffman coding, and agreement of the detections of the
head with those on the map as it was. Nothing is chosen by it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from featlink_codec.extractor import ExtractorSettings
from featlink_codec.video.clip import open_source
from featlink_host.demo import RELU_TENSOR, demo_model, demo_options, demo_source_clip
from featlink_host.prepare.build_maps import keep_maps
from featlink_host.prepare.kept_judge import KeptJudge
from featlink_host.prepare.pipeline import prepare_split
from featlink_host.prepare.planner import refresh_every
from featlink_host.prepare.record import plain
from featlink_host.prepare.sparsify import drop_below, undropped
from featlink_host.prepare.sparsify_points import MapBench, head_judge

QP = 16
#: Levels of 255 from which on values are kept; a level is 6 / 255 here.
LEVELS = (0, 2, 4, 6, 9, 13, 21, 34, 55)
#: Bits of a run that are tried on the first point.
RUN_BITS = (2, 3, 4, 5, 6, 8)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.prepare_sparsify", description=__doc__)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--out", type=Path, default=Path("out/prepare-sparsify.json"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = curve(Path(scratch), given.frames)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(plain(found), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def curve(scratch: Path, frames: int) -> dict[str, Any]:
    """All points, by rising thresholds."""
    folder = scratch / "extractor"
    clip = open_source(demo_source_clip())
    video = replace(demo_options().video, lossless=False, qp=QP)
    options = replace(demo_options(), mode="uniform", quantizer=None, video=video)
    prepare_split(demo_model(), RELU_TENSOR, clip, folder, options)
    settings = ExtractorSettings.load(folder)
    (feature,) = settings.maps
    base = undropped(folder, feature)
    maps = keep_maps(scratch / "maps.npy", folder, settings, clip, frames)
    every = refresh_every(settings.video, maps.interval_s)
    head, judge = folder / settings.models.head, KeptJudge(head_judge(folder, settings, maps), scratch)
    lossless = replace(settings.video, lossless=True, qp=None, crf=None)
    points = []
    for level in LEVELS:
        threshold = float(base[level - 1]) if level else 0.0
        bench = MapBench(maps, head, judge, feature, settings.video, every, [("lossless", lossless)])
        points.append(bench.measure(threshold, drop_below(base, threshold)).figures() | {"level": level})
        sys.stderr.write(f"{json.dumps(plain(points[-1]))}\n")
    return {
        "map": f"{feature.tensor}, {feature.channels} x {feature.height} x {feature.width}, 8 bits",
        "maps": len(maps.values),
        "refresh_every": every,
        "raw_bytes": feature.channels * feature.height * feature.width,
        "coding": f"QP {QP}",
        "exact_zeros": float(1 - np.count_nonzero(maps.values) / maps.values.size),
        "run_bits": {str(bits): run_bytes(maps.values, base, bits) for bits in RUN_BITS},
        "points": points,
    }


def run_bytes(values: np.ndarray, thresholds: np.ndarray, run_bits: int) -> float:
    """Mean bytes of a map's zero run-length code with runs of so many bits, nothing dropped."""
    from featlink_host.prepare.zero_runs import ZeroRuns

    code = ZeroRuns(8, run_bits)
    sizes = [len(code.encode(np.searchsorted(thresholds, one, side="right").astype(np.uint8))) for one in values]
    return float(np.mean(sizes))


if __name__ == "__main__":
    main()
