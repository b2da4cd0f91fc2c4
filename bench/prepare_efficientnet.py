"""The steps of `featlink-host prepare` on EfficientNet-Lite0 and twenty photos, into docs/prepare-efficientnet.json.

Run as `python -m bench.prepare_efficientnet FOLDER [OUT]`: the folder is what bench/efficientnet_lite0.py writes. Each
step is the command that a user would type. A run that was stopped goes on where it was; a case is done again when it
is taken out of the file.

A smoke test: twenty photos, one of them is five points of accuracy. The distortion (squared error of the outputs over
their variance) is what says how steps compare. Where a step needs samples, it is given the photos that it is judged
on, and nothing else is at hand: figures of refits and fine-tuning flatter. The last layers see fewer places in twenty
photos than they have inputs, so that a refit can put out what it did exactly, there and nowhere else. Cases named
"clip" are fitted or fine-tuned on the demo's street clip instead.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from featlink_codec.files import write_whole
from featlink_host.demo import demo_source_clip

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "docs" / "prepare-efficientnet.json"
MODEL = "efficientnet_lite0.onnx"
#: As the network was trained: (sample - 127) / 128.
PREPROCESSING = ("--scale", str(1 / 128), "--offset", str(-127 / 128))
#: Behind half of the blocks: 240 channels of 14 x 14, 0..6.
CUT = "/_blocks.5/_swish_1/Clip_output_0"
_COMMAND = (sys.executable, "-c", "from featlink_host.cli import main; main()", "prepare")


@dataclass(frozen=True)
class Case:
    """A command.

    :param step: of `featlink-host prepare`
    :param options: beside the network, the photos and the output
    """

    step: str
    options: tuple[str, ...]


def cases() -> Iterator[tuple[str, Case]]:
    """By name."""

    def weights(name: str, bits: int, *options: str) -> tuple[str, Case]:
        return name, Case("quantize", ("--weights", str(bits), *options))

    clip = ("--tune-images", str(demo_source_clip()), "--tune-samples", "32")
    yield "survey", Case("survey", ())
    yield weights("weights 8 bits", 8)
    yield weights("weights 8 bits, inputs 8", 8, "--inputs", "8")
    yield weights("weights 8 bits, inputs 8, fine-tuned", 8, "--inputs", "8", "--fine-tune")
    yield weights("weights 4 bits", 4, "--refine", "never")
    yield weights("weights 4 bits, refined", 4)
    yield weights("weights 4 bits, refined, fine-tuned", 4, "--fine-tune")
    yield weights("weights 4 bits, refined, fine-tuned on clip", 4, "--fine-tune", *clip)
    yield weights("weights 4 bits, refined, inputs 8", 4, "--inputs", "8")
    yield weights("weights 4 bits, refined, inputs 8, fine-tuned", 4, "--inputs", "8", "--fine-tune")
    yield weights("weights 8 bits, logarithmic", 8, "--values", "logarithmic")
    yield weights("weights 4 bits, logarithmic", 4, "--values", "logarithmic")
    yield weights("weights 4 bits, codebook", 4, "--values", "codebook")
    yield weights("weights 4 bits, codebook, fine-tuned", 4, "--values", "codebook", "--fine-tune")
    yield "integer backbone", Case("integer", ("--tensor", CUT))
    yield "integer backbone, weights not fitted", Case("integer", ("--tensor", CUT, "--no-fine-tune"))
    for share in ("0.3", "0.5"):
        yield f"weights {share} zero", Case("prune", ("--sparsity", share, "--no-curve"))
        yield f"weights {share} zero, no refit", Case("prune", ("--sparsity", share, "--no-refit", "--no-curve"))
    yield "channels 0.1 less", Case("prune", ("--channels", "0.1", "--no-curve"))
    yield "channels 0.1 less, no refit", Case("prune", ("--channels", "0.1", "--no-refit", "--no-curve"))
    yield "MACs 0.8 by channels", Case("prune", ("--budget-macs", "0.8", "--no-curve"))
    fitted = ("--fit-images", str(demo_source_clip()), "--calibration", "32", "--no-curve")
    yield "MACs 0.8 by channels, fitted on clip", Case("prune", ("--budget-macs", "0.8", *fitted))
    yield "MACs 0.8 by factors, fitted on clip", Case("factorize", ("--budget-macs", "0.8", *fitted))
    yield "MACs 0.9 by factors", Case("factorize", ("--budget-macs", "0.9", "--no-curve"))
    yield "MACs 0.8 by factors", Case("factorize", ("--budget-macs", "0.8", "--no-curve"))
    yield "activations 0.6 zero", Case("sparsify", ("--sparsity", "0.6"))
    yield "activations dropped, 0.95 agreement", Case("sparsify", ("--agreement", "0.95"))


def _score(found: Mapping[str, Any] | None) -> dict[str, Any]:
    """Of twenty photos, and the distortion."""
    if not found:
        return {}
    kind, value, samples = found["kind"], found["value"], found["samples"]
    right = {"right": round(value * samples), "of": samples} if kind == "accuracy" else {"agreement": value}
    return {**right, "distortion": found["distortion"]}


def _quantized(found: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("float_bytes", "plain_bytes", "ratio", "stream_bytes", "quantized_inputs")
    return {**{key: found[key] for key in keys}, "before": _score(found["before"]), **_score(found["after"])}


def _integer(found: Mapping[str, Any]) -> dict[str, Any]:
    golden = {"settings": len(found["golden"]["equal"]), "differing": found["golden"]["differing"]}
    bits = [one["bits"] for one in found["quantizers"].values()]
    return {
        "tensor": found["tensor"],
        "quantizers": len(bits),
        "wide": sum(one > 8 for one in bits),
        "golden": golden,
        "doubts": len(found["doubts"]),
        **_score(found["score"]),
    }


def _changed(found: Mapping[str, Any]) -> dict[str, Any]:
    trial = found["trials"][found["chosen"]]
    before, after = found["before"], found["after"]
    sizes = {key: [before[key], after[key]] for key in ("macs", "parameters", "zeros", "file_bytes", "stream_bytes")}
    fitted = found["refit"]["fitted"] if found["refit"] else 0
    return {**sizes, "fitted": fitted, **_score(trial["score"])}


def _sparse(found: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("threshold", "zeros", "map_bytes", "run_entropy_bytes")
    first, chosen = found["points"][0], found["chosen"]
    both = {key: [first[key], chosen[key]] for key in keys}
    return {"coding": found["coding"], **both, **_score(chosen["score"])}


def _surveyed(found: Mapping[str, Any]) -> dict[str, Any]:
    return {"cuts": len(found["cuts"]), "chosen": found["chosen"]}


_FIGURES: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "survey": _surveyed,
    "quantize": _quantized,
    "integer": _integer,
    "prune": _changed,
    "factorize": _changed,
    "sparsify": _sparse,
}


def _call(*arguments: str | Path) -> tuple[str, float]:
    """What a command says on standard output, and seconds."""
    begin = time.perf_counter()
    done = subprocess.run(
        [*_COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        check=False,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments))}: exit code {done.returncode}")
    return done.stdout, time.perf_counter() - begin


def measure(folder: Path, scratch: Path, case: Case) -> dict[str, Any]:
    """One case."""
    photos = folder / "photos"
    report = ("--report", scratch / "report", "--json")
    if case.step == "sparsify":
        extractor = scratch / "extractor"
        split = ("--tensor", CUT, "--source", photos, "--lossless", "--frames", "20")
        if not extractor.exists():
            _call("split", folder / MODEL, *split, *PREPROCESSING, "--out", extractor)
        said, seconds = _call("sparsify", extractor, "--source", photos, "--frames", "20", *case.options, *report)
    else:
        out = scratch / "out.onnx"
        written = () if case.step == "survey" else ("-o", out, "--force")
        samples = ("--images", photos, "--labels", folder / "labels.npz", *PREPROCESSING)
        said, seconds = _call(case.step, folder / MODEL, *samples, *written, *case.options, *report)
        if written:
            onnx.checker.check_model(onnx.load(out), full_check=True)
            onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    assert (scratch / "report" / f"{case.step}.html").stat().st_size
    return {"step": case.step, "seconds": round(seconds, 1), **_FIGURES[case.step](json.loads(said))}


def run(folder: Path, out: Path) -> None:
    """All cases that are not in the file yet."""
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {"cases": {}}
    found["machine"] = {"processor": platform.machine(), "onnxruntime": onnxruntime.__version__}
    with tempfile.TemporaryDirectory() as scratch:
        for name, case in cases():
            if name in found["cases"]:
                continue
            found["cases"][name] = one = measure(folder, Path(scratch), case)
            sys.stdout.write(f"{name}: {one.get('right', '-')} right, {one.get('distortion')}, {one['seconds']} s\n")
            sys.stdout.flush()
            write_whole(out, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else OUT)
