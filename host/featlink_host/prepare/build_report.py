"""What a build found, for people: its page and its plots."""

from __future__ import annotations

from collections.abc import Sequence

from .build import Built
from .build_points import CodedPoint, Way
from .build_rivals import RivalPoint, kbps_at, merit_at
from .curves import Curve, curves_plot
from .page import Headline, Plot, Section, Table, Text, render_page

MERITS = {"accuracy": "accuracy", "detections": "F1 against the whole network", "outputs": "1 - distortion"}


def build_page(found: Built) -> str:
    """The page as HTML."""
    return render_page(f"Build of {found.settings.extractor.name}", build_facts(found), build_sections(found))


def build_facts(found: Built) -> list[tuple[str, str]]:
    """(name, value) under the title."""
    feature, source = found.settings.maps[0], found.settings.source_model
    rate = found.options.target.kbps
    wanted = f"at most {rate:g} kbit/s" if rate is not None else f"at least {found.options.target.agreement:g}"
    limits = found.options.limits.name if found.options.limits is not None else "x265"
    return [
        ("Network", source.file),
        ("Split at", source.split_tensor),
        ("Feature map", f"{feature.channels} channels of {feature.width} x {feature.height} (width x height)"),
        ("Wanted", wanted),
        ("Encoder", f"limits of {limits}; libx265 measures"),
        ("Measured on", f"{found.chosen.score.samples} pictures, at {found.fps:.4g} a second"),
    ]


def build_sections(found: Built) -> list[Section]:
    """Headline, plots and tables."""
    chosen, merit = found.chosen, MERITS[found.chosen.score.kind]
    sections: list[Section] = [
        Headline(
            [
                (f"{chosen.kbps:,.0f}", "kbit/s", f"{chosen.map_bytes:,.0f} bytes a map in a running stream"),
                (f"{chosen.score.merit:.3f}", "", merit),
                (f"{found.stream_bytes / 1e3:,.0f}", "kB", f"the backbone's model stream "
                 f"({found.stream_bytes / found.backbone_bytes:.0%} of its ONNX file)"),
                ("lossless" if chosen.way.qp is None else f"QP {chosen.way.qp}", "",
                 f"the chosen setting: {chosen.way.name}"),
            ]
        ),
        Text("Against video", verdict(found)),
        Plot(f"Rate and {merit}", rate_plot(found), "Each curve is a quantizer over QPs; lone points are lossless."),
        Plot("Rate and distortion", rate_plot(found, distortion=True),
             "Mean squared error of the outputs over their variance: less noisy than a few objects or labels. Down and "
             "left is better."),
        _points(found),
    ]  # fmt: skip
    if found.rivals:
        sections.append(_rivals(found.rivals))
    sections.append(_packings(found))
    return sections


def rate_plot(found: Built, distortion: bool = False) -> str:
    """Merit, or distortion, against kilobits a second."""

    def height(point: CodedPoint | RivalPoint) -> float:
        return max(point.score.distortion, 1e-9) if distortion else point.score.merit

    curves = []
    kinds = dict.fromkeys(one.way.kind for one in found.points)
    finite = [one for one in found.points if not distortion or one.score.distortion < float("inf")]
    for kind in kinds:
        some = [one for one in finite if one.way.kind == kind and one.way.qp is not None]
        curves.append(Curve(_short(kind), [one.kbps for one in some], [height(one) for one in some]))
    if found.rivals:
        curves.append(
            Curve("x265 of the picture", [one.kbps for one in found.rivals], [height(one) for one in found.rivals])
        )
    free = [one for one in finite if one.way.qp is None]
    texts = [f"{one.way.mode[:3]} {one.way.bit_depth}" for one in free]
    curves.append(Curve("lossless", [one.kbps for one in free], [height(one) for one in free], False, texts))
    merit = MERITS[found.chosen.score.kind]
    return curves_plot(
        curves,
        "kbit/s",
        "distortion of the outputs" if distortion else merit,
        f"{'Distortion' if distortion else merit} against the rate, by quantizer, and of x265 of the pictures",
        log_x=True,
        log_y=distortion,
        chosen=(found.chosen.kbps, height(found.chosen)),
    )


