"""What a reader does with messages on offer: as datagrams, cut, or by a stream; and what is left of those that could not go."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.core.bundle import Bundle, Burst
from gateway.core.counters import Counters
from gateway.core.late import LateLog
from gateway.core.outgoing import Outgoing
from gateway.core.ports import Refusal, Sent
from gateway.core.reader import Reader
from gateway.core.slots import Slots
from gateway.core.state import WorldState
from gateway.core.states import ReaderState
from gateway.limits import REST_DATAGRAMS_MIN, STREAM_PATIENCE_S
from gateway.wire import Frame, Record, decode_frame, encode_frame
from tests.core.links import RecordingLink

MUCH = 1 << 30


class Moody(RecordingLink):
    """A link that may refuse whatever comes, and how often it was asked."""

    refusal: Refusal | None = None
    asked = 0

    def send_burst(self, burst: Burst, token: int) -> int | Refusal:
        self.asked += 1
        return super().send_burst(burst, token) if self.refusal is None else self.refusal

    def send(self, message: bytes, token: int) -> Sent:
        return super().send(message, token) if self.refusal is None else self.refusal


class Rig:
    """A state, a link, and a reader whose wish for a turn is counted."""

    def __init__(self, room: int = MUCH, *, lossy: bool = True, **options: object) -> None:
        self.state, self.counters, self.link = WorldState(), Counters(), Moody(room=room, lossy=lossy)
        self.late = LateLog(Slots(self.state))
        self.wishes = 0
        options = {"counters": self.counters, "behind": self._wish, "late": self.late, **options}
        self.reader = Reader(self.state, self.link, 0.0, **options)  # type: ignore[arg-type]
        self.tick = 0

    def _wish(self) -> None:
        self.wishes += 1

    def parts(self, count: int, size: int = 1_000) -> list[Outgoing]:
        """A frame that came in so many messages; each is 32 bytes longer than its record."""
        self.tick += 1
        outs = []
        for part in range(count):
            frame = Frame(1, self.tick, [Record(part, bytes(size))], part=part, parts=count)
            outs.append(Outgoing(frame, encode_frame(frame), self.state.apply(frame).changed))
        return outs

    def offers(self, outs: list[Outgoing], mono: float = 0.0, row: tuple[int, int] | None = None) -> bool:
        return self.reader.offer(Bundle(outs, row=row), mono)

    @property
    def went(self) -> tuple[int, int]:
        """(datagrams, streams) so far."""
        return len(self.link.sent), len(self.link.streams)


def test_one_that_is_held_takes_nothing_on_offer_though_there_is_room_now() -> None:
    rig = Rig(0)
    assert rig.offers(rig.parts(2)) is False
    assert (rig.counters.withheld, rig.reader.held, rig.wishes) == (1, True, 1)
    rig.link.room = MUCH
    assert rig.offers(rig.parts(3)) is False
    assert (rig.counters.withheld, rig.went) == (4, (0, 0))


def test_one_on_a_budget_is_offered_nothing_and_lives_on_its_turns() -> None:
    rig = Rig(budget_kbps=1_000)
    assert rig.reader.state is ReaderState.METERED
    assert rig.offers(rig.parts(1)) is False
    assert (rig.counters.withheld, rig.went) == (1, (0, 0))


def test_one_that_is_behind_and_not_held_catches_up_and_takes_what_is_on_offer() -> None:
    rig = Rig()
    assert rig.offers(rig.parts(50))
    rig.reader.mark(tuple(range(50)))
    assert rig.reader.state is ReaderState.BEHIND
    rig.reader.catch_up(0.0)
    assert (rig.reader.held, rig.reader.waiting) == (False, True)  # a turn's worth went
    assert rig.offers(rig.parts(1)) is True
    assert rig.reader.state is ReaderState.CURRENT


@pytest.mark.parametrize(("count", "went"), [(8, (8, 0)), (9, (0, 1))])
def test_as_many_messages_as_go_in_a_row_go_as_datagrams_and_one_more_by_a_stream(
    count: int, went: tuple[int, int]
) -> None:
    rig = Rig(datagrams_max=8)
    assert rig.offers(rig.parts(count)) is True
    assert (rig.went, rig.counters.streamed, rig.counters.withheld) == (went, went[1], 0)


@pytest.mark.parametrize(
    ("sent", "before", "count", "went"),
    [(0, 60, 10, (10, 0)), (54, 60, 10, (64, 0)), (55, 60, 10, (55, 1)), (60, 54, 10, (70, 0))],
)
def test_what_went_before_counts_as_far_as_this_reader_was_sent_it(
    sent: int, before: int, count: int, went: tuple[int, int]
) -> None:
    rig = Rig()
    for _ in range(sent):
        rig.offers(rig.parts(1))
    assert rig.offers(rig.parts(count), row=(before, count)) is True
    assert rig.went == went


@pytest.mark.parametrize(
    ("room", "taken", "went"),
    [
        (8 * 1_032, True, (0, 1)),
        (8 * 1_032 - 1, False, (0, 0)),
        (4 * 1_200 + 1, False, (0, 0)),
        (4 * 1_200, True, (4, 0)),
        (1_032, True, (1, 0)),
        (0, False, (0, 0)),
    ],
)
def test_a_large_frame_goes_whole_by_a_stream_or_on_a_narrow_link_in_part(
    room: int, taken: bool, went: tuple[int, int]
) -> None:
    rig = Rig(room, datagrams_max=4)
    assert rig.offers(rig.parts(8)) is taken
    assert (rig.went, rig.counters.withheld) == (went, 0 if went[1] else 1)


def test_what_did_not_go_of_several_waits_and_what_went_is_remembered() -> None:
    rig = Rig(2 * 1_032)
    assert rig.offers(rig.parts(4)) is True
    assert (rig.went, sorted(rig.reader.stale), rig.counters.withheld) == ((2, 0), [2, 3], 1)
    assert rig.reader.held
    assert rig.counters.lost == 0
    rig.reader.on_lost(1)
    assert (sorted(rig.reader.stale), rig.counters.lost) == ([1, 2, 3], 1)


@pytest.mark.parametrize(("count", "went"), [(4, (4, 0)), (5, (0, 1))])
def test_a_frame_is_cut_into_as_many_datagrams_as_go_in_a_row(count: int, went: tuple[int, int]) -> None:
    rig = Rig(datagrams_max=4)
    frame = Frame(1, 1, [Record(key, bytes(1_000)) for key in range(count)])
    keys = rig.state.apply(frame).changed
    assert rig.offers([Outgoing(frame, encode_frame(frame), keys)]) is True
    assert rig.went == went
    rig.reader.on_lost(0)
    assert list(rig.reader.stale) == ([0] if went[0] else list(range(count)))


def test_so_many_datagrams_between_two_rests_are_worth_a_renewal() -> None:
    rig = Rig()
    for count, rests in ((REST_DATAGRAMS_MIN, True), (REST_DATAGRAMS_MIN - 1, False), (1, False)):
        for _ in range(count):
            rig.offers(rig.parts(1))
        assert rig.reader.rests() is rests


def test_of_several_what_no_datagram_holds_goes_by_a_stream_or_waits() -> None:
    for room, waiting, streams in ((MUCH, [], 1), (500, [0, 1], 0)):
        rig = Rig(room)
        outs = []
        for key, size in enumerate((100, 5_000)):
            frame = Frame(1, key + 1, [Record(key, bytes(size))])
            outs.append(Outgoing(frame, encode_frame(frame), rig.state.apply(frame).changed))
        if not streams:
            rig.link.room = 0
        assert rig.offers(outs) is True
        assert (rig.went, sorted(rig.reader.stale)) == ((streams, streams), waiting)


def test_a_stream_begins_where_there_is_any_room_and_only_there() -> None:
    for room, taken in ((1, True), (0, False)):
        rig = Rig(room)
        assert rig.offers(rig.parts(1, 5_000)) is taken
        assert (rig.went, rig.counters.streamed) == ((0, int(taken)), int(taken))


def test_where_no_datagrams_are_taken_everything_goes_by_streams_and_none_is_tried_again() -> None:
    rig = Rig()
    rig.link.refusal = Refusal.UNSUPPORTED
    assert rig.offers(rig.parts(1)) is True
    assert (rig.went, rig.link.asked) == ((0, 1), 1)
    rig.link.done.add(0)
    assert rig.offers(rig.parts(1)) is True
    assert (rig.went, rig.link.asked, rig.reader.waiting) == ((0, 2), 1, False)
    rig.link.room = 10
    rig.link.done.add(1)
    assert rig.offers(rig.parts(1)) is False
    assert (rig.went, rig.link.asked, rig.reader.held) == ((0, 2), 1, True)
    rig.link.room = MUCH
    rig.reader.mark((0,))
    rig.reader.catch_up(1.0)
    assert (rig.went, rig.reader.waiting) == ((0, 3), False)


@pytest.mark.parametrize("how", ["offer", "turn"])
def test_for_a_link_that_is_over_nothing_is_kept(how: str) -> None:
    rig = Rig(0)
    rig.offers(rig.parts(REST_DATAGRAMS_MIN))
    rig.reader.mark((0, 1))
    assert rig.reader.poll(0.0) == STREAM_PATIENCE_S
    rig.link.room, rig.link.refusal = MUCH, Refusal.CLOSED
    if how == "turn":
        rig.reader.catch_up(1.0)
    else:
        rig = Rig()
        for _ in range(REST_DATAGRAMS_MIN):
            rig.offers(rig.parts(1))
        rig.link.refusal = Refusal.CLOSED
        assert rig.offers(rig.parts(1)) is False
        assert not rig.reader.rests()
    reader = rig.reader
    wishes = rig.wishes
    reader.mark((1,))
    reader.want_keyframe("new_epoch", 1.0)
    reader.on_lost(0)
    rig.late.passed((2,))
    reader.catch_up(2.0)
    assert (reader.over, reader.state, reader.waiting, reader.taken) == (True, ReaderState.OVER, False, None)
    assert (reader.poll(2.0), reader.due, rig.link.controls) == (None, None, [])
    assert reader.held
    assert rig.wishes == wishes


def test_nothing_to_mark_is_no_reason_to_wait() -> None:
    rig = Rig()
    rig.reader.mark(())
    rig.reader.on_lost(7)
    assert (rig.wishes, rig.reader.state, rig.counters.lost) == (0, ReaderState.CURRENT, 1)
    rig.link.room = 0
    rig.offers(rig.parts(1))
    rig.reader.want_keyframe("new_epoch", 0.0)
    rig.reader.mark((0,))
    assert len(rig.reader.stale) == 0


def test_a_keyframe_waits_for_any_room_and_takes_the_place_of_all_that_waits() -> None:
    rig = Rig(0)
    rig.offers(rig.parts(2))
    rig.reader.mark((0, 1))
    wishes = rig.wishes
    rig.reader.want_keyframe("new_epoch", 0.0)
    assert (rig.reader.state, len(rig.reader.stale), rig.reader.held) == (ReaderState.REBASING, 0, True)
    assert rig.wishes == wishes + 1
    rig.link.room = 1
    rig.reader.catch_up(1.0)
    assert (rig.counters.resyncs, rig.went, rig.reader.waiting) == (1, (0, 1), False)
    wishes = rig.wishes
    rig.reader.want_keyframe("new_epoch", 2.0)
    assert (rig.counters.resyncs, rig.wishes, rig.reader.state) == (2, wishes, ReaderState.CURRENT)
    rig.reader.set_weights({1: 4.0})
    assert rig.reader.weights == {1: 4.0}


class Notes:
    """Who is told that a reader loses, and what it was sent."""

    def __init__(self) -> None:
        self.losing_, self.said_ = 0, list[tuple[int, ...]]()

    def losing(self, reader: Reader) -> None:
        self.losing_ += 1

    def said(self, reader: Reader, keys: tuple[int, ...], mono: float) -> None:
        self.said_.append(keys)


ASKS: dict[str, Callable[[Rig], bool]] = {
    "again": lambda rig: rig.reader.say_again(Bundle(rig.parts(2)), 0.0),
    "parity": lambda rig: rig.reader.say_parity(Bundle(rig.parts(2)), 0.0),
    "values": lambda rig: rig.reader.say_values_again((0,), 0.0),
}


@pytest.mark.parametrize("ask", ASKS)
def test_what_is_said_again_is_said_to_one_that_loses_and_has_everything(ask: str) -> None:
    rig = Rig(again=Notes(), parity=True)
    for _ in range(100):
        rig.offers(rig.parts(1))
    assert ASKS[ask](rig) is False
    rig.reader.on_lost(0)  # newer values of it are on their way
    assert ASKS[ask](rig) is True
    assert rig.went == (101, 0)
    rig.reader.mark((0,))
    assert ASKS[ask](rig) is (ask != "parity")
    assert rig.went == (101, 0)


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("options", [{}, {"again": Notes(), "redundancy": False}])
def test_nothing_is_said_again_where_nobody_keeps_it_or_the_reader_wants_none(
    ask: str, options: dict[str, object]
) -> None:
    rig = Rig(parity=True, **options)
    rig.offers(rig.parts(1))
    rig.reader.set_redundancy(parity=True)
    rig.reader.on_lost(0)
    assert ASKS[ask](rig) is False


def test_one_on_a_budget_that_loses_has_what_it_is_sent_noted() -> None:
    notes = Notes()
    rig = Rig(again=notes, budget_kbps=1_000)
    rig.parts(2)
    for keys, told in (((0,), []), ((1,), [(0,), (1,)])):
        rig.reader.mark(keys)
        rig.reader.poll(0.0)
        assert notes.said_ == told
        rig.reader.on_lost(0)
    assert notes.losing_ == 1


def test_one_that_has_everything_takes_no_note_of_what_others_missed() -> None:
    rig = Rig()
    rig.offers(rig.parts(1))
    rig.late.passed((0,))
    rig.reader.on_writable(0.0)
    assert (rig.went, rig.reader.waiting, rig.reader.taken) == ((1, 0), False, None)


def test_what_others_missed_before_it_came_is_not_its_affair_and_what_it_missed_it_gets_once() -> None:
    rig = Rig()
    rig.parts(3)
    rig.late.passed((0,))
    rig.late.since(0)
    reader = Reader(rig.state, rig.link, 0.0, late=rig.late, budget_kbps=1_000)
    assert reader.taken == 1
    rig.late.passed((1,))
    for _ in range(2):
        reader.catch_up(0.0)
        assert [frame.keys for frame in map(decode_frame, dict(rig.link.sent).values())] == [(1,)]
        assert reader.taken == 2
