"""An acknowledged datagram is not a delivered one: a reader's QUIC keeps so many for its application and drops the rest. However
what is published comes, no reader is sent more than a queue's worth of datagrams in a row; what is over goes by a stream."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.core.ports import LiveOptions
from gateway.core.world import World, WorldSettings
from gateway.limits import PIECES_MAX, READER_DATAGRAMS_MAX, READER_FLUSH_S, READER_ROW_S
from gateway.wire import Frame, Record, decode_frame, encode_frame
from tests.core.links import RecordingLink
from tests.core.test_bundle import Batching

START = 100.0
SMALL = bytes(1_000)


class Rig:
    """A world with one publisher and one reader. What is published waits for :meth:`hand_over`, as within one read of a socket."""

    def __init__(self, datagrams_max: int = READER_DATAGRAMS_MAX) -> None:
        self.world = World("w", WorldSettings(reader_datagrams_max=datagrams_max), mono=START, now_us=0)
        self.source, self.link = Batching(), RecordingLink()
        self._publisher = self.world.attach_publisher(self.source, 1, START)
        self.world.attach_subscriber(self.link, LiveOptions(), START)
        self.tick, self.mono = 0, START

    def frame(self, parts: int, *, told: bool = True, together: int | None = None) -> None:
        """One frame that the publisher cut itself: ``parts`` messages of one record each, ``together`` in each read."""
        self.tick += 1
        for part in range(parts):
            frame = Frame(0, self.tick, [Record(part, SMALL)], part=part, parts=parts if told else 0)
            self._publisher.on_message(encode_frame(frame), self.mono)
            if together and (part + 1) % together == 0:
                self.source.hand_over()
        self.source.hand_over()

    def whole(self, size_bytes: int) -> None:
        """One frame in one message, as one that came by a stream."""
        self.tick += 1
        records = [Record(key, SMALL) for key in range(size_bytes // len(SMALL))]
        self._publisher.on_message(encode_frame(Frame(0, self.tick, records)), self.mono)
        self.source.hand_over()

    def wait(self, seconds: float) -> None:
        self.mono += seconds
        self.link.done.update(self.link.streams)
        self.world.poll(self.mono, 0)

    @property
    def datagrams(self) -> int:
        return len(self.link.sent)

    @property
    def streams(self) -> int:
        return len(self.link.streams)

    def ticks(self) -> dict[int, int]:
        """What the reader shows when all has come: the newest tick of each key."""
        messages = [m for _, m in self.link.sent] + [m for some in self.link.streams.values() for m in some]
        newest: dict[int, int] = {}
        for message in messages:
            frame = decode_frame(message)
            for record in frame.records:
                tick = frame.tick if record.tick is None else record.tick
                newest[record.key] = max(newest.get(record.key, 0), tick)
        return newest


WAYS: dict[str, Callable[[Rig], None]] = {
    "185 parts at once": lambda rig: rig.frame(185),
    "185 parts in several reads": lambda rig: rig.frame(185, together=20),
    "185 parts, whose number is not told": lambda rig: rig.frame(185, told=False),
    "185 parts in several reads, whose number is not told": lambda rig: rig.frame(
        185, told=False, together=20
    ),
    "eight frames of 30 parts that were held up": lambda rig: [rig.frame(30) for _ in range(8)] and None,
    "eight frames of 30 KB that came by streams": lambda rig: [rig.whole(30_000) for _ in range(8)] and None,
}


@pytest.mark.parametrize("bound", [16, READER_DATAGRAMS_MAX])
@pytest.mark.parametrize("way", WAYS)
def test_no_reader_is_sent_more_datagrams_in_a_row_than_its_queue_holds(way: str, bound: int) -> None:
    rig = Rig(bound)
    WAYS[way](rig)
    assert rig.datagrams <= bound
    assert rig.streams > 0
    for _ in range(20):
        before = rig.datagrams
        rig.wait(READER_FLUSH_S)
        assert rig.datagrams - before <= bound
    shown = rig.ticks()
    assert set(shown.values()) == {rig.tick}
    assert len(shown) == (30 if "30" in way else 185)


@pytest.mark.parametrize("told", [True, False])
def test_a_frame_of_32_datagrams_goes_as_datagrams_and_one_of_33_by_a_stream(told: bool) -> None:
    for parts, streams in ((PIECES_MAX, 0), (PIECES_MAX + 1, 1)):
        rig = Rig()
        rig.frame(parts, told=told)
        assert rig.streams == streams
        assert rig.datagrams == (0 if streams else parts)


@pytest.mark.parametrize("hz", [60, 100])
def test_frames_of_32_datagrams_at_a_games_rate_are_no_row(hz: int) -> None:
    rig = Rig()
    for _ in range(hz):
        rig.frame(PIECES_MAX)
        rig.wait(1 / hz)
    assert rig.streams == 0
    assert rig.datagrams == hz * PIECES_MAX


def test_after_a_row_the_next_frame_goes_as_datagrams_again() -> None:
    rig = Rig()
    for _ in range(8):
        rig.frame(30)
    streams = rig.streams
    for _ in range(3):
        rig.wait(READER_FLUSH_S)
    rig.wait(READER_ROW_S)
    before = rig.datagrams
    rig.frame(30)
    assert (rig.streams, rig.datagrams - before) == (streams, 30)
