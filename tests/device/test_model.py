"""Models on the camera: streams and updates become ONNX files without the onnx package, whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_models import FMNIST, FMNIST_UPDATE, blobs, moved, odd_model, pictures, run
from typer.testing import CliRunner

from featlink_codec.errors import FeatlinkError
from featlink_codec.model import EncodeSettings, ModelStream, TensorSettings
from featlink_codec.model.onnx_bytes import take_apart
from featlink_device.cli import app
from featlink_host.model.encoding import base_after, encode_model, update_to
from featlink_host.model.evaluate import distortion
from featlink_host.model.onnx_graph import from_proto, read_onnx

FINE = EncodeSettings(weights=TensorSettings(qp=-44), vectors=TensorSettings(qp=-44))


def call(*words: object) -> dict:
    done = CliRunner().invoke(app, ["model", *map(str, words), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base.nnc, and 1.nnc and 2.nnc after it, 2t.nnc in the light of 1.nnc; lossless.nnc and its update exact.nnc."""
    path = tmp_path_factory.mktemp("models")
    models = [
        from_proto(odd_model()),
        from_proto(moved(odd_model(), ("w1", "w3"))),
        from_proto(moved(odd_model(), ("w2",))),
    ]
    base = encode_model(models[0], FINE).data
    (path / "base.nnc").write_bytes(base)
    streams = [ModelStream(base)]
    for number, model in enumerate(models[1:], 1):
        have = base_after(streams[0], streams[1:])
        made = update_to(have, model, FINE, original=models[number - 1], standalone=True)
        (path / f"{number}.nnc").write_bytes(made.data)
        temporal = update_to(have, model, FINE, original=models[number - 1])
        (path / f"{number}t.nnc").write_bytes(temporal.data)
        streams.append(ModelStream(made.data))
    lossless = encode_model(models[0], FINE, lossless=True).data
    (path / "lossless.nnc").write_bytes(lossless)
    have = base_after(ModelStream(lossless))
    (path / "exact.nnc").write_bytes(update_to(have, models[1], FINE).data)
    return path


def test_a_stream_becomes_the_model_that_runs(folder: Path, tmp_path: Path) -> None:
    found = call("apply", folder / "lossless.nnc", "-o", tmp_path / "m.onnx")
    assert found["bytes"] == (tmp_path / "m.onnx").stat().st_size
    onnx.checker.check_model(str(tmp_path / "m.onnx"))
    wanted = run(odd_model().SerializeToString(), image=pictures())
    for one, other in zip(wanted, run(tmp_path / "m.onnx", image=pictures()), strict=True):
        np.testing.assert_array_equal(one, other)


def test_updates_over_a_stream_and_over_its_file_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    both = call("apply", folder / "base.nnc", folder / "1.nnc", folder / "2.nnc", "-o", tmp_path / "m.onnx")
    model = tmp_path / "n.onnx"
    call("apply", folder / "base.nnc", "-o", model)
    for update in ("1.nnc", "2.nnc"):
        last = call("apply", model, folder / update, "-o", model)  # in place
    assert model.read_bytes() == (tmp_path / "m.onnx").read_bytes()
    assert last["model"] == both["model"] == call("verify", model)["model"]


def test_an_update_in_the_light_of_another_needs_that_one_too(folder: Path, tmp_path: Path) -> None:
    assert (folder / "2t.nnc").read_bytes() != (folder / "2.nnc").read_bytes()
    call("apply", folder / "base.nnc", folder / "1.nnc", folder / "2t.nnc", "-o", tmp_path / "m.onnx")
    call("apply", folder / "base.nnc", folder / "1.nnc", "-o", tmp_path / "n.onnx")
    with pytest.raises(FeatlinkError, match=r"missing-context: .*2t\.nnc"):
        call("apply", tmp_path / "n.onnx", folder / "2t.nnc", "-o", tmp_path / "n.onnx")


@pytest.mark.parametrize("over", ["lossless.nnc", "file"])
def test_updates_of_lossless_float16_go_by_its_bits(folder: Path, tmp_path: Path, over: str) -> None:
    base = folder / over
    if over == "file":
        base = tmp_path / "base.onnx"
        call("apply", folder / "lossless.nnc", "-o", base)
    call("apply", base, folder / "exact.nnc", "-o", tmp_path / "m.onnx")
    found = take_apart((tmp_path / "m.onnx").read_bytes()).tensors["w1"]
    np.testing.assert_array_equal(found, from_proto(moved(odd_model(), ("w1", "w3"))).tensors["w1"])


