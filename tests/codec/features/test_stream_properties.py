"""Whatever the modes, a lossless stream gives its levels back bit for bit, however its bytes arrive."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featlink_codec.features import (
    CustomQuantizer,
    Damage,
    FeatureMap,
    LogQuantizer,
    MapCoding,
    Packing,
    Profile,
    RepackMode,
    SequenceEnd,
    StreamReader,
    UniformQuantizer,
)


@st.composite
def any_coding(draw, profile: Profile):
    depth = draw(st.sampled_from([2, 4, 8, 16] if profile is Profile.STANDARD_16 else [2, 4, 8]))
    kinds = ["uniform", "log", "integer"] + ([] if profile is Profile.INTERFACE else ["custom"])
    kind = draw(st.sampled_from(kinds))
    maximum = draw(st.floats(2.0**-10, 100.0, width=32))
    quantizer = {
        "uniform": lambda: UniformQuantizer(maximum, depth),
        "log": lambda: LogQuantizer(maximum, depth),
        "integer": lambda: None,
        "custom": lambda: CustomQuantizer(
            np.cumsum(np.random.default_rng(depth).uniform(0.1, 1, (1 << depth) - 1)).astype(np.float32) - 3, depth
        ),
    }[kind]()
    mode = draw(st.sampled_from(RepackMode))
    channels = draw(st.integers(1, 9))
    tiles = (1, 1) if mode is RepackMode.STACK else draw(st.sampled_from([(1, 2), (2, 2), (3, 1), (3, 4)]))
    order = None
    if mode is RepackMode.ORDERED_TILE or (mode is RepackMode.STACK and draw(st.booleans())):
        order = tuple(draw(st.permutations(range(channels))))
    packing = Packing(mode, channels, *tiles, order, draw(st.integers(0, 7)), draw(st.integers(0, 7)))
    # Both sides of a picture at least 16, the encoder's least.
    height = draw(st.integers(-(-(16 - packing.pad_h) // tiles[0]), 22))
    width = draw(st.integers(-(-(16 - packing.pad_w) // tiles[1]), 22))
    coding = MapCoding(
        feat_type_id=draw(st.integers(0, 255)),
        bit_depth=depth,
        quantizer=quantizer,
        packing=packing,
        profile=profile,
        level_scaling=draw(st.booleans()),
        continuous=draw(st.booleans()),
        refresh_s=draw(st.sampled_from([0.05, 2.0])),
    )
    return coding, (height, width)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from(Profile), st.integers(1, 4), st.integers(1, 5000), st.integers(0, 2**32 - 1))
def test_every_mode_comes_back_bit_for_bit(make, data, profile, maps, step, seed):
    coding, size = data.draw(any_coding(profile))
    made = make([coding], maps, size, profile, seed=seed)
    reader = StreamReader(profile, coding.level_scaling)
    events = []
    for start in range(0, len(made.data), step):
        events += reader.feed(made.data[start : start + step])
    events += reader.close()
    assert not [event.error for event in events if isinstance(event, Damage)]
    found = [event for event in events if isinstance(event, FeatureMap)]
    assert len(found) == maps
    for event, levels in zip(found, made.levels, strict=True):
        assert event.levels.dtype == levels.dtype
        assert (event.levels == levels).all()
        assert event.hashed
        expected = levels.astype(np.float32) if coding.quantizer is None else coding.quantizer.dequantize(levels)
        assert event.values().tobytes() == expected.tobytes()
    assert isinstance(events[-1], SequenceEnd)
    assert b"".join(bytes(event) for event in events) == made.data


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_anywhere_never_gives_a_wrong_map(make, codings, data):
    """One byte changed, bytes cut out, put in or sent twice: what is delivered was sent, in order.

    Header bytes that are free to differ (quantizer, type, pads, times) are not protected by the format, so the check is
    of levels, and changes within a header are tried in `test_reader` by name.
    """
    made = make([codings["tiled"](), codings["stacked"]()], 4, explicit=data.draw(st.booleans()))
    whole = bytes(made.data)
    start = data.draw(st.sampled_from(made.videos)) + data.draw(st.integers(0, 400))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "repeat"]))
    length = data.draw(st.integers(1, 60))
    if kind == "flip":
        damaged = bytearray(whole)
        damaged[min(start, len(whole) - 1)] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        damaged = whole[:start] + whole[start + length :]
    elif kind == "insert":
        damaged = whole[:start] + data.draw(st.binary(min_size=length, max_size=length)) + whole[start:]
    else:
        damaged = whole[:start] + whole[start : start + length] + whole[start:]
    reader = StreamReader(require_hash=True)
    events = reader.feed(damaged) + reader.close()
    remaining = iter(made.levels)
    for event in events:
        if isinstance(event, FeatureMap):
            assert any(np.array_equal(event.levels, levels) for levels in remaining), "a map that was never sent"
