"""The virtual encoder's builder: what it refuses, and how libv4l2 is led to the plugin."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest
from hil.targets import load_targets
from hil.virtual_board.commands import BoardError
from hil.virtual_board.guest_files import ENCODER_FILE, ENCODER_NODE, guest_files
from hil.virtual_encoder import build
from hil.virtual_encoder.build import PLUGIN, private_library
from hil.virtual_encoder.private_library import private_copy
from hil.virtual_encoder.profiles import PROFILES, node_text
from v4l2_client import Device
from virtual_encoder import library, node

PATTERN = b"/usr/lib/x86_64-linux-gnu/libv4l/plugins/*.so\0"


def test_virtual_boards_have_the_encoder_that_their_targets_tell_of():
    profile = PROFILES["jetson"]
    told = [one for target in load_targets() if target.virtual for one in target.encoders if one.backend == "libv4l2"]
    assert len(told) == 2
    for encoder in told:
        assert list(encoder.nodes) == [ENCODER_NODE]
        assert encoder.fourcc == profile["fourcc"]
        limits = encoder.limits
        assert ",".join(limits.formats) == profile["formats"]
        assert f"{limits.min_width}x{limits.min_height}" == profile["min"]
    files = guest_files("3.11", "key")
    assert files[ENCODER_FILE[1:]] == node_text(profile)
    assert f"{ENCODER_FILE} {ENCODER_NODE}\n" in files["etc/vboard/start"]


def test_without_a_network_and_a_cache_the_reason_is_said(tmp_path):
    with pytest.raises(BoardError, match="found no package lists, and --offline forbids to fetch them"):
        private_library(tmp_path, offline=True)


def test_what_was_built_is_used_again_without_a_network(monkeypatch):
    path = library()
    monkeypatch.setattr(build, "Apt", None)
    assert private_library() == path


@pytest.mark.parametrize(
    ("data", "folder", "message"),
    [
        (b"nothing", "/p", "found 0 patterns of plugins"),
        (PATTERN + PATTERN, "/p", "found 2 patterns of plugins"),
        (PATTERN, "/tmp/" + "p" * 28, "expected a path 1 shorter"),
        (PATTERN, "/tmp/" + "p" * 27, "no little-endian ELF file of 64 bits"),
    ],
)
def test_a_library_that_is_not_as_expected_is_refused(tmp_path, data, folder, message):
    with pytest.raises(BoardError, match=message):
        private_copy(data, folder)


def test_the_link_to_the_plugins_is_made_again_where_it_is_gone_or_wrong(tmp_path):
    link, plugins = tmp_path / "link", tmp_path / "plugins"
    for _ in range(2):
        build._point(link, plugins)
        assert link.readlink() == plugins
        link.unlink()
        link.symlink_to("elsewhere")


def test_the_link_does_not_replace_what_is_none(tmp_path):
    (tmp_path / "link").mkdir()
    with pytest.raises(BoardError, match="found it in use, expected to make a link of it"):
        build._point(tmp_path / "link", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_a_plain_process_needs_the_path_alone(tmp_path):
    program = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).v4l2_open(sys.argv[2].encode(), 2) > 2)"
    words = [sys.executable, "-I", "-c", program, library(), node(tmp_path)]
    done = subprocess.run(words, env={}, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_libraries_come_from_beside_libv4l2(tmp_path, connect):
    connect(Device, node(tmp_path))
    loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line}
    folder = library().parent
    for name in ("libx265.so", "libnuma.so", "libv4lconvert.so", "libjpeg.so", "libv4l2.so"):
        assert any(path.startswith(f"{folder}/{name}") for path in loaded)
    assert any(path.endswith(PLUGIN) for path in loaded)
    assert ctypes.CDLL(str(library()))
