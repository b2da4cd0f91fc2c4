"""Headers of a model stream changed by their fields, and written anew, whether that may be or not."""

from __future__ import annotations

import random
from collections.abc import Sequence

from model_framing import NUMBERS, body, framed, kind_of, split

from featlink_codec.bits import BitReader, BitWriter
from featlink_codec.errors import FeatlinkError
from featlink_codec.model import Budget
from featlink_codec.model.data_unit import Codebook, DataUnitHeader
from featlink_codec.model.syntax import ModelParameterSet, StartHeader, UnitType
from featlink_codec.model.tensor_coding import EntryPoint

#: Dimensions that are refused, are just not refused, or are more than 32 or 64 bits hold.
DIMENSIONS = (
    (1,),
    (1, 1),
    (0,),
    (2, 0),
    (1 << 17,),
    (1 << 17, 1),
    (1, 1 << 17),
    (1 << 9, 1 << 8),
    (1 << 31,),
    (1 << 32, 2),
    (1 << 62,),
    (1 << 16, 1 << 16),
    (1 << 31, 1 << 31, 1 << 31),
    (1,) * 8,
    (1,) * 17,
    (2,) * 33,
    (1,) * 70,
    (1024, 3),
    (3, 1024),
    (33, 31),
)
NAMES = ("", "a", "w_G", "w_H", "\u00e9" * 9, "n" * 4096, "conv.weight", "a.b.c")
#: Of what is changed by its fields. Dimensions take no room here.
LOOSE = Budget(1 << 400, max_dimensions=100, max_codebook=1 << 12, max_entry_points=1 << 12, max_strings=80)


class Lenient(BitWriter):
    """Writes what must not be, too: numbers lose the bits that do not fit."""

    def u(self, bits: int, value: int = 0) -> int:
        super().u(bits, value & ((1 << bits) - 1))
        return value

    def i(self, bits: int, value: int = 0) -> int:
        return self.u(bits, value)

    def refuse(self, name: str, text: str, at: int | None = None) -> None:  # type: ignore[override]
        """Does not, but for counts that would take long to write."""
        if name == "over-budget":
            super().refuse(name, text, at)


def start_of(pieces: list[bytes]) -> tuple[int, ModelParameterSet]:
    """Profile and parameters of a stream, or what is usual."""
    start, model = StartHeader(), ModelParameterSet()
    try:
        start.code(BitReader(body(pieces[0])[1:]))
        model.code(BitReader(body(pieces[1])[1:]), start.general_profile_idc)
    except (FeatlinkError, IndexError):
        pass
    return start.general_profile_idc, model


def parameters(pieces: list[bytes], rng: random.Random, streams: Sequence[bytes]) -> list[bytes]:
    """Fields of STR or MPS."""
    profile, found = start_of(pieces)
    if len(pieces) < 2:
        return pieces
    if rng.random() < 0.2:
        profile = rng.choice((0, 1, 2))
        pieces[0] = framed(body(pieces[0])[:1] + bytes([profile]))
    kind = rng.randrange(6)
    if kind == 0:
        found.mps_qp_density = rng.randrange(8)
    elif kind == 1:
        found.mps_quantization_parameter = rng.choice((-4096, 4095, -504, -500, 504, 400, 0, rng.randint(-600, 600)))
    elif kind == 2:
        found.mps_quantization_method_flags = rng.randrange(8)
    elif kind == 3:
        found.mps_parent_signalling_enabled_flag ^= 1
    elif kind == 4:
        models = [start_of(split(stream))[1].base_model_id for stream in streams]
        found.base_model_id = rng.choice((None, "", "a", "featlink:", *models))
    else:
        name = rng.choice([name for name in found.__slots__ if name.endswith(("_flag", "_bits"))])
        setattr(found, name, getattr(found, name) ^ 1)
    io = Lenient()
    try:
        found.code(io, profile)
        io.align()
    except FeatlinkError:
        return pieces
    pieces[1] = framed(body(pieces[1])[:1] + bytes(io) + found.performance_maps)
    return pieces


