"""`featlink-device check`: reads a stream back on the camera itself, and says what every map holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from featlink_codec.errors import FeatlinkError, RefusedError
from featlink_codec.features import Damage, FeatureMap, StreamReader

#: Exit codes, the same as the host's `decode`.
EXIT_WHOLE, EXIT_REFUSED, EXIT_LOST = 0, 2, 3
#: Errors that are listed; the rest is counted.
MAX_ERRORS = 100
_CHUNK = 1 << 16


def read_chunks(path: Path) -> Iterator[bytes]:
    """A file in pieces.

    :raises FeatlinkError: it cannot be read
    """
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise FeatlinkError(f"{path}: {error.strerror or error}") from None


def check_stream(reader: StreamReader, chunks: Iterable[bytes]) -> dict[str, Any]:
    """What a stream holds and what of it is damaged, ready for JSON.

    `levels_sha256` of a map is that of its levels as int32 in little-endian order, [H, W, C]: the content of the
    k_levels.npy files that `featlink-host decode` writes. `video_sha256` is that of its video_codec_stream().

    :param reader: it must decode
    :returns: exit_code (0 whole, 3 something was lost, 2 refused), maps, errors, errors_left_out
    """
    maps: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    left_out = 0
    code = EXIT_WHOLE

    def events() -> Iterator[Any]:
        for chunk in chunks:
            yield from reader.feed(chunk)
        yield from reader.close()

    try:
        for event in events():
            if isinstance(event, FeatureMap):
                maps.append(describe_map(event))
            elif isinstance(event, Damage):
                code = EXIT_LOST
                if len(errors) < MAX_ERRORS:
                    error = event.error
                    errors.append({"name": error.name, "offset": error.offset, "text": error.text})
                else:
                    left_out += 1
    except RefusedError as error:
        code = EXIT_REFUSED
        errors.append({"name": error.name, "offset": error.offset, "text": error.text})
    return {"exit_code": code, "maps": maps, "errors": errors, "errors_left_out": left_out}


def describe_map(event: FeatureMap) -> dict[str, Any]:
    """One map: where it is, its shape, and hashes of its levels and of its video."""
    assert event.levels is not None
    levels = np.ascontiguousarray(event.levels, "<i4")
    return {
        "offset": event.offset,
        "bytes": event.nbytes,
        "time_s": event.time_s,
        "feat_type_id": event.header.feat_type_id,
        "shape_hwc": list(event.shape),
        "pictures": event.pictures,
        "starts_session": event.starts_session,
        "hashed": event.hashed,
        "levels_sha256": hashlib.sha256(levels.tobytes()).hexdigest(),
        "video_sha256": hashlib.sha256(event.video).hexdigest(),
    }
