"""The step `quantize` and its command: scores, sizes, quantized inputs, the page, the record, errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper
from qdq_networks import network
from quantized_models import every_layer, images
from typer.testing import CliRunner

from featlink_codec.errors import SettingsError
from featlink_codec.model import ModelStream
from featlink_host.model.decoding import decode_onnx
from featlink_host.model.feedback import MAX_COLUMNS
from featlink_host.prepare.quantization.fine_tune import fine_tuned
from featlink_host.prepare.quantization.golden import RUN_SETTINGS
from featlink_host.prepare.quantization.inner_inputs import Seen, chunks, why_untuned
from featlink_host.prepare.quantization.layers import weight_layers
from featlink_host.prepare.quantization.step import QuantizeOptions, quantize
from featlink_host.prepare.quantization.step_report import quantize_page
from featlink_host.prepare.quantization.tables import with_tables
from featlink_host.prepare.quantization.weights import WeightOptions, quantized
from featlink_host.prepare.samples import open_samples
from featlink_host.prepare.scoring import Judge, output_judge
from featlink_host.prepare_cli import prepare
from featlink_host.prepare_quantize_cli import told_untuned


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    path = tmp_path / "samples.npz"
    np.savez(path, image=images(48))
    return path


@pytest.fixture
def judge(samples: Path) -> Judge:
    model = every_layer()
    return output_judge(model, open_samples(samples, None, model))


def run(model: onnx.ModelProto | Path) -> np.ndarray:
    raw: Any = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = ort.InferenceSession(raw, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": images(8)})[0])


def test_eight_bits_of_weights_and_inputs_are_near(judge: Judge, tmp_path: Path) -> None:
    found = quantize(every_layer(), judge, QuantizeOptions(WeightOptions(portable=True), inputs=8))
    assert found.before is not None
    assert found.after is not None
    assert found.before.value == 1
    assert found.after.distortion < 0.01
    kinds = [node.op_type for node in found.model.graph.node]
    assert kinds.count("QuantizeLinear") >= 5
    integers = {one.name: numpy_helper.to_array(one) for one in found.model.graph.initializer if one.data_type == 3}
    weights = [values for values in integers.values() if values.ndim > 1]
    assert len(weights) >= 6
    assert all(values.min() >= -64 and values.max() <= 63 for values in weights)
    path = tmp_path / "decoded.onnx"
    decode_onnx(ModelStream(found.stream.data), path)
    assert np.array_equal(run(path), run(found.model))


@pytest.mark.parametrize("values", ["power-of-two", "logarithmic", "codebook"])
def test_narrow_weights_beside_levels_are_integers_of_int8(values: Any, judge: Judge, tmp_path: Path) -> None:
    found = quantize(every_layer(), judge, QuantizeOptions(WeightOptions(bits=3, values=values), inputs=8))
    assert found.network is not None
    assert all(one.set.whole for one in found.weights.tensors)  # type: ignore[attr-defined]
    assert not set(found.network.plain_weights) & set(found.network.weights)
    path = tmp_path / "decoded.onnx"
    decode_onnx(ModelStream(found.stream.data), path)
    # Eight values of a codebook lie far apart as integers: a table tells them in fewer bits.
    assert ("Gather" in [node.op_type for node in onnx.load(str(path)).graph.node]) == (values == "codebook")
    assert np.array_equal(run(path), run(found.model))


def test_tables_hold_what_stood_there() -> None:
    model = every_layer()
    values = np.random.default_rng(0).choice(np.array([-100, -7, 0, 3, 90], np.int8), (6, 7))
    model.graph.initializer.append(numpy_helper.from_array(values, "few"))
    model.graph.node.append(onnx.helper.make_node("Cast", ["few"], ["few/float"], to=1))
    model.graph.output.append(onnx.helper.make_tensor_value_info("few/float", 1, [6, 7]))
    made = with_tables(model)
    session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run(["few/float"], {"image": images(1)})[0], values)
    codes = {one.name: numpy_helper.to_array(one) for one in made.graph.initializer}["few/codes"]
    assert (codes.min(), codes.max()) == (-2, 2)


def test_a_sweep_scores_every_width(judge: Judge) -> None:
    found = quantize(every_layer(), judge, QuantizeOptions(WeightOptions(bits=4), sweep=True))
    assert [one.bits for one in found.trials] == [1, 2, 3, 4, 5, 6, 8]
    assert found.after is not None
    assert found.trials[3].score.distortion == pytest.approx(found.after.distortion)
    assert found.trials[-1].score.distortion < found.trials[0].score.distortion
    sizes = [one.plain_bytes for one in found.trials]
    assert sizes == sorted(sizes)
    page = quantize_page("every.onnx", found)
    assert "Score against size" in page
    assert "<svg" in page


def test_fine_tuning_solves_for_what_the_layer_put_out() -> None:
    """Against the definition: the outputs' error with changed inputs, by NumPy."""
    model = every_layer()
    layers, _ = weight_layers(model)
    rng = np.random.default_rng(4)
    weights = rng.normal(0, 1, (6, 5)).astype(np.float32)
    x = rng.normal(0, 1, (400, 6)) @ rng.normal(0, 1, (6, 6)) + 0.5
    y = x + rng.normal(0, 0.3, x.shape)
    seen = Seen((y.T @ y)[None], (x.T @ y)[None], x.sum(axis=0)[None], y.sum(axis=0)[None], len(x))
    given = quantized(layers["w8"], weights, WeightOptions(bits=2))
    tuned = fine_tuned(given, weights, seen)
    wanted = x @ weights
    errors = [
        float(np.square(y @ values + shift - wanted).sum())
        for values, shift in ((given.values(), 0), (tuned.tensor.values(), tuned.shift))
    ]
    assert errors[1] < 0.6 * errors[0]
    assert (y @ tuned.tensor.values() + tuned.shift).mean(axis=0) == pytest.approx(wanted.mean(axis=0), abs=1e-5)
    kept = fine_tuned(given, weights, seen, keep_scales=True)
    assert np.array_equal(kept.tensor.scales, given.scales)


