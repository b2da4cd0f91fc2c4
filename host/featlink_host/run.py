"""`featlink-host run`: a stream as it comes, decoded, through the head, into detections."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import FeatlinkError, SettingsError
from featlink_codec.extractor import ExtractorSettings, SsdDetectorTask
from featlink_codec.features import Event, FeatureMap, Profile, SequenceStart, StreamReader, Tag
from featlink_codec.features.samples import samples_of
from featlink_codec.files import whole_file

from .decode import StreamIndex, follow
from .detector import Detection, SsdDetector
from .head import Head

#: Maps that a report can speak of. A host may run for months: memory must not grow with every map.
MAX_RECORDS = 20_000


@dataclass(frozen=True)
class MapRecord:
    """What became of one delivered map."""

    k: int
    #: seconds since 1970; None where it is not known
    time_s: float | None
    #: bytes of the stream from the end of the map before to the end of this one: its share, headers included
    stream_bytes: int
    #: the map begins with an intra picture and parameter sets
    starts_session: bool
    #: every picture was verified by its MD5 hash; else damage that FFmpeg does not notice has passed
    hashed: bool
    detections: list[Detection]
    #: stage -> milliseconds: decode (HEVC, unpack and dequantize), head, detect
    stages_ms: dict[str, float]
    #: bytes of the map as raw float32
    raw_bytes: int
    #: bytes of its levels through zlib; 0 unless asked for
    zlib_bytes: int


@dataclass
class RunResult:
    """A whole run."""

    #: the first MAX_RECORDS maps; `detections.jsonl` has them all
    records: list[MapRecord] = field(default_factory=list)
    #: all maps that came out
    maps: int = 0
    #: those of them whose pictures carry no hash
    unhashed: int = 0
    #: what was lost
    index: StreamIndex = field(default_factory=lambda: StreamIndex(errors_only=True))
    #: all bytes that came, headers, tags and end code included
    stream_bytes: int = 0
    #: seconds since 1970 of the first time tag, also where its map was lost; None where it is not known
    start_s: float | None = None
    #: the first picture of the first map as it was decoded, pads 0, scaled to 0..255: uint8 [rows, columns]
    tile: NDArray[np.uint8] | None = None


class HostRun:
    """Takes the chunks of a stream and writes `detections.jsonl` as maps come.

    :param folder: of the extractor
    :param measure: also find out what zlib would have made of each map, for the report
    :raises FeatlinkError: the extractor cannot be used
    """

    def __init__(self, folder: Path, *, measure: bool = False) -> None:
        self.settings = ExtractorSettings.load(folder, parts=("head", "task"))
        self._head = Head(folder, self.settings)
        self._detector: SsdDetector | None = None
        if isinstance(self.settings.task, SsdDetectorTask):
            self._detector = SsdDetector.from_extractor(folder, self.settings)
        self._measure = measure

    def run(
        self, chunks: Iterable[bytes], out: Path, on_map: Callable[[MapRecord], None] = lambda _: None
    ) -> RunResult:
        """Go through the stream to its end.

        :param out: folder for `detections.jsonl`, and for `outputs/` where the extractor has no task
        :param on_map: called after each map
        :raises RefusedError: the stream cannot be read
        :raises SettingsError: its maps are not the extractor's
        """
        video = self.settings.video
        reader = StreamReader(
            Profile(video.profile), video.level_scaling, require_hash=video.picture_hash, wanted=self._head.wanted
        )
        result = RunResult()
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FeatlinkError(f"{out}: {error.strerror}") from None
        counted = _Counted(chunks)
        counted_to = 0  # stream offset behind the last map
        with whole_file(out / "detections.jsonl") as lines:
            for events, decode_ms in _timed_batches(follow(reader, counted, result.index), counted):
                for event in events:
                    if isinstance(event, SequenceStart):
                        self._check_extractor(event)
                    if isinstance(event, Tag) and event.index == 0:
                        result.start_s = event.time_s
                    if not isinstance(event, FeatureMap):
                        continue
                    end = event.offset + event.nbytes
                    record = self._map(event, result.maps, end - counted_to, decode_ms, out)
                    counted_to = end
                    if result.tile is None:
                        result.tile = _first_picture(event)
                    result.maps += 1
                    result.unhashed += not record.hashed
                    if len(result.records) < MAX_RECORDS:
                        result.records.append(record)
                    lines.write((json.dumps(_line(record)) + "\n").encode())
                    lines.flush()
                    on_map(record)
        result.stream_bytes = counted.total
        if result.index.refusal is not None:
            raise result.index.refusal
        return result

    def _check_extractor(self, event: SequenceStart) -> None:
        expected, found = self.settings.extractor.feat_extractor_id, event.header.feat_extractor_id
        if found != expected:
            raise SettingsError(f"the stream comes from extractor {found}, the folder holds number {expected}")

    def _map(self, event: FeatureMap, k: int, stream_bytes: int, decode_ms: float, out: Path) -> MapRecord:
        assert event.levels is not None
        stages = {"decode": decode_ms}
        with _timed(stages, "head"):
            outputs = self._head.run(event)
        detections: list[Detection] = []
        with _timed(stages, "detect"):
            if self._detector is not None:
                task = self._detector.task
                detections = self._detector(outputs[task.boxes_output], outputs[task.logits_output])
            else:
                _save_outputs(out / "outputs", k, outputs)
        return MapRecord(
            k=k,
            time_s=event.time_s,
            stream_bytes=stream_bytes,
            starts_session=event.starts_session,
            hashed=event.hashed,
            detections=detections,
            stages_ms=stages,
            raw_bytes=event.levels.size * 4,
            zlib_bytes=len(zlib.compress(event.levels.transpose(2, 0, 1).tobytes())) if self._measure else 0,
        )


class _Counted:
    """Chunks, with their bytes counted and the time spent waiting for them."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.total = 0
        self.waited_s = 0.0

    def __iter__(self) -> Iterator[bytes]:
        chunks = iter(self._chunks)
        while True:
            begin_s = time.perf_counter()
            chunk = next(chunks, None)
            self.waited_s += time.perf_counter() - begin_s
            if chunk is None:
                return
            self.total += len(chunk)
            yield chunk


