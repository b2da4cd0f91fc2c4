"""Small activations of an extractor, from its folder and pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import SETTINGS_FILE, ExtractorSettings, MapSettings, VideoSettings
from featlink_codec.video.clip import Clip

from .build_maps import keep_maps
from .calibrate import Progress
from .kept_judge import KeptJudge
from .planner import refresh_every
from .sparsify import Sparsified, SparsifyOptions, one_map, sparsify, undropped
from .sparsify_points import MapBench, head_judge


def sparsify_extractor(
    folder: Path | str,
    source: Clip,
    options: SparsifyOptions,
    progress: Progress | None = None,
    also: Sequence[tuple[str, VideoSettings]] = (),
) -> tuple[MapSettings, Sparsified]:
    """Run an extractor's backbone on pictures once, and find the threshold that is asked for.

    :param folder: the extractor; nothing is written
    :param progress: called with ("maps" | "measure", steps done, steps in all)
    :param also: further codings by name, whose bytes are measured beside
    :returns: the [[maps]] table, and what was found
    :raises SettingsError: the extractor, or a target that is out of reach
    :raises FeatlinkError: the source cannot be read
    """
    folder = Path(folder)
    settings = ExtractorSettings.load(folder, parts=("backbone", "head", "task"))
    (feature,) = one_map(folder, settings)
    if feature.layout != "NCHW":
        raise SettingsError(f"{folder / SETTINGS_FILE}: [[maps]] layout: found {feature.layout!r}, expected 'NCHW'")
    base = undropped(folder, feature)
    video = options.video(settings.video)
    with tempfile.TemporaryDirectory(prefix="featlink-sparsify-") as scratch:
        maps = keep_maps(Path(scratch) / "maps.npy", folder, settings, source, options.frames, progress)
        # Only the times count for how often a refresh comes.
        every = refresh_every(video, maps.interval_s)
        judge = KeptJudge(head_judge(folder, settings, maps), Path(scratch))
        bench = MapBench(maps, folder / settings.models.head, judge, feature, video, every, also)
        return feature, sparsify(bench, base, options, progress)
