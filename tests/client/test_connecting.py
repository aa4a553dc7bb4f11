"""Ways to a gateway: every address of its name, back to UDP when it gets through, and nothing left of what was cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest

from gateway import limits
from gateway.client import Publisher, Subscriber
from gateway.errors import PublisherPresent
from gateway.quic import ConnectFailed, connect, first_of
from tests.client.conftest import Served
from tests.patience import HANG_S

TRIES = 24


def _names(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """The name ``localhost`` has these addresses, in this order."""
    loop = asyncio.get_running_loop()
    before = loop.getaddrinfo

    async def getaddrinfo(host: Any, port: Any, **options: Any) -> Any:
        if host != "localhost":
            return await before(host, port, **options)
        return [one for address in hosts for one in await before(address, port, **options)]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("hosts", [("127.0.0.9", "127.0.0.1"), ("::1", "127.0.0.9", "127.0.0.1")])
@pytest.mark.parametrize("transport", ["webtransport", "websocket", "auto"])
async def test_every_address_of_a_name_is_tried(
    served: Served,
    until: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    hosts: tuple[str, ...],
    transport: str,
) -> None:
    _names(monkeypatch, *hosts)
    monkeypatch.setattr(
        limits, "CLIENT_UDP_PATIENCE_S", 20.0
    )  # a machine that stands still for a second is no lost path
    url = f"https://localhost:{served.gateway.port}"
    pinned = {"certificate_sha256": served.sha256}
    async with Publisher(url, "w", transport=transport, **pinned) as publisher:
        publisher.send({1: b"one"})
        async with Subscriber(url, "w", transport=transport, **pinned) as reader:
            await until(lambda: reader.records() == {1: b"one"})
            assert reader.transport == ("websocket" if transport == "websocket" else "webtransport")


async def test_a_name_of_which_nobody_answers_is_told_as_one(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    _names(monkeypatch, "127.0.0.9", "127.0.0.8")
    with pytest.raises(ConnectFailed, match=r"localhost"):
        await connect("localhost", served.gateway.port, trust=_anybody(), timeout_s=1.0)


async def test_a_names_last_address_has_as_long_as_a_lone_one(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = [f"127.0.0.{last}" for last in range(9, 8 + limits.QUIC_ADDRESSES_TRIED_MAX)]
    _names(monkeypatch, *silent, "127.0.0.1")
    client = await connect("localhost", served.gateway.port, trust=_anybody(), timeout_s=1.0)
    client.close()


async def test_the_timeout_begins_with_the_last_attempt() -> None:
    begun: list[int] = []

    def attempt(which: int) -> Callable[[], Any]:
        async def run() -> None:
            begun.append(which)
            await asyncio.Event().wait()

        return run

    with pytest.raises(TimeoutError):
        await first_of(list(map(attempt, range(9))), begun.append, head_start_s=0.01, timeout_s=0.001)
    assert begun == list(range(9))


def _anybody() -> Any:
    from gateway.quic import QuicTrust

    return QuicTrust(insecure=True)


async def test_the_next_attempt_begins_when_one_failed_or_had_its_head_start() -> None:
    begun: list[str] = []
    dropped: list[str] = []
    gate = asyncio.Event()

    def attempt(name: str, *, fails: bool = False, waits: bool = False) -> Callable[[], Any]:
        async def run() -> str:
            begun.append(name)
            if waits:
                await gate.wait()
            if fails:
                raise OSError(name)
            return name

        return run

    answer = await first_of([attempt("a", fails=True), attempt("b")], dropped.append, head_start_s=60)
    assert (answer, begun) == ("b", ["a", "b"])
    begun.clear()
    answer = await first_of([attempt("a", waits=True), attempt("b")], dropped.append, head_start_s=0.01)
    assert (answer, begun) == ("b", ["a", "b"])
    with pytest.raises(OSError, match="a"):
        await first_of([attempt("a", fails=True), attempt("b", fails=True)], dropped.append)
    assert dropped == []


@pytest.mark.parametrize("kind", [Publisher, Subscriber])
@pytest.mark.parametrize("transport", ["webtransport", "websocket"])
async def test_a_cancelled_connect_leaves_nothing(
    served: Served, until: Callable[..., Any], kind: type, transport: str
) -> None:
    rng = random.Random(5)
    gateway = served.gateway
    async with Publisher(served.url, "w", transport=transport, ca=served.ca) as publisher:
        publisher.send({1: b"there is such a world"})
        await publisher.wait_durable()
    await until(lambda: not gateway.endpoint.peers)
    before = asyncio.all_tasks()
    for _ in range(TRIES):
        task = asyncio.create_task(kind(served.url, "w", transport=transport, ca=served.ca).__aenter__())
        done, _ = await asyncio.wait([task], timeout=rng.random() * 0.06)
        if done:
            with contextlib.suppress(PublisherPresent):  # the one before is on its way out
                await task.result().aclose()
            continue
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    world = gateway.worlds.hosts["w"].world
    await until(lambda: world.publisher is None and not world.subscribers)
    await until(lambda: not gateway.endpoint.peers)
    await until(lambda: not {task for task in asyncio.all_tasks() - before if not task.done()}, HANG_S)


async def test_a_session_on_tcp_goes_back_to_udp_once_it_gets_through(
    served: Served, until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = served.gateway.endpoint
    receive = endpoint.udp.receive

    def lose() -> list[Any]:
        receive()
        return []

    monkeypatch.setattr(endpoint.udp, "receive", lose)
    publisher = Publisher(served.url, "w", ca=served.ca)
    reader = Subscriber(served.url, "w", ca=served.ca)
    publisher.udp_again_s = reader.udp_again_s = 0.3
    async with publisher, reader:
        publisher.send({1: b"one"})
        await until(lambda: reader.records() == {1: b"one"})
        assert (publisher.transport, reader.transport) == ("websocket", "websocket")
        monkeypatch.setattr(endpoint.udp, "receive", receive)
        await until(
            lambda: (publisher.transport, reader.transport) == ("webtransport", "webtransport"), HANG_S
        )
        publisher.send({1: b"two"})
        await until(lambda: reader.records() == {1: b"two"})
        assert publisher.epoch == 1, "the same run"
    assert reader.error is None


async def test_a_session_that_was_told_to_use_tcp_stays_there(
    served: Served, until: Callable[..., Any]
) -> None:
    reader = Subscriber(served.url, "w", transport="websocket", ca=served.ca)
    reader.udp_again_s = 0.01
    async with Publisher(served.url, "w", ca=served.ca) as publisher, reader:
        publisher.send({1: b"one"})
        await until(lambda: reader.records() == {1: b"one"})
        assert (reader.transport, reader.connects) == ("websocket", 1)
