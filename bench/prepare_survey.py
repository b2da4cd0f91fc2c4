"""The survey of both test networks, and a build of the demo's detector: `python -m bench.prepare_survey [FRAMES]`.

Writes docs/prepare-survey.json. Everything is measured on the pictures that it names, and chosen on the same ones.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from featlink_host.demo import ANCHORS, LABELS, SPLIT_TENSOR, demo_model, demo_options, demo_source_clip
from featlink_host.prepare.build_step import BuildArguments, run_build
from featlink_host.prepare.graph import load_model
from featlink_host.prepare.record import plain
from featlink_host.prepare.samples import open_samples
from featlink_host.prepare.scoring import demo_judge, output_judge
from featlink_host.prepare.survey import SurveyOptions, survey

ROOT = Path(__file__).parent.parent
OUT = ROOT / "docs" / "prepare-survey.json"
FMNIST = ROOT / "tests" / "assets" / "fmnist_cnn.onnx"
#: Of the build.
KBPS = 1200.0


def main(frames: int = 32) -> None:
    """Measure, and write the file."""
    found: dict[str, Any] = {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}",
        "detector": _timed(_detector),
        "fmnist": _timed(_fmnist),
        "build": _timed(lambda: _build(frames)),
    }
    OUT.write_text(json.dumps(plain(found), indent=1) + "\n", encoding="utf-8")


def _timed(make: Any) -> dict[str, Any]:
    begun = time.perf_counter()
    figures: dict[str, Any] = make()
    return {"seconds": round(time.perf_counter() - begun, 1), **figures}


def _detector() -> dict[str, Any]:
    """The demo's detector, values of 16 pictures of the street clip."""
    return survey(load_model(demo_model()), demo_judge(16), SurveyOptions(fps=25.0)).figures()


def _fmnist() -> dict[str, Any]:
    """The Fashion-MNIST network; noise instead of pictures, so that nothing but the repository is needed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.npz"
        rng = np.random.default_rng(0)
        np.savez(path, image=rng.normal(0, 1, (16, 1, 28, 28)).astype(np.float32))
        model = load_model(FMNIST)
        figures = survey(model, output_judge(model, open_samples(path, None, model)), SurveyOptions()).figures()
    return {"images": "Gaussian noise", **figures}


def _build(frames: int) -> dict[str, Any]:
    """The demo's detector at the demo's cut, on runs of 8 consecutive pictures of the street clip."""
    options = demo_options()
    arguments = BuildArguments(
        model=str(demo_model()),
        tensor=SPLIT_TENSOR,
        images=str(demo_source_clip()),
        kbps=KBPS,
        anchors=str(ANCHORS),
        label_names=str(LABELS),
        scale=options.scale,
        offset=options.offset,
        colour=options.colour,
        frames=frames,
        name="demo",
    )
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        built, _ = run_build(arguments, work / "built", work)
        figures = built.figures()
    return {"frames": frames, "asked_kbps": KBPS, **{key: one for key, one in figures.items() if key != "folder"}}


if __name__ == "__main__":
    main(*(int(one) for one in sys.argv[1:2]))
