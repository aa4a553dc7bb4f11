"""A gateway of an earlier release refuses query keys that it does not know: what came since is asked for by messages, which it ignores."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest

from gateway.client import Publisher, Subscriber
from gateway.client.connect import TransportChoice
from gateway.core import options
from gateway.core.sessions import SubscriberSession
from gateway.errors import BadInput
from gateway.wire import decode_control
from tests.client.conftest import Served

BEFORE_REDUNDANCY = {
    "role",
    "epoch",
    "resume",
    "takeover",
    "zstd",
    "budget_kbps",
    "keys",
    "follow",
    "delay_s",
} | {"conflate"}


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The gateway has no redundancy: neither its keys nor its message. The types that readers said to it."""
    for key in options._PARSERS.keys() - BEFORE_REDUNDANCY:
        monkeypatch.delitem(options._PARSERS, key)
    types: list[str] = []
    take = SubscriberSession.take

    def older(session: SubscriberSession, message: bytes, mono: float) -> None:
        types.append(decode_control(message).type)
        if types[-1] != "redundancy":
            take(session, message, mono)

    monkeypatch.setattr(SubscriberSession, "take", older)
    return types


@pytest.mark.parametrize("transport", ["webtransport", "websocket"])
@pytest.mark.parametrize("redundancy", ["auto", "off"])
async def test_a_reader_is_let_in_whatever_it_wants_said_twice(
    redundancy: Literal["auto", "off"], transport: TransportChoice, served: Served, heard: list[str]
) -> None:
    with pytest.raises(BadInput):
        options.parse_live_query("parity=1")
    choice = served.trusted(transport=transport)
    async with (
        Publisher(served.url, "arena", **choice) as publisher,
        Subscriber(served.url, "arena", redundancy=redundancy, **choice) as reader,
    ):
        async with asyncio.timeout(10):
            while not reader.records() or (transport == "webtransport" and not heard):
                publisher.send({1: b"x"})
                await asyncio.sleep(0.02)
        assert reader.records() == {1: b"x"}
        assert reader.connects == 1
    assert heard == (["redundancy"] if transport == "webtransport" else [])
