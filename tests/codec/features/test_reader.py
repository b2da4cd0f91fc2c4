"""The reader on streams that are cut, bent or hostile: what it says, where, and what it still delivers."""

from itertools import pairwise

import numpy as np
import pytest

from featlink_codec.errors import RefusedError
from featlink_codec.features import (
    CustomQuantizer,
    Damage,
    FeatMapHeader,
    FeatureMap,
    LogQuantizer,
    Packing,
    Profile,
    RepackMode,
    SequenceEnd,
    StreamReader,
    Tag,
    TimeTag,
)
from featlink_codec.features.syntax import SequenceHeader

E0, E1, E2, E3 = (bytes([0, 0, 0, code]) for code in (0xE0, 0xE1, 0xE2, 0xE3))


def read(data, step=1 << 30, **options):
    reader = StreamReader(**options)
    events = []
    for start in range(0, len(data), step):
        events += reader.feed(bytes(data[start : start + step]))
    return events + reader.close()


def maps_of(events):
    return [event for event in events if isinstance(event, FeatureMap)]


def errors_of(events):
    return [event.error.name for event in events if isinstance(event, Damage)]


def delivered(made, events):
    """Which of the maps that were sent came out."""
    return [next(k for k, v in enumerate(made.levels) if np.array_equal(v, m.levels)) for m in maps_of(events)]


@pytest.fixture(scope="module")
def three(make, codings):
    """Three maps of one type, each with everything that it needs."""
    return make([codings["tiled"]()], 3, explicit=True)


@pytest.fixture(scope="module")
def heirs(make, codings):
    """Three maps of one type; the second and third inherit and are P pictures."""
    return make([codings["tiled"]()], 3)


# --- the beginning


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\0\0\0\xe1", b"\0\0\1\xe1\x20", b"RIFF....", E2 + bytes(20), b"\0\0\0\0\xe1"]
)
def test_what_is_no_stream_is_refused(data):
    with pytest.raises(RefusedError, match="byte 0: not-a-stream: found"):
        read(data)


def test_a_wrong_first_byte_is_refused_at_once():
    with pytest.raises(RefusedError):
        StreamReader().feed(b"x")


@pytest.mark.parametrize(("codec", "name"), [(0, "codec-avs3"), *((k, "codec-reserved") for k in range(2, 8))])
def test_other_codecs_are_refused_by_name(codec, name):
    with pytest.raises(RefusedError, match=f"byte 4: {name}"):
        read(bytes(SequenceHeader(applied_video_codec=codec)) + E2 + bytes(2) + E0)


def test_nothing_more_comes_out_of_a_refused_stream(three):
    reader = StreamReader()
    with pytest.raises(RefusedError):
        reader.feed(b"nonsense")
    assert reader.feed(bytes(three.data)) == []
    assert reader.close() == []


def test_a_map_before_any_tag_is_an_error_and_the_rest_is_read(three):
    first_map = three.offsets("map")[0]
    data = three.data[:5] + three.data[first_map:]
    events = read(data)
    assert errors_of(events) == ["no-time-tag"]
    assert delivered(three, events) == [1, 2]


def test_reserved_and_alignment_bits_are_ignored_and_kept(three):
    data = bytearray(three.data)
    data[4] |= 0b11
    video = three.videos[0]
    # tile of 3 x 3, 6 channels: the header ends 3 bits into its last byte
    data[video - 1] |= 0b11111
    events = read(data)
    assert errors_of(events) == []
    assert delivered(three, events) == [0, 1, 2]
    assert b"".join(map(bytes, events)) == data


# --- the end


def test_every_truncation_loses_the_tail_and_nothing_else(three):
    """Cut after any byte: what is delivered is a prefix of what was sent, and the cut is reported."""
    ends = [offset + 4 for kind, offset in three.pieces if kind != "map"][2:]  # the next start code completes a map
    for cut in range(5, len(three.data), 7):
        events = read(three.data[:cut])
        assert delivered(three, events) == list(range(sum(end <= cut for end in ends))), cut
        assert "truncated" in errors_of(events)


def test_a_map_is_complete_only_when_the_next_start_code_has_come(three):
    reader = StreamReader()
    second_tag = three.offsets("tag")[1]
    assert not maps_of(reader.feed(three.data[: second_tag + 3]))
    assert len(maps_of(reader.feed(three.data[second_tag + 3 : second_tag + 4]))) == 1


