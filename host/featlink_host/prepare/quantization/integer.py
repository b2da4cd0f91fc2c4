"""The integer backbone: a network whose first half, up to the map, is integers that are the same on every machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import onnx
import onnx.utils
from numpy.typing import NDArray
from onnx import helper

from featlink_codec.errors import SettingsError

from ...inference import one_line
from ..calibrate import Progress
from ..graph import Cut, DataGraph
from ..scoring import Judge, Score
from ..split import check_cut, extract_halves
from .affine import Affine
from .equalize import equalized
from .folding import LEAST_OPSET, WIDE_OPSET, folded
from .golden import Golden, golden
from .harm import harms
from .histograms import ValuesSeen
from .nodes import levels_name
from .places import Places, find_places
from .qdq import QdqNetwork, QdqOptions, insert_qdq
from .ranges import RangeOptions, observe, quantizer_for, quantizers_for
from .tuning import tuned_qdq
from .weights import WeightOptions
from .wide import NARROW_BITS, fits, sums_behind, wide_weights

#: Bits of tensors that lose most with 8: sums of hundreds of them are exact as float32, with weights of 9 to 12 bits.
WIDE_BITS = 11
#: Batches that the cost of a quantizer is measured with.
HARM_BATCHES = 4
Batches = Callable[[], Iterable[Mapping[str, NDArray[Any]]]]


@dataclass(frozen=True)
class IntegerOptions:
    """How the backbone becomes integers.

    :param method: where activations are cut off, see `ranges.RangeOptions`
    :param scale_steps: "power-of-two": exact whatever runs it; "activations": only the activations' are; "free": none
    :param wide_share: tensors that cost more than this share of what all 8-bit quantizers cost have `WIDE_BITS`; what
        works on them is computed as float32, exactly while sums stay below 2^24, and has weights of as many bits as
        that leaves room for. 1: none. Only with power-of-two steps
    :param equalize: small channels are made larger first, see `equalize`
    :param fine_tune: weights and biases are fitted to the levels, layer by layer
    :param full: weights -127..127 instead of the portable -64..63
    :param percent: for method percentile
    :param samples: inputs to calibrate with
    :param tune_samples: inputs to fine-tune with
    """

    method: str = "mse"
    scale_steps: str = "power-of-two"
    wide_share: float = 0.005
    equalize: bool = True
    fine_tune: bool = True
    full: bool = False
    percent: float = 99.99
    samples: int = 32
    tune_samples: int = 12

    def __post_init__(self) -> None:
        if self.scale_steps not in ("power-of-two", "activations", "free"):
            raise SettingsError(
                f"scale_steps: found {self.scale_steps!r}, expected one of power-of-two, activations, free"
            )
        if not 0 < self.wide_share <= 1:
            raise SettingsError(f"wide_share: found {self.wide_share:g}, expected above 0 and at most 1")
        if self.samples < 1 or self.tune_samples < 1:
            raise SettingsError(f"found {self.samples} and {self.tune_samples} samples, expected at least 1")
        self.qdq()

    def qdq(self) -> QdqOptions:
        """What `insert_qdq` is told."""
        scheme = "asymmetric" if self.scale_steps == "free" else "power-of-two"
        return QdqOptions(
            RangeOptions(self.method, scheme, 8, self.percent),  # type: ignore[arg-type]  # checked there
            first_input=True,
            outputs=True,
            portable=not self.full,
            exact_weights=self.scale_steps == "power-of-two",
        )

    def weights(self) -> WeightOptions:
        """What the fine-tuning is told."""
        exact = self.scale_steps == "power-of-two"
        return WeightOptions(
            values="fixed-point" if exact else "uniform", scale_from="error" if exact else "max", portable=not self.full
        )


@dataclass(frozen=True, eq=False)
class IntegerBackbone:
    """What came of it.

    :param cut: where the network is split
    :param whole: all of it, for comparing: the map is rounded to its levels inside
    :param backbone: the network's input in, levels out: uint8
    :param head: the levels in, the network's outputs out; floating point but for its first operator
    :param tensor: what the levels are called
    :param affine: what they stand for
    :param network: the backbone's quantizers and weights
    :param factors: of equalized tensors, the largest factor of a channel
    :param tuned: of fine-tuned layers, squared error of their outputs over their squares, before and after
    :param golden: hashes of the levels
    """

    cut: Cut
    whole: onnx.ModelProto
    backbone: onnx.ModelProto
    head: onnx.ModelProto
    tensor: str
    affine: Affine
    network: QdqNetwork
    factors: dict[str, float]
    tuned: dict[str, tuple[float, float]]
    golden: Golden
    score: Score | None = field(default=None)

    @property
    def model(self) -> onnx.ModelProto:
        """The backbone."""
        return self.backbone

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "tensor": self.tensor,
            "step": self.affine.scale,
            "zero_point": self.affine.zero_point,
            "quantizers": {
                name: {"step": one.scale, "zero_point": one.zero_point, "bits": one.bits}
                for name, one in self.network.quantizers.items()
            },
            "weights": {name: list(one.span) for name, one in self.network.weights.items()},
            "largest_sum": max(self.network.sums.values(), default=0),
            "doubts": self.network.doubts,
            "factors": self.factors,
            "outputs_error": {name: list(one) for name, one in self.tuned.items()},
            "golden": self.golden.figures(),
            "score": self.score.figures() if self.score is not None else None,
        }


def integer_backbone(
    model: onnx.ModelProto,
    tensor: str,
    judge: Judge | None,
    options: IntegerOptions | None = None,
    progress: Progress | None = None,
    *,
    batches: Batches | None = None,
    tune_batches: Batches | None = None,
) -> IntegerBackbone:
    """Make a network's first half one of integers.

    :param tensor: where it is split, float32
    :param judge: its samples calibrate (unless `batches` do), and it scores the result
    :param batches: samples to calibrate with, instead of the judge's
    :param tune_batches: samples to fine-tune with, instead of the judge's (or of `batches`)
    :param progress: told ("calibrate" | "fine-tune" | "check" | "judge", done, total)
    :raises SettingsError: it cannot be split there, has no layer with weights, no images, or levels that change with
        the runtime's settings although nothing about them is in doubt
    """
    options = options or IntegerOptions()
    graph = DataGraph(model)
    cut = check_cut(graph, tensor)
    if cut.dtype != "float32":
        raise SettingsError(f"tensor {tensor!r}: found {cut.dtype or 'no known type'}, expected float32")
    first_batches, more_batches = _samples(judge, options, batches, tune_batches)
    near, far = extract_halves(graph, [tensor])
    wide = options.wide_share < 1 and options.scale_steps == "power-of-two"
    near = folded(near, WIDE_OPSET if wide else LEAST_OPSET)
    factors: dict[str, float] = {}
    if options.equalize:
        near, factors = equalized(near, first_batches())
    qdq = options.qdq()
    places = find_places(near, qdq.scope, first_input=True, outputs=True)
    seen = observe(near, first_batches(), places.leaders, progress)
    if wide:
        qdq = replace(qdq, overrides=_widened(near, seen, qdq, tensor, options, more_batches, places))
        qdq = replace(qdq, weight_bits=wide_weights(near, places, qdq.overrides, options.weights()))
    tuned: dict[str, tuple[float, float]] = {}
    if options.fine_tune:
        network, tuned = tuned_qdq(near, options.weights(), seen, more_batches, qdq, progress)
    else:
        network = insert_qdq(near, None, seen, qdq)
    if tensor not in network.quantizers:
        raise SettingsError(f"tensor {tensor!r}: nothing before it can be made of integers")
    levels = levels_name(tensor)
    whole = _joined(network.model, far)
    backbone, head = _halves(whole, graph, levels)
    if progress is not None:
        progress("check", 0, 1)
    checked = golden(backbone, network.quantizers[graph.input])
    if not checked.holds and not network.doubts:
        raise SettingsError(f"levels that should be the same everywhere are not: {_differing(checked)}")
    if progress is not None:
        progress("check", 1, 1)
    found = IntegerBackbone(
        cut, whole, backbone, head, levels, network.quantizers[tensor], network, factors, tuned, checked
    )
    return replace(found, score=judge.score(whole)) if judge is not None else found


def _samples(
    judge: Judge | None, options: IntegerOptions, batches: Batches | None, tune_batches: Batches | None
) -> tuple[Batches, Batches]:
    if batches is not None:
        return batches, tune_batches or batches
    if judge is None:
        raise SettingsError("no images: integers need some to be calibrated with")
    own = judge
    return lambda: own.batches(options.samples), tune_batches or (lambda: own.batches(options.tune_samples))


def _widened(
    near: onnx.ModelProto,
    seen: Mapping[str, ValuesSeen],
    qdq: QdqOptions,
    tensor: str,
    options: IntegerOptions,
    batches: Batches,
    places: Places,
) -> dict[str, Affine]:
    """Quantizers of more bits, as many as sums leave room for, for tensors that need them; the map stays 8 bits."""
    narrow = quantizers_for(seen, qdq.ranges)
    costs = harms(near, narrow, islice(batches(), HARM_BATCHES))
    least = options.wide_share * sum(costs.values())
    wanted = [name for name, cost in costs.items() if cost > least and name != tensor]
    found = {}
    for name, most in sums_behind(near, places, wanted, options.weights()).items():
        for bits in range(WIDE_BITS, NARROW_BITS, -1):
            one = quantizer_for(seen[name], replace(qdq.ranges, method="minmax", bits=bits))
            if fits(one, most):
                found[name] = one
                break
    return found


def _joined(near: onnx.ModelProto, far: onnx.ModelProto) -> onnx.ModelProto:
    """Both halves in one network: what the first one puts out is what the second one takes.

    :raises SettingsError: they do not fit together
    """
    versions = [{one.domain: one.version for one in half.opset_import} for half in (near, far)]
    if versions[0].get("") != versions[1].get(""):
        far = folded(far, versions[0].get("", 0))
    used = {name for node in near.graph.node for name in (*node.input, *node.output)}
    ours = {one.name: one for one in near.graph.initializer}
    theirs = [one for one in far.graph.initializer if one.name not in used]
    # A constant of both that the first half still has as it was; what it has made of one bears other names.
    shared = [one for one in far.graph.initializer if one.name in used]
    for one in shared:
        if one.name not in ours or ours[one.name].SerializeToString() != one.SerializeToString():
            raise SettingsError(f"constant {one.name!r} is used on both sides of the split and cannot be of integers")
    graph = helper.make_graph(
        [*near.graph.node, *far.graph.node],
        "integer",
        near.graph.input,
        far.graph.output,
        [*near.graph.initializer, *theirs],
    )
    domains = {**versions[1], **versions[0]}
    model = helper.make_model(
        graph,
        producer_name="featlink",
        opset_imports=[helper.make_opsetid(name, number) for name, number in domains.items()],
        ir_version=max(near.ir_version, far.ir_version),
    )
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # onnx's checker and its shape inference share no base
        raise SettingsError(f"the halves cannot be joined: {one_line(error)}") from None
    return model


def _halves(whole: onnx.ModelProto, graph: DataGraph, levels: str) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    inferred = onnx.shape_inference.infer_shapes(whole)
    extractor = onnx.utils.Extractor(inferred)
    halves = []
    for inputs, outputs in (([graph.input], [levels]), ([levels], graph.outputs)):
        half = extractor.extract_model(inputs, outputs)
        half.producer_name = "featlink"
        onnx.checker.check_model(half, full_check=True)
        halves.append(half)
    return halves[0], halves[1]


def _differing(found: Golden) -> str:
    return "; ".join(f"{name}: up to {most} levels, {share:.2%}" for name, (most, share) in found.differing.items())
