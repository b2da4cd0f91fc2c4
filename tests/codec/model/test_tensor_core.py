"""The C core's payload coder where it does more than its twin: threads, large tensors, damage, quantizers."""

import itertools

import numpy as np
import pytest
from codec.model.test_twin import tensors
from hypothesis import given, settings
from hypothesis import strategies as st

from featlink_codec.errors import SettingsError, StreamError, TruncatedError
from featlink_codec.model import tensor_core, twin
from featlink_codec.model.tables import NEXT_STATE
from featlink_codec.model.tensor_coding import EntryPoint, TensorCoding


def encoded(indices, coding, *, core=tensor_core, **how):
    encoder = core.PayloadEncoder()
    encoder.tensor(indices, coding, **how)
    return encoder.finish()


def decoded(payload, coding, base=None, history=None, core=tensor_core):
    decoder = core.PayloadDecoder(payload)
    found = decoder.tensor(coding, base, history)
    return found, decoder.finish()


def laplace(shape, spread, seed=1):
    return np.random.default_rng(seed).laplace(0, spread, shape)


def indices_of(shape, spread, seed=1):
    return np.rint(laplace(shape, spread, seed)).astype(np.int32)


def outcome(core, payload, coding, base, history):
    try:
        found, size = decoded(payload, coding, base, history, core)
    except StreamError as error:
        return error.name
    return found.tobytes(), size


@settings(max_examples=300)
@given(tensors(), st.data())
def test_damaged_payloads_are_refused_or_read_as_the_twin_reads_them(tensor, data):
    coding, indices, base, history, row_skip = tensor
    payload = bytearray(encoded(indices, coding, base=base, history=history, row_skip=row_skip))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    payload = bytes(payload[: data.draw(st.integers(0, len(payload)))])
    found = outcome(tensor_core, payload, coding, base, history)
    wanted = outcome(twin, payload, coding, base, history)
    # Either may say what is wrong first; these are no matter to the twin.
    if isinstance(found, str) or isinstance(wanted, str):
        assert isinstance(found, str)
        assert isinstance(wanted, str) or found in ("bad-index", "bad-register")
    else:
        assert found == wanted


@settings(max_examples=100)
@given(st.binary(max_size=80), st.integers(1, 40), st.integers(1, 40), st.booleans(), st.integers(0, 4))
def test_any_bytes_end_in_levels_or_an_error(payload, rows, columns, dq, scan_order):
    coding = TensorCoding(rows, columns, 10, dq, scan_order)
    assert outcome(tensor_core, payload, coding, None, None)