def test_over_a_message_transport_the_end_of_the_unit_completes_it(three):
    reader = StreamReader()
    bounds = [offset for _, offset in three.pieces] + [len(three.data)]
    events = []
    for begin, end in pairwise(bounds):
        events += reader.feed(three.data[begin:end])
        now = reader.unit_ended()
        events += now
    assert delivered(three, events) == [0, 1, 2]
    assert errors_of(events + reader.close()) == []


def test_a_message_that_ends_within_a_header_is_lost_alone(three):
    reader = StreamReader()
    events = reader.feed(three.data[: three.offsets("map")[0] + 6]) + reader.unit_ended()
    events += reader.feed(three.data[three.offsets("tag")[1] :]) + reader.close()
    assert errors_of(events) == ["truncated"]
    assert delivered(three, events) == [1, 2]


def test_bytes_behind_the_end_code_are_reported_and_not_read(three):
    events = read(three.data + three.data)
    assert delivered(three, events) == [0, 1, 2]
    assert errors_of(events) == ["trailing-bytes"]
    (damage,) = (event for event in events if isinstance(event, Damage))
    assert damage.error.offset == len(three.data)


def test_tags_without_maps_are_legal():
    data = bytes(SequenceHeader()) + bytes(TimeTag.universal(5.0)) + bytes(TimeTag(interval_time=150)) + E0
    events = read(data)
    assert [event.time_s for event in events if isinstance(event, Tag)] == [5.0, 6.5]
    assert isinstance(events[-1], SequenceEnd)


def test_zero_bytes_before_any_start_code_are_padding(three):
    data = bytearray()
    for (_, begin), (_, end) in zip(three.pieces, [*three.pieces[1:], ("", len(three.data))], strict=True):
        data += three.data[begin:end] + bytes(len(data) % 5)
    data = data.rstrip(b"\0")
    events = read(data, step=3)
    assert errors_of(events) == []
    assert delivered(three, events) == [0, 1, 2]
    assert b"".join(map(bytes, events)) == data


# --- time


def test_interval_time_before_any_universal_time_stays_unknown():
    events = read(bytes(SequenceHeader()) + bytes(TimeTag(interval_time=3)) + bytes(TimeTag.universal(9.0)) + E0)
    assert [event.time_s for event in events if isinstance(event, Tag)] == [None, 9.0]


@pytest.mark.parametrize("bits", [0x7FF0000000000000, 0x7FF8000000000000, 0x7FFFFFFFFFFFFFFF])
def test_a_time_that_is_no_number_damages_its_tag_only(three, bits):
    tag = three.offsets("tag")[0]
    data = three.data[:tag] + bytes(TimeTag(1, bits)) + three.data[three.offsets("map")[0] :]
    events = read(data)
    assert errors_of(events) == ["bad-time"]
    assert delivered(three, events) == [0, 1, 2]
    assert [event.time_s for event in events if isinstance(event, Tag)] == [None, None]
    assert maps_of(events)[0].tag_index is None


def test_after_a_loss_time_is_unknown_until_the_next_universal_time(three):
    """A tag may have gone under with what was lost, so the intervals behind it prove nothing."""
    data = bent(three, 1, (QUANT_MODE, 3, 7))
    end = three.offsets("end")[0]
    data = data[:end] + bytes(TimeTag.universal(1.8e9)) + data[three.offsets("map")[2] :]
    first, third, again = maps_of(read(data))
    assert (first.time_s, third.time_s, again.time_s) == (1.7e9, None, 1.8e9)
    assert third.tag_index is not None


def test_a_time_may_look_like_a_start_code():
    """universal_time bytes 00 00 00 E3: tags are parsed by syntax."""
    tag = TimeTag(1, 0x000000E300000000)
    events = read(bytes(SequenceHeader()) + bytes(tag) + E0)
    assert errors_of(events) == []
    assert next(e for e in events if isinstance(e, Tag)).tag.universal_time == tag.universal_time


# --- headers


# Bit positions within feat_map_data() of a floating-point map that is not of mode custom.
QUANT_MODE, MAX_DIGIT, REPACK_MODE, TILE_H, TILE_W, TILE_C = 43, 46, 80, 89, 101, 113
ORDER_COUNT, ORDER_LIST = 113, 129
FIRST_BOUND = 79


def set_bits(data, bit, width, value):
    """`data` with `width` bits from `bit` on replaced."""
    total = len(data) * 8
    shift = total - bit - width
    whole = int.from_bytes(data, "big") & ~(((1 << width) - 1) << shift) | value << shift
    return whole.to_bytes(len(data), "big")


