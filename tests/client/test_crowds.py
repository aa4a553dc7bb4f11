"""Many clients in one process, and what they tell of their connections: none leaves a word that nobody heard."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway import limits
from gateway.client import (
    ConnectionEvent,
    Publisher,
    PublisherPresent,
    StoreUnavailable,
    Subscriber,
    UnknownWorld,
    turns,
)
from gateway.client.address import Address
from gateway.client.websocket import WebSocketLink
from gateway.runtime.gateway import Gateway
from tests.client.conftest import Served, settings_in
from tests.patience import HANG_S

CROWD = 40
"""More than have a turn at once."""


@contextmanager
def heard() -> Iterator[list[dict[str, Any]]]:
    """What the loop's exception handler is told, that of futures that nobody asks any more included."""
    told: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context))
    try:
        yield told
    finally:
        gc.collect()
        loop.set_exception_handler(None)


@asynccontextmanager
async def crowd(url: str, **options: Any) -> AsyncIterator[list[Publisher]]:
    publishers = [Publisher(url, f"w{number}", **options) for number in range(CROWD)]
    try:
        yield publishers
    finally:
        await asyncio.gather(*(one.aclose() for one in publishers))


async def test_a_crowd_of_publishers_starts_by_udp_and_nothing_is_left_unheard(served: Served) -> None:
    with heard() as told:
        async with crowd(served.url, ca=served.ca, connect_timeout_s=HANG_S) as publishers:
            await asyncio.gather(*(one.start() for one in publishers))
            for one in publishers:
                one.send({1: b"x"})
            await asyncio.gather(*(one.wait_durable() for one in publishers))
            assert max(one.connects for one in publishers) == 1
        del publishers
    assert told == []
    async with turns.turn(Address.parse(served.url)) as later:
        assert not later.udp_answers, "what was known is forgotten with the last one"


async def test_a_crowd_before_a_gateway_that_hangs_up_leaves_nothing_unheard() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with heard() as told:
        async with crowd(url, connect_timeout_s=0.5) as publishers:
            ended = await asyncio.gather(*(one.start() for one in publishers), return_exceptions=True)
        assert all(isinstance(error, StoreUnavailable) for error in ended)
        del publishers, ended
    server.close()
    assert told == []


async def test_an_upgrade_that_nobody_waits_for_any_more_fails_in_silence() -> None:
    from websockets.client import ClientProtocol
    from websockets.uri import parse_uri

    with heard() as told:
        link = WebSocketLink(ClientProtocol(parse_uri("ws://127.0.0.1:1/")), lambda _: None, {})  # type: ignore[arg-type,return-value]
        link.connection_lost(ConnectionResetError("gone"))
        with pytest.raises(StoreUnavailable):
            await link.opened()
        link = WebSocketLink(ClientProtocol(parse_uri("ws://127.0.0.1:1/")), lambda _: None, {})  # type: ignore[arg-type,return-value]
        link.connection_lost(ConnectionResetError("gone"))
        del link
    assert told == []


async def test_so_many_have_a_turn_at_once_and_a_handshake_that_is_slow_is_no_blocked_one() -> None:
    address = Address.parse("https://127.0.0.1:1")
    inside = most = 0

    async def connect() -> None:
        nonlocal inside, most
        async with turns.turn(address) as mine:
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            mine.udp_answers = True
            assert mine.patience_s(1.0) == limits.CLIENT_CONNECT_S_MAX
            inside -= 1

    async with turns.turn(address) as first:
        assert first.patience_s(1.0) == 1.0
        waiting = [asyncio.create_task(connect()) for _ in range(100)]
        cancelled = [asyncio.create_task(connect()) for _ in range(100)]
        await asyncio.sleep(0)
        for task in cancelled:
            task.cancel()
        await asyncio.gather(*waiting)
    assert most == limits.CLIENT_CONNECTS_AT_ONCE_MAX - 1
    async with turns.turn(address) as later:
        assert not later.udp_answers, "what was known is forgotten with the last one"


async def test_connections_are_told_as_they_come_and_go(tmp_path: Path, until: Callable[..., Any]) -> None:
    events: list[ConnectionEvent] = []

    def tell(event: ConnectionEvent) -> None:
        events.append(event)
        if event.kind == "connected" and len(events) == 1:
            raise ZeroDivisionError("a fault of the program's own")

    with heard() as told:
        gateway = await Gateway.start(settings_in(tmp_path))
        url, ca, port = f"https://127.0.0.1:{gateway.port}", tmp_path / "certs" / "ca.pem", gateway.port
        async with Publisher(url, "w", ca=ca, on_connection=tell) as publisher:
            await gateway.drain(2.0)
            await until(lambda: len(events) == 2)
            gateway = await Gateway.start(replace(settings_in(tmp_path), port=port))
            await until(lambda: len(events) == 3, HANG_S)
            assert publisher.connected
    assert [(event.kind, event.transport, event.error) for event in events] == [
        ("connected", "webtransport", None),
        ("disconnected", "webtransport", events[1].error),
        ("connected", "webtransport", None),
        ("disconnected", "webtransport", None),
        ("ended", None, None),
    ]
    assert {event.address for event in events} == {url}
    assert [type(context["exception"]) for context in told] == [ZeroDivisionError]
    await gateway.drain(2.0)


async def test_the_end_of_a_refused_client_says_why(served: Served) -> None:
    events: list[ConnectionEvent] = []
    async with Publisher(served.url, "w", ca=served.ca):
        for kind in (Publisher, Subscriber):
            world = "w" if kind is Publisher else "nowhere"
            with pytest.raises((PublisherPresent, UnknownWorld)):
                await kind(served.url, world, ca=served.ca, on_connection=events.append).start()
    assert [event.kind for event in events] == ["ended", "ended"]
    assert isinstance(events[0].error, PublisherPresent)
    assert isinstance(events[1].error, UnknownWorld)
