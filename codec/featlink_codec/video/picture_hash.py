"""The decoded picture hash SEI message (H.265 D.2.19, D.3.19), MD5: how a decoder can know that a picture is right."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError, StreamError
from .nal import START_CODE, SUFFIX_SEI, AccessUnit, NalUnit, escape, unescape

#: payloadType of the decoded picture hash
_PICTURE_HASH = 132
#: hash_type of MD5; 1 is CRC, 2 is checksum: FFmpeg verifies neither
_MD5 = 0
_RBSP_TRAILING = b"\x80"


def md5_sei_nal(planes: Sequence[NDArray[np.uint8]]) -> bytes:
    """The suffix SEI NAL unit, start code included, that goes behind the last slice of a picture.

    :param planes: uint8 [H,W] each, as a decoder reconstructs them BEFORE it cuts off the conformance window (a
        picture of 19x19 may be coded as 24x24): luma alone for 4:0:0; luma, Cb, Cr for 4:2:0
    :raises SettingsError: other than 1 or 3 planes, or not uint8 [H,W]
    """
    if len(planes) not in (1, 3):
        raise SettingsError(f"{len(planes)} planes: 1 (4:0:0) or 3 wanted")
    payload = bytearray([_MD5])
    for plane in planes:
        if plane.ndim != 2 or plane.dtype != np.uint8:
            raise SettingsError(f"a plane is {plane.dtype} of {plane.ndim} dimensions: uint8 [H,W] wanted")
        payload += hashlib.md5(np.ascontiguousarray(plane).data, usedforsecurity=False).digest()
    rbsp = bytes([_PICTURE_HASH, len(payload)]) + payload + _RBSP_TRAILING
    # nal_unit_type in bits 1..6, nuh_layer_id 0, nuh_temporal_id_plus1 1
    return START_CODE + bytes([SUFFIX_SEI << 1, 1]) + escape(rbsp)


def has_md5(access_unit: AccessUnit) -> bool:
    """Whether an MD5 picture hash stands in the access unit, so that its decoding verifies itself.

    :raises StreamError: ``bad-video``: a suffix SEI that does not end where its messages do. Decoders do not mind, but
        what stands behind it may be a swallowed map
    """
    found = False
    for nal in access_unit.nal_units:
        if nal.type == SUFFIX_SEI:
            for kind, payload in _sei_messages(nal):  # to the end, even when a hash is found
                found |= kind == _PICTURE_HASH and len(payload) >= 17 and payload[0] == _MD5
    return found


def _sei_messages(nal: NalUnit) -> Iterator[tuple[int, bytes]]:
    """(payloadType, payload) of each sei_message (H.265 7.3.5), and then the trailing bits, exactly."""
    rbsp = unescape(nal.data[2:])
    at = 0
    while rbsp[at:] != _RBSP_TRAILING:
        kind, at = _sei_number(rbsp, at)
        size, at = _sei_number(rbsp, at)
        if at + size >= len(rbsp):
            raise StreamError("bad-video", nal.offset, f"an SEI message of {size} bytes, {len(rbsp) - at} are left")
        yield kind, rbsp[at : at + size]
        at += size


def _sei_number(rbsp: bytes, at: int) -> tuple[int, int]:
    """A payloadType or payloadSize: 255 for each ff_byte, then the last byte. Returns it and the index behind it."""
    value = 0
    while at < len(rbsp) and rbsp[at] == 255:
        value += 255
        at += 1
    return (value + rbsp[at], at + 1) if at < len(rbsp) else (value, at)
