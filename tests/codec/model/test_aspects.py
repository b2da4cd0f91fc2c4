"""The twelve aspects of the network representation format that the stream follows: each in use."""

import json

import numpy as np
import pytest
from codec.model.models import both_cores, small_model
from hypothesis import given
from hypothesis import strategies as st

from featlink_codec.errors import SettingsError, StreamError
from featlink_codec.model import (
    Description,
    EncodeSettings,
    Layer,
    ModelStream,
    TensorSettings,
    compose,
    encode,
    twin,
    version_names,
)
from featlink_codec.model.control_data import DataSet, ModelInfo, Topology
from featlink_codec.model.inference import InferenceFormat
from featlink_codec.model.orders import Order, OrderKind, monotone
from featlink_codec.model.processing import Processing, ProcessingOption
from featlink_codec.model.reconstruction import step_size
from featlink_codec.model.syntax import UnitType
from featlink_codec.model.tensor_level import Part, Rule, Supplement, Version

RNG = np.random.default_rng(11)
ORDERS = [
    Order(),
    Order(OrderKind.COLUMN),
    Order(OrderKind.BLOCKED, 1),
    Order(OrderKind.BLOCKED, 4),
    Order(OrderKind.DIAGONAL),
]


def silent_inputs(rows=40, columns=30):
    """Two thirds of the columns are all but zero: column by column they cost next to nothing."""
    rng = np.random.default_rng(2)
    loud = rng.permutation(columns) < columns // 3
    return (rng.normal(0, 1, (rows, columns)) * np.where(loud, 1, 0.01)).astype(np.float32)


# 1: coding orders


@given(st.sampled_from(ORDERS), st.lists(st.integers(1, 7), min_size=1, max_size=4))
def test_aspect_1_every_order_is_undone(order, shape):
    tensor = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    stored = order.arrange(tensor)
    assert sorted(stored.reshape(-1).tolist()) == tensor.reshape(-1).tolist()
    assert order.restore(stored, tuple(shape)).tolist() == tensor.tolist()


def test_aspect_1_orders_are_what_their_names_say():
    tensor = np.arange(12).reshape(3, 4)
    assert Order(OrderKind.COLUMN).arrange(tensor).reshape(-1).tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    assert Order(OrderKind.BLOCKED, 2).arrange(tensor).reshape(-1).tolist() == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 10, 11]
    assert Order(OrderKind.DIAGONAL).arrange(tensor).reshape(-1).tolist() == [0, 1, 4, 8, 5, 2, 3, 6, 9, 10, 7, 11]
    assert monotone(np.array([[3, 3], [1, 1], [2, 2]])).permutation == (1, 2, 0)


def test_aspect_1_the_encoder_finds_the_cheapest_order():
    model = {"w": silent_inputs()}
    sizes = {}
    for name, order in {"row": Order(), "monotone": "monotone", "cheapest": "cheapest"}.items():
        made = encode(model, EncodeSettings(weights=TensorSettings(qp=-8, dq=False, order=order)), core=twin)
        stream = ModelStream(made.data, core=twin)
        assert np.abs(stream.tensor("w") - model["w"]).max() <= step_size(-8, 2) / 2
        sizes[name] = len(made.data)
    assert sizes["cheapest"] <= min(sizes["row"], sizes["monotone"])
    assert sizes["cheapest"] < 0.97 * sizes["row"]
    assert stream.records()[0].order.kind is OrderKind.COLUMN


# 2: number formats for inference


@pytest.mark.parametrize(
    ("name", "dtype", "scale"),
    [
        ("float32", np.float32, 1),
        ("float16", np.float16, 1),
        ("int8", np.int8, None),
        ("fixed 2.6", np.int8, 1 / 64),
        ("fixed 3.13", np.int16, 2.0**-13),
        ("fixed 4.20", np.int32, 2.0**-20),
    ],
)
def test_aspect_2_a_tensor_is_materialized_in_its_format(name, dtype, scale):
    model = {"w": RNG.normal(0, 0.5, (9, 9)).astype(np.float32)}
    settings = EncodeSettings(weights=TensorSettings(inference=InferenceFormat(name)))
    stream = ModelStream(encode(model, settings, core=twin).data, core=twin)
    found, exact = stream.materialized("w"), stream.tensor("w")
    assert found.array.dtype == dtype
    assert scale is None or found.scale == scale
    assert np.abs(found.array * found.scale - exact).max() <= max(found.scale / 2, 2**-11) if scale != 1 else 1
    if name == "float32":
        assert found.array.tobytes() == exact.tobytes()