def data_unit(pieces: list[bytes], rng: random.Random) -> tuple[int, DataUnitHeader, bytes, bytes] | None:
    """One of the NDUs: its place, header, the byte in front of that, and the payload."""
    places = [k for k, piece in enumerate(pieces) if kind_of(piece) == UnitType.NDU]
    if not places:
        return None
    k = rng.choice(places)
    inside, header = body(pieces[k]), DataUnitHeader()
    profile, model = start_of(pieces)
    io = BitReader(inside[1:])
    try:
        header.code(io, profile, model.mps_parent_signalling_enabled_flag, LOOSE)
    except FeatlinkError:
        return None
    return k, header, inside[:1], inside[1 + io.index :]


def fields(pieces: list[bytes], rng: random.Random, streams: Sequence[bytes]) -> list[bytes]:
    """Change fields of an NDU's header by name, and write it anew in front of the same payload."""
    found = data_unit(pieces, rng)
    if found is None:
        return pieces
    k, header, first, payload = found
    for _ in range(rng.randint(1, 3)):
        _field(header, rng)
    io = Lenient()
    profile, model = start_of(pieces)
    try:
        header.code(io, profile, model.mps_parent_signalling_enabled_flag, LOOSE)
    except (FeatlinkError, IndexError):
        return pieces
    pieces[k] = framed(first + bytes(io) + payload)
    return pieces


def _field(header: DataUnitHeader, rng: random.Random) -> None:
    kind = rng.randrange(11)
    if kind == 0:
        header.nnr_compressed_data_unit_payload_type = rng.choice((0, 1, 2, 3, 3, 4, 31))
    elif kind <= 2:
        _dimensions(header, rng)
    elif kind == 3:
        header.cabac_unary_length_minus1 = rng.choice((None, 0, 1, 3, 9, 13, 14, 15, 254, 255))
    elif kind == 4:
        header.scan_order = rng.choice((0, 1, 1, 2, 3, 4, 5, 15))
        rows = header.tensor_dimensions[0] if header.tensor_dimensions else 1
        count = min(-(-rows // (4 << header.scan_order)) - 1, 300)
        held = header.cabac_entry_point_list or [EntryPoint(0, 0, 0)]
        header.cabac_entry_point_list = [held[j % len(held)] for j in range(max(0, count))]
    elif kind == 5:
        for j in range(len(header.cabac_entry_point_list)):
            if rng.random() < 0.4:
                offset = rng.choice((0, 1, *NUMBERS, 1 << 40, 1 << 61))
                header.cabac_entry_point_list[j] = EntryPoint(rng.randrange(256), rng.randrange(8), offset)
    elif kind == 6:
        header.dq_flag ^= 1
    elif kind == 7:
        header.codebook = _codebook(header.codebook, rng)
    elif kind == 8:
        header.compressed_parameter_types = rng.randrange(16)
    elif kind == 9:
        names = header.topology_elem_ids
        if names and rng.random() < 0.7:
            names[rng.randrange(len(names))] = rng.choice((*NAMES, *names))
        else:
            header.topology_elem_ids = [f"t{j}" for j in range(rng.choice((1, 2, 3, 6, 7, 16, 65)))]
    else:
        header.parent_node_id_present_flag = rng.randrange(2)
        header.temporal_context_modeling_flag = rng.randrange(2)
        header.parent_node_id_type = rng.randrange(4)
        header.node_id_present_flag = rng.randrange(2)
        name = rng.choice(("device_id", "parameter_id", "put_node_depth", "parent_device_id"))
        setattr(header, name, rng.choice((*NUMBERS, 1 << 50)))


def _dimensions(header: DataUnitHeader, rng: random.Random) -> None:
    dimensions = header.tensor_dimensions
    if not dimensions or rng.random() < 0.4:
        header.tensor_dimensions = list(rng.choice(DIMENSIONS))
    elif rng.random() < 0.5:
        k = rng.randrange(len(dimensions))
        dimensions[k] = max(0, dimensions[k] + rng.choice((-1, 1, 8, rng.choice(NUMBERS))))
    else:
        rng.shuffle(dimensions)


def _codebook(book: Codebook | None, rng: random.Random) -> Codebook | None:
    if book is not None and rng.random() < 0.3:
        return None
    low = rng.choice((-(1 << 31), -300, -2, -1, 0, 1, 5, (1 << 31) - 3))
    size = rng.choice((1, 2, 3, 4, 9, 64, 65, 4096))
    step = rng.choice((1, 1, 3, 1 << 20))
    values = [low + step * k for k in range(size)]
    return Codebook(rng.choice((0, 2, 7, 15)), rng.choice((0, size // 2, size - 1)), values)
