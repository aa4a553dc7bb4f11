"""All readers of a world: what is offered together, when they have their turns, and when what they were told is said again."""

from __future__ import annotations

import pytest

from gateway.core.counters import Counters
from gateway.core.fanout import FanOut
from gateway.core.outgoing import Outgoing
from gateway.core.queueing import QueueingReader
from gateway.core.reader import Reader
from gateway.core.state import WorldState
from gateway.limits import (
    FANOUT_SERVE_S,
    READER_FLUSH_S,
    REDUNDANCY_AGAIN_S,
    REST_DATAGRAMS_MIN,
    REST_S,
    STREAM_PATIENCE_S,
)
from gateway.wire import Frame, Record, decode_frame, encode_frame
from tests.core.links import RecordingLink


class Rig:
    """A fan-out, its readers, and how often it asked to be polled sooner. Times are exact in binary."""

    def __init__(self, *rooms: int, budget_kbps: int | None = None, lossy: bool = True) -> None:
        self.state, self.counters, self.wakes = WorldState(), Counters(), 0
        self.fan = FanOut(self.state, self.counters, self._wake)
        self.links = [RecordingLink(room=room, lossy=lossy) for room in rooms]
        self.readers = [self.reader(link, budget_kbps) for link in self.links]
        self.fan.set_readers(self.readers)
        self.tick = 0

    def _wake(self) -> None:
        self.wakes += 1

    def reader(self, link: RecordingLink, budget_kbps: int | None = None, *, ordered: bool = False) -> Reader:
        fan = self.fan
        return (QueueingReader if ordered else Reader)(
            self.state,
            link,
            0.0,
            late=fan.late,
            keyframes=fan.keyframes,
            repairs=fan.repairs,
            counters=self.counters,
            budget_kbps=budget_kbps,
            behind=fan.behind,
            again=fan,
        )

    def collects(self, *records: Record, mono: float) -> bool:
        self.tick += 1
        self.fan.mono = mono
        frame = Frame(1, self.tick, list(records))
        out = Outgoing(frame, encode_frame(frame), self.state.apply(frame).changed)
        return self.fan.collect(out, mono)

    def moves(self, *keys: int, mono: float) -> int:
        self.collects(*(Record(key, b"%d" % (self.tick + 1)) for key in keys), mono=mono)
        return self.fan.spread(mono)

    def polls(self, mono: float) -> None:
        self.fan.mono = mono
        self.fan.poll(mono)


MUCH = 1 << 30


def shown(link: RecordingLink) -> dict[int, bytes | None]:
    """What its application shows of what it was sent, by datagrams and streams."""
    state = WorldState()
    for messages in link.streams.values():
        for message in messages:
            state.apply(decode_frame(message))
    for _, message in link.sent:
        state.apply(decode_frame(message))
    return dict(state.snapshot())


def test_what_comes_together_goes_to_everybody_at_once_and_is_counted() -> None:
    rig = Rig(MUCH, MUCH)
    assert rig.collects(Record(1, b"a"), mono=1.0) is True
    assert rig.collects(Record(2, b"b"), mono=1.0) is False
    assert rig.fan.spread(1.0) == 4
    assert [len(link.sent) for link in rig.links] == [2, 2]
    assert (rig.counters.delivered, rig.counters.withheld, rig.fan.late.number) == (4, 0, 2)
    assert len(rig.fan.late) == 0
    assert rig.fan.spread(1.0) == 0


def test_without_readers_or_messages_nothing_goes_and_nothing_is_due() -> None:
    rig = Rig()
    assert rig.fan.due is None
    assert rig.moves(1, mono=1.0) == 0
    other = Rig(MUCH)
    assert other.fan.spread(1.0) == 0
    assert (rig.fan.due, other.fan.due, rig.wakes + other.wakes) == (None, None, 0)


def test_one_that_is_held_is_asked_nothing_and_takes_it_at_its_turn() -> None:
    rig = Rig(MUCH, 0, 0)
    assert rig.moves(1, mono=1.0) == 1
    assert rig.counters.withheld == 2
    rig.collects(Record(1, b"x"), mono=1.0)
    rig.collects(Record(2, b"y"), mono=1.0)
    assert rig.fan.spread(1.0) == 2
    assert (rig.counters.withheld, rig.counters.delivered, rig.fan.late.number) == (6, 3, 3)
    for link in rig.links:
        link.room = MUCH
    rig.polls(1.5)
    assert [shown(link) for link in rig.links] == [{1: b"x", 2: b"y"}] * 3
    assert len(rig.fan.late) == 0


