"""One reader: what it is sent when everything fits, when little does, and when nothing does."""

from __future__ import annotations

import struct

import pytest

from gateway.core.bundle import Bundle
from gateway.core.outgoing import Outgoing
from gateway.core.reader import Reader
from gateway.core.state import WorldState
from gateway.limits import (
    OUTSTANDING_MAX,
    PIECES_MAX,
    READER_DATAGRAMS_MAX,
    READER_FLUSH_S,
    STREAM_PATIENCE_S,
)
from gateway.wire import Frame, Record, decode_frame, encode_frame
from tests.core.links import RecordingLink, offer_alone


class Rig:
    """A state, a link and a reader between them."""

    def __init__(self, link: RecordingLink | None = None, **options: object) -> None:
        self.state = WorldState()
        self.link = link or RecordingLink()
        self.reader = Reader(self.state, self.link, 0.0, **options)  # type: ignore[arg-type]
        self.tick = 0

    def publish(self, values: dict[int, bytes | None], mono: float = 0.0) -> None:
        self.tick += 1
        frame = Frame(1, self.tick, [Record(key, data) for key, data in values.items()])
        keys = self.state.apply(frame).changed
        offer_alone(self.reader, Bundle([Outgoing(frame, encode_frame(frame), keys)]), mono)


def test_a_frame_that_fits_goes_out_as_it_is() -> None:
    rig = Rig()
    rig.publish({1: b"a"})
    assert rig.link.sent == [(0, encode_frame(Frame(1, 1, [Record(1, b"a")])))]


def test_without_room_nothing_queues_and_the_newest_goes_when_there_is_some() -> None:
    rig = Rig(RecordingLink(lossy=False, room=0))
    for value in (b"old", b"older", b"newest"):
        rig.publish({1: value})
    assert not rig.link.sent
    rig.link.room = 10_000
    rig.reader.on_writable(0.1)
    (frame,) = rig.link.frames()
    assert frame.repair
    assert frame.records == [Record(1, b"newest", 3)]
    assert not rig.reader.waiting


def test_after_a_loss_the_next_frame_brings_the_newest_value_unless_it_carries_it_anyway() -> None:
    rig = Rig()
    rig.publish({1: b"a", 2: b"b"})
    rig.reader.on_lost(0)
    rig.publish({2: b"newer"})
    rig.reader.serve(0.0)
    values = {record.key: record.data for frame in rig.link.frames()[1:] for record in frame.records}
    assert values == {1: b"a", 2: b"newer"}


def test_a_loss_is_nothing_when_something_newer_is_on_its_way() -> None:
    rig = Rig()
    rig.publish({1: b"a"})
    rig.publish({1: b"b"})
    rig.reader.on_lost(0)
    assert not rig.reader.waiting


def test_a_lost_repair_is_repaired_again() -> None:
    rig = Rig()
    rig.publish({1: b"a"})
    for token in range(5):
        rig.reader.on_lost(token)
        rig.reader.poll(0.1)
        assert rig.link.frames()[-1].records == [Record(1, b"a", 1)]
    rig.reader.on_acked(5)
    assert rig.reader.poll(0.2) is None


def test_a_frame_larger_than_a_datagram_is_cut_into_datagrams() -> None:
    rig = Rig()
    rig.publish({key: bytes(100) for key in range(50)})
    frames = rig.link.frames()
    assert len(frames) > 1
    assert sorted(key for frame in frames for key in frame.keys) == list(range(50))
    assert not rig.link.streams


def test_a_frame_of_very_many_datagrams_goes_by_a_stream() -> None:
    rig = Rig()
    rig.publish({key: bytes(1_000) for key in range(PIECES_MAX + 10)})
    assert not rig.link.sent
    assert len(decode_frame(rig.link.streams[0][0]).keys) == PIECES_MAX + 10


def _cut_frame(rig: Rig, datagrams: int, *, parts: int | None = None) -> list[Outgoing]:
    """A frame that its publisher cut itself, a record of 1,000 bytes in each message."""
    rig.tick += 1
    parts = datagrams if parts is None else parts
    outs = []
    for part in range(datagrams):
        frame = Frame(1, rig.tick, [Record(part, bytes(1_000))], part=part, parts=parts)
        outs.append(Outgoing(frame, encode_frame(frame), rig.state.apply(frame).changed))
    return outs


def test_a_frame_that_came_as_very_many_datagrams_goes_by_a_stream_too() -> None:
    rig = Rig()
    for parts in (185, 0):
        outs = _cut_frame(rig, 185, parts=parts)
        offer_alone(rig.reader, Bundle(outs), 0.0)
        assert not rig.link.sent
        assert rig.link.streams[len(rig.link.streams) - 1] == [out.message for out in outs]
        rig.link.done.add(len(rig.link.streams) - 1)


