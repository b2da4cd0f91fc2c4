"""Firmware targets: what is shipped loads, what is wrong is named, names lead to the nearest board."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hil.confirmed import check_unconfirmed, facts_of, unconfirmed_facts
from hil.environment import IMAGE_FILES, PLACE_FILE, fill, prepare
from hil.local import DeskBoard, LocalSettings, PowerSwitch
from hil.target_fields import (
    ConsoleSettings,
    Encoder,
    Flash,
    Power,
    Provisioning,
    System,
    Target,
    Users,
    Virtual,
    read_target,
)
from hil.targets import ROOT, TARGETS, find_target, load_target, load_targets, read_toml, target_names

from featlink_codec.errors import SettingsError
from featlink_codec.extractor.fields import FieldError
from featlink_codec.video.limits import EncoderLimits

SHIPPED = [
    "generic-software",
    "generic-v4l2",
    "jetson-agx-orin",
    "jetson-orin-nano",
    "jetson-orin-nx",
    "jetson-xavier",
    "rk3568",
    "rk3588",
    "rv1126",
    "virtual-a72",
    "virtual-a76",
]
REAL = [name for name in SHIPPED if not name.startswith("virtual")]
VIRTUAL = [name for name in SHIPPED if name.startswith("virtual")]
ADDRESS = {"address": "192.0.2.1"}


def jetson() -> dict:
    return read_toml(TARGETS / "jetson-orin-nx" / "target.toml")


def changed(**tables: dict) -> dict:
    data = jetson()
    for table, values in tables.items():
        data[table] = {**data[table], **values}
    return data


def test_every_shipped_target_loads():
    assert target_names() == SHIPPED
    assert [target.name for target in load_targets()] == SHIPPED


@pytest.mark.parametrize("name", REAL)
def test_of_a_real_board_nothing_counts_as_confirmed(name):
    target = load_target(TARGETS / name)
    assert unconfirmed_facts(target) == list(facts_of(target))


@pytest.mark.parametrize("name", VIRTUAL)
def test_a_virtual_board_says_that_it_is_one(name):
    target = load_target(TARGETS / name)
    assert target.virtual is not None
    assert target.virtual.model.endswith("(virtual)")
    assert target.virtual.stands_for in REAL


def test_encoders_of_the_boards_are_those_of_their_vendors():
    first = {target.name: target.encoders[0].backend for target in load_targets()}
    assert first["jetson-orin-nano"] == "x265"  # no hardware encoder, whatever plugin is installed
    assert first["jetson-orin-nx"] == "libv4l2"
    assert first["rk3588"] == "rkmpp"
    assert first["generic-v4l2"] == "v4l2"
    assert all(target.encoders[-1].backend == "x265" for target in load_targets())


@pytest.mark.parametrize(
    ("table", "values", "said"),
    [
        ("system", {"architecture": "arm"}, r"\[system\] architecture: found 'arm', expected 'aarch64'"),
        ("system", {"memory_mib": "8 GB"}, r"\[system\] memory_mib: found '8 GB', expected an integer"),
        ("system", {"python": "3.8"}, r"\[system\] python: found '3.8'"),
        ("system", {"providers": ["cuda"]}, r"\[system\] providers: found \['cuda'\]"),
        ("system", {"core": 8}, r"\[system\] core: found an unknown key, expected 'cores'"),
        ("console", {"speed": 115201}, r"\[console\] speed: found 115201"),
        ("console", {"prompt": "it's"}, r"\[console\] prompt"),
        ("users", {"login": "Root User"}, r"\[users\] login"),
        ("power", {"kind": "qemu"}, r"\[power\] kind: found 'qemu', expected 'manual' or 'network'"),
        ("flash", {"steps": []}, r"\[flash\] steps"),
        ("provisioning", {"packages": ["two words"]}, r"\[provisioning\] packages"),
    ],
)
def test_a_wrong_field_is_named(table, values, said):
    with pytest.raises(FieldError, match=said):
        read_target(changed(**{table: values}))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"backend": "nvenc"}, r"\[encoders\[0\]\] backend: found 'nvenc'"),
        ({"qp_control": "cqp"}, r"\[encoders\[0\]\] qp_control: found 'cqp', expected 'init-frame-qp'"),
        ({"nodes": []}, r"\[encoders\[0\]\] nodes: found \(\), expected at least one device file"),
        ({"fourcc": "H264"}, r"\[encoders\[0\]\] fourcc: found 'H264'"),
        ({"min_qp": 40, "max_qp": 30}, r"\[encoders\[0\]\] max_qp: found 30, expected at least min_qp, 40"),
        (
            {"limits": {"formats": ["NV12"], "min_widht": 1}},
            r"\[encoders\[0\].limits\]: min_widht: found an unknown key",
        ),
        ({"limits": {"formats": ["NV21"]}}, r"\[encoders\[0\].limits\]: .*formats: found \['NV21'\]"),
        ({"limits": {"formats": ["NV12"], "name": "x"}}, r"\[encoders\[0\]\] limits"),
    ],
)
def test_a_wrong_field_of_an_encoder_is_named(values, said):
    data = jetson()
    data["encoders"][0].update(values)
    with pytest.raises(SettingsError, match=said):
        read_target(data)


def test_encoders_are_checked_together():
    data = jetson()
    data["encoders"].append(data["encoders"][0])
    with pytest.raises(FieldError, match="encoders: found a backend twice"):
        read_target(data)
    data["encoders"] = []
    with pytest.raises(FieldError, match="encoders: found none"):
        read_target(data)
    data["encoders"] = [{"backend": "x265", "qp_control": "x265-qp", "limits": {"formats": ["GREY"]}}]
    with pytest.raises(FieldError, match="limits: found a table, expected nothing"):
        read_target(data)
    data["encoders"] = [{"backend": "rkmpp", "qp_control": "cqp"}]
    with pytest.raises(FieldError, match="limits: found nothing"):
        read_target(data)


def test_a_missing_table_is_named():
    data = jetson()
    del data["console"]
    with pytest.raises(FieldError, match="console: found nothing, expected a table"):
        read_target(data)


def test_a_folder_of_another_name_is_refused(tmp_path):
    folder = tmp_path / "orin"
    folder.mkdir()
    (folder / "target.toml").write_text((TARGETS / "jetson-orin-nx" / "target.toml").read_text())
    with pytest.raises(SettingsError, match=r"name: found 'jetson-orin-nx', expected its folder's name, 'orin'"):
        load_target(folder)


def test_a_virtual_board_stands_for_a_real_one(tmp_path):
    folder = tmp_path / "virtual-a72"
    folder.mkdir()
    (folder / "target.toml").write_text((TARGETS / "virtual-a72" / "target.toml").read_text())
    with pytest.raises(SettingsError, match=r"\[virtual\] stands_for: found 'jetson-orin-nx'"):
        load_targets(tmp_path)


def test_unconfirmed_names_must_be_those_of_fields():
    def with_names(*names: str) -> Target:
        return dataclasses.replace(read_target(jetson()), unconfirmed=names)

    check_unconfirmed(with_names("encoders.0.limits.max_width", "encoders.1", "console", "system.cpu"))
    with pytest.raises(
        FieldError, match=r"found 'encoders.0.limits.max_widht', expected 'encoders.0.limits.max_width'"
    ):
        check_unconfirmed(with_names("encoders.0.limits.max_widht"))
    for wrong in ("encoders.2", "virtual", "description", "system.", "users.factory_password", "encoders.1.limits"):
        with pytest.raises(FieldError, match="unconfirmed"):
            check_unconfirmed(with_names(wrong))
    with pytest.raises(FieldError, match="again"):
        check_unconfirmed(with_names("console", "console"))


def test_a_name_marks_its_own_table_alone():
    target = dataclasses.replace(read_target(jetson()), unconfirmed=("encoders.1", "system.cpu"))
    assert set(unconfirmed_facts(target)) == {
        "system.cpu",
        "encoders.1.backend",
        "encoders.1.qp_control",
        "encoders.1.min_qp",
        "encoders.1.max_qp",
    }


@pytest.mark.parametrize(
    ("alias", "name"), [("jetson", "jetson-orin-nx"), ("rockchip", "rk3588"), ("virtual", "virtual-a76")]
)
def test_aliases_have_defaults(alias, name):
    assert find_target(alias).name == name
    assert find_target(name).name == name


def test_the_desk_points_aliases_elsewhere():
    local = LocalSettings.from_dict({"aliases": {"jetson": "jetson-xavier", "bench": "rk3568"}})
    assert find_target("jetson", local.aliases).name == "jetson-xavier"
    assert find_target("bench", local.aliases).name == "rk3568"
    assert find_target("rockchip", local.aliases).name == "rk3588"


def test_an_unknown_board_suggests_the_nearest():
    with pytest.raises(SettingsError, match=r"board: found 'rk3858', expected 'rk3588'"):
        find_target("rk3858")
    with pytest.raises(SettingsError, match=r"found 'jetsn', expected 'jetson'"):
        find_target("jetsn")
    with pytest.raises(SettingsError, match=r"expected one of generic-software, .*virtual-a76"):
        find_target("%%%")
    with pytest.raises(SettingsError, match=r"found '\.\./labgrid'"):
        find_target("../labgrid")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"alias": {}}, "alias: found an unknown key, expected 'aliases'"),
        ({"aliases": {"jetson": "orin"}}, r"\[aliases\] jetson: found 'orin'"),
        ({"aliases": 1}, "aliases: found 1, expected a table"),
        ({"boards": {"orin": {}}}, r"\[boards\] orin: found a board of an unknown target"),
        (
            {"boards": {"rk3588": {"adress": "x"}}},
            r"\[boards.rk3588\] adress: found an unknown key, expected 'address'",
        ),
        ({"boards": {"rk3588": {"password": "x"}}}, r"\[boards.rk3588\] password: found an unknown key"),
        ({"boards": {"rk3588": {"console": "COM1"}}}, r"\[boards.rk3588\] console: found 'COM1'"),
        ({"boards": {"rk3588": {"power": {"host": "x"}}}}, r"\[boards.rk3588.power\] host"),
    ],
)
def test_a_wrong_field_of_the_desk_is_named(data, said):
    with pytest.raises(FieldError, match=said):
        LocalSettings.from_dict(data)


def test_the_desk_may_be_empty_and_the_example_is_right(tmp_path):
    assert LocalSettings.load(tmp_path / "local.toml") == LocalSettings()
    example = LocalSettings.load(ROOT / "hil" / "local.toml.example")
    assert example.boards["jetson-orin-nx"].power == PowerSwitch("network", "shelly_gen2", "192.0.2.30", 0)
    assert example.aliases == LocalSettings().aliases


def test_git_ignores_the_desk():
    assert "/hil/local.toml" in (ROOT / ".gitignore").read_text().splitlines()


def image(root: Path, name: str) -> Path:
    folder = root / "out" / "boards" / name
    folder.mkdir(parents=True)
    for file in IMAGE_FILES:
        (folder / file).touch()
    return folder


def desk(name: str, **board: object) -> LocalSettings:
    return LocalSettings.from_dict({"boards": {name: {**ADDRESS, **board}}})


def test_a_virtual_board_without_its_image_is_refused(tmp_path):
    folder = image(tmp_path, "virtual-a72")
    (folder / "board.dtb").unlink()
    with pytest.raises(SettingsError, match=r"found no board.dtb, expected a board's image"):
        prepare(find_target("virtual-a72"), LocalSettings(), root=tmp_path)


def test_a_virtual_board_gets_a_port_and_a_shared_folder(tmp_path):
    folder = image(tmp_path, "virtual-a72")
    prepared = prepare(find_target("virtual-a72"), LocalSettings(), root=tmp_path)
    assert (folder / "share").is_dir()
    assert prepared.variables["LG_ENV"] == str(tmp_path / "out" / "hil" / "virtual-a72" / "labgrid.yaml")
    text = prepared.file.read_text()
    assert f"hostfwd=tcp:127.0.0.1:{prepared.ssh_port}-:22" in text
    assert "cpu: 'cortex-a72'" in text
    assert prepared.variables["FEATLINK_SSH_PORT"] == str(prepared.ssh_port)


def test_a_path_that_qemu_would_split_is_refused(tmp_path):
    image(tmp_path / "a b", "virtual-a72")
    with pytest.raises(SettingsError, match="expected a path without spaces"):
        prepare(find_target("virtual-a72"), LocalSettings(), root=tmp_path / "a b")


def test_what_the_desk_must_say_is_asked_for(tmp_path):
    target = find_target("rk3588")
    with pytest.raises(SettingsError, match=r"found no address, expected .* \[boards.rk3588\] address"):
        prepare(target, LocalSettings(), root=tmp_path)
    with pytest.raises(SettingsError, match=r"found no power switch, expected .* \[boards.rk3588.power\]"):
        prepare(target, desk("rk3588", power={"kind": "network"}), root=tmp_path)
    with pytest.raises(SettingsError, match=r"password_env: found no variable BOARD_PASSWORD"):
        prepare(target, desk("rk3588", password_env="BOARD_PASSWORD"), environ={}, root=tmp_path)
    with pytest.raises(SettingsError, match=r"--coordinator: found 'virtual-a72', expected a real board"):
        prepare(find_target("virtual-a72"), LocalSettings(), coordinator="lab:20408", root=tmp_path)


@pytest.mark.parametrize(
    ("username", "lines"),
    [
        (None, ["featlink@board:~$ "]),
        ("root", ["root@board:~# "]),
        ("lab", ["lab@board:/opt/x$ "]),
    ],
)
def test_the_prompt_is_that_of_whoever_logs_in(username, lines, tmp_path):
    local = desk("generic-software", **({"username": username} if username else {}))
    text = prepare(find_target("generic-software"), local, root=tmp_path).file.read_text()
    prompt = re.search(r"(?m)^ *prompt: '(.*)'$", text)[1]
    for line in lines:
        assert re.fullmatch(prompt, line)
    assert not re.fullmatch(prompt, "someone@board:~$ ")


@pytest.mark.parametrize("coordinator", [None, "lab:20408"])
@pytest.mark.parametrize(
    ("power", "manual"), [({"kind": "manual"}, True), ({"model": "shelly_gen2", "host": "192.0.2.9"}, False)]
)
def test_someone_is_asked_only_where_the_board_has_no_switch(coordinator, power, manual, tmp_path):
    target = find_target("rk3588")
    prepared = prepare(target, desk("rk3588", power=power), coordinator=coordinator, root=tmp_path)
    assert prepared.manual_power == manual


def test_a_place_is_named_after_its_target_unless_the_desk_says_so(tmp_path):
    target = find_target("rk3588")
    assert prepare(target, LocalSettings(), coordinator="lab:1", root=tmp_path).place == "rk3588"
    assert prepare(target, desk("rk3588", place="shelf-3"), coordinator="lab:1", root=tmp_path).place == "shelf-3"


def test_passwords_stay_in_the_environment(tmp_path):
    local = desk("rk3588", password_env="BOARD_PASSWORD")
    prepared = prepare(find_target("rk3588"), local, environ={"BOARD_PASSWORD": "s3cret$'"}, root=tmp_path)
    assert prepared.variables["LG_FEATLINK_PASSWORD"] == "s3cret$'"
    assert "s3cret" not in prepared.file.read_text()
    assert "s3cret" not in repr(prepared)
    assert '!template "$LG_FEATLINK_PASSWORD"' in prepared.file.read_text()


def test_a_template_with_an_unknown_name_is_refused(tmp_path):
    source = tmp_path / "labgrid.yaml"
    source.write_text("port: ${SSH_PROT}\n")
    with pytest.raises(SettingsError, match=r"found \$\{SSH_PROT\}, expected one of SSH_PORT"):
        fill(source, {"SSH_PORT": "22"})
    with pytest.raises(SettingsError, match="expected text without '"):
        fill(source, {"SSH_PROT": "2'2"})


def hil(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "160"}
    return subprocess.run(
        [sys.executable, "-m", "hil", *words], cwd=ROOT, env=environment, capture_output=True, text=True
    )


def test_the_command_lists_every_target():
    table = hil("targets")
    assert table.returncode == 0, table.stderr
    assert all(name in table.stdout for name in SHIPPED)
    listed = json.loads(hil("targets", "--json").stdout)
    assert [target["name"] for target in listed["targets"]] == SHIPPED
    assert all(target["confirmed_facts"] == 0 for target in listed["targets"] if target["name"] in REAL)
    # The limits are those that the planner reads.
    for target in listed["targets"]:
        for encoder in target["encoders"]:
            EncoderLimits.from_dict(encoder["limits"], target["name"])


def test_a_mistake_on_the_command_line_is_one_line_and_exit_code_2():
    found = hil("environment", "rk3858")
    assert (found.returncode, found.stdout) == (2, "")
    assert re.fullmatch(r"hil: board: found 'rk3858', expected 'rk3588'.*\n", found.stderr)


@pytest.mark.parametrize(
    ("heading", "cls"),
    [
        ("The file", Target),
        ("[system]", System),
        ("[[encoders]]", Encoder),
        ("[encoders.limits]", EncoderLimits),
        ("[console]", ConsoleSettings),
        ("[users]", Users),
        ("[power]", Power),
        ("[provisioning]", Provisioning),
        ("[flash]", Flash),
        ("[virtual]", Virtual),
        ("[boards.NAME]", DeskBoard),
        ("[boards.NAME.power]", PowerSwitch),
    ],
)
def test_the_document_has_every_field(heading, cls):
    text = (ROOT / "docs" / "targets.md").read_text()
    section = re.search(rf"(?ms)^##+ {re.escape(heading)}$(.*?)(?=^##|\Z)", text)
    assert section, heading
    documented = re.findall(r"(?m)^\| `(\w+)` \|", section[1])
    # Limits are named after their encoder.
    fields = [field.name for field in dataclasses.fields(cls) if (cls, field.name) != (EncoderLimits, "name")]
    assert sorted(documented) == sorted(fields)


# ---- by labgrid's own rules


@pytest.fixture
def labgrid(monkeypatch):
    # A password of the process must not reach the files under test.
    monkeypatch.delenv("LG_FEATLINK_PASSWORD", raising=False)
    return pytest.importorskip("labgrid", reason="labgrid comes with the dependency group hil")


def bound(labgrid, prepared, monkeypatch):
    for name, value in prepared.variables.items():
        monkeypatch.setenv(name, value)
    return labgrid.Environment(str(prepared.file)).get_target()


def names(things) -> set[str]:
    return {type(thing).__name__ for thing in things}


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_file_is_one_of_labgrids(labgrid, name, monkeypatch):
    monkeypatch.setenv("LG_FEATLINK_PASSWORD", "")
    config = labgrid.Environment(str(TARGETS / name / "labgrid.yaml")).config
    assert list(config.get_targets()) == ["main"]


@pytest.mark.parametrize("name", VIRTUAL)
def test_labgrid_binds_a_virtual_board(labgrid, name, tmp_path, monkeypatch):
    folder = image(tmp_path, name)
    prepared = prepare(find_target(name), LocalSettings(), root=tmp_path)
    target = bound(labgrid, prepared, monkeypatch)
    assert names(target.drivers) == {"QEMUDriver", "ShellDriver", "SSHDriver"}
    qemu = target.get_driver("QEMUDriver", activate=False)
    monkeypatch.setattr(qemu, "get_qemu_version", lambda _: (8, 0, 0))
    words = qemu.get_qemu_base_args()

    def option(name: str) -> str:
        return words[words.index(name) + 1]

    assert option("-cpu") == find_target(name).system.cpu
    assert (option("-machine"), option("-smp"), option("-m")) == ("virt", "2", "1024M")
    assert option("-accel") == "tcg,thread=single,tb-size=512"
    assert option("-drive") == f"if=virtio,format=raw,file={folder}/root.ext4,snapshot=on,cache=unsafe"
    assert option("-dtb") == f"{folder}/board.dtb"
    assert option("-fsdev") == f"local,id=share,path={folder}/share,security_model=none"
    assert target.get_resource("NetworkService").port == prepared.ssh_port


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("console", ["/dev/ttyUSB3", "raw://192.0.2.9:4001"])
@pytest.mark.parametrize("power", [None, {"model": "shelly_gen2", "host": "192.0.2.9", "index": 1}])
def test_labgrid_binds_a_board_on_the_desk(labgrid, name, console, power, tmp_path, monkeypatch):
    more = {"power": power} if power else {}
    prepared = prepare(find_target(name), desk(name, console=console, **more), root=tmp_path)
    target = bound(labgrid, prepared, monkeypatch)
    driver = "NetworkPowerDriver" if power else "ManualPowerDriver"
    assert names(target.drivers) == {driver, "SerialDriver", "ShellDriver", "SSHDriver"}
    serial = target.get_resource("NetworkSerialPort" if "://" in console else "RawSerialPort")
    assert serial.speed == find_target(name).console.speed
    assert serial.port == (4001 if "://" in console else console)


def test_labgrid_knows_everything_in_the_file_of_a_place(labgrid, tmp_path, monkeypatch):
    """The place itself is asked of a coordinator, so that here the names and arguments are checked one by one."""
    from labgrid.factory import target_factory

    prepared = prepare(find_target("rk3588"), LocalSettings(), coordinator="lab.example:20408", root=tmp_path)
    assert prepared.variables["LG_COORDINATOR"] == "lab.example:20408"
    for name, value in prepared.variables.items():
        monkeypatch.setenv(name, value)
    config = labgrid.Environment(str(prepared.file)).config
    assert config.get_option("coordinator_address") == "lab.example:20408"
    resources, drivers = target_factory.normalize_config(copy.deepcopy(config.get_targets()["main"]))
    assert {name: list(items) for name, items in resources.items()} == {"RemotePlace": ["rk3588"]}
    assert list(drivers) == ["NetworkPowerDriver", "SerialDriver", "ShellDriver", "SSHDriver"]
    for name, items in drivers.items():
        known = {field.name for field in target_factory.drivers[name].__attrs_attrs__}
        for arguments, _ in items.values():
            assert set(arguments) <= known


def test_drivers_of_a_place_are_those_of_a_desk():
    """Two files say them, since labgrid has no way to share them: they must not drift apart."""

    def drivers(file: Path) -> list[str]:
        lines = file.read_text().split("    drivers:\n")[1].splitlines()
        return [line for line in lines if not line.strip().startswith("#")]

    assert drivers(PLACE_FILE) == drivers(TARGETS / "labgrid" / "board.yaml")
