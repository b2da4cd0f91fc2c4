"""From the packets of an encoder, arranged as it likes, to the access units that the feature-map stream carries."""

from __future__ import annotations

from ..bits import BitReader
from ..errors import EncoderError, StreamError
from .nal import (
    FIRST_IRAP,
    LAST_IRAP,
    PPS,
    PREFIX_SEI,
    SPS,
    START_CODE,
    SUFFIX_SEI,
    VPS,
    NalUnit,
    split_nal_units,
    unescape,
)
from .sps import MAX_MARGIN, Sps, check_sps, parse_sps

_PARAMETER_SETS = {VPS: "VPS", SPS: "SPS", PPS: "PPS"}


class SessionUnits:
    """The access units of one encoder session. After an error the session is over.

    Slices, parameter sets and SEI are carried. What else encoders write is dropped, for the host's decoder does without
    and each picture is framed anyway: access unit delimiters (7 bytes a picture, and they would have to stand before
    the parameter sets that are put in front), end of sequence and of bitstream (nothing could be appended behind them,
    and they would make the next picture wait for an intra picture), filler data, reserved and unspecified types,
    and zero bytes behind a NAL unit.

    :param width: of every picture, in luma samples, after cropping
    :param height: likewise
    """

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        #: by nal_unit_type and the set's own id
        self._sets: dict[tuple[int, int], bytes] = {}
        self._unsent: set[tuple[int, int]] = set()
        #: prefix SEI that came before their picture
        self._announced: list[bytes] = []
        self._pictures = 0

    def take(self, data: bytes | memoryview, intra: bool) -> bytes | None:
        """The access unit in a packet.

        :param data: Annex-B bytes: parameter sets alone, or a picture with all of its slices; copied
        :param intra: an intra picture was asked for
        :returns: one access unit, Annex B, VPS, SPS and PPS in front of each intra random access picture; None: there
            were only parameter sets, which go with the next picture
        :raises EncoderError: no Annex-B bytes, no whole picture or more than one, no intra picture where one was asked
            for or begins the session, or pictures other than `width` x `height`, 8 bit, 4:0:0 or 4:2:0, in order
        """
        try:
            return self._take(list(split_nal_units(data)), intra)
        except StreamError as error:
            raise EncoderError(f"picture {self._pictures}: {error}") from error

    def _take(self, nals: list[NalUnit], intra: bool) -> bytes | None:
        picture: list[NalUnit] = []  # slices, and the suffix SEI between and behind them
        behind: list[NalUnit] = []  # behind the slices: what announces the next picture
        found_sets = False
        for nal in nals:
            if nal.is_vcl:
                self._check_slice(nal, bool(picture), bool(behind))
                picture.append(nal)
            elif nal.type == SUFFIX_SEI:
                if not picture or behind:
                    raise self._error("a suffix SEI without its picture")
                picture.append(nal)
            elif nal.type in _PARAMETER_SETS or nal.type == PREFIX_SEI:
                found_sets |= nal.type != PREFIX_SEI
                if picture:
                    behind.append(nal)
                else:
                    self._announce(nal)
        if not picture:
            if found_sets:
                return None
            types = ", ".join(str(nal.type) for nal in nals[:8])
            raise self._error(f"no slices, only NAL units of types {types}")
        unit = self._unit(picture, intra)
        for nal in behind:
            self._announce(nal)
        return unit

    def _unit(self, picture: list[NalUnit], intra: bool) -> bytes:
        is_irap = FIRST_IRAP <= picture[0].type <= LAST_IRAP
        if not is_irap and (intra or not self._pictures):
            wanted = "an intra picture was asked for" if intra else "the session begins with it"
            raise self._error(f"NAL units of type {picture[0].type}, and {wanted}")
        if is_irap:
            there = {kind for kind, _ in self._sets}
            if missing := [name for kind, name in _PARAMETER_SETS.items() if kind not in there]:
                raise self._error(f"an intra picture, and no {', '.join(missing)} came before it")
        # A decoder may begin at any intra random access picture; others need only what is new.
        heads = sorted(self._sets if is_irap else self._unsent)
        pieces: list[bytes | memoryview] = []
        for head in [*(self._sets[key] for key in heads), *self._announced]:
            pieces += [b"\0", START_CODE, head]
        # zero_byte where an access unit begins or a parameter set does (B.1.2)
        if not pieces:
            pieces.append(b"\0")
        for nal in picture:
            pieces += [START_CODE, nal.data]
        self._unsent.clear()
        self._announced.clear()
        self._pictures += 1
        return b"".join(pieces)

    def _check_slice(self, nal: NalUnit, begun: bool, ended: bool) -> None:
        if len(nal.data) < 3:
            raise self._error(f"a slice of {len(nal.data)} bytes, expected 3 or more")
        first = nal.data[2] >> 7  # first_slice_segment_in_pic_flag
        if first and begun:
            raise self._error("two pictures in one packet, expected one")
        if not first and (not begun or ended):
            raise self._error("a picture without its first slice: whole pictures are expected in a packet")

    def _announce(self, nal: NalUnit) -> None:
        """Keep what belongs to the next picture."""
        data = bytes(nal.data)
        if nal.type == PREFIX_SEI:
            self._announced.append(data)
            return
        if nal.type == SPS:
            sps = parse_sps(nal)
            self._check(sps, nal)
            number = sps.sps_id
        else:
            io = BitReader(unescape(data[2:16]))
            number = io.u(4) if nal.type == VPS else io.ue()
        key = (nal.type, number)
        if self._sets.get(key) != data:
            self._sets[key] = data
            self._unsent.add(key)

    def _check(self, sps: Sps, nal: NalUnit) -> None:
        check_sps(sps, nal.offset)
        coded, cropped = f"{sps.coded_width}x{sps.coded_height}", f"{sps.width}x{sps.height}"
        wanted = f"{self.width}x{self.height}"
        if (sps.width, sps.height) != (self.width, self.height):
            raise self._error(
                f"the encoder codes {coded} and shows {cropped}, wanted {wanted}: plan the packing anew, "
                "for the limits of this encoder"
            )
        if sps.coded_width > self.width + MAX_MARGIN or sps.coded_height > self.height + MAX_MARGIN:
            raise self._error(
                f"the encoder codes {coded} for {wanted}, which hosts refuse: more than {MAX_MARGIN} samples of padding"
            )

    def _error(self, text: str) -> EncoderError:
        return EncoderError(f"picture {self._pictures}: {text}")
