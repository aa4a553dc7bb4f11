"""Connections to a store: how many there are, who has his turn, which are used again, and when they are let go of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from gateway import limits
from gateway.errors import NotFound, StoreUnavailable
from gateway.http.server import bind_tcp
from gateway.store.remote import Ask, HttpxTransport, TcpTransport
from gateway.store.remote.pool import Pool
from gateway.store.remote.wire import Broken, NotHttp1, StoreWire
from tests.patience import HANG_S
from tests.store.remote.test_tcp import GET, answer, get, request_of, stand_in


class Server:
    """Answers every request by its first line, and notes which connections came and went."""

    def __init__(self) -> None:
        self.came = 0
        self.went = 0
        self.changed = asyncio.Condition()
        self.writers: list[asyncio.StreamWriter] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        await self._note(came=1)
        try:
            while True:
                line, _, _ = await request_of(reader)
                writer.write(answer(line.encode()))
        finally:
            await self._note(went=1)

    async def _note(self, *, came: int = 0, went: int = 0) -> None:
        async with self.changed:
            self.came += came
            self.went += went
            self.changed.notify_all()

    async def until(self, *, came: int, went: int) -> None:
        async with asyncio.timeout(HANG_S), self.changed:
            await self.changed.wait_for(lambda: (self.came, self.went) == (came, went))


@contextlib.asynccontextmanager
async def pooled() -> AsyncIterator[tuple[Pool, Server]]:
    server = Server()
    async with stand_in(server) as url:
        pool = Pool(url, None)
        try:
            yield pool, server
        finally:
            pool.close()


async def test_a_connection_that_was_given_back_is_the_next_ones_and_the_last_one_first() -> None:
    async with pooled() as (pool, server):
        assert pool.at_rest() is None
        first, is_new = await pool.acquire()
        second, _ = await pool.acquire()
        assert (is_new, pool.connections) == (True, 2)
        pool.give(first)
        pool.give(second)
        assert pool.connections == 2
        assert await pool.acquire() == (second, False)
        assert pool.at_rest() is first
        assert pool.at_rest() is None
        assert pool.connections == 2
        await server.until(came=2, went=0)


async def test_whoever_wants_a_new_connection_has_those_at_rest_closed() -> None:
    """The server closed one just now: it may have closed them all."""
    async with pooled() as (pool, server):
        for wire in [(await pool.acquire())[0] for _ in range(3)]:
            pool.give(wire)
        wire, is_new = await pool.acquire(fresh=True)
        assert is_new
        assert pool.connections == 1
        await server.until(came=4, went=3)
        pool.give(wire)
        assert pool.at_rest() is wire


async def test_a_connection_that_cannot_be_made_leaves_its_place_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "STORE_POOL_CONNECTIONS_MAX", 1)
    sock = bind_tcp("127.0.0.1", 0)
    pool = Pool(f"http://127.0.0.1:{sock.getsockname()[1]}", None)
    sock.close()
    async with asyncio.timeout(HANG_S):
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                await pool.acquire()
            assert pool.connections == 0


async def test_a_connection_that_comes_in_the_turn_in_which_its_caller_gives_up_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its caller's time is over: nobody else knows of it."""
    async with pooled() as (pool, server):
        connect = pool._attempt

        async def too_late(address: str) -> StoreWire:
            wire = await connect(address)
            caller.cancel()
            return wire

        monkeypatch.setattr(pool, "_attempt", too_late)
        caller = asyncio.create_task(pool.acquire())
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert pool.connections == 0
        await server.until(came=1, went=1)


async def test_at_the_bound_nobody_is_given_one_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    async with pooled() as (pool, _):
        first, second = (await pool.acquire())[0], (await pool.acquire())[0]
        pool.give(first)
        monkeypatch.setattr(limits, "STORE_POOL_CONNECTIONS_MAX", 1)
        assert pool.at_rest() is None
        waiting = asyncio.create_task(pool.acquire())
        await asyncio.sleep(0)
        assert not waiting.done()
        pool.give(second)
        assert await asyncio.wait_for(waiting, HANG_S) == (second, False)


async def test_turns_go_round_and_one_that_is_given_up_is_the_next_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "STORE_POOL_CONNECTIONS_MAX", 1)
    async with pooled() as (pool, server):
        wire, _ = await pool.acquire()
        left, chosen, next_one = (asyncio.create_task(pool.acquire()) for _ in range(3))
        await asyncio.sleep(0)
        left.cancel()  # while it waits
        with contextlib.suppress(asyncio.CancelledError):
            await left
        pool.give(wire)
        chosen.cancel()  # as it is its turn
        with contextlib.suppress(asyncio.CancelledError):
            await chosen
        assert await asyncio.wait_for(next_one, HANG_S) == (wire, False)
        assert pool.connections == 1
        pool.give(wire)
        assert await asyncio.wait_for(pool.acquire(), HANG_S) == (wire, False)
        await server.until(came=1, went=0)


