"""How a message leaves for one reader: datagram or stream, within the link's room and the budget, and what becomes of it."""

from __future__ import annotations

import pytest

from gateway.core.budget import Budget
from gateway.core.outlet import Outlet
from gateway.core.ports import Refusal
from gateway.core.state import WorldState
from gateway.core.streams import OpenStreams
from gateway.core.window import Keys, SentWindow
from gateway.limits import (
    BUDGET_BURST_S,
    DATAGRAM_SAFE_BYTES,
    FRAME_STREAMS_MAX,
    STREAM_PATIENCE_S,
    STREAM_PATIENCE_S_MAX,
)
from gateway.wire import Frame, Record
from tests.core.links import RecordingLink

SIZE = DATAGRAM_SAFE_BYTES


def outlet_of(link: RecordingLink, *, kbps: int = 0, told: list[Keys] | None = None) -> Outlet:
    budget = Budget(kbps, 0.0, SIZE) if kbps else None
    return Outlet(WorldState(), link, budget, (told if told is not None else []).append)


# --- room and budget --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "waiting", "room"),
    [
        (SIZE, 9_000, SIZE),
        (SIZE - 1, 9_000, 0),
        (40, 40, 40),
        (39, 40, 0),
        (9_000, 40, 9_000),
    ],
)
def test_a_link_has_room_once_that_is_worth_a_message_or_all_that_waits(
    free: int, waiting: int, room: int
) -> None:
    assert outlet_of(RecordingLink(room=free)).room(waiting) == room


def test_without_a_budget_whatever_waits_may_go() -> None:
    assert outlet_of(RecordingLink()).allowed(0.0, 1 << 40) == float("inf")


def test_what_goes_is_taken_from_the_budget_and_ends_a_standstill() -> None:
    outlet = outlet_of(RecordingLink(), kbps=80)
    outlet.blocked_since = 1.0
    before = outlet.allowed(0.0, 100)
    assert outlet.send(bytes(100), (1,))
    assert outlet.allowed(0.0, 100) == before - 100
    assert outlet.blocked_since is None
    assert outlet.send_stream([bytes(30), bytes(40)], (2,), 70, 0.0)
    assert outlet.allowed(0.0, 100) == before - 170
    assert (outlet.messages, len(outlet.window)) == (2, 2)


def test_what_the_link_refuses_costs_nothing_and_ends_nothing() -> None:
    outlet = outlet_of(RecordingLink(room=10), kbps=80)
    outlet.blocked_since = 1.0
    before = outlet.allowed(0.0, 100)
    assert outlet.send(bytes(11), (1,)) is Refusal.BLOCKED
    assert (outlet.allowed(0.0, 100), outlet.blocked_since) == (before, 1.0)
    assert (outlet.messages, len(outlet.window)) == (0, 0)


def test_messages_go_under_tokens_in_a_row() -> None:
    link = RecordingLink()
    outlet = outlet_of(link)
    for n in range(3):
        outlet.send(b"message", (n,))
    assert [token for token, _ in link.sent] == [0, 1, 2]


def test_a_budget_says_at_once_what_it_has_where_that_is_a_message_or_all_there_is() -> None:
    budget = Budget(80, 0.0, SIZE)
    full = 10_000 * BUDGET_BURST_S
    assert budget.allows(0.0, 1 << 20) == full
    budget.spend(full - SIZE)
    assert budget.allows(0.0, 1 << 20) == SIZE
    assert budget.allows_at(1 << 20) == 0.0
    budget.spend(1)
    assert budget.allows(0.0, 1 << 20) == 0.0
    assert budget.allows(0.0, SIZE - 1) == SIZE - 1
    assert budget.allows_at(1 << 20) == pytest.approx(1e-4)


def test_a_budget_smaller_than_a_message_waits_for_no_more_than_it_can_ever_hold() -> None:
    budget = Budget(1, 0.0, SIZE)
    full = 125 * BUDGET_BURST_S
    assert budget.allows(0.0, 1 << 20) == full
    budget.spend(10)
    assert budget.allows(0.0, 1 << 20) == 0.0
    assert budget.allows_at(1 << 20) == pytest.approx(10 / 125)


# --- large records ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "room", "lossy", "way"),
    [
        (1_200, 1_200, True, "send"),
        (1_200, 1_199, True, "nothing"),
        (1_201, 9_000, True, "stream"),
        (1_200, 1_200, False, "send"),
        (1_200, 1_199, False, "stream"),
        (1_201, 9_000, False, "stream"),
    ],
)
def test_a_record_larger_than_what_may_go_waits_for_a_datagrams_room_or_takes_a_stream(
    size: int, room: int, lossy: bool, way: str
) -> None:
    link = RecordingLink(lossy=lossy, room=room, bytes_max=1_200)
    sent = outlet_of(link).send_large(bytes(size), (1,), 0.0)
    assert (len(link.sent), len(link.streams)) == {"send": (1, 0), "stream": (0, 1), "nothing": (0, 0)}[way]
    assert sent is (Refusal.BLOCKED if way == "nothing" else True)