def test_aspect_2_fixed_point_saturates():
    values = np.array([5, -5, 0.5, 1.99], np.float32)
    assert InferenceFormat("fixed 2.6").materialize(values).array.tolist() == [127, -128, 32, 127]
    for name in ("fixed 0.0", "fixed 20.20", "int4", ""):
        with pytest.raises(SettingsError, match="inference format"):
            InferenceFormat(name)


# 3: types of layers and parameters


def test_aspect_3_types_of_layers_and_parameters_are_told():
    control = ModelStream(encode(small_model(), core=twin).data, core=twin).control
    types = {layer.name: layer.layer_type for layer in control.layers.layers}
    assert (types["conv"], types["dw"], types["fc"]) == ("convolution", "depthwise", "fully-connected")
    parameters = {record.name: record.parameter_type for record in control.tensors.tensors}
    assert (parameters["conv.weight"], parameters["conv.bias"]) == ("weight", "bias")
    named = Description(layers=(Layer("l", "lstm", ("half",)),), parameter_types={"half": "recurrent"})
    control = ModelStream(encode(small_model(), description=named, core=twin).data, core=twin).control
    assert control.layers.layers[0].layer_type == "lstm"
    assert {record.name: record.parameter_type for record in control.tensors.tensors}["half"] == "recurrent"


# 4 and 5: portions that are accessed alone, by pointer or by length


@both_cores
def test_aspect_4_a_tensor_decodes_the_same_alone_and_in_any_order(core):
    made = encode(small_model(), core=core)
    stream = ModelStream(made.data, core=core)
    for name in reversed(stream.names()):
        assert stream.tensor(name).tobytes() == made.tensors[name].tobytes()


def test_aspect_5_units_are_reached_by_pointer_and_by_length():
    made = encode(small_model(), core=twin)
    stream = ModelStream(made.data, core=twin)
    by_length = {}
    for unit in stream.units():
        if unit.unit_type is UnitType.NDU:
            by_length[stream.header(unit).topology_elem_ids[0]] = (unit.offset, unit.size)
    first = min(offset for offset, _ in by_length.values())
    assert {record.name: (first + record.offset, record.size) for record in stream.records()} == by_length


# 6: portions of a tensor


def test_aspect_6_a_tensor_is_decoded_by_several_threads_from_its_entry_points():
    model = {"w": RNG.laplace(0, 0.1, (100, 70)).astype(np.float32)}
    made = encode(model, EncodeSettings(weights=TensorSettings(scan_order=1)))
    stream = ModelStream(made.data)
    (unit,) = (unit for unit in stream.units() if unit.unit_type is UnitType.NDU)
    assert len(stream.header(unit).cabac_entry_point_list) == 12
    for threads in (1, 2, 5):
        assert ModelStream(made.data, threads=threads).tensor("w").tobytes() == made.tensors["w"].tobytes()
    assert ModelStream(made.data, core=twin).tensor("w").tobytes() == made.tensors["w"].tobytes()


# 7: processing options


def test_aspect_7_processing_options_are_told():
    options = (
        ProcessingOption(Processing.PER_CHANNEL, required=True),
        ProcessingOption(Processing.DEPENDS_ON, portions=("fc.weight",)),
    )
    parallel = ProcessingOption(Processing.PARALLEL)
    description = Description(
        layers=(Layer("conv", "convolution", ("conv.weight",), (parallel,)),), options={"conv.weight": options}
    )
    control = ModelStream(encode(small_model(), description=description, core=twin).data, core=twin).control
    assert control.tensors.tensors[0].options == options
    assert control.layers.layers[0].options == (parallel,)
    for processing in Processing:
        option = ProcessingOption(processing)
        assert ProcessingOption(Processing(option.json()["option"])) == option


# 8: reconstruction rules of portions


def test_aspect_8_steps_of_tensors_are_differences_to_that_of_the_model():
    model = {name: RNG.normal(0, 1, (6, 6)).astype(np.float32) for name in "ab"}
    settings = EncodeSettings(weights=TensorSettings(qp=-33), tensors={"b": TensorSettings(qp=-50)})
    stream = ModelStream(encode(model, settings, core=twin).data, core=twin)
    assert stream.parameters.mps.mps_quantization_parameter == -33
    assert [stream.decoded(name).qp for name in "ab"] == [-33, -50]
    for unit in stream.units():
        if unit.unit_type is UnitType.NDU:
            start = unit.reader(stream._data)
            stream.header(unit).code(start, 1, 0, stream.budget)
            delta = twin.PayloadDecoder(stream._data[start.position : unit.end]).bits(8)
            assert delta in (0, 256 - 17)


