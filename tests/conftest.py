"""What several suites need: the vectors, a tiny clip, a tiny network and its extractor."""

from __future__ import annotations

from pathlib import Path

import av
import hypothesis
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

# Machines are shared: an example that takes long says nothing.
hypothesis.settings.register_profile("shared-machine", deadline=None)
# `--hypothesis-profile=long`: for the sanitizers.
hypothesis.settings.register_profile("long", deadline=None, max_examples=1000)
hypothesis.settings.load_profile("shared-machine")

VECTORS = Path(__file__).parent / "vectors"
#: Streams to order: `make`, `codings`. A browser: `browser`, `opened`.
pytest_plugins = ["streams", "chromium"]
#: Pictures in the tiny clip, and how many of them come a second.
TINY_PICTURES, TINY_FPS = 12, 10


@pytest.fixture(scope="session")
def vectors() -> Path:
    return VECTORS


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bright square that moves over a dark ground: 12 pictures of 96 x 80, lossless."""
    path = tmp_path_factory.mktemp("clip") / "square.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=TINY_FPS)
        stream.width, stream.height, stream.pix_fmt = 96, 80, "yuv420p"
        for k in range(TINY_PICTURES):
            picture = np.full((80, 96, 3), 30, np.uint8)
            picture[20:50, 5 * k : 5 * k + 30] = (220, 180, 90)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def tiny_network(path: Path) -> Path:
    """image [1,3,40,48] -> Conv -> Relu (`feature`, 8 x 20 x 24) -> Conv -> `scores`; also `signed` before the Relu."""
    rng = np.random.default_rng(5)
    weights = {
        "w1": rng.normal(0, 0.4, (8, 3, 3, 3)).astype(np.float32),
        "b1": rng.normal(0, 0.1, 8).astype(np.float32),
        "w2": rng.normal(0, 0.4, (4, 8, 1, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["signed"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["signed"], ["feature"]),
        helper.make_node("Conv", ["feature", "w2"], ["mixed"]),
        helper.make_node("GlobalAveragePool", ["mixed"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 40, 48])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 4, 1, 1])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_network(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="session")
def tiny_extractor(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_clip: Path) -> Path:
    """The tiny network split at `feature`, lossless and continuous."""
    from featlink_codec.extractor import VideoSettings
    from featlink_host.prepare.pipeline import PrepareOptions, prepare_split

    folder = tmp_path_factory.mktemp("extractors") / "tiny"
    video = VideoSettings(session="continuous", lossless=True)
    prepare_split(tiny_model, "feature", tiny_clip, folder, PrepareOptions(video=video, frames=4, keep_whole=True))
    return folder
