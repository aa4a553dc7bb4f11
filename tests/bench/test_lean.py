"""Lean readers are readers: every datagram counts once, is acknowledged, and what they cannot do goes to aioquic."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from bench.ages import AgeHistogram
from bench.lean import LeanAges, LeanPool, LeanReader, Samples
from bench.payload import ReaderAges, messages, records_for
from bench.scenarios import Settings, fanout
from tests.quic.conftest import Identity, RecordingSession, make_identity
from tests.quic.serving import Served, serving, until


@pytest.fixture(scope="module")
def identity() -> Identity:
    return make_identity()


class Taken(list[bytes]):
    """The messages that a lean reader handed on."""

    def __call__(self, data: bytes, at: int, end: int, now_us: int) -> None:
        self.append(data[at:end])


@asynccontextmanager
async def reading(served: Served, count: int = 1) -> AsyncIterator[tuple[LeanPool, list[Taken], list[Any]]]:
    """A pool with ``count`` readers, what each took, and the sessions' recorders."""
    pool, took, sessions = LeanPool(), [Taken() for _ in range(count)], []

    def make(link: Any) -> RecordingSession:
        sessions.append(RecordingSession(link))
        return sessions[-1]

    try:
        for each in took:
            await pool.webtransport(
                "127.0.0.1",
                served.endpoint.port,
                "/v1/worlds/a/live",
                trust=served.identity.trust(),
                take=each,
                make_session=make,
            )
        yield pool, took, sessions
    finally:
        await pool.close()


def message(number: int) -> bytes:
    return number.to_bytes(4, "big") * 250


async def test_every_datagram_is_handed_on_once_and_acknowledged(identity: Identity) -> None:
    async with serving(identity) as served, reading(served, 3) as (pool, took, sessions):
        await until(lambda: len(served.doors.sessions) == 3)
        for number in range(1, 41):
            for session in served.doors.sessions:
                await until(partial(session.link.send, message(number), number))
        await until(lambda: all(len(session.acked) == 40 for session in served.doors.sessions))
        # what came in one packet with an ACK goes to the session, by the real connection
        got = [sorted([*each, *session.messages]) for each, session in zip(took, sessions, strict=True)]
        assert got == [[message(n) for n in range(1, 41)]] * 3
        assert not any(session.lost for session in served.doors.sessions)
        assert sum(reader.datagrams for reader in pool.readers) > 100


async def test_stream_data_goes_to_the_session(identity: Identity) -> None:
    async with serving(identity) as served, reading(served) as (_, took, sessions):
        await until(lambda: len(served.doors.sessions) == 1)
        link = served.doors.sessions[0].link
        for number in range(1, 11):
            await until(lambda number=number: link.send(message(number), number))
            link.control(b"\x10" + b"{}" * number)
        await until(lambda: len(served.doors.sessions[0].acked) == 10)
        await until(lambda: sum(map(len, sessions[0].streams.values())) >= 10 * 4 + 10 + 2 * 55)
        assert len(took[0]) + len(sessions[0].messages) == 10


async def test_a_lone_datagram_is_acknowledged_in_time(identity: Identity) -> None:
    async with serving(identity) as served, reading(served) as (_, took, sessions):
        await until(lambda: len(served.doors.sessions) == 1)
        await until(lambda: served.doors.sessions[0].link.send(message(1), 1))
        await until(lambda: served.doors.sessions[0].acked == [1])
        assert took[0] + sessions[0].messages == [message(1)]


async def test_a_missing_packet_is_reported_lost_and_the_rest_acknowledged(identity: Identity) -> None:
    async with serving(identity) as served, reading(served) as (pool, took, sessions):
        await until(lambda: len(served.doors.sessions) == 1)
        session, reader = served.doors.sessions[0], pool.readers[0]
        drop_packets(reader, every=5)
        for number in range(1, 61):
            await until(lambda number=number: session.link.send(message(number), number))
            await until(lambda number=number: len(session.acked) + len(session.lost) >= number - 8)
        await until(lambda: len(session.acked) + len(session.lost) >= 56)
        assert 5 <= len(session.lost) <= 20
        got = [*took[0], *sessions[0].messages]
        assert len(got) == len(set(got))
        assert {message(number) for number in session.acked} <= set(got)


def drop_packets(reader: LeanReader, every: int) -> None:
    """Lose every n-th packet before the reader sees it."""
    endpoint: Any = reader.driver
    # Where its packets come in: the link of this test is the kernel's, which loses none.
    receive, counter = endpoint._batch.receive, iter(range(1, 1 << 30))

    def some(sock: Any) -> list[tuple[bytes, int]]:
        return [
            (data[at : at + (segment or len(data))], 0)
            for data, segment in receive(sock)
            for at in range(0, len(data), segment or len(data))
            if next(counter) % every
        ]

    endpoint._batch.receive = some


async def test_a_change_of_keys_is_followed(identity: Identity) -> None:
    async with serving(identity) as served, reading(served) as (pool, _, _):
        await until(lambda: len(served.doors.sessions) == 1)
        session = served.doors.sessions[0]
        for number in range(1, 21):
            if number == 10:
                await until(lambda: len(session.acked) == 9)
                session.link.peer.quic.request_key_update()
            await until(lambda number=number: session.link.send(message(number), number))
        await until(lambda: len(session.acked) == 20)
        before = pool.readers[0].datagrams
        await until(lambda: session.link.send(message(21), 21))
        await until(lambda: len(session.acked) == 21)
        assert pool.readers[0].datagrams == before + 1, "the new keys are known to the short way"


def test_lean_ages_are_those_of_the_exact_reader() -> None:
    records, samples = records_for(4_500), Samples()
    lean, exact = LeanAges(records, samples), ReaderAges(records)
    for now, made in arrivals(records):
        exact.take(made, now)
        lean.take(b"\0" + made + b"\0", 1, 1 + len(made), now)
    exact.finish(2_000_000)
    lean.finish(2_000_000)
    weighed: AgeHistogram = samples.weigh()
    assert weighed.dump() == exact.histogram.dump()
    assert (lean.messages, lean.bytes) == (exact.messages, exact.bytes)


def arrivals(records: int) -> Iterator[tuple[int, bytes]]:
    """Frames of which one message is lost, one comes late, and one comes twice."""
    for tick in range(1, 30):
        sent = 1_000_000 + tick * 16_667
        for part, made in enumerate(messages(tick, records, sent)):
            if (tick + part) % 7:
                yield sent + 5_000 + 100 * part, made
            if tick % 11 == 0:
                yield sent + 40_000, made


def test_readers_of_the_stock_relay_get_its_datagrams() -> None:
    """Its connections have no request by whose answer the handshake would be confirmed."""
    case = {"relay": "stock", "readers": 3, "frame_bytes": 1_024, "hz": 60}
    with fanout.opened(case, Settings(seconds=0.5, warmup_s=0.2, short=True, seed=1)) as run:
        (measured,) = run(1)
    assert (measured.measures["delivered_percent"] or 0) > 0
