"""Structured pruning: whole channels go, the graph gets narrower."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from featlink_codec.errors import SettingsError

from ..scoring import Judge
from .channels import Channels
from .choice import by_budget, by_share
from .follow import channels_of
from .importance import KINDS, MEASURED, importance
from .refit import Refit, refit
from .removal import masked, remove, verify
from .sizes import Size, budget_of, layer_macs, size_of
from .weights import Weights, label_of

Progress = Callable[[str, int, int], None]
#: Samples for importances, refit and comparison, unless told otherwise.
CALIBRATION = 512


@dataclass(frozen=True)
class ChannelOptions:
    """How channels are taken out.

    :param channels: share of every group that goes; or
    :param budget_macs: MACs that may be left, a share of all up to 1, else a number: channels go across all groups
    :param importance: one of `importance.KINDS`; empty: contribution with samples, else l2
    :param refit: the layers behind are fitted anew by least squares, where there are samples
    :param multiple: what is left of a group is a multiple, where it can be
    :param most: with a budget: share of a group that may go
    :param keep: layers that keep all their channels
    :param calibration: samples for importances and refit
    """

    channels: float | None = None
    budget_macs: float | None = None
    importance: str = ""
    refit: bool = True
    multiple: int = 1
    most: float = 0.75
    keep: tuple[str, ...] = ()
    calibration: int = CALIBRATION

    def __post_init__(self) -> None:
        if (self.channels is None) == (self.budget_macs is None):
            raise SettingsError("channels: expected a share of channels or a budget of MACs, one of them")
        if self.importance and self.importance not in KINDS:
            raise SettingsError(f"importance: found {self.importance!r}, expected one of {', '.join(KINDS)}")
        if self.calibration < 1:
            raise SettingsError(f"calibration: found {self.calibration}, expected at least 1 sample")


@dataclass(frozen=True)
class LayerChange:
    """A layer before and after.

    :param macs: for one sample
    """

    name: str
    operator: str
    shape_before: tuple[int, ...]
    shape_after: tuple[int, ...]
    macs_before: int
    macs_after: int


@dataclass(frozen=True)
class PrunedChannels:
    """A network with fewer channels.

    :param removed: of each group: channels that are gone, and channels there were
    :param whole: groups that nothing could be taken out of, and why
    :param deviation: largest difference from the network with those channels set to zero, before the refit, over the
        largest output; None: without samples it was not looked at
    :param refit: None: none was asked for
    """

    model: onnx.ModelProto = field(repr=False)
    importance: str
    removed: dict[str, tuple[int, int]]
    whole: dict[str, str]
    layers: tuple[LayerChange, ...]
    deviation: float | None
    refit: Refit | None
    before: Size
    after: Size

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "importance": self.importance,
            "before": self.before.figures(),
            "after": self.after.figures(),
            "groups": {name: {"removed": gone, "of": whole} for name, (gone, whole) in self.removed.items()},
            "whole": self.whole,
            "deviation_from_zeroed": self.deviation,
            "refit": None if self.refit is None else {"fitted": len(self.refit.fitted), "left": self.refit.left},
        }


def prune_channels(
    model: onnx.ModelProto, judge: Judge | None, options: ChannelOptions, progress: Progress | None = None
) -> PrunedChannels:
    """Take the least important channels out of a network.

    The result is compared with the network with those channels set to zero where they are read; then the layers behind
    are fitted anew. Samples are the judge's, `calibration` of them, gone through batch by batch.

    :param judge: None: norms as importances, no refit
    :raises SettingsError: the options do not fit the network, or there are no samples for what needs them
    :raises FeatlinkError: the result is not the same as the network with zeros
    """
    kind = options.importance or ("l2" if judge is None else "contribution")
    if judge is None and (kind in MEASURED):
        raise SettingsError(f"importance {kind!r} needs images")
    batches = None if judge is None else batches_of(judge, options.calibration)
    fitting = options.refit and batches is not None
    channels = channels_of(model)
    if not any(len(group.units) for group in channels.groups):
        why = "; ".join(f"{name}: {reason}" for name, reason in list(channels.whole.items())[:3])
        raise SettingsError(f"found no channels that can be taken out ({why or 'no layer with constant weights'})")
    before = size_of(model)
    scores = importance(model, channels, kind, batches, centred=fitting, progress=progress)
    if options.channels is not None:
        removed = by_share(channels, scores, options.channels, multiple=options.multiple, keep=options.keep)
    else:
        assert options.budget_macs is not None
        budget = budget_of(options.budget_macs, sum(layer_macs(model).values()))
        removed = by_budget(
            model, channels, scores, budget, multiple=options.multiple, most=options.most, keep=options.keep
        )
    pruned = remove(model, channels, removed)
    deviation = None
    if batches is not None:
        inputs = next(batches())
        deviation = verify(pruned, masked(model, channels, removed), inputs)
    fitted = None
    if fitting and batches is not None and removed:
        fitted = refit(model, pruned, batches, rows=_rows(channels, removed), progress=progress)
    return PrunedChannels(
        pruned,
        kind,
        {
            group.name: (len(removed.intersection(group.units.tolist())), len(group.units) + len(group.kept))
            for group in channels.groups
        },
        channels.whole,
        changes(model, pruned),
        deviation,
        fitted,
        before,
        size_of(pruned),
    )


def batches_of(judge: Judge, limit: int) -> Callable[[], Iterator[Mapping[str, NDArray[Any]]]]:
    """A judge's inputs, so many of them, to be gone through again and again."""

    def batches() -> Iterator[Mapping[str, NDArray[Any]]]:
        # A judge of fewer samples than the limit gives those that it has.
        yield from judge.batches(min(limit, judge.samples))

    return batches


def changes(before: onnx.ModelProto, after: onnx.ModelProto) -> tuple[LayerChange, ...]:
    """Convolutions and products of both networks, matched by their outputs; one that is new had no weights."""
    macs_before, macs_after = layer_macs(before), layer_macs(after)
    old, new = Weights(before), Weights(after)
    nodes = {node.output[0]: node for node in before.graph.node if node.output}
    found = []
    for node in after.graph.node:
        if not node.output or node.output[0] not in macs_after:
            continue
        name = node.output[0]
        was = nodes.get(name)
        found.append(
            LayerChange(
                label_of(node),
                node.op_type,
                () if was is None else _shape(old, was),
                _shape(new, node),
                macs_before.get(name, 0),
                macs_after[name],
            )
        )
    return tuple(found)


def _shape(weights: Weights, node: onnx.NodeProto) -> tuple[int, ...]:
    values = weights.values(node.input[1])
    return () if values is None else values.shape


def _rows(channels: Channels, removed: set[int]) -> dict[str, NDArray[np.intp]]:
    """Of each layer that lost outputs: which are left."""
    gone = channels.gone(removed)
    found = {}
    for one in channels.slices:
        outputs = one.role == "makes" or (one.role == "beside" and one.node in channels.depthwise)
        if outputs and one.position == 1 and gone[one.ids].any():
            found[one.node] = np.flatnonzero(~gone[one.ids])
    return found
