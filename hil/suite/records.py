"""What a board did last time: its figures kept in a file, and what has become worse since."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from featlink_codec.errors import SettingsError
from featlink_codec.files import write_whole

#: Environment variable: another folder for the records than out/hil/records, e.g. one that a laboratory keeps.
FOLDER_VARIABLE = "FEATLINK_HIL_RECORDS"


@dataclass(frozen=True)
class Figure:
    """One measured figure, and how much worse it may become from one run to the next.

    :param better: "higher" or "lower" values
    :param margin: share of the last value, 0..1
    :param slack: in the figure's unit, beyond the margin: small values jitter by more than a share of themselves
    """

    name: str
    value: float
    unit: str
    better: Literal["higher", "lower"]
    margin: float
    slack: float = 0.0

    def limit(self, last: float) -> float:
        """The worst value that is no regression against `last`."""
        allowed = abs(last) * self.margin + self.slack
        return last - allowed if self.better == "higher" else last + allowed

    def worse_than(self, last: float) -> bool:
        """Whether this is a regression."""
        limit = self.limit(last)
        return self.value < limit if self.better == "higher" else self.value > limit


@dataclass(frozen=True)
class Record:
    """The figures of a run."""

    when: str
    commit: str
    figures: Mapping[str, float]


def load(path: Path) -> Record | None:
    """The last record; None where there is none yet.

    :raises SettingsError: the file is no record
    """
    if not path.exists():
        return None
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        figures = {str(name): float(one["value"]) for name, one in data["figures"].items()}
        return Record(str(data["when"]), str(data["commit"]), figures)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"{path}: found no record of a board's figures ({error!r}); delete it to begin anew"
        ) from None


def store(path: Path, figures: list[Figure], commit: str) -> None:
    """Make this run the last record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    when = datetime.now(timezone.utc).isoformat(timespec="seconds")
    table = {one.name: {"value": one.value, "unit": one.unit} for one in figures}
    write_whole(path, json.dumps({"when": when, "commit": commit, "figures": table}, indent=1) + "\n")


def regressions(last: Record | None, figures: list[Figure]) -> list[str]:
    """One sentence for each figure that became worse by more than its margin; new figures have nothing to compare."""
    found = []
    for one in figures:
        before = None if last is None else last.figures.get(one.name)
        if last is not None and before is not None and one.worse_than(before):
            found.append(
                f"{one.name}: {one.value:.4g} {one.unit}, was {before:.4g} on {last.when} ({last.commit}); "
                f"{one.limit(before):.4g} would do"
            )
    return found
