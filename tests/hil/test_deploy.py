"""Bundles without a board: what is in them, and how a board switches from one to the next."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hil.deploy import BUNDLE_FACTS, Bundle, build_wheels, deploy, pack_bundle, switch_command

from featlink_codec.errors import FeatlinkError, SettingsError


def wheel(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as out:
        for name, text in files.items():
            out.writestr(name, text)
    return path


@pytest.fixture
def wheels(tmp_path: Path) -> list[Path]:
    """Two wheels whose device prints its words and where it came from."""
    main = "import sys\ndef main():\n    print(sys.argv)\n    print(__file__)\n    sys.exit(3)\n"
    return [
        wheel(
            tmp_path / "a-1-py3-none-any.whl", {"featlink_codec/__init__.py": "", "a-1.dist-info/METADATA": "Name: a"}
        ),
        wheel(tmp_path / "b-1-py3-none-any.whl", {"featlink_device/__init__.py": "", "featlink_device/cli.py": main}),
    ]


def packed(tmp_path: Path, wheels: list[Path], name: str) -> Bundle:
    return pack_bundle(wheels, tmp_path / name, "v1-3-gabc")


def test_a_bundle_holds_both_packages_the_launcher_and_its_version(tmp_path, wheels):
    bundle = packed(tmp_path, wheels, "out")
    with tarfile.open(bundle.path) as files:
        members = {member.name: member for member in files}
        facts = json.load(files.extractfile(BUNDLE_FACTS))
    expected = {"featlink_codec/__init__.py", "featlink_device/__init__.py", "featlink_device/cli.py"}
    assert set(members) == expected | {"a-1.dist-info/METADATA", "bin/featlink-device", BUNDLE_FACTS}
    assert members["bin/featlink-device"].mode == 0o755
    assert members["featlink_device/cli.py"].mode == 0o644
    assert {(member.uid, member.gid, member.uname) for member in members.values()} == {(0, 0, "root")}
    assert facts["version"] == bundle.version
    assert facts["commit"] == "v1-3-gabc"
    assert list((tmp_path / "out").iterdir()) == [bundle.path]


def test_the_same_content_gives_the_same_bytes_and_other_content_another_version(tmp_path, wheels):
    first, again = packed(tmp_path, wheels, "1"), packed(tmp_path, wheels, "2")
    assert (first.version, first.path.read_bytes()) == (again.version, again.path.read_bytes())
    wheel(wheels[0], {"featlink_codec/__init__.py": "# changed"})
    assert packed(tmp_path, wheels, "3").version != first.version


def test_bytecode_comes_along_for_the_interpreter_that_it_is_for(tmp_path, wheels):
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    with_it = pack_bundle(wheels, tmp_path / "own", "x", python)
    without = pack_bundle(wheels, tmp_path / "other", "x", "3.1")
    names = []
    for bundle in (with_it, without):
        with tarfile.open(bundle.path) as files:
            names.append([name for name in files.getnames() if name.endswith(".pyc")])
    assert len(names[0]) == 3
    assert names[1] == []
    assert with_it.version == without.version


def test_two_wheels_with_the_same_file_are_refused(tmp_path, wheels):
    wheel(wheels[1], {"featlink_codec/__init__.py": "twice"})
    with pytest.raises(FeatlinkError, match=r"b-1-py3-none-any\.whl: featlink_codec/__init__\.py: another wheel"):
        packed(tmp_path, wheels, "out")


def test_a_machine_without_a_core_is_named(tmp_path):
    with pytest.raises(SettingsError, match="found 'armhf', expected aarch64 or x86_64"):
        build_wheels("armhf", tmp_path)


def switch(bundle: Path, link: Path, version: str, **changes) -> subprocess.CompletedProcess[str]:
    """The board's part, in a folder of this machine."""
    copy = link.parent / "upload.tar.gz"
    copy.write_bytes(bundle.read_bytes())
    command = switch_command(str(copy), str(link), version)
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, **changes)


