"""Weights of 1 to 8 bits in four sets of values: accuracy, agreement and size, into docs/prepare-weights.json.

Run as `python -m bench.prepare_weights FASHION_MNIST_FOLDER [OUT [NETWORK]]`: the folder of Debian's
dataset-fashion-mnist; the network is fashion-mnist or detector, both where left out. A run that was stopped goes on
where it was. The classifier is fine-tuned on training images, without their labels, and tested
on all test images. The detector is fine-tuned and judged on different pictures of the same clip: its figures say how
near it stays to itself on this street, not how good it is elsewhere.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from featlink_codec.files import write_whole
from featlink_host.demo import demo_model
from featlink_host.prepare.quantization.weights import WeightOptions, quantize_weights
from featlink_host.prepare.quantization.weights_stream import to_stream
from featlink_host.prepare.samples import Preprocessing, open_samples
from featlink_host.prepare.scoring import Judge, demo_judge, labelled_judge

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "docs" / "prepare-weights.json"
FMNIST = ROOT / "tests" / "assets" / "fmnist_cnn.onnx"
#: As the classifier was trained: (pixel / 255 - 0.286) / 0.353.
PREPROCESSING = Preprocessing(1 / 255 / 0.353, -0.286 / 0.353)
BITS, DETECTOR_BITS = (3, 2, 1, 4, 8, 5, 6), (8, 6, 4, 3, 5, 2, 1)
VALUES = ("uniform", "codebook", "power-of-two", "logarithmic")
#: Widths beyond which powers of two have nothing to add, see `value_sets.power_of_two`.
POWERS = 4
TRAINING_IMAGES, TEST_FRAMES, TUNING_FRAMES = 1024, 64, 17
#: Of the detector, which takes minutes to fine-tune, only these are.
TUNED = {(bits, values) for bits in (3, 4, 6) for values in ("uniform", "codebook")} | {
    (8, "uniform"),
    (4, "power-of-two"),
    (4, "logarithmic"),
}
WAYS: dict[str, dict[str, Any]] = {
    "direct": {"refine": "never"},
    "refined": {"refine": "always"},
    "fine-tuned": {"refine": "always", "fine_tune": True},
}


def cases(detector: bool) -> Iterator[tuple[str, str, WeightOptions]]:
    """Name, way, options; what says most comes first."""
    for bits in DETECTOR_BITS if detector else BITS:
        for values in VALUES:
            if values == "power-of-two" and bits > POWERS:
                continue
            for way, more in WAYS.items():
                if detector and way == "fine-tuned" and (bits, values) not in TUNED:
                    continue
                options = WeightOptions(
                    bits=bits, values=values, samples=TUNING_FRAMES if detector else TRAINING_IMAGES, **more
                )
                yield f"{values} {bits} {way}", way, options
    for bits in (2, 3, 4, 8):
        for groups in ("tensor", 64):
            for way in ("direct", "refined"):
                yield f"uniform {bits} {way} {groups}", way, WeightOptions(bits=bits, groups=groups, **WAYS[way])
    for bits in (4, 8):
        yield f"fixed-point {bits} direct", "direct", WeightOptions(bits=bits, values="fixed-point", **WAYS["direct"])
    yield "uniform 8 direct portable", "direct", WeightOptions(portable=True)


def measure(model: onnx.ModelProto, tuning: Judge, test: Judge, options: WeightOptions, way: str) -> dict[str, Any]:
    """One case."""
    begin = time.perf_counter()
    result = quantize_weights(model, tuning, options)
    seconds = time.perf_counter() - begin
    score = test.score(result.model)
    stream = to_stream(result)
    found = result.figures()
    del found["tensors"], found["left"]
    return {
        "values": options.values,
        "groups": options.groups,
        "portable": options.portable,
        "way": way,
        **found,
        "stream_bytes": len(stream.data),
        "seconds": round(seconds, 2),
        **{key: value for key, value in score.figures().items() if key != "kind"},
    }


def run(folder: Path, out: Path, only: str = "") -> None:
    """All cases that are not in the file yet."""
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    found["machine"] = {"processor": platform.machine(), "onnxruntime": onnxruntime.__version__}
    classifier, detector = onnx.load(str(FMNIST)), onnx.load(str(demo_model()))

    def judge(part: str) -> Judge:
        files = (folder / f"{part}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))
        return labelled_judge(classifier, open_samples(*files, classifier, PREPROCESSING))

    jobs = (
        ("fashion-mnist", classifier, judge("train"), judge("t10k"), False),
        ("detector", detector, demo_judge(TUNING_FRAMES), demo_judge(TEST_FRAMES), True),
    )
    for name, model, tuning, test, is_detector in jobs:
        if only not in ("", name):
            continue
        own = found.setdefault(name, {"cases": {}})
        if "uncompressed" not in own:
            score = test.score(model)
            own["uncompressed"] = score.figures()
            own["file_bytes"] = len(model.SerializeToString())
        # Fine-tuning first: it takes longest and says most.
        for title, way, options in sorted(cases(is_detector), key=lambda case: case[1] != "fine-tuned"):
            if title in own["cases"]:
                continue
            own["cases"][title] = measure(model, tuning, test, replace(options), way)
            case = own["cases"][title]
            sys.stdout.write(f"{name} {title} {case['value']:.4f} {case['stream_bytes']}\n")
            sys.stdout.flush()
            write_whole(out, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else OUT, *sys.argv[3:4])
