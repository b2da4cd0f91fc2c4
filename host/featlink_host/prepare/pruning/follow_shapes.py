"""How channels go through operators that join, flatten, cut or stretch maps."""

from __future__ import annotations

import math

import numpy as np
import onnx

from .channels import Ids
from .following import Following, Unfollowed
from .weights import attributes_of


class ShapeRules(Following):
    """Rules: from a node to the channels of its first output."""

    def _concat(self, node: onnx.NodeProto) -> Ids:
        known = [self._read(name) for name in node.input]
        axes = {self.rank[name] for name in node.input}
        axis = attributes_of(node)["axis"]
        if len(axes) == 1 and axis < 0:
            axis += next(iter(axes))
        if axis == 1:
            return np.concatenate(known)
        if axis == 0 or len({len(one) for one in known}) != 1:
            raise Unfollowed(f"joins tensors along axis {axis}")
        for one in known[1:]:
            self.ledger.tie(known[0], one)
        return known[0]

    def _flatten(self, node: onnx.NodeProto) -> Ids:
        shape = self._shape(node.input[0])
        axis = attributes_of(node).get("axis", 1)
        if axis not in (1, 1 - len(shape)):
            raise Unfollowed(f"flattens from axis {axis} on")
        return self._flat(node.input[0])

    def _flat(self, name: str) -> Ids:
        """The channels when all axes after them become places of one."""
        places = self._shape(name)[2:]
        if any(side is None for side in places):
            raise Unfollowed("flattens a map of unknown size")
        return np.repeat(self._read(name), math.prod(side for side in places if side is not None))

    def _reshape(self, node: onnx.NodeProto) -> Ids:
        before, target = self._shape(node.input[0]), self._constant(node, 1).reshape(-1).tolist()
        read = self._read(node.input[0])
        if attributes_of(node).get("allowzero", 0) or len(target) < 2 or target[0] not in (0, -1, before[0] or 1):
            raise Unfollowed(f"makes the shape {target}")
        flat = self._flat(node.input[0]) if len(target) == 2 else read
        rest = [side for side in target[2:] if side != 1]
        small = all(side == 1 for side in before[2:])
        if len(target) == 2 and target[1] in (-1, len(flat)):
            made = flat
        elif small and not rest and target[1] in (-1, 0, len(read)):
            made = read
        else:
            raise Unfollowed(f"makes the shape {target}")
        if target[1] > 0:
            self.reshaped[node.output[0]] = (1, made)
        return made

    def _axes(self, node: onnx.NodeProto, rank: int) -> list[int]:
        found = attributes_of(node).get("axes")
        if found is None:
            if len(node.input) < 2 or not node.input[1]:
                raise Unfollowed("names no axes")
            found = self._constant(node, 1).reshape(-1).tolist()
        return [axis + rank if axis < 0 else axis for axis in found]

    def _squeeze(self, node: onnx.NodeProto) -> Ids:
        read = self._read(node.input[0])
        axes = self._axes(node, len(self._shape(node.output[0] if node.op_type == "Unsqueeze" else node.input[0])))
        if any(axis < 2 for axis in axes):
            raise Unfollowed(f"moves axes {axes}")
        return read

    def _reduce(self, node: onnx.NodeProto) -> Ids:
        read = self._read(node.input[0])
        if any(axis < 2 for axis in self._axes(node, len(self._shape(node.input[0])))):
            raise Unfollowed("sums up over channels or samples")
        return read

    def _pad(self, node: onnx.NodeProto) -> Ids:
        read = self._read(node.input[0])
        found = attributes_of(node).get("pads")
        pads = list(found) if found is not None else self._constant(node, 1).reshape(-1).tolist()
        rank = len(self._shape(node.input[0]))
        if len(pads) != 2 * rank or any(pads[place] for place in (0, 1, rank, rank + 1)):
            raise Unfollowed("pads channels or samples")
        return read

    def _resize(self, node: onnx.NodeProto) -> Ids:
        read = self._read(node.input[0])
        if len(node.input) > 3 and node.input[3]:
            raise Unfollowed("names the size of its result")
        place = 2 if len(node.input) > 2 else 1
        scales = self._constant(node, place).reshape(-1).tolist()
        if len(scales) != len(self._shape(node.input[0])) or scales[:2] != [1, 1]:
            raise Unfollowed(f"scales by {scales}")
        return read
