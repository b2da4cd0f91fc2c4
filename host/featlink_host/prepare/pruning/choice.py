"""Which channels go: a share of every group, or across all groups until a budget of MACs is met."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np
import onnx

from featlink_codec.errors import SettingsError

from .channels import Channels, Group
from .importance import Scores
from .sizes import layer_macs


def by_share(
    channels: Channels, scores: Scores, share: float, *, multiple: int = 1, keep: Collection[str] = ()
) -> set[int]:
    """The least important units of every group.

    :param share: of each group's channels, 0 to less than 1
    :param multiple: what is left of a group is rounded up to such a number, where it can be
    :param keep: names of groups, or of any of their layers, that stay whole
    """
    if not 0 <= share < 1:
        raise SettingsError(f"share of channels: found {share:g}, expected 0 to less than 1")
    if multiple < 1:
        raise SettingsError(f"multiple: found {multiple}, expected at least 1")
    removed: set[int] = set()
    for group in _free(channels, keep):
        whole = len(group.units) + len(group.kept)
        left = math.ceil(round(whole * (1 - share), 6) / multiple) * multiple
        removed |= _least(group, scores, max(0, whole - left))
    return removed


def by_budget(
    model: onnx.ModelProto,
    channels: Channels,
    scores: Scores,
    budget: int,
    *,
    multiple: int = 1,
    most: float = 0.75,
    keep: Collection[str] = (),
) -> set[int]:
    """Units across all groups, least importance for each MAC that they save first, until a budget is met.

    :param budget: MACs of the whole network
    :param multiple: as in `by_share`: steps of so many channels
    :param most: share of a group that may go
    :raises SettingsError: the budget is below what can be reached
    """
    if not 0 < most < 1:
        raise SettingsError(f"most: found {most:g}, expected a share between 0 and 1")
    costs = _Costs(model, channels)
    removed: set[int] = set()
    steps: list[tuple[float, list[int]]] = []
    for group in _free(channels, keep):
        whole = len(group.units) + len(group.kept)
        allowed = _least(group, scores, int(whole * most))
        order = sorted(allowed, key=lambda unit: (scores[unit], unit))
        saved = costs.saved(order[0]) if order else 0.0
        # The first step also makes the number even.
        first = whole % multiple or multiple
        at = 0
        while at + (size := first if at == 0 else multiple) <= len(order):
            part = order[at : at + size]
            steps.append((sum(scores[unit] for unit in part) / max(saved * len(part), 1e-9), part))
            at += size
    # Steps of one group come in their order: what each of their channels matters only grows.
    for _, part in sorted(steps, key=lambda step: step[0]):
        if costs.now <= budget + 0.5:
            break
        for unit in part:
            costs.remove(unit)
        removed.update(part)
    if costs.now > budget + 0.5:
        raise SettingsError(
            f"budget of {budget} MACs: with at most {most:.0%} of each group's channels gone "
            f"{round(costs.now)} are left of {round(costs.whole)}"
        )
    return removed


class _Costs:
    """MACs while channels go: a layer's fall with the shares of its inputs and of its outputs that are left."""

    def __init__(self, model: onnx.ModelProto, channels: Channels) -> None:
        macs = layer_macs(model)
        self.whole = self.now = float(sum(macs.values()))
        self._macs = {name: float(one) for name, one in macs.items()}
        #: of each unit: the axes of layers where it has places, and how many
        self._places: dict[int, list[tuple[tuple[str, int], int]]] = {}
        self._left: dict[tuple[str, int], list[int]] = {}
        for one in channels.slices:
            if one.node not in macs or one.position != 1:
                continue
            key = (one.node, one.axis)
            self._left[key] = [len(one.ids), len(one.ids)]
            units, counts = np.unique(channels.unit_of[one.ids], return_counts=True)
            for unit, count in zip(units.tolist(), counts.tolist(), strict=True):
                self._places.setdefault(unit, []).append((key, count))
        self._axes: Mapping[str, list[tuple[str, int]]] = {
            name: [key for key in self._left if key[0] == name] for name in macs
        }

    def _macs_of(self, name: str, less: Mapping[tuple[str, int], int]) -> float:
        found = self._macs[name]
        for key in self._axes[name]:
            left, whole = self._left[key]
            found *= (left - less.get(key, 0)) / whole
        return found

    def saved(self, unit: int) -> float:
        """MACs that one more unit saves."""
        less = dict(self._places.get(unit, []))
        names = {name for name, _ in less}
        return sum(self._macs_of(name, {}) - self._macs_of(name, less) for name in names)

    def remove(self, unit: int) -> None:
        """It goes."""
        self.now -= self.saved(unit)
        for key, count in self._places.get(unit, []):
            self._left[key][0] -= count


def _free(channels: Channels, keep: Collection[str]) -> list[Group]:
    names = {name for group in channels.groups for name in group.makers}
    if unknown := [name for name in keep if name not in names]:
        raise SettingsError(
            f"keep: found no layer {unknown[0]!r} that makes channels; there are {', '.join(sorted(names))}"
        )
    return [group for group in channels.groups if len(group.units) and not set(keep).intersection(group.makers)]


def _least(group: Group, scores: Scores, count: int) -> set[int]:
    """So many of a group's least important units; each layer keeps one at least."""
    left = [len(block) for block in group.blocks]
    members: dict[int, list[int]] = {}
    for at, block in enumerate(group.blocks):
        for unit in block.tolist():
            members.setdefault(unit, []).append(at)
    found: set[int] = set()
    for unit in sorted(group.units.tolist(), key=lambda unit: (scores[unit], unit)):
        if len(found) == count:
            break
        if all(left[at] > 1 for at in members[unit]):
            found.add(unit)
            for at in members[unit]:
                left[at] -= 1
    return found
