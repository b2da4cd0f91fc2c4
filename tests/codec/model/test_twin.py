"""The payload coder: what is written is read, whatever the coding, and both cores write the same."""

import numpy as np
import pytest
from codec.model.models import both_cores
from hypothesis import given, settings
from hypothesis import strategies as st

from featlink_codec.errors import SettingsError, StreamError, TruncatedError
from featlink_codec.model import twin
from featlink_codec.model.core import default_core
from featlink_codec.model.engine import ArithmeticEncoder
from featlink_codec.model.tensor_coding import TensorCoding
from featlink_codec.model.tensor_syntax import TensorSyntax


@st.composite
def tensors(draw):
    """(coding, indices, base, history, row_skip), anything that may stand in a stream."""
    rows, columns = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    size = draw(st.sampled_from([0, 0, 0, 1, 2, 5, 40]))
    temporal = draw(st.booleans())
    dq = draw(st.booleans()) and not size
    scan_order = draw(st.integers(0, 2))
    coding = TensorCoding(
        rows=rows,
        columns=columns,
        unary_length=draw(st.sampled_from([1, 2, 10, 11])),
        dq=dq,
        scan_order=scan_order,
        profile_idc=draw(st.sampled_from([1, 1, 0])) if not (temporal or size) else 1,
        parent=temporal or draw(st.booleans()),
        temporal=temporal,
        codebook_size=size,
        zero_offset=draw(st.integers(0, size - 1)) if size else 0,
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([0.3, 1, 4, 60, 1e6, 4e8]))
    indices = np.clip(np.rint(rng.laplace(0, spread, (rows, columns))), -(2**30), 2**30 - 1).astype(np.int32)
    if size:
        indices = np.clip(indices, -coding.zero_offset, size - 1 - coding.zero_offset)
    indices[rng.random(rows) < 0.3] = 0
    base = rng.integers(-3, 4, (rows, columns)).astype(np.int32) if temporal else None
    history = rng.random((rows, columns)) < 0.5 if draw(st.booleans()) and coding.parent else None
    # Skipped rows in blocks under dependent quantization have a test of their own.
    row_skip = draw(st.booleans()) and not (dq and scan_order)
    return coding, indices.astype(np.int32), base, history, row_skip


def encoded(core, coding, indices, base, history, row_skip, choose_sets=True, points=None):
    encoder = core.PayloadEncoder()
    encoder.bits(37, 8)
    encoder.tensor(indices, coding, base, history, row_skip, choose_sets, points)
    return encoder.finish()


@settings(max_examples=150)
@given(tensors(), st.booleans())
def test_what_is_written_is_read(tensor, choose_sets):
    coding, indices, base, history, row_skip = tensor
    payload = encoded(twin, coding, indices, base, history, row_skip, choose_sets)
    wanted = twin.levels(indices, coding) if coding.dq else indices
    for core in (twin, default_core()):
        decoder = core.PayloadDecoder(payload)
        assert decoder.bits(8) == 37
        out = np.full((coding.rows, coding.columns), 99, np.int32)
        found = decoder.tensor(coding, base, history, out)
        assert found is out or np.shares_memory(found, out)
        assert found.tolist() == wanted.tolist()
        assert decoder.finish() == len(payload)


@settings(max_examples=60)
@given(tensors())
def test_both_cores_write_the_same_bytes(tensor):
    """With set 0 for every context; which set costs least is each core's own estimate."""
    coding, indices, base, history, row_skip = tensor
    points = [], []
    one = encoded(twin, coding, indices, base, history, row_skip, False, points[0])
    other = encoded(default_core(), coding, indices, base, history, row_skip, False, points[1])
    assert one == other
    assert points[0] == points[1]


