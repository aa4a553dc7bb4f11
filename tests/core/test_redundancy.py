"""Redundancy where loss is being seen, and only there: never without loss, never into a queue, never beyond budget or window."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.ports import LiveOptions, RoundTrips
from gateway.core.reader import Reader
from gateway.core.redundancy import LossVerdict, LossWatch, affordable
from gateway.limits import (
    REDUNDANCY_CALM_S,
    REDUNDANCY_HEAVY_LOSSES_MIN,
    REDUNDANCY_PAUSE_S_FIRST,
    REDUNDANCY_PAUSE_S_MAX,
    REDUNDANCY_SPARE_PACKETS,
)
from gateway.wire import Frame, encode_control
from tests.core.sim import Path, Sim, SimReader
from tests.held import count

TICK_S = 1 / 60
CALM = RoundTrips(0.05, 0.05)
QUEUE = RoundTrips(0.09, 0.05)
FRAME_BYTES_PER_S = 60 * 1_056
"""What the simulated publisher's small frames take."""


class Watched:
    """A watch that is looked at sixty times a second."""

    def __init__(self, seed: int = 1) -> None:
        self.watch = LossWatch(0)
        self.rng = random.Random(seed)
        self.now, self.sent = 100.0, 0

    def go(self, seconds: float, loss: float, trips: RoundTrips | None = CALM) -> list[LossVerdict]:
        seen = []
        for _ in range(round(seconds * 60)):
            self.now += TICK_S
            self.sent += 1
            if self.rng.random() < loss:
                self.watch.lost()
            seen.append(self.watch.look(self.sent, trips, self.now, self.now - 100.0))
        return seen


# --- the rules ------------------------------------------------------------------------------


@given(st.integers(1, 500), st.sampled_from([None, CALM, QUEUE]))
def test_a_path_that_loses_nothing_never_asks(looks: int, trips: RoundTrips | None) -> None:
    assert set(Watched().go(looks / 60, 0.0, trips)) == {LossVerdict.QUIET}


@pytest.mark.parametrize("loss", [0.01, 0.02, 0.05])
def test_loss_is_seen_within_seconds_and_as_long_as_it_lasts(loss: float) -> None:
    watched = Watched()
    watched.go(5, loss)
    seen = watched.go(60, loss)
    assert seen.count(LossVerdict.AGAIN) > 0.95 * len(seen)


def test_after_the_last_loss_it_stops_within_seconds_and_is_forgotten() -> None:
    watched = Watched()
    watched.go(20, 0.02)
    watched.go(10, 0.0)
    assert set(watched.go(10, 0.0)) == {LossVerdict.QUIET}
    watched.go(20, 0.0)
    assert watched.watch.is_over


def test_one_loss_in_a_minute_asks_for_a_few_seconds_of_it() -> None:
    watched = Watched()
    watched.go(60, 0.0)
    watched.watch.lost()
    assert 0 < watched.go(60, 0.0).count(LossVerdict.AGAIN) <= 5 * 60


def test_loss_with_a_growing_queue_is_congestion() -> None:
    watched = Watched()
    assert LossVerdict.AGAIN in watched.go(5, 0.03)
    growing = watched.go(5, 0.03, QUEUE)
    assert LossVerdict.AGAIN not in growing[12:], "a tenth of a second shows that the queue stands"
    assert growing[-1] is LossVerdict.CONGESTED


def test_loss_that_begins_with_a_queue_asks_for_nothing_from_the_first_on() -> None:
    assert LossVerdict.AGAIN not in Watched().go(10, 0.05, QUEUE)


def test_a_queue_that_comes_and_goes_is_waited_out() -> None:
    watched = Watched()
    watched.go(5, 0.03)
    watched.go(1, 0.03, QUEUE)
    after = watched.go(5, 0.03)
    assert LossVerdict.AGAIN not in after[: int((REDUNDANCY_CALM_S - 0.2) * 60)]
    assert LossVerdict.AGAIN in after


def test_single_late_answers_are_no_queue() -> None:
    watched = Watched()
    watched.go(5, 0.03)
    seen = []
    for turn in range(300):
        seen += watched.go(TICK_S, 0.03, QUEUE if turn % 3 else CALM)
    assert seen.count(LossVerdict.AGAIN) > 0.9 * len(seen)


def test_a_path_that_moved_to_a_longer_one_is_known_after_two_minutes() -> None:
    watched = Watched()
    watched.go(5, 0.02, RoundTrips(0.03, 0.03))
    longer = RoundTrips(0.09, 0.03)
    assert LossVerdict.AGAIN not in watched.go(30, 0.02, longer)[12:]
    watched.go(100, 0.02, longer)
    assert LossVerdict.AGAIN in watched.go(10, 0.02, longer)


