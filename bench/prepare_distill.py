"""A student trained after a teacher against the same student trained on the labels alone, on Fashion-MNIST.

    python -m bench.prepare_distill --work FOLDER [--data FOLDER]

Needs PyTorch. Six runs of each number of training pictures, each of which goes on where it was stopped. The students of
the seeds with the best accuracy on pictures held out are kept as FOLDER/student-N.onnx; the test pictures choose none.

The teacher was trained on all 60,000 training pictures, those that are held out here among them. Who learns from it
learns a little about them too: accuracies on them favour the teacher's students, those on test pictures do not.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import onnx
import torch

from featlink_host.prepare.samples import Preprocessing, open_samples
from featlink_host.prepare.scoring_runs import ModelRunner
from featlink_host.training.options import DistillOptions
from featlink_host.training.run import Distilled, DistillFiles, distill

from .fashion_mnist import fetched

TEACHER = Path(__file__).parents[1] / "tests" / "assets" / "fmnist_cnn.onnx"
SEEDS = (0, 1, 2)
HOW = Preprocessing(1 / 255 / 0.353, -0.286 / 0.353)


@dataclass(frozen=True)
class Setting:
    """How many pictures are trained on, and how."""

    pictures: int | None
    epochs: int
    batch: int

    @property
    def name(self) -> str:
        """For files and tables."""
        return str(self.pictures or "all")

    def options(self, seed: int) -> DistillOptions:
        """Everything else as it is by default."""
        return DistillOptions(seed=seed, pictures=self.pictures, epochs=self.epochs, batch=self.batch)


#: Fewer pictures are gone through more often.
SETTINGS = (Setting(None, 8, 256), Setting(15000, 20, 128), Setting(5000, 40, 128))


def main() -> None:
    """Train, compare, write docs/prepare-distill.json."""
    parser = argparse.ArgumentParser(prog="python -m bench.prepare_distill", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="for checkpoints and students")
    parser.add_argument("--data", type=Path, help="folder with Fashion-MNIST's four files")
    parser.add_argument("--out", type=Path, default=Path("out/prepare-distill.json"))
    given = parser.parse_args()
    data = given.data or fetched()
    test = data / "t10k-images-idx3-ubyte.gz", data / "t10k-labels-idx1-ubyte.gz"
    result = {
        "data": "Fashion-MNIST: 5,000 of the 60,000 training pictures held out, 10,000 test pictures",
        "teacher": {"model": TEACHER.name, "test": float(answers(onnx.load(TEACHER), *test).mean())},
        "torch": torch.__version__,
        "settings": [compared(setting, given.work, data, test) for setting in SETTINGS],
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def compared(setting: Setting, work: Path, data: Path, test: tuple[Path, Path]) -> dict[str, Any]:
    """Three seeds, each with the teacher and without."""
    train = data / "train-images-idx3-ubyte.gz", data / "train-labels-idx1-ubyte.gz"
    runs: list[dict[str, Any]] = []
    right: dict[tuple[bool, int], np.ndarray] = {}
    best: tuple[float, Distilled] | None = None
    for seed in SEEDS:
        for teacher in (TEACHER, None):
            folder = work / ("with" if teacher else "without")
            found = distill(DistillFiles(*train, teacher, *test), setting.options(seed), HOW, folder)
            right[teacher is not None, seed] = answers(found.model, *test)
            runs.append({"seed": seed, **found.figures()})
            told = {key: runs[-1][key] for key in ("seed", "with_teacher", "held_out", "test")}
            print(setting.name, json.dumps(told), flush=True)  # noqa: T201 (a command line)
            held = found.history[-1].held_out
            assert held is not None
            if teacher is not None and (best is None or held > best[0]):
                best = held, found
    assert best is not None
    onnx.save(best[1].model, str(work / f"student-{setting.name}.onnx"))
    kept = best[1].options.seed
    return {"pictures": setting.name, "runs": runs, "summary": summary(runs, right), "kept_seed": kept}


def answers(model: onnx.ModelProto, images: Path, labels: Path) -> np.ndarray:
    """Of each picture whether its greatest logit is the label's."""
    run = ModelRunner(model)
    found = []
    for batch in open_samples(images, labels, model, HOW).batches(500):
        assert batch.labels is not None
        found.append(run(batch.inputs)[run.outputs[0]].argmax(axis=1) == batch.labels)
    return np.concatenate(found)


def summary(runs: list[dict[str, Any]], right: dict[tuple[bool, int], np.ndarray]) -> dict[str, Any]:
    """Means of both kinds, and by how much a seed's two students differ on the same test pictures."""
    found: dict[str, Any] = {}
    for with_teacher, name in ((True, "with_teacher"), (False, "without_teacher")):
        for key in ("held_out", "test"):
            values = [run[key] for run in runs if run["with_teacher"] == with_teacher]
            found[f"{name}_{key}"] = {"mean": fmean(values), "standard_deviation": stdev(values), "values": values}
    gains = []
    for seed in SEEDS:
        ours, others = right[True, seed], right[False, seed]
        only, only_other = int((ours & ~others).sum()), int((others & ~ours).sum())
        # Pictures that both get right, or both wrong, say nothing; of two equals, each of the rest is a coin's throw.
        deviations = (only - only_other) / max(1.0, (only + only_other) ** 0.5)
        gains.append({"seed": seed, "only_with": only, "only_without": only_other, "standard_deviations": deviations})
    found["pairs"] = gains
    return found


if __name__ == "__main__":
    main()