def test_those_that_miss_the_same_get_the_same_bytes_in_one_turn_and_newer_ones_in_the_next() -> None:
    rig = Rig(0, 0)
    rig.moves(1, mono=1.0)
    for link in rig.links:
        link.room = 1_000
    rig.polls(1.5)
    first, second = (link.sent[-1][1] for link in rig.links)
    assert first is second
    rig.moves(1, mono=2.0)
    rig.readers[0].on_lost(0)
    rig.readers[0].on_lost(1)
    rig.readers[0].serve(2.5)
    assert shown(rig.links[0]) == {1: b"2"}


def test_a_value_lost_after_a_turn_is_made_anew() -> None:
    rig = Rig(0)
    rig.moves(1, mono=1.0)
    rig.links[0].room = 1_000
    rig.polls(1.5)
    rig.collects(Record(1, b"newest"), mono=2.0)
    rig.readers[0].on_lost(0)
    rig.readers[0].serve(2.0)
    assert decode_frame(rig.links[0].sent[-1][1]).records == [Record(1, b"newest", 2)]


def test_turns_are_some_time_apart_and_one_that_is_sooner_is_told_once() -> None:
    rig = Rig(0)
    rig.moves(1, mono=1.0)
    assert (rig.fan.due, rig.wakes) == (1.0, 3)  # a rest, one that fell behind, and the turn at once
    rig.fan.behind()
    assert rig.wakes == 3
    rig.polls(0.875)
    assert rig.fan.due == 1.0
    rig.polls(1.0)
    assert rig.fan.due == 1.0 + STREAM_PATIENCE_S
    rig.moves(1, mono=1.0)
    assert rig.fan.due == 1.0 + FANOUT_SERVE_S
    assert rig.wakes == 5
    rig.moves(1, mono=1.0)
    assert rig.wakes == 5


def test_one_that_falls_behind_by_itself_has_a_turn_in_about_a_tick() -> None:
    rig = Rig(MUCH)
    rig.moves(1, mono=1.0)
    rig.polls(1.25)
    before = rig.wakes
    rig.readers[0].on_lost(0)
    assert (rig.fan.due, rig.wakes) == (1.25 + READER_FLUSH_S, before + 1)
    rig.readers[0].on_lost(0)
    assert rig.wakes == before + 1


def test_what_waits_before_any_time_was_told_is_due_at_once() -> None:
    rig = Rig(MUCH)
    rig.fan.behind()
    due = rig.fan.due
    assert due is not None
    assert due < 0.0


def test_a_reader_whose_time_has_not_come_is_passed_over_until_then() -> None:
    rig = Rig(0)
    rig.moves(1, mono=1.0)
    rig.polls(1.0)
    assert rig.readers[0].due == 1.0 + STREAM_PATIENCE_S
    rig.links[0].room = MUCH
    rig.fan.behind()
    rig.polls(1.0 + STREAM_PATIENCE_S / 2)
    assert rig.links[0].sent == []
    rig.polls(1.0 + STREAM_PATIENCE_S)
    assert len(rig.links[0].sent) == 1


def test_where_nobody_waits_any_more_no_turn_is_due() -> None:
    rig = Rig(0)
    rig.moves(1, mono=1.0)
    rig.links[0].room = MUCH
    rig.polls(1.0)
    assert rig.fan.due == 1.0 + REST_S
    rig.polls(1.0 + REST_S)
    assert rig.fan.due is None


def test_turns_for_a_reader_whose_budget_earns_quickly_are_no_closer_than_turns_are() -> None:
    rig = Rig(MUCH, budget_kbps=1_600)  # a message's worth is earned in 5.5 ms
    rig.collects(*(Record(key, bytes(1_000)) for key in range(200)), mono=1.0)
    rig.fan.spread(1.0)
    mono, waits = 1.0, []
    for _ in range(8):
        rig.polls(mono)
        due = rig.fan.due
        assert due is not None
        waits.append(due - mono)
        mono = due
    assert min(waits) == pytest.approx(FANOUT_SERVE_S)


def test_one_that_wants_every_message_gets_also_what_a_newer_one_has_replaced() -> None:
    rig = Rig(MUCH)
    queue = RecordingLink(lossy=False)
    rig.fan.set_readers([rig.reader(queue, ordered=True)])
    for value in (b"old", b"new"):
        rig.collects(Record(1, value), mono=1.0)
    assert rig.fan.spread(1.0) == 2
    values = [decode_frame(message).records[0].data for some in queue.streams.values() for message in some]
    assert values == [b"old", b"new"]
    rig.fan.set_readers(rig.readers)
    for value in (b"newer", b"newest"):
        rig.collects(Record(1, value), mono=1.0)
    assert rig.fan.spread(1.0) == 1


def test_who_joins_after_the_state_changed_quietly_shares_no_keyframe_of_before() -> None:
    rig = Rig(MUCH, MUCH)
    rig.moves(1, mono=1.0)
    rig.readers[0].want_keyframe("joined", 1.0)
    rig.state.apply(Frame(1, 9, [Record(1, b"quiet")]))
    rig.fan.lacks((1,), 1.0)
    rig.links[1].sent.clear()
    rig.readers[1].want_keyframe("joined", 1.0)
    assert (shown(rig.links[1]), rig.counters.keyframes_encoded) == ({1: b"quiet"}, 2)


