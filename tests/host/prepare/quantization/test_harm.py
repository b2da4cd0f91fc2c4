"""What a tensor's quantizer costs alone, and tensors that have more bits for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from qdq_networks import network

from featlink_host.inference import open_session
from featlink_host.model.evaluate import distortion
from featlink_host.prepare.graph import load_model
from featlink_host.prepare.quantization.affine import Affine
from featlink_host.prepare.quantization.golden import RUN_SETTINGS
from featlink_host.prepare.quantization.harm import harms
from featlink_host.prepare.quantization.integer import WIDE_BITS, IntegerOptions, integer_backbone


def test_the_cost_is_that_of_the_tensor_rounded_and_nothing_else() -> None:
    rng = np.random.default_rng(2)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["out"])]
    weights = rng.normal(0, 1, (3, 2, 1, 1)).astype("f")
    model = network(nodes, (1, 2, 6, 6), {"w": weights})
    batches = [{"x": rng.normal(0, 1, (1, 2, 6, 6)).astype("f")} for _ in range(3)]
    quantizers = {"x": Affine(0.125, 128), "c": Affine(0.25, 128), "out": Affine(0.5, 0)}
    found = harms(model, quantizers, batches)

    def rounded(name: str, values: np.ndarray) -> np.ndarray:
        return quantizers[name].dequantize(quantizers[name].quantize(values))

    session = open_session(model)
    c = [np.einsum("nchw,oc->nohw", one["x"], weights[:, :, 0, 0]) for one in batches]
    exact = np.concatenate([session.run(None, one)[0] for one in batches])
    of_x = [np.einsum("nchw,oc->nohw", rounded("x", one["x"]), weights[:, :, 0, 0]) for one in batches]
    wanted = {
        "x": np.maximum(np.concatenate(of_x), 0),
        "c": np.maximum(rounded("c", np.concatenate(c)), 0),
        "out": rounded("out", exact),
    }
    for name, outputs in wanted.items():
        assert found[name] == pytest.approx(distortion([exact], [outputs.astype(np.float32)]), rel=1e-3), name


def test_tensors_of_twelve_bits_are_as_exact_as_those_of_eight(tiny_model: Path) -> None:
    """Sums below 2^24 of whole numbers are the same as float32, in any order."""
    rng = np.random.default_rng(2)
    pictures = [{"image": rng.uniform(0, 1, (1, 3, 40, 48)).astype("f")} for _ in range(3)]
    found, narrow = (
        integer_backbone(
            load_model(tiny_model), "feature", None, IntegerOptions(wide_share=share), batches=lambda: pictures
        )
        for share in (0.01, 1.0)
    )
    assert found.network.quantizers["image"].bits == WIDE_BITS
    assert found.network.quantizers["feature"].bits == 8
    assert found.backbone.graph.output[0].type.tensor_type.elem_type == 2  # uint8
    assert found.network.doubts == []
    assert max(found.network.sums.values()) > 2**16
    assert found.golden.holds
    assert len(found.golden.equal) == len(RUN_SETTINGS)
    assert all(one.bits == 8 for one in narrow.network.quantizers.values())
