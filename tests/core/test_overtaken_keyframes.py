"""A keyframe says that what it does not have is gone. What the world learnt after it was made, and is older than its tick, may
overtake it: by datagram, while the keyframe is still on its way by stream. It is not gone."""

from __future__ import annotations

import pytest

from gateway.core.ports import LiveOptions
from gateway.core.state import WorldState
from gateway.core.world import World
from gateway.limits import STREAM_PATIENCE_S
from gateway.wire import Frame, Record, decode_frame, encode_frame
from tests.core.links import RecordingLink
from tests.core.test_bundle import Batching

START = 100.0


class Rig:
    """A world, and readers to whom streams come later than all datagrams."""

    def __init__(self) -> None:
        self.world = World("w", mono=START, now_us=0)
        self.mono = START
        self._source = Batching()
        self._publisher = self.world.attach_publisher(self._source, 1, START)
        self.links: list[RecordingLink] = []

    def reads(self, options: LiveOptions | None = None) -> RecordingLink:
        """One more reader."""
        self.links.append(RecordingLink())
        self.world.attach_subscriber(self.links[-1], options or LiveOptions(), self.mono)
        return self.links[-1]

    def comes(self, frame: Frame) -> None:
        """From the publisher."""
        self._publisher.on_message(encode_frame(frame), self.mono)
        self._source.hand_over()

    def waits(self, seconds: float) -> None:
        """From one thing that is due to the next."""
        ends = self.mono + seconds
        while self.mono < ends:
            due = self.world.next_poll
            self.mono = min(ends, max(due, self.mono + 1e-3)) if due is not None else ends
            self.world.poll(self.mono, 0)

    def streams_arrive(self) -> None:
        for link in self.links:
            link.done.update(link.streams)

    def shown(self, link: RecordingLink) -> dict[int, bytes]:
        """By a reader that gets each stream after the datagrams that were sent before it arrived."""
        state = WorldState()
        early = link.frames()
        self.streams_arrive()
        streams = [message for messages in link.streams.values() for message in messages]
        self.waits(2 * STREAM_PATIENCE_S)
        for frame in [*early, *map(decode_frame, streams), *link.frames()]:
            state.apply(frame)
        return state.snapshot()


LATE = {
    "a datagram that was overtaken": Frame(0, 5, [Record(2, b"late")]),
    "a repair": Frame(0, 10, [Record(2, b"late", tick=5)], ticks=True, repair=True),
    "with what is new": Frame(0, 11, [Record(2, b"late", tick=5), Record(1, b"new", tick=11)], ticks=True),
}


@pytest.mark.parametrize("late", LATE.values(), ids=LATE)
@pytest.mark.parametrize("kbps", [None, 200])
def test_what_is_learnt_late_survives_a_keyframe_that_it_overtakes(late: Frame, kbps: int | None) -> None:
    rig = Rig()
    rig.comes(Frame(0, 10, [Record(1, b"first")]))
    link = rig.reads(LiveOptions(budget_kbps=kbps))
    rig.comes(late)
    rig.waits(0.1)
    assert rig.shown(link) == rig.world.state.snapshot()
    assert rig.world.state.snapshot().keys() == {1, 2}


@pytest.mark.parametrize("late", LATE.values(), ids=LATE)
def test_so_it_does_for_who_comes_later_and_shares_the_keyframe(late: Frame) -> None:
    rig = Rig()
    rig.comes(Frame(0, 10, [Record(1, b"first")]))
    rig.reads()
    rig.comes(late)
    rig.waits(0.05)
    link = rig.reads()
    assert len(link.streams) == 1
    rig.waits(0.1)
    assert rig.shown(link) == rig.world.state.snapshot()


def test_so_does_what_another_gateway_had_recorded_meanwhile() -> None:
    rig = Rig()
    rig.comes(Frame(0, 10, [Record(1, b"first")]))
    link = rig.reads()
    recorded = WorldState()
    recorded.apply(Frame(1, 9, [Record(2, b"late")]))
    recorded.apply(Frame(1, 10, [Record(1, b"first")]))
    rig.world.adopt(recorded, next_seq=9, last_epoch=1, durable=None, mono=rig.mono)
    rig.waits(0.1)
    assert rig.shown(link) == {1: b"first", 2: b"late"}


def test_a_world_whose_home_is_elsewhere_learns_one_frame_before_all_the_others() -> None:
    """A datagram of the new epoch comes before the keyframe to which it belongs, which comes to readers by datagrams."""
    rig = Rig()
    rig.comes(Frame(0, 40, [Record(key, b"before") for key in range(1, 41)]))
    link = rig.reads()
    rig.streams_arrive()
    rig.world.begin_fed(rig.mono)
    rig.world.ingest(fed := Frame(2, 72, [Record(8, b"72")]), encode_frame(fed), 2, rig.mono)
    columns = [Record(key % 64, b"then", tick=max(key, 9)) for key in range(1, 65)]
    keyframe = Frame(2, 71, columns, keyframe=True, ticks=True, parts=1)
    rig.world.ingest(keyframe, encode_frame(keyframe), 2, rig.mono)
    rig.waits(0.1)
    assert rig.shown(link) == rig.world.state.snapshot()
    assert len(rig.world.state.snapshot()) == 64


def test_nothing_is_said_again_where_no_keyframe_was_on_its_way() -> None:
    rig = Rig()
    rig.comes(Frame(0, 10, [Record(1, b"first")]))
    link = rig.reads()
    rig.streams_arrive()
    rig.waits(2 * STREAM_PATIENCE_S)
    rig.comes(Frame(0, 11, [Record(1, b"then")]))
    link.frames()
    rig.comes(Frame(0, 5, [Record(2, b"late")]))
    assert [frame.keys for frame in link.frames()] == [(2,)]
    rig.waits(2 * STREAM_PATIENCE_S)
    assert link.frames() == []