def test_the_wrong_base_is_refused_and_the_file_stays(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    call("apply", folder / "base.nnc", "-o", model)
    before = model.read_bytes()
    for words in (("2.nnc",), ("1.nnc", "1.nnc"), ("2.nnc", "1.nnc"), ("exact.nnc",)):
        with pytest.raises(FeatlinkError, match=rf"wrong-base: .*{words[-1] if words[0] == '1.nnc' else words[0]}"):
            call("apply", model, *(folder / word for word in words), "-o", model)
    with pytest.raises(FeatlinkError, match=r"not-an-update: .*lossless\.nnc"):
        call("apply", model, folder / "lossless.nnc", "-o", model)
    assert model.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_file_whose_weights_were_changed_is_no_base(folder: Path, tmp_path: Path) -> None:
    call("apply", folder / "base.nnc", "-o", tmp_path / "m.onnx")
    whole = onnx.load(tmp_path / "m.onnx")
    tensor = next(tensor for tensor in whole.graph.initializer if tensor.name == "b3")
    tensor.raw_data = bytes(len(tensor.raw_data))
    onnx.save(whole, tmp_path / "m.onnx")
    with pytest.raises(FeatlinkError, match="do not come to the last update's hash of the result"):
        call("apply", tmp_path / "m.onnx", folder / "1.nnc", "-o", tmp_path / "n.onnx")
    assert not (tmp_path / "n.onnx").exists()


def test_damage_is_found_or_changes_nothing(folder: Path, tmp_path: Path) -> None:
    call("apply", folder / "base.nnc", "-o", tmp_path / "whole.onnx")
    whole = (tmp_path / "whole.onnx").read_bytes()
    found = 0
    data = (folder / "base.nnc").read_bytes()
    rng = np.random.default_rng(4)
    for number in range(120):
        damaged = bytearray(data)
        if number % 3:
            damaged[int(rng.integers(0, len(data)))] ^= 1 << int(rng.integers(8))
        else:
            del damaged[int(rng.integers(0, len(data))) :]
        (tmp_path / "d.nnc").write_bytes(damaged)
        try:
            call("verify", tmp_path / "d.nnc")
            call("apply", tmp_path / "d.nnc", "-o", tmp_path / "m.onnx")
            # Flags that nothing depends on.
            assert (tmp_path / "m.onnx").read_bytes() == whole
        except FeatlinkError:
            found += 1
            assert not (tmp_path / "m.onnx").exists()
        (tmp_path / "m.onnx").unlink(missing_ok=True)
    assert found > 110
    assert {path.name for path in tmp_path.iterdir()} == {"d.nnc", "whole.onnx"}


def test_verify_says_what_an_update_is_for(folder: Path) -> None:
    found = call("verify", folder / "1.nnc")
    assert found["base"] == call("verify", folder / "base.nnc")["model"]


def test_fmnists_update_over_the_link(tmp_path: Path) -> None:
    before, after = read_onnx(FMNIST), read_onnx(FMNIST_UPDATE)
    base = encode_model(before, FINE, lossless=True).data
    settings = EncodeSettings(weights=TensorSettings(qp=-35), vectors=TensorSettings(qp=-47))
    made = update_to(base_after(ModelStream(base)), after, settings)
    assert len(made.data) < 0.013 * sum(values.nbytes for values in after.tensors.values())
    (tmp_path / "base.nnc").write_bytes(base)
    (tmp_path / "d.nnc").write_bytes(made.data)
    call("apply", tmp_path / "base.nnc", tmp_path / "d.nnc", "-o", tmp_path / "m.onnx")
    images = blobs(64)
    wanted, old, new = (run(path, image=images) for path in (FMNIST_UPDATE, FMNIST, tmp_path / "m.onnx"))
    assert distortion(wanted, new) < 0.4 * distortion(wanted, old)


def test_the_onnx_package_is_not_needed(folder: Path, tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['onnx'] = None; sys.modules['google'] = None; sys.modules['onnxruntime'] = None\n"
        "from pathlib import Path; from featlink_device.model import apply_updates\n"
        f"folder = Path({str(folder)!r}); out = Path({str(tmp_path)!r}) / 'm.onnx'\n"
        "print(apply_updates(folder / 'base.nnc', [folder / '1.nnc'], out).bytes)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) == (tmp_path / "m.onnx").stat().st_size


_PEAK = """
import sys
from pathlib import Path
import featlink_codec.model.tensor_core
from featlink_device.model import apply_updates
def peak():
    return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
before, folder = peak(), Path(sys.argv[1])
apply_updates(folder / sys.argv[2], [folder / "d.nnc"], folder / "out.onnx")
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to say the peak of memory")
def test_memory_stays_below_the_models_size(tmp_path: Path) -> None:
    """Tensors come and go one by one: 12 MB of a model of 48 MB."""
    rng = np.random.default_rng(1)
    names = [f"w{k}" for k in range(16)]
    tensors = {name: rng.laplace(0, 0.02, (768, 1024)).astype(np.float32) for name in names}
    nodes = [
        onnx.helper.make_node("Gemm", [f"y{k}" if k else "x", name], [f"y{k + 1}"], transA=0, transB=k % 2 == 0)
        for k, name in enumerate(names)
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "deep",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 1024])],
        [onnx.helper.make_tensor_value_info("y16", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(values, name) for name, values in tensors.items()],
    )
    model = from_proto(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8))
    base = encode_model(model, EncodeSettings(weights=TensorSettings(qp=-28))).data
    after = from_proto(moved(onnx.load_model_from_string(model.whole()), tuple(names), 0.02))
    made = update_to(
        base_after(ModelStream(base)), after, EncodeSettings(weights=TensorSettings(qp=-28)), original=model
    )
    (tmp_path / "base.nnc").write_bytes(base)
    (tmp_path / "d.nnc").write_bytes(made.data)
    call("apply", tmp_path / "base.nnc", "-o", tmp_path / "base.onnx")
    size = (tmp_path / "base.onnx").stat().st_size
    for source in ("base.nnc", "base.onnx"):
        words = [sys.executable, "-c", _PEAK, str(tmp_path), source]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert int(done.stdout) < size
