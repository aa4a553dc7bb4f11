"""A replay session fed with anything: refusals, no exception, no growth."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Sequence

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway import limits
from gateway.core.ports import CloseCode, Link, LiveOptions, OneByOne, Sent, Session
from gateway.runtime.replaying import ReplaySession
from gateway.store.world.lanes import WorldLanes
from tests.held import longest

values = st.one_of(
    st.none(), st.integers(-5, 2**70), st.floats(), st.text(max_size=8), st.lists(st.integers())
)
commands = st.builds(
    lambda kind, fields: b"\x10" + json.dumps({**fields, "type": kind}).encode(),
    st.sampled_from(["play", "pause", "seek", "step", "live", "focus", "welcome", 7]),
    st.dictionaries(st.sampled_from(["speed", "n", "tick", "epoch", "at", "mark", "keys"]), values),
)
messages = st.one_of(st.binary(max_size=60), commands)


class NoLink(OneByOne):
    """A link that only remembers whether it was closed."""

    transport = "websocket"
    lossy = False

    def __init__(self) -> None:
        self.closed: CloseCode | None = None

    def message_bytes_max(self) -> int:
        return 65_535

    def room_bytes(self) -> int:
        return 65_535

    def send(self, message: bytes, token: int) -> Sent:
        return True

    def send_stream(self, messages: Sequence[bytes]) -> int:
        return 1

    def reset_stream(self, handle: int) -> None: ...

    def stream_done(self, handle: int) -> bool:
        return True

    def control(self, message: bytes) -> None: ...

    def close(self, code: CloseCode, reason: str) -> None:
        self.closed = code


async def nowhere(options: LiveOptions, link: Link) -> Session:
    raise AssertionError("never asked for")


@settings(max_examples=300, deadline=None)
@given(st.lists(messages, max_size=120), st.binary(max_size=400))
@example([b'\x10{"type": "pause"}'] * 200, b"")
def test_nothing_that_a_viewer_sends_raises_or_grows(sent: list[bytes], stream: bytes) -> None:
    async def converse() -> None:
        link = NoLink()
        session = ReplaySession(WorldLanes.__new__(WorldLanes), link, nowhere)  # type: ignore[arg-type]
        for message in sent:
            session.on_message(message, 0.0)
        for at in range(0, len(stream), 7):
            session.on_stream_data(3, stream[at : at + 7], False, 0.0)
        session.on_stream_reset(3)
        session.on_acked(1)
        session.on_lost(2)
        session.on_writable(0.0)
        assert longest(session, link, kind=(list, deque)) <= limits.REPLAY_COMMANDS_WAITING_MAX
        session.on_closed(0.0)

    asyncio.run(converse())