def test_aspect_8_codebooks_stand_where_they_are_cheaper():
    levels = RNG.choice([-40, -3, 0, 9, 70], (40, 40), p=[0.1, 0.2, 0.4, 0.2, 0.1])
    model = {"few": (levels / 64).astype(np.float32), "many": RNG.normal(0, 1, (12, 12)).astype(np.float32)}
    settings = EncodeSettings(weights=TensorSettings(qp=-24, codebook=True))
    made = encode(model, settings, core=twin)
    stream = ModelStream(made.data, core=twin)
    assert stream.decoded("few").codebook.values == sorted({-40, -3, 0, 9, 70})
    assert stream.decoded("many").codebook is None
    assert stream.tensor("few").tobytes() == model["few"].tobytes()
    assert len(made.data) < len(encode(model, EncodeSettings(weights=TensorSettings(qp=-24)), core=twin).data)


def test_aspect_8_levels_beyond_the_limit_come_from_the_escape_table():
    tensor = RNG.normal(0, 0.05, (20, 20)).astype(np.float32)
    tensor[3, 4], tensor[7, 7], tensor[9, 0] = 3.14159, -2.71828, 17.5
    settings = EncodeSettings(weights=TensorSettings(dq=False, escape_limit=80))
    stream = ModelStream(encode({"w": tensor}, settings, core=twin).data, core=twin)
    found = stream.tensor("w")
    outside = np.abs(tensor) > 81 * float(step_size(-32, 2))
    assert outside.sum() == 3
    assert (found[outside] == tensor[outside]).all()
    assert np.abs(found - tensor).max() <= step_size(-32, 2) / 2
    assert (stream.decoded("w").levels[3, 4], stream.decoded("w").levels[7, 7]) == (81, -81)


# 9: identities


def test_aspect_9_identities_go_from_tensors_to_layers_to_the_model():
    from featlink_codec.model import identity

    made = encode(small_model(), core=twin)
    stream = ModelStream(made.data, core=twin)
    tensors = {record.name: record.sha256 for record in stream.records()}
    for name, digest in tensors.items():
        assert stream.decoded(name).sha256().hex() == digest
    layers = stream.control.layers.layers
    for layer in layers:
        assert layer.sha256 == identity.layer_sha256((name, tensors[name]) for name in layer.tensors)
    assert made.model_sha256 == identity.model_sha256((layer.name, layer.sha256) for layer in layers)
    assert stream.model_sha256() == made.model_sha256


# 10: versions


def versioned():
    rng = np.random.default_rng(4)
    fine = rng.normal(0, 0.5, (12, 10)).astype(np.float32)
    coarse = (np.rint(fine * 4) / 4).astype(np.float32)
    grown = np.zeros((15, 11), np.float32)
    grown[12:] = rng.normal(0, 0.5, (3, 11))
    tensors = {
        "w": coarse,
        "b": rng.normal(0, 1, 40).astype(np.float32),
        "w@fine": fine - coarse,
        "w@grown": grown,
        "w@beside": (fine - coarse).astype(np.float32),
    }
    versions = (
        Version("base", None, (Part("w", "w"), Part("b", "b"))),
        Version("fine", "base", (Part("w", "w@fine", Rule.DIFFERENCE),)),
        Version("wide", "fine", (Part("w", "w@grown", Rule.GROWTH),)),
        Version("compensated", "base", (Part("w", "w@beside", Rule.COMPENSATION),)),
    )
    settings = EncodeSettings(weights=TensorSettings(dq=False, qp=-44))
    return fine, coarse, grown, encode(tensors, settings, Description(versions=versions), core=twin)