def test_the_parts_of_a_large_frame_that_come_apart_do_not_go_as_datagrams_either() -> None:
    rig = Rig()
    outs = _cut_frame(rig, 185)
    for at in range(0, 185, 20):
        offer_alone(rig.reader, Bundle(outs[at : at + 20]), 0.0)
    assert len(rig.link.sent) <= READER_DATAGRAMS_MAX
    for n in range(1, 40):
        rig.link.done.update(rig.link.streams)
        before = len(rig.link.sent)
        rig.reader.poll(n * 0.02)
        assert len(rig.link.sent) - before <= READER_DATAGRAMS_MAX
    assert not rig.reader.waiting
    came = {k for messages in rig.link.streams.values() for m in messages for k in decode_frame(m).keys}
    assert came | {k for frame in rig.link.frames() for k in frame.keys} == set(range(185))


def test_as_many_datagrams_as_a_readers_queue_holds_go_in_a_row_and_the_bound_can_be_set() -> None:
    for bound in (8, 64):
        rig = Rig(datagrams_max=bound)
        for _ in range(3):  # three frames at once, each of so many datagrams that it may go as such
            offer_alone(rig.reader, Bundle(_cut_frame(rig, bound // 4) + _cut_frame(rig, bound // 4)), 0.0)
        assert not rig.link.streams
        offer_alone(
            rig.reader, Bundle([out for _ in range(8) for out in _cut_frame(rig, 1 + bound // 4)]), 0.0
        )
        assert len(rig.link.streams) == 1


def test_newest_values_beyond_the_bound_go_by_a_stream_or_in_rows() -> None:
    for room, streams in ((1 << 30, 1), (150_000, 0)):
        rig = Rig(RecordingLink(room=0))
        rig.publish({key: bytes(1_000) for key in range(300)})
        rig.link.room = room
        rig.reader.on_writable(0.1)
        for _ in range(20):
            rig.reader.on_writable(0.1)
        assert len(rig.link.streams) == streams
        assert len(rig.link.sent) <= READER_DATAGRAMS_MAX


def test_what_rows_have_not_brought_goes_by_streams_that_fill_the_window() -> None:
    rig = Rig(RecordingLink(room=0))
    rig.publish({key: bytes(1_000) for key in range(300)})
    rig.link.room = 150_000
    rig.reader.on_writable(0.1)
    assert not rig.link.streams
    rig.reader.on_writable(0.1 + READER_FLUSH_S)
    assert 100_000 < sum(map(len, rig.link.streams[0])) <= 150_000
    for turn in range(2, 6):
        rig.link.done.update(rig.link.streams)
        rig.reader.on_writable(0.1 + turn * READER_FLUSH_S)
    assert not rig.reader.waiting
    messages = [*(m for stream in rig.link.streams.values() for m in stream), *(m for _, m in rig.link.sent)]
    assert sorted(r.key for message in messages for r in decode_frame(message).records) == list(range(300))


@pytest.mark.parametrize("room", [12_000, 30_000])
def test_a_narrow_link_gets_newest_values_as_datagrams_alone(room: int) -> None:
    rig = Rig(RecordingLink(room=0))
    rig.publish({key: bytes(1_000) for key in range(300)})
    for turn in range(1, 50):
        rig.link.room = room
        rig.reader.mark(tuple(range(300)))
        rig.reader.on_writable(turn * READER_FLUSH_S)
    assert not rig.link.streams
    assert len(rig.link.sent) > 40 * room // 1_200


def test_the_messages_of_one_large_frame_go_by_a_stream_each_at_once_and_those_of_the_next_wait() -> None:
    rig = Rig()

    def part(tick: int, number: int) -> None:
        rows = [Record(key, bytes(1_000)) for key in range(60 * number, 60 * number + 60)]
        frame = Frame(1, tick, rows)
        bundle = Bundle([Outgoing(frame, encode_frame(frame), rig.state.apply(frame).changed)])
        offer_alone(rig.reader, bundle, 0.001 * tick)

    for number in range(3):
        part(1, number)
    assert len(rig.link.streams) == 3
    assert not rig.link.sent
    part(2, 0)
    assert len(rig.link.streams) == 3
    rig.link.done.update(rig.link.streams)
    rig.reader.poll(0.1)
    assert not rig.reader.waiting


def test_a_stream_that_is_done_makes_way_for_the_next_large_frame_at_once() -> None:
    rig = Rig()
    for n in range(5):
        rig.publish({key: bytes(1_000) for key in range(PIECES_MAX + 10)}, float(n))
        assert len(rig.link.streams) == n + 1
        assert not rig.link.sent
        rig.link.done.add(n)


def test_a_record_larger_than_a_datagram_goes_by_a_stream_one_at_a_time() -> None:
    rig = Rig(RecordingLink(room=1_500))
    rig.publish({1: bytes(5_000)})
    rig.publish({1: bytes(5_001)})
    assert list(rig.link.streams) == [0]
    assert rig.reader.waiting
    rig.link.done.add(0)
    rig.reader.poll(0.1)
    assert len(decode_frame(rig.link.streams[1][0]).records[0].data or b"") == 5_001


def test_a_stream_that_newer_state_has_overtaken_is_reset_and_the_newest_sent() -> None:
    rig = Rig()
    rig.publish({1: bytes(5_000)}, 0.0)
    rig.publish({1: bytes(5_001)}, 0.1)
    assert not rig.link.reset
    rig.reader.poll(STREAM_PATIENCE_S + 0.01)
    assert rig.link.reset == {0}
    assert len(decode_frame(rig.link.streams[1][0]).records[0].data or b"") == 5_001


def test_a_stream_that_is_still_the_newest_is_left_alone() -> None:
    rig = Rig()
    rig.publish({1: bytes(5_000)}, 0.0)
    rig.reader.poll(30.0)
    assert not rig.link.reset


def test_patience_grows_so_that_a_slow_link_gets_whole_frames() -> None:
    rig = Rig()
    for step in range(400):
        rig.publish({1: bytes(5_000 + step)}, step * 0.05)
    assert len(rig.link.reset) <= 7


def test_a_record_larger_than_the_room_on_tcp_still_goes() -> None:
    rig = Rig(RecordingLink(lossy=False, room=2_000, bytes_max=65_535))
    rig.publish({1: bytes(30_000)})
    assert len(decode_frame(rig.link.streams[0][0]).records[0].data or b"") == 30_000


def test_a_keyframe_supersedes_whatever_waits_or_streams() -> None:
    rig = Rig(RecordingLink(room=1_500))
    rig.publish({1: bytes(5_000)})
    rig.publish({1: bytes(5_001), 2: b"b"})
    rig.reader.want_keyframe("new_epoch", 0.1)
    assert rig.link.reset == {0}
    assert rig.link.controls[-1].fields == {"reason": "new_epoch"}
    assert decode_frame(rig.link.streams[1][0]).keyframe
    assert not rig.reader.waiting


def test_more_than_half_stale_with_room_for_all_is_a_keyframe() -> None:
    rig = Rig()
    values = {key: struct.pack("<I", key) + bytes(1_000) for key in range(200)}
    rig.publish(values)  # type: ignore[arg-type]
    rig.link.done.add(0)
    rig.reader.mark(tuple(range(150)))
    rig.reader.serve(1.0)
    assert rig.link.controls[-1].fields == {"reason": "lagging"}


def test_a_frame_whose_removal_is_lost_is_repaired_as_a_removal() -> None:
    rig = Rig()
    rig.publish({1: b"a"})
    rig.publish({1: None})
    rig.reader.on_lost(1)
    rig.reader.serve(0.1)
    assert rig.link.frames()[-1].records == [Record(1, None, 2)]


def test_a_link_that_refuses_in_the_middle_leaves_the_rest_waiting() -> None:
    rig = Rig()
    rig.link.room = 10_000
    refused = iter([True, False])
    send = rig.link.send
    rig.link.send = lambda message, token: next(refused, False) and send(message, token)  # type: ignore[method-assign]
    rig.publish({key: bytes(500) for key in range(10)})
    sent = [key for frame in rig.link.frames() for key in frame.keys]
    assert sorted([*sent, *rig.reader.stale]) == list(range(10))


@pytest.mark.parametrize("how", ["frames", "repairs"])
def test_a_value_is_sent_again_once_too_many_messages_after_it_were_never_acknowledged(how: str) -> None:
    rig = Rig()
    rig.publish({7: b"rare"})
    for at in range(OUTSTANDING_MAX):
        if how == "repairs":
            rig.reader.mark((1,))
        rig.publish({1: b"%d" % at}, at / 30)
    rig.reader.serve(OUTSTANDING_MAX / 30 + 1.0)
    again = [record for frame in rig.link.frames()[1:] for record in frame.records if record.key == 7]
    assert [(record.key, record.data) for record in again] == [(7, b"rare")]
