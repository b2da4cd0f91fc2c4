"""The encoder of one run: chosen once by a trial for this extractor's pictures, opened as often as it takes."""

from __future__ import annotations

from typing import Any

from featlink_codec.errors import EncoderError, EncoderLostError
from featlink_codec.extractor import MapSettings, VideoSettings
from featlink_codec.features import VideoEncoder

from .encoders.candidates import candidates
from .encoders.choose import Trial, choose, hashed_by
from .encoders.session import EncoderSpec


def encoder_spec(settings: MapSettings, video: VideoSettings) -> EncoderSpec:
    """What an extractor asks of the encoder of one map's pictures."""
    height, width = settings.picture_size
    return EncoderSpec(
        width=width,
        height=height,
        qp=video.qp,
        lossless=video.lossless,
        crf=video.crf,
        preset=video.preset,
        # The other pictures of a map build on its first one.
        all_intra=video.session == "self-contained" and settings.picture_count == 1,
        monochrome=video.chroma == "400",
        picture_hash=video.picture_hash,
    )


class EncoderChoice:
    """What was chosen, and why not the others.

    :param wanted: "auto", a back end, or BACKEND:NODE
    :raises EncoderError: nothing works, with every reason
    """

    def __init__(self, spec: EncoderSpec, wanted: str = "auto") -> None:
        self.trial: Trial
        self.trial, self.refused = choose(candidates(wanted), spec)
        self._opened = False

    @property
    def facts(self) -> dict[str, Any]:
        """For the run's figures."""
        return {**self.trial.as_json(), "refused": {str(one.candidate): one.why[-1] for one in self.refused}}

    @property
    def text(self) -> str:
        """For people, in a line."""
        trial = self.trial
        assert trial.spec is not None
        form = trial.facts.get("pixel_format", "")
        coding = "lossless" if trial.spec.lossless else f"QP {trial.spec.qp}" if trial.spec.crf is None else "CRF"
        hashed = {
            "nobody": "without hashes: the host cannot see all damage",
            "encoder": "hashed by itself",
            "this board's decoder": "hashed by decoding here",
        }[hashed_by(trial.candidate, trial.spec)]
        held = f", {trial.delay} pictures held back" if trial.delay else ""
        return f"encoder {trial.candidate}: {form} {coding}, {hashed}{held}"

    def open(self, width: int, height: int) -> VideoEncoder:
        """A session for the pictures that it was chosen for.

        :raises EncoderLostError: it had worked before and cannot be opened now
        """
        assert self.trial.spec is not None
        if (width, height) != (self.trial.spec.width, self.trial.spec.height):
            raise EncoderError(f"the encoder was chosen for other pictures than {width} x {height}")
        try:
            return self.trial.open()
        except EncoderLostError:
            raise
        except EncoderError as error:
            raise EncoderLostError(str(error)) from None
