"""A publisher's session at another worker: how long that one has to open it."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.core.ports import LiveOptions
from gateway.runtime.workers import tunnel
from gateway.runtime.workers.channel import Channel, Kind, SiblingGone
from gateway.runtime.workers.group import Group, Worker
from gateway.runtime.workers.siblings import Siblings
from tests.core.links import RecordingLink

Hears = Callable[[Channel, int, bytes], None]


def silent(channel: Channel, kind: int, data: bytes) -> None:
    """Takes the question, and says nothing."""


def answers(channel: Channel, kind: int, data: bytes) -> None:
    if kind == Kind.HELLO:
        channel.write(Kind.ANSWER)


@asynccontextmanager
async def sibling(hears: Hears) -> AsyncIterator[Siblings]:
    """The others as worker 0 sees them: worker 1 listens at a real socket, and answers so."""

    def begun(channel: Channel) -> None:
        channel.on_frame = lambda kind, data: hears(channel, kind, data)

    with tempfile.TemporaryDirectory() as folder:
        nothing: Any = None
        control, far = socket.socketpair()
        worker = Worker(Group(2, Path(folder), b"", nothing, (), ()), 0, control, frozenset({0, 1}))
        server = await asyncio.get_running_loop().create_unix_server(lambda: Channel(begun), worker.path(1))
        try:
            yield Siblings(worker)
        finally:
            server.close()
            control.close()
            far.close()


async def test_a_worker_that_does_not_answer_in_time_is_given_up_and_one_that_does_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with sibling(answers) as siblings:
        opened = await tunnel.open_tunnel(siblings, 1, "w", LiveOptions("publish"), RecordingLink())
        assert not opened.channel.is_lost
        opened.channel.close()
    monkeypatch.setattr(tunnel, "SESSION_OPEN_S_MAX", 0.25)
    async with sibling(silent) as siblings:
        with pytest.raises(SiblingGone, match=r"worker 1 did not answer in 0\.25 s"):
            await tunnel.open_tunnel(siblings, 1, "w", LiveOptions("publish"), RecordingLink())
