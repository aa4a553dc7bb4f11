"""However many connections have much to parse, a turn of the loop ends after its share, and addresses share it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

import pytest
from starlette.types import Receive, Scope, Send

from gateway import limits
from gateway.http.app import Application
from gateway.http.tcp.http1 import Http1
from gateway.http.tcp.service import TcpOptions, TcpService
from gateway.http.tcp.turns import Turns
from tests.abuse.attackers import dial, ws_frame
from tests.http.conftest import Serve
from tests.http.test_tcp_fuzz import echo, talk
from tests.patience import HANG_S

UPGRADE = (
    b"GET /a HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Clock:
    """Goes on by what is done."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def worker(turns: Turns, clock: Clock, peer: str, done: list[str], times: int) -> Callable[[], None]:
    """Takes a slice each time, and asks for its next turn."""
    left = times

    def work() -> None:
        nonlocal left
        clock.now += limits.TCP_SLICE_S
        done.append(peer)
        left -= 1
        if left:
            turns.soon(peer, work)

    return work


async def test_a_hundred_connections_take_no_more_of_a_turn_than_one() -> None:
    clock, done = Clock(), []
    turns = Turns(clock)
    for n in range(100):
        turns.soon(f"10.0.0.{n}", worker(turns, clock, str(n), done, 3))
    while len(done) < 300:
        before = clock.now
        await asyncio.sleep(0)
        assert clock.now - before <= limits.TCP_TURN_S + limits.TCP_SLICE_S
    assert done[:100] == [str(n) for n in range(100)], "each has its first turn before any has its second"


async def test_an_address_with_many_connections_has_no_more_turns_than_one_with_a_single_one() -> None:
    clock, done = Clock(), []
    turns = Turns(clock)
    for _ in range(100):
        turns.soon("attacker", worker(turns, clock, "attacker", done, 1))
    turns.soon("other", worker(turns, clock, "other", done, 5))
    while done.count("other") < 5:  # noqa: ASYNC110 (turns of the loop are what is counted)
        await asyncio.sleep(0)
    assert done[:10] == ["attacker", "other"] * 5


async def test_what_comes_while_an_address_waits_is_parsed_after_what_waits() -> None:
    clock = Clock()
    turns = Turns(clock)
    assert turns.admits("a")
    turns.soon("a", lambda: None)
    assert not turns.admits("a")
    assert turns.admits("b")
    turns.run(lambda: setattr(clock, "now", limits.TCP_TURN_S))
    assert not turns.admits("b"), "this turn of the loop has had its share"
    turns.soon("b", lambda: None)
    await asyncio.sleep(0)
    assert turns.admits("a")
    assert turns.admits("b")


async def test_what_was_worked_counts_and_is_taken_to_be_worked_again() -> None:
    clock, begun = Clock(), []
    turns = Turns(clock)

    async def work(name: str) -> None:
        for _ in range(3):
            await turns.admitted("attacker", limits.TCP_TURN_S)
            begun.append(name)

    tasks = [asyncio.ensure_future(work(f"{n}")) for n in range(10)]
    while len(begun) < 30:
        before = len(begun)
        await asyncio.sleep(0)
        assert len(begun) - before <= 1, "so much work is a turn's share"
    await asyncio.gather(*tasks)


async def test_messages_that_each_are_much_work_leave_the_loop_to_others() -> None:
    """Of a WebSocket, and of a request's body."""
    most = taken = 0

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal taken
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            until = time.perf_counter() + limits.TCP_TURN_S
            while time.perf_counter() < until:
                pass
            taken += 1

    service = TcpService(slow, TcpOptions())
    talks = [talk(Http1, service)[0] for _ in range(5)]
    for conversation in talks:
        conversation.data_received(UPGRADE)
    await asyncio.sleep(0)
    for conversation in talks:
        conversation.data_received(ws_frame(2, b"x") * 20)
    while taken < 100:
        before = taken
        await asyncio.sleep(0)
        if before >= len(talks):  # what a connection's messages are is known from its first one on
            most = max(most, taken - before)
    assert most <= 3
    for conversation in talks:
        conversation.connection_lost(None)


