"""The survey: every place to split a network, with what each half costs and what would have to be sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import onnx

from featlink_codec.errors import SettingsError

from .calibrate import Progress
from .cut_sets import cut_sets, near_nodes
from .graph import DataGraph
from .macs import count_macs
from .scoring import Judge
from .shapes import fix_shapes
from .survey_measure import Looks, looks_of, time_halves
from .survey_ranking import candidates, ranked_cuts
from .survey_troubles import sign_of, troubles_of

#: A rate estimate is of so many pictures a second unless told otherwise.
DEFAULT_FPS = 10.0
#: Samples whose values are looked at.
DEFAULT_SAMPLES = 16


@dataclass(frozen=True)
class SurveyOptions:
    """What to look for.

    :param budget_ms: most milliseconds of the backbone, on the machine that surveys
    :param budget_kbps: most kilobits a second by the estimate
    :param fps: pictures a second
    :param largest_set: tensors in a set, 1 (none) .. 4
    :param samples: whose values are looked at
    :param runs: of each half, for the median; 0: no times
    :param fixed_shapes: of inputs
    :param standard_only: values below 0, which only adaptive quantizers take, stand in the way
    """

    budget_ms: float | None = None
    budget_kbps: float | None = None
    fps: float = DEFAULT_FPS
    largest_set: int = 3
    samples: int = DEFAULT_SAMPLES
    runs: int = 5
    fixed_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    standard_only: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.largest_set <= 4:
            raise SettingsError(f"tensors in a set: found {self.largest_set}, expected 1 (no sets) .. 4")
        for name in ("budget_ms", "budget_kbps", "fps"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise SettingsError(f"{name}: found {value}, expected a number above 0")
        if self.budget_ms is not None and not self.runs:
            raise SettingsError("a budget of milliseconds needs runs")


@dataclass(frozen=True)
class SurveyedCut:
    """A place to split the network.

    :param tensors: one, or several that together carry everything
    :param shapes: of each
    :param producers: the operator that makes each
    :param consumers: of each: what reads it; several are fine for the split, the head then uses it several times
    :param non_negative: none can be negative, told from the operators
    :param near_macs: of the backbone; None: a shape is open
    :param near_ms: median of the backbone on this machine; None: not measured
    :param raw_bits: of a picture, at 8 bits a value
    :param looks: of the values of each tensor; None: no images
    :param troubles: why it cannot be built as it is, a sentence each; empty: it can
    :param remarks: what else is to be known, a sentence each: values below 0 take adaptive quantizers
    :param within: it is within the budgets
    """

    tensors: tuple[str, ...]
    shapes: tuple[tuple[int | None, ...] | None, ...]
    producers: tuple[str, ...]
    consumers: tuple[tuple[str, ...], ...]
    non_negative: bool
    near_macs: int | None
    far_macs: int | None
    near_ms: float | None
    far_ms: float | None
    raw_bits: int | None
    looks: tuple[Looks, ...] | None
    troubles: tuple[str, ...]
    within: bool = True
    remarks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the tensor, or of all of them."""
        return " + ".join(self.tensors)

    @property
    def entropy_bits(self) -> float | None:
        """Of a picture: zeroth-order entropy of 8-bit levels, what is sent if each level is coded by itself."""
        return None if self.looks is None else sum(one.entropy_bits for one in self.looks)

    def kbps(self, fps: float) -> float | None:
        """The estimate: zeroth-order entropy of 8-bit levels x fps."""
        return None if self.entropy_bits is None else self.entropy_bits * fps / 1e3

    @property
    def usable(self) -> bool:
        """It can be built as it is."""
        return not self.troubles


@dataclass(frozen=True)
class Survey:
    """What was found.

    :param model: the network, with fixed shapes
    :param cuts: single tensors in graph order, then sets
    :param ranked: of cuts: those within the budgets that can be built, the best first
    :param nearest: of cuts; where none was chosen the one that misses the budgets least
    :param complete: no bound ended the search for sets
    :param samples: whose values were looked at
    """

    model: onnx.ModelProto
    cuts: tuple[SurveyedCut, ...]
    ranked: tuple[SurveyedCut, ...]
    nearest: SurveyedCut | None
    options: SurveyOptions
    complete: bool
    samples: int

    @property
    def chosen(self) -> SurveyedCut | None:
        """The best one; None: none is within the budgets and can be built."""
        return self.ranked[0] if self.ranked else None

    def candidates(self, count: int) -> list[SurveyedCut]:
        """Places worth a closer look, see `survey_ranking`."""
        return candidates(self.ranked, count)

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        fps = self.options.fps
        return {
            "fps": fps,
            "samples": self.samples,
            "sets_complete": self.complete,
            "chosen": self.chosen.tensors if self.chosen else None,
            "ranked": [cut.tensors for cut in self.ranked],
            "nearest": self.nearest.tensors if self.nearest else None,
            "cuts": [
                {**asdict(cut), "entropy_bits": cut.entropy_bits, "estimated_kbps": cut.kbps(fps)} for cut in self.cuts
            ],
        }


