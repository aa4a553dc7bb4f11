"""Our ends and aioquic's in all pairings over links that lose in bursts, reorder and duplicate.

Datagrams of game ticks and streams of keyframes together, both ways, and each promise checked: a
stream is whole, a datagram's fate is told once, and what counts as acknowledged arrived.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from gateway.quic.connection import Connection
from tests.quic.conftest import Identity
from tests.quic.pair import End, Pair, Sink, make_pair
from tests.quic.stock import Stock

ENDS = [Stock, Connection]
PAIRINGS = [(client, server) for client in ENDS for server in ENDS]
TICKS, TICK_S = 120, 1 / 60
LEAST_MTU = 1_200
"""Every path of QUIC carries it (RFC 9000 section 14): nobody looks for more here, so nothing larger may go."""


class Bursts:
    """Loses packets in runs: Gilbert's model, seeded."""

    def __init__(self, seed: int, enter: float, leave: float) -> None:
        self._rng, self._enter, self._leave = random.Random(seed), enter, leave
        self._bad = False
        self.lost = 0

    def __call__(self, data: bytes) -> bool:
        self._bad = self._rng.random() < (1 - self._leave if self._bad else self._enter)
        self.lost += self._bad
        return self._bad


LINKS: dict[str, dict[str, float]] = {
    "reorders": {"jitter_s": 0.06},
    "duplicates": {"duplicates": 0.5, "jitter_s": 0.02},
    "lets some be overtaken": {"late": 0.2, "late_s": 0.015},
    "is as narrow as any may be": {"mtu": 1_200},
    "marks what may be marked, and loses what may not": {"ce": 0.1},
    "loses": {"loss": 0.15},
    "does it all": {"loss": 0.05, "duplicates": 0.2, "jitter_s": 0.04, "late": 0.1, "ce": 0.02, "mtu": 1_200},
}


def _play(pair: Pair, seed: int) -> tuple[dict[End, Sink], dict[End, dict[int, bytes]], int]:
    """Ticks of one to nine datagrams from both ends, now and then a stream beside them."""
    rng = random.Random(seed)
    sinks = {pair.client: Sink(), pair.server: Sink()}
    said: dict[End, dict[int, bytes]] = {pair.client: {}, pair.server: {}}
    token = 0
    for tick in range(TICKS):
        for _ in range(rng.choice((0, 1, 1, 2, 9))):
            size = rng.choice((8, 50, 400, 1100))
            for end, sink in sinks.items():
                assert (
                    end.quic.queue_datagram(token.to_bytes(4, "big") + rng.randbytes(size), sink, token)
                    is None
                )
            token += 1
        if tick % 20 == 5:
            for end, streams in said.items():
                stream = end.quic.get_next_available_stream_id(is_unidirectional=True)
                streams[stream] = rng.randbytes(rng.choice((10, 3_000, 25_000)))
                end.quic.send_stream_data(stream, streams[stream], end_stream=True)
        pair.run_for(TICK_S)
    return sinks, said, token


def _streams(end: End) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for event in end.events:
        if type(event).__name__ == "StreamDataReceived":
            found[event.stream_id] = found.get(event.stream_id, b"") + event.data  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize(("client", "server"), PAIRINGS)
@pytest.mark.parametrize("link", [*LINKS, "loses in bursts"])
def test_datagrams_and_streams_together_keep_their_promises(
    identity: Identity, client: type, server: type, link: str
) -> None:
    pair = make_pair(identity, client=client, server=server, seed=11)
    pair.connect()
    pair.run_for(0.5)
    bursts = Bursts(5, 0.02, 0.3)
    if link == "loses in bursts":
        pair.drop_next = bursts
    else:
        for name, value in LINKS[link].items():
            setattr(pair, name, value)
    sinks, said, count = _play(pair, seed=3)
    ends: list[tuple[End, Any]] = [(pair.client, pair.server), (pair.server, pair.client)]
    pair.run(lambda: all(len(s.acked) + len(s.lost) == count for s in sinks.values()), within_s=60)
    pair.run(lambda: all(_streams(other) == said[end] for end, other in ends), within_s=60)
    pair.run(lambda: not any(end.quic.has_unsent() for end, _ in ends), within_s=60)
    pair.loss, pair.drop_next = 0.0, None
    pair.run(lambda: not any(end.quic.recovery.packets for end, _ in ends), within_s=60)
    for end, other in ends:
        sink, came = sinks[end], [int.from_bytes(d[:4], "big") for d in other.datagrams()]
        assert sorted(sink.acked + sink.lost) == list(range(count))
        assert set(sink.acked) <= set(came)
        assert len(came) == len(set(came)), "a duplicate is delivered once"
        if "loses" not in link and link != "does it all":
            assert sorted(came) == list(range(count))
        assert end.terminated() is None
        assert end.quic.recovery.control.in_flight == 0
        assert end.quic.datagrams.size == 0
    assert bursts.lost > 20 or link != "loses in bursts"
    assert pair.largest <= LEAST_MTU
    assert pair.congested > 5 or "ce" not in LINKS.get(link, {})