def bent(made, k, *changes):
    """The stream with bits of map k's header set: (bit from its start code, width, value)."""
    begin, end = made.offsets("map")[k], made.videos[k]
    head = bytes(made.data[begin:end])
    for change in changes:
        head = set_bits(head, *change)
    return made.data[:begin] + head + made.data[end:]


def with_header(made, k, head):
    """The stream with another header before the video of map k."""
    return made.data[: made.offsets("map")[k]] + head + made.data[made.videos[k] :]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        *(([(QUANT_MODE, 3, mode)], "reserved-quant-mode") for mode in range(3, 8)),
        ([(41, 2, 3)], "depth-16"),
        ([(REPACK_MODE, 2, 3)], "reserved-repack-mode"),
        *(
            ([(MAX_DIGIT, 32, bits)], "bad-max")
            for bits in (0, 0x80000000, 0xBF800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001)
        ),
        ([(QUANT_MODE, 3, 1), (MAX_DIGIT, 32, 0x43000000)], "bad-max"),  # 128 is too much for a logarithm
        ([(TILE_H, 12, 0)], "bad-tile"),
        ([(TILE_W, 12, 0)], "bad-tile"),
        ([(TILE_C, 16, 0)], "bad-tile"),
        ([(TILE_C, 16, 65535)], "picture-count"),
        ([(TILE_H, 12, 4095), (TILE_W, 12, 4095), (TILE_C, 16, 65535)], "bad-size"),
        ([(TILE_H, 12, 4)], "bad-size"),
        ([(82, 3, 7)], "bad-size"),
    ],
)
def test_headers_that_the_format_forbids_are_named(three, changes, name):
    events = read(bent(three, 1, *changes))
    assert errors_of(events)[0] == name
    assert delivered(three, events) == [0, 2]


@pytest.fixture(scope="module")
def ordered(make, codings):
    packing = Packing(RepackMode.ORDERED_TILE, 6, 3, 3, (5, 4, 3, 2, 1, 0))
    return make([codings["tiled"](packing=packing)], 3, explicit=True)


@pytest.mark.parametrize(
    "order", [[0, 1, 2, 3, 4, 4], [0, 1, 2, 3, 4, 6], [1, 2, 3, 4, 5, 6], [65535, 1, 2, 3, 4, 5], [0] * 6]
)
def test_lists_that_are_no_permutation_are_refused(ordered, order):
    changes = [(ORDER_LIST + 16 * k, 16, index) for k, index in enumerate(order)]
    events = read(bent(ordered, 1, *changes))
    assert errors_of(events)[0] == "bad-order"
    assert delivered(ordered, events) == [0, 2]


@pytest.mark.parametrize("count", [0, 1, 5, 7, 65535])
def test_lists_of_another_length_are_refused(ordered, count):
    events = read(bent(ordered, 1, (ORDER_COUNT, 16, count)))
    assert errors_of(events)[0] in ("bad-order", "truncated")
    assert delivered(ordered, events) == [0, 2]


def test_an_order_list_may_look_like_start_codes(make, codings):
    """From bit offset 1, an even index, 0 and 448..455 spell 00 00 00 E0..E3: the list is parsed, not scanned."""
    channels = 456
    order = (2, 0, 448, *[c for c in range(channels) if c not in (2, 0, 448)])
    coding = codings["tiled"](packing=Packing(RepackMode.ORDERED_TILE, channels, 20, 23, order))
    made = make([coding], 2, (1, 1), explicit=True)
    head = made.data[made.offsets("map")[0] + 4 : made.videos[0]]
    assert any(code in head for code in (E0, E1, E2, E3)), "the list does not spell a start code"
    for step in (1 << 30, 1):
        events = read(made.data, step)
        assert errors_of(events) == []
        assert delivered(made, events) == [0, 1]


def test_bounds_may_look_like_start_codes(make, codings):
    """A first bound 0x00000071 spells 000000E2 or so one bit on."""
    tiny = np.array([0x71, 0x72, 0x73], np.uint32).view(np.float32)
    coding = codings["tiled"](bit_depth=2, quantizer=CustomQuantizer(tiny, 2))
    made = make([coding], 2, explicit=True)
    assert any(code in made.data[made.offsets("map")[0] + 4 : made.videos[0]] for code in (E0, E1, E2, E3))
    events = read(made.data)
    assert errors_of(events) == []
    assert delivered(made, events) == [0, 1]


