"""A path that is away for a while: the first frame after it comes as soon as it can, and no more was sent than the window admits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.bundle import Burst
from gateway.limits import QUIC_FADE_S_MAX
from gateway.quic.connection import Connection
from gateway.quic.connection.fades import excuse_unanswered
from gateway.quic.connection.framing import framing_of
from tests.quic.conftest import Identity, make_identity
from tests.quic.pair import Pair, Sink, make_pair

TICK_S = 1 / 60
FRAME_BYTES = 1_048


class Game:
    """Sixty frames a second from the server, each offered once, as a session's link offers them."""

    def __init__(self, identity: Identity, delay_s: float, seed: int = 1, *, bursts: bool = False) -> None:
        self.pair: Pair = make_pair(
            identity, client=Connection, server=Connection, delay_s=delay_s, seed=seed
        )
        self.pair.connect()
        self.pair.run_for(0.3)
        self.sink, self.tick, self.bursts = Sink(), 0, bursts
        self.offered_at: dict[int, float] = {}
        self.came_at: dict[int, float] = {}
        self.pair.client.on_event = self._take

    def _take(self, event: Any) -> None:
        data = getattr(event, "data", b"")
        if len(data) == FRAME_BYTES:
            self.came_at.setdefault(int.from_bytes(data[:4], "big"), self.pair.now)

    def play(self, seconds: float) -> None:
        quic: Any = self.pair.server.quic
        for _ in range(round(seconds / TICK_S)):
            self.tick += 1
            if excuse_unanswered(quic, self.pair.now) >= FRAME_BYTES + 100:
                data = self.tick.to_bytes(4, "big").ljust(FRAME_BYTES, b".")
                if self._offer(data):
                    self.offered_at[self.tick] = self.pair.now
                    self.pair.pump()
            self.pair.run_for(TICK_S)

    def _offer(self, data: bytes) -> bool:
        quic: Any = self.pair.server.quic
        if self.bursts:
            framing = framing_of(Burst([(data, ())]), b"", quic.content_bytes_max)
            if quic.offer_burst(framing, self.sink, self.tick) is None:
                return True
        return quic.offer_datagram(data, self.sink, self.tick) is None

    def in_flight(self) -> tuple[int, int]:
        """What is in the table of packets in flight, and what is counted, with what is excused."""
        quic: Any = self.pair.server.quic
        sent = quic.recovery.sent.values()
        listed = sum(packet.size for packet in sent)
        return listed, quic.recovery.control.in_flight + quic.excused_bytes


@pytest.mark.parametrize("delay_s", [0.0005, 0.025, 0.05])
@pytest.mark.parametrize("fade_s", [0.1, 0.25, 0.4, 0.7, 1.2])
@pytest.mark.parametrize("bursts", [False, True])
def test_the_first_frame_after_a_fade_comes_within_a_tick_and_a_half(
    identity: Identity, delay_s: float, fade_s: float, bursts: bool
) -> None:
    game = Game(identity, delay_s, bursts=bursts)
    game.play(2.0)
    game.pair.loss = 1.0
    game.play(fade_s)
    back_at = game.pair.now
    game.pair.loss = 0.0
    game.play(1.0)
    first = min(at for at in game.came_at.values() if at > back_at)
    assert first - back_at < delay_s + 1.5 * TICK_S
    assert sum(at > back_at for at in game.came_at.values()) > 35, "the frames after it come, too"


@pytest.mark.parametrize("fade_s", [0.3, 0.8, 1.5])
def test_after_a_fade_hardly_a_frame_is_held_back(identity: Identity, fade_s: float) -> None:
    """A fade is no congestion: a tenth of a second later the reader has every frame again."""
    game = Game(identity, 0.05)
    game.play(2.0)
    game.pair.loss = 1.0
    game.play(fade_s)
    game.pair.loss = 0.0
    back = game.tick
    game.play(1.0)
    held_back = [tick for tick in range(back + 1, game.tick + 1) if tick not in game.offered_at]
    assert len(held_back) <= 4


def test_a_path_that_stays_away_is_left_to_the_probes(identity: Identity) -> None:
    game = Game(identity, 0.025)
    game.play(2.0)
    gone_at = game.pair.now
    game.pair.loss = 1.0
    game.play(QUIC_FADE_S_MAX + 6.0)
    late = [at for at in game.offered_at.values() if at > gone_at + QUIC_FADE_S_MAX + 0.3]
    assert len(late) < 12, "what the window still held"


@settings(max_examples=15, deadline=None)
@given(
    fades=st.lists(st.tuples(st.floats(0.02, 0.8), st.floats(0.02, 0.8)), min_size=1, max_size=4),
    loss=st.sampled_from([0.0, 0.05]),
    bursts=st.booleans(),
    seed=st.integers(0, 999),
)
def test_no_byte_in_flight_is_counted_twice_or_forgotten(
    fades: list[tuple[float, float]], loss: float, bursts: bool, seed: int
) -> None:
    game = Game(make_identity(), 0.02, seed, bursts=bursts)
    for away_s, there_s in fades:
        game.pair.loss = 1.0
        game.play(away_s)
        listed, counted = game.in_flight()
        assert listed == counted
        game.pair.loss = loss
        game.play(there_s)
        listed, counted = game.in_flight()
        assert listed == counted
    game.pair.loss = 0.0
    game.play(0.1)
    game.pair.run_for(2.0)
    excuse_unanswered(game.pair.server.quic, game.pair.now)
    quic: Any = game.pair.server.quic
    assert quic.excused_bytes == 0
    assert quic.recovery.control.in_flight >= 0


def test_within_a_probe_time_out_no_more_goes_than_the_window_admits(identity: Identity) -> None:
    game = Game(identity, 0.025)
    game.play(2.0)
    quic: Any = game.pair.server.quic
    game.pair.loss = 1.0
    for _ in range(60):
        while excuse_unanswered(quic, game.pair.now) >= FRAME_BYTES + 100:
            assert quic.offer_datagram(bytes(FRAME_BYTES), game.sink, 0) is None
            game.pair.pump()
            if quic.datagrams.size:
                break
        before = game.pair.now - quic.recovery.probe_timeout()
        sent = quic.recovery.sent.values()
        recent = sum(p.size for p in sent if p.sent_at >= before)
        assert recent <= quic.recovery.control.window
        game.pair.run_for(TICK_S)
