"""The keyframe that a reader is owed, by itself: wanted, sent, on its way, there."""

from __future__ import annotations

from gateway.core.counters import Counters
from gateway.core.keyframes import KeyframeCache
from gateway.core.outgoing import Outgoing
from gateway.core.outlet import Outlet
from gateway.core.rebase import Rebase
from gateway.core.slots import Slots
from gateway.core.stale import StaleSet
from gateway.core.state import WorldState
from gateway.limits import PIECES_MAX
from gateway.wire import Frame, Record, encode_frame
from tests.core.links import RecordingLink

RECORD_BYTES = 1_000


class Rig:
    def __init__(self, records: int, link: RecordingLink | None = None) -> None:
        self.state, self.link, self.counters = WorldState(), link or RecordingLink(), Counters()
        self.tick = 0
        self.cache = KeyframeCache(self.state, self.counters)
        self.stale = StaleSet(Slots(self.state), None)
        self.outlet = Outlet(self.state, self.link, None, lambda keys: None)
        self.rebase = Rebase(self.state, self.stale, self.outlet, self.cache, self.counters, False)
        if records:
            self.moves(*range(records))

    def moves(self, *keys: int) -> None:
        self.tick += 1
        frame = Frame(1, self.tick, [Record(key, bytes(RECORD_BYTES)) for key in keys])
        changed = self.state.apply(frame).changed
        self.cache.note(Outgoing(frame, encode_frame(frame), changed), 0.0)

    def arrive(self) -> None:
        self.link.done |= set(self.link.streams)
        self.outlet.streams.settle(0.0)


def test_while_it_is_wanted_nothing_else_waits() -> None:
    rig = Rig(3)
    rig.stale.add((0, 1))
    rig.rebase.want("lagging")
    assert (rig.rebase.wanted, bool(rig.stale)) == ("lagging", False)


def test_it_stays_wanted_until_the_link_takes_something() -> None:
    rig = Rig(3, RecordingLink(room=0))
    rig.rebase.want("joined")
    assert rig.rebase.send(0.0) is False
    assert (rig.rebase.wanted, rig.link.streams, rig.link.controls) == ("joined", {}, [])
    rig.link.room = 1
    assert rig.rebase.send(0.0) is True
    assert (rig.rebase.wanted, len(rig.link.streams), rig.link.control_types()) == (None, 1, ["resync"])
    assert rig.counters.resyncs == 1


def test_whoever_joins_an_empty_world_is_owed_nothing_and_in_a_new_epoch_that_there_is_nothing() -> None:
    for reason, told in (("joined", []), ("new_epoch", ["resync"])):
        rig = Rig(0)
        rig.rebase.want(reason)
        assert rig.rebase.send(0.0)
        assert rig.link.control_types() == told


def test_what_changed_since_a_shared_one_was_made_waits_right_behind_it() -> None:
    rig = Rig(3)
    rig.cache.get(0.0)
    rig.moves(1)
    rig.rebase.want("joined")
    rig.rebase.send(0.0)
    assert list(rig.stale.urgent(9)) == [1]
    assert not rig.rebase.yields, "it is newer, and may overtake the keyframe"


def test_what_may_be_older_than_the_keyframe_on_its_way_would_overtake_it_and_what_is_of_its_frame_would_not() -> (
    None
):
    rig = Rig(3)
    rig.moves(0, 1)
    assert not rig.rebase.is_overtaken_by((2,)), "none is on its way"
    rig.rebase.want("joined")
    rig.rebase.send(0.0)
    assert not rig.rebase.is_overtaken_by((0, 1))
    assert rig.rebase.is_overtaken_by((0, 2))
    rig.arrive()
    assert not rig.rebase.is_overtaken_by((0, 2))


def test_what_yields_to_it_goes_when_it_is_there() -> None:
    rig = Rig(3)
    rig.rebase.want("joined")
    rig.rebase.send(0.0)
    rig.rebase.yields = True
    assert not rig.rebase.has_arrived()
    assert rig.rebase.yields
    rig.arrive()
    assert rig.rebase.has_arrived()
    assert not rig.rebase.yields


def test_it_is_the_shorter_way_where_more_than_half_of_many_records_wait_and_there_is_room_for_all() -> None:
    records = 4 * PIECES_MAX
    rig = Rig(records)
    for waiting, is_shorter in ((records // 2, False), (records // 2 + 1, True)):
        rig.stale.clear()
        rig.stale.add(tuple(range(waiting)))
        assert rig.rebase.is_shorter() is is_shorter
    rig.link.room = records * RECORD_BYTES - 1
    assert not rig.rebase.is_shorter()
    few = Rig(PIECES_MAX)
    few.stale.add(tuple(range(PIECES_MAX)))
    assert not few.rebase.is_shorter(), "they are as many datagrams as a stream is worth"
