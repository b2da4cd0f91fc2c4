"""The sequence parameter set (H.265 7.3.2.2), as far as it is needed to know a picture's size before decoding it."""

from __future__ import annotations

from dataclasses import dataclass

from ..bits import BitReader
from ..errors import StreamError
from .nal import NalUnit, unescape

#: Largest side of a coded picture, in luma samples.
MAX_SIDE = 8192
#: Largest number of luma samples in a coded picture.
MAX_PIXELS = 1 << 26
#: How far a coded picture may reach past its output, in samples a side: hardware encoders code at least 256x128 and pad
#: to 128. It bounds the decoder's memory by the map's size, whatever crop the SPS claims.
MAX_MARGIN = 256

#: SubWidthC and SubHeightC by chroma_format_idc (H.265 table 6-1).
_SUB_WIDTH_C = (1, 2, 2, 1)
_SUB_HEIGHT_C = (1, 2, 1, 1)
_CHROMA_NAMES = ("4:0:0", "4:2:0", "4:2:2", "4:4:4")

#: Bytes of an SPS that are read at most: what is wanted ends well before, whatever the values.
_MAX_HEAD = 1024


@dataclass(frozen=True)
class Sps:
    """What a sequence parameter set says about its pictures."""

    #: size of the output picture, after cropping, in luma samples
    width: int
    height: int
    #: pic_width_in_luma_samples, pic_height_in_luma_samples: what a decoder allocates
    coded_width: int
    coded_height: int
    #: 0 for 4:0:0, 1 for 4:2:0, 2 for 4:2:2, 3 for 4:4:4
    chroma_format_idc: int
    #: bits per sample
    bit_depth_luma: int
    bit_depth_chroma: int
    #: sps_max_num_reorder_pics, the largest of all sub-layers
    max_num_reorder_pics: int
    #: sps_seq_parameter_set_id
    sps_id: int
    #: the conformance window: luma samples cut off at left, top, right, bottom
    crop: tuple[int, int, int, int]


def parse_sps(nal: NalUnit) -> Sps:
    """Read an SPS up to its sub-layer ordering information; the rest is left to the decoder.

    :raises StreamError: ``bad-sps`` at the NAL unit's offset, whatever is wrong with it
    """
    try:
        return _parse(BitReader(unescape(nal.data[2:_MAX_HEAD])), nal.offset)
    except StreamError as error:
        if error.name == "bad-sps":
            raise
        # An offset within the unescaped payload means nothing to the reader of the message.
        raise StreamError("bad-sps", nal.offset, f"{error.name}: {error.text}") from None


def check_sps(sps: Sps, offset: int) -> None:
    """Refuse what the feature-map stream does not allow: see "The video inside" and "Damage".

    :param offset: absolute byte offset of the SPS, for the error
    :raises StreamError: ``video-size``, ``video-chroma``, ``video-bit-depth`` or ``video-reordering``
    """
    if sps.chroma_format_idc not in (0, 1):
        found = _CHROMA_NAMES[sps.chroma_format_idc]
        raise StreamError("video-chroma", offset, f"{found} video, expected 4:0:0 or 4:2:0")
    chroma_depth = sps.bit_depth_chroma if sps.chroma_format_idc else 8
    if sps.bit_depth_luma != 8 or chroma_depth != 8:
        found = f"{sps.bit_depth_luma}-bit luma" + (f", {chroma_depth}-bit chroma" if sps.chroma_format_idc else "")
        raise StreamError("video-bit-depth", offset, f"{found}, expected 8 bits")
    if sps.max_num_reorder_pics:
        found = f"sps_max_num_reorder_pics is {sps.max_num_reorder_pics}"
        raise StreamError("video-reordering", offset, f"{found}, expected 0: pictures come in output order")
    width, height = sps.coded_width, sps.coded_height
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        limits = f"sides of 1..{MAX_SIDE} and at most {MAX_PIXELS} pixels"
        raise StreamError("video-size", offset, f"coded size {width}x{height}, expected {limits}")


def _parse(io: BitReader, at: int) -> Sps:
    io.u(4)  # sps_video_parameter_set_id
    max_sub_layers_minus1 = _in_range(io.u(3), 6, "sps_max_sub_layers_minus1", at)
    io.u(1)  # sps_temporal_id_nesting_flag
    _skip_profile_tier_level(io, max_sub_layers_minus1)
    sps_id = _in_range(io.ue(), 15, "sps_seq_parameter_set_id", at)
    chroma_format_idc = _in_range(io.ue(), 3, "chroma_format_idc", at)
    if chroma_format_idc == 3:
        io.u(1)  # separate_colour_plane_flag
    coded_width = io.ue()
    coded_height = io.ue()
    left = top = right = bottom = 0
    if io.u(1):  # conformance_window_flag
        left, right = (io.ue() * _SUB_WIDTH_C[chroma_format_idc] for _ in range(2))
        top, bottom = (io.ue() * _SUB_HEIGHT_C[chroma_format_idc] for _ in range(2))
    width, height = coded_width - left - right, coded_height - top - bottom
    if width <= 0 or height <= 0:
        raise StreamError("bad-sps", at, f"{coded_width}x{coded_height} samples, {width}x{height} after cropping")
    bit_depth_luma = 8 + _in_range(io.ue(), 8, "bit_depth_luma_minus8", at)
    bit_depth_chroma = 8 + _in_range(io.ue(), 8, "bit_depth_chroma_minus8", at)
    _in_range(io.ue(), 12, "log2_max_pic_order_cnt_lsb_minus4", at)
    for_all_sub_layers = io.u(1)  # sps_sub_layer_ordering_info_present_flag
    max_num_reorder_pics = 0
    for _ in range(max_sub_layers_minus1 + 1 if for_all_sub_layers else 1):
        max_dec_pic_buffering_minus1 = _in_range(io.ue(), 15, "sps_max_dec_pic_buffering_minus1", at)
        reorder = _in_range(io.ue(), max_dec_pic_buffering_minus1, "sps_max_num_reorder_pics", at)
        max_num_reorder_pics = max(max_num_reorder_pics, reorder)
        io.ue()  # sps_max_latency_increase_plus1
    return Sps(
        width=width,
        height=height,
        coded_width=coded_width,
        coded_height=coded_height,
        chroma_format_idc=chroma_format_idc,
        bit_depth_luma=bit_depth_luma,
        bit_depth_chroma=bit_depth_chroma,
        max_num_reorder_pics=max_num_reorder_pics,
        sps_id=sps_id,
        crop=(left, top, right, bottom),
    )


def _skip_profile_tier_level(io: BitReader, max_sub_layers_minus1: int) -> None:
    """profile_tier_level(1, max_sub_layers_minus1) of H.265 7.3.3: nothing in it says what a decoder must allocate."""
    io.u(88)  # general profile: space, tier, idc, compatibility, constraints
    io.u(8)  # general_level_idc
    if not max_sub_layers_minus1:
        return
    present = [(io.u(1), io.u(1)) for _ in range(max_sub_layers_minus1)]
    io.r(2 * (8 - max_sub_layers_minus1))  # reserved_zero_2bits up to the eighth sub-layer
    for profile_present, level_present in present:
        io.u(88 * profile_present)
        io.u(8 * level_present)


def _in_range(value: int, most: int, name: str, at: int) -> int:
    if value > most:
        raise StreamError("bad-sps", at, f"{name} is {value}, expected 0..{most}")
    return value