def test_a_damaged_header_full_of_false_start_codes_gives_no_false_map(make, codings):
    order = (2, 0, 448, *[c for c in range(456) if c not in (2, 0, 448)])
    coding = codings["tiled"](packing=Packing(RepackMode.ORDERED_TILE, 456, 20, 23, order))
    made = make([coding], 3, (1, 1), explicit=True)
    data = bytearray(made.data)
    data[made.videos[1] - 3] ^= 0xFF  # within the list: no permutation any more
    events = read(data)
    assert errors_of(events)[0] == "bad-order"
    assert delivered(made, events) == [0, 2]


@pytest.mark.parametrize(
    ("bounds", "what"),
    [([1, 2, 2], "not above"), ([1, 3, 2], "not above"), ([1, np.nan, 2], "nan"), ([1, 2, np.inf], "inf")],
)
def test_bad_bounds_are_refused(make, codings, bounds, what):
    coding = codings["tiled"](bit_depth=2, quantizer=CustomQuantizer(np.array([1, 2, 3], np.float32), 2))
    made = make([coding], 3, explicit=True)
    patterns = np.array(bounds, np.float32).view(np.uint32).tolist()
    events = read(bent(made, 1, *((FIRST_BOUND + 32 * k, 32, bits) for k, bits in enumerate(patterns))))
    assert errors_of(events)[0] == "bad-partitions"
    assert what in next(e.error.text for e in events if isinstance(e, Damage))
    assert delivered(made, events) == [0, 2]


# --- inheritance


def test_tiles_and_partitions_are_inherited_apart(make, codings):
    bounds = np.array([1, 2, 3], np.float32)
    made = make([codings["tiled"](bit_depth=2, quantizer=CustomQuantizer(bounds, 2))], 3)
    first, second, _ = maps_of(read(made.data))
    assert (first.header.quant_heritage_flag, second.header.quant_heritage_flag) == (0, 1)
    assert second.partitions.tolist() == bounds.tolist()
    assert second.packing == first.packing


def test_nothing_is_inherited_across_a_loss(heirs):
    data = bytearray(heirs.data)
    data[heirs.videos[0] + 4] |= 0x80  # forbidden_zero_bit
    events = read(data)
    assert delivered(heirs, events) == []
    assert errors_of(events)[0] == "bad-video"
    assert set(errors_of(events)[1:]) == {"no-inherit"}


def test_other_types_are_forgotten_too_when_the_extent_of_a_loss_is_unknown(make, codings):
    made = make([codings["tiled"](1), codings["stacked"](2)], 2)
    events = read(bent(made, 2, (QUANT_MODE, 3, 7)))  # the second map of type 1
    assert errors_of(events) == ["reserved-quant-mode", "no-inherit"]
    assert delivered(made, events) == [0, 1]


def test_heritage_from_another_mode_is_refused(make, codings):
    tile = make([codings["tiled"](1)], 1, explicit=True)
    stack = make([codings["stacked"](1)], 2)
    # the tiled map, then the second (inheriting) map of the stack
    data = tile.data[: tile.offsets("end")[0]] + stack.data[stack.offsets("tag")[1] :]
    events = read(data)
    assert errors_of(events) == ["no-inherit"]
    assert "from a map of mode 1" in next(e.error.text for e in events if isinstance(e, Damage))


def test_a_stack_without_any_list_is_in_its_own_order(make, codings):
    made = make([codings["stacked"](packing=Packing(RepackMode.STACK, 3))], 1)
    head = FeatMapHeader(feat_type_id=2, max_feat_digit_bits=0x40C00000, repack_mode=0, repack_heritage_flag=1)
    events = read(with_header(made, 0, bytes(head)))
    assert errors_of(events) == []
    assert delivered(made, events) == [0]
    assert maps_of(events)[0].packing.order is None


# --- video


def test_illegal_bytes_after_three_zeros_reveal_a_swallowed_map(three):
    data = bytearray(three.data)
    data[three.offsets("tag")[1] + 3] = 0xA2  # the second tag's start code
    events = read(data)
    assert errors_of(events)[0] == "illegal-bytes"
    assert delivered(three, events) == [1, 2]


def test_a_swallowed_start_code_without_a_trace_shows_in_the_picture_count(three):
    begin = three.offsets("tag")[1]
    gone = three.videos[1] - begin
    events = read(three.data[:begin] + three.data[begin + gone :])
    assert errors_of(events) == ["picture-count"]
    assert delivered(three, events) == [2]


