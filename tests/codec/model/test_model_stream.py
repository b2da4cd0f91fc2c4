"""Model streams written and read: values, laziness, identities, settings."""

import mmap

import numpy as np
import pytest
from codec.model.models import both_cores, changed, same, small_model

from featlink_codec.errors import SettingsError, StreamError
from featlink_codec.model import (
    Budget,
    Description,
    EncodeSettings,
    ModelStream,
    TensorSettings,
    encode,
    twin,
)
from featlink_codec.model.orders import Order, OrderKind
from featlink_codec.model.reconstruction import qp_for_step, step_size
from featlink_codec.model.syntax import UnitType

SETTINGS = {
    "dependent": TensorSettings(),
    "uniform": TensorSettings(dq=False),
    "blocks": TensorSettings(scan_order=1),
    "uniform blocks": TensorSettings(scan_order=1, dq=False),
    "columns": TensorSettings(order=Order(OrderKind.COLUMN)),
    "blocked": TensorSettings(order=Order(OrderKind.BLOCKED, 3)),
    "diagonal": TensorSettings(order=Order(OrderKind.DIAGONAL)),
    "monotone": TensorSettings(order="monotone"),
    "cheapest": TensorSettings(order="cheapest"),
    "codebook": TensorSettings(qp=-16, codebook=True),
    "escape": TensorSettings(dq=False, escape_limit=20),
    "raw": TensorSettings(raw=True),
}


@both_cores
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_what_is_encoded_is_decoded(settings, core):
    model = small_model()
    made = encode(model, EncodeSettings(weights=settings), core=core)
    stream = ModelStream(made.data, core=core)
    found = stream.tensors()
    same(found, made.tensors)
    stream.verify()
    assert stream.model_sha256() == made.model_sha256
    step = float(step_size(settings.qp, 2))
    for name, tensor in model.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        if tensor.dtype.kind in "iub" or name == "special":
            assert found[name].tobytes() == tensor.tobytes()
        elif settings.raw and tensor.ndim > 1:
            if tensor.dtype != np.float64:
                assert found[name].tobytes() == tensor.tobytes()
        else:
            assert np.abs(found[name] - tensor.astype(np.float64)).max() <= 2 * step + 1e-3


@both_cores
def test_encoding_is_deterministic(core):
    assert encode(small_model(), core=core).data == encode(small_model(), core=core).data


def test_encoding_what_was_decoded_changes_nothing():
    """Without dependent quantization, values on the grid stay where they are."""
    settings = EncodeSettings(weights=TensorSettings(dq=False), vectors=TensorSettings(qp=-75, dq=False))
    once = encode(small_model(), settings, core=twin)
    again = encode(once.tensors, settings, core=twin)
    assert again.data == once.data


def test_one_tensor_touches_its_own_bytes_alone():
    """All other units are garbage by then."""
    made = encode(small_model(), core=twin)
    whole = ModelStream(made.data, core=twin)
    ndus = [unit for unit in whole.units() if unit.unit_type is UnitType.NDU]
    names = whole.names()
    assert len(ndus) == len(names)
    for unit, name in zip(ndus, names, strict=True):
        damaged = bytearray(made.data)
        for other in ndus:
            if other is not unit:
                damaged[other.offset : other.end] = b"\xff" * other.size
        assert ModelStream(damaged, core=twin).tensor(name).tobytes() == made.tensors[name].tobytes()


def test_without_control_data_units_are_found_by_their_lengths():
    model = {name: tensor for name, tensor in small_model().items() if tensor.dtype == np.float32}
    made = encode(model, EncodeSettings(control_data=False), core=twin)
    stream = ModelStream(made.data, core=twin)
    assert stream.control is None
    same(stream.tensors(), made.tensors)
    assert stream.model_sha256() == made.model_sha256
    stream.verify()


def test_what_needs_control_data_is_not_written_without():
    for name, tensor in small_model().items():
        if tensor.dtype not in (np.float32, np.int32) or not tensor.shape:
            with pytest.raises(SettingsError, match="control data"):
                encode({name: tensor}, EncodeSettings(control_data=False), core=twin)


def test_a_memory_map_is_read_in_place_and_let_go(tmp_path):
    path = tmp_path / "model.nnc"
    made = encode(small_model(), core=twin)
    path.write_bytes(made.data)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        with ModelStream(mapped, core=twin) as stream:
            same(stream.tensors(), made.tensors)
        mapped.close()


def test_names_that_the_peer_does_not_take_are_changed_on_the_wire_alone():
    rng = np.random.default_rng(0)
    model = {"a_G": rng.normal(0, 1, (6, 6)).astype(np.float32), "a_H": rng.normal(0, 1, (6, 6)).astype(np.float32)}
    made = encode(model, core=twin)
    stream = ModelStream(made.data, core=twin)
    assert stream.names() == ["a_G", "a_H"]
    wire = [stream.header(unit).topology_elem_ids for unit in stream.units() if unit.unit_type is UnitType.NDU]
    assert wire == [["a_G."], ["a_H."]]


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (np.zeros((3, 0), np.float32), "no elements"),
        (np.zeros(3, np.complex64), "complex64"),
        (np.array([2**40]), "32 bits are coded"),
        (np.array([1e300]), "beyond binary32"),
    ],
)
def test_tensors_that_cannot_be_coded_are_refused(tensor, text):
    with pytest.raises(SettingsError, match=text):
        encode({"t": tensor}, core=twin)