def test_a_rest_begins_so_long_after_the_last_move_and_is_one() -> None:
    rig = Rig(MUCH)
    rig.moves(1, mono=1.0)
    assert (rig.fan.due, rig.wakes) == (1.0 + REST_S, 1)
    for _ in range(REST_DATAGRAMS_MIN):
        rig.moves(1, mono=1.5)
    assert rig.wakes == 1
    rig.polls(1.0 + REST_S)
    assert (rig.fan.due, rig.links[0].streams) == (1.5 + REST_S, {})
    rig.polls(1.5 + REST_S)
    assert len(rig.links[0].streams) == 1
    rig.polls(1.5 + 4 * REST_S)
    assert len(rig.links[0].streams) == 1


def test_a_keyframe_that_is_shared_brings_what_changed_after_it_too() -> None:
    rig = Rig(MUCH, MUCH)
    rig.moves(1, mono=1.0)
    rig.readers[0].want_keyframe("joined", 1.0)
    rig.collects(Record(1, b"newer"), mono=1.0)
    rig.readers[1].want_keyframe("joined", 1.0)
    rig.links[1].sent = rig.links[1].sent[1:]
    assert rig.counters.keyframes_encoded == 1
    assert shown(rig.links[1]) == {1: b"newer"}


def test_a_fresh_start_is_everybodys_and_shares_nothing_of_before() -> None:
    rig = Rig(MUCH, MUCH)
    rig.moves(1, mono=1.0)
    rig.readers[0].want_keyframe("joined", 1.0)
    rig.fan.want_keyframe("new_epoch", 1.0)
    assert [link.controls[-1]["reason"] for link in rig.links] == ["new_epoch"] * 2
    assert rig.counters.keyframes_encoded == 2


def test_what_the_state_has_and_nobody_was_sent_is_sent_by_keys_and_in_order_afresh() -> None:
    rig = Rig(MUCH)
    queue = RecordingLink(lossy=False)
    rig.fan.set_readers([*rig.readers, rig.reader(queue, ordered=True)])
    rig.moves(1, mono=1.0)
    rig.readers[0].want_keyframe("joined", 1.0)
    rig.state.apply(Frame(1, 9, [Record(1, b"quiet")]))
    rig.fan.lacks((1,), 1.0)
    assert [control["reason"] for control in queue.controls] == ["new_epoch"]
    assert rig.counters.keyframes_encoded == 2
    rig.polls(1.5)
    assert decode_frame(rig.links[0].sent[-1][1]).records == [Record(1, b"quiet", 9)]


def test_one_that_loses_is_told_again_soon_and_is_forgotten_when_it_goes() -> None:
    rig = Rig(MUCH, MUCH)
    rig.moves(1, mono=1.0)
    rig.readers[0].on_lost(0)
    assert list(rig.fan.again.readers) == [rig.readers[0]]
    rig.polls(1.125)
    wakes = rig.wakes
    rig.moves(2, mono=1.25)
    assert (rig.fan.due, rig.wakes) == (1.25 + REDUNDANCY_AGAIN_S, wakes + 1)
    rig.polls(1.25 + REDUNDANCY_AGAIN_S)
    said = [decode_frame(message).keys for _, message in rig.links[0].sent]
    assert said.count((2,)) == 2
    assert [len(link.sent) for link in rig.links[1:]] == [2]
    rig.fan.set_readers(rig.readers[1:])
    assert list(rig.fan.again.readers) == []


def test_newest_values_for_one_on_a_budget_are_said_again_when_that_is_due() -> None:
    rig = Rig(MUCH, budget_kbps=1_000)
    rig.moves(1, mono=1.0)
    rig.polls(1.0)
    rig.readers[0].on_lost(0)
    wakes = rig.wakes
    rig.polls(1.25)
    assert (rig.fan.due, rig.wakes) == (1.25 + REDUNDANCY_AGAIN_S, wakes + 1)
    rig.polls(1.25 + REDUNDANCY_AGAIN_S)
    assert (len(rig.links[0].sent), rig.counters.repeated) == (3, 1)


@pytest.mark.parametrize("turns", [1, 3])
def test_what_everybody_has_taken_is_not_kept(turns: int) -> None:
    rig = Rig(0, MUCH)
    for turn in range(turns):
        rig.moves(turn, mono=1.0 + turn)
        rig.polls(1.5 + turn)
        assert len(rig.fan.late) == 0
    rig.links[0].room = MUCH
    rig.polls(9.0)
    assert sorted(shown(rig.links[0])) == list(range(turns))