@pytest.mark.parametrize("length", [1, 10, 256])
def test_a_payload_that_ends_early_is_said_to_be_truncated(length):
    coding = TensorCoding(40, 50, length)
    payload = encoded(indices_of((40, 50), 9), coding)
    for size in (0, 1, 2, len(payload) // 2, len(payload) - 2):
        with pytest.raises(TruncatedError) as caught:
            decoded(payload[:size], coding)
        assert caught.value.offset == size


@given(tensors(), st.integers(1, 4))
def test_threads_read_what_one_reads(tensor, threads):
    coding, indices, base, history, row_skip = tensor
    if coding.dq and coding.scan_order:
        row_skip = False
    points = []
    payload = encoded(indices, coding, base=base, history=history, row_skip=row_skip, entry_points=points)
    wanted, size = decoded(payload, coding, base, history)
    decoder = tensor_core.PayloadDecoder(payload)
    assert (decoder.tensor_parallel(coding, points, threads, base, history) == wanted).all()
    assert decoder.finish() == size


@pytest.mark.parametrize(
    "wrong",
    [
        lambda point: point._replace(value=point.value ^ 1),
        lambda point: point._replace(dq_state=point.dq_state ^ 1),
        lambda point: point._replace(bit_offset=point.bit_offset + 1),
        lambda point: point._replace(value=256),
        lambda point: point._replace(dq_state=8),
        lambda point: point._replace(bit_offset=-(1 << 40)),
        lambda point: point._replace(bit_offset=1 << 61),
    ],
)
def test_an_entry_point_that_is_none_is_refused(wrong):
    coding, points = TensorCoding(40, 30, 10, dq=True, scan_order=1), []
    payload = encoded(indices_of((40, 30), 3), coding, entry_points=points)
    assert len(points) == 4
    for k in range(4):
        changed = [*points[:k], wrong(points[k]), *points[k + 1 :]]
        with pytest.raises(StreamError):
            tensor_core.PayloadDecoder(payload).tensor_parallel(coding, changed, 5)
    with pytest.raises(SettingsError, match="3 entry points for 5 block rows"):
        tensor_core.PayloadDecoder(payload).tensor_parallel(coding, points[:3], 5)


def test_entry_points_are_the_twins():
    coding, found, wanted = TensorCoding(40, 30, 10, dq=True, scan_order=1), [], []
    indices = indices_of((40, 30), 3)
    encoded(indices, coding, choose_sets=False, entry_points=found)
    encoded(indices, coding, choose_sets=False, entry_points=wanted, core=twin)
    assert found == wanted
    assert all(isinstance(point, EntryPoint) for point in found)


@pytest.mark.parametrize(("length", "spread"), [(11, 400), (256, 300), (1, 1e7)])
def test_codewords_grow_beyond_the_first_buffer(length, spread):
    coding = TensorCoding(900, 1024, length, dq=True)
    indices = indices_of((900, 1024), spread)
    payload = encoded(indices, coding)
    assert len(payload) > 1 << 20
    found, size = decoded(payload, coding)
    assert size == len(payload)
    assert (found == tensor_core.levels(indices, coding)).all()


@pytest.mark.parametrize("dq", [False, True])
def test_sets_chosen_from_a_part_of_a_large_tensor_save_bytes(dq):
    coding = TensorCoding(300, 1000, 11, dq)
    indices = indices_of((300, 1000), 3)
    chosen, plain = encoded(indices, coding), encoded(indices, coding, choose_sets=False)
    assert len(chosen) < 0.998 * len(plain)
    assert (decoded(chosen, coding)[0] == tensor_core.levels(indices, coding)).all()


def test_sets_are_about_as_good_as_the_twins():
    """They estimate costs in different ways, so that a tie may fall otherwise."""
    for dq, spread in itertools.product((False, True), (0.4, 2, 20)):
        coding = TensorCoding(30, 40, 11, dq)
        indices = indices_of((30, 40), spread)
        assert abs(len(encoded(indices, coding)) - len(encoded(indices, coding, core=twin))) <= 3


@pytest.mark.parametrize("index", [2**31 - 1, -(2**31), 2**30 + 1])
def test_levels_at_the_ends_of_32_bits(index):
    indices = np.array([[0, index, 1]], np.int32)
    uniform = TensorCoding(1, 3)
    assert decoded(encoded(indices, uniform), uniform)[0].tolist() == indices.tolist()
    with pytest.raises(SettingsError, match="32 bits"):
        encoded(indices, TensorCoding(1, 3, dq=True))


def test_a_level_beyond_32_bits_is_refused():
    """Written as a uniform index, read as one of dependent quantization: twice as large."""
    indices = np.array([[2**31 - 1]], np.int32)
    payload = encoded(indices, TensorCoding(1, 1), choose_sets=False)
    # The contexts of states 1 to 7 have a set each, which the other coding reads first.
    with pytest.raises(StreamError):
        decoded(payload, TensorCoding(1, 1, dq=True))


@pytest.mark.parametrize(
    "coding",
    [
        TensorCoding(0, 5),
        TensorCoding(5, 0),
        TensorCoding(1 << 31, 1 << 31),
        TensorCoding(5, 5, 0),
        TensorCoding(5, 5, 257),
        TensorCoding(5, 5, scan_order=5),
        TensorCoding(5, 5, profile_idc=2),
        TensorCoding(5, 5, codebook_size=4, zero_offset=4),
        TensorCoding(-1, 5),
    ],
)
def test_codings_that_cannot_be_are_refused(coding):
    for use in (
        lambda: tensor_core.PayloadDecoder(b"\x80" * 9).tensor(coding),
        lambda: tensor_core.PayloadEncoder().tensor(np.zeros((5, 5), np.int32), coding),
        lambda: tensor_core.quantize(np.zeros((5, 5), np.float32), 1, coding),
    ):
        with pytest.raises(SettingsError):
            use()


def test_arrays_that_do_not_fit_are_refused():
    coding, small = TensorCoding(4, 5, parent=True, temporal=True), np.zeros((4, 4), np.int32)
    payload = encoded(np.zeros((4, 5), np.int32), coding, base=np.zeros((4, 5), np.int32))
    for arguments in ({}, {"base": small}, {"base": np.zeros((4, 5))}):
        with pytest.raises(SettingsError):
            tensor_core.PayloadDecoder(payload).tensor(coding, **arguments)
    with pytest.raises(SettingsError):
        tensor_core.PayloadDecoder(payload).tensor(TensorCoding(4, 5), out=small)
    with pytest.raises(SettingsError):
        encoded(small, TensorCoding(4, 5))


# Quantizers


def least_error(values):
    """What the best path through the states costs, by trying all levels nearby."""
    costs = {0: 0.0}
    for value in values:
        after = {}
        for (state, cost), index in itertools.product(costs.items(), range(-9, 10)):
            level = 2 * index - np.sign(index) * (state & 1)
            to, total = NEXT_STATE[state][index & 1], cost + (value - level) ** 2
            after[to] = min(total, after.get(to, total))
        costs = after
    return min(costs.values())


@pytest.mark.parametrize("seed", range(20))
def test_the_trellis_finds_the_least_error(seed):
    values = laplace((1, 60), 3, seed).clip(-12, 12).astype(np.float32)
    coding = TensorCoding(1, 60, 11, dq=True)
    wanted = least_error(values[0].astype(float))
    for lambda_ in (0, 1e-9):
        found = tensor_core.levels(tensor_core.quantize(values * 0.25, 0.25, coding, lambda_), coding)
        assert ((values - found) ** 2).sum() == pytest.approx(wanted, rel=1e-5)


def test_uniform_indices_are_the_nearest():
    values = laplace((50, 60), 9).astype(np.float32)
    found = tensor_core.quantize(values, 0.0625, TensorCoding(50, 60))
    assert (found == np.rint(values.astype(float) / 0.0625)).all()


def cost(values, step, coding, lambda_, **how):
    """Squared steps plus lambda times the bits that are written."""
    indices = tensor_core.quantize(values, step, coding, lambda_, **how)
    payload = encoded(indices, coding, row_skip=how.get("row_skip", False))
    error = values.astype(float) / step - tensor_core.levels(indices, coding)
    return (error**2).sum(), 8 * len(payload), indices


@pytest.mark.parametrize(("dq", "lambda_"), [(False, 0.1155), (False, 0.5), (True, 0.3235), (True, 1.0)])
@pytest.mark.parametrize("spread", [0.5, 1, 3])
def test_rates_that_count_make_it_cheaper(dq, lambda_, spread):
    values, coding = laplace((60, 100), spread).astype(np.float32), TensorCoding(60, 100, 11, dq)
    error, bits, _ = cost(values, 1, coding, 0)
    error_then, bits_then, _ = cost(values, 1, coding, lambda_)
    assert bits_then < bits
    assert error_then + lambda_ * bits_then < error + lambda_ * bits


@pytest.mark.parametrize("dq", [False, True])
def test_rows_become_zero_where_that_is_cheaper(dq):
    values = laplace((40, 64), 3).astype(np.float32)
    values[5:9] *= 0.02
    values[20] = 0
    coding = TensorCoding(40, 64, 11, dq)
    assert not cost(values, 1, coding, 0, row_skip=True)[2][20].any()
    *_, indices = cost(values, 1, coding, 0.4, row_skip=True)
    assert not indices[5:9].any()
    assert indices[:5].any(axis=1).all()


@pytest.mark.parametrize("lambda_", [0, 0.3])
@pytest.mark.parametrize("dq", [False, True])
@pytest.mark.parametrize("scan_order", [1, 3])
def test_block_scan_is_quantized_in_its_own_order(lambda_, dq, scan_order):
    values = laplace((37, 50), 4).astype(np.float32)
    errors = []
    for order in (0, scan_order):
        coding = TensorCoding(37, 50, 11, dq, order)
        error, _, indices = cost(values, 1, coding, lambda_)
        assert (decoded(encoded(indices, coding), coding)[0] == tensor_core.levels(indices, coding)).all()
        errors.append(error)
    assert errors[1] == pytest.approx(errors[0], rel=0.1)


@pytest.mark.parametrize("lambda_", [0, 0.5])
def test_what_is_important_gets_smaller_errors(lambda_):
    values = laplace((40, 50), 3).astype(np.float32)
    coding = TensorCoding(40, 50, 11, dq=True)
    importance = np.ones((40, 50), np.float32)
    importance[:, ::2] = 20
    indices = tensor_core.quantize(values, 1, coding, lambda_, importance=importance)
    error = (values - tensor_core.levels(indices, coding)) ** 2
    assert error[:, ::2].mean() < 0.7 * error[:, 1::2].mean()


def test_base_and_history_are_told_to_the_quantizer():
    values = laplace((40, 50), 1).astype(np.float32)
    base = np.rint(values * 2).astype(np.int32)
    coding = TensorCoding(40, 50, 11, dq=True, parent=True, temporal=True)
    indices = tensor_core.quantize(values, 1, coding, 0.5, base=base, history=base != 0)
    payload = encoded(indices, coding, base=base, history=base != 0)
    assert (decoded(payload, coding, base, base != 0)[0] == tensor_core.levels(indices, coding)).all()
    with pytest.raises(SettingsError, match="previous update"):
        tensor_core.quantize(values, 1, coding)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e9])
