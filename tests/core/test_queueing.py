"""conflate=0: every frame in order, bounded, then a keyframe."""

from __future__ import annotations

from gateway.core.ports import LiveOptions
from gateway.core.state import WorldState
from gateway.core.world import World
from gateway.limits import READER_BACKLOG_BYTES_MAX
from gateway.wire import Frame, Record, decode_frame, encode_frame
from tests.core.links import RecordingLink


def test_every_frame_queues_in_order_whatever_room_there_is() -> None:
    world, link = World("arena", mono=0.0, now_us=0), RecordingLink(lossy=False, room=0)
    world.attach_subscriber(link, LiveOptions(conflate=False), 0.0)
    session = world.attach_publisher(RecordingLink(), 1, 0.0)
    for tick in range(1, 50):
        session.take(encode_frame(Frame(1, tick, [Record(1, bytes([tick]))])), tick / 60)
    ticks = [decode_frame(m).tick for handle in link.streams for m in link.streams[handle]]
    assert ticks[-48:] == list(range(2, 50))
    assert not link.sent


def test_beyond_the_bound_a_keyframe_takes_the_place_of_what_was_dropped() -> None:
    world, link = World("arena", mono=0.0, now_us=0), RecordingLink(lossy=False)
    world.attach_subscriber(link, LiveOptions(conflate=False), 0.0)
    session = world.attach_publisher(RecordingLink(), 1, 0.0)
    for tick in range(1, 100):
        session.take(encode_frame(Frame(1, tick, [Record(tick % 7, bytes(50_000))])), tick / 60)
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
    session.take(encode_frame(Frame(1, 1, [Record(1, b"a")])), 0.0)
    assert not link.streams
