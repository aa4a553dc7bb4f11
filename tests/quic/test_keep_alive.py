"""A session of a quiet world lives on: the gateway is heard within a third of the smaller idle time-out.

On a clock that jumps over silence: real sockets, long time-outs, and a machine that stands still for a second is no silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.quic import Client, QuicOptions
from tests.quic.conftest import Identity
from tests.quic.serving import kill, open_session, serving
from tests.runtime.simulated import jumping

IDLE_S = 30.0
LONGER_S = 120.0
ROUNDS = 3
STOOD_STILL_S = IDLE_S / 10
"""What a busy machine may be late."""


def over_long_silences(test: Callable[[], Awaitable[None]]) -> None:
    with jumping() as (loop, _):
        loop.run_until_complete(test())


async def _lives(client: Client, seconds: float) -> bool:
    """Whether the connection did not end within so many seconds."""
    try:
        await asyncio.wait_for(client.wait_closed(), seconds)
    except TimeoutError:
        return True
    return False


async def _until(condition: Callable[[], bool], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (a list of peers is no event)
            await asyncio.sleep(IDLE_S / 100)


@pytest.mark.parametrize(("client_s", "server_s"), [(IDLE_S, LONGER_S), (LONGER_S, IDLE_S)])
def test_a_silent_reader_of_a_quiet_world_stays(identity: Identity, client_s: float, server_s: float) -> None:
    async def stays() -> None:
        async with (
            serving(identity, idle_timeout_s=server_s) as served,
            await served.connect(options=QuicOptions(idle_timeout_s=client_s)) as client,
        ):
            _, session = await open_session(client)
            assert await _lives(client, ROUNDS * IDLE_S)
            assert served.endpoint.counters["keep_alives"] >= 2 * ROUNDS
            assert session.closed == 0

    over_long_silences(stays)


def test_the_longest_silence_is_a_third_of_the_smaller_time_out(identity: Identity) -> None:
    async def is_heard() -> None:
        async with (
            serving(identity, idle_timeout_s=LONGER_S) as served,
            await served.connect(options=QuicOptions(idle_timeout_s=IDLE_S)) as client,
        ):
            await open_session(client)
            (peer,) = served.endpoint.peers
            longest, looks = 0.0, peer.quic.idle_timeout_s()
            for _ in range(200):
                longest = max(longest, peer.quic.state.silent_s(served.endpoint.time()))
                await asyncio.sleep(IDLE_S / 100)
            assert looks == pytest.approx(IDLE_S)
            assert longest < IDLE_S / 3 + STOOD_STILL_S

    over_long_silences(is_heard)


def test_a_response_under_way_keeps_its_connection(identity: Identity) -> None:
    async def is_kept() -> None:
        async with (
            serving(identity, idle_timeout_s=LONGER_S) as served,
            await served.connect(options=QuicOptions(idle_timeout_s=IDLE_S)) as client,
        ):
            waiting = asyncio.create_task(client.request("GET", "/wait", timeout_s=LONGER_S))
            assert await _lives(client, ROUNDS * IDLE_S)
            assert served.endpoint.counters["keep_alives"] >= 2 * ROUNDS
            assert not waiting.done()
            waiting.cancel()

    over_long_silences(is_kept)


def test_a_connection_that_nobody_uses_ends(identity: Identity) -> None:
    async def ends() -> None:
        async with (
            serving(identity, idle_timeout_s=IDLE_S) as served,
            await served.connect() as client,
        ):
            link, _ = await open_session(client)
            await (await client.request("GET", "/hello")).read()
            link.close(0, "")
            assert not await _lives(client, 6 * IDLE_S)
            await _until(lambda: not served.endpoint.peers, 6 * IDLE_S)

    over_long_silences(ends)


def test_a_peer_that_is_gone_is_not_kept(identity: Identity) -> None:
    async def is_given_up() -> None:
        async with serving(identity, idle_timeout_s=IDLE_S) as served:
            client = await served.connect()
            await open_session(client)
            kill(client.endpoint)
            await _until(lambda: not served.endpoint.peers, 6 * IDLE_S)
            assert served.doors.sessions[0].closed == 1
            client.close()

    over_long_silences(is_given_up)
