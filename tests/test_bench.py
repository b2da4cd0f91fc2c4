"""The bench works and says what it measured. How fast things are is not tested here: machines are shared."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest
from bench import allocations, cases, peers
from bench.__main__ import main
from bench.plot import growth_svg
from bench.report import markdown

from featlink_codec import _core

TINY = cases.Size(6, 5, 7)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "bench.json"
    main(["--quick", "--out", str(out)])
    return out


def ratios(found):
    """Every row with a ratio, wherever it stands."""
    if isinstance(found, dict):
        if "ratio" in found:
            yield found
        for value in found.values():
            yield from ratios(value)
    elif isinstance(found, list):
        for value in found:
            yield from ratios(value)


def test_a_quick_run_gives_finite_ratios_of_two_medians(quick):
    found = json.loads(quick.read_text())
    rows = list(ratios(found))
    assert len(rows) > 100
    for row in rows:
        other = next(row[name] for name in ("memcpy_ns", "peer_ns") if name in row)
        assert math.isfinite(row["ratio"])
        assert row["ratio"] > 0
        assert row["ratio"] == pytest.approx(other[1] / row["core_ns"][1])
        assert row["core_ns"] == sorted(row["core_ns"])
        assert row["rounds"] >= 3
    assert {row["path"] for row in found["by_path"]} == set(_core.paths())
    assert {row["kind"] for row in found["by_kind"]} == {*cases.PACK_KINDS, *cases.UNPACK_TABLES}
    assert {(row["packing"], row["layout"]) for row in found["by_packing"]} == {
        (packing, layout) for packing in cases.PACKINGS for layout in cases.LAYOUTS
    }


def test_the_report_and_the_plot_come_from_the_figures_alone(quick):
    found = json.loads(quick.read_text())
    text = quick.with_suffix(".md").read_text()
    before = {path: path.read_bytes() for path in quick.parent.iterdir()}
    main(["--report-only", "--out", str(quick)])
    assert {path: path.read_bytes() for path in quick.parent.iterdir()} == before
    assert len(before) == 3
    assert "mean nothing" in text
    row = found["by_kind"][0]
    row["ratio"] = 0.123
    assert "**0.12**" in markdown(found, "bench.svg")
    row["ratio"] = 0.8
    assert "| 0.80 |" in markdown(found, "bench.svg")
    found["growth"]["slopes"][0]["core"] = 1.23
    assert "pack, slope 1.23" in growth_svg(found["growth"])


def test_the_documents_in_the_tree_belong_together():
    figures = Path(__file__).parents[1] / "docs" / "bench.json"
    found = json.loads(figures.read_text())
    assert figures.with_suffix(".md").read_text() == markdown(found, "bench.svg")
    assert not found["quick"]


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("packing", cases.PACKINGS)
@pytest.mark.parametrize("kind", cases.PACK_KINDS)
def test_what_is_timed_packs_what_the_definition_says(kind, packing, layout):
    prepared = cases.prepare(cases.Case("pack", kind, TINY, packing, layout))
    for call in prepared.calls:
        call()
    if kind in cases.FLOAT_MAPS:
        samples = cases.FLOAT_MAPS[kind][1]().quantize(prepared.values)
    else:
        samples = cases.INTEGER_MAPS[kind][1]()[prepared.values].astype(np.uint8)
    assert len(np.unique(samples)) > 20  # the map is not all zeros
    expected = np.zeros_like(prepared.pictures[0])
    for number, picture in enumerate(prepared.pictures):
        cases.packing_of(packing, TINY).pack(samples, number, expected)
        assert (picture == expected).all()


def test_every_kernel_of_8_bit_pictures_is_timed():
    kernels = {cases.prepare(cases.Case("pack", kind, TINY)).kernel for kind in cases.PACK_KINDS}
    assert kernels == {"copy", "affine", "table", "linear", "buckets", "steps"}
    kernels = {cases.prepare(cases.Case("unpack", kind, TINY)).kernel for kind in cases.UNPACK_TABLES}
    assert kernels == {"copy", "linear", "table"}


def test_the_peers_do_the_same_work():
    """CompressAI-Vision rounds down where we round to the nearest level; on levels' own values both are exact."""
    packing, quantizer = cases.packing_of("tile", TINY), cases.uniform()
    shape = (TINY.channels, TINY.height, TINY.width)
    levels = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    middles = (levels + np.float32(0.25)) * np.float32(cases.TOP / 255)
    expected = np.empty(packing.picture_size(TINY.height, TINY.width), np.uint8)
    packing.pack(levels.transpose(1, 2, 0), 0, expected)
    found = peers.peers(packing, quantizer, shape)
    assert len(found) >= 2
    for peer in found:
        picture = peer.pack(middles)
        rows, columns = expected.shape
        assert (picture[:rows, :columns] == expected).all(), peer.name
        np.testing.assert_allclose(peer.unpack(expected), quantizer.level_values[levels], rtol=1e-6)


def test_maps_leave_no_memory_behind():
    """A real regression test: a leaked object a map, or a leaked 100 bytes, shows."""
    maps = 5000
    for way, held in allocations.isolated(maps).items():
        # Calls with checks keep a few objects in Python's own caches, now more, now fewer; never one a map.
        few = 0 if way == "bound" else maps // 100
        assert abs(held["python_blocks"]) <= few
        assert abs(held["traced_bytes"]) <= few * 64
        assert held["c_library_bytes"] in (0, None)
        assert held["peak_rss_bytes"] <= 256 * 1024


def imported(library: Path) -> set[str]:
    """Symbols that a 64-bit little-endian ELF library needs from others, weak ones left out."""
    data = library.read_bytes()
    assert data[:6] == b"\x7fELF\x02\x01"
    (start,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    # name, type, flags, address, offset, size, link, info, alignment, entry size
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, start + size * k) for k in range(count)]
    (symbols,) = [section for section in sections if section[1] == 11]  # SHT_DYNSYM
    names = sections[symbols[6]]
    strings = data[names[4] : names[4] + names[5]]
    found = set()
    for offset in range(symbols[4], symbols[4] + symbols[5], symbols[9]):
        name, info, _, section = struct.unpack_from("<IBBH", data, offset)
        if name and section == 0 and info >> 4 == 1:  # SHN_UNDEF, STB_GLOBAL
            found.add(strings[name : strings.index(b"\0", name)].decode())
    return found


def test_the_core_calls_no_allocator_and_nothing_but_the_plainest_functions():
    found = imported(_core.LIBRARY)
    assert "memcpy" in found  # the reader reads
    assert found <= {"memcpy", "memmove", "memset", "memcmp", "strcmp"}