def test_heavy_loss_is_a_full_path_and_what_made_it_heavy_is_tried_ever_more_rarely() -> None:
    """A policer: as soon as everything is said twice, half of it is lost."""
    watched = Watched()
    loss, twice = 0.03, []
    for _ in range(300 * 60):
        verdict = watched.go(TICK_S, loss)[0]
        twice.append(verdict is LossVerdict.AGAIN)
        loss = 0.4 if verdict is LossVerdict.AGAIN else 0.03
    first, last = sum(twice[: 60 * 60]), sum(twice[-120 * 60 :])
    assert last < 0.05 * 120 * 60
    assert first > 0
    assert REDUNDANCY_PAUSE_S_FIRST < REDUNDANCY_PAUSE_S_MAX


def test_a_few_losses_are_not_taken_for_heavy_ones() -> None:
    watch = LossWatch(0)
    for _ in range(REDUNDANCY_HEAVY_LOSSES_MIN - 1):
        watch.lost()
    assert watch.look(20, CALM, 1.0, 0.5) is LossVerdict.AGAIN


@given(
    size=st.integers(1, 20_000),
    frame=st.integers(1, 20_000),
    room=st.integers(0, 100_000),
    level=st.integers(0, 100_000),
)
def test_what_is_affordable_leaves_room_for_the_next_frame(
    size: int, frame: int, room: int, level: int
) -> None:
    if affordable(size, frame, room, level, 1_200):
        assert size + frame <= level
        assert size + frame + REDUNDANCY_SPARE_PACKETS * 1_200 <= room
    else:
        assert size + frame > level or size + frame + REDUNDANCY_SPARE_PACKETS * 1_200 > room


# --- a whole world, on simulated links --------------------------------------------------------


