"""Training itself: needs PyTorch, which is no part of the default set-up; without it these are skipped, not passed."""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`): training was not checked")

from featlink_codec.errors import FeatlinkError, SettingsError  # noqa: E402
from featlink_host.cli import app  # noqa: E402
from featlink_host.prepare.samples import Preprocessing  # noqa: E402
from featlink_host.prepare.scoring_runs import ModelRunner  # noqa: E402
from featlink_host.training import losses  # noqa: E402
from featlink_host.training.architecture import student  # noqa: E402
from featlink_host.training.data import Pictures, open_pictures, teacher_logits  # noqa: E402
from featlink_host.training.distill import distillation_loss, split_held_out, train_student  # noqa: E402
from featlink_host.training.options import DistillOptions  # noqa: E402
from featlink_host.training.run import DistillFiles, compare, distill  # noqa: E402
from featlink_host.training.student import Student  # noqa: E402

SIZE, CLASSES = 12, 4
OPTIONS = DistillOptions(width=2, epochs=3, batch=32, hold_out=40)
HOW = Preprocessing(1 / 128, -1.0)


def write_idx(path: Path, values: np.ndarray) -> Path:
    head = bytes([0, 0, 8, values.ndim]) + b"".join(side.to_bytes(4, "big") for side in values.shape)
    path.write_bytes(gzip.compress(head + values.astype(np.uint8).tobytes()))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> DistillFiles:
    """A bright quarter of a noisy picture is its class; a teacher that sums up the quarters knows it."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, 200)
    values = rng.integers(0, 90, (200, SIZE, SIZE))
    half = SIZE // 2
    for one, label in zip(values, labels, strict=True):
        one[label // 2 * half :, label % 2 * half :][:half, :half] += 90
    weights = np.zeros((CLASSES, 2, half, 2, half), np.float32)
    for label in range(CLASSES):
        weights[label, label // 2, :, label % 2] = 0.2
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w"], ["z"], transB=1)],
        "teacher",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, SIZE, SIZE])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(weights.reshape(CLASSES, -1), "w")],
    )
    teacher = folder / "teacher.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), teacher)
    images = write_idx(folder / "images.gz", values)
    answers = write_idx(folder / "labels.gz", labels)
    return DistillFiles(images, answers, teacher, images, answers)


@pytest.fixture
def pictures(files: DistillFiles, tmp_path: Path) -> Pictures:
    return open_pictures(files.images, files.labels, tmp_path, HOW.scale, HOW.offset)


def test_the_loss_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(1)
    z, teacher = rng.normal(0, 3, (2, 7, CLASSES)).astype(np.float32)
    labels = rng.integers(0, CLASSES, 7)
    for t, alpha, beta in ((1.0, 1.0, 0.0), (4.0, 0.9, 0.1), (8.0, 0.0, 2.0)):
        options = DistillOptions(temperature=t, alpha=alpha, beta=beta)
        found = distillation_loss(torch.from_numpy(z), torch.from_numpy(labels), torch.from_numpy(teacher), options)
        assert float(found) == pytest.approx(losses.distillation_loss(z, teacher, labels, t, alpha, beta), rel=1e-5)
    alone = distillation_loss(torch.from_numpy(z), torch.from_numpy(labels), None, OPTIONS)
    assert float(alone) == pytest.approx(losses.hard_loss(z, labels), rel=1e-5)


@pytest.mark.parametrize("architecture", [student(), student(3, 3, 20, 7)])
def test_the_module_has_the_parameters_of_the_formulas(architecture) -> None:
    module = Student(architecture)
    weights = sum(one.weight.numel() for one in module.modules() if isinstance(one, torch.nn.Conv2d))
    fully = (architecture.flat + 1) * architecture.classes
    biases = sum(one.num_features for one in module.modules() if isinstance(one, torch.nn.BatchNorm2d))
    assert weights == sum(block.parameters for block in architecture.blocks)
    assert weights + biases + fully == architecture.parameters
    x = torch.zeros(2, architecture.blocks[0].inputs, architecture.size, architecture.size)
    assert module.eval()(x).shape == (2, architecture.classes)


def test_features_are_not_negative() -> None:
    module = Student(student(2, 1, SIZE, CLASSES)).eval()
    assert float(module.backbone(torch.randn(8, 1, SIZE, SIZE)).detach().min()) == 0


def test_pictures_are_those_of_the_files(files: DistillFiles, pictures: Pictures) -> None:
    raw = np.frombuffer(gzip.decompress(files.images.read_bytes())[16:], np.uint8).reshape(200, 1, SIZE, SIZE)
    places = np.array([7, 3, 199])
    assert np.array_equal(pictures.values[places], raw[places])
    assert np.array_equal(pictures.numbers(places), raw[places].astype(np.float32) / np.float32(128) - 1)
    assert isinstance(pictures.values, np.memmap)


def test_what_is_held_out_is_never_trained_on_and_the_same_for_all_seeds(pictures: Pictures) -> None:
    places, held_out = split_held_out(200, 40)
    assert sorted([*places, *held_out]) == list(range(200))
    assert len(held_out) == 40
    seen: list[int] = []

    class Spy(Pictures):
        def numbers(self, places):
            seen.extend(places.tolist())
            return super().numbers(places)

    spy = Spy(pictures.values, pictures.labels, pictures.scale, pictures.offset)
    train_student(student(2, 1, SIZE, CLASSES), spy, None, DistillOptions(width=2, epochs=1, batch=32, hold_out=0))
    assert len(set(seen)) == len(seen) == 192
    seen.clear()
    few = DistillOptions(width=2, epochs=4, batch=32, hold_out=40, pictures=33)
    train_student(student(2, 1, SIZE, CLASSES), spy, None, few)
    trained = set(seen) - set(held_out)
    assert len(trained) <= 33
    assert trained <= set(places[:33])
    with pytest.raises(SettingsError, match="at most 160"):
        train_student(student(2, 1, SIZE, CLASSES), spy, None, DistillOptions(hold_out=40, pictures=161))
    with pytest.raises(SettingsError, match="hold-out"):
        split_held_out(40, 40)


@pytest.mark.parametrize("with_teacher", [True, False])
def test_a_stopped_run_goes_on_and_ends_as_if_it_had_not_been(
    files: DistillFiles, pictures: Pictures, tmp_path: Path, with_teacher: bool
) -> None:
    logits = teacher_logits(files.teacher, pictures, tmp_path) if with_teacher else None
    architecture = student(2, 1, SIZE, CLASSES)
    whole = train_student(architecture, pictures, logits, OPTIONS)

    class StoppedError(Exception):
        pass

    def stop(stage: str, done: int, total: int) -> None:
        if done == 7:  # within the second epoch of 5 steps
            raise StoppedError

    checkpoint = tmp_path / "c.pt"
    with pytest.raises(StoppedError):
        train_student(architecture, pictures, logits, OPTIONS, checkpoint, "key", stop)
    steps: list[int] = []
    again = train_student(
        architecture, pictures, logits, OPTIONS, checkpoint, "key", lambda stage, done, total: steps.append(done)
    )
    assert steps == list(range(6, 16))
    assert again.history == whole.history
    for name, values in whole.student.arrays().items():
        assert np.array_equal(again.student.arrays()[name], values), name
    with pytest.raises(SettingsError, match="other inputs"):
        train_student(architecture, pictures, logits, OPTIONS, checkpoint, "other")
    checkpoint.write_bytes(b"PK nonsense")
    with pytest.raises(SettingsError, match="not a checkpoint"):
        train_student(architecture, pictures, logits, OPTIONS, checkpoint, "key")


def test_seeds_make_different_students(pictures: Pictures) -> None:
    architecture = student(2, 1, SIZE, CLASSES)
    one, other = (
        train_student(architecture, pictures, None, DistillOptions(**{**asdict(OPTIONS), "epochs": 1, "seed": seed}))
        for seed in (0, 1)
    )
    assert not np.array_equal(one.student.arrays()["classifier.weight"], other.student.arrays()["classifier.weight"])


def test_the_exported_student_is_the_trained_one(files: DistillFiles, tmp_path: Path) -> None:
    found = distill(files, DistillOptions(**{**asdict(OPTIONS), "epochs": 12}), HOW, tmp_path / "state")
    onnx.checker.check_model(found.model, full_check=True)
    assert found.difference <= 1e-4
    assert found.test is not None
    assert found.test.value > 0.9
    assert found.figures()["parameters"] == found.architecture.parameters


def test_an_export_that_differs_is_refused(pictures: Pictures) -> None:
    architecture = student(2, 1, SIZE, CLASSES)
    trained = train_student(architecture, pictures, None, OPTIONS)
    from featlink_host.training.export import student_model

    arrays = trained.student.arrays()
    assert compare(student_model(architecture, arrays), trained, pictures) < 1e-5
    arrays["classifier.bias"] = arrays["classifier.bias"] + np.float32(0.01)
    with pytest.raises(FeatlinkError, match="differs"):
        compare(student_model(architecture, arrays), trained, pictures)


def command(files: DistillFiles, out: Path, *more: str) -> list[str]:
    given = ["prepare", "distill", "--images", str(files.images), "--labels", str(files.labels), "-o", str(out)]
    small = ["--width", "2", "--epochs", "2", "--batch", "32", "--hold-out", "40"]
    return [*given, *small, "--scale", "0.0078125", "--offset", "-1", *more]


def test_the_command_writes_student_report_and_record(files: DistillFiles, tmp_path: Path) -> None:
    out = tmp_path / "student.onnx"
    test = ["--test-images", str(files.test_images), "--test-labels", str(files.test_labels)]
    words = command(files, out, "--teacher", str(files.teacher), *test, "--report", str(tmp_path / "r"), "--json")
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert figures["with_teacher"]
    assert len(figures["epochs"]) == 2
    record = json.loads((tmp_path / "r" / "distill.json").read_text())
    assert record["figures"]["test"] == figures["test"]
    assert "Accuracy" in (tmp_path / "r" / "distill.html").read_text()
    assert ModelRunner(out).outputs == ["logits"]
    # Another teacher's, or no teacher's, logits are not taken for these.
    words = command(files, out, "--without-teacher", "--force")
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, SettingsError)
    assert "other inputs" in str(done.exception)
    done = CliRunner().invoke(app, [*words, "--state", str(tmp_path / "s"), "--json"])
    assert done.exit_code == 0, done.output
    assert not json.loads(done.stdout)["with_teacher"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ([], "--without-teacher"),
        (["--without-teacher", "--batch", "500"], "at most 160"),
        (["--without-teacher", "--batch", "100", "--epochs", "3"], "at least 4"),
        (["--without-teacher", "--hold-out", "200"], "hold-out"),
        (["--without-teacher", "--labels", "nowhere.gz"], "nowhere.gz"),
        (["--without-teacher", "--images", "nowhere.gz"], "nowhere.gz"),
        (["--without-teacher", "--temperature", "0"], "temperature"),
        (["--teacher", "nowhere.onnx"], "nowhere.onnx"),
        (["--without-teacher", "--test-images", "x.gz"], "test labels"),
    ],
)
def test_mistakes_are_one_error(files: DistillFiles, tmp_path: Path, more: list[str], says: str) -> None:
    done = CliRunner().invoke(app, command(files, tmp_path / "s.onnx", *more))
    assert isinstance(done.exception, FeatlinkError)
    assert says in str(done.exception)
    assert not (tmp_path / "s.onnx").exists()
