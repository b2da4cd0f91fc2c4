"""In which order places to split a network are worth building, and which of them are worth a trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .survey import SurveyedCut, SurveyOptions

#: Cuts whose estimates differ by less count as equal: the one with the cheaper backbone is taken.
EQUAL = 0.03


def ranked_cuts(cuts: Sequence[SurveyedCut], options: SurveyOptions, picture_bits: float) -> list[SurveyedCut]:
    """Cuts within the budgets that can be built, the best first.

    With a budget of milliseconds those that send least, of equals the one with the cheaper backbone. Without one
    nothing says what a backbone's work is worth: by cost x rate, after them those that send more than the picture
    itself. Costs are MACs where they are known, which are the same at every run; else milliseconds. What is the picture
    still, padded or scaled, comes last of all: a video encoder takes that.

    :param picture_bits: of the raw picture
    """
    if any(cut.entropy_bits is None for cut in cuts):
        return sorted(cuts, key=lambda cut: cut.raw_bits or 0)
    costs = _costs(cuts)
    left = [cut for cut in cuts if cut.near_macs != 0]
    pictures = sorted((cut for cut in cuts if cut.near_macs == 0), key=lambda cut: cut.entropy_bits or 0)
    if costs is None:
        return sorted(left, key=lambda cut: cut.entropy_bits or 0) + pictures
    if options.budget_ms is None:

        def product(cut: SurveyedCut) -> tuple[bool, float]:
            bits = cut.entropy_bits or 0.0
            return bits >= picture_bits, costs[cut.name] * bits

        return sorted(left, key=product) + pictures
    found = []
    while left:
        least = min(cut.entropy_bits or 0 for cut in left)
        equal = [cut for cut in left if (cut.entropy_bits or 0) <= least * (1 + EQUAL)]
        best = min(equal, key=lambda cut: costs[cut.name])
        found.append(best)
        left.remove(best)
    return found + pictures


def _costs(cuts: Sequence[SurveyedCut]) -> dict[str, float] | None:
    """Of each backbone; None where neither MACs nor milliseconds of all are known."""
    for name in ("near_macs", "near_ms"):
        values = {cut.name: getattr(cut, name) for cut in cuts}
        if all(value is not None for value in values.values()):
            return values
    return None


def candidates(ranked: Sequence[SurveyedCut], count: int) -> list[SurveyedCut]:
    """Places worth a closer look: the best of each size of map first, then the others, the best first.

    Maps of as many values are near-duplicates: a tensor and what an activation or a reshape makes of it (of these only
    one is ever taken), or the same stage of a network a few layers on.

    :param ranked: the best first
    """
    firsts: dict[int | None, SurveyedCut] = {}
    contents: dict[tuple[int | None, int | None], SurveyedCut] = {}
    for cut in ranked:
        firsts.setdefault(cut.raw_bits, cut)
        # As many values, and no MACs between: the same content. Of unknown MACs each is its own.
        contents.setdefault((cut.raw_bits, cut.near_macs if cut.near_macs is not None else -id(cut)), cut)
    rest = [cut for cut in contents.values() if cut is not firsts[cut.raw_bits]]
    return [*firsts.values(), *rest][:count]
