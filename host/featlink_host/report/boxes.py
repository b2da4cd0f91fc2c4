"""A picture with its boxes: what both networks found in thin lines, what only one of them found dashed and named."""

from __future__ import annotations

import io
from collections.abc import Sequence

from av import VideoFrame
from PIL import Image, ImageDraw, ImageFont

from ..detector import Detection

#: Both found it; only this one did.
AGREED_COLOUR = (64, 224, 208)
ALONE_COLOUR = (255, 159, 28)
_INK = (12, 16, 20)
_FONT_SIZE = 13
_DASH = 7
_QUALITY = 82

_Box = tuple[float, float, float, float]


def small_jpeg(picture: VideoFrame | Image.Image, width: int, quality: int, *, squares: bool = False) -> bytes:
    """A JPEG of a picture, so many samples wide.

    :param squares: samples of a much smaller picture become squares
    """
    image = Image.fromarray(picture.to_ndarray(format="rgb24")) if isinstance(picture, VideoFrame) else picture
    size = width, max(1, round(image.height * width / image.width))
    how = Image.Resampling.NEAREST if squares and image.width * 2 <= width else Image.Resampling.LANCZOS
    file = io.BytesIO()
    image.resize(size, how).save(file, "JPEG", quality=quality)
    return file.getvalue()


def draw_boxes(jpeg: bytes, detections: Sequence[Detection], agreed: Sequence[Detection], alone: str) -> bytes:
    """A JPEG of the picture with boxes, labels and scores.

    :param jpeg: the picture
    :param detections: to be drawn
    :param agreed: those of them that the other network found too
    :param alone: put before the label of the others, e.g. "missed"
    """
    with Image.open(io.BytesIO(jpeg)) as file:
        image = file.convert("RGB")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(_FONT_SIZE)
    width, height = image.size
    taken: list[_Box] = []
    # The weakest first, so that the strongest lies on top; labels after all boxes.
    for one in reversed(detections):
        box = (one.x0 * (width - 1), one.y0 * (height - 1), one.x1 * (width - 1), one.y1 * (height - 1))
        if one in agreed:
            draw.rectangle(box, outline=AGREED_COLOUR, width=2)
        else:
            _dashed(draw, box)
    for one in detections:
        text = f"{one.label} {one.score:.2f}"
        colour = AGREED_COLOUR
        if one not in agreed:
            text, colour = f"{alone}: {text}", ALONE_COLOUR
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        place = _place(one, (right - left + 6, bottom - top + 6), image.size, taken)
        taken.append(place)
        draw.rectangle(place, fill=colour)
        draw.text((place[0] + 3 - left, place[1] + 3 - top), text, fill=_INK, font=font)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()


def _place(one: Detection, size: tuple[float, float], image: tuple[int, int], taken: list[_Box]) -> _Box:
    """Where a label goes: above its box, inside, below; where no other label is, if there is such a place."""
    left = min(max(0.0, one.x0 * (image[0] - 1)), max(0.0, image[0] - 1 - size[0]))
    right = max(0.0, min(one.x1 * (image[0] - 1), image[0] - 1) - size[0])
    above, inside = one.y0 * (image[1] - 1) - size[1], one.y0 * (image[1] - 1)
    below, foot = one.y1 * (image[1] - 1), one.y1 * (image[1] - 1) - size[1]
    corners = [(x, y) for y in (above, inside, below, foot) for x in (left, right)]
    boxes = [
        (x, min(max(0.0, y), image[1] - 1 - size[1]), x + size[0], min(max(0.0, y), image[1] - 1 - size[1]) + size[1])
        for x, y in corners
    ]
    free = (box for box in boxes if not any(_touch(box, other) for other in taken))
    return next(free, boxes[0])


def _touch(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _dashed(draw: ImageDraw.ImageDraw, box: _Box) -> None:
    """A thick dashed rectangle."""
    x0, y0, x1, y1 = box
    for start, end in (((x0, y0), (x1, y0)), ((x1, y0), (x1, y1)), ((x1, y1), (x0, y1)), ((x0, y1), (x0, y0))):
        length = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
        for at in range(0, int(length), 2 * _DASH):
            a, b = at / length, min(1.0, (at + _DASH) / length)
            points = [(start[0] + (end[0] - start[0]) * t, start[1] + (end[1] - start[1]) * t) for t in (a, b)]
            draw.line([*points[0], *points[1]], fill=ALONE_COLOUR, width=3)