def test_while_a_stream_is_on_its_way_there_is_no_second_one() -> None:
    link = RecordingLink()
    outlet = outlet_of(link, kbps=80)
    assert outlet.send_stream([b"one"], (1,), 3, 0.0)
    before = outlet.allowed(0.0, 1)
    assert not outlet.send_stream([b"two"], (2,), 3, 0.0)
    assert outlet.send_large(bytes(5_000), (2,), 0.0) is Refusal.BLOCKED
    assert (len(link.streams), outlet.messages, outlet.allowed(0.0, 1)) == (1, 1, before)


def test_further_messages_of_the_newest_frame_go_beside_each_other_up_to_a_bound() -> None:
    link, state = RecordingLink(), WorldState()
    outlet = Outlet(state, link, None, [].append)
    state.apply(Frame(1, 5, [Record(1, b"a")]))
    for at in range(FRAME_STREAMS_MAX):
        assert outlet.send_stream([b"part"], (at,), 4, 0.0, is_of_frame=True)
    assert not outlet.send_stream([b"part"], (9,), 4, 0.0, is_of_frame=True)
    link.done.add(0)
    outlet.streams.settle(0.0)
    assert not outlet.send_stream([b"another"], (9,), 7, 0.0)
    assert outlet.send_stream([b"part"], (9,), 4, 0.0, is_of_frame=True)


def test_a_message_of_a_newer_frame_waits_for_those_of_an_older_one_and_for_a_keyframe() -> None:
    for keyframe in (False, True):
        state = WorldState()
        outlet = Outlet(state, RecordingLink(), None, [].append)
        state.apply(Frame(1, 5, [Record(1, b"a")]))
        assert outlet.send_stream([b"first"], (1,), 5, 0.0, keyframe=keyframe)
        if not keyframe:
            state.apply(Frame(1, 6, [Record(1, b"b")]))
        assert not outlet.send_stream([b"part"], (1,), 4, 0.0, is_of_frame=True)


# --- streams ----------------------------------------------------------------------------


class Streams:
    """A reader's streams over a state, and the window that they stand in."""

    def __init__(self) -> None:
        self.link = RecordingLink()
        self.state = WorldState()
        self.window = SentWindow()
        self.streams = OpenStreams(self.link, self.state, self.window)
        self.tick = 0

    def news(self, *keys: int) -> None:
        self.tick += 1
        self.state.apply(Frame(1, self.tick, [Record(key, b"value") for key in keys]))

    def start(self, *keys: int, mono: float, keyframe: bool = False) -> None:
        self.streams.start([b"message"], keys, mono, keyframe=keyframe)
        self.window.add(keys)

    def reset(self, mono: float) -> list[Keys]:
        return [stream.keys for stream in self.streams.settle(mono)]


def test_a_stream_is_reset_once_all_of_it_is_overtaken_and_its_patience_is_over() -> None:
    one = Streams()
    one.news(1, 2)
    one.start(1, 2, mono=8.0)
    one.news(1)
    assert one.reset(8.0 + 2 * STREAM_PATIENCE_S) == [], "nothing newer of key 2 is known"
    one.news(2)
    assert one.reset(8.0 + STREAM_PATIENCE_S) == []
    assert one.reset(8.0 + STREAM_PATIENCE_S + 0.01) == [(1, 2)]
    assert (one.link.reset, len(one.streams), len(one.window)) == ({0}, 0, 0)
    assert not one.streams.owns(0)


def test_a_keyframe_is_never_overtaken() -> None:
    one = Streams()
    one.news(1)
    one.start(1, mono=8.0, keyframe=True)
    one.news(1)
    assert one.reset(1_000.0) == []
    assert one.streams.owns(0)


def test_each_reset_doubles_the_patience_up_to_its_bound_and_a_stream_that_got_through_restores_it() -> None:
    one = Streams()
    mono, patience_s, seen = 8.0, STREAM_PATIENCE_S, []
    for _ in range(12):
        one.news(1)
        one.start(1, mono=mono)
        one.news(1)
        assert one.reset(mono + patience_s) == []
        mono += patience_s + 0.125
        assert one.reset(mono) == [(1,)]
        seen.append(patience_s)
        patience_s = min(2 * patience_s, STREAM_PATIENCE_S_MAX)
    assert seen[-1] == STREAM_PATIENCE_S_MAX
    one.start(1, mono=mono)
    one.link.done.add(len(one.link.streams) - 1)
    assert one.reset(mono) == []
    assert len(one.streams) == 0
    one.start(1, mono=mono)
    one.news(1)
    assert one.reset(mono + STREAM_PATIENCE_S + 0.01) == [(1,)]


def test_a_stream_that_got_through_is_settled_in_the_window() -> None:
    one = Streams()
    one.window.add((5,))
    one.news(1)
    one.start(1, mono=8.0)
    assert (one.streams.owns(0), one.streams.owns(1)) == (False, True)
    one.link.done.add(0)
    one.streams.settle(8.0)
    assert not one.streams.owns(1)
    assert one.window.lost(1) == ()
    assert one.window.lost(0) == (5,)
    assert one.link.reset == set()


def test_all_streams_are_reset_where_something_else_says_everything_anew() -> None:
    one = Streams()
    one.news(1)
    one.start(1, mono=8.0)
    one.streams.reset_all()
    assert (one.link.reset, len(one.streams), len(one.window)) == ({0}, 0, 0)
