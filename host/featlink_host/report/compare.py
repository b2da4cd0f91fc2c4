"""Go once through the source's pictures: the whole network on the originals, on JPEGs and on x265 streams of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from av import VideoFrame

from featlink_codec.errors import SettingsError
from featlink_codec.extractor import ExtractorSettings, SsdDetectorTask, sha256_of
from featlink_codec.extractor.preprocess import Preprocessor
from featlink_codec.video.clip import open_source

from ..detector import Agreement, Detection, SsdDetector, agreement
from ..inference import open_session
from ..run import MapRecord
from .boxes import small_jpeg
from .comparison import FEATURES, ComparedPicture, Comparison, Method, ShownPicture
from .pairing import Pair, pair_up
from .rivals import JpegRival, PlainRival, Rival, X265Rival, check_crf

DEFAULT_CRFS = (23.0, 28.0, 33.0, 38.0)
#: Detections below it do not count, and boxes that overlap by less do not match.
SCORE = 0.4
IOU = 0.5
#: Pictures to show, one from each such share of the run, and how wide.
SHOWN = 6
SHOWN_WIDTH = 480


def compare(
    settings: ExtractorSettings,
    folder: Path,
    source: Path,
    records: list[MapRecord],
    *,
    crfs: Sequence[float] = DEFAULT_CRFS,
    whole_model: Path | None = None,
    start_s: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Compare a run with what else one could have sent, over the pictures whose map came.

    The whole network on the original picture is the reference; no more than one picture is held at a time. Where the
    extractor has no task there is nothing to agree on: bytes are compared, and no network is run.

    :param folder: the extractor, for its task's files and its whole network
    :param source: what the camera saw: a video, an image, a folder of images
    :param records: of the run
    :param crfs: an x265 stream for each; may be empty
    :param whole_model: the network that was split; None: the one that the extractor's folder holds
    :param start_s: seconds since 1970 of the source's first picture; None: the first map is of it
    :param progress: called with (maps done, maps in all)
    :raises SettingsError: no whole network, or another one than was split; no map belongs to a picture of the source
    :raises FeatlinkError: the source or the network cannot be read
    """
    for crf in crfs:
        check_crf(crf)
    whole = _Whole(settings, folder, whole_model) if isinstance(settings.task, SsdDetectorTask) else None
    clip = open_source(source)
    tally = _Tally(settings, whole, tuple(dict.fromkeys(crfs)), len(records))
    tell = progress or (lambda done, total: None)
    for pair in pair_up(clip, records, start_s, 1 / clip.fps):
        tally.add(pair)
        tell(len(tally.pictures), len(records))
    if not tally.pictures:
        raise SettingsError(f"{source}: none of {len(records)} maps belongs to a picture of it: it is another source")
    tell(len(records), len(records))
    return tally.result(source.name, 1 / clip.fps)


class _Whole:
    """The network before it was split, from picture to detections."""

    def __init__(self, settings: ExtractorSettings, folder: Path, model: Path | None) -> None:
        assert isinstance(settings.task, SsdDetectorTask)
        if model is None:
            if settings.models.whole is None:
                raise SettingsError(
                    f"{folder}: holds no whole network to compare with: prepare it again with the whole network kept, "
                    "or say where the network is"
                )
            settings.verify(folder, ("whole",))
            model = folder / settings.models.whole
        elif (found := sha256_of(model)) != settings.source_model.sha256:
            raise SettingsError(
                f"{model}: found SHA-256 {found}, expected {settings.source_model.sha256}, the network that was split"
            )
        self._session = open_session(model)
        self._detector = SsdDetector.from_extractor(folder, settings)
        self._outputs = [settings.task.boxes_output, settings.task.logits_output]
        self._input = settings.input.tensor
        self._preprocess = Preprocessor(settings.input)
        self._tensor = self._preprocess.new_tensor()

    def __call__(self, picture: VideoFrame) -> tuple[list[Detection], float]:
        """The detections in a picture, and the milliseconds that the network itself took."""
        self._preprocess(picture, self._tensor)
        begin_s = time.perf_counter()
        boxes, logits = self._session.run(self._outputs, {self._input: self._tensor})
        spent_ms = (time.perf_counter() - begin_s) * 1e3
        return self._detector(boxes, logits), spent_ms


