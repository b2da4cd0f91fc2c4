"""capture -> preprocess -> backbone -> pack (and quantize) -> HEVC -> stream, in three threads with short queues.

Arrays go round: a stage takes a free one, fills it and hands it on, so nothing is allocated per frame. A source that
cannot wait (a camera) loses pictures when no array is free; they are counted.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featlink_codec.errors import FeatlinkError, SettingsError
from featlink_codec.extractor import ExtractorSettings, MapSettings, thresholds_of
from featlink_codec.extractor.coding import map_coding
from featlink_codec.extractor.preprocess import Preprocessor
from featlink_codec.features import (
    LogQuantizer,
    MapEncoder,
    MapValueError,
    Profile,
    Saw,
    StreamWriter,
    UniformQuantizer,
)

from .backbone import Backbone
from .encoder_choice import EncoderChoice, encoder_spec
from .encoders.session import STALLED_S
from .sending import MapSender
from .sink import Sink
from .source import Source
from .stats import PipelineStats, Stage

#: Behind an error, for each stage to end, in seconds; a camera may block the first one for longer.
_ENDING_S = 2.0
#: Tensors on their way between two stages.
DEFAULT_QUEUE = 4


@dataclass(frozen=True, eq=False)
class _Item:
    """A filled array and the time of its picture, in seconds since 1970."""

    array: NDArray[np.generic]
    time_s: float
    #: time.perf_counter() when the source gave the picture
    given_s: float


class _Belt:
    """A queue of filled arrays and the free ones that go back."""

    def __init__(self, arrays: list[NDArray[np.generic]]) -> None:
        self.free: queue.SimpleQueue[NDArray[np.generic]] = queue.SimpleQueue()
        self.filled: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        for array in arrays:
            self.free.put(array)


class Pipeline:
    """One camera's way from pictures to stream.

    :param folder: the extractor
    :param source: of pictures
    :param sink: of bytes; committed or aborted before `run` returns
    :param queue_depth: arrays between two stages
    :param threads: of onnxruntime, within an operator
    :param clip: NaN and infinities in a map are clipped rather than refused
    :param encoder: "auto", a back end, or BACKEND:NODE
    :param encoder_timeout_s: an encoder that gives nothing for so long has stalled
    :raises FeatlinkError: the extractor, its backbone or the encoder for its pictures cannot be used
    """

    def __init__(
        self,
        folder: Path,
        source: Source,
        sink: Sink,
        *,
        queue_depth: int = DEFAULT_QUEUE,
        threads: int = 1,
        clip: bool = False,
        encoder: str = "auto",
        encoder_timeout_s: float = STALLED_S,
    ) -> None:
        self.settings = ExtractorSettings.load(folder, parts=("backbone",))
        if len(self.settings.maps) != 1:
            raise SettingsError(f"{folder}: {len(self.settings.maps)} maps, the pipeline sends one")
        self._map: MapSettings = self.settings.maps[0]
        self._source = source
        self._sink = sink
        self._preprocess = Preprocessor(self.settings.input)
        self._backbone = Backbone(folder / self.settings.models.backbone, threads)
        channels_first = self._map.layout == "NCHW"
        size = (self._map.height, self._map.width)
        shape = (1, self._map.channels, *size) if channels_first else (1, *size, self._map.channels)
        self._axes = (1, 2, 0) if channels_first else (0, 1, 2)
        self._coding = map_coding(self._map, self.settings.video, thresholds_of(folder, self._map), folder)
        # The standard's quantizers take maps without negative values; a map with some was cut at the wrong place.
        unsigned = isinstance(self._coding.quantizer, UniformQuantizer | LogQuantizer)
        self._refuse = (
            Saw.EXCESS | (Saw(0) if clip else Saw.NAN | Saw.INFINITY) | (Saw.NEGATIVE if unsigned else Saw(0))
        )
        # What no encoder takes is refused before anything is sent.
        spec = encoder_spec(self._map, self.settings.video)
        self._encoder = EncoderChoice(dataclasses.replace(spec, stalled_s=encoder_timeout_s), encoder)
        self._images = _Belt([self._preprocess.new_tensor() for _ in range(queue_depth)])
        self._features = _Belt([self._backbone.new_output(shape) for _ in range(queue_depth)])
        self.stats = PipelineStats(source.facts, self._encoder.facts)
        if self._coding.decide is not None:  # on the classes of a map, once an intra period
            self.stats.stages["decide"] = Stage("decide")
        self._stop = threading.Event()
        self._failure: BaseException | None = None

    @property
    def encoder(self) -> EncoderChoice:
        """The encoder that was chosen, and the ones that were not."""
        return self._encoder

    @property
    def queue_depths(self) -> tuple[int, int]:
        """Arrays that wait for the backbone, and for the encoder."""
        return self._images.filled.qsize(), self._features.filled.qsize()

    def stop(self) -> None:
        """Take no more pictures; what is under way is finished and the stream ended."""
        self._stop.set()

    def run(self, every_second: Callable[[], None] = lambda: None) -> PipelineStats:
        """Run until the source ends, `stop`, or an error. The sink is committed, or aborted on an error.

        :param every_second: called about once a second, in the calling thread
        :raises FeatlinkError: from any stage
        """
        stages = (self._capture, self._infer, self._encode)
        threads = [
            threading.Thread(target=self._guard, args=(stage,), name=stage.__name__, daemon=True) for stage in stages
        ]
        for thread in threads:
            thread.start()
        try:
            # The last stage ends when all is written, or on any stage's error; a camera may still block the first.
            while threads[-1].is_alive():
                threads[-1].join(timeout=1.0)
                every_second()
        except BaseException:
            self._fail(KeyboardInterrupt())
            threads[-1].join(timeout=5.0)  # so that nobody writes to the sink any more
            self._sink.abort()
            raise
        if self._failure is not None:
            # A process that ends while another stage is inside onnxruntime or FFmpeg is aborted by them.
            for thread in threads[:-1]:
                thread.join(timeout=_ENDING_S)
            self._sink.abort()
            raise self._failure
        self._sink.commit()
        return self.stats

    def _guard(self, stage: Callable[[], None]) -> None:
        try:
            stage()
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
        self._stop.set()
        # Wake whoever waits: for an array that will not come back, or for one that will not be filled.
        for belt in (self._images, self._features):
            belt.filled.put(None)
            belt.free.put(np.empty(0))

    def _capture(self) -> None:
        stages = self.stats.stages
        pictures = iter(self._source)
        while not self._stop.is_set():
            with stages["capture"].timed():
                picture = next(pictures, None)
            given_s = time.perf_counter()
            self.stats.frames_lost_by_driver = self._source.lost
            if picture is None:
                break
            self.stats.frames_captured += 1
            try:
                image = self._images.free.get(block=not self._source.live)
            except queue.Empty:
                self.stats.frames_dropped += 1
                continue
            if self._failure is not None:
                return
            with stages["preprocess"].timed():
                self._preprocess(picture.frame, image.view(np.float32))
            self._images.filled.put(_Item(image, self._source.epoch_s + picture.time_s, given_s))
        self._images.filled.put(None)

    def _infer(self) -> None:
        while (item := self._images.filled.get()) is not None:
            features = self._features.free.get()
            if self._failure is not None:
                return
            with self.stats.stages["backbone"].timed():
                self._backbone.run(item.array.view(np.float32), features)
            self._images.free.put(item.array)
            self._features.filled.put(_Item(features, item.time_s, item.given_s))
        self._features.filled.put(None)

    def _encode(self) -> None:
        coder = MapEncoder(self._coding, self._encoder.open, self._refuse)
        video = self.settings.video
        writer = StreamWriter(Profile(video.profile), self.settings.extractor.feat_extractor_id, live=True)
        sender = MapSender(coder, writer, self._sink, self.stats)
        sender.start()
        try:
            while (item := self._features.filled.get()) is not None:
                try:
                    sender.send(item.array[0].transpose(self._axes), item.time_s, item.given_s)
                except MapValueError as error:
                    raise self._explained(error) from None
                self._features.free.put(item.array)
            if self._failure is None:
                sender.end()
        finally:
            coder.close()

    def _explained(self, error: MapValueError) -> FeatlinkError:
        hint = ""
        if error.saw & self._refuse & (Saw.NAN | Saw.INFINITY):
            hint = "; --clip takes them for the lowest and highest level"
        elif error.saw & Saw.NEGATIVE:
            hint = (
                ": the standard's quantizers take non-negative maps, so split behind a ReLU "
                "(`featlink-host prepare split` lists such cuts)"
            )
        return FeatlinkError(f"tensor {self._map.tensor}: {error}{hint}")
