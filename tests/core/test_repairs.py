"""A reader's turns by themselves: what goes of what waits, how a turn ends, and when a stream is the better way."""

from __future__ import annotations

import pytest

from gateway.core.budget import Budget
from gateway.core.counters import Counters
from gateway.core.newest import SharedRepairs
from gateway.core.outlet import Outlet
from gateway.core.ports import Refusal, Sent
from gateway.core.repairs import Repairs, TurnEnd
from gateway.core.slots import Slots
from gateway.core.stale import StaleSet
from gateway.core.state import WorldState
from gateway.limits import DATAGRAM_SAFE_BYTES, READER_FLUSH_S, REPAIR_MESSAGES_MAX
from gateway.wire import Frame, Record, decode_frame
from tests.core.links import RecordingLink

RECORD_BYTES = 500
"""Two of them are a datagram."""


class Refusing(RecordingLink):
    """Says the same of every datagram."""

    why: Refusal

    def send(self, message: bytes, token: int) -> Sent:
        return self.why


class Rig:
    """So many records that wait."""

    def __init__(self, records: int, link: RecordingLink, *, in_a_row: int = 32, kbps: int = 0) -> None:
        self.state = WorldState()
        self.state.apply(Frame(1, 1, [Record(key, bytes(RECORD_BYTES)) for key in range(records)]))
        self.stale, self.link, self.counters = StaleSet(Slots(self.state), None), link, Counters()
        self.stale.add(tuple(range(records)))
        budget = Budget(kbps, 0.0, DATAGRAM_SAFE_BYTES) if kbps else None
        self.outlet = Outlet(self.state, link, budget, lambda keys: None, in_a_row)
        self.repairs = Repairs(
            self.state, self.stale, self.outlet, SharedRepairs(self.state), self.counters, 0.0
        )

    def wait(self, keys: int) -> None:
        self.stale.add(tuple(range(keys)))

    def datagrams(self) -> int:
        """How many went since this was asked last."""
        return len(self.link.frames())


def test_where_there_is_room_all_of_it_goes_and_is_counted() -> None:
    rig = Rig(6, RecordingLink())
    assert rig.repairs.serve(0.0) is TurnEnd.SERVED
    assert not rig.stale
    frames = rig.link.frames()
    assert sorted(key for frame in frames for key in frame.keys) == list(range(6))
    assert rig.counters.repaired == len(frames) == 3


def test_a_turn_has_so_many_messages_and_the_next_goes_on() -> None:
    rig = Rig(2 * REPAIR_MESSAGES_MAX + 2, RecordingLink(), in_a_row=1_000)
    assert rig.repairs.serve(0.0) is TurnEnd.SERVED
    assert (rig.datagrams(), len(rig.stale)) == (REPAIR_MESSAGES_MAX, 2)
    assert rig.repairs.serve(0.0) is TurnEnd.SERVED
    assert (rig.datagrams(), len(rig.stale)) == (1, 0)


def test_a_row_that_is_used_up_holds_what_waits_until_the_next_one() -> None:
    rig = Rig(8, RecordingLink(room=2_500), in_a_row=2)
    assert rig.repairs.serve(0.0) is TurnEnd.HELD
    assert rig.datagrams() == 2
    rig.link.room = 2_500
    assert rig.repairs.serve(READER_FLUSH_S / 2) is TurnEnd.HELD
    assert rig.datagrams() == 0
    assert rig.repairs.serve(READER_FLUSH_S) is TurnEnd.SERVED
    assert (rig.datagrams(), len(rig.stale)) == (2, 0)


def test_a_row_that_just_suffices_holds_nothing() -> None:
    rig = Rig(4, RecordingLink(room=2_500), in_a_row=2)
    assert rig.repairs.serve(0.0) is TurnEnd.SERVED
    assert rig.datagrams() == 2


@pytest.mark.parametrize("room", [0, 100])
def test_a_link_without_room_for_what_is_worth_a_message_blocks(room: int) -> None:
    rig = Rig(100, RecordingLink(room=room))
    assert rig.repairs.serve(0.0) is TurnEnd.BLOCKED
    assert (rig.datagrams(), len(rig.stale), rig.counters.repaired) == (0, 100, 0)


def test_a_budget_that_is_spent_holds_and_does_not_block() -> None:
    rig = Rig(100, RecordingLink(), kbps=64)
    ends = [rig.repairs.serve(0.0) for _ in range(40)]
    assert ends[-1] is TurnEnd.HELD
    assert TurnEnd.BLOCKED not in ends
    assert rig.stale


def test_what_waits_and_is_more_than_a_row_goes_by_a_stream_where_the_link_takes_all_of_it() -> None:
    rig = Rig(100, RecordingLink(), in_a_row=2)
    assert rig.repairs.serve(0.0) is TurnEnd.SERVED
    assert (rig.datagrams(), len(rig.stale)) == (0, 0)
    (stream,) = rig.link.streams.values()
    assert sorted(key for message in stream for key in decode_frame(message).keys) == list(range(100))


def test_rows_come_first_where_the_link_takes_a_part_of_it_and_each_time_that_something_waits() -> None:
    link = RecordingLink(bytes_max=600)
    room = REPAIR_MESSAGES_MAX * link.bytes_max + 1
    rig = Rig(200, link, in_a_row=2)
    for began in (10.0, 20.0):
        for at in (began, began + READER_FLUSH_S / 2):
            link.room = room
            assert rig.repairs.serve(at) is TurnEnd.HELD
            assert not link.streams, "a row has not been tried for long enough"
        link.room = room
        rig.repairs.serve(began + 1.5 * READER_FLUSH_S)
        assert link.streams, "rows do not bring it"
        link.done |= set(link.streams)
        rig.outlet.streams.settle(began + 1.5 * READER_FLUSH_S)
        link.streams.clear()
        link.done.clear()
        while rig.stale:
            rig.stale.served(tuple(rig.stale.urgent(1_000)))
        rig.repairs.all_served()
        rig.wait(200)


def test_a_link_that_takes_no_datagrams_gets_it_by_streams_one_at_a_time() -> None:
    link = Refusing()
    link.why = Refusal.UNSUPPORTED
    rig = Rig(6, link)
    assert rig.repairs.serve(0.0) is TurnEnd.BLOCKED, "one stream is under way"
    assert not rig.outlet.takes_datagrams
    assert (len(link.streams), len(rig.stale), rig.counters.repaired) == (1, 4, 1)
    link.done.add(0)
    rig.outlet.streams.settle(1.0)
    rig.repairs.serve(1.0)
    assert len(link.streams) == 2


def test_of_a_link_that_is_closed_it_is_said_so() -> None:
    link = Refusing()
    link.why = Refusal.CLOSED
    rig = Rig(6, link)
    assert rig.repairs.serve(0.0) is TurnEnd.CLOSED
    assert len(rig.stale) == 6
