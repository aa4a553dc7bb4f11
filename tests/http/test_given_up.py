"""Whoever gives up in the very moment in which it is his turn, and what is left of him then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import pytest
from starlette.requests import Request

from gateway import limits
from gateway.core.entities import Changes, EntityPlace, EntityPort
from gateway.core.ports import Link, Session
from gateway.errors import Overloaded, StoreUnavailable, TooMany
from gateway.http.answers import AnswerBudget, Bounds
from gateway.http.entities_lists import ListRoutes
from gateway.http.websocket import WebSocketDoor
from gateway.wire.entities.values import Filter
from tests.patience import HANG_S


async def test_a_turn_that_comes_as_patience_ends_is_the_next_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ANSWERS_PATIENCE_S", 0.0)
    budget = AnswerBudget(Bounds("answers", 1, 1, 100, 100))

    async def wait_for_a_turn() -> None:
        async with budget.turn("b"):
            raise AssertionError("patience has ended")

    async with budget.turn("a") as lease:
        waiting = asyncio.create_task(wait_for_a_turn())
        # After it has begun to wait, and before its time is looked at: the turn is made, so that it is the next one's.
        asyncio.get_running_loop().call_soon(lease.hold, 1)
        with pytest.raises((TooMany, Overloaded)):
            await waiting
    async with budget.turn("b"):
        assert budget.waiting == 0


class OpenedSession:
    """A session that notes its end."""

    def __init__(self) -> None:
        self.closed = False

    def on_closed(self, mono: float) -> None:
        self.closed = True


class LateDoors:
    """Doors whose session is open in the turn of the loop in which whoever asked for it is given up."""

    def __init__(self) -> None:
        self.session = OpenedSession()
        self.asking: asyncio.Task[None] | None = None

    async def open_at(self, path: str, query: str, headers: Mapping[str, str], link: Link) -> Session:
        assert self.asking is not None
        self.asking.cancel()
        return cast(Session, self.session)


async def test_a_session_that_is_open_as_its_websocket_is_given_up_is_closed() -> None:
    doors = LateDoors()
    never = asyncio.Event()
    came = [{"type": "websocket.connect"}]

    async def receive() -> dict[str, Any]:
        if came:
            return came.pop()
        await never.wait()
        raise AssertionError("nothing comes")

    async def send(message: Any) -> None: ...

    scope = {"type": "websocket", "path": "/v1/worlds/w/live", "query_string": b"", "headers": []}
    doors.asking = asyncio.create_task(WebSocketDoor(cast(Any, doors))(scope, receive, send))
    async with asyncio.timeout(HANG_S):
        with pytest.raises(asyncio.CancelledError):
            await doors.asking
    assert doors.session.closed


class FailingWatch:
    """Entities whose changes break off."""

    async def watch(self, place: EntityPlace, wanted: Filter, since: int | None) -> AsyncIterator[Changes]:
        async def changes() -> AsyncIterator[Changes]:
            yield Changes((), 7)
            raise StoreUnavailable("the store is away")

        return changes()


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*"])
async def test_what_ends_a_stream_of_changes_is_told_in_the_streams_own_form(accept: str) -> None:
    request = Request(
        {
            "type": "http",
            "method": "GET",
            "path": "/v1/worlds/w/entities/live",
            "query_string": b"",
            "headers": [(b"accept", accept.encode())],
            "path_params": {"world": "w"},
        }
    )
    answer = await ListRoutes(cast(EntityPort, FailingWatch())).live(request)
    pieces = [bytes(piece) async for piece in cast(Any, answer).body_iterator]
    if accept == "*/*":
        assert pieces[-1][4] == 0x10
        assert b"store is away" in pieces[-1]
    else:
        assert pieces[-1].startswith(b"event: error\ndata: {")
        assert pieces[-1].endswith(b"}\n\n")
