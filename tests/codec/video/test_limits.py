"""Encoder limits: what may be said, which limit a picture breaks, and what both of two encoders take."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from featlink_codec.errors import SettingsError
from featlink_codec.video.limits import X265_LIMITS, EncoderLimits
from featlink_codec.video.x265_settings import X265Settings

WAVE5: dict[str, Any] = {
    "name": "wave5",
    "formats": ("NV12",),
    "min_width": 256,
    "max_width": 4096,
    "min_height": 128,
    "max_height": 2304,
    "multiple_of_width": 32,
    "multiple_of_height": 15,
    "even": True,
    "max_pixels": 4096 * 2000,
}
SIDES = st.integers(1, 9000)


@st.composite
def any_limits(draw: st.DrawFn) -> EncoderLimits:
    least = draw(st.tuples(st.integers(1, 300), st.integers(1, 300)))
    return EncoderLimits(
        name="any",
        formats=("GREY",),
        min_width=least[0],
        max_width=draw(st.integers(least[0], 9000)),
        min_height=least[1],
        max_height=draw(st.integers(least[1], 9000)),
        multiple_of_width=draw(st.integers(1, 20)),
        multiple_of_height=draw(st.integers(1, 20)),
        even=draw(st.booleans()),
        max_pixels=draw(st.integers(1, 2**26)),
    )


@pytest.mark.parametrize(
    ("width", "height", "says"),
    [
        (256, 150, None),
        (4096, 1980, None),
        (224, 150, "wave5: width 224 is below min_width 256"),
        (4128, 150, "wave5: width 4128 is above max_width 4096"),
        (270, 150, "wave5: width 270 is not a multiple_of_width 32"),
        (256, 120, "wave5: height 120 is below min_height 128"),
        (256, 2310, "wave5: height 2310 is above max_height 2304"),
        (256, 151, "wave5: height 151 is not a multiple_of_height 15"),
        (256, 135, "wave5: height 135 is not even"),
        (4096, 2010, "wave5: 4096 x 2010 pixels are more than max_pixels 8192000"),
    ],
)
def test_the_limit_that_a_picture_breaks_is_said(width: int, height: int, says: str | None) -> None:
    assert EncoderLimits(**WAVE5).broken_by(width, height) == says


@given(any_limits(), SIDES, SIDES)
def test_a_picture_breaks_no_limit_exactly_if_it_holds_all(limits: EncoderLimits, width: int, height: int) -> None:
    holds = (
        limits.min_width <= width <= limits.max_width
        and limits.min_height <= height <= limits.max_height
        and width % limits.width_step == 0 == height % limits.height_step
        and width * height <= limits.max_pixels
    )
    assert (limits.broken_by(width, height) is None) == holds


@given(any_limits(), any_limits(), SIDES, SIDES)
def test_limits_narrowed_by_others_hold_both(one: EncoderLimits, other: EncoderLimits, width: int, height: int) -> None:
    fits = one.broken_by(width, height) is None and other.broken_by(width, height) is None
    try:
        both = one.narrowed(other)
    except SettingsError:
        assert not fits
    else:
        assert (both.broken_by(width, height) is None) == fits


def test_narrowed_limits_name_both_only_where_the_other_adds_something() -> None:
    wave5 = EncoderLimits(**WAVE5)
    assert wave5.narrowed(X265_LIMITS["420"]) is wave5
    small = EncoderLimits(name="small", formats=("GREY",))
    assert small.narrowed(X265_LIMITS["400"]).name == "small and x265"
    with pytest.raises(SettingsError, match="'small and x265': max_width: found 16, expected at least min_width, 17"):
        EncoderLimits(name="small", formats=("GREY",), max_width=16).narrowed(X265_LIMITS["400"])


@pytest.mark.parametrize("chroma", ["400", "420"])
@pytest.mark.parametrize(
    ("width", "height"), [(17, 18), (18, 17), (18, 18), (8192, 8192), (16, 64), (64, 16), (8194, 64)]
)
def test_x265_takes_what_its_limits_say_and_predicts_there(chroma: str, width: int, height: int) -> None:
    fits = X265_LIMITS[chroma].broken_by(width, height) is None
    try:
        session = X265Settings(width, height, lossless=True, chroma=chroma)
    except SettingsError:
        assert not fits
    else:
        assert fits == (not session.intra_only)


def test_formats_carry_a_chroma() -> None:
    assert X265_LIMITS["400"].takes("400")
    assert not X265_LIMITS["400"].takes("420")
    assert X265_LIMITS["420"].takes("420")
    assert not EncoderLimits(**WAVE5).takes("400")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": ""}, "name: found '', expected a name"),
        ({"name": 3}, "name: found 3, expected a name"),
        ({"formats": ()}, r"'wave5': formats: found \(\), expected a list of GREY, NV12"),
        ({"formats": "NV12"}, "formats: found 'NV12', expected a list"),
        ({"formats": ["NV12", "P010"]}, r"formats: found \['NV12', 'P010'\]"),
        ({"min_width": 0}, r"min_width: found 0, expected an integer 1\.\."),
        ({"max_pixels": 1.5}, r"max_pixels: found 1\.5, expected an integer"),
        ({"multiple_of_width": True}, "multiple_of_width: found True, expected an integer"),
        ({"multiple_of_height": -2}, "multiple_of_height: found -2"),
        ({"even": 1}, "even: found 1, expected true or false"),
        ({"max_height": 100}, "max_height: found 100, expected at least min_height, 128"),
    ],
)
def test_what_is_no_limit_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        EncoderLimits(**{**WAVE5, **change})


def test_limits_come_from_a_toml_file(tmp_path: Path) -> None:
    file = tmp_path / "wave5.toml"
    file.write_text(tomli_w.dumps(WAVE5))
    assert EncoderLimits.load(file) == EncoderLimits(**WAVE5)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "No such file"),
        ("name = ", "not TOML"),
        ("name = 'a'", "formats: found nothing, expected one"),
        ("formats = ['GREY']", "name: found nothing"),
        ("name = 'a'\nformats = ['GREY']\nmin_hight = 3", "min_hight: found an unknown key, expected some of name, "),
        ("name = 'a'\nformats = ['GREY']\nmin_height = 'x'", "encoder limits 'a': min_height: found 'x'"),
    ],
)
def test_a_file_that_holds_no_limits_is_refused_with_its_name(tmp_path: Path, text: str | None, says: str) -> None:
    file = tmp_path / "target.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsError, match=f"target.toml: {says}"):
        EncoderLimits.load(file)


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(any_limits(), NAMES)
def test_limits_written_as_toml_are_read_as_they_were(tmp_path_factory: Any, limits: EncoderLimits, name: str) -> None:
    limits = dataclasses.replace(limits, name=name, formats=("NV12", "YUV420M"))
    file = tmp_path_factory.mktemp("limits") / "limits.toml"
    file.write_bytes(limits.as_toml().encode())
    assert EncoderLimits.load(file) == limits


def test_what_is_not_limited_is_not_written() -> None:
    assert EncoderLimits(name="a", formats=("GREY",)).as_toml() == 'name = "a"\nformats = ["GREY"]\n'
    assert EncoderLimits(name='a"\x7f', formats=("GREY",), even=True).as_toml() == (
        'name = "a\\"\\u007f"\nformats = ["GREY"]\neven = true\n'
    )


def encoder(backend: str, node: str | None = None, works: bool = True, **more: Any) -> dict[str, Any]:
    limits = {"name": node or backend, "formats": ["NV12"], "min_width": 96} if works else None
    return {
        "backend": backend,
        "node": node,
        "works": works,
        "why": ["no", f"{backend} is dead"],
        "limits": limits,
        **more,
    }


BOARD = {
    "encoders": [
        encoder("libv4l2", "/dev/v4l2-nvenc", works=False),
        encoder("v4l2", "/dev/video1", works=False),
        encoder("v4l2", "/dev/video2"),
        encoder("x265"),
    ]
}


def board(tmp_path: Path, found: object) -> Path:
    file = tmp_path / "board"
    file.write_text(found if isinstance(found, str) else json.dumps(found, indent=1))
    return file


@pytest.mark.parametrize("doctor", [False, True])
@pytest.mark.parametrize(
    ("wanted", "name"),
    [(None, "/dev/video2"), ("v4l2", "/dev/video2"), ("v4l2:/dev/video2", "/dev/video2"), ("x265", "x265")],
)
def test_limits_come_from_what_a_board_says_of_its_encoders(
    tmp_path: Path, wanted: str | None, name: str, doctor: bool
) -> None:
    findings = [{"name": "board", "facts": {}}, {"name": "encoder", "state": "ok", "facts": BOARD}]
    file = board(tmp_path, {"healthy": True, "findings": findings} if doctor else BOARD)
    assert EncoderLimits.load(file, wanted) == EncoderLimits(name=name, formats=("NV12",), min_width=96)


@pytest.mark.parametrize(
    ("found", "wanted", "says"),
    [
        (
            BOARD,
            "rkmpp",
            "found no encoder rkmpp, only libv4l2:/dev/v4l2-nvenc, v4l2:/dev/video1, v4l2:/dev/video2, x265",
        ),
        (BOARD, "libv4l2", r"found no encoder that works: libv4l2:/dev/v4l2-nvenc \(libv4l2 is dead\)"),
        (BOARD, "v4l2:/dev/video1", r"found no encoder that works: v4l2:/dev/video1 \(v4l2 is dead\)"),
        ({"encoders": []}, None, "found no encoder$"),
        ({"encoders": [encoder("rkmpp", works=False, why=[])]}, None, "found no encoder that works: rkmpp$"),
        ({"encoders": ["x265"]}, None, "found no list of encoders, expected the JSON of `featlink-device doctor`"),
        ({"encoders": [{"works": True}]}, None, "found no list of encoders"),
        ({"findings": [{"name": "encoder", "facts": None}]}, None, "found no list of encoders"),
        ({"findings": 3}, None, "found no list of encoders"),
        ("{'a': 1}", None, "not JSON: "),
        ("{" * 100_000, None, "not JSON: "),
        (
            {"encoders": [encoder("v4l2", limits={"name": "a", "formats": ["NV12"], "min_hight": 1})]},
            None,
            "encoder v4l2: min_hight: found an unknown key",
        ),
        (
            "name = 'a'\nformats = ['GREY']",
            "x265",
            "found the limits of one encoder, expected a board's JSON to choose x265",
        ),
    ],
)
def test_a_board_without_the_encoder_is_refused_with_what_it_has(
    tmp_path: Path, found: object, wanted: str | None, says: str
) -> None:
    with pytest.raises(SettingsError, match=f"board: {says}") as error:
        EncoderLimits.load(board(tmp_path, found), wanted)
    assert "\n" not in str(error.value)
