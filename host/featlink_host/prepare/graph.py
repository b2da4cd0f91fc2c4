"""A network as a graph of data tensors: which of them alone carry everything from the input to the outputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import numpy_helper, shape_inference

from featlink_codec.errors import SettingsError

from ..inference import one_line
from .settled import settled

#: Operators whose results are never negative, whatever goes in.
NON_NEGATIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Softplus", "Abs", "Exp", "Sqrt"})
#: Operators that are not negative where none of their inputs is.
KEEPS_SIGN = frozenset(
    (
        "Identity",
        "MaxPool",
        "AveragePool",
        "GlobalMaxPool",
        "GlobalAveragePool",
        "Transpose",
        "Flatten",
        "Concat",
        "Add",
        "Mul",
    )
)
#: The same, but only the first input is data.
KEEPS_SIGN_OF_FIRST = frozenset(("Reshape", "Squeeze", "Unsqueeze", "Dropout", "Cast"))


@dataclass(frozen=True)
class Cut:
    """A tensor that everything from the input to the outputs goes through: a network can be split there.

    :param name: the tensor
    :param shape: its axes, None where the network leaves one open; None where nothing is known
    :param dtype: NumPy's name of its type, empty where unknown
    :param operator: what makes it, e.g. "Clip"
    :param non_negative: it cannot be negative, told from the operator
    :param position: place of the operator in the graph
    """

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str
    operator: str
    non_negative: bool
    position: int

    def __str__(self) -> str:
        shape = "x".join("?" if axis is None else str(axis) for axis in self.shape) if self.shape else "unknown shape"
        return f"{self.name}  {shape} {self.dtype or 'unknown type'}, {self.operator}"


@dataclass(frozen=True)
class TensorType:
    """Shape (None for an open axis, or as a whole where unknown) and NumPy type name (empty where unknown)."""

    shape: tuple[int | None, ...] | None
    dtype: str


class DataGraph:
    """The tensors that depend on a network's input; weights and what is made of weights alone do not count.

    :param model: an ONNX model in memory
    :param name: what to call it in messages
    :raises SettingsError: no data input, several of them, or no output
    """

    def __init__(self, model: onnx.ModelProto, name: str = "model") -> None:
        self.name = name
        self.model = _infer(model, name)
        graph = self.model.graph
        weights = {tensor.name for tensor in graph.initializer}
        weights |= {tensor.values.name for tensor in graph.sparse_initializer}
        inputs = [value.name for value in graph.input if value.name not in weights]
        if len(inputs) != 1:
            found = f"{len(inputs)} data inputs ({', '.join(inputs)})" if inputs else "no data input"
            raise SettingsError(f"{name}: found {found}, expected exactly one: only such a network can be split")
        if not graph.output:
            raise SettingsError(f"{name}: found no output")
        self.input: str = inputs[0]
        self.outputs: list[str] = [value.name for value in graph.output]
        #: of each operator that works on data: its data inputs, one entry a use, and its outputs
        self._edges: list[tuple[list[str], list[str]]] = []
        #: of each data tensor: the operator that makes it
        self._maker: dict[str, int] = {}
        data = {self.input}
        for index, node in enumerate(graph.node):
            used = [tensor for tensor in _used(node) if tensor in data]
            made = [tensor for tensor in node.output if tensor] if used else []
            self._edges.append((used, made))
            data.update(made)
            self._maker.update(dict.fromkeys(made, index))
        self._types = _types(self.model)
        self._non_negative = self._find_non_negative()
        self._into, self._onward = self._count_paths()
        self._cuts = self._find_cuts()

    @property
    def cuts(self) -> list[Cut]:
        """Every tensor that alone separates the input from the outputs, in graph order, input and outputs left out."""
        return self._cuts

    @property
    def tensors(self) -> list[str]:
        """Every data tensor that an operator makes, in graph order."""
        return list(self._maker)

    @property
    def edges(self) -> list[tuple[list[str], list[str]]]:
        """Of each operator in graph order: its data inputs, one entry a use, and its outputs if it works on data."""
        return self._edges

    @property
    def non_negative(self) -> set[str]:
        """Every tensor that is known not to be negative."""
        return self._non_negative

    def type_of(self, tensor: str) -> TensorType:
        """Shape and type, as far as shape inference tells."""
        return self._types.get(tensor, TensorType(None, ""))

    def is_used(self, tensor: str) -> bool:
        """Whether an output depends on it."""
        return self._onward.get(tensor, 0) > 0

    def crossing(self, tensor: str) -> list[str]:
        """What else would have to be sent if everything that `tensor` is made from were on the near side."""
        near = {self.input, tensor}
        for used, made in reversed(self._edges):
            if near.intersection(made):
                near.update(used)
                near.update(made)
        wanted = set(self.outputs)
        crossing: dict[str, None] = {}
        for used, made in reversed(self._edges):
            if not wanted.intersection(made):
                continue
            if near.issuperset(made):
                continue
            wanted.update(used)
            crossing.update(dict.fromkeys(one for one in used if one in near))
        crossing.update(dict.fromkeys(one for one in self.outputs if one in near))
        order = {name: place for place, name in enumerate([self.input, *self._maker])}
        return sorted(crossing.keys() - {tensor}, key=lambda one: order.get(one, -1))

    def near(self, tensor: str, count: int = 4, non_negative: bool = False) -> list[Cut]:
        """The cuts nearest to a tensor, half before and half after it where there are as many, in graph order.

        :param non_negative: only cuts that are known never to be negative
        """
        here = self._maker.get(tensor, -1)
        fitting = [cut for cut in self._cuts if cut.name != tensor and (cut.non_negative or not non_negative)]
        before = [cut for cut in fitting if cut.position <= here]
        after = [cut for cut in fitting if cut.position > here]
        late = min(len(after), max(count // 2, count - len(before)))
        early = min(len(before), count - late)
        return before[len(before) - early :] + after[:late]

    def _count_paths(self) -> tuple[dict[str, int], dict[str, int]]:
        """Of each data tensor: how many ways lead to it from the input, and from it to the outputs (exact integers)."""
        into = {self.input: 1}
        for used, made in self._edges:
            paths = sum(into[tensor] for tensor in used)
            into.update(dict.fromkeys(made, paths))
        onward = {tensor: self.outputs.count(tensor) for tensor in into}
        for used, made in reversed(self._edges):
            paths = sum(onward[tensor] for tensor in made)
            for tensor in used:
                onward[tensor] += paths
        return into, onward

    def _find_cuts(self) -> list[Cut]:
        """A tensor is a cut if every way from the input to an output goes through it."""
        every = self._onward[self.input]
        cuts = []
        for tensor, position in self._maker.items():
            if every and self._into[tensor] * self._onward[tensor] == every and tensor not in self.outputs:
                kind = self.type_of(tensor)
                operator = self.model.graph.node[position].op_type
                cuts.append(Cut(tensor, kind.shape, kind.dtype, operator, tensor in self._non_negative, position))
        return cuts

    def _find_non_negative(self) -> set[str]:
        """Every tensor that is known not to be negative: weights by their values, data by the operators."""
        graph = self.model.graph
        weights = {tensor.name: tensor for tensor in graph.initializer}
        found: set[str] = set()

        def positive(tensor: str) -> bool:
            return tensor in found or (tensor in weights and bool((numpy_helper.to_array(weights[tensor]) >= 0).all()))

        for node in graph.node:
            if node.op_type == "Constant":
                weights.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
                good = False
            elif node.op_type == "Clip":
                low = next((attribute.f for attribute in node.attribute if attribute.name == "min"), None)
                good = positive(node.input[0]) or (
                    len(node.input) > 1 and node.input[1] != "" and positive(node.input[1])
                )
                good = good or (low is not None and low >= 0)
            elif node.op_type in KEEPS_SIGN_OF_FIRST:
                good = positive(node.input[0])
            else:
                kept = node.op_type in KEEPS_SIGN and all(positive(tensor) for tensor in node.input if tensor)
                good = node.op_type in NON_NEGATIVE or kept
            if good:
                found.update(tensor for tensor in node.output if tensor)
        return found


def load_model(path: Path | str) -> onnx.ModelProto:
    """An ONNX model from its file.

    :raises SettingsError: no such file, or not a valid ONNX model
    """
    path = Path(path)
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}") from None
    except Exception as error:  # protobuf's DecodeError, onnx's ValidationError and others: they share no base
        raise SettingsError(f"{path}: not a valid ONNX model: {one_line(error)}") from None
    return model


def _infer(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    try:
        found = shape_inference.infer_shapes(model, strict_mode=False, data_prop=True)
        if (plain := settled(found)) is not None:
            inferred = shape_inference.infer_shapes(plain, strict_mode=False, data_prop=True).graph
            known = {value.name for value in inferred.value_info}
            rest = [value for value in found.graph.value_info if value.name not in known]
            for field, values in (("value_info", [*inferred.value_info, *rest]), ("output", [*inferred.output])):
                found.graph.ClearField(field)
                getattr(found.graph, field).extend(values)
        return found
    except (shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise SettingsError(f"{name}: shapes cannot be inferred: {one_line(error)}") from None


def _used(node: onnx.NodeProto) -> Iterator[str]:
    """What an operator reads, with what its inner graphs (If, Loop, Scan) read from outside."""
    yield from (tensor for tensor in node.input if tensor)
    for attribute in node.attribute:
        for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            own = {value.name for value in inner.input} | {tensor.name for tensor in inner.initializer}
            for inner_node in inner.node:
                yield from (tensor for tensor in _used(inner_node) if tensor not in own)
                own.update(inner_node.output)
            yield from (value.name for value in inner.output if value.name not in own)


def _types(model: onnx.ModelProto) -> dict[str, TensorType]:
    graph = model.graph
    found: dict[str, TensorType] = {}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        kind = value.type.tensor_type
        shape: tuple[int | None, ...] | None = None
        if kind.HasField("shape"):
            shape = tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in kind.shape.dim)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name if kind.elem_type else ""
        found[value.name] = TensorType(shape, dtype)
    return found
