"""conflate=0: every frame in order, bounded, then a keyframe."""

from __future__ import annotations

import pytest

from gateway.core.bundle import Bundle
from gateway.core.counters import Counters
from gateway.core.outgoing import Outgoing
from gateway.core.ports import LiveOptions
from gateway.core.queueing import QueueingReader
from gateway.core.state import WorldState
from gateway.core.world import World
from gateway.limits import READER_BACKLOG_BYTES_MAX, READER_FLUSH_S
from gateway.wire import Frame, Record, decode_frame, encode_frame
from tests.core.links import RecordingLink


def test_every_frame_queues_in_order_whatever_room_there_is() -> None:
    world, link = World("arena", mono=0.0, now_us=0), RecordingLink(lossy=False, room=0)
    world.attach_subscriber(link, LiveOptions(conflate=False), 0.0)
    session = world.attach_publisher(RecordingLink(), 1, 0.0)
    for tick in range(1, 50):
        session.receive(encode_frame(Frame(1, tick, [Record(1, bytes([tick]))])), tick / 60)
    ticks = [decode_frame(m).tick for handle in link.streams for m in link.streams[handle]]
    assert ticks[-48:] == list(range(2, 50))
    assert not link.sent


def test_beyond_the_bound_a_keyframe_takes_the_place_of_what_was_dropped() -> None:
    world, link = World("arena", mono=0.0, now_us=0), RecordingLink(lossy=False)
    world.attach_subscriber(link, LiveOptions(conflate=False), 0.0)
    session = world.attach_publisher(RecordingLink(), 1, 0.0)
    for tick in range(1, 100):
        session.receive(encode_frame(Frame(1, tick, [Record(tick % 7, bytes(50_000))])), tick / 60)
    queued = sum(len(m) for messages in link.streams.values() for m in messages)
    assert queued <= READER_BACKLOG_BYTES_MAX
    link.done.update(link.streams)
    world.poll(2.0, 0)
    assert link.controls[-1]["reason"] == "lagging"
    copy = WorldState()
    for part in link.streams[max(link.streams)]:
        copy.apply(decode_frame(part))
    assert copy.snapshot() == world.state.snapshot()


def test_a_lossy_link_is_always_conflated() -> None:
    world, link = World("arena", mono=0.0, now_us=0), RecordingLink(room=0)
    world.attach_subscriber(link, LiveOptions(conflate=False), 0.0)
    session = world.attach_publisher(RecordingLink(), 1, 0.0)
    session.receive(encode_frame(Frame(1, 1, [Record(1, b"a")])), 0.0)
    assert not link.streams


class Rig:
    """A reader by itself, and what its link was given."""

    def __init__(self) -> None:
        self.state, self.counters = WorldState(), Counters()
        self.link = RecordingLink(lossy=False, room=0)
        self.reader = QueueingReader(self.state, self.link, 0.0, counters=self.counters)
        self.tick = 0

    def offers(self, *sizes: int, mono: float = 0.0) -> bool:
        """Messages of so many bytes each, together."""
        outs = []
        for size in sizes:
            self.tick += 1
            empty = len(encode_frame(Frame(1, self.tick, [Record(self.tick, b"")])))
            frame = Frame(1, self.tick, [Record(self.tick, bytes(size - empty))])
            outs.append(Outgoing(frame, encode_frame(frame), self.state.apply(frame).changed))
            assert outs[-1].size == size
        return self.reader.offer(Bundle(outs), mono)

    @property
    def resyncs(self) -> list[object]:
        return [control["reason"] for control in self.link.controls]


HALF = READER_BACKLOG_BYTES_MAX // 2


def test_a_queue_of_exactly_the_bound_is_kept_and_a_byte_more_is_not() -> None:
    rig = Rig()
    assert rig.reader.ordered
    assert rig.offers(HALF, HALF) is True
    assert (len(rig.link.streams), rig.reader.messages, rig.counters.withheld) == (2, 2, 0)
    assert rig.offers(100) is False
    assert (len(rig.link.streams), rig.reader.messages, rig.counters.withheld) == (2, 2, 1)
    other = Rig()
    assert other.offers(HALF, HALF + 1) is False
    assert len(other.link.streams) == 1


def test_what_is_out_makes_room_for_as_much() -> None:
    rig = Rig()
    for _ in range(4):
        assert rig.offers(HALF, HALF) is True
        rig.link.done.update(rig.link.streams)
    assert rig.offers(HALF, HALF) is True
    rig.link.done.add(8)
    assert rig.offers(HALF) is True
    assert rig.offers(100) is False


@pytest.mark.parametrize("how", ["offer", "turn", "poll"])
def test_the_keyframe_comes_once_what_was_queued_before_it_is_out(how: str) -> None:
    rig = Rig()
    rig.offers(HALF, HALF, 100)
    assert rig.reader.poll(1.0) == 1.0 + READER_FLUSH_S
    rig.link.done.add(0)
    assert rig.reader.poll(2.0) == 2.0 + READER_FLUSH_S
    assert (rig.resyncs, len(rig.link.streams)) == ([], 2)
    rig.link.done.add(1)
    if how == "offer":
        assert rig.offers(100, mono=3.0) is False
    elif how == "turn":
        rig.reader.catch_up(3.0)
    else:
        assert rig.reader.poll(3.0) is None
    assert (rig.resyncs, rig.counters.resyncs) == (["lagging"], 1)
    copy = WorldState()
    for message in rig.link.streams[2]:
        copy.apply(decode_frame(message))
    assert copy.snapshot() == rig.state.snapshot()
    assert rig.reader.messages == 2 + len(rig.link.streams[2])
    assert rig.reader.poll(4.0) is None


@pytest.mark.parametrize(
    ("reason", "has_records", "told"),
    [("joined", False, []), ("joined", True, ["joined"]), ("new_epoch", False, ["new_epoch"])],
)
def test_only_who_joins_an_empty_world_is_sent_nothing(
    reason: str, has_records: bool, told: list[str]
) -> None:
    rig = Rig()
    if has_records:
        rig.offers(100)
    rig.reader.want_keyframe(reason, 0.0)
    assert (rig.resyncs, rig.counters.resyncs) == (told, len(told))


def test_nothing_is_said_again_to_one_that_gets_every_message() -> None:
    rig = Rig()
    rig.offers(100)
    rig.reader.mark((1,))
    assert (rig.reader.poll(1.0), rig.reader.taken, rig.reader.metered) == (None, None, False)
    assert len(rig.link.streams) == 1