def play(sim: Sim, seconds: float, frame_bytes: int = 1_000) -> None:
    """Sixty frames a second of records of 100 bytes, all of which move each tick."""
    for _ in range(round(seconds * 60)):
        sim.publish({key: sim.tick.to_bytes(4, "little") * 25 for key in range(frame_bytes // 100)})
        sim.run(TICK_S)


class Arrivals:
    """How late each tick was shown as a whole, compared with the soonest that it can be."""

    def __init__(self, reader: SimReader) -> None:
        self._clock = reader.link.clock
        self.first: dict[int, float] = {}
        self.last: dict[int, float] = {}
        self._values: dict[int, int] = {}
        reader.state.on_frame = self._take

    def _take(self, frame: Frame) -> None:
        for key, data, _ in frame.records:
            tick = int.from_bytes((data or b"")[:4], "little") + 1
            if tick > self._values.get(key, 0):
                self._values[key] = tick
                self.first.setdefault(tick, self._clock.now)
                self.last[tick] = self._clock.now

    def shown(self, after: int, before: int) -> float:
        """The share of ticks of which anything came within half a tick of what was sent first."""
        return sum(tick in self.first for tick in range(after, before)) / (before - after)


def test_without_loss_not_one_byte_more_is_sent() -> None:
    links = []
    for redundancy, parity in ((False, False), (True, False), (True, True)):
        sim = Sim(3)
        reader = sim.join(Path(), redundancy=redundancy, parity=parity)
        play(sim, 5, 4_500)
        links.append(reader.link.sent_bytes)
        assert sim.world.counters.redundant_bytes == 0
    assert len(set(links)) == 1


@pytest.mark.parametrize("delay_s", [0.025, 0.05])
@pytest.mark.parametrize(("loss", "unseen"), [(0.02, 0.004), (0.05, 0.008)])
def test_hardly_any_lost_frame_is_noticed(delay_s: float, loss: float, unseen: float) -> None:
    sim = Sim(5)
    path = Path(loss=loss, delay_s=delay_s)
    plain, twice = (sim.join(path, redundancy=redundancy) for redundancy in (False, True))
    play(sim, 5)
    seen = [Arrivals(reader) for reader in (plain, twice)]
    play(sim, 60)
    sim.run(1)
    ticks = (sim.tick - 55 * 60, sim.tick)
    assert 1 - seen[0].shown(*ticks) > 0.6 * loss
    assert 1 - seen[1].shown(*ticks) < unseen


def test_parity_costs_one_datagram_a_frame_where_repeats_cost_a_frame() -> None:
    sim = Sim(6)
    path = Path(loss=0.02)
    off, repeats, parity = (
        sim.join(path, redundancy=twice, parity=parity)
        for twice, parity in ((False, False), (True, False), (True, True))
    )
    play(sim, 20, 4_500)
    sim.run(1)
    sent = [reader.link.sent_bytes for reader in (off, repeats, parity)]
    assert 1.8 * sent[0] < sent[1] <= 2.02 * sent[0]
    assert 1.1 * sent[0] < sent[2] <= 1.3 * sent[0]
    assert parity.state.rebuilt > 50
    assert sim.world.counters.parity > 900
    assert sim.world.counters.repeated > 3_600
    assert sim.wrong() == {}


def test_a_link_at_its_rate_gets_no_more_than_without_redundancy() -> None:
    """Its queue is full and it drops what comes on top: others doubled their rate exactly then."""
    sent = {}
    for redundancy in (False, True):
        sim = Sim(7)
        path = Path(bytes_per_s=FRAME_BYTES_PER_S, queue_bytes=8_000, window_bytes=60_000)
        reader = sim.join(path, redundancy=redundancy)
        play(sim, 60, 1_100)
        sent[redundancy] = reader.link.sent_bytes
        assert sim.world.counters.lost > 20, "nothing was lost, so nothing was shown"
    assert sent[True] <= 1.02 * sent[False]


def test_a_policer_gets_hardly_more_than_without_redundancy() -> None:
    """It has no queue that round trips would show; what is lost because everything is said twice shows it."""
    sent = {}
    for redundancy in (False, True):
        sim = Sim(8)
        path = Path(bytes_per_s=FRAME_BYTES_PER_S * 1.1, queue_bytes=600, window_bytes=60_000)
        reader = sim.join(path, redundancy=redundancy)
        play(sim, 60, 1_100)
        sent[redundancy] = reader.link.sent_bytes
    assert sent[True] <= 1.1 * sent[False]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**16), window_bytes=st.integers(3_000, 20_000), frame_bytes=st.integers(300, 4_500)
)
def test_no_frame_is_refused_because_the_one_before_was_said_twice(
    seed: int, window_bytes: int, frame_bytes: int
) -> None:
    refused, missed = {}, {}
    for redundancy in (False, True):
        sim = Sim(seed)
        path = Path(loss=0.02, window_bytes=window_bytes)
        reader = sim.join(path, redundancy=redundancy)
        play(sim, 5, frame_bytes)
        refused[redundancy] = reader.link.refused
        missed[redundancy] = sim.world.counters.withheld
    assert missed[True] <= missed[False] + 2
    assert refused[True] <= refused[False] + 2


@pytest.mark.parametrize("budget_kbps", [300, 700, 1_500])
def test_redundancy_stays_within_the_readers_budget(budget_kbps: int) -> None:
    sim = Sim(9)
    reader = sim.join(Path(loss=0.03), budget_kbps=budget_kbps)
    play(sim, 30)
    assert reader.link.sent_bytes <= budget_kbps * 125 * 30.3
    if budget_kbps == 1_500:
        assert sim.world.counters.repeated > 500, "there was budget for it"
    if budget_kbps == 300:
        assert sim.world.counters.repeated == 0, "its budget does not even hold the frames"


def test_a_reader_that_turned_it_off_is_told_nothing_twice() -> None:
    sim = Sim(10)
    sim.join(Path(loss=0.05), redundancy=False, parity=True)
    play(sim, 10)
    assert sim.world.counters.redundant_bytes == 0
    assert sim.world.counters.lost > 10


def test_links_that_lose_nothing_are_told_nothing_twice() -> None:
    sim = Sim(11)
    sim.join(Path(loss=0.05), lossy=False)
    play(sim, 10)
    assert sim.world.counters.redundant_bytes == 0


def test_a_reader_that_leaves_while_it_loses_is_forgotten() -> None:
    sim = Sim(12)
    reader = sim.join(Path(loss=0.1))
    play(sim, 5)
    beside = (sim, sim.clock)
    assert count(sim.world, *beside, kind=Reader) == 1
    reader.session.on_closed(sim.clock.now)
    assert count(sim.world, *beside, kind=Reader) == 0
    play(sim, 1)


def test_the_default_is_auto_without_parity() -> None:
    assert LiveOptions().redundancy
    assert not LiveOptions().parity


# --- what a reader says of it ------------------------------------------------------------------


def _told(sim: Sim, reader: SimReader, seconds: float, **says: object) -> tuple[int, int]:
    """Messages said again, and parities, within so many seconds after the reader said this."""
    counters = sim.world.counters
    if says:
        reader.session.on_message(encode_control("redundancy", **says), sim.clock.now)
    before = counters.repeated, counters.parity
    for _ in range(round(seconds * 60)):
        sim.publish({key: bytes([sim.tick & 255]) * 400 for key in range(8)})
        sim.run(TICK_S)
    return counters.repeated - before[0], counters.parity - before[1]


def test_a_reader_may_say_at_any_time_what_it_wants_said_twice() -> None:
    sim = Sim(seed=5)
    reader = sim.join(Path(loss=0.02))
    _told(sim, reader, 10)
    repeated, parities = _told(sim, reader, 10)
    assert repeated > 100
    assert parities == 0
    repeated, parities = _told(sim, reader, 10, parity=True)
    assert parities > 100
    assert repeated < parities
    assert _told(sim, reader, 10, mode="off") == (0, 0)
    assert _told(sim, reader, 10, parity=True) == (0, 0), "what is left out stays as it was"
    _told(sim, reader, 10, mode="auto")
    repeated, parities = _told(sim, reader, 10)
    assert parities > 100
    assert not reader.session.closed


@pytest.mark.parametrize(
    "says", [{"mode": "on"}, {"mode": 1}, {"mode": True}, {"parity": 1}, {"parity": "yes"}, {"mode": []}]
)
def test_what_is_no_redundancy_is_refused_with_what_there_is(says: dict[str, object]) -> None:
    sim = Sim(seed=5)
    reader = sim.join(Path())
    reader.session.on_message(encode_control("redundancy", **says), sim.clock.now)
    assert reader.session.closed


def test_a_message_of_redundancy_that_says_nothing_changes_nothing() -> None:
    sim = Sim(seed=5)
    reader = sim.join(Path(loss=0.02), parity=True)
    _told(sim, reader, 10, unknown="x")
    assert _told(sim, reader, 10)[1] > 100
    assert not reader.session.closed


# --- by parity, or whole -----------------------------------------------------------------------


def test_where_so_much_is_lost_that_a_frame_often_misses_two_it_is_said_again_whole() -> None:
    sim = Sim(12)
    reader = sim.join(Path(loss=0.07), parity=True)
    play(sim, 10, 4_500)
    counters = sim.world.counters
    before = counters.repeated, counters.parity
    play(sim, 20, 4_500)
    assert counters.repeated - before[0] > 4 * 60 * 20 * 0.8, "nearly every message of nearly every frame"
    assert counters.parity - before[1] < 60
    assert not reader.session.closed


def test_where_a_frame_said_again_whole_has_no_room_its_parity_goes() -> None:
    sim = Sim(12)
    sim.join(Path(loss=0.07, delay_s=0.001, window_bytes=11_000), parity=True)
    play(sim, 20, 4_500)
    counters = sim.world.counters
    assert counters.parity > 600
    assert counters.repeated < counters.parity


def test_losses_in_a_row_are_no_parity_s() -> None:
    watch, sent, now = LossWatch(0), 0, 100.0
    for turn in range(600):
        now, sent = now + TICK_S, sent + 5
        if turn % 40 == 0:
            watch.lost(sent - 3)
            watch.lost(sent - 2)
        watch.look(sent, CALM, now, now - 100.0)
    assert watch.share < 0.02
    assert not watch.parity_mends
    alone, sent, now = LossWatch(0), 0, 100.0
    for turn in range(600):
        now, sent = now + TICK_S, sent + 5
        if turn % 20 == 0:
            alone.lost(sent - 3)
        alone.look(sent, CALM, now, now - 100.0)
    assert alone.parity_mends


def test_a_parity_goes_with_its_frame_and_is_said_once() -> None:
    sim = Sim(13)
    reader = sim.join(Path(loss=0.02), parity=True)
    play(sim, 10, 4_500)
    counters = sim.world.counters
    before, at_once, early_s = counters.parity, 0, sim.uplink.delay_s + 0.002
    for _ in range(60):
        had = counters.parity
        sim.publish({key: bytes([sim.tick & 255]) * 900 for key in range(5)})
        sim.run(early_s)
        at_once += counters.parity - had
        sim.run(TICK_S)
    assert 55 < counters.parity - before < 66, "one a frame, and of what the publisher lost"
    assert at_once > 50
    assert not reader.session.closed


def test_what_was_only_given_up_for_lack_of_an_answer_is_no_loss() -> None:
    watched = Watched()
    watched.go(1, 0.0)
    watched.watch.lost()
    watched.watch.doubt(1)
    assert set(watched.go(10, 0.0)) == {LossVerdict.QUIET}
    watched.watch.doubt(5)
    watched.watch.lost()
    assert LossVerdict.AGAIN in watched.go(10, 0.0), "what is doubted is what was lost before"


def test_a_link_s_guesses_ask_for_nothing_to_be_said_twice() -> None:
    sim = Sim(14)
    reader = sim.join(Path(), parity=True)
    play(sim, 2, 4_500)
    for given_up in range(1, 40):
        reader.link.given_up = given_up
        reader.session.on_lost(min(reader.link.outstanding))
        play(sim, TICK_S, 4_500)
    assert sim.world.counters.redundant_bytes == 0
    assert sim.world.counters.lost >= 39
