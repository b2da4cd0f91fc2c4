"""A network with levels in it: QuantizeLinear and DequantizeLinear around what is to be computed in integers (QDQ)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from featlink_codec.errors import SettingsError

from .affine import Affine
from .channel_weights import ChannelWeights, channel_weights, coarser, direct
from .histograms import StreamedHistogram, ValuesSeen
from .layers import WeightLayer
from .nodes import Nodes
from .places import Places, Scope, constant_floats, find_places
from .ranges import RangeOptions, quantizer_for
from .room import BIAS_LIMIT, bias_of, least_scales
from .tensors import QuantizedTensor
from .wide import NARROW_BITS, wide_layers

#: Integers that hold weights; int16 only where floats compute with them.
CONTAINERS = {False: (-128, 127), True: (-(1 << 15), (1 << 15) - 1)}
#: Sums below it are exact as float32, too, whatever order they are added in.
FLOAT_WHOLE = 1 << 24


@dataclass(frozen=True)
class QdqOptions:
    """How a network becomes one of integers.

    :param ranges: how activations become levels
    :param scope: "all": everything that can be integer; "layers": only what goes into layers with weights
    :param first_input: the network's input is quantized, too; else the first layer works on it as it is
    :param outputs: the network's outputs are quantized, too
    :param portable: weights without bits of their own are -64..63 rather than -127..127
    :param exact_weights: their scales are powers of two
    :param overrides: quantizers of tensors that are to have these
    :param weight_bits: of weights whose layers work on more than 8 bits, see `wide`: no int8 kernel computes those
    :param plain: weights that stay as they are
    """

    ranges: RangeOptions = field(default_factory=RangeOptions)
    scope: Scope = "all"
    first_input: bool = False
    outputs: bool = False
    portable: bool = True
    exact_weights: bool = False
    overrides: Mapping[str, Affine] = field(default_factory=dict)
    weight_bits: Mapping[str, int] = field(default_factory=dict)
    plain: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class QdqNetwork:
    """What came of it.

    :param model: checked
    :param places: where levels are
    :param quantizers: by tensor; the levels are named as `nodes.levels_name` says
    :param weights: of the layers, by the weights' name; those that are no integers with a scale a channel are left out
    :param plain_weights: layers whose weights are floats on a grid
    :param sums: the greatest magnitude of any sum of each layer, by its output
    :param wide: of weights: those whose layers work on more than 8 bits, see `wide`
    """

    model: onnx.ModelProto
    places: Places
    quantizers: dict[str, Affine]
    weights: dict[str, ChannelWeights]
    plain_weights: list[str]
    sums: dict[str, int]
    wide: frozenset[str] = frozenset()

    @property
    def doubts(self) -> list[str]:
        """Why its levels may differ between machines or settings of onnxruntime; none: they cannot."""
        found = [f"{kind} {name!r} stays float" for name, kind in self.places.floats.items()]
        kinds = {name: node.op_type for node in self.model.graph.node for name in node.output}
        found += [
            f"{kinds[name]} {name!r} is rounded in other places elsewhere"
            for name in kinds
            if kinds[name] in ("AveragePool", "GlobalAveragePool", "LeakyRelu") and name not in self.places.floats
        ]
        found += [
            f"tensor {name!r} has a step that is no power of two"
            for name, one in self.quantizers.items()
            if not one.exact
        ]
        for name, one in self.weights.items():
            if not one.portable() and name not in self.wide:
                found.append(f"weights {name!r} are {one.span[0]}..{one.span[1]}, expected within -64..63")
            if (np.frexp(one.scales)[0] != 0.5).any():
                found.append(f"weights {name!r} have scales that are no powers of two")
        found += [f"weights {name!r} are no integers of 8 bits" for name in self.plain_weights]
        found += [
            f"sums of {name!r} reach {most}, beyond {FLOAT_WHOLE}"
            for name, most in self.sums.items()
            if most >= FLOAT_WHOLE
        ]
        return found


def insert_qdq(
    model: onnx.ModelProto,
    weights: Mapping[str, QuantizedTensor] | None,
    seen: Mapping[str, ValuesSeen],
    options: QdqOptions | None = None,
) -> QdqNetwork:
    """The network with levels: ONNX QDQ, which onnxruntime computes in integers where it has kernels.

    :param model: as `folding.folded` gives it
    :param weights: of layers that are quantized already; None, or a layer missing: 8 bits, a scale for each channel
    :param seen: what the tensors of `find_places` looked like
    :raises SettingsError: a tensor was not looked at, or the network has nothing to quantize
    """
    options = options or QdqOptions()
    places = find_places(model, options.scope, first_input=options.first_input, outputs=options.outputs)
    if missing := [name for name in places.leaders if name not in seen and name not in options.overrides]:
        raise SettingsError(f"tensor {missing[0]!r} was not looked at: calibrate with all of find_places(...).leaders")
    leading = leading_quantizers(places, seen, options)
    quantizers = {name: leading[lead] for name, lead in places.tensors.items()}
    return _Writer(model, places, quantizers, dict(weights or {}), options).write()


def leading_quantizers(places: Places, seen: Mapping[str, ValuesSeen], options: QdqOptions) -> dict[str, Affine]:
    """The quantizers of tensors that lead others."""
    return {name: options.overrides.get(name) or quantizer_for(seen[name], options.ranges) for name in places.leaders}


class _Writer:
    def __init__(
        self,
        model: onnx.ModelProto,
        places: Places,
        quantizers: dict[str, Affine],
        given: dict[str, QuantizedTensor],
        options: QdqOptions,
    ) -> None:
        self.model, self.places, self.quantizers, self.given, self.options = model, places, quantizers, given, options
        self.out = Nodes(model, max((one.bits for one in quantizers.values()), default=8))
        self.constants = {one.name: one for one in model.graph.initializer}
        self.tensors = {n: np.asarray(numpy_helper.to_array(self.constants[n])) for n in places.layers}
        self.weights: dict[str, ChannelWeights] = {}
        self.plain: list[str] = []
        self.sums: dict[str, int] = {}
        #: tensors that operators read under another name
        self.renamed: dict[str, str] = {}
        self.wide = frozenset(wide_layers(model, places, quantizers))

    def write(self) -> QdqNetwork:
        graph = self.model.graph
        data = next((one.name for one in graph.input if one.name in self.quantizers), None)
        if data is not None:
            self.renamed[data] = f"{data}/exact"
            self.out.quantized(data, self.renamed[data], data, self.quantizers[data], None, None)
        fused = {one.node for one in self.places.activations.values()}
        behind = {graph.node[one.node].input[0]: name for name, one in self.places.activations.items()}
        for number, node in enumerate(graph.node):
            if number not in fused:
                self._node(node, behind)
        return QdqNetwork(
            self.out.model(), self.places, self.quantizers, self.weights, self.plain, self.sums, self.wide
        )

    def _node(self, node: onnx.NodeProto, behind: Mapping[str, str]) -> None:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        layer = self._layer_of(node)
        if layer is not None:
            self._layer(copy, layer, behind)
        for name in constant_floats(self.model, node):
            if all(one in self.quantizers for one in node.input if one not in self.constants):
                self._constant(name)
        copy.input[:] = [self.renamed.get(name, name) for name in copy.input]
        made = [behind.get(name, name) for name in node.output]
        copy.output[:] = [f"{name}/float" if name in self.quantizers else name for name in made]
        self.out.add(copy)
        for name in made:
            if name in self.quantizers:
                cut = self.places.activations.get(name)
                low, high = (cut.low, cut.high) if cut is not None else (None, None)
                self.out.quantized(f"{name}/float", name, name, self.quantizers[name], low, high)

    def _layer_of(self, node: onnx.NodeProto) -> WeightLayer | None:
        for name in node.input:
            layer = self.places.layers.get(name)
            if layer is not None and layer.operator == node.op_type and name == node.input[layer.place]:
                return layer
        return None

    def _layer(self, node: onnx.NodeProto, layer: WeightLayer, behind: Mapping[str, str]) -> None:
        data = self.quantizers.get(node.input[1 - layer.place])
        bias = bias_of(node, self.constants)
        found = self._weights(layer, data, bias)
        if found is None and data is not None and data.dtype is not None:
            # onnxruntime would make 8 bits of float weights between levels, one scale for all, without being asked to.
            name = node.input[1 - layer.place]
            node.input[1 - layer.place] = self.out.apart(self.renamed.get(name, name), data)
        if found is None or data is None:
            return
        plain = node.op_type != "Gemm" or all(one.f == 1.0 for one in node.attribute if one.name in ("alpha", "beta"))
        integers = None
        if bias is not None and plain and data.dtype is not None:
            scales = np.float32(data.scale) * found.scales.astype(np.float32)
            integers = np.rint(bias.astype(np.float64) / scales.astype(np.float64)).clip(-BIAS_LIMIT, BIAS_LIMIT)
            name = behind.get(node.output[0], node.output[0])
            node.input[2] = self.out.integer_bias(f"{name}/bias", integers.astype(np.int32), scales)
        most = np.abs(layer.matrix(found.integers)).sum(axis=1) * float(
            max(data.zero_point, data.last - data.zero_point)
        )
        self.sums[node.output[0]] = int((most + (np.abs(integers) if integers is not None else 0)).max())

    def _weights(self, layer: WeightLayer, data: Affine | None, bias: NDArray[Any] | None) -> ChannelWeights | None:
        """Put a layer's weights into the network, once."""
        if layer.name in self.weights or layer.name in self.plain:
            return self.weights.get(layer.name)
        if layer.name in self.options.plain:
            return None
        tensor = self.tensors[layer.name]
        given = self.given.get(layer.name)
        if given is not None:
            found = channel_weights(given)
            least, most = CONTAINERS[layer.name in self.wide]
            if found is None or found.span[0] < least or found.span[1] > most:
                self.plain.append(layer.name)
                self.out.plain_weights(layer.name, given.values().astype(np.float32))
                return None
        else:
            bits, exact = self.options.weight_bits.get(layer.name), self.options.exact_weights
            portable = self.options.portable and bits is None
            found = direct(layer, tensor, bits=bits or NARROW_BITS, portable=portable, exact=exact)
            held = data is not None and data.dtype is not None
            if bias is not None and data is not None and held and len(bias) == len(found.scales):
                found = coarser(layer, found, least_scales(bias, data, exact=exact), tensor)
        self.weights[layer.name] = found
        narrow = found.span[0] >= -128 and found.span[1] <= 127
        integers: NDArray[np.int8] | NDArray[np.int16]
        integers = found.integers.astype(np.int8) if narrow else found.integers.astype(np.int16)
        # Beside anything but 8-bit levels onnxruntime would make 8 bits of a product's inputs without being asked to.
        computed = layer.operator == "MatMul" and (data is None or data.bits != NARROW_BITS)
        scales = found.scales.astype(np.float32)
        self.out.integer_weights(layer.name, integers, scales, layer.axis, computed=computed)
        return found

    def _constant(self, name: str) -> None:
        """A float constant that is added to levels or multiplied by them: levels itself."""
        if name in self.renamed:
            return
        values = np.asarray(numpy_helper.to_array(self.constants[name]))
        histogram = StreamedHistogram()
        histogram.add(values)
        affine = quantizer_for(
            histogram.seen(), RangeOptions("minmax", self.options.ranges.scheme, self.options.ranges.bits)
        )
        self.renamed[name] = self.out.constant_levels(name, values, affine)