@settings(max_examples=40)
@given(tensors(), st.data())
def test_a_cut_payload_is_truncated(tensor, data):
    coding, indices, base, history, row_skip = tensor
    payload = encoded(twin, coding, indices, base, history, row_skip)
    cut = payload[: data.draw(st.integers(0, len(payload) - 1))]

    def decode():
        decoder = twin.PayloadDecoder(cut)
        decoder.bits(8)
        decoder.tensor(coding, base, history)
        decoder.finish()

    with pytest.raises(TruncatedError) as caught:
        decode()
    assert caught.value.offset == len(cut)


@both_cores
def test_skipped_rows_of_dependent_quantization_keep_the_state(core):
    """A skipped row moves the state as its zeros would, whatever the row's width."""
    rng = np.random.default_rng(3)
    for columns in range(2, 10):
        coding = TensorCoding(9, columns, dq=True)
        indices = np.rint(rng.laplace(0, 2, (9, columns))).astype(np.int32)
        indices[[0, 3, 4, 8]] = 0
        encoder = core.PayloadEncoder()
        encoder.tensor(indices, coding, row_skip=True)
        decoder = core.PayloadDecoder(encoder.finish())
        assert decoder.tensor(coding).tolist() == twin.levels(indices, coding).tolist()


@both_cores
def test_choosing_sets_saves_bytes(core):
    rng = np.random.default_rng(1)
    indices = (rng.random((40, 40)) < 0.02).astype(np.int32)
    coding = TensorCoding(40, 40)
    sizes = [len(encoded(core, coding, indices, None, None, False, choose)) for choose in (True, False)]
    assert sizes[0] < sizes[1]


@both_cores
def test_arrays_that_do_not_fit_are_refused(core):
    coding = TensorCoding(2, 3, temporal=True)
    zeros = np.zeros((2, 3), np.int32)
    with pytest.raises(SettingsError, match="previous update"):
        core.PayloadEncoder().tensor(zeros, coding)
    with pytest.raises(SettingsError, match="base"):
        core.PayloadEncoder().tensor(zeros, coding, zeros[:1])
    with pytest.raises(SettingsError, match="outside the codebook"):
        core.PayloadEncoder().tensor(zeros + 2, TensorCoding(2, 3, codebook_size=3, zero_offset=1))
    with pytest.raises(SettingsError):
        core.PayloadEncoder().tensor(zeros[:1], TensorCoding(2, 3))


@both_cores
def test_a_level_beyond_32_bits_is_refused(core):
    big = np.full((1, 1), -(2**31), np.int32)
    with pytest.raises(SettingsError):
        core.PayloadEncoder().tensor(big, TensorCoding(1, 1, dq=True))
    encoder = core.PayloadEncoder()
    encoder.tensor(big, TensorCoding(1, 1))
    payload = encoder.finish()
    assert core.PayloadDecoder(payload).tensor(TensorCoding(1, 1)).tolist() == [[-(2**31)]]
    decoder = core.PayloadDecoder(_with_dq_sets(2**31 - 1))
    with pytest.raises(StreamError, match="bad-level"):
        decoder.tensor(TensorCoding(1, 1, unary_length=1, dq=True))


def _with_dq_sets(index):
    """A codeword of one index whose level dependent quantization doubles, written past the encoder's check."""
    io, coding = ArithmeticEncoder(), TensorCoding(1, 1, unary_length=1, dq=True)
    with pytest.raises(SettingsError):
        TensorSyntax(io, coding).code(np.zeros((1, 1), np.int32), np.array([[index]], np.int32), None, None)
    return io.finish()


@both_cores
def test_quantization_is_near_and_within_its_step(core):
    rng = np.random.default_rng(2)
    weights = rng.normal(0, 1, (13, 17)).astype(np.float32)
    step = 1 / 16
    urq = TensorCoding(13, 17)
    assert np.abs(core.quantize(weights, step, urq, 0.0) * step - weights).max() <= step / 2
    for scan_order in (0, 1):
        dq = TensorCoding(13, 17, dq=True, scan_order=scan_order)
        levels = core.levels(core.quantize(weights, step, dq, 0.0), dq)
        assert np.abs(levels * step - weights).max() <= 2 * step
