"""The virtual board's builder, without network and QEMU: archives, hashes, caches, identity, packages, messages."""

from __future__ import annotations

import errno
import json
import lzma
import stat
import threading

import fdt
import pytest
from hil.virtual_board import build, packages
from hil.virtual_board.build import build_board
from hil.virtual_board.cache import MANIFEST, Cache, key_of, locked
from hil.virtual_board.commands import BoardError, require_programs, run
from hil.virtual_board.guest_files import DEPLOYED, INSTALLED, accounts, guest_files
from hil.virtual_board.identity import identity_of, read_identity, set_identity
from hil.virtual_board.image import Entry, write_cpio
from hil.virtual_board.machine import Machine, command
from hil.virtual_board.modules import Modules
from hil.virtual_board.packages import Apt, Package, parse_depends, parse_record, parse_uris
from hil.virtual_board.root import python_version
from hil.virtual_board.wheels import versions_of

from featlink_codec.errors import SettingsError

SHA = "ab" * 32


def read_cpio(data: bytes) -> list[Entry]:
    """An independent reader: the kernel's documentation of `newc`, field by field."""
    entries, at = [], 0
    while True:
        assert at % 4 == 0
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * k : at + 14 + 8 * k], 16) for k in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[at + 110 : at + 110 + name_size]
        assert name.endswith(b"\0")
        at = -(-(at + 110 + name_size) // 4) * 4
        if name == b"TRAILER!!!\0":
            assert at == len(data)
            return entries
        entries.append(Entry(name[:-1].decode(), mode, data[at : at + size]))
        at = -(-(at + size) // 4) * 4


def test_cpio_archive_reads_back_whatever_the_lengths():
    entries = [
        Entry("bin", stat.S_IFDIR | 0o755),
        Entry("bin/sh", stat.S_IFLNK | 0o777, b"busybox"),
        *(Entry("f" * (k + 1), stat.S_IFREG | 0o644, bytes(range(k))) for k in range(9)),
    ]
    assert read_cpio(write_cpio(entries)) == entries


def test_key_counts_every_part_as_a_whole():
    keys = {key_of(parts) for parts in (["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], [])}
    assert len(keys) == 5
    assert key_of(["ab", "c"]) == key_of(iter(["ab", "c"]))


@pytest.fixture
def cache(tmp_path):
    """A cache, what it said, and how often its step was made."""

    class Counted(Cache):
        def __init__(self):
            self.said, self.made = [], 0
            super().__init__(tmp_path, self.said.append)

        def fill(self, folder):
            self.made += 1
            (folder / "sub").mkdir()
            (folder / "sub" / "data").write_bytes(b"whole")
            (folder / "link").symlink_to("sub")

    return Counted()


def test_cached_step_is_made_once_and_the_newest_is_kept(cache, tmp_path):
    first = cache.get("step", "1", cache.fill)
    assert cache.get("step", "1", cache.fill) == first
    assert cache.made == 1
    second = cache.get("step", "2", cache.fill)
    assert cache.made == 2
    assert [path.name for path in tmp_path.iterdir()] == [second.name]
    cache.get("step", "2", cache.fill, force=True)
    assert cache.made == 3


def _cut(folder):
    (folder / "sub" / "data").write_bytes(b"whol")


def _remove(folder):
    (folder / "sub" / "data").unlink()


def _add(folder):
    (folder / "more").write_bytes(b"")


def _point_elsewhere(folder):
    (folder / "link").unlink()
    (folder / "link").symlink_to("elsewhere")


def _spoil_manifest(folder):
    (folder / MANIFEST).write_text("{")


@pytest.mark.parametrize("damage", [_cut, _remove, _add, _point_elsewhere, _spoil_manifest])
def test_damaged_result_is_made_again(cache, damage):
    folder = cache.get("step", "1", cache.fill)
    damage(folder)
    assert cache.get("step", "1", cache.fill) == folder
    assert cache.made == 2
    assert (folder / "sub" / "data").read_bytes() == b"whole"
    assert "damaged" in cache.said[0]


def test_interrupted_step_leaves_nothing_that_is_used(cache):
    def fail(folder):
        (folder / "half").write_bytes(b"")
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        cache.get("step", "1", fail)
    folder = cache.get("step", "1", cache.fill)
    assert not (folder / "half").exists()


def test_identity_reads_back_and_seeds_are_gone():
    tree = fdt.FDT()
    tree.header.version = 17
    tree.set_property("compatible", "linux,dummy-virt", path="/")
    tree.set_property("model", "linux,dummy-virt", path="/")
    tree.add_item(fdt.Node("chosen"), "/")
    tree.set_property("rng-seed", [1, 2], path="/chosen")
    tree.set_property("stdout-path", "/pl011@9000000", path="/chosen")
    identity = identity_of("virtual-a72", "NVIDIA Jetson Orin NX (virtual)", "jetson-orin-nx")
    data = set_identity(tree.to_dtb(version=17), identity)
    assert read_identity(data) == identity
    assert b"NVIDIA Jetson Orin NX (virtual)\0" in data
    assert identity.compatible[0] == "featlink,virtual-a72"
    assert identity.compatible[-1] == "linux,dummy-virt"
    assert [item.name for item in fdt.parse_dtb(data).get_node("/chosen").props] == ["stdout-path"]


def test_serial_numbers_differ_and_stay():
    serials = {name: identity_of(name, "x", "").serial for name in ("virtual-a72", "virtual-a76")}
    assert len(set(serials.values())) == 2
    assert identity_of("virtual-a72", "y", "rk3588").serial == serials["virtual-a72"]


def test_listed_packages_are_parsed_with_epochs_decoded():
    listed = (
        "Reading package lists...\n"
        f"'scheme://host/pool/login_4.13+dfsg1-1_arm64.deb' login_1%3a4.13+dfsg1-1_arm64.deb 613724 SHA256:{SHA}\n"
        f"'scheme://host/pool/usrmerge_37_all.deb' usrmerge_37_all.deb 13336 SHA256:{SHA}\n"
    )
    login, merged = parse_uris(listed)
    file = "login_1%3a4.13+dfsg1-1_arm64.deb"
    assert login == Package("login", "1:4.13+dfsg1-1", "arm64", file, 613724, SHA)
    assert login.request == "login:arm64=1:4.13+dfsg1-1"
    assert merged.request == "usrmerge=37"


@pytest.mark.parametrize("hashed", ["", "MD5Sum:" + "ab" * 16, "SHA256:abc"])
def test_listed_package_without_its_hash_is_refused(hashed):
    with pytest.raises(BoardError, match="expected address, file, size and SHA256"):
        parse_uris(f"'scheme://host/a_1_all.deb' a_1_all.deb 10 {hashed}\n")


def test_record_and_dependencies_are_parsed():
    record = parse_record("Package: a\nDepends: b (= 1:2),\n c:any | d, e\nVersion: 1:2\n\nPackage: a\nVersion: 1\n")
    assert record["Version"] == "1:2"
    assert parse_depends(record["Depends"]) == ["b", "c", "e"]
    assert parse_depends("") == []


def test_python_version_comes_from_the_packages():
    package = Package("python3.13-minimal", "3.13.5-2", "arm64", "f", 1, SHA)
    assert python_version([package]) == "3.13"
    with pytest.raises(BoardError, match=r"python3\.X-minimal"):
        python_version([])


def test_versions_are_read_from_hashed_requirements():
    text = "av==18.1.0 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\nnumpy==2.4.6 ; python_version > '3'\n"
    assert versions_of(text) == {"av": "18.1.0", "numpy": "2.4.6"}


def module(*needed: str) -> bytes:
    return b"\x7fELF...\0license=GPL\0depends=" + ",".join(needed).encode() + b"\0name=x\0"


def test_modules_come_after_what_they_need(tmp_path):
    (tmp_path / "kernel").mkdir()
    files = {
        "kernel/ext4.ko": module("jbd2", "crc16"),
        "kernel/jbd2.ko": module("crc16"),
        "kernel/crc16.ko.xz": lzma.compress(module()),
        "kernel/virtio-rng.ko": module("virtio"),
        "modules.builtin": b"kernel/drivers/virtio.ko\n",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    extra = tmp_path.parent / "vim2m.ko"
    extra.write_bytes(module("ext4"))
    modules = Modules(tmp_path, [extra])
    assert modules.closure(["ext4", "virtio-rng"]) == ["crc16", "jbd2", "ext4", "virtio_rng"]
    assert modules.closure(["vim2m"])[-1] == "vim2m"
    assert modules.place("vim2m").as_posix() == "extra/vim2m.ko"
    assert modules.place("crc16").as_posix() == "kernel/crc16.ko"
    assert modules.data("crc16") == module()
    with pytest.raises(BoardError, match="kernel module nowhere"):
        modules.closure(["nowhere"])


def test_modules_that_need_each_other_are_refused(tmp_path):
    for name, needed in {"a": "b", "b": "a"}.items():
        (tmp_path / f"{name}.ko").write_bytes(module(needed))
    with pytest.raises(BoardError, match="depends on itself"):
        Modules(tmp_path).closure(["a"])


def test_all_missing_programs_are_named_with_one_line_that_installs_them():
    programs = {"sh": "dash", "no-such-a": "package-a", "no-such-b": "package-b", "no-such-c": "package-b"}
    with pytest.raises(BoardError) as caught:
        require_programs(programs, {})
    expected = "not installed: no-such-a, no-such-b, no-such-c; install: apt-get install package-a package-b"
    assert str(caught.value) == expected
    with pytest.raises(BoardError, match=r"no-such-uv \(how\)"):
        require_programs({"sh": "dash"}, {"no-such-uv": "how"})
    require_programs({"sh": "dash"}, {})


def test_failing_program_is_one_line_with_its_last_words():
    with pytest.raises(BoardError, match=r"^step: sh: exit code 3: E: no such package$"):
        run(["sh", "-c", "echo 'E: no such package' >&2; echo advice >&2; exit 3"], "step")
    with pytest.raises(BoardError, match=r"No space left on device$"):
        run(["sh", "-c", "echo 'a: No space left on device' >&2; echo more >&2; exit 1"], "step")
    with pytest.raises(BoardError, match="step: not installed: no-such-program"):
        run(["no-such-program"], "step")


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """An Apt whose programs write what `answers` says."""
    answers = {}

    def answer(words, what, cwd=None):
        for name, data in answers.items():
            (cwd / name).write_bytes(data)
        return "amd64\n"

    monkeypatch.setattr(packages, "run", answer)
    made = Apt(tmp_path)
    made.answers = answers
    return made


EMPTY_SHA = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
EMPTY_PACKAGE = Package("a", "1", "all", "a_1_all.deb", 0, EMPTY_SHA)


def test_downloaded_package_is_checked_and_a_damaged_one_fetched_again(apt):
    apt.answers["a_1_all.deb"] = b""
    (path,) = apt.fetch([EMPTY_PACKAGE])
    path.write_bytes(b"damage")
    assert apt.fetch([EMPTY_PACKAGE]) == [path]
    assert path.read_bytes() == b""
    apt.answers["a_1_all.deb"] = b"wrong"
    path.unlink()
    with pytest.raises(BoardError, match="package a=1: what was downloaded is not what the package lists say"):
        apt.fetch([EMPTY_PACKAGE])


def test_offline_names_what_is_not_there(tmp_path, apt):
    offline = Apt(tmp_path, offline=True)
    with pytest.raises(BoardError, match="no package lists"):
        offline.update()
    with pytest.raises(BoardError, match="a=1"):
        offline.fetch([EMPTY_PACKAGE])


def test_guest_looks_first_where_code_is_deployed():
    files = guest_files("3.11", "ssh-ed25519 AAAA\n")
    lines = files["usr/local/lib/python3.11/dist-packages/featlink.pth"].split()
    assert lines == [DEPLOYED, INSTALLED]
    assert files["etc/inputrc"] == "set enable-bracketed-paste off\n"
    assert "UsePAM no" in files["etc/ssh/sshd_config"].splitlines()


def test_only_root_has_a_password():
    made = accounts("root:*:0:0:root:/root:/bin/bash\ndaemon:*:1:1:daemon:/:/bin/sh\n", "root:*:0:\n")
    shadow = dict(line.split(":")[:2] for line in made["etc/shadow"].splitlines())
    assert shadow["root"].startswith("$6$")
    assert {name for name, password in shadow.items() if password != "*"} == {"root"}
    assert "root:x:0:0:root:/root:/bin/bash" in made["etc/passwd"].splitlines()


def test_start_has_the_machine_of_the_device_tree_and_writes_nothing(tmp_path):
    machine = Machine("cortex-a72", 2, 1024)
    words = command(tmp_path, machine, 2222)
    assert " ".join(machine.words()) in " ".join(words)
    assert "snapshot=on" in words[words.index("-drive") + 1]


def test_real_board_has_no_image(tmp_path):
    with pytest.raises(SettingsError, match=r"found 'rk3588', a real one; expected .*virtual-a72"):
        build_board("rk3588", tmp_path)
    assert not list(tmp_path.iterdir())


def test_full_disk_is_one_line(tmp_path, monkeypatch):
    class Full:
        def __init__(self, *_):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(build, "_Build", Full)
    monkeypatch.setattr(build, "require_programs", lambda: None)
    with pytest.raises(BoardError, match="the disk is full"):
        build_board("virtual-a76", tmp_path)


def test_manifest_lists_every_file(cache):
    folder = cache.get("step", "1", cache.fill)
    assert json.loads((folder / MANIFEST).read_text()).keys() == {"sub/data", "link"}


def test_second_build_says_that_it_waits_and_then_goes_on(tmp_path):
    said, waiting, entered = [], threading.Event(), threading.Event()

    def say(line):
        said.append(line)
        waiting.set()

    def second():
        with locked(tmp_path, say):
            entered.set()

    with locked(tmp_path, said.append):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        assert not entered.is_set()
    thread.join(10)
    assert entered.is_set()
    assert said == ["another build runs: waiting for its end"]
