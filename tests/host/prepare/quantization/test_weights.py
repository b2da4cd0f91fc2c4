"""Quantized networks: the values are set times scale, all forms of storing them compute the same, tuning helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from quantized_models import Inputs, every_layer, images

from featlink_codec.errors import SettingsError
from featlink_codec.model import ModelStream
from featlink_host.model.decoding import decode_onnx
from featlink_host.prepare.quantization.layers import constants_of, weight_layers
from featlink_host.prepare.quantization.weights import (
    VALUE_KINDS,
    WeightOptions,
    WeightsResult,
    quantize_weights,
)
from featlink_host.prepare.quantization.weights_stored import to_stored
from featlink_host.prepare.quantization.weights_stream import to_stream

NAMES = ["w1f", "depthwise", "dilated", "up", "up_groups", "w6c", "w7", "w8"]


def run(model: onnx.ModelProto | bytes, optimized: bool = True) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    raw = model if isinstance(model, bytes) else model.SerializeToString()
    session = ort.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": images(8)})
    return np.asarray(found)


def quantize(judge: Any = None, **options: Any) -> WeightsResult:
    return quantize_weights(every_layer(), judge, WeightOptions(**options))


def test_every_layer_with_constant_weights_is_found() -> None:
    layers, left = weight_layers(every_layer())
    assert list(layers) == NAMES
    assert not left
    assert [layer.axis for layer in layers.values()] == [0, 0, 0, 1, None, 0, 1, 1]


def test_rows_of_the_matrix_are_output_channels() -> None:
    """Scaling a row scales that channel of what the layer puts out, and no other."""
    model = every_layer()
    layers, _ = weight_layers(model)
    constants = constants_of(model)
    for name, layer in layers.items():
        rows = layer.matrix(constants[name])
        assert np.array_equal(layer.tensor(rows, constants[name].shape), constants[name])
        node = model.graph.node[layer.node]
        shape = (2, 6, 5, 5) if layer.operator.startswith("Conv") else (2, 6)
        inputs = {"depthwise": 6, "w1f": 4, "up": 8, "w6c": 4, "w7": 7}.get(name, 6)
        data = np.random.default_rng(0).normal(size=(2, inputs, *shape[2:])).astype(np.float32)
        plain, scaled = (_alone(node, data, layer.tensor(one, constants[name].shape)) for one in (rows, _doubled(rows)))
        ratio = (scaled / plain).transpose(1, 0, *range(2, plain.ndim)).reshape(len(rows), -1)
        assert ratio == pytest.approx(
            np.broadcast_to([[1.0]] * 1 + [[2.0]] + [[1.0]] * (len(rows) - 2), ratio.shape), rel=1e-3
        )


def _doubled(rows: np.ndarray) -> np.ndarray:
    found = rows.copy()
    found[1] *= 2
    return found


def _alone(node: onnx.NodeProto, data: np.ndarray, weights: np.ndarray) -> np.ndarray:
    one = onnx.NodeProto()
    one.CopyFrom(node)
    del one.input[:]
    one.input.extend(["x", "w"])
    one.output[0] = "y"
    graph = onnx.helper.make_graph(
        [one],
        "one",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, data.shape)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None] * data.ndim)],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=7)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": data})[0])


@pytest.mark.parametrize("groups", ["tensor", "channel", 5])
@pytest.mark.parametrize("values", VALUE_KINDS)
def test_values_are_the_sets_times_the_groups_scales(values: Any, groups: Any) -> None:
    result = quantize(bits=3, values=values, groups=groups)
    before, after = constants_of(every_layer()), constants_of(result.model)
    for one in result.tensors:
        rows = one.layer.matrix(before[one.name].astype(np.float64))
        found = one.layer.matrix(one.values())
        table = one.set.values(np.arange(one.set.size)).astype(np.float32)
        for (number, place), weight in np.ndenumerate(rows):
            group = {"tensor": 0, "channel": number}.get(groups, number * one.groups.blocks + place // 5)
            values = table * one.scales[group]
            index = one.indices[number, place]
            assert found[number, place] == values[index].astype(one.dtype)
            away = np.abs(values - weight)
            assert away[index] <= away.min() * (1 + 1e-5) + 1e-7
        assert np.array_equal(after[one.name], one.values())
        assert 0 <= one.indices.min() <= one.indices.max() < one.set.size <= 2**3


FORMS = [
    *({"bits": 4, "values": values, "groups": groups} for values in VALUE_KINDS for groups in ("tensor", "channel", 5)),
    {"bits": 1},
    {"bits": 8, "portable": True},
    {"bits": 8, "values": "codebook"},
    {"bits": 10, "values": "codebook", "groups": "tensor"},
    {"bits": 12},
    {"bits": 32},
    {"bits": 8, "layer_bits": {"up": 2, "w8": 16}},
]


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_stored_weights_compute_the_same(options: dict[str, Any], tmp_path: Path) -> None:
    result = quantize(**options)
    wanted = run(result.model, optimized=False)
    for codes in (False, True):
        stored = to_stored(result, codes)
        onnx.checker.check_model(stored, full_check=True)
        assert np.array_equal(run(stored, optimized=False), wanted)
        assert run(stored) == pytest.approx(wanted, rel=1e-4, abs=1e-4)
    stream = to_stream(result)
    path = tmp_path / "decoded.onnx"
    decode_onnx(ModelStream(stream.data), path)
    assert np.array_equal(run(path.read_bytes(), optimized=False), wanted)
    inner = _inner(onnx.load(str(path)), NAMES)
    for one in result.tensors:
        assert np.array_equal(inner[one.name], one.values()), one.name


def _inner(model: onnx.ModelProto, names: list[str]) -> dict[str, np.ndarray]:
    """Values of tensors inside a network."""
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, {"image": images(1)}), strict=True))


@pytest.mark.parametrize("opset", [11, 13, 17, 21])
def test_opsets(opset: int) -> None:
    result = quantize_weights(every_layer(opset), None, WeightOptions(bits=5))
    assert run(to_stored(result), optimized=False) == pytest.approx(run(result.model), rel=1e-4, abs=1e-4)


def test_more_bits_are_nearer() -> None:
    errors = [quantize(bits=bits).figures()["error"] for bits in (1, 2, 3, 4, 6, 8, 12, 16)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-8


def test_32_bits_are_exact_to_binary32() -> None:
    result = quantize(bits=32)
    before = constants_of(every_layer())
    for one in result.tensors:
        assert one.values().astype(np.float64) == pytest.approx(before[one.name].astype(np.float64), rel=1e-6, abs=1e-7)


def test_sizes_are_counted_bit_by_bit() -> None:
    result = quantize(bits=3, groups="channel")
    count = sum(one.indices.size for one in result.tensors)
    assert result.weights == count
    scales = sum(one.indices.shape[0] for one in result.tensors)
    packed = sum(-(-3 * one.indices.size // 8) for one in result.tensors)
    others = 4 * (6 + 7 + 5)
    assert result.plain_bytes == packed + 4 * scales + others
    assert result.float_bytes == 4 * count + others


@pytest.mark.parametrize("values", ["uniform", "codebook"])
@pytest.mark.parametrize("bits", [2, 4])
def test_fine_tuning_brings_the_outputs_nearer(values: Any, bits: int) -> None:
    model = every_layer()
    judge: Any = Inputs(model, images(64, seed=2))
    wanted = run(model)
    plain = quantize(bits=bits, values=values)
    tuned = quantize(judge, bits=bits, values=values, fine_tune=True, samples=64)
    away = [float(np.square(run(one.model) - wanted).mean()) for one in (plain, tuned)]
    assert away[1] < 0.7 * away[0]
    assert all(after <= before for before, after in tuned.outputs_error.values())
    assert set(tuned.outputs_error) == {"w1f", "depthwise", "dilated", "w6c", "w7", "w8"}
    assert np.array_equal(run(to_stored(tuned), optimized=False), run(tuned.model, optimized=False))


def test_fine_tuning_keeps_the_mean_of_a_layers_outputs() -> None:
    model = every_layer()
    judge: Any = Inputs(model, images(64, seed=2))
    tuned = quantize(judge, bits=1, fine_tune=True, samples=64)
    means = []
    for one in (model, tuned.model):
        copy = onnx.ModelProto.FromString(one.SerializeToString())
        copy.graph.output.extend([onnx.helper.make_empty_tensor_value_info("c1")])
        session = ort.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
        means.append(session.run(["c1"], {"image": images(64, seed=2)})[0].mean(axis=(0, 2, 3)))
    assert means[1] == pytest.approx(means[0], abs=1e-4)


def test_weights_that_layers_share_are_quantized_once() -> None:
    model = every_layer()
    model.graph.node[3].input[1] = "depthwise"
    extra = onnx.helper.make_node("Conv", ["r1", "depthwise"], ["again"], group=6)
    model.graph.node.append(extra)
    model.graph.output.append(onnx.helper.make_tensor_value_info("again", onnx.TensorProto.FLOAT, ["n", 6, 8, 8]))
    layers, left = weight_layers(model)
    assert layers["depthwise"].readers == 2
    assert not left
    judge: Any = Inputs(model, images(16))
    result = quantize_weights(model, judge, WeightOptions(bits=4, fine_tune=True))
    assert "depthwise" not in result.outputs_error
    onnx.checker.check_model(to_stored(result))


def test_weights_that_something_else_reads_are_left_alone() -> None:
    model = every_layer()
    model.graph.node.append(onnx.helper.make_node("Relu", ["w8"], ["odd"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("odd", onnx.TensorProto.FLOAT, [6, 5]))
    result = quantize_weights(model, None, WeightOptions(bits=2))
    assert "Relu" in result.left["w8"]
    assert "w8" not in [one.name for one in result.tensors]


def test_errors_say_what_is_wrong() -> None:
    with pytest.raises(SettingsError, match="expected 1 to 32"):
        WeightOptions(bits=33)
    with pytest.raises(SettingsError, match="expected 1 to 16"):
        WeightOptions(bits=17, values="codebook")
    with pytest.raises(SettingsError, match="integer network, expected 1 to 8"):
        WeightOptions(bits=9, whole=True)
    with pytest.raises(SettingsError, match="one of uniform"):
        WeightOptions(values="round")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="needs inputs"):
        quantize(fine_tune=True)
    with pytest.raises(SettingsError, match="no weights 'w9'; there are w1f"):
        quantize(layer_bits={"w9": 3})
    model = every_layer()
    for name in ("w7", "w8"):
        tensor = next(one for one in model.graph.initializer if one.name == name)
        tensor.CopyFrom(numpy_helper.from_array(np.full((7, 6) if name == "w7" else (6, 5), np.nan, np.float32), name))
    with pytest.raises(SettingsError, match="w7: holds weights that are not finite"):
        quantize_weights(model, None, WeightOptions())
    relu = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [onnx.helper.make_tensor_value_info("x", 1, [1])],
        [onnx.helper.make_tensor_value_info("y", 1, [1])],
    )
    with pytest.raises(SettingsError, match="no convolution"):
        quantize_weights(onnx.helper.make_model(relu), None, WeightOptions())


def test_layers_of_one_chunk_do_not_make_good_the_same_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten layers in a row, their inputs looked at together: what the first chunk lost is made good once."""
    rng = np.random.default_rng(0)
    nodes, constants, last = [], [], "image"
    for number in range(10):
        values = (np.eye(4) + rng.normal(0, 0.2, (4, 4))).reshape(4, 4, 1, 1).astype(np.float32)
        constants.append(numpy_helper.from_array(values, f"w{number}"))
        nodes.append(onnx.helper.make_node("Conv", [last, f"w{number}"], [f"c{number}"]))
        nodes.append(onnx.helper.make_node("LeakyRelu", [f"c{number}"], [last := f"r{number}"], alpha=0.3))
    graph = onnx.helper.make_graph(
        nodes,
        "chain",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["n", 4, 10, 10])],
        [onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, ["n", 4, 10, 10])],
        constants,
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=7)
    judge: Any = Inputs(model, images(64, seed=2))
    wanted = run(model)
    away = {}
    for passes in (2, 10):
        monkeypatch.setattr("featlink_host.prepare.quantization.weights.PASSES", passes)
        tuned = quantize_weights(model, judge, WeightOptions(bits=3, fine_tune=True, samples=64))
        away[passes] = float(np.square(run(tuned.model) - wanted).mean())
    plain = quantize_weights(model, None, WeightOptions(bits=3))
    assert away[2] < 0.7 * float(np.square(run(plain.model) - wanted).mean())
    assert away[10] < away[2]
