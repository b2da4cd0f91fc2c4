"""Write another packing into an extractor that stands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import tomli_w

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import SETTINGS_FILE, ExtractorSettings, PackingSettings
from featlink_codec.files import write_whole


def apply_packing(folder: Path | str, packing: PackingSettings) -> bool:
    """Write a packing into an extractor's extractor.toml: the whole file anew, or not at all.

    Nothing else that the file says changes; comments are not kept.

    :returns: False: it was there already, nothing was written
    :raises SettingsError: the extractor has not one map, or the packing does not fit it
    :raises FeatlinkError: it cannot be written
    """
    file = Path(folder) / SETTINGS_FILE
    settings = ExtractorSettings.load(folder, parts=())
    if len(settings.maps) != 1:
        raise SettingsError(f"{folder}: {len(settings.maps)} maps, one is planned for")
    (feature,) = settings.maps
    if feature.packing == packing:
        return False
    changed = replace(settings, maps=(replace(feature, packing=packing),))
    if ExtractorSettings.from_dict(changed.to_dict(), file) != changed:
        raise SettingsError(f"{file}: would not read back as it is to be written")
    write_whole(file, tomli_w.dumps(changed.to_dict()))
    return True
