"""Another size and pixel format for a picture, without swscale's shortcuts.

Its default conversions shift colours by up to three levels, which alone makes a network find other objects, and they
depend on the CPU's vector units. PyAV's reformatter can be told to be exact only from version 18 on, a filter graph
in all.
"""

from __future__ import annotations

from fractions import Fraction

import av
import av.filter
from av import VideoFrame

_FLAGS = "bilinear+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
#: A buffer source wants one; nothing here looks at times.
_TIME_BASE = Fraction(1, 90000)


class Converter:
    """Turns frames into one pixel format and size. Holds swscale's tables from frame to frame.

    :param pixel_format: FFmpeg's name, e.g. ``rgb24``
    :param size: (width, height); None: each frame keeps its own
    """

    def __init__(self, pixel_format: str, size: tuple[int, int] | None = None) -> None:
        self._format = pixel_format
        self._scale = f"flags={_FLAGS}" if size is None else f"w={size[0]}:h={size[1]}:flags={_FLAGS}"
        self._graph: av.filter.Graph | None = None
        self._kind: tuple[int, int, str] | None = None

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """The frame in the other format."""
        kind = (frame.width, frame.height, frame.format.name)
        if self._graph is None or kind != self._kind:
            self._graph, self._kind = self._new_graph(*kind), kind
        self._graph.push(frame)
        converted = self._graph.pull()
        assert isinstance(converted, VideoFrame)
        return converted

    def _new_graph(self, width: int, height: int, pixel_format: str) -> av.filter.Graph:
        graph = av.filter.Graph()
        chain = [
            graph.add_buffer(width=width, height=height, format=av.VideoFormat(pixel_format), time_base=_TIME_BASE),
            graph.add("scale", self._scale),
            graph.add("format", self._format),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*chain).configure()
        return graph
