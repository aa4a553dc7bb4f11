"""Frames that wait to be said again: to whom, when, and not what newer values replace."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.core.again import Again
from gateway.core.bundle import Bundle
from gateway.core.outgoing import Outgoing
from gateway.limits import AGAIN_WAITING_MAX, PIECES_MAX, REDUNDANCY_AGAIN_S
from gateway.wire import Frame, Record, encode_frame


class Hears:
    """A reader that loses: what it was told, and until when it goes on losing."""

    def __init__(self, *, metered: bool = False, takes_parity: bool = False) -> None:
        self.metered = metered
        self.takes_parity = takes_parity
        self.goes_on = True
        self.parities: list[list[int]] = []
        self.agains: list[list[int] | None] = []
        self.values: list[tuple[int, ...]] = []

    def say_parity(self, bundle: Bundle, mono: float) -> bool:
        self.parities.append([out.tick for out in bundle.outs])
        return self.takes_parity

    def say_again(self, bundle: Bundle | None, mono: float) -> bool:
        self.agains.append(None if bundle is None else [out.tick for out in bundle.outs])
        return self.goes_on

    def say_values_again(self, keys: tuple[int, ...], mono: float) -> bool:
        self.values.append(keys)
        return self.goes_on


def again(*readers: Hears) -> Again:
    made = Again()
    heard: Any = readers
    made.readers = dict.fromkeys(heard)
    return made


def reader(one: Hears) -> Any:
    return one


def out(tick: int, *keys: int) -> Outgoing:
    frame = Frame(1, tick, [Record(key, b"x") for key in keys])
    return Outgoing(frame, encode_frame(frame), keys)


def bundle(*outs: Outgoing, **more: Any) -> Bundle:
    return Bundle(list(outs), **more)


def ticks(count: int) -> Iterable[int]:
    return range(1, count + 1)


def test_a_frame_is_said_again_once_when_it_is_due_and_not_before() -> None:
    hears = Hears()
    waiting = again(hears)
    assert waiting.due is None
    waiting.note(bundle(out(1, 7)), 10.0)
    assert waiting.due == 10.0 + REDUNDANCY_AGAIN_S
    waiting.poll(10.0 + REDUNDANCY_AGAIN_S - 0.0005)
    assert hears.agains == []
    waiting.poll(10.0 + REDUNDANCY_AGAIN_S)
    assert hears.agains == [[1]]
    assert waiting.due is None
    waiting.poll(20.0)
    assert hears.agains == [[1]]


def test_the_sooner_of_frames_and_values_is_due() -> None:
    hears = Hears()
    waiting = again(hears)
    waiting.note_values(reader(hears), (1,), 10.0)
    assert waiting.due == 10.0 + REDUNDANCY_AGAIN_S
    waiting.note(bundle(out(1, 7)), 9.0)
    assert waiting.due == 9.0 + REDUNDANCY_AGAIN_S
    waiting.note_values(reader(hears), (2,), 8.0)
    waiting.poll(9.0 + REDUNDANCY_AGAIN_S)
    assert (hears.agains, hears.values) == ([[1]], [])
    assert waiting.due == 10.0 + REDUNDANCY_AGAIN_S
    waiting.note(bundle(out(2, 7)), 30.0)
    assert waiting.due == 10.0 + REDUNDANCY_AGAIN_S
    waiting.poll(10.0 + REDUNDANCY_AGAIN_S)
    assert hears.values == [(1,), (2,)]
    assert waiting.due == 30.0 + REDUNDANCY_AGAIN_S


def test_what_has_newer_values_on_their_way_is_left_out() -> None:
    hears = Hears()
    waiting = again(hears)
    waiting.note(bundle(out(1, 1, 2), out(1, 3)), 10.0)
    waiting.note(bundle(out(2, 2, 1, 5)), 10.001)
    waiting.poll(11.0)
    assert hears.agains == [[1], [2]], "of the first frame the message of key 3 is left"


def test_a_part_of_the_keys_or_the_same_tick_replaces_nothing() -> None:
    hears = Hears()
    waiting = again(hears)
    waiting.note(bundle(out(1, 1, 2)), 10.0)
    waiting.note(bundle(out(2, 1)), 10.001)
    waiting.poll(11.0)
    assert hears.agains == [[1], [2]]
    waiting.note(bundle(out(3, 1)), 12.0)
    waiting.note(bundle(out(3, 1)), 12.001)
    waiting.poll(13.0)
    assert hears.agains[2:] == [[3, 3]], "two messages of one tick are two parts of it"


def test_of_a_frame_that_is_replaced_whole_nothing_is_said_but_the_reader_is_asked() -> None:
    hears = Hears()
    waiting = again(hears)
    waiting.note(bundle(out(1, 1)), 10.0)
    waiting.note(bundle(out(2, 1)), 10.001)
    waiting.poll(10.0 + REDUNDANCY_AGAIN_S)
    assert hears.agains == [None]


def test_the_parts_of_a_frame_that_come_apart_wait_together_from_the_last_on() -> None:
    hears = Hears()
    waiting = again(hears)
    waiting.note(bundle(out(4, 1)), 10.0)
    waiting.note(bundle(out(4, 2)), 10.002)
    assert waiting.due == 10.002 + REDUNDANCY_AGAIN_S
    waiting.note(bundle(out(5, 3), out(4, 4)), 10.003)
    waiting.poll(11.0)
    assert hears.agains == [[4, 4], [5, 4]], "what is not of that tick alone waits for itself"


def test_as_many_as_go_as_datagrams_are_said_again_and_one_more_goes_by_a_stream() -> None:
    for count, said in ((PIECES_MAX, True), (PIECES_MAX + 1, False)):
        hears = Hears()
        waiting = again(hears)
        for key in ticks(count):
            waiting.note(bundle(out(1, key)), 10.0)
        waiting.poll(11.0)
        assert (hears.agains[-1] is not None) is said, count


def test_what_went_by_a_stream_is_not_said_again_whatever_joins_it() -> None:
    for first, second in (({"is_large": True}, {}), ({}, {"is_large": True}), ({"row": (9, 9)}, {})):
        hears = Hears()
        waiting = again(hears)
        waiting.note(bundle(out(1, 1), **first), 10.0)
        assert hears.parities == ([] if first else [[1]])
        waiting.note(bundle(out(1, 2), **second), 10.001)
        waiting.note(bundle(out(1, 3)), 10.001)
        waiting.poll(11.0)
        assert (hears.parities[1:], hears.agains) == ([], [None])


def test_whom_a_parity_is_enough_gets_it_at_once_and_nothing_again() -> None:
    enough, other = Hears(takes_parity=True), Hears()
    waiting = again(enough, other)
    waiting.note(bundle(out(1, 1)), 10.0)
    assert (enough.parities, other.parities) == ([[1]], [[1]])
    waiting.note(bundle(out(1, 2)), 10.001)
    assert enough.parities == [[1]], "it has its parity"
    assert other.parities == [[1], [1, 1]]
    waiting.poll(11.0)
    assert (enough.agains, other.agains) == ([None], [[1, 1]])


def test_a_reader_on_a_budget_hears_values_and_no_frames() -> None:
    metered = Hears(metered=True, takes_parity=True)
    waiting = again(metered)
    waiting.note(bundle(out(1, 1)), 10.0)
    waiting.note_values(reader(metered), (1, 2), 10.0)
    waiting.poll(11.0)
    assert (metered.parities, metered.agains, metered.values) == ([], [], [(1, 2)])


def test_who_loses_no_more_is_not_asked_again() -> None:
    for noted in (lambda w, r: w.note(bundle(out(1, 1)), 10.0), lambda w, r: w.note_values(r, (1,), 10.0)):
        done, still = Hears(), Hears()
        done.goes_on = False
        waiting = again(done, still)
        noted(waiting, reader(done))
        waiting.poll(11.0)
        assert list(waiting.readers) == [still]
        waiting.note_values(reader(done), (1,), 12.0)
        waiting.poll(13.0)
        assert done.values in ([], [(1,)]), "nor what was noted for it"


def test_who_is_gone_is_forgotten_with_its_values() -> None:
    gone, here = Hears(), Hears()
    waiting = again(gone, here)
    waiting.note_values(reader(gone), (1,), 10.0)
    waiting.note_values(reader(here), (2,), 10.001)
    waiting.keep([reader(here)])
    assert list(waiting.readers) == [here]
    assert waiting.due == 10.001 + REDUNDANCY_AGAIN_S
    waiting.poll(11.0)
    assert (gone.values, here.values) == ([], [(2,)])


def test_of_more_than_may_wait_the_oldest_are_said_once_only() -> None:
    for extra, first in ((0, 1), (1, 2)):
        hears = Hears()
        waiting = again(hears)
        for tick in ticks(AGAIN_WAITING_MAX + extra):
            waiting.note(bundle(out(tick, tick)), 10.0)
            waiting.note_values(reader(hears), (tick,), 10.0)
        waiting.poll(11.0)
        assert hears.agains[0] == [first]
        assert hears.values[0] == (first,)
        assert len(hears.agains) == len(hears.values) == AGAIN_WAITING_MAX
