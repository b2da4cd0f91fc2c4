"""From one complete feat_map_data() to its levels: checks first, decoding last, and what later maps may build on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError, StreamError
from ..video.nal import AccessUnit, split_access_units
from ..video.picture_hash import has_md5
from ..video.sps import MAX_PIXELS, Sps, check_sps, parse_sps
from .adaptive.adaptive import AnyQuantizer
from .events import FeatureMap
from .heritage import Heritage, NotInheritableError, Resolved, packing_of
from .map_target import MapTarget, Wanted, unpacking
from .packing import Packing
from .quantizers import CustomQuantizer
from .syntax import MAX_CHANNELS, FeatMapHeader

#: Damage after which it is still known where the map begins and ends and what it would have set: only the map is lost.
#: A bad or unhashed picture is not among it: whole maps may have gone under between two halves of pictures.
EXTENT_KNOWN = frozenset({"no-reference", "video-bit-depth", "video-chroma", "video-reordering"})
#: Pixels of all open decoder sessions together; beyond, the one unused for longest is closed. A decoder holds up to 17
#: pictures, so this bounds memory however many types a stream opens.
MAX_SESSION_PIXELS = 2 * MAX_PIXELS


class VideoDecoder(Protocol):
    """One decoder session: access units in, luma out."""

    def decode(self, access_unit: AccessUnit) -> NDArray[np.uint8]:
        """The one picture of an access unit, uint8 [rows, columns], good until the next call at least.

        :raises StreamError: the session is over
        """

    def close(self) -> None:
        """Free the session."""


#: Makes a session for pictures of (width, height).
DecoderFactory = Callable[[int, int], VideoDecoder]


def pyav_decoder(width: int, height: int) -> VideoDecoder:
    """A session of FFmpeg's decoder."""
    from ..video.decoder import HevcDecoder  # PyAV is needed only where pixels are

    return HevcDecoder(width, height)


@dataclass(eq=False)
class _Session:
    decoder: VideoDecoder | None
    height: int
    width: int
    coded_pixels: int
    #: How the last map was unpacked; most are like the one before.
    kind: object = None
    new_target: Callable[[], MapTarget] | None = None