@pytest.fixture
def versions(tmp_path: Path, wheels: list[Path]) -> list[Bundle]:
    made = []
    for k in range(3):
        wheel(wheels[0], {"featlink_codec/__init__.py": f"number = {k}"})
        made.append(packed(tmp_path, wheels, f"v{k}"))
    return made


def test_a_switch_moves_the_link_and_keeps_the_version_before(tmp_path, versions):
    link = tmp_path / "board" / "app"
    link.parent.mkdir()
    link.mkdir()  # an image may bring it, empty
    said = []
    for bundle in versions:
        done = switch(bundle.path, link, bundle.version)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.strip())
        assert link.is_symlink()
        assert json.loads((link / BUNDLE_FACTS).read_text())["version"] == bundle.version
    first, second, third = (bundle.version for bundle in versions)
    assert said == ["", first, second]
    assert sorted(path.name for path in link.parent.iterdir()) == sorted(["app", f"app-{second}", f"app-{third}"])
    # Going back to what is still there.
    assert switch(versions[1].path, link, second).returncode == 0
    assert link.readlink().name == f"app-{second}"


def test_a_bundle_that_is_cut_short_changes_nothing(tmp_path, versions):
    link = tmp_path / "board" / "app"
    link.parent.mkdir()
    assert switch(versions[0].path, link, versions[0].version).returncode == 0
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(versions[1].path.read_bytes()[:-200])
    done = switch(cut, link, versions[1].version)
    assert done.returncode != 0
    assert link.readlink().name == f"app-{versions[0].version}"
    assert not (link.parent / f"app-{versions[1].version}").exists()
    # And the next try succeeds where the broken one stopped.
    assert switch(versions[1].path, link, versions[1].version).returncode == 0
    assert (link / "featlink_codec" / "__init__.py").read_text() == "number = 1"


def test_a_folder_with_something_in_it_is_not_replaced(tmp_path, versions):
    link = tmp_path / "board" / "app"
    link.mkdir(parents=True)
    (link / "precious").write_text("kept")
    done = switch(versions[0].path, link, versions[0].version)
    assert done.returncode != 0
    assert (link / "precious").read_text() == "kept"


def test_the_launcher_runs_from_the_folder_behind_the_link(tmp_path, versions):
    link = tmp_path / "board" / "app"
    link.parent.mkdir()
    switch(versions[0].path, link, versions[0].version)
    environment = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    words = [str(link / "bin" / "featlink-device"), "run", "a b"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    argv, file = done.stdout.splitlines()
    assert argv == "['featlink-device', 'run', 'a b']"
    assert file.startswith(f"{link.parent}/app-{versions[0].version}/")
    assert done.returncode == 3


class LocalBoard:
    """As much of a Board as deployment uses, on this machine."""

    def __init__(self, home: Path) -> None:
        self.home, self.facts, self.launcher = home, {}, ""

    def run(self, command: str, timeout_s: float = 60.0):
        from hil.board import Done

        if command.startswith("printf"):
            return Done(command, f"1000 {self.home}\n", "", 0, 0.1)
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        return Done(command, done.stdout, done.stderr, done.returncode, 0.1)

    def put(self, path: Path, remote: str) -> None:
        Path(remote).write_bytes(path.read_bytes())


def test_a_user_who_is_not_root_gets_it_into_his_own_folder(tmp_path, versions):
    home = tmp_path / "home"
    home.mkdir()
    board = LocalBoard(home)
    for bundle in versions[:2]:
        deploy(board, bundle)
    assert board.launcher == f"{home}/featlink-app/bin/featlink-device"
    expected = {"version": versions[1].version, "commit": "v1-3-gabc", "before": versions[0].version}
    assert board.facts["deployed"] == expected
    assert (home / "featlink-app").readlink().name == f"featlink-app-{versions[1].version}"
    assert not list(home.glob("*.tar.gz"))