async def test_requests_that_wait_for_their_turn_are_answered_in_order() -> None:
    turns = Turns()
    turns.soon("192.0.2.1", lambda: None)  # what comes now waits
    conversation, transport = talk(Http1, TcpService(echo, TcpOptions(turns=turns)))
    for path in (b"/a", b"/b", b"/c"):
        head = b"GET " + path + b" HTTP/1.1\r\nHost: h\r\n\r\n"
        for byte in head:
            turns.soon(conversation.slot.peer, lambda: None)
            conversation.data_received(bytes([byte]))
    async with asyncio.timeout(HANG_S):
        while transport.written.count(b"HTTP/1.1 200 ") < 3:  # noqa: ASYNC110 (what is written is no event)
            await asyncio.sleep(0)
    assert turns.held_bytes == 0


async def test_what_was_read_and_waits_is_bounded_in_all_and_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "TCP_TURN_S", -1.0)  # nothing is parsed at once
    turns = Turns()
    service = TcpService(echo, TcpOptions(turns=turns))
    talks = [talk(Http1, service)[0] for _ in range(200)]
    for conversation in talks:
        conversation.data_received(bytes(250_000))
    assert turns.held_bytes <= limits.TCP_UNPARSED_BYTES_MAX
    assert service.refused["unparsed"] > 100
    small, _ = talk(Http1, service)
    small.data_received(b"GET /a HTTP/1.1\r\n")
    assert not small.is_ending, "whoever sends no more than a request is not one of them"
    for conversation in (*talks, small):
        conversation.connection_lost(None)
    assert turns.held_bytes == 0


async def test_requests_sent_far_ahead_count_with_what_waits_and_are_all_answered() -> None:
    turns = Turns()
    conversation, transport = talk(Http1, TcpService(echo, TcpOptions(turns=turns)))
    ask = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
    times = 250_000 // len(ask)
    conversation.data_received(ask * times)
    assert turns.held_bytes > 100_000, "what is not to be parsed soon"
    async with asyncio.timeout(HANG_S):
        while transport.written.count(b"HTTP/1.1 200 ") < times:  # noqa: ASYNC110 (what is written is no event)
            await asyncio.sleep(0.01)
    assert turns.held_bytes == 0
    conversation.connection_lost(None)


async def test_what_is_read_of_connections_that_are_over_is_bounded_by_address() -> None:
    clock = Clock()
    turns = Turns(clock)
    size = limits.HTTP_LINGER_ADDRESS_BYTES_MAX // 64
    assert all(turns.may_drop("10.0.0.1", size) for _ in range(64))
    assert not turns.may_drop("10.0.0.1", 1)
    assert turns.may_drop("10.0.0.2", 1), "another address has its own"
    clock.now += limits.HTTP_LINGER_S_MAX
    assert turns.may_drop("10.0.0.1", size), "another second"


async def test_a_crowd_that_was_refused_and_goes_on_is_read_no_further(serve: Serve) -> None:
    served = await serve(Application([]), tls=False)

    async def flood() -> int:
        reader, writer = await dial(served.port)
        writer.write(b"GET / HTTP/9.9\r\n\r\n")
        assert b" 505 " in await reader.readline()
        sent = 0
        try:
            while sent < limits.HTTP_LINGER_BYTES_MAX:
                writer.write(bytes(limits.TCP_READ_BYTES_MAX))
                await writer.drain()
                sent += limits.TCP_READ_BYTES_MAX
        except ConnectionError:
            pass
        writer.transport.abort()
        return sent

    began = time.monotonic()
    async with asyncio.timeout(HANG_S):
        sent = sum(await asyncio.gather(*(flood() for _ in range(16))))
    seconds, buffered = 2 + math.ceil(time.monotonic() - began), 16 * 4 * 1024 * 1024
    assert sent <= seconds * limits.HTTP_LINGER_ADDRESS_BYTES_MAX + buffered
