"""Damage of any kind is a StreamError with a name and an offset, never another exception, and never a wrong tensor."""

import numpy as np
import pytest
from codec.model.models import INDEX, VECTORS, both_cores, small_model
from hypothesis import given
from hypothesis import strategies as st

from featlink_codec.errors import StreamError
from featlink_codec.model import Budget, ModelStream, apply_update, encode, encode_update, twin
from featlink_codec.model.syntax import UnitType

BUDGET = Budget(max_tensor_elements=1 << 14, max_total_elements=1 << 16)
SMALL = {
    "a.weight": np.random.default_rng(0).laplace(0, 0.1, (5, 6)).astype(np.float32),
    "a.bias": np.arange(3, dtype=np.float32),
    "b": np.arange(20, dtype=np.int64),
}


@pytest.fixture(scope="module")
def small() -> bytes:
    return encode(SMALL, core=twin).data


def everything(data, core=twin):
    """All that a reader may be asked for."""
    stream = ModelStream(data, BUDGET, core=core)
    stream.verify()
    if stream.control is not None:
        _ = (stream.control.topology, stream.control.model, stream.control.data_set)
    return stream.tensors()


@both_cores
def test_a_stream_cut_at_any_byte_is_refused(small, core):
    for length in range(len(small)):
        with pytest.raises(StreamError) as caught:
            everything(small[:length], core)
        assert caught.value.offset <= length


@both_cores
def test_a_flipped_bit_is_found(small, core):
    """Wherever it is: in the framing, in the control data, in a header, in a step, in a payload."""
    wanted = {name: tensor.tobytes() for name, tensor in everything(small).items()}
    unread = 0
    bits = range(0, 8 * len(small), 17 if core is twin else 1)
    for bit in bits:
        damaged = bytearray(small)
        damaged[bit // 8] ^= 0x80 >> bit % 8
        try:
            found = everything(damaged, core)
        except StreamError:
            continue
        # What nobody reads may change; what is read may not.
        assert {name: tensor.tobytes() for name, tensor in found.items()} == wanted, bit
        unread += 1
    assert unread < 0.02 * len(bits)


def unit_of(stream, name):
    return next(
        unit
        for unit in stream.units()
        if unit.unit_type is UnitType.NDU and stream.header(unit).topology_elem_ids == [name]
    )


def test_a_tensor_that_decodes_to_something_else_is_named_with_its_offset():
    made = encode(small_model(), core=twin)
    unit = unit_of(ModelStream(made.data, core=twin), "fc.bias")
    damaged = bytearray(made.data)
    damaged[unit.end - 1] ^= 1
    for ask in (lambda stream: stream.tensor("fc.bias"), ModelStream.verify, ModelStream.tensors):
        with pytest.raises(StreamError, match=r"hash-mismatch: tensor 'fc\.bias' has the hash") as caught:
            ask(ModelStream(damaged, core=twin))
        assert caught.value.offset == unit.offset


def test_damage_to_one_tensor_is_found_and_stays_with_it():
    made = encode(small_model(), core=twin)
    stream = ModelStream(made.data, core=twin)
    unit = unit_of(stream, "fc.weight")
    for byte in range(unit.end - 12, unit.end - 6):
        damaged = bytearray(made.data)
        damaged[byte] ^= 1
        broken = ModelStream(damaged, core=twin)
        with pytest.raises(StreamError) as caught:
            broken.tensor("fc.weight")
        assert unit.offset <= caught.value.offset <= unit.end
        assert broken.tensor("conv.weight").tobytes() == made.tensors["conv.weight"].tobytes()


@both_cores
@given(st.sampled_from(sorted(INDEX)), st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=6))
def test_foreign_streams_with_damage_decode_or_are_refused(core, name, damage):
    if name == "p14_dq_big_unit":
        return
    data = bytearray((VECTORS / INDEX[name]["file"]).read_bytes())
    for place, value in damage:
        data[place % len(data)] = value
    offset = 0
    try:
        everything(data, core)
    except StreamError as error:
        offset = error.offset
    assert 0 <= offset <= len(data)


@both_cores
@given(st.binary(max_size=200))
def test_garbage_is_refused(core, data):
    with pytest.raises(StreamError):
        everything(data, core)
    with pytest.raises(StreamError):
        everything(bytes.fromhex("00040201000806810040008000") + b"\x40" + data, core)


def test_a_damaged_update_changes_nothing(small):
    base = encode(SMALL, core=twin)
    wanted = {name: tensor + 1 for name, tensor in base.tensors.items()}
    update = encode_update(base.tensors, base.model_sha256, wanted, core=twin)
    before = {name: tensor.tobytes() for name, tensor in base.tensors.items()}
    for place in range(0, len(update.data), 3):
        damaged = bytearray(update.data)
        damaged[place] ^= 0x10
        try:
            got = apply_update(base.tensors, base.model_sha256, ModelStream(damaged, BUDGET, core=twin))
        except StreamError:
            pass
        else:
            assert {k: v.tobytes() for k, v in got.tensors.items()} == {
                k: v.tobytes() for k, v in update.tensors.items()
            }
        assert {name: tensor.tobytes() for name, tensor in base.tensors.items()} == before


def test_units_out_of_order_or_twice_are_refused():
    data = (VECTORS / INDEX["p01_urq_cnn"]["file"]).read_bytes()
    start, parameters, rest = data[:4], data[4:12], data[12:]
    ModelStream(start + parameters + rest, core=twin).verify()
    for order in (parameters + start + rest, start + rest, parameters + rest, rest):
        with pytest.raises(StreamError, match="not-a-stream"):
            ModelStream(order, core=twin)
    for twice in (start + parameters + parameters + rest, start + parameters + rest + start):
        with pytest.raises(StreamError, match="bad-order"):
            ModelStream(twice, core=twin).tensors()


def test_bytes_behind_the_last_unit_are_refused():
    data = (VECTORS / INDEX["p01_urq_cnn"]["file"]).read_bytes()
    for rest in (b"\0", b"\0" * 9, data[4:6]):
        with pytest.raises(StreamError):
            ModelStream(data + rest, core=twin).verify()
