"""Commands given what they cannot take: one line that says what was found, exit code 2, and nothing written."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import typer
from onnx import TensorProto, helper
from pruning_models import Builder, mixed_model, outputs, pictures

from featlink_host import cli

COMMANDS = {
    "quantize": ("quantize", "--weights", "4"),
    "quantize inputs": ("quantize", "--inputs", "8"),
    "integer": ("integer", "--tensor", "sum", "--no-fine-tune"),
    "zeros": ("prune", "--sparsity", "0.5"),
    "channels": ("prune", "--channels", "0.25"),
    "factorize": ("factorize", "--energy", "0.9"),
}
every_command = pytest.mark.parametrize("command", COMMANDS)


def open_sides(model: onnx.ModelProto) -> onnx.ModelProto:
    """Height and width left open."""
    for side, name in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], "hw", strict=True):
        side.dim_param = name
    del model.graph.value_info[:]
    return model


def with_unknown_operator(model: onnx.ModelProto) -> onnx.ModelProto:
    """stem6 goes through an operator that nobody has."""
    model.opset_import.append(helper.make_opsetid("my.ops", 1))
    place = next(at for at, node in enumerate(model.graph.node) if node.output[0] == "stem6")
    for node in model.graph.node:
        node.input[:] = ["odd" if name == "stem6" else name for name in node.input]
    model.graph.node.insert(place + 1, helper.make_node("Frobnicate", ["stem6"], ["odd"], "odd", domain="my.ops"))
    return model


def without_layers() -> onnx.ModelProto:
    """Nothing with weights."""
    b = Builder(0)
    b.node("Relu", ["image"], "relu")
    return b.model({"relu": ["n", 3, 8, 8]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("refusals")
    model, images = mixed_model(), pictures(12)
    onnx.save(model, here / "model.onnx")
    np.savez(here / "images.npz", image=images)
    np.savez(here / "labels.npz", labels=outputs(model, image=images)["scores"].argmax(axis=1))
    (here / "empty").mkdir()
    (here / "file").write_text("no folder")
    for name, labels in (("few", "12"), ("large", "9" * 12), ("small", ["-1"] * 12), ("words", ["cat"] * 12)):
        (here / f"{name}.txt").write_text("\n".join(labels))
    for name, odd in (("narrow", images[..., :4]), ("none", images[:0]), ("nan", np.full_like(images, np.nan))):
        np.savez(here / f"{name}.npz", image=odd)
    (here / "broken.npz").write_bytes(b"PK\x03\x04")
    (here / "text.onnx").write_text("hello")
    (here / "short.onnx").write_bytes((here / "model.onnx").read_bytes()[:-500])
    onnx.save(mixed_model(), here / "apart.onnx", save_as_external_data=True, location="apart.bin", size_threshold=0)
    (here / "apart.bin").unlink()
    onnx.save(open_sides(mixed_model()), here / "open.onnx")
    onnx.save(with_unknown_operator(mixed_model()), here / "odd.onnx")
    onnx.save(without_layers(), here / "plain.onnx")
    onnx.save(float16_model(), here / "half.onnx")
    np.savez(here / "half.npz", x=images.astype(np.float16))
    return here


def float16_model() -> onnx.ModelProto:
    """Float16 from end to end."""
    rng = np.random.default_rng(0)
    weights = {"v": rng.normal(0, 0.3, (8, 3, 3, 3)), "w": rng.normal(0, 0.3, (4, 8, 1, 1))}
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["c"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "w"], ["y"], "second"),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT16, [1, s, 8, 8]) for n, s in (("x", 3), ("y", 4))]
    constants = [onnx.numpy_helper.from_array(value.astype(np.float16), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "half", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.fixture(scope="module")
def commands() -> Callable[[], object]:
    """Put together once: it takes longer than most of these tests."""
    return typer.main.get_command(cli.app)


@pytest.fixture
def call(
    folder: Path, commands: Callable[[], object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs a command in the folder: its exit code, and what it says on standard error."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(cli, "app", commands)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["featlink-host", "prepare", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), capsys.readouterr().err

    return run


Call = Callable[..., tuple[int, str]]


def refused(call: Call, folder: Path, why: str, *arguments: str, lines: int = 1) -> None:
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    code, said = call(*arguments)
    assert code == 2
    assert said.startswith("featlink-host: ")
    assert why in said
    assert lines == 0 or said.count("\n") == lines
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before


@every_command
@pytest.mark.parametrize(
    ("model", "images", "labels", "why"),
    [
        ("model.onnx", "nowhere", "", "nowhere: no images: found no such file or folder"),
        ("model.onnx", "empty", "", "empty: no images in this folder"),
        ("model.onnx", "none.npz", "", "none.npz: no images: found 0 samples"),
        ("model.onnx", "broken.npz", "", "broken.npz: not an .npz file"),
        ("model.onnx", "narrow.npz", "", "samples of shape 3x8x4, input 'image' takes 3x8x8"),
        ("model.onnx", "nan.npz", "", "nan.npz: found NaN or infinity among the samples"),
        ("model.onnx", "images.npz", "few.txt", "found 2 labels for 12 samples, expected one each"),
        ("model.onnx", "images.npz", "large.txt", "labels: found 9, expected 0 to 4"),
        ("model.onnx", "images.npz", "small.txt", "labels: found -1, expected 0 to 4"),
        ("model.onnx", "images.npz", "words.txt", "words.txt: expected an integer a line"),
        ("nowhere.onnx", "images.npz", "", "nowhere.onnx: no such file"),
        ("empty", "images.npz", "", "empty: found a folder, expected an ONNX file"),
        ("text.onnx", "images.npz", "", "text.onnx: not a valid ONNX model"),
        ("short.onnx", "images.npz", "", "short.onnx: not a valid ONNX model"),
        ("apart.onnx", "images.npz", "", "apart.bin"),
        ("odd.onnx", "images.npz", "", "my.ops:Frobnicate"),
    ],
)
def test_inputs_that_are_none(
    call: Call, folder: Path, command: str, model: str, images: str, labels: str, why: str
) -> None:
    step, *options = COMMANDS[command]
    given = ["--labels", labels] if labels else []
    refused(call, folder, why, step, model, *options, "-o", "out.onnx", "--images", images, *given)


@every_command
@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("-o", "model.onnx"), "model.onnx: is what the command reads"),
        (("-o", "model.onnx", "--force"), "model.onnx: is what the command reads"),
        (("-o", "empty/../model.onnx", "--force"), "model.onnx: is what the command reads"),
        (("-o", "images.npz", "--force"), "images.npz: is what the command reads"),
        (("-o", "file"), "file: is there already; --force replaces it"),
        (("-o", "empty", "--force"), "empty: found a folder, expected a file to write"),
        (("-o", "nowhere/out.onnx"), "nowhere/out.onnx: found no such folder at nowhere"),
        (("-o", "file/out.onnx"), "file/out.onnx: found a file at file"),
        (("-o", "out.onnx", "--report", "file"), "--report file: found a file"),
        (("-o", "out.onnx", "--report", "file/inner"), "--report file/inner: found a file"),
    ],
)
def test_outputs_that_cannot_be_written(
    call: Call, folder: Path, command: str, options: tuple[str, ...], why: str
) -> None:
    """Before anything is computed."""
    step, *own = COMMANDS[command]
    refused(call, folder, why, step, "model.onnx", *own, *options, "--images", "images.npz")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("quantize model.onnx --weights 0", "uniform weights of 0 bits, expected 1 to 32"),
        ("quantize model.onnx --weights 33", "uniform weights of 33 bits, expected 1 to 32"),
        ("quantize model.onnx --weights 17 --values codebook", "codebook weights of 17 bits, expected 1 to 16"),
        ("quantize model.onnx --inputs 7", "inputs of 7 bits, expected 8 to 32"),
        ("quantize model.onnx --inputs 8", "inputs of 8 bits: needs samples, give images"),
        ("quantize model.onnx --method best", "method: found 'best', expected one of minmax"),
        ("quantize model.onnx --groups 0", "groups 0, expected tensor, channel"),
        ("quantize model.onnx --layer fc1/W", "--layer fc1/W: expected NAME=BITS"),
        ("quantize model.onnx --layer fc9=4", "no weights 'fc9'; there are stem/W"),
        ("quantize model.onnx --fine-tune", "fine-tuning needs inputs: give images"),
        ("quantize model.onnx --scale 0 --images images.npz", "scale: found 0, expected a number other than 0"),
        ("quantize model.onnx --offset nan --images images.npz", "offset: found nan, expected a finite number"),
        ("quantize model.onnx --stream out.onnx", "out.onnx: is given for two results"),
        ("quantize model.onnx --fix-shape image=1,3,9,9", "Can't replace existing fixed size of 8 with 9"),
        ("quantize plain.onnx", "found no convolution and no product of matrices with constant weights"),
        ("prune model.onnx --sparsity 1", "sparsity: found 1, expected 0 to less than 1"),
        ("prune model.onnx --channels 1", "share of channels: found 1, expected 0 to less than 1"),
        ("prune model.onnx --budget-macs inf", "budget of MACs: found inf, expected a share up to 1"),
        ("prune model.onnx --budget-macs 0.0001", "are left of 54756"),
        ("prune plain.onnx --channels 0.5", "found no channels that can be taken out"),
        ("prune plain.onnx --sparsity 0.5", "no weights: found no convolution or product"),
        ("prune open.onnx --sparsity 0.5", "--fix-shape image=1,3,224,224"),
        ("prune odd.onnx --sparsity 0.5", "the shape of what my.ops.Frobnicate odd makes is open"),
        ("factorize model.onnx --energy 0", "energy: found 0, expected a share above 0"),
        ("factorize model.onnx --budget-macs inf", "budget of MACs: found inf, expected a share up to 1"),
        ("factorize model.onnx --rank =3", "--rank =3: expected a number, or LAYER=NUMBER"),
        ("factorize model.onnx --rank 2 --rank 3", "--rank 2 3: expected a number, or LAYER=NUMBER"),
        ("factorize open.onnx --energy 0.5", "--fix-shape image=1,3,224,224"),
        ("factorize plain.onnx --energy 0.5", "found no fully connected layer"),
        ("integer model.onnx --tensor sum", "no images: give --images"),
        ("integer model.onnx --images images.npz", "no --tensor: say where to split the network"),
        ("integer open.onnx --images images.npz --tensor sum", "--fix-shape image=1,3,224,224"),
        ("integer half.onnx --images half.npz --tensor r", "tensor 'r': found float16, expected float32"),
        ("integer model.onnx --images images.npz --tensor sum --head out.onnx", "out.onnx: is given for two results"),
        ("integer model.onnx --images images.npz --tensor sum --extractor empty --into new", "empty/extractor.toml"),
    ],
)
def test_options_that_cannot_be(call: Call, folder: Path, arguments: str, why: str) -> None:
    refused(call, folder, why, *arguments.split(), "-o", "out.onnx")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("sparsify nowhere --source images.npz --threshold 1", "nowhere: found nothing, expected an extractor"),
        ("sparsify file --source images.npz --threshold 1", "file: found a file, expected an extractor"),
        ("sparsify empty --source nowhere --threshold 1", "nowhere: no such file or folder"),
        ("sparsify empty --source empty --threshold 1", "empty: no image in this folder"),
        ("sparsify empty --source file --threshold 1", "file: not a video that FFmpeg can read"),
        ("sparsify empty --source empty", "found none, expected one of threshold, sparsity, agreement"),
        ("sparsify empty --source empty --sparsity 0.5 --report file", "--report file: found a file"),
        ("sparsify empty --source empty --sparsity 1.5", "1.5"),
        ("distill --images images.npz --labels few.txt -o out.onnx", "no teacher: give --teacher"),
        (
            "distill --images images.npz --labels few.txt -o model.onnx --teacher model.onnx --force",
            "model.onnx: is what the command reads",
        ),
        (
            "distill --images images.npz --labels few.txt -o nowhere/out.onnx --without-teacher",
            "nowhere/out.onnx: found no such folder",
        ),
    ],
)
def test_extractors_and_students_that_cannot_be(call: Call, folder: Path, arguments: str, why: str) -> None:
    refused(call, folder, why, *arguments.split())


@pytest.mark.parametrize(
    "arguments",
    ["quantize model.onnx --weights x", "prune model.onnx --sparsity 1.5", "prune model.onnx --channels nan"],
)
def test_what_is_no_number_of_the_range_is_refused_with_the_option(call: Call, folder: Path, arguments: str) -> None:
    code, said = call(*arguments.split(), "-o", "out.onnx")
    assert code == 2
    assert f"'{arguments.split()[2]}'" in said
    assert not (folder / "out.onnx").exists()


@pytest.mark.parametrize(
    ("tensor", "why", "nearest"),
    [
        ("point", "is not the only tensor to cross there; these go around it", "stem6"),
        ("summ", "is not a tensor of this network, perhaps 'sum'", "sum"),
        ("scores", "is an output of the network", "fc1_relu"),
        ("stem/W", "is a weight or made of weights", "stem"),
    ],
)
def test_a_tensor_that_is_no_cut_comes_with_the_nearest(
    call: Call, folder: Path, tensor: str, why: str, nearest: str
) -> None:
    options = ("--tensor", tensor, "--images", "images.npz", "-o", "out.onnx")
    refused(call, folder, why, "integer", "model.onnx", *options, lines=0)
    assert f"    {nearest}  ?x" in call("integer", "model.onnx", *options)[1]


def test_open_shapes_are_fixed_where_they_are_given(call: Call, folder: Path) -> None:
    fixed = ("--fix-shape", "image=2,3,8,8", "--images", "images.npz", "-o", "fixed.onnx", "--force")
    for step, *options in (COMMANDS["zeros"], COMMANDS["factorize"], COMMANDS["integer"], COMMANDS["quantize"]):
        shape = "image=1,3,8,8" if step == "integer" else "image=2,3,8,8"
        code, said = call(step, "open.onnx", *options, fixed[0], shape, *fixed[2:])
        assert code == 0, said
        sides = onnx.load(folder / "fixed.onnx").graph.input[0].type.tensor_type.shape.dim
        assert [side.dim_value for side in sides] == [int(side) for side in shape[6:].split(",")]
    (folder / "fixed.onnx").unlink()


@pytest.mark.parametrize("command", ["quantize", "quantize inputs", "zeros", "channels", "factorize"])
def test_a_float16_network_is_taken(call: Call, folder: Path, command: str) -> None:
    """From end to end: its input stays float16."""
    step, *options = COMMANDS[command]
    code, said = call(step, "half.onnx", *options, "--images", "half.npz", "-o", "taken.onnx")
    assert code == 0, said
    changed = onnx.load(folder / "taken.onnx")
    (folder / "taken.onnx").unlink()
    assert changed.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16
    x = pictures(1).astype(np.float16)
    assert outputs(changed, x=x)["y"].shape == (1, 4, 8, 8)


@every_command
@pytest.mark.parametrize(
    ("fault", "code"), [(OSError(28, "No space left on device"), 2), (KeyboardInterrupt(), 130)], ids=["full", "ctrl-c"]
)
def test_what_is_not_written_whole_is_not_there(
    call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch, command: str, fault: BaseException, code: int
) -> None:
    def fails(_: int) -> None:
        raise fault

    monkeypatch.setattr("featlink_codec.files.os.fsync", fails)
    step, *options = COMMANDS[command]
    found, said = call(step, "model.onnx", *options, "--images", "images.npz", "-o", "out.onnx")
    assert found == code
    assert "Traceback" not in said
    assert code != 2 or "No space left on device" in said
    assert not list(folder.glob("out.onnx*"))


def test_a_folder_that_cannot_be_written_to(call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featlink_host.prepare_files.os.access", lambda _, mode: mode != os.W_OK)
    refused(call, folder, "a folder that cannot be written to", "quantize", "model.onnx", "-o", "out.onnx")
