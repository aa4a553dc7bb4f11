"""What a session under a grant costs: nothing for a frame, and nothing that stays."""

from __future__ import annotations

import gc
import logging
import weakref
from typing import Any

import pytest

from gateway.core.gate import Standing
from gateway.core.grants import EVERYTHING, Need
from gateway.runtime.access.sessions import GrantedSession
from gateway.runtime.gateway import Gateway
from tests.client.conftest import until
from tests.held import count

from .conftest import Maker, Recorder
from .knocking import Session, open_websocket, open_webtransport, token_message
from .test_doors import LIVE, publish_one


class _Link:
    on_token: Any = None


def test_what_a_transport_calls_are_the_sessions_own_methods() -> None:
    inner: Any = Session()
    link: Any = _Link()
    granted = GrantedSession(inner, link, Standing(EVERYTHING, Need("any"), lambda standing: None))
    for name in ("on_message", "on_stream_data", "on_stream_reset", "on_acked", "on_lost", "on_writable"):
        assert getattr(granted, name) == getattr(inner, name)


@pytest.mark.parametrize("first_message", [False, True])
async def test_a_session_that_ended_is_freed_without_the_collector(
    gated: Gateway, maker: Maker, first_message: bool
) -> None:
    await publish_one(gated, maker)
    token = maker.token({"sub": ["arena-1"]}, sub="ann")
    gc.collect()
    gc.disable()
    try:
        session = await open_webtransport(gated, LIVE, None if first_message else token)
        if first_message:
            await session.send(token_message(token))
        await session.until("welcome")
        await session.send(token_message(token))
        await session.until_true(lambda: session.types.count("granted") == (2 if first_message else 1))
        (peer,) = gated.endpoint.peers
        (link,) = peer.sessions.values()
        gone = [weakref.ref(one) for one in (peer, link)]
        del peer, link
        await session.close()
        await until(lambda: not gated.endpoint.peers)
        await until(lambda: not any(ref() for ref in gone))
    finally:
        gc.enable()
    assert gated.gate is not None
    await until(lambda: gated.gate is not None and gated.gate.sessions == 0)


async def test_hundreds_of_refused_sessions_leave_nothing(gated: Gateway, maker: Maker) -> None:
    token = maker.token({"sub": ["another"]})
    for _ in range(100):
        session = await open_websocket(gated, LIVE, token)
        assert (await session.until("error"))["code"] == "grant_refused"
        await session.close()
    assert gated.gate is not None
    assert count(gated.gate, kind=Standing) == 0
    assert gated.worlds.hosts == {}
    await publish_one(gated, maker)
    session = await open_websocket(gated, LIVE, maker.token({"sub": ["arena-1"]}))
    await session.until("welcome")
    assert count(gated.gate, kind=Standing) > 0, "while somebody is let in"
    await session.close()


async def test_the_recorder_finds_a_token_where_there_is_one(maker: Maker, recorder: Recorder) -> None:
    logging.getLogger("mvgateway.access").info("request", extra={"facts": {"path": maker.token()}})
    with pytest.raises(AssertionError, match="the log"):
        recorder.check([])
