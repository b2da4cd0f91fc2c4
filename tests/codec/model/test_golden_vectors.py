"""Streams of the reference software: decoded exactly, and their headers written back byte for byte."""

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from codec.model.models import INDEX, VECTORS, both_cores, expected, golden

from featlink_codec.bits import BitWriter
from featlink_codec.model.budget import Budget
from featlink_codec.model.decoded import read_header
from featlink_codec.model.engine import ArithmeticDecoder, ArithmeticEncoder
from featlink_codec.model.syntax import ModelParameterSet, StartHeader, TopologyUnit, UnitHeader, UnitType
from featlink_codec.model.tables import NEXT_STATE
from featlink_codec.model.tensor_coding import EntryPoint
from featlink_codec.model.tensor_syntax import TensorSyntax, coding_order
from featlink_codec.model.updates import apply_update, context_after

UPDATES = [name for name in INDEX if INDEX[name]["base"]]
MODELS = [name for name in INDEX if not INDEX[name]["base"]]


def compare(found, wanted):
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        if tensor.dtype == np.float64:  # codebooks: integer times step, the same number in binary32
            assert (tensor.astype(np.float32) == tensor).all()
            tensor = tensor.astype(np.float32)
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert found[name].tobytes() == tensor.tobytes(), name


@pytest.mark.parametrize("name", INDEX)
def test_the_vectors_are_the_ones_that_were_made(name):
    data = (VECTORS / INDEX[name]["file"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == INDEX[name]["nnc_sha256"]


@both_cores
@pytest.mark.parametrize("name", MODELS)
def test_models_decode_exactly(name, core):
    compare(golden(name, core).tensors(), expected(name))


@both_cores
@pytest.mark.parametrize("name", UPDATES)
def test_updates_decode_exactly_in_the_light_of_the_ones_before(name, core):
    contexts = {}
    for earlier in INDEX[name]["base"][1:]:
        for key, tensor, _ in golden(earlier, core).each(contexts=dict(contexts)):
            contexts[key] = context_after(tensor, contexts.get(key))
    compare({key: values for key, _, values in golden(name, core).each(contexts=contexts)}, expected(name))


@both_cores
def test_a_chain_of_foreign_updates_adds_up(core):
    base, identity, contexts = golden("p02_dq_default_api", core).tensors(), "anything", {}
    total = {name: tensor.copy() for name, tensor in base.items()}
    for name in UPDATES:
        updated = apply_update(base, identity, golden(name, core), contexts)
        for key, difference in expected(name).items():
            total[key] = total[key] + difference
        base, identity, contexts = updated.tensors, updated.model_sha256, updated.contexts
        assert all((base[key] == total[key]).all() for key in total)


@pytest.mark.parametrize("name", INDEX)
def test_units_and_headers_are_what_the_index_says(name):
    stream = golden(name)
    for unit, wanted in zip(stream.units(), INDEX[name]["units"], strict=True):
        assert (unit.unit_type.name, unit.offset, unit.size) == (wanted["type"], wanted["offset"], wanted["size"])
        if unit.unit_type is UnitType.NDU:
            header = stream.header(unit)
            assert header.topology_elem_ids == wanted["ids"]
            assert header.tensor_dimensions == wanted["dims"]
            assert (header.dq_flag, header.scan_order) == (wanted["dq"], wanted["scan_order"])
            assert (header.parameter_id, header.put_node_depth) == (
                wanted["parameter_id"],
                wanted["put_node_depth"],
            )
            assert header.temporal_context_modeling_flag == wanted["tca"]


@pytest.mark.parametrize("name", INDEX)
def test_headers_are_written_as_they_were_read(name):
    """Every byte of a stream that is not arithmetic coded comes back."""
    stream, data = golden(name), memoryview((VECTORS / INDEX[name]["file"]).read_bytes())
    parameters = stream.parameters
    for unit in stream.units():
        io = BitWriter()
        UnitHeader(int(unit.body - unit.offset == 5), unit.size, unit.unit_type).code(io)
        if unit.unit_type is UnitType.STR:
            StartHeader(parameters.general_profile_idc).code(io)
        elif unit.unit_type is UnitType.MPS:
            mps = ModelParameterSet()
            mps.code(unit.reader(data), parameters.general_profile_idc)
            mps.code(io, parameters.general_profile_idc)
        elif unit.unit_type is UnitType.TPL:
            topology = TopologyUnit()
            topology.code(unit.reader(data), Budget())
            topology.code(io, Budget())
        else:
            header, payload = read_header(data, unit, parameters, Budget())
            header.code(io, 1, parameters.mps.mps_parent_signalling_enabled_flag, Budget())
            assert len(bytes(io)) == payload - unit.offset
        assert bytes(io) == data[unit.offset : unit.offset + len(bytes(io))]


def indices_of(levels, coding):
    """Undo what dependent quantization's levels are made by."""
    indices, state = np.zeros(levels.size, np.int32), 0
    for place in coding_order(coding):
        level = int(levels.reshape(-1)[place])
        k = abs(level) + (state & 1) >> 1
        indices[place] = k if level > 0 else -k
        state = NEXT_STATE[state][k & 1]
    return indices.reshape(levels.shape)


@pytest.mark.parametrize("name", [name for name in INDEX if "quirk" not in INDEX[name]])
def test_payloads_are_written_as_they_were_read(name):
    """With the flags and sets that the reference software chose, its codewords and entry points come out."""
    contexts = {}
    for earlier in INDEX[name]["base"][1:]:
        for key, tensor, _ in golden(earlier).each(contexts=dict(contexts)):
            contexts[key] = context_after(tensor, contexts.get(key))
    stream, data = golden(name), memoryview((VECTORS / INDEX[name]["file"]).read_bytes())
    for unit in stream.units():
        if unit.unit_type is not UnitType.NDU:
            continue
        header, payload = read_header(data, unit, stream.parameters, Budget())
        kind = header.nnr_compressed_data_unit_payload_type
        if kind == 2:  # RAW_FLOAT
            continue
        reading, writing = ArithmeticDecoder(data[payload : unit.end]), ArithmeticEncoder()
        marks = []
        for place in header.block_order() if kind == 3 else [0]:
            if kind != 0:
                bits = 6 + stream.parameters.mps.mps_qp_density
                writing.bypass(bits, reading.bypass(bits))
            coding = header.coding(place, 1)
            context = contexts.get(header.topology_elem_ids[place])
            base = context.levels if context and coding.temporal else None
            levels = np.zeros((coding.rows, coding.columns), np.int32)
            read = TensorSyntax(reading, coding)
            read.code(levels, None, base, context.history if context else None)
            indices = indices_of(levels, coding) if coding.dq else levels
            marks = []

            def mark(state, writing=writing, marks=marks):
                marks.append((writing.shifts, writing.low, state))

            written = TensorSyntax(writing, coding, read.sets, mark)
            history = context.history if read.history_enabled else None
            written.code(np.zeros_like(levels), indices, base, history, bool(read.row_skip_flag))
        codeword = writing.finish()
        assert codeword == data[payload : unit.end]
        bits = int.from_bytes(codeword + b"\0\0", "big")
        entries = [
            EntryPoint((bits >> (8 * len(codeword) + 16 - shifts - 9)) - low & 511, state, shifts - before[0])
            for before, (shifts, low, state) in pairwise(marks)
        ]
        assert entries == header.cabac_entry_point_list
