"""What each output of a layer sees of its input: the patches of a convolution, the vectors of a product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from .weights import attributes_of

Tensor = NDArray[Any]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """A convolution in two dimensions, or a product with a constant matrix, y = W x + b.

    :param node: its output, by which it is found again
    :param data: its input
    :param groups: of a convolution
    :param kernel: empty for products
    :param transposed: the matrix stands as [inputs, outputs]
    :param biased: it has a place for a bias
    """

    node: str
    data: str
    groups: int = 1
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    auto_pad: str = "NOTSET"
    transposed: bool = False
    biased: bool = True

    def matrix(self, weight: Tensor) -> NDArray[np.float64]:
        """The weights as [outputs, inputs of one output]."""
        wide: NDArray[np.float64] = weight.astype(np.float64)
        return wide.T if self.transposed else wide.reshape(len(wide), -1)

    def tensor(self, matrix: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
        """The weights in their own shape again."""
        return matrix.T if self.transposed else matrix.reshape(shape)

    def samples(self, data: Tensor, result: Tensor, places: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """What some outputs see, and the outputs.

        :param data: the input of a batch
        :param result: the layer's output for it
        :param places: so many at most, drawn evenly from all
        :returns: float32 [places, groups, inputs], [places, outputs]
        """
        if not self.kernel:
            vectors, out = data.reshape(-1, data.shape[-1]), result.reshape(-1, result.shape[-1])
            if len(vectors) > places:
                chosen = rng.permutation(len(vectors))[:places]
                vectors, out = vectors[chosen], out[chosen]
            return vectors[:, None].astype(np.float32), out.astype(np.float32)
        count, _, height, width = result.shape
        every = count * height * width
        chosen = rng.permutation(every)[:places] if every > places else np.arange(every)
        n, y, x = np.unravel_index(chosen, (count, height, width))
        padded = self._padded(data, height, width)
        (high, wide), (down, right), (step_y, step_x) = self.kernel, self.dilations, self.strides
        rows = y[:, None, None] * step_y + down * np.arange(high)[None, :, None]
        columns = x[:, None, None] * step_x + right * np.arange(wide)[None, None, :]
        patches = padded[n[:, None, None], :, rows, columns].transpose(0, 3, 1, 2)  # [places, channels, high, wide]
        seen = patches.reshape(len(chosen), self.groups, -1)
        return seen.astype(np.float32), result[n, :, y, x].astype(np.float32)

    def _padded(self, data: Tensor, height: int, width: int) -> Tensor:
        before, after = [], []
        for axis, out in enumerate((height, width)):
            reach = (self.kernel[axis] - 1) * self.dilations[axis] + 1
            total = max(0, (out - 1) * self.strides[axis] + reach - data.shape[2 + axis])
            if self.auto_pad in ("SAME_UPPER", "SAME_LOWER"):
                first = total // 2 if self.auto_pad == "SAME_UPPER" else total - total // 2
            else:
                first = 0 if self.auto_pad == "VALID" else self.pads[axis]
            before.append(first)
            after.append(max(0, total - first))
        return np.pad(data, ((0, 0), (0, 0), *zip(before, after, strict=True)))


def layer_of(node: onnx.NodeProto, weight: Tensor) -> Layer | None:
    """The layer that a node is; None for other nodes, and for those that are not y = W x + b.

    :param weight: its second input
    """
    attributes = attributes_of(node)
    if weight.dtype.kind != "f" or node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Conv" and weight.ndim == 4:
        return Layer(
            node.output[0],
            node.input[0],
            attributes.get("group", 1),
            tuple(weight.shape[2:]),
            tuple(attributes.get("strides", (1, 1))),
            tuple(attributes.get("dilations", (1, 1))),
            tuple(attributes.get("pads", (0, 0, 0, 0))),
            attributes.get("auto_pad", b"NOTSET").decode(),
        )
    plain = attributes.get("alpha", 1.0) == 1.0 and attributes.get("beta", 1.0) == 1.0
    if node.op_type == "Gemm" and plain and not attributes.get("transA", 0):
        return Layer(node.output[0], node.input[0], transposed=not attributes.get("transB", 0))
    if node.op_type == "MatMul" and weight.ndim == 2:
        return Layer(node.output[0], node.input[0], transposed=True, biased=False)
    return None
