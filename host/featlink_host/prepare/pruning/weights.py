"""A model's constants: read through casts and what is computed of constants, replaced where one node uses them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

Tensor = NDArray[Any]
#: What a constant is handed on through.
HANDS_ON = ("Cast", "Identity")


class Weights:
    """The constants of a model in memory, which is changed in place by `put`.

    Initializers and Constant nodes count, and what is computed of them; constants of subgraphs do not.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        graph = model.graph
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output if name}
        self._uses = Counter(name for node in graph.node for name in reads(node))
        self._uses.update(value.name for value in graph.output)
        self._names = {*self._initializers, *self._makers, *(value.name for value in graph.input), *self._uses}
        self._known: dict[str, Tensor | None] = {}

    def values(self, name: str) -> Tensor | None:
        """What a node sees under that name; None where it is no constant."""
        if name not in self._known:
            self._known[name] = self._find(name)
        return self._known[name]

    def floats(self, name: str) -> Tensor | None:
        """The same where it is of floating point."""
        found = self.values(name)
        return found if found is not None and found.dtype.kind == "f" else None

    def put(self, node: onnx.NodeProto, position: int, values: Tensor) -> None:
        """Give a node other values, in the type in which they are kept; nobody else who uses the tensor sees them.

        :param position: of the node's inputs; one beyond them, or one left out, is added in the type of `values`
        """
        name = node.input[position] if position < len(node.input) else ""
        if not name:
            while len(node.input) <= position:
                node.input.append("")
            node.input[position] = self._add(self._unused(f"{node.output[0]}/{position}"), values)
            return
        chain, stored = self._chain(name)
        values = values.astype(self.stored_type(name))
        alone = all(self._uses[one] == 1 for one in (stored, *(link.output[0] for link in chain)))
        if alone and self._stored(stored) is not None:
            self._write(stored, values)
        else:
            fresh = self._add(self._unused(f"{stored}/{node.output[0]}"), values)
            for link in reversed(chain):
                copy = onnx.NodeProto()
                copy.CopyFrom(link)
                copy.input[0], copy.output[0] = fresh, self._unused(f"{fresh}/{link.op_type}")
                copy.name = copy.output[0]
                place = next(at for at, one in enumerate(self.model.graph.node) if one.output[0] == node.output[0])
                self.model.graph.node.insert(place, copy)
                fresh = copy.output[0]
                self._makers[fresh] = copy
                self._uses[copy.input[0]] += 1
            self._uses[name] -= 1
            self._uses[fresh] += 1
            # Inserting nodes may have moved this one.
            for one in self.model.graph.node:
                if one.output[0] == node.output[0]:
                    one.input[position] = fresh
        self._known.clear()

    def new(self, name: str, values: Tensor) -> str:
        """Add an initializer under that name, or one after it; the name it has."""
        return self._add(self._unused(name), values)

    def stored_type(self, name: str) -> np.dtype[Any]:
        """The type in which a constant is kept: float16 behind a Cast stays float16."""
        return np.asarray(self._base(self._chain(name)[1])).dtype

    def _find(self, name: str) -> Tensor | None:
        chain, stored = self._chain(name)
        found = self._base(stored)
        for link in reversed(chain):
            if found is None:
                break
            if link.op_type == "Cast":
                to = next((attribute.i for attribute in link.attribute if attribute.name == "to"), 0)
                found = found.astype(helper.tensor_dtype_to_np_dtype(to))
        return found

    def _base(self, name: str) -> Tensor | None:
        """What is stored under a name, or computed of constants."""
        found = self._stored(name)
        maker = self._makers.get(name)
        if found is not None or maker is None or maker.op_type == "Constant" or "Random" in maker.op_type:
            return found
        inputs = {one: self.values(one) for one in maker.input if one}
        if any(attribute.HasField("g") for attribute in maker.attribute):
            return None
        if not inputs or any(values is None for values in inputs.values()):
            return None
        try:
            evaluator = ReferenceEvaluator(maker, opsets={one.domain: one.version for one in self.model.opset_import})
            results: Any = evaluator.run(None, inputs)
        except Exception:  # an operator that the reference does not know: then it is no constant for us
            return None
        return np.asarray(results[list(maker.output).index(name)])

    def _chain(self, name: str) -> tuple[list[onnx.NodeProto], str]:
        """The nodes that hand a constant on, the last one first, and where it comes from."""
        chain = []
        while (maker := self._makers.get(name)) is not None and maker.op_type in HANDS_ON:
            chain.append(maker)
            name = maker.input[0]
        return chain, name

    def _stored(self, name: str) -> Tensor | None:
        if name in self._initializers:
            return np.asarray(numpy_helper.to_array(self._initializers[name]))
        maker = self._makers.get(name)
        if maker is None or maker.op_type != "Constant" or maker.domain not in ("", "ai.onnx"):
            return None
        for attribute in maker.attribute:
            if attribute.name == "value":
                return np.asarray(numpy_helper.to_array(attribute.t))
            if attribute.name in ("value_float", "value_floats"):
                return np.array(helper.get_attribute_value(attribute), np.float32)
            if attribute.name in ("value_int", "value_ints"):
                return np.array(helper.get_attribute_value(attribute), np.int64)
        return None

    def _write(self, name: str, values: Tensor) -> None:
        proto = numpy_helper.from_array(np.ascontiguousarray(values), name)
        if name in self._initializers:
            self._initializers[name].CopyFrom(proto)
            for value in self.model.graph.input:
                if value.name == name:  # up to IR version 3 initializers are inputs too
                    value.CopyFrom(helper.make_tensor_value_info(name, proto.data_type, list(proto.dims)))
            return
        maker = self._makers[name]
        del maker.attribute[:]
        maker.attribute.append(helper.make_attribute("value", proto))

    def _add(self, name: str, values: Tensor) -> str:
        self.model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        self._initializers[name] = self.model.graph.initializer[-1]
        if self.model.ir_version < 4:
            proto = self._initializers[name]
            self.model.graph.input.append(helper.make_tensor_value_info(name, proto.data_type, list(proto.dims)))
        self._uses[name] += 1
        return name

    def _unused(self, name: str) -> str:
        number, found = 1, name
        while found in self._names:
            number += 1
            found = f"{name}#{number}"
        self._names.add(found)
        return found


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Every name that a node reads, its subgraphs' among them."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            for one in inner.node:
                yield from reads(one)
            yield from (value.name for value in inner.output)


def tidy(model: onnx.ModelProto) -> None:
    """Take out constants that nobody reads any more, and shapes that may not hold any more."""
    graph = model.graph
    del graph.value_info[:]
    wanted = {value.name for value in graph.output}
    while True:
        read = wanted | {name for node in graph.node for name in reads(node)}
        idle = [
            node
            for node in graph.node
            if node.op_type in ("Constant", *HANDS_ON) and not read.intersection(node.output)
        ]
        if not idle:
            break
        for node in idle:
            graph.node.remove(node)
    unread = [tensor for tensor in graph.initializer if tensor.name not in read]
    gone = {tensor.name for tensor in unread}
    for tensor in unread:
        graph.initializer.remove(tensor)
    for value in [value for value in graph.input if value.name in gone]:
        graph.input.remove(value)


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by name."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def label_of(node: onnx.NodeProto) -> str:
    """What to call a node: its name, or its first output's."""
    return node.name or (node.output[0] if node.output else node.op_type)
