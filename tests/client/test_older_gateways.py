"""A gateway of an earlier release refuses query keys that it does not know: what came since is asked for by messages, which it ignores."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest

from gateway.client import Publisher, Subscriber
from gateway.client.connect import TransportChoice
from gateway.core.options import parse_live_query
from gateway.errors import BadInput
from tests.client.conftest import Served
from tests.client.older import SINCE, without_redundancy
from tests.patience import HANG_S


@pytest.mark.parametrize("transport", ["webtransport", "websocket"])
@pytest.mark.parametrize("redundancy", ["auto", "off"])
async def test_a_reader_is_let_in_whatever_it_wants_said_twice(
    redundancy: Literal["auto", "off"],
    transport: TransportChoice,
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard = without_redundancy(monkeypatch)
    for key in SINCE:
        with pytest.raises(BadInput):
            parse_live_query(f"{key}=1")
    choice = served.trusted(transport=transport)
    async with (
        Publisher(served.url, "arena", **choice) as publisher,
        Subscriber(served.url, "arena", redundancy=redundancy, **choice) as reader,
    ):
        async with asyncio.timeout(HANG_S):
            while not reader.records() or (transport == "webtransport" and not heard):
                publisher.send({1: b"x"})
                await asyncio.sleep(0.02)
        assert reader.connects == 1
    assert heard == (["redundancy"] if transport == "webtransport" else [])
