"""Headers: both directions agree, and what is not read is refused by its name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featlink_codec.bits import BitReader, BitWriter
from featlink_codec.errors import SettingsError, StreamError
from featlink_codec.model.budget import Budget
from featlink_codec.model.data_unit import Codebook, DataUnitHeader, PayloadType
from featlink_codec.model.syntax import ModelParameterSet, StartHeader, TopologyUnit, UnitType
from featlink_codec.model.tensor_coding import EntryPoint
from featlink_codec.model.units import LONG_FROM, read_unit, read_units, unit_bytes

names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
BUDGET = Budget()


def written(structure, *arguments) -> bytes:
    io = BitWriter()
    structure.code(io, *arguments)
    return bytes(io)


@st.composite
def codebooks(draw):
    values = sorted(draw(st.sets(st.integers(-(2**20), 2**20), min_size=1, max_size=20)))
    return Codebook(draw(st.integers(0, 15)), draw(st.integers(0, len(values) - 1)), values)


@st.composite
def headers(draw):
    kind = draw(st.sampled_from(PayloadType))
    types = draw(st.sampled_from([2, 4, 6, 8, 10, 12, 14])) if kind is PayloadType.BLOCK else 0
    dimensions = draw(st.lists(st.integers(1, 40), min_size=1, max_size=4))
    header = DataUnitHeader(
        nnr_compressed_data_unit_payload_type=kind,
        node_id_present_flag=draw(st.integers(0, 1)),
        device_id=draw(st.integers(0, 2**62)),
        parameter_id=draw(st.integers(0, 2**57)),
        put_node_depth=draw(st.integers(0, 1000)),
        parent_node_id_present_flag=draw(st.integers(0, 1)),
        parent_node_id_type=draw(st.integers(0, 2)),
        temporal_context_modeling_flag=draw(st.integers(0, 1)),
        parent_device_id=draw(st.integers(0, 9)),
        parent_node_payload_sha=draw(st.integers(0, 2**256 - 1)),
        codebook=draw(st.none() | codebooks()) if kind in (PayloadType.FLOAT, PayloadType.BLOCK) else None,
        dq_flag=draw(st.integers(0, 1)) if kind is not PayloadType.RAW_FLOAT else 0,
        nnr_decompressed_data_format=draw(st.none() | st.integers(0, 127)),
        compressed_parameter_types=types,
        tensor_dimensions=dimensions,
        cabac_unary_length_minus1=draw(st.none() | st.integers(0, 255)),
        scan_order=draw(st.integers(0, 4)) if len(dimensions) > 1 else 0,
    )
    count = len(header.block_order()) if kind is PayloadType.BLOCK else 1
    header.topology_elem_ids = draw(st.lists(names, min_size=count, max_size=count, unique=True))
    rows = -(-dimensions[0] // (4 << header.scan_order)) - 1 if header.scan_order else 0
    states = st.integers(0, 7) if header.dq_flag else st.just(0)
    entry = st.builds(EntryPoint, st.integers(0, 255), states, st.integers(0, 2**30))
    header.cabac_entry_point_list = draw(st.lists(entry, min_size=rows, max_size=rows))
    return header


@given(headers(), st.integers(0, 1), st.integers(0, 1))
def test_a_data_unit_header_comes_back(header, profile, parents):
    data = written(header, profile, parents, BUDGET)
    found = DataUnitHeader()
    io = BitReader(data)
    found.code(io, profile, parents, BUDGET)
    assert io.bits_left == 0
    assert written(found, profile, parents, BUDGET) == data
    for member in ("topology_elem_ids", "tensor_dimensions", "codebook", "dq_flag", "cabac_entry_point_list"):
        assert getattr(found, member) == getattr(header, member)


@given(headers(), st.data())
def test_a_cut_header_is_a_stream_error(header, data):
    raw = written(header, 1, 1, BUDGET)
    cut = raw[: data.draw(st.integers(0, len(raw) - 1))]
    with pytest.raises(StreamError):
        DataUnitHeader().code(BitReader(cut), 1, 1, BUDGET)


@given(
    st.none() | names, st.integers(0, 1), st.integers(0, 1), names, st.integers(0, 7), st.integers(-4096, 4095),
    st.integers(0, 3), st.integers(0, 1),
)  # fmt: skip
def test_a_model_parameter_set_comes_back(base, parents, performance, metric, density, qp, method, profile):
    mps = ModelParameterSet(
        base_model_id=base,
        mps_parent_signalling_enabled_flag=parents,
        validation_set_performance_present_flag=performance,
        performance_metric_type=metric,
        validation_set_performance=0x3F800000 + 0x12345 * performance,
        mps_qp_density=density,
        mps_quantization_parameter=qp,
        mps_quantization_method_flags=method,
    )
    data = written(mps, profile)
    found = ModelParameterSet()
    found.code(BitReader(data), profile)
    assert written(found, profile) == data


def test_default_units_are_the_bytes_that_the_peer_writes():
    assert unit_bytes(UnitType.STR, written(StartHeader())).hex() == "00040201"
    assert unit_bytes(UnitType.MPS, written(ModelParameterSet(), 1)).hex() == "0008068100400080"
    assert unit_bytes(UnitType.TPL, written(TopologyUnit(), BUDGET)).hex() == "00060e000000"


@pytest.mark.parametrize("body", [0, LONG_FROM - 4, LONG_FROM - 3, LONG_FROM])
def test_units_take_the_long_form_when_they_must(body):
    data = unit_bytes(UnitType.NDU, bytes(body))
    unit = read_unit(memoryview(data), 0)
    assert unit.size == len(data) == body + (3 if body + 3 < LONG_FROM else 5)
    assert unit.end - unit.body == body


def refused(name: str, bits: str, structure, *arguments):
    data = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    with pytest.raises(StreamError) as caught:
        structure.code(BitReader(data + bytes(40), base=100), *arguments)
    assert caught.value.name == name
    assert 100 <= caught.value.offset < 140


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("unsupported-unit", "0" + f"{6:015b}" + f"{7:06b}" + "10"),
        ("unsupported-lps", "0" + f"{6:015b}" + f"{2:06b}" + "10"),
        ("unsupported-qnt", "0" + f"{6:015b}" + f"{4:06b}" + "10"),
        ("unsupported-agg", "0" + f"{6:015b}" + f"{6:06b}" + "10"),
        ("unsupported-partial-data", "0" + f"{6:015b}" + f"{5:06b}" + "11"),
    ],
)
def test_units_that_are_not_read_are_refused_by_name(name, header):
    from featlink_codec.model.syntax import UnitHeader

    refused(name, header, UnitHeader())


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("unsupported-payload", f"{9:05b}"),
        ("unsupported-elements", f"{1:05b}1"),
        ("unsupported-elements", f"{3:05b}0"),
        ("unsupported-no-dimensions", f"{1:05b}000"),
        ("unsupported-no-dimensions", f"{1:05b}001" + "0" * 8 + "0" + "0" + "0" + "0"),
        ("unsupported-decomposition", f"{1:05b}001" + "0" * 8 + "0" + "0" + "0" + "11" + "0001"),
        ("bad-dimensions", f"{1:05b}001" + "0" * 8 + "0" + "0" + "0" + "10" + "0000" + "10"),
        ("bad-dimensions", f"{1:05b}001" + "0" * 8 + "0" + "0" + "0" + "10" + "0000" + "11" + "1" + "0" * 7),
        ("bad-golomb", f"{1:05b}001" + "0" * 8 + "0" + "0" + "0" + "10" + "0000" + "11" + "0" * 80),
        ("bad-codebook", f"{1:05b}001" + "0" * 8 + "0" + "1" + "0000" + "1000" + "0110"),
    ],
)
def test_data_units_that_are_not_read_are_refused_by_name(name, bits):
    refused(name, bits, DataUnitHeader(), 1, 0, BUDGET)


def test_other_profiles_and_indexed_references_are_refused_by_name():
    refused("unsupported-profile", f"{2:08b}", StartHeader())
    refused("unsupported-indexed-reference", "1" + "0000" + "001" + "1", ModelParameterSet(), 1)


@pytest.mark.parametrize(
    ("budget", "field"),
    [
        (Budget(max_tensor_elements=99), "max_tensor_elements"),
        (Budget(max_dimensions=1), "max_dimensions"),
        (Budget(max_codebook=2), "max_codebook"),
        (Budget(max_entry_points=1), "max_entry_points"),
    ],
)
def test_a_header_beyond_the_budget_is_refused_before_anything_is_made(budget, field):
    header = DataUnitHeader(
        topology_elem_ids=["a"],
        tensor_dimensions=[40, 40],
        scan_order=1,
        codebook=Codebook(0, 1, [1, 2, 3]),
        cabac_entry_point_list=[EntryPoint(0, 0, 5)] * 4,
    )
    data = written(header, 1, 0, BUDGET)
    with pytest.raises(StreamError, match=f"over-budget.*{field}"):
        DataUnitHeader().code(BitReader(data), 1, 0, budget)


def test_absurd_dimensions_are_refused():
    header = DataUnitHeader(topology_elem_ids=["a"], tensor_dimensions=[2**40, 2**40])
    data = written(header, 1, 0, Budget(max_tensor_elements=2**90))
    with pytest.raises(StreamError, match="over-budget"):
        DataUnitHeader().code(BitReader(data), 1, 0, BUDGET)


def test_too_many_units_are_refused():
    data = memoryview(unit_bytes(UnitType.TPL, b"\0\0\0") * 9)
    assert len(list(read_units(data, 0, Budget(max_units=9)))) == 9
    with pytest.raises(StreamError, match="over-budget"):
        list(read_units(data, 0, Budget(max_units=8)))


def test_a_budget_of_nothing_is_a_mistake():
    with pytest.raises(SettingsError, match="max_units is 0"):
        Budget(max_units=0)


def test_a_codebook_that_does_not_rise_is_not_written():
    with pytest.raises(SettingsError):
        written(Codebook(0, 0, [3, 3]), BUDGET)


@given(st.integers(0, 7), st.integers(1, 12), st.integers(0, 2**40))
def test_exp_golomb_of_every_order_is_as_the_standard_writes_it(k, lead, value):
    io, by_hand = BitWriter(), BitWriter()
    for one in (io, by_hand):
        one.u(lead, 0)
    if k or value < 2**33 - 1:
        io.ue(value, k)
        x, order = value, k
        while x >= 1 << order:
            by_hand.u(1, 0)
            x -= 1 << order
            order += 1
        by_hand.u(1, 1)
        by_hand.u(order, x)
        for one in (io, by_hand):
            one.align()
        assert bytes(io) == bytes(by_hand)
        reader = BitReader(bytes(io))
        reader.u(lead)
        assert reader.ue(0, k) == value
    assert np.int64(value) == value
