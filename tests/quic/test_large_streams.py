"""Streams larger than windows, over links that lose and reorder: each ends, byte for byte, in both directions.

And the frames that may name a stream of either end, in every state of it: they change what they say and
nothing else (RFC 9000 sections 3, 19.4, 19.5, 19.10 and 19.13).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
from aioquic.buffer import encode_uint_var
from aioquic.quic import events
from aioquic.quic.packet import QuicErrorCode

from gateway.quic.connection import Connection
from tests.quic.conftest import Identity
from tests.quic.pair import End, Pair, Sink, inject, make_pair
from tests.quic.stock import Stock

ENDS = [Stock, Connection]
KEYFRAME_BYTES = 186_000
KIB = 1_024


class Streams:
    """What came on each stream of an end, which of them ended, and which were reset."""

    def __init__(self, end: End) -> None:
        self.data: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        self.reset: set[int] = set()
        end.on_event = self._take

    def _take(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.StreamDataReceived):
            self.data.setdefault(event.stream_id, bytearray()).extend(event.data)
            if event.end_stream:
                self.ended.add(event.stream_id)
        elif isinstance(event, events.StreamReset):
            self.reset.add(event.stream_id)


def _connected(pair: Pair) -> Pair:
    pair.connect()
    pair.run_for(0.5)
    return pair


def _say(end: End, data: bytes, *, one_way: bool = True) -> int:
    stream: int = end.quic.get_next_available_stream_id(is_unidirectional=one_way)
    end.quic.send_stream_data(stream, data, end_stream=True)
    return stream


@pytest.mark.parametrize("kind", ENDS)
@pytest.mark.parametrize("direction", ["down", "up"])
def test_keyframes_that_a_peer_raises_the_window_for_all_end_over_a_link_that_loses(
    identity: Identity, kind: type, direction: str
) -> None:
    link = {"delay_s": 0.005, "jitter_s": 0.001, "seed": 3}
    pair = _connected(make_pair(identity, client=kind, server=kind, window=256 * KIB, **link))
    pair.loss = 0.01
    source, target = (pair.server, pair.client) if direction == "down" else (pair.client, pair.server)
    came, said = Streams(target), []
    for n in range(60):
        said.append(_say(source, n.to_bytes(4, "big") * (KEYFRAME_BYTES // 4)))
        pair.run_for(0.125)
    pair.run(lambda: came.ended == set(said), within_s=30)
    assert all(
        came.data[stream] == n.to_bytes(4, "big") * (KEYFRAME_BYTES // 4) for n, stream in enumerate(said)
    )


@pytest.mark.parametrize(("client", "server"), [(one, other) for one in ENDS for other in ENDS])
@pytest.mark.parametrize("direction", ["down", "up"])
@pytest.mark.parametrize("loss", [0.0, 0.02])
def test_a_one_way_stream_of_many_windows_arrives_whole(
    identity: Identity, client: type, server: type, direction: str, loss: float
) -> None:
    pair = _connected(make_pair(identity, client=client, server=server, window=64 * KIB, delay_s=0.002))
    pair.loss = loss
    source, target = (pair.server, pair.client) if direction == "down" else (pair.client, pair.server)
    came, data = Streams(target), random.Random(5).randbytes(1_500_000)
    stream = _say(source, data)
    pair.run(lambda: stream in came.ended, within_s=60)
    assert came.data[stream] == data
    pair.run(lambda: not source.quic.has_unsent(), within_s=5)


class Chaos:
    """Thousands of streams of all sizes both ways, written at once or in pieces, some of them given up by
    either end, with datagrams between them. All that nobody gave up must come."""

    def __init__(self, pair: Pair, seed: int) -> None:
        self.pair, self.rng = pair, random.Random(seed)
        self.came = {end: Streams(end) for end in (pair.client, pair.server)}
        self.said: dict[End, dict[int, bytes]] = {pair.client: {}, pair.server: {}}
        self.given_up: set[int] = set()

    def other(self, end: End) -> End:
        return self.pair.server if end is self.pair.client else self.pair.client

    def play(self, rounds: int) -> None:
        for _ in range(rounds):
            for end in self.said:
                if end.quic.streams.can_open_uni():
                    self._one(end)
            self.pair.run_for(self.rng.random() * 0.02)

    def _one(self, end: End) -> None:
        rng, quic = self.rng, end.quic
        stream: int = quic.get_next_available_stream_id(is_unidirectional=True)
        data = rng.randbytes(rng.choice((0, 1, 40, 600, 1_200, 5_000, 30_000)))
        self.said[end][stream] = data
        half = len(data) // 2 if rng.random() < 0.3 else 0
        if half:
            quic.send_stream_data(stream, data[:half])
            self.pair.run_for(rng.random() * 0.02)
        quic.send_stream_data(stream, data[half:], end_stream=True)
        if rng.random() < 0.2:
            quic.queue_datagram(bytes(900), Sink(), 1)
        if rng.random() < 0.1:
            self.pair.run_for(rng.random() * 0.03)
            self._give_up(end, stream, by_reader=rng.random() < 0.5)

    def _give_up(self, end: End, stream: int, *, by_reader: bool) -> None:
        reader = self.other(end).quic
        if not by_reader and not end.quic.streams.send_is_over(stream):
            self.given_up.add(stream)
            end.quic.reset_stream(stream, 5)
        elif (
            by_reader
            and stream in reader.streams.by_number
            and not reader.streams.by_number[stream].recv.is_over
        ):
            self.given_up.add(stream)
            reader.abandon_receiving(stream, 9)

    def is_over(self) -> bool:
        return all(
            stream in self.came[self.other(end)].ended or stream in self.given_up
            for end, said in self.said.items()
            for stream in said
        )

    def check(self) -> None:
        for end, said in self.said.items():
            came = self.came[self.other(end)]
            for stream, data in said.items():
                if stream not in self.given_up:
                    assert came.data.get(stream, b"") == data, f"stream {stream} of {len(data)} bytes"
            assert end.terminated() is None


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("client", "server"), [(Stock, Connection), (Connection, Connection)])
def test_hundreds_of_streams_given_up_or_not_all_end_over_any_link(
    identity: Identity, client: type, server: type, seed: int
) -> None:
    rng = random.Random(seed)
    window = rng.choice((8, 32, 128)) * KIB
    link = {"delay_s": rng.choice((0.001, 0.01)), "jitter_s": rng.choice((0.0, 0.01)), "seed": seed}
    pair = _connected(make_pair(identity, client=client, server=server, window=window, **link))
    pair.loss = (0.0, 0.01, 0.03, 0.1)[seed % 4]
    chaos = Chaos(pair, seed)
    chaos.play(120)
    pair.run(chaos.is_over, within_s=120)
    chaos.check()
    pair.loss = 0.0
    pair.run(
        lambda: not pair.client.quic.streams.by_number and not pair.server.quic.streams.by_number, within_s=10
    )


# -- frames that name a stream ---------------------------------------------------------------

FRAMES: dict[str, Callable[[int, int], bytes]] = {
    "MAX_STREAM_DATA": lambda stream, _: b"\x11" + encode_uint_var(stream) + encode_uint_var(1 << 20),
    "STOP_SENDING": lambda stream, _: b"\x05" + encode_uint_var(stream) + b"\x07",
    "RESET_STREAM": lambda stream, size: b"\x04" + encode_uint_var(stream) + b"\x07" + encode_uint_var(size),
    "STREAM_DATA_BLOCKED": lambda stream, _: b"\x15" + encode_uint_var(stream) + encode_uint_var(1 << 20),
    "STREAM": lambda stream, _: b"\x0a" + encode_uint_var(stream) + b"\x01x",
}
"""Of a stream, and of how many bytes its sender has sent."""
SAID_BYTES = 300_000
OF_SENDERS = {"MAX_STREAM_DATA", "STOP_SENDING"}
"""They speak to a sender; the others speak to a receiver."""
STATES = ("not open", "under way", "acknowledged", "forgotten")


def _expected(frame: str, owner: str, direction: str, state: str) -> int | None:
    """The error that a frame about a stream of the receiver of the frame (``ours``) or its sender earns."""
    if direction == "one way" and (frame in OF_SENDERS) != (owner == "ours"):
        return QuicErrorCode.STREAM_STATE_ERROR
    if owner == "ours" and state == "not open":
        return QuicErrorCode.STREAM_STATE_ERROR
    return None


@pytest.mark.parametrize(
    ("frame", "owner", "direction", "state"),
    [*itertools.product(FRAMES, ("ours", "theirs"), ("one way", "both ways"), STATES)],
)
def test_a_frame_about_a_stream_in_any_state_does_what_it_says_and_no_more(
    identity: Identity, frame: str, owner: str, direction: str, state: str
) -> None:
    pair = _connected(
        make_pair(identity, client=Connection, server=Connection, window=64 * KIB, delay_s=0.01)
    )
    ours, theirs = pair.server, pair.client
    source, target = (ours, theirs) if owner == "ours" else (theirs, ours)
    streams = Streams(target)
    one_way = direction == "one way"
    stream: int = source.quic.get_next_available_stream_id(is_unidirectional=one_way)
    data = random.Random(1).randbytes(SAID_BYTES)
    if state != "not open":
        source.quic.send_stream_data(stream, data, end_stream=True)
        pair.run_for(0.025)
        if state != "under way":
            pair.run(lambda: not source.quic.has_unsent(), within_s=10)
        if state == "forgotten":
            if not one_way:
                target.quic.send_stream_data(stream, b"", end_stream=True)
            pair.run_for(1.0)
            assert stream not in ours.quic.streams.by_number
    sent = theirs.quic.streams.by_number.get(stream)
    inject(pair, theirs, FRAMES[frame](stream, sent.send.highest if sent else 0))
    error = _expected(frame, owner, direction, state)
    event = ours.quic.close_event
    if frame == "STREAM" and owner == "theirs" and state != "not open":
        assert event is None, "the same byte again" if state != "under way" else "a byte of it"
        return
    assert (event and event.error_code) == error
    if error is not None or frame in {"STOP_SENDING", "RESET_STREAM"}:
        return
    if state == "under way" and not (frame == "STREAM" and owner == "ours"):
        pair.run(lambda: stream in streams.ended, within_s=20)
        assert streams.data[stream] == data
    after = Streams(theirs)
    another = _say(ours, data)
    pair.run(lambda: another in after.ended, within_s=20)
    assert after.data[another] == data
