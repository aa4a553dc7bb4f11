"""An application may sleep through datagrams that its QUIC acknowledged. The next frame renews them; where none comes, since the
world rests, the newest values go once more by a stream, which is delivered or known to be lost."""

from __future__ import annotations

import pytest

from gateway.core.ports import LiveOptions
from gateway.core.world import World, WorldSettings
from gateway.limits import REST_DATAGRAMS_MIN, REST_S
from gateway.wire import Frame, Record, decode_frame, encode_frame
from tests.core.links import RecordingLink
from tests.core.test_bundle import Batching

START = 100.0
HZ = 60


class Rig:
    """A world that moves, and a reader whose application takes nothing but streams."""

    def __init__(self, *, lossy: bool = True, budget_kbps: int | None = None) -> None:
        self.world = World("w", WorldSettings(), mono=START, now_us=0)
        self.source, self.link = Batching(), RecordingLink(lossy=lossy)
        self._publisher = self.world.attach_publisher(self.source, 1, START)
        self.subscriber = self.world.attach_subscriber(self.link, LiveOptions(budget_kbps=budget_kbps), START)
        self.tick, self.mono = 0, START

    def moves(self, *records: Record, wait_s: float = 1 / HZ) -> None:
        """One frame, and the time until the next."""
        self.tick += 1
        self._publisher.on_message(encode_frame(Frame(0, self.tick, list(records))), self.mono)
        self.source.hand_over()
        self.waits(wait_s)

    def waits(self, seconds: float) -> None:
        """The clock goes on, from one thing that is due to the next."""
        ends = self.mono + seconds
        while self.mono < ends:
            due = self.world.next_poll
            self.mono = min(ends, max(due, self.mono + 1e-3)) if due is not None else ends
            self.link.done.update(self.link.streams)
            self.world.poll(self.mono, 0)

    def acknowledges(self) -> None:
        """All datagrams arrived at its QUIC, which dropped them."""
        for token, _ in self.link.sent:
            self.subscriber.on_acked(token)

    @property
    def by_streams(self) -> dict[int, tuple[int, bytes | None]]:
        """What the application shows: (tick, value) of each key, None where it was told that it is gone."""
        shown: dict[int, tuple[int, bytes | None]] = {}
        for message in (message for messages in self.link.streams.values() for message in messages):
            frame = decode_frame(message)
            for record in frame.records:
                tick = frame.tick if record.tick is None else record.tick
                if tick >= shown.get(record.key, (0, None))[0]:
                    shown[record.key] = (tick, record.data)
        return shown


@pytest.mark.parametrize("size", [100, 1_000, 1_100])
def test_what_an_application_slept_through_comes_by_a_stream_once_the_world_rests(size: int) -> None:
    rig = Rig()
    for _ in range(HZ):
        rig.moves(*(Record(key, bytes([rig.tick % 250]) * size) for key in range(3)))
    rig.moves(Record(0, None), Record(1, b"last"))
    rig.acknowledges()
    assert rig.by_streams == {}
    rig.waits(REST_S)
    assert rig.by_streams == {
        0: (rig.tick, None),
        1: (rig.tick, b"last"),
        2: (rig.tick - 1, bytes([(rig.tick - 2) % 250]) * size),
    }


def test_a_rest_says_what_moved_since_the_last_one_and_says_it_once() -> None:
    rig = Rig()
    rig.moves(Record(7, b"never moves"))
    for key in (1, 2):
        for _ in range(REST_DATAGRAMS_MIN):
            rig.moves(Record(key, b"moves"))
        rig.waits(10 * REST_S)
    first, second = rig.link.streams.values()
    told = [
        [record.key for message in some for record in decode_frame(message).records]
        for some in (first, second)
    ]
    assert told == [[7, 1], [2]]


def test_a_world_larger_than_a_message_is_renewed_whole() -> None:
    rig = Rig()
    for key in range(200):
        rig.moves(Record(key, bytes(1_000)))
    rig.waits(REST_S)
    assert sorted(rig.by_streams) == list(range(200))


def test_a_world_that_goes_on_is_not_said_twice() -> None:
    rig = Rig()
    for _ in range(2 * REST_DATAGRAMS_MIN):
        rig.moves(Record(0, b"now"), wait_s=REST_S * 0.99)
    assert rig.link.streams == {}


def test_what_moves_seldom_is_not_said_twice() -> None:
    rig = Rig()
    for _ in range(2 * REST_DATAGRAMS_MIN):
        rig.moves(Record(0, b"now"), wait_s=2 * REST_S)
    assert rig.link.streams == {}


def test_one_that_has_no_room_when_the_world_rests_gets_it_when_there_is() -> None:
    rig = Rig()
    for _ in range(REST_DATAGRAMS_MIN):
        rig.moves(*(Record(key, bytes(1_000)) for key in range(100)))
    rig.link.sent.clear()
    rig.link.streams.clear()
    rig.link.room = 0
    rig.waits(REST_S + 0.1)
    assert rig.link.streams == {}
    rig.link.room = 1 << 30
    rig.subscriber.on_writable(rig.mono)
    rig.waits(0.5)
    assert sorted(rig.by_streams) == list(range(100))


def test_over_tcp_nothing_is_dropped_and_nothing_said_twice() -> None:
    rig = Rig(lossy=False)
    for _ in range(HZ):
        rig.moves(Record(0, b"now"))
    sent = len(rig.link.sent)
    rig.waits(10 * REST_S)
    assert (len(rig.link.sent), rig.link.streams) == (sent, {})


def test_a_reader_on_a_budget_gets_it_within_its_budget() -> None:
    rig = Rig(budget_kbps=64)
    for _ in range(HZ):
        rig.moves(*(Record(key, bytes(100)) for key in range(3)))
    rig.waits(REST_S / 2)
    rig.link.sent.clear()
    rig.waits(REST_S)
    assert {record.key for frame in rig.link.frames() for record in frame.records} == {0, 1, 2}