def survey(
    model: onnx.ModelProto, judge: Judge | None, options: SurveyOptions, progress: Progress | None = None
) -> Survey:
    """Look at every single-tensor cut, and at small sets of tensors.

    :param judge: gives images; without one there are no values, hence no rates
    :param progress: called with ("values" | "times", steps done, steps in all)
    :raises SettingsError: a shape stays open, there is no cut, or a budget needs images that were not given
    """
    if options.budget_kbps is not None and judge is None:
        raise SettingsError("a budget of kilobits needs images, whose values tell the rate")
    fixed = fix_shapes(model, options.fixed_shapes)
    graph = DataGraph(fixed)
    places: list[tuple[str, ...]] = [(cut.name,) for cut in graph.cuts]
    complete = True
    if options.largest_set > 1:
        sets = cut_sets(graph, options.largest_set)
        places += sets.sets
        complete = sets.complete
    if not places:
        raise SettingsError("no tensor of this network carries everything, nor do small sets of them")
    wanted = list(dict.fromkeys(name for place in places for name in place))
    seen, samples = looks_of(graph, wanted, judge, options.samples, progress) if judge is not None else ({}, 0)
    times = time_halves(graph, places, judge, options.runs, progress)
    macs = count_macs(graph.model)
    cuts = []
    for place, (near_ms, far_ms, refusal) in zip(places, times, strict=True):
        found = _cut(graph, place, macs, near_ms, far_ms)
        looks = tuple(seen[name] for name in place) if seen else None
        signs = sign_of(graph, place, looks, options.standard_only)
        troubles = troubles_of(graph, place, looks, refusal, options.standard_only)
        troubles, remarks = (troubles + signs, []) if options.standard_only else (troubles, signs)
        found = replace(found, looks=looks, troubles=tuple(troubles), remarks=tuple(remarks))
        cuts.append(replace(found, within=_excess(found, options) <= 1))
    picture_bits = 8.0
    for side in graph.type_of(graph.input).shape or ():
        picture_bits *= side or 1
    usable = [cut for cut in cuts if cut.usable]
    ranked = ranked_cuts([cut for cut in usable if cut.within], options, picture_bits)
    nearest = None if ranked else min(usable, key=lambda cut: _excess(cut, options), default=None)
    return Survey(fixed, tuple(cuts), tuple(ranked), nearest, options, complete, samples)


def _cut(
    graph: DataGraph, place: tuple[str, ...], macs: list[int | None], near_ms: float | None, far_ms: float | None
) -> SurveyedCut:
    nodes = graph.model.graph
    makers = {name: node.op_type for node in nodes.node for name in node.output}
    readers = {name: [node.op_type for node in nodes.node if name in node.input] for name in place}
    shapes = tuple(graph.type_of(name).shape for name in place)
    raw: int | None = 0
    for shape in shapes:
        if shape is None or any(side is None for side in shape) or raw is None:
            raw = None
            continue
        values = 8
        for side in shape:
            values *= side or 0
        raw += values
    near = near_nodes(nodes, set(place))
    far = near_nodes(nodes, set(graph.outputs), set(place))
    return SurveyedCut(
        tensors=place,
        shapes=shapes,
        producers=tuple(makers[name] for name in place),
        consumers=tuple(tuple(readers[name]) for name in place),
        non_negative=all(name in graph.non_negative for name in place),
        near_macs=_sum(macs, near),
        far_macs=_sum(macs, far),
        near_ms=near_ms,
        far_ms=far_ms,
        raw_bits=raw,
        looks=None,
        troubles=(),
    )


def _sum(macs: list[int | None], nodes: set[int]) -> int | None:
    total = 0
    for index in nodes:
        one = macs[index]
        if one is None:
            return None
        total += one
    return total


def _excess(cut: SurveyedCut, options: SurveyOptions) -> float:
    """By how much the budgets are missed: 1 is just within, 2 twice as much as allowed."""
    found = [0.0]
    if options.budget_ms is not None:
        found.append(cut.near_ms / options.budget_ms if cut.near_ms is not None else float("inf"))
    rate = cut.kbps(options.fps)
    if options.budget_kbps is not None:
        found.append(rate / options.budget_kbps if rate is not None else float("inf"))
    return max(found)