async def test_a_connection_that_has_rested_for_long_is_not_used_again() -> None:
    """Whatever stands between has forgotten it by then."""
    async with pooled() as (pool, server):
        wire, _ = await pool.acquire()
        pool.give(wire)
        wire.idle_since -= limits.STORE_POOL_IDLE_S
        assert pool.at_rest() is None
        assert pool.connections == 0
        await server.until(came=1, went=1)


async def test_connections_at_rest_are_closed_when_their_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "STORE_POOL_IDLE_S", 0.02)
    async with pooled() as (pool, server):
        taken = [(await pool.acquire())[0] for _ in range(3)]
        pool.give(taken[0])
        pool.give(taken[1])
        await server.until(came=3, went=2)
        pool.give(taken[2])
        await server.until(came=3, went=3)
        assert pool.connections == 0


async def test_a_connection_that_the_server_closes_at_rest_is_none_any_more() -> None:
    async with pooled() as (pool, server):
        wire, _ = await pool.acquire()
        other, _ = await pool.acquire()
        pool.give(wire)
        pool.give(other)
        await server.until(came=2, went=0)
        server.writers[0].close()
        async with asyncio.timeout(HANG_S):
            while pool.connections == 2:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert pool.at_rest() in (wire, other)
        assert pool.at_rest() is None


async def test_a_closed_pool_opens_none_and_closes_what_comes_back() -> None:
    async with pooled() as (pool, server):
        used, resting = (await pool.acquire())[0], (await pool.acquire())[0]
        pool.give(resting)
        pool.close()
        pool.close()
        await server.until(came=2, went=1)
        pool.give(used)
        await server.until(came=2, went=2)
        assert pool.connections == 0
        with pytest.raises(StoreUnavailable, match="was closed"):
            await pool.acquire()


async def test_a_connection_that_is_of_no_use_is_closed_when_it_is_given_back() -> None:
    async with pooled() as (pool, server):
        wire, _ = await pool.acquire()
        await server.until(came=1, went=0)
        wire.abort()
        assert not wire.is_usable
        pool.give(wire)
        assert pool.connections == 0
        with pytest.raises(Broken, match="closed the connection") as refused:
            await wire.ask(b"GET / HTTP/1.1\r\n\r\n", b"", 100, HANG_S)
        assert not refused.value.begun


# --- one connection ---------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def wired(
    *said: bytes, closes: bool = False, first: bool = False
) -> AsyncIterator[tuple[StoreWire, list[StoreWire]]]:
    """A connection to a server that says this to a request, each piece by itself; which ended unasked."""
    lost: list[StoreWire] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not first:
            await request_of(reader)
        for piece in said:
            writer.write(piece)
            await writer.drain()
        if not closes:
            await reader.read()

    async with stand_in(serve) as url:
        port = int(url.rpartition(":")[2])
        loop = asyncio.get_running_loop()
        _, wire = await loop.create_connection(lambda: StoreWire(url, lost.append), "127.0.0.1", port)
        try:
            yield wire, lost
        finally:
            wire.close()


REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


async def ask(wire: StoreWire, bytes_max: int = 100) -> tuple[int, bytes]:
    found = await wire.ask(REQUEST, b"", bytes_max, HANG_S)
    return found.status, found.body


async def test_an_answer_of_as_many_bytes_as_are_taken_is_taken() -> None:
    for size in (99, 100):
        async with wired(answer(bytes(size))) as (wire, _):
            assert await ask(wire) == (200, bytes(size))
            assert wire.is_usable
    async with wired(answer(bytes(101))) as (wire, _):
        with pytest.raises(StoreUnavailable, match="answered over 100 bytes"):
            await ask(wire)
        assert not wire.is_usable


async def test_headers_are_lower_case_and_trailers_none_of_them() -> None:
    head = b"HTTP/1.1 200 OK\r\nX-One: 1\r\ntransfer-encoding: chunked\r\n\r\n"
    async with wired(head, b"2\r\nab\r\n", b"1\r\nc\r\n0\r\nx-two: 2\r\n\r\n") as (wire, _):
        found = await wire.ask(REQUEST, b"", 100, HANG_S)
        assert found.body == b"abc"
        assert found.headers == {"x-one": "1", "transfer-encoding": "chunked"}
        assert wire.is_usable


async def test_informational_answers_and_their_headers_are_passed_over() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nx-early: 1\r\n\r\n"
    async with wired(early, early + answer(b"ok", "x-late: 1")) as (wire, _):
        found = await wire.ask(REQUEST, b"", 100, HANG_S)
        assert (found.status, found.body) == (200, b"ok")
        assert found.headers == {"content-length": "2", "x-late": "1"}


@pytest.mark.parametrize(
    "said",
    [
        answer(b"ok", "connection: close"),
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ],
)
async def test_a_connection_that_the_answer_ends_is_not_used_again(said: bytes) -> None:
    async with wired(said) as (wire, _):
        assert await ask(wire) == (200, b"ok")
        assert not wire.is_usable