@pytest.mark.parametrize("dq", [False, True])
@pytest.mark.parametrize("lambda_", [0, 0.5])
def test_what_is_no_number_or_too_large_is_refused(bad, dq, lambda_):
    values = np.ones((3, 4), np.float32)
    values[1, 2] = bad
    with pytest.raises(SettingsError, match="32 bits"):
        tensor_core.quantize(values, 1, TensorCoding(3, 4, dq=dq), lambda_)


@pytest.mark.parametrize("lambda_", [0, 0.5])
def test_the_largest_weights_keep_their_levels(lambda_):
    values = np.array([[2147480000, -2147480000, 1, 0]], np.float32)
    coding = TensorCoding(1, 4, 11, dq=True)
    found = tensor_core.levels(tensor_core.quantize(values, 1, coding, lambda_), coding)
    assert np.abs(found - values.astype(float)).max() <= 2


def test_values_are_products_in_binary32():
    levels = np.concatenate([np.arange(-1000, 1000), [2**31 - 1, -(2**31), 16777217]]).astype(np.int32)
    step = np.float32(0.0013)
    wanted = step * levels.astype(np.float32)
    assert tensor_core.dequantize(levels, step).tobytes() == wanted.tobytes()
    assert tensor_core.dequantize(levels, step, levels.view(np.float32)).tobytes() == wanted.tobytes()
    with pytest.raises(SettingsError):
        tensor_core.dequantize(levels, step, np.empty(3, np.float32))