@pytest.mark.parametrize(
    "make",
    [
        lambda: TensorSettings(scan_order=5),
        lambda: TensorSettings(rate_weight=-1.0),
        lambda: TensorSettings(order="sideways"),  # type: ignore[arg-type]
        lambda: TensorSettings(escape_limit=3),
        lambda: EncodeSettings(weights=TensorSettings(qp=9999)),
        lambda: EncodeSettings(vectors=TensorSettings(qp=200)),
        lambda: EncodeSettings(unary_length=0),
        lambda: EncodeSettings(qp_density=8),
        lambda: Order(OrderKind.NEURONS, permutation=(0, 2)),
        lambda: Order(OrderKind.ROW, 4),
    ],
)
def test_settings_that_cannot_be_are_refused(make):
    with pytest.raises(SettingsError):
        make()


def test_settings_of_single_tensors_win():
    model = small_model()
    settings = EncodeSettings(tensors={"conv.weight": TensorSettings(qp=-8), "fc.weight": TensorSettings(raw=True)})
    stream = ModelStream(encode(model, settings, core=twin).data, core=twin)
    assert stream.decoded("conv.weight").qp == -8
    assert stream.decoded("dw.weight").qp == -32
    assert stream.tensor("fc.weight").tobytes() == model["fc.weight"].tobytes()


def test_tiny_and_unusual_tensors_are_raw():
    stream = ModelStream(encode(small_model(), core=twin).data, core=twin)
    assert stream.decoded("fc.bias").raw is not None
    assert stream.decoded("special").raw is not None
    assert stream.decoded("conv.bias").raw is None


def test_a_step_too_small_for_a_tensor_grows():
    big = np.linspace(-1e9, 1e9, 40, dtype=np.float32)
    made = encode({"big": big}, core=twin)
    decoded = ModelStream(made.data, core=twin).decoded("big")
    assert decoded.qp is not None
    assert decoded.qp > -75
    assert np.abs(made.tensors["big"] - big).max() <= 2 * float(step_size(decoded.qp, 2))


def test_steps_are_those_of_the_format():
    assert step_size(-32, 2) == 2**-8
    assert step_size(-28, 2) == 2**-7
    assert step_size(-31, 2) == np.float32(1.25 * 2**-8)
    assert step_size(5, 0) == 32
    for density in range(8):
        for qp in range(-200 >> (7 - density), 60):
            assert qp_for_step(float(step_size(qp, density)), density) == qp
    for qp in (-2000, 2000):
        with pytest.raises(SettingsError, match="beyond binary32"):
            step_size(qp, 2)


def test_all_tensors_together_stay_within_the_budget():
    made = encode(small_model(), core=twin)
    total = sum(tensor.size for tensor in made.tensors.values())
    ModelStream(made.data, Budget(max_total_elements=total), core=twin).tensors()
    with pytest.raises(StreamError, match=r"over-budget.*max_total_elements"):
        ModelStream(made.data, Budget(max_total_elements=total - 1), core=twin).tensors()
    with pytest.raises(StreamError, match=r"over-budget.*max_control_bytes"):
        ModelStream(made.data, Budget(max_control_bytes=100), core=twin)


def test_a_missing_tensor_is_the_callers_mistake():
    stream = ModelStream(encode(small_model(), core=twin).data, core=twin)
    for ask in (stream.tensor, stream.decoded, stream.materialized):
        with pytest.raises(SettingsError, match="no tensor 'nothing'"):
            ask("nothing")


def test_descriptions_that_do_not_go_with_the_tensors_are_refused():
    from featlink_codec.model import Layer
    from featlink_codec.model.tensor_level import Part, Supplement, Version

    for description in (
        Description(layers=(Layer("a", "convolution", ("nothing",)),)),
        Description(versions=(Version("v", None, (Part("nothing", "nothing"),)),)),
        Description(versions=(Version("v", "w"),)),
        Description(supplements=(Supplement("relevance", "conv.weight", "nothing"),)),
        Description(layers=(Layer("a", "x", ("half",)), Layer("a", "x", ("double",)))),
    ):
        with pytest.raises(SettingsError):
            encode(small_model(), description=description, core=twin)


def test_models_that_differ_have_other_identities():
    made = encode(small_model(), core=twin)
    other = encode(changed(small_model(), 1), core=twin)
    assert made.model_sha256 != other.model_sha256
    # The step is part of it, not the levels alone.
    finer = encode(
        {"z": np.zeros((5, 5), np.float32)}, EncodeSettings(weights=TensorSettings(qp=-40)), core=twin
    ).model_sha256
    assert finer != encode({"z": np.zeros((5, 5), np.float32)}, core=twin).model_sha256
