"""The limits of a target's encoder, out of its target.toml, or of any file that `prepare plan --limits` takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from featlink_codec.errors import SettingsError
from featlink_codec.tables import parse_toml, read_text
from featlink_codec.video.limits import EncoderLimits

TARGET_FILE = "target.toml"


def target_limits(target: Path) -> EncoderLimits | None:
    """What the target's first encoder takes; None: it is x265, whose limits the codec knows.

    :param target: a folder with a target.toml, that file, or a file of limits
    :raises SettingsError: no such file, or no encoder in it
    """
    file = target / TARGET_FILE if target.is_dir() else target
    if not file.is_file():
        beside = sorted(one.parent.name for one in target.parent.glob(f"*/{TARGET_FILE}"))
        hint = f"; there are {', '.join(beside)}" if beside else ""
        raise SettingsError(
            f"{target}: found no target, expected a folder with {TARGET_FILE}, or a file of limits{hint}"
        )
    text = read_text(file)
    if text.lstrip().startswith("{"):
        return EncoderLimits.load(file)
    data = parse_toml(text, file)
    if "encoders" not in data:
        return EncoderLimits.from_dict(data, str(file))
    encoders = data["encoders"]
    if not isinstance(encoders, list) or not encoders or not isinstance(encoders[0], Mapping):
        raise SettingsError(f"{file}: encoders: found no table, expected [[encoders]]")
    first = encoders[0]
    limits = first.get("limits")
    if limits is None:
        return None
    if not isinstance(limits, Mapping):
        raise SettingsError(f"{file}: [encoders.limits]: found no table")
    return EncoderLimits.from_dict({"name": str(first.get("backend")), **limits}, f"{file}: [encoders.limits]")
