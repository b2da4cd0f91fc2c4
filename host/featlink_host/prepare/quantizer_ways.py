"""Which quantizers are compared at a cut: at equal bits without loss, and where a lossy encoder spends them."""

from __future__ import annotations

from collections.abc import Sequence

from featlink_codec.features.adaptive import DECIDERS

from .build_points import Way
from .quantizer_fits import AdaptiveChoice

#: Bits of a level, or on average, that all quantizers are compared at.
BITS = (6, 5)
#: QPs of 8-bit quantizers; those of the second are tried with every one of them.
QPS = (10, 16, 22, 28)
FEW_QPS = (16, 22)
CLASSES = (2, 4, 8)
SENSITIVE = (4, 8)


def compared_ways(channels: int, signed: bool, bits: Sequence[int] = BITS) -> list[Way]:
    """Ways to try at a cut.

    :param signed: the map has values below 0: the standard's quantizers do not take it
    """
    found = [Way.adapted(AdaptiveChoice(), qp) for qp in QPS]
    if not signed:
        found += [Way(mode, 8, qp) for mode in ("uniform", "logarithmic") for qp in QPS]
    found += [Way.adapted(choice, qp) for choice in at_eight_bits(channels) for qp in FEW_QPS]
    found += [Way.adapted(choice, None) for number in bits for choice in equal_bits(channels, number)]
    found += [Way.adapted(AdaptiveChoice(depth=depth), None) for depth in (8, 7, 4)]
    if not signed:
        found += [Way(mode, depth, None) for mode in ("uniform", "logarithmic") for depth in (8, 4)]
    return list(dict.fromkeys(found))


def equal_bits(channels: int, bits: int) -> list[AdaptiveChoice]:
    """All quantizers at so many bits."""
    found = [AdaptiveChoice("uniform", how, bits) for how in ("literal", "least-squares")]
    found += [
        AdaptiveChoice(name, how, bits) for name in ("gaussian", "laplace") for how in ("literal", "least-squares")
    ]
    found.append(AdaptiveChoice("logarithmic", "least-squares", bits))
    found += [AdaptiveChoice(name, "least-squares", bits) for name in DECIDERS]
    return found + in_classes(channels, bits)


def in_classes(channels: int, bits: float) -> list[AdaptiveChoice]:
    """Classes of channels, regions and blocks, at so many bits on average."""
    whole = {"distribution": "uniform", "how": "literal", "bits": bits}
    found = [
        AdaptiveChoice(partition="channel", classes=k, feature=feature, **whole)  # type: ignore[arg-type]
        for feature, numbers in (("variance", CLASSES), ("sensitivity", SENSITIVE))
        for k in numbers
        if k <= channels
    ]
    found.append(AdaptiveChoice(partition="region", classes=2, **whole))  # type: ignore[arg-type]
    found.append(AdaptiveChoice(partition="block", classes=4, **whole))  # type: ignore[arg-type]
    return found


def at_eight_bits(channels: int) -> list[AdaptiveChoice]:
    """Those that a lossy encoder gets, beside minimum to maximum."""
    found = [AdaptiveChoice("histogram", "least-squares")]
    if channels >= 4:
        found.append(AdaptiveChoice(partition="channel", classes=4))
        # Depths below 8 weigh classes: what a class's QP would do.
        found.append(AdaptiveChoice(partition="channel", classes=4, bits=7, feature="sensitivity"))
    return found