def test_junk_behind_a_hash_is_not_part_of_a_map(make, codings):
    """Without a list the number of channels is the number of pictures: two maps run together must not pass as one."""
    made = make([codings["stacked"](packing=Packing(RepackMode.STACK, 3))], 2, explicit=True)
    head = bytes(FeatMapHeader(feat_type_id=2, max_feat_digit_bits=0x40C00000, repack_mode=0, repack_heritage_flag=1))
    both = made.data[made.videos[0] : made.offsets("tag")[1]] + b"\0\4\0\xe3" + made.data[made.videos[1] :]
    data = made.data[: made.offsets("map")[0]] + head + both
    events = read(data)
    assert maps_of(events) == []
    assert errors_of(events)[0] == "bad-video"


def test_a_second_sequence_start_inside_is_an_error(three):
    tag = three.offsets("tag")[1]
    events = read(three.data[:tag] + three.data[:5] + three.data[tag:])
    assert errors_of(events) == ["second-sequence"]
    assert delivered(three, events) == [0, 1, 2]


def test_pictures_that_build_on_lost_ones_are_not_delivered(heirs):
    first, second = heirs.offsets("map")[:2]
    head = bytes(heirs.data[first : heirs.videos[0]])
    # the second map with the first one's explicit header, and the first one gone
    data = heirs.data[:first] + head + heirs.data[heirs.videos[1] : heirs.offsets("tag")[2]] + E0
    assert second
    events = read(data)
    assert errors_of(events) == ["no-reference"]
    assert maps_of(events) == []


def test_a_type_that_was_hashed_stays_hashed(make, codings, three):
    from featlink_codec.video.x265 import X265Encoder, X265Settings

    def unhashed(width, height):
        return X265Encoder(X265Settings(width, height, lossless=True, picture_hash=False))

    plain = make([codings["tiled"]()], 2, explicit=True, new_encoder=unhashed)
    assert [m.hashed for m in maps_of(read(plain.data))] == [False, False]
    joined = three.data[: three.offsets("end")[0]] + plain.data[plain.offsets("tag")[0] :]
    events = read(joined)
    assert delivered(three, events) == [0, 1, 2]
    assert set(errors_of(events)) == {"hash-missing"}
    assert maps_of(read(plain.data, require_hash=True)) == []


def test_an_endless_map_is_given_up(three):
    reader = StreamReader(max_map_bytes=4096)
    events = reader.feed(three.data[: three.videos[0] + 50])
    for _ in range(100):
        events += reader.feed(b"\x55" * 1000)
    assert errors_of(events) == ["too-long"]
    assert len(reader._buffer) < 6000
    events += reader.feed(three.data[three.offsets("tag")[1] :]) + reader.close()
    assert delivered(three, events) == [1, 2]


def test_reported_damage_holds_none_of_the_bytes(three):
    data = bytearray(three.data)
    data[three.videos[1] + 60] ^= 0xFF
    errors = [event.error for event in read(data) if isinstance(event, Damage)]
    assert errors
    assert [(error.__traceback__, error.__context__) for error in errors] == [(None, None)] * len(errors)


def test_endless_zeros_are_given_up():
    reader = StreamReader(max_map_bytes=4096)
    events = reader.feed(bytes(SequenceHeader()))
    for _ in range(100):
        events += reader.feed(bytes(1000))
    assert errors_of(events) == ["too-long"]
    assert len(reader._buffer) < 6000


# --- profiles


def test_profile_interface_has_narrow_tile_counts_and_no_partitions(make, codings):
    made = make([codings["tiled"](profile=Profile.INTERFACE)], 3, profile=Profile.INTERFACE)
    assert delivered(made, read(made.data, profile=Profile.INTERFACE)) == [0, 1, 2]
    custom = codings["tiled"](bit_depth=2, quantizer=CustomQuantizer(np.array([1, 2, 3], np.float32), 2))
    events = read(make([custom], 1).data, profile=Profile.INTERFACE)
    assert errors_of(events) == ["custom-in-interface"]


def test_sixteen_bits_need_their_profile(make, codings):
    coding = codings["tiled"](profile=Profile.STANDARD_16, bit_depth=16, quantizer=LogQuantizer(3.0, 16))
    made = make([coding], 2, profile=Profile.STANDARD_16)
    assert delivered(made, read(made.data, profile=Profile.STANDARD_16)) == [0, 1]
    events = read(made.data)
    assert set(errors_of(events)) == {"depth-16"}