def _short(kind: Way) -> str:
    """A quantizer's name for a legend."""
    return kind.name.removeprefix("adaptive ").replace(" on average", "")


def verdict(found: Built) -> list[str]:
    """Features against video at the same rate, whoever wins."""
    chosen, merit = found.chosen, MERITS[found.chosen.score.kind]
    if not found.rivals:
        return ["x265 takes no pictures of this network's size, or was not asked for: nothing to compare with."]
    there, needed = merit_at(found.rivals, chosen.kbps), kbps_at(found.rivals, chosen.score.merit)
    said = []
    if there is None:
        said.append(f"No picture stream was measured at a rate as low as {chosen.kbps:.0f} kbit/s.")
    else:
        apart = chosen.score.merit - there
        who = "features win" if apart > 0 else "video wins" if apart < 0 else "a draw"
        if 0 < abs(apart) <= chosen.score.uncertainty:
            who += ", by less than a standard error"
        said.append(
            f"At {chosen.kbps:.0f} kbit/s features reach {chosen.score.merit:.3f} ({merit}), x265 of the picture in "
            f"the network's size about {there:.3f}: {who}."
        )
    if needed is None:
        best = max(one.score.merit for one in found.rivals)
        said.append(f"No picture stream that was measured reaches {chosen.score.merit:.3f}; the best has {best:.3f}.")
    else:
        said.append(
            f"x265 of the picture reaches {chosen.score.merit:.3f} at {needed:.0f} kbit/s, "
            f"{needed / chosen.kbps:.2f} times what features take."
        )
    said.append(
        f"Maps that are not coded at all give {found.uncoded.merit:.3f}: what the split and the backbone's model "
        "stream leave. Everything was chosen and measured on the same pictures." + _noise(found)
    )
    return said


def _noise(found: Built) -> str:
    """How much the merit is worth."""
    score = found.chosen.score
    if not score.counted:
        return ""
    return (
        f" With {score.counted} {score.counted_as} a standard error is {score.uncertainty:.3f}: settings that differ "
        "by less count as equal, and of them the one with the least distortion was chosen."
    )


def _points(found: Built) -> Table:
    columns = (
        "setting",
        "kbit/s",
        "bytes a map",
        *_score_columns(found.chosen.score.precision is not None),
        "distortion",
    )
    rows = [
        (str(one.way), round(one.kbps, 1), round(one.map_bytes), *_scores(one), one.score.distortion)
        for one in found.points
    ]
    return Table("Settings", columns, rows, "", found.points.index(found.chosen))


def _rivals(rivals: Sequence[RivalPoint]) -> Table:
    names = _score_columns(rivals[0].score.precision is not None)
    columns = ("x265 of the picture", "kbit/s", "bytes a picture", *names, "distortion")
    rows = [
        (f"CRF {one.crf:g}", round(one.kbps, 1), round(one.picture_bytes), *_scores(one), one.score.distortion)
        for one in rivals
    ]
    note = "Preset medium, tune zerolatency, 4:2:0; intra pictures as often as the maps have refreshes."
    return Table("Video instead", columns, rows, note)


def _score_columns(detector: bool) -> tuple[str, ...]:
    return ("F1", "recall", "precision") if detector else ("score",)


def _scores(point: CodedPoint | RivalPoint) -> tuple[float | None, ...]:
    score = point.score
    return (score.f1, score.value, score.precision) if score.f1 is not None else (score.value,)


def _packings(found: Built) -> Table:
    rows = [
        (
            f"{row.packing.mode}, order {row.order}",
            "" if row.grid.stack else f"{row.grid.tile_h} x {row.grid.tile_w}",
            f"{row.grid.pictures} of {row.grid.width} x {row.grid.height}",
            round(row.bytes_per_map),
        )
        for row in found.plan.rows
    ]
    best = next(at for at, row in enumerate(found.plan.rows) if row is found.plan.best)
    return Table(
        "Packings", ("packing", "tiles", "pictures", "bytes a map"), rows, f"All at {found.plan.coding}, 8 bit.", best
    )
