"""FFmpeg as judge: what a plain decode of the contained HEVC gives is what the reader gives."""

import io

import av
import numpy as np
import pytest

from featlink_codec.features import Damage, FeatureMap, Packing, RepackMode, StreamReader, UniformQuantizer
from featlink_codec.video.x265 import X265Encoder, X265Settings


def plain_ffmpeg(video: bytes) -> list[np.ndarray]:
    """Luma of every picture, through FFmpeg's own demuxer and parser, nothing of ours."""
    with av.open(io.BytesIO(video), format="hevc") as container:
        return [np.array(frame.to_ndarray()[: frame.height]) for frame in container.decode(video=0)]


def maps_of(data) -> list[FeatureMap]:
    reader = StreamReader()
    events = reader.feed(data) + reader.close()
    assert not [event.error for event in events if isinstance(event, Damage)]
    return [event for event in events if isinstance(event, FeatureMap)]


@pytest.mark.parametrize("chroma", ["400", "420"])
@pytest.mark.parametrize("coding", [{"qp": 30}, {"crf": 28.0}, {"lossless": True}], ids=lambda c: next(iter(c)))
@pytest.mark.parametrize("depth", [2, 4, 8])
def test_lossy_levels_are_those_of_a_plain_decode(make, codings, chroma, coding, depth):
    def encoder(width, height):
        return X265Encoder(X265Settings(width, height, chroma=chroma, **coding))

    packing = Packing(RepackMode.TILE, 11, 3, 4, pad_h=0, pad_w=2)
    peak = (1 << depth) - 1
    made = make(
        [codings["tiled"](bit_depth=depth, quantizer=UniformQuantizer(6.0, depth), packing=packing)],
        6,
        (8, 10),
        new_encoder=encoder,
    )
    found = maps_of(made.data)
    pictures = plain_ffmpeg(b"".join(m.video for m in found))
    assert len(pictures) == len(found) == 6
    for event, picture in zip(found, pictures, strict=True):
        rows = [picture[r * 8 : r * 8 + 8, c * 10 : c * 10 + 10] for r in range(3) for c in range(4)][:11]
        assert (event.levels == np.minimum(np.stack(rows, axis=2), peak)).all()
    if "lossless" in coding:
        for event, levels in zip(found, made.levels, strict=True):
            assert (event.levels == levels).all()


def test_the_reference_streams_decode_plainly_too(vectors):
    data = (vectors / "feature_stream" / "continuous_lossy_p.fms").read_bytes()
    found = maps_of(data)
    for feat_type_id in {m.header.feat_type_id for m in found}:
        of_type = [m for m in found if m.header.feat_type_id == feat_type_id]
        pictures = plain_ffmpeg(b"".join(m.video for m in of_type))
        for event, picture in zip(of_type, pictures, strict=True):
            again = np.zeros(event.picture_size, np.uint8)
            event.packing.pack(event.levels, 0, again)
            assert (again == picture).all()