def test_chunks_are_all_there_is_in_order() -> None:
    names = [str(k) for k in range(11)]
    parts = list(chunks(names, 4))
    assert [name for part in parts for name in part] == names
    assert {len(part) for part in parts} == {2, 3}


def test_what_needs_samples_says_so() -> None:
    for options in (QuantizeOptions(inputs=8), QuantizeOptions(sweep=True)):
        with pytest.raises(SettingsError, match="needs samples, give images"):
            quantize(every_layer(), None, options)
    with pytest.raises(SettingsError, match="inputs of 7 bits, expected 8 to 32"):
        QuantizeOptions(inputs=7)


def test_the_command_writes_model_stream_page_and_record(tmp_path: Path, samples: Path) -> None:
    path, out, stream, report = (tmp_path / name for name in ("m.onnx", "q.onnx", "q.nnc", "report"))
    onnx.save(every_layer(), str(path))
    arguments = ["quantize", str(path), "--weights", "3", "--values", "codebook", "--groups", "8", "--layer", "w8=8"]
    arguments += ["--images", str(samples), "--fine-tune", "--tune-samples", "16", "-o", str(out)]
    arguments += ["--stream", str(stream), "--report", str(report)]
    done = CliRunner().invoke(prepare, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    figures = json.loads(done.stdout)
    assert figures["after"]["samples"] == 48
    assert {one["name"]: one["bits"] for one in figures["tensors"]}["w8"] == 8
    assert figures["stream_bytes"] == stream.stat().st_size
    onnx.checker.check_model(str(out))
    record = json.loads((report / "quantize.json").read_text(encoding="utf-8"))
    assert record["options"]["weights"]["groups"] == 8
    assert set(record["outputs"]) == {"model", "stream"}
    assert "Fine-tuning" in (report / "quantize.html").read_text(encoding="utf-8")
    with pytest.raises(SettingsError, match="is there already"):
        CliRunner().invoke(prepare, arguments, catch_exceptions=False)


def test_the_command_tells_sizes_without_samples(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(every_layer(), str(path))
    done = CliRunner().invoke(prepare, ["quantize", str(path), "--weights", "4"], catch_exceptions=False)
    assert "weights, 4 bits" in done.stdout
    with pytest.raises(SettingsError, match="NAME=BITS"):
        CliRunner().invoke(prepare, ["quantize", str(path), "--layer", "w8"], catch_exceptions=False)


@pytest.mark.parametrize("inputs", [8, 32])
def test_layers_that_were_not_fine_tuned_are_told_with_the_reason(judge: Judge, inputs: int) -> None:
    model = every_layer()
    found = quantize(
        model, judge, QuantizeOptions(WeightOptions(fine_tune=True, samples=16), inputs=inputs, samples=16)
    )
    assert {name: why.split(" reads")[0] for name, why in found.untuned.items()} == {
        "up": "fine-tuning does not know how a ConvTranspose",
        "up_groups": "fine-tuning does not know how a ConvTranspose",
    }
    assert found.figures()["untuned"] == found.untuned
    assert "Not fine-tuned" in quantize_page("every.onnx", found)
    assert not quantize(model, judge, QuantizeOptions()).untuned


def test_why_a_layer_is_not_fine_tuned() -> None:
    conv = weight_layers(every_layer())[0]["depthwise"]
    assert why_untuned(replace(conv, readers=2), (6, 1, 3, 3)) == "2 layers share it"
    assert "a Conv of 1 dimensions" in why_untuned(conv, (6, 1, 3))
    assert why_untuned(conv, (2, 4096, 3, 3)) == f"it has 36864 inputs, more than {MAX_COLUMNS}"
    assert why_untuned(conv, (6, 1, 3, 3)) == "it is given numbers that are not finite"


def test_the_command_tells_the_first_layers_that_were_not_fine_tuned() -> None:
    said = told_untuned({f"w{number}": "because" for number in range(7)})
    assert said[0] == "  not fine-tuned: w0: because"
    assert len(said) == 6
    assert said[-1] == "  ... and 2 more, see --json"


@pytest.mark.parametrize("bits", [12, 16, 24])
def test_inputs_of_a_product_keep_their_bits_whatever_onnxruntime_optimizes(bits: int, tmp_path: Path) -> None:
    """A product with dequantized weights and other inputs than 8-bit levels was computed with 8-bit inputs."""
    rng = np.random.default_rng(3)
    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["seen"]),
        helper.make_node("MatMul", ["seen", "w"], ["out"]),
    ]
    constants = {"v": rng.normal(0, 0.2, (32, 64)).astype("f"), "w": rng.normal(0, 0.2, (64, 24)).astype("f")}
    model = network(nodes, ("n", 32), constants)
    x = rng.normal(0, 1, (16, 32)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    judge = output_judge(model, open_samples(tmp_path / "x.npz", None, model))
    found = quantize(model, judge, QuantizeOptions(WeightOptions(), inputs=bits, method="minmax"))
    plain, fast = (one.open(found.model).run(None, {"x": x})[0] for one in (RUN_SETTINGS[0], RUN_SETTINGS[-1]))
    np.testing.assert_allclose(fast, plain, rtol=1e-4, atol=np.abs(plain).max() * 4 / 2**bits)
