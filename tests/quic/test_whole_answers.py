"""Requests whose answers are wanted whole, and bodies that come in many packets: one hand-over each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.errors import TooLarge
from gateway.quic import RequestFailed
from gateway.quic.h3.asgi import BODY_IS_HERE, Exchange
from tests.quic.conftest import Identity
from tests.quic.serving import Served, serving, until


@pytest.fixture
async def served(identity: Identity) -> AsyncIterator[Served]:
    async with serving(identity) as served:
        yield served


async def test_an_answer_comes_whole_with_its_status_and_headers(served: Served) -> None:
    async with await served.connect() as client:
        status, headers, body = await client.fetch(
            "POST", "/echo", [], b"x" * 300_000, bytes_max=300_000
        ).done
        assert (status, body) == (200, b"x" * 300_000)
        assert (b"x-kind", b"echo") in headers
        assert not client.peer.exchanges


async def test_an_answer_over_the_bound_is_given_up_and_the_connection_goes_on(served: Served) -> None:
    async with await served.connect() as client:
        with pytest.raises(TooLarge, match="100000 bytes"):
            await client.fetch("GET", "/big", [], b"", bytes_max=100_000).done
        assert not client.peer.exchanges
        assert (await client.fetch("GET", "/hello", [], b"", bytes_max=5).done).body == b"hello"


async def test_an_answer_that_is_given_up_disconnects_the_application(served: Served) -> None:
    async with await served.connect() as client:
        exchange = client.fetch("GET", "/wait", [], b"", bytes_max=1)
        await until(lambda: len(served.app.scopes) == 1)
        exchange.give_up(TooLarge("enough"))
        exchange.give_up(TooLarge("enough, again"))
        with pytest.raises(TooLarge, match=r"enough$"):
            await exchange.done
        await until(lambda: served.app.disconnects == 1)


async def test_an_answer_that_is_out_when_its_connection_ends_is_known_to_have_been_asked_for(
    served: Served,
) -> None:
    client = await served.connect()
    exchange = client.fetch("GET", "/wait", [], b"", bytes_max=1)
    await until(lambda: len(served.app.scopes) == 1)
    client.close()
    with pytest.raises(RequestFailed) as told:
        await exchange.done
    assert told.value.facts["sent"]


class _Peer:
    """What an exchange asks of its peer, with what was released noted."""

    def __init__(self) -> None:
        self.quic = self
        self.released: list[int] = []

    def hold(self, stream_id: int, size: int) -> None:
        """Nothing to do here."""

    def consumed(self, stream_id: int, size: int) -> None:
        self.released.append(size)


async def test_what_has_come_of_a_body_is_handed_on_as_one_piece_and_released_at_once() -> None:
    peer: Any = _Peer()
    scope: dict[str, Any] = {"method": "POST"}
    exchange = Exchange(peer, 0, scope, False, lambda size: None)
    assert not scope[BODY_IS_HERE]()
    for piece in (b"one ", b"two ", b"three"):
        exchange.feed(piece, False)
    assert scope[BODY_IS_HERE]()
    assert await exchange.receive() == {"type": "http.request", "body": b"one two three", "more_body": True}
    assert not scope[BODY_IS_HERE]()
    rest = asyncio.ensure_future(exchange.receive())
    exchange.feed(b"!", True)
    assert await rest == {"type": "http.request", "body": b"!", "more_body": False}
    assert peer.released == [13, 1]
