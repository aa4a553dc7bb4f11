"""Any one datagram of a frame, lost, is made again from the others and the parity: byte for byte, in any order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits import PARITY_FRAMES_MAX, PARITY_MESSAGES_MAX
from gateway.wire import HEADER_BYTES, Frame, Record, decode_frame, encode_frame, split
from gateway.wire.parity import TYPE_PARITY, Rebuilder, encode_parity
from tests.held import longest

values = st.one_of(st.none(), st.binary(max_size=300))
frames = st.builds(
    lambda tick, rows, sent_at, zstd: Frame(
        7, tick, [Record(key, data) for key, data in rows.items()], sent_at=sent_at, zstd=zstd
    ),
    st.integers(1, 2**32 - 1),
    st.dictionaries(st.integers(0, 2**32 - 1), values, min_size=4, max_size=60),
    st.integers(0, 2**64 - 1),
    st.booleans(),
)


def messages_of(frame: Frame, bytes_max: int = 400) -> list[bytes]:
    return split(frame, bytes_max)


def given_to(rebuilder: Rebuilder, messages: list[bytes]) -> list[bytes]:
    return [made for message in messages if (made := rebuilder.receive(message)) is not None]


@given(frame=frames, data=st.data())
def test_any_one_lost_message_of_a_frame_is_rebuilt(frame: Frame, data: st.DataObject) -> None:
    messages = messages_of(frame)
    parity = encode_parity(messages)
    if len(messages) < 2:
        assert parity is None
        return
    assert parity is not None
    assert parity[0] == TYPE_PARITY
    assert len(parity) == max(map(len, messages)), "it fits wherever the messages do"
    lost = data.draw(st.sampled_from(messages))
    came = data.draw(st.permutations([*[m for m in messages if m is not lost], parity]))
    assert given_to(Rebuilder(), came) == [lost]


@given(frame=frames, data=st.data())
def test_what_came_twice_or_late_changes_nothing(frame: Frame, data: st.DataObject) -> None:
    messages = messages_of(frame)
    parity = encode_parity(messages)
    if parity is None:
        return
    lost = data.draw(st.sampled_from(messages))
    rest = [*[m for m in messages if m is not lost], parity]
    came = data.draw(st.permutations(rest + rest))
    assert given_to(Rebuilder(), [*came, lost, lost, *rest]) == [lost]


@given(frame=frames)
def test_a_whole_frame_and_its_parity_rebuild_nothing(frame: Frame) -> None:
    messages = messages_of(frame)
    parity = encode_parity(messages)
    assert given_to(Rebuilder(), [*messages, *([parity] if parity else [])]) == []


def frame(tick: int = 5, **fields: int) -> Frame:
    return Frame(7, tick, [Record(key, bytes([key]) * 100) for key in range(12)], **fields)  # type: ignore[arg-type]


def test_two_lost_messages_stay_lost() -> None:
    messages = messages_of(frame())
    parity = encode_parity(messages)
    assert parity is not None
    assert len(messages) > 3
    assert given_to(Rebuilder(), [*messages[2:], parity]) == []


def test_what_is_not_one_whole_frame_has_no_parity() -> None:
    messages, others = messages_of(frame()), messages_of(frame(6))
    assert encode_parity([]) is None
    assert encode_parity(messages[:1]) is None
    assert encode_parity(messages[:-1]) is None
    assert encode_parity([*messages[:-1], others[-1]]) is None
    assert encode_parity([*messages[:-1], messages[0]]) is None
    assert encode_parity(messages_of(frame(sent_at=1))[:2] + messages_of(frame(sent_at=2))[2:]) is None
    many = split(Frame(7, 5, [Record(key, bytes(300)) for key in range(PARITY_MESSAGES_MAX + 1)]), 400)
    assert len(many) == PARITY_MESSAGES_MAX + 1
    assert encode_parity(many) is None


def test_parts_of_another_frame_with_the_same_tick_are_not_mixed_in() -> None:
    """A publisher that comes back says its newest tick again, and a keyframe of a tick is another frame than its changes."""
    first, again = messages_of(frame(sent_at=1)), messages_of(frame(sent_at=2))
    parity = encode_parity(first)
    assert parity is not None
    assert given_to(Rebuilder(), [*first[2:], again[0], parity]) == []


@given(st.binary(max_size=200))
def test_no_bytes_upset_the_rebuilder(noise: bytes) -> None:
    rebuilder = Rebuilder()
    rebuilder.receive(noise)
    rebuilder.receive(bytes([TYPE_PARITY]) + noise)
    rebuilder.receive(bytes([1]) + noise)


@given(data=st.data())
def test_a_parity_that_lies_makes_no_message_that_upsets_its_reader(data: st.DataObject) -> None:
    messages = messages_of(frame())
    parity = bytearray(encode_parity(messages) or b"")
    at = data.draw(st.sampled_from([1, 2, 3, 6, 7, *range(HEADER_BYTES, len(parity))]))
    parity[at] ^= data.draw(st.integers(1, 255))
    for made in given_to(Rebuilder(), [*messages[1:], bytes(parity)]):
        assert HEADER_BYTES <= len(made) <= len(parity)
        assert made[0] == 1


def test_only_the_newest_frames_are_kept() -> None:
    rebuilder = Rebuilder()
    old = messages_of(frame(1))
    given_to(rebuilder, old[1:])
    for tick in range(2, 2 + PARITY_FRAMES_MAX):
        given_to(rebuilder, messages_of(frame(tick))[1:])
    assert longest(rebuilder, kind=dict) <= PARITY_FRAMES_MAX
    parity = encode_parity(old)
    assert parity is not None
    assert rebuilder.receive(parity) is None


@pytest.mark.parametrize("bytes_max", [400, 1_100])
def test_a_rebuilt_message_reads_as_the_one_that_was_lost(bytes_max: int) -> None:
    whole = Frame(7, 5, [Record(key, bytes([key % 256]) * 60, key) for key in range(100)], stride=0)
    messages = split(whole, bytes_max)
    parity = encode_parity(messages)
    assert parity is not None
    made = given_to(Rebuilder(), [*messages[1:], parity])
    assert [r.key for r in decode_frame(made[0]).records] == [
        r.key for r in decode_frame(messages[0]).records
    ]
    assert encode_frame(decode_frame(made[0])) == messages[0]


def test_two_messages_are_enough_for_a_parity_and_one_is_its_own() -> None:
    frame = Frame(1, 5, [Record(key, bytes([key]) * 40) for key in range(2)])
    two = split(frame, 80)
    assert len(two) == 2
    parity = encode_parity(two)
    assert parity is not None
    assert parity[0] == TYPE_PARITY
    assert encode_parity(two[:1]) is None


def test_a_frame_of_just_so_many_messages_has_a_parity_and_each_is_rebuilt() -> None:
    many = split(Frame(7, 5, [Record(key, bytes([key]) * 300) for key in range(PARITY_MESSAGES_MAX)]), 400)
    parity = encode_parity(many)
    assert len(many) == PARITY_MESSAGES_MAX
    assert parity is not None
    for lost in (many[0], many[-1]):
        assert given_to(Rebuilder(), [*[one for one in many if one is not lost], parity]) == [lost]


def test_a_part_that_comes_twice_is_not_taken_for_the_first_one() -> None:
    first, second = split(Frame(1, 5, [Record(key, bytes(40)) for key in range(2)]), 80)
    assert encode_parity([first, first]) is None
    assert encode_parity([second, second]) is None
