"""The operators that quantize and dequantize, written into a graph one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from featlink_codec.errors import SettingsError

from ...inference import one_line
from .affine import Affine
from .folding import LEAST_OPSET, WIDE_OPSET


def levels_name(tensor: str) -> str:
    """What the levels of a tensor are called."""
    return f"{tensor}/levels"


class Nodes:
    """A graph that is written anew, its inputs, outputs and constants taken from another.

    :param model: what it is made of
    :param bits: of the widest levels in it
    """

    def __init__(self, model: onnx.ModelProto, bits: int = 8) -> None:
        self._model, self._bits = model, bits
        self._nodes: list[onnx.NodeProto] = []
        self._values: dict[str, NDArray[Any]] = {}
        self._apart: set[str] = set()
        #: constants that are no more
        self._gone: set[str] = set()

    def add(self, node: onnx.NodeProto) -> None:
        """An operator as it is."""
        self._nodes.append(node)

    def quantized(self, given: str, out: str, name: str, affine: Affine, low: float | None, high: float | None) -> None:
        """Levels of `given`, and what they stand for as `out`.

        :param name: what the constants and the levels are called after
        :param low: numbers below are cut off (None: the quantizer's end)
        """
        if affine.dtype is None:
            self._simulated(given, out, name, affine, low, high)
            return
        scale, zero = f"{name}/step", f"{name}/zero"
        self._values[scale] = np.array(affine.scale, np.float32)
        self._values[zero] = np.array(affine.zero_point, affine.dtype)
        least, most = 0, affine.last
        if low is not None:
            least = max(least, affine.level(low))
        if high is not None:
            most = min(most, affine.level(high))
        levels = levels_name(name)
        cut = (least, most) != (0, int(np.iinfo(affine.dtype).max))
        # 8-bit levels are cut off as levels, which is exact; Clip has no 16-bit integers.
        whole = cut and affine.bits == 8
        if cut and not whole:
            ends = affine.dequantize(np.array([least, most]))
            given = self._clip(given, f"{name}/inside", ends.astype(np.float32), name)
        uncut = f"{name}/uncut" if whole else levels
        self._nodes.append(helper.make_node("QuantizeLinear", [given, scale, zero], [uncut], uncut))
        if whole:
            self._clip(uncut, levels, np.array([least, most], affine.dtype), name)
        self._nodes.append(helper.make_node("DequantizeLinear", [levels, scale, zero], [out], f"{name}/dequantize"))

    def integer_weights(
        self,
        name: str,
        integers: NDArray[np.int8] | NDArray[np.int16],
        scales: NDArray[np.float32],
        axis: int | None,
        *,
        computed: bool = False,
    ) -> None:
        """A layer's weights as int8 or int16; the layer reads them under their old name.

        :param computed: as integers times scales, which onnxruntime does once and for all, rather than dequantized: the
            same numbers, which it does not take for weights of integer kernels
        """
        self._gone.add(name)
        levels, step, zero = levels_name(name), f"{name}/steps", f"{name}/zeros"
        if computed:
            sides = [-1 if place == axis else 1 for place in range(integers.ndim)]
            self._values.update({levels: integers, step: scales.reshape(sides)})
            wide = f"{name}/wide"
            self._nodes.append(helper.make_node("Cast", [levels], [wide], wide, to=TensorProto.FLOAT))
            self._nodes.append(helper.make_node("Mul", [wide, step], [name], f"{name}/dequantize"))
            return
        self._values.update({levels: integers, step: scales, zero: np.zeros(scales.shape, integers.dtype)})
        self._nodes.append(
            helper.make_node("DequantizeLinear", [levels, step, zero], [name], f"{name}/dequantize", axis=axis)
        )

    def plain_weights(self, name: str, values: NDArray[np.float32]) -> None:
        """A layer's weights as other floats."""
        self._values[name] = values

    def integer_bias(self, name: str, integers: NDArray[np.int32], scales: NDArray[np.float32]) -> str:
        """A layer's bias as int32 in units of its sums; what the layer reads it as."""
        zeros = np.zeros(scales.shape, np.int32)
        self._values.update({levels_name(name): integers, f"{name}/steps": scales, f"{name}/zeros": zeros})
        given = [levels_name(name), f"{name}/steps", f"{name}/zeros"]
        self._nodes.append(helper.make_node("DequantizeLinear", given, [name], f"{name}/dequantize", axis=0))
        return name

    def constant_levels(self, name: str, values: NDArray[Any], affine: Affine) -> str:
        """A constant as levels; what operators read it as."""
        out = f"{name}/exact"
        if affine.dtype is None:
            self._values[out] = affine.dequantize(affine.quantize(values))
            return out
        step, zero = f"{name}/step", f"{name}/zero"
        self._values.update(
            {
                levels_name(name): affine.quantize(values).astype(affine.dtype),
                step: np.array(affine.scale, np.float32),
                zero: np.array(affine.zero_point, affine.dtype),
            }
        )
        self._nodes.append(
            helper.make_node("DequantizeLinear", [levels_name(name), step, zero], [out], f"{name}/dequantize")
        )
        return out

    def apart(self, tensor: str, affine: Affine) -> str:
        """The same numbers, dequantized ones, as an operator's result: cut off where they end anyway."""
        out = f"{tensor}/apart"
        if out not in self._apart:
            self._apart.add(out)
            self._clip(tensor, out, affine.dequantize(np.array([0, affine.last])), out)
        return out

    def model(self) -> onnx.ModelProto:
        """The network, checked.

        :raises SettingsError: its opset has no type for the levels, or ONNX's checker refuses it
        """
        old = self._model.graph
        read = {name for node in self._nodes for name in node.input} | {one.name for one in old.output}
        kept = [one for one in old.initializer if one.name in read - self._gone - set(self._values)]
        fresh = [numpy_helper.from_array(value, name) for name, value in self._values.items() if name in read]
        graph = helper.make_graph(self._nodes, old.name or "network", old.input, old.output, kept + fresh)
        versions = {one.domain: one.version for one in self._model.opset_import}
        opset = WIDE_OPSET if 8 < self._bits <= 16 else LEAST_OPSET
        model = helper.make_model(
            graph,
            producer_name="featlink",
            opset_imports=[helper.make_opsetid(name, max(number, LEAST_OPSET)) for name, number in versions.items()],
            ir_version=max(self._model.ir_version, 10 if opset == WIDE_OPSET else 7),
        )
        if versions.get("", LEAST_OPSET) < opset:
            raise SettingsError(f"levels of {self._bits} bits need opset {opset}, the network has {versions.get('')}")
        try:
            onnx.checker.check_model(model, full_check=True)
        except Exception as error:  # onnx's checker and its shape inference share no base
            raise SettingsError(f"the ONNX checker refuses the network of integers: {one_line(error)}") from None
        return model

    def _clip(self, given: str, out: str, ends: NDArray[Any], name: str) -> str:
        low, high = f"{name}/least", f"{name}/most"
        self._values.update({low: ends[0], high: ends[1]})
        self._nodes.append(helper.make_node("Clip", [given, low, high], [out], out))
        return out

    def _simulated(
        self, given: str, out: str, name: str, affine: Affine, low: float | None, high: float | None
    ) -> None:
        """Levels that ONNX has no type for, as whole numbers in float64: divided, rounded, cut off, multiplied."""
        least = -affine.zero_point if low is None else affine.level(low) - affine.zero_point
        most = affine.last - affine.zero_point
        if high is not None:
            most = min(most, affine.level(high) - affine.zero_point)
        step = f"{name}/step"
        self._values[step] = np.array(affine.scale, np.float64)
        wide, divided, rounded, inside, back = (
            f"{name}/{word}" for word in ("wide", "divided", "rounded", "inside", "back")
        )
        self._nodes.append(helper.make_node("Cast", [given], [wide], wide, to=TensorProto.DOUBLE))
        self._nodes.append(helper.make_node("Div", [wide, step], [divided], divided))
        self._nodes.append(helper.make_node("Round", [divided], [rounded], rounded))
        self._clip(rounded, inside, np.array([max(least, -affine.zero_point), most], np.float64), name)
        self._nodes.append(helper.make_node("Mul", [inside, step], [back], back))
        self._nodes.append(helper.make_node("Cast", [back], [out], f"{name}/narrow", to=TensorProto.FLOAT))