def _timed_batches(batches: Iterator[list[Event]], counted: _Counted) -> Iterator[tuple[list[Event], float]]:
    """Each batch of events with the milliseconds of decoding that each of its maps took, waiting left out."""
    spent_s = 0.0
    while True:
        begin_s, waited_s = time.perf_counter(), counted.waited_s
        events = next(batches, None)
        spent_s += time.perf_counter() - begin_s - (counted.waited_s - waited_s)
        if events is None:
            return
        maps = sum(isinstance(event, FeatureMap) for event in events)
        yield events, spent_s * 1e3 / max(maps, 1)
        if maps:
            spent_s = 0.0


@contextmanager
def _timed(stages_ms: dict[str, float], name: str) -> Iterator[None]:
    begin_s = time.perf_counter()
    yield
    stages_ms[name] = (time.perf_counter() - begin_s) * 1e3


def _first_picture(event: FeatureMap) -> NDArray[np.uint8]:
    """The first picture of a map, packed again from its levels."""
    assert event.levels is not None
    picture = np.zeros(event.picture_size, np.uint8)
    event.packing.pack(samples_of(event.levels, event.header.bit_depth, True)[0], 0, picture)
    return picture


def _line(record: MapRecord) -> dict[str, Any]:
    line = asdict(record)
    del line["raw_bytes"], line["zlib_bytes"]
    return line


def _save_outputs(folder: Path, k: int, outputs: dict[str, NDArray[Any]]) -> None:
    """Where the extractor has no task, the head's outputs are the result."""
    folder.mkdir(exist_ok=True)
    with whole_file(folder / f"{k:05d}.npz") as file:
        arrays: dict[str, Any] = {name.replace("/", "_"): array for name, array in outputs.items()}
        np.savez(file, **arrays)