def test_aspect_10_each_version_is_decoded_from_its_own_parts():
    fine, coarse, grown, made = versioned()
    stream = ModelStream(made.data, core=twin)
    assert version_names(stream) == ["base", "fine", "wide", "compensated"]
    near = float(step_size(-44, 2))
    base = compose(stream)
    assert (base.tensors["w"] == coarse).all()
    assert not base.compensations
    assert np.abs(compose(stream, "fine").tensors["w"] - fine).max() <= near
    wide = compose(stream, "wide").tensors["w"]
    assert wide.shape == (15, 11)
    assert np.abs(wide[:12, :10] - fine).max() <= 2 * near
    assert np.abs(wide[12:] - grown[12:]).max() <= near
    compensated = compose(stream, "compensated")
    assert (compensated.tensors["w"] == coarse).all()
    x = np.random.default_rng(0).normal(0, 1, 10).astype(np.float32)
    both = compensated.tensors["w"] @ x + compensated.compensations["w"] @ x
    assert np.abs(both - fine @ x).max() < 1e-2
    with pytest.raises(SettingsError, match=r"no version 'best'.*base, fine"):
        compose(stream, "best")


def test_aspect_10_a_client_of_the_base_needs_nothing_of_the_rest():
    made = versioned()[3]
    stream = ModelStream(made.data, core=twin)
    damaged = bytearray(made.data)
    for unit in stream.units():
        if unit.unit_type is UnitType.NDU and "@" in stream.header(unit).topology_elem_ids[0]:
            damaged[unit.offset : unit.end] = bytes(unit.size)
    assert compose(ModelStream(damaged, core=twin)).tensors["w"].tobytes() == made.tensors["w"].tobytes()
    with pytest.raises(StreamError):
        compose(ModelStream(damaged, core=twin), "fine")


def test_aspect_10_parts_that_do_not_go_together_are_refused():
    tensors = {"w": np.zeros((4, 4), np.float32), "d": np.zeros((3, 4), np.float32)}
    for rule in (Rule.DIFFERENCE, Rule.GROWTH):
        versions = (Version("a", None, (Part("w", "w"),)), Version("b", "a", (Part("w", "d", rule),)))
        stream = ModelStream(encode(tensors, description=Description(versions=versions), core=twin).data, core=twin)
        with pytest.raises(StreamError, match="bad-version: version 'b', tensor 'w'"):
            compose(stream, "b")
    versions = (Version("b", None, (Part("w", "d", Rule.DIFFERENCE),)),)
    stream = ModelStream(encode(tensors, description=Description(versions=versions), core=twin).data, core=twin)
    with pytest.raises(StreamError, match="nothing to add to"):
        compose(stream)


# 11: supplemental data


def test_aspect_11_supplements_are_skipped_unless_wanted():
    model = {"w": RNG.normal(0, 1, (8, 8)).astype(np.float32)}
    scores = RNG.random((8, 8)).astype(np.float32)
    supplements = (Supplement("relevance", "w", "w relevance"), Supplement("robustness", "w", "w variance"))
    both = {**model, "w relevance": scores, "w variance": scores * 2}
    made = encode(both, description=Description(supplements=supplements), core=twin)
    stream = ModelStream(made.data, core=twin)
    assert list(stream.tensors()) == ["w"]
    assert np.abs(stream.supplement("relevance", "w") - scores).max() < 0.02
    assert np.abs(stream.supplement("robustness", "w") - 2 * scores).max() < 0.02
    with pytest.raises(SettingsError, match="no supplement 'colour' of 'w'"):
        stream.supplement("colour", "w")
    # They are no part of the model's identity, and damage to them does not reach it.
    assert made.model_sha256 == encode(model, core=twin).model_sha256
    damaged = bytearray(made.data)
    unit = list(stream.units())[-1]
    damaged[unit.offset : unit.end] = bytes(unit.size)
    assert list(ModelStream(damaged, core=twin).tensors()) == ["w"]


# 12: control data of growing detail


def test_aspect_12_levels_grow_in_detail_and_are_independent():
    description = Description(
        topology=Topology("onnx", b"graph"),
        model=ModelInfo("net", "1", {"epochs": 3}, {"accuracy": 0.9}),
        data_set=DataSet("digits", {"classes": 10}),
    )
    control = ModelStream(encode(small_model(), description=description, core=twin).data, core=twin).control
    assert [number for number, _, _ in control.head.levels] == [1, 2, 3, 4, 5]
    # Any one of them alone, the deeper ones first.
    assert control.data_set.properties == {"classes": 10}
    assert control.model.performance == {"accuracy": 0.9}
    assert control.topology.data == b"graph"
    assert json.dumps(control.layers.json())
    bare = ModelStream(encode(small_model(), core=twin).data, core=twin).control
    assert (bare.topology, bare.model, bare.data_set) == (None, None, None)