async def test_a_second_answer_that_nobody_asked_for_makes_the_connection_useless() -> None:
    async with wired(answer(b"ok") + answer(b"who asked?")) as (wire, _):
        assert await ask(wire) == (200, b"ok")
        assert not wire.is_usable


async def test_whether_an_answer_had_begun_is_told_when_it_breaks_off() -> None:
    for said, begun, words in (
        ((), False, "gave no answer"),
        ((b"HTTP/1.1 200",), True, "broke off its answer"),
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab",), True, "broke off its answer"),
    ):
        async with wired(*said, closes=True) as (wire, lost):
            with pytest.raises(Broken, match=words) as refused:
                await ask(wire)
            assert refused.value.begun == begun
            assert not wire.is_usable
            assert lost == [], "whoever asked has been told"


async def test_a_body_without_a_length_ends_with_the_connection_and_one_with_a_length_does_not() -> None:
    async with wired(b"HTTP/1.1 200 OK\r\n\r\n", b"ab", b"c", closes=True) as (wire, _):
        assert await ask(wire) == (200, b"abc")
        assert not wire.is_usable
    async with wired(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n", closes=True) as (
        wire,
        _,
    ):
        with pytest.raises(Broken):
            await ask(wire)


async def test_a_server_of_another_protocol_is_told_from_one_that_breaks_the_rules() -> None:
    async with wired(b"SSH-2.0-x\r\n") as (wire, _):
        with pytest.raises(NotHttp1, match=r"answered what is not HTTP/1\.1"):
            await ask(wire)
    broken = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nno length\r\n"
    async with wired(broken) as (wire, _):
        with pytest.raises(StoreUnavailable, match=r"broke the rules of HTTP/1\.1") as refused:
            await ask(wire)
        assert not isinstance(refused.value, NotHttp1)


async def test_a_server_that_speaks_before_it_is_asked_speaks_another_protocol() -> None:
    async with wired(b"220 ready\r\n", first=True) as (wire, lost):
        async with asyncio.timeout(HANG_S):
            while wire.is_usable or not lost:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert lost == [wire]
        with pytest.raises(NotHttp1, match="speaks before it is asked"):
            await ask(wire)


async def test_a_head_of_more_than_its_bound_is_not_waited_for() -> None:
    line = b"x-more: and more\r\n"
    many = line * (limits.STORE_ANSWER_HEAD_BYTES_MAX // len(line) + 1)
    async with wired(b"HTTP/1.1 200 OK\r\n" + many) as (wire, _):
        with pytest.raises(
            StoreUnavailable, match=f"is over {limits.STORE_ANSWER_HEAD_BYTES_MAX} bytes|broke the rules"
        ):
            await ask(wire)
    # what comes with a whole head is counted with its body
    body = bytes(2 * limits.STORE_ANSWER_HEAD_BYTES_MAX)
    async with wired(answer(body)) as (wire, _):
        assert await ask(wire, len(body)) == (200, body)


# --- by httpx ---------------------------------------------------------------------------------------


async def test_by_httpx_too_an_answer_of_as_many_bytes_as_are_taken_is_taken() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request_of(reader)
            writer.write(answer(bytes(100)))

    async with stand_in(serve) as url:
        transport = HttpxTransport(url + "/", http2=False)
        assert transport.url == url
        assert (await transport.request(get(answer_bytes_max=100), HANG_S)).body == bytes(100)
        with pytest.raises(StoreUnavailable, match="answered over 99 bytes"):
            await transport.request(get(answer_bytes_max=99), HANG_S)
        await transport.aclose()


@pytest.mark.parametrize("kind", [HttpxTransport, TcpTransport])
async def test_lines_come_as_they_are_said_and_a_refusal_is_one(
    kind: type[HttpxTransport] | type[TcpTransport],
) -> None:
    go_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, headers, _ = await request_of(reader)
        if "missing" in line:
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 7\r\n\r\nmissing")
            return
        assert (headers["x-key"], await reader.readexactly(4)) == ("k", b"body")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\none\n")
        await go_on.wait()
        writer.write(b"two\nthree\n")
        await writer.drain()

    async with stand_in(serve) as url:
        transport = kind(url)
        lines = transport.lines(Ask("POST", "/work", {"x-key": "k"}, b"body", 100), HANG_S)
        assert await anext(lines) == "one"
        go_on.set()
        assert [line async for line in lines] == ["two", "three"]
        with pytest.raises(NotFound, match="missing"):
            [line async for line in transport.lines(Ask("POST", "/missing", {}, b"", 100), HANG_S)]
        await transport.aclose()


async def test_a_transport_that_is_closed_closes_its_connections() -> None:
    for make in (lambda url: HttpxTransport(url, http2=False), TcpTransport):
        server = Server()
        async with stand_in(server) as url:
            transport = make(url)
            await transport.request(GET, HANG_S)
            await server.until(came=1, went=0)
            await transport.aclose()
            await server.until(came=1, went=1)
            await transport.aclose()