class MapDecoder:
    """Decodes maps in stream order. Holds heritage and one video session per feat_type_id.

    :param level_scaling: samples carry level * 255 / peak
    :param new_decoder: None: check everything but the pixels, and give maps without levels
    :param require_hash: refuse pictures without an MD5 hash from the first one on
    :param wanted: what maps shall hold
    """

    def __init__(
        self, level_scaling: bool, new_decoder: DecoderFactory | None, require_hash: bool, wanted: Wanted
    ) -> None:
        self._level_scaling = level_scaling
        self._wanted = wanted
        self._require_hash = require_hash
        self._new_decoder = new_decoder
        self.heritage = Heritage()
        self._sessions: OrderedDict[int, _Session] = OrderedDict()
        #: Types whose pictures carried hashes. A picture without one among them was cut short, and FFmpeg takes it for
        #: whole; so such a type stays hashed to the end of the sequence, across its sessions.
        self._hashed_types: set[int] = set()

    def clear(self) -> None:
        """After a loss of unknown extent: nothing that came before may be built on."""
        self.heritage.clear()
        self.close()

    def close(self) -> None:
        """Free all sessions."""
        for feat_type_id in list(self._sessions):
            self._close(feat_type_id)

    def resolve(self, header: FeatMapHeader, offset: int) -> Resolved:
        """Apply heritage.

        :raises StreamError: ``no-inherit``
        """
        try:
            return self.heritage.resolve(header)
        except NotInheritableError as error:
            raise StreamError("no-inherit", offset, str(error)) from None

    def decode(
        self, header: FeatMapHeader, offset: int, video: bytes, video_offset: int, zero_bytes: int,
        tag_index: int | None, time_s: float | None,
    ) -> FeatureMap:  # fmt: skip
        """Check, decode and unpack a map.

        :param offset: of the map's start code
        :param video: video_codec_stream() without trailing zero bytes
        :param video_offset: offset of its first byte
        :raises StreamError: what is wrong; heritage and sessions are left as the damage allows, but where the
            extent is not known (`EXTENT_KNOWN`) the caller must `clear`
        """
        resolved = self.resolve(header, offset)
        units = split_access_units(memoryview(video), video_offset, _most_pictures(header, resolved))
        packing = self._packing(header, resolved, len(units), video_offset)
        hashed = all(has_md5(unit) for unit in units)
        if not hashed and (self._require_hash or header.feat_type_id in self._hashed_types):
            raise StreamError("hash-missing", video_offset, "pictures without an MD5 where one is due")
        try:
            session = self._session(header.feat_type_id, units, video_offset)
            height, width = self._map_size(packing, session, video_offset)
            quantizer = self._quantizer(resolved, (height, width, packing.channels), offset)
            target = self._unpacked(quantizer, header.bit_depth, packing, session, units, (height, width))
        except StreamError as error:
            self._close(header.feat_type_id)
            if error.name in EXTENT_KNOWN:
                self.heritage.remember(header, resolved)
            raise
        self.heritage.remember(header, resolved)
        if hashed:
            self._hashed_types.add(header.feat_type_id)
        return FeatureMap(
            offset=offset,
            zero_bytes=zero_bytes,
            header=header,
            tag_index=tag_index,
            time_s=time_s,
            packing=packing,
            shape=(height, width, packing.channels),
            quantizer=quantizer,
            partitions=resolved.partitions,
            video=video,
            pictures=len(units),
            picture_size=(session.height, session.width),
            starts_session=units[0].is_irap and units[0].has_parameter_sets,
            hashed=hashed,
            levels=None if target is None else target.levels,
            tensor=None if target is None else target.tensor,
        )

    def _packing(self, header: FeatMapHeader, resolved: Resolved, pictures: int, offset: int) -> Packing:
        planes = 2 if header.bit_depth == 16 else 1
        if pictures % planes:
            raise StreamError("picture-count", offset, f"{pictures} pictures, a 16-bit map has an even number")
        try:
            packing = packing_of(header, resolved.repack, pictures // planes)
        except SettingsError as error:
            raise StreamError("bad-tile", offset, str(error)) from None
        expected = packing.picture_count(header.bit_depth)
        if pictures != expected:
            raise StreamError(
                "picture-count", offset, f"{pictures} pictures, {packing.channels} channels need {expected}"
            )
        return packing

    def _session(self, feat_type_id: int, units: list[AccessUnit], offset: int) -> _Session:
        """The session that decodes these access units; nothing is decoded yet."""
        found: Sps | None = None
        for unit in units:
            for nal in unit.sps:
                sps = parse_sps(nal)
                check_sps(sps, nal.offset)
                if found is not None and (sps.width, sps.height) != (found.width, found.height):
                    raise StreamError("video-size", nal.offset, "the picture size changes within the map")
                found = sps
        if units[0].is_irap and units[0].has_parameter_sets:
            assert found is not None
            self._close(feat_type_id)
            decoder = self._new_decoder(found.width, found.height) if self._new_decoder else None
            session = _Session(decoder, found.height, found.width, found.coded_width * found.coded_height)
            self._sessions[feat_type_id] = session
            self._keep_within_budget()
        elif feat_type_id in self._sessions:
            session = self._sessions[feat_type_id]
            self._sessions.move_to_end(feat_type_id)
            if found is not None and (found.height, found.width) != (session.height, session.width):
                raise StreamError("video-size", offset, "the picture size changes without an intra picture")
        else:
            self.heritage.lists_may_be_lost = True  # pictures were, so lists may have been
            raise StreamError(
                "no-reference", offset, f"type {feat_type_id} goes on with pictures that were not received"
            )
        return session

    @staticmethod
    def _quantizer(resolved: Resolved, shape: tuple[int, int, int], offset: int) -> AnyQuantizer | None:
        """The map's quantizer, now that its shape is known; classes are inherited with their class map."""
        if resolved.adaptive is None:
            return resolved.quantizer
        try:
            return resolved.adaptive.map_of(shape)
        except SettingsError as error:
            raise StreamError("no-inherit", offset, str(error)) from None

    @staticmethod
    def _map_size(packing: Packing, session: _Session, offset: int) -> tuple[int, int]:
        try:
            return packing.map_size(session.height, session.width)
        except SettingsError as error:
            raise StreamError("bad-size", offset, str(error)) from None

    def _unpacked(
        self, quantizer: AnyQuantizer | None, bit_depth: int, packing: Packing, session: _Session,
        units: list[AccessUnit], size: tuple[int, int],
    ) -> MapTarget | None:  # fmt: skip
        """Decode and unpack."""
        if session.decoder is None:
            return None
        high = packing.pictures if bit_depth == 16 else 0
        target: MapTarget | None = None
        for k, unit in enumerate(units):
            picture = session.decoder.decode(unit)
            if target is None:  # only once a picture has proved good: an SPS may lie about the size
                target = self._new_target(quantizer, bit_depth, packing, session, size)
            if k < high:
                target.keep_high(picture)
            else:
                target.take(picture)
        return target

    def _new_target(
        self, quantizer: AnyQuantizer | None, bit_depth: int, packing: Packing, session: _Session, size: tuple[int, int]
    ) -> MapTarget:
        bounds = quantizer.partitions.tobytes() if isinstance(quantizer, CustomQuantizer) else None
        kind = (bounds or quantizer, bit_depth, packing, size)
        if session.new_target is None or session.kind != kind:
            session.new_target = unpacking(packing, size, bit_depth, self._level_scaling, quantizer, self._wanted)
            session.kind = kind
        return session.new_target()

    def _keep_within_budget(self) -> None:
        while len(self._sessions) > 1 and sum(s.coded_pixels for s in self._sessions.values()) > MAX_SESSION_PIXELS:
            self._close(next(iter(self._sessions)))

    def _close(self, feat_type_id: int) -> None:
        session = self._sessions.pop(feat_type_id, None)
        if session is not None and session.decoder is not None:
            session.decoder.close()


def _most_pictures(header: FeatMapHeader, resolved: Resolved) -> int:
    """More pictures than these are wrong, however many the video holds."""
    if resolved.repack is None:
        return MAX_CHANNELS * 2
    # one more, so that the message can say that there are too many
    return packing_of(header, resolved.repack, 0).picture_count(header.bit_depth) + 1