@dataclass
class _Column:
    """What comes together for one method."""

    nbytes: list[int] = field(default_factory=list)
    agreements: list[Agreement] = field(default_factory=list)


class _Tally:
    """Numbers of the pictures so far, and the few pictures that will be shown."""

    def __init__(self, settings: ExtractorSettings, whole: _Whole | None, crfs: Sequence[float], maps: int) -> None:
        self._settings = settings
        self._whole = whole
        self._crfs = crfs
        self._rivals: list[Rival] = [JpegRival(), PlainRival(settings.input)]
        self._columns: dict[str, _Column] = {FEATURES: _Column()}
        self.pictures: list[ComparedPicture] = []
        self._whole_ms: list[float] = []
        self._maps = maps
        #: by share of the run: how much there is to see, and the picture
        self._shown: dict[int, tuple[int, ShownPicture]] = {}
        self._worst: ShownPicture | None = None
        self._worst_by = 0
        self._size = (0, 0)

    def add(self, pair: Pair) -> None:
        """Take in the next picture and its map."""
        picture, record = pair.picture, pair.record
        if not self.pictures:
            self._begin(picture.frame, pair.gap_s)
        self.pictures.append(ComparedPicture(picture.number, picture.time_s, record.k))
        reference: list[Detection] = []
        if self._whole is not None:
            reference, spent_ms = self._whole(picture.frame)
            self._whole_ms.append(spent_ms)
            self._agree(FEATURES, reference, record.detections)
        self._columns[FEATURES].nbytes.append(record.stream_bytes)
        for rival in self._rivals:
            nbytes, seen = rival.code(picture.frame, picture.time_s)
            self._columns[rival.key].nbytes.append(nbytes)
            if self._whole is not None:
                self._agree(rival.key, reference, self._whole(seen)[0])
        self._show(pair, reference)

    def _begin(self, frame: VideoFrame, gap_s: float) -> None:
        """The rivals, once the first picture is there."""
        self._size = (frame.width, frame.height)
        size, refresh_s = self._settings.input, self._settings.video.refresh_s
        self._rivals += [X265Rival(crf, size, refresh_s, gap_s) for crf in self._crfs]
        self._columns |= {rival.key: _Column() for rival in self._rivals}

    def _agree(self, key: str, reference: list[Detection], found: list[Detection]) -> None:
        self._columns[key].agreements.append(agreement(reference, found, SCORE, IOU))

    def _show(self, pair: Pair, reference: list[Detection]) -> None:
        """Keep the picture where there is more to see than in any before it of its share, or if it is the worst yet."""
        if self._whole is None:
            return
        share = (len(self.pictures) - 1) * SHOWN // self._maps
        objects = sum(one.score >= SCORE for one in reference)
        richest = share not in self._shown or objects > self._shown[share][0]
        latest = self._columns[FEATURES].agreements[-1]
        wrong = latest.missed + latest.extra
        if not richest and wrong <= self._worst_by:
            return
        (number, time_s, frame), record = pair.picture, pair.record
        jpeg = small_jpeg(frame, SHOWN_WIDTH, 92)
        shown = ShownPicture(number, time_s, record.k, "rich", tuple(reference), tuple(record.detections), jpeg)
        if richest:
            self._shown[share] = objects, shown
        if wrong > self._worst_by:
            self._worst, self._worst_by = replace(shown, why="worst"), wrong

    def result(self, source: str, lone_gap_s: float) -> Comparison:
        """The finished comparison."""
        first, last = self.pictures[0], self.pictures[-1]
        span_s = last.time_s - first.time_s
        how = {FEATURES: ("features", "the stream as it came, headers and time tags counted")}
        how |= {rival.key: (rival.label, rival.how) for rival in self._rivals}
        shown = {one.number: one for _, one in self._shown.values()}
        if self._worst is not None:
            shown[self._worst.number] = self._worst
        return Comparison(
            source=source,
            source_size=self._size,
            fps=(last.number - first.number) / span_s if span_s > 0 else 1 / lone_gap_s,
            score=SCORE,
            iou=IOU,
            pictures=tuple(self.pictures),
            methods=tuple(
                Method(key, *how[key], tuple(column.nbytes), tuple(column.agreements))
                for key, column in self._columns.items()
            ),
            whole_ms=tuple(self._whole_ms),
            unmatched=self._maps - len(self.pictures),
            shown=tuple(shown[number] for number in sorted(shown)),
        )
