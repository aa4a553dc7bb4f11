"""A session of a quiet world lives on: the gateway is heard within a third of the smaller idle time-out."""

from __future__ import annotations

import asyncio

import pytest

from gateway.quic import Client, QuicOptions
from tests.quic.conftest import Identity
from tests.quic.serving import open_session, serving, until

IDLE_S = 1.2
ROUNDS = 3


async def _lives(client: Client, seconds: float) -> bool:
    """Whether the connection did not end within so many seconds."""
    try:
        await asyncio.wait_for(client.wait_closed(), seconds)
    except TimeoutError:
        return True
    return False


@pytest.mark.parametrize(("client_s", "server_s"), [(IDLE_S, 30.0), (30.0, IDLE_S)])
async def test_a_silent_reader_of_a_quiet_world_stays(
    identity: Identity, client_s: float, server_s: float
) -> None:
    async with (
        serving(identity, idle_timeout_s=server_s) as served,
        await served.connect(options=QuicOptions(idle_timeout_s=client_s)) as client,
    ):
        _, session = await open_session(client)
        await until(
            lambda: served.endpoint.counters["keep_alives"] >= 2 * ROUNDS, within_s=ROUNDS * IDLE_S + 5
        )
        assert await _lives(client, IDLE_S)
        assert session.closed == 0


async def test_the_longest_silence_is_a_third_of_the_smaller_time_out(identity: Identity) -> None:
    async with (
        serving(identity) as served,
        await served.connect(options=QuicOptions(idle_timeout_s=IDLE_S)) as client,
    ):
        await open_session(client)
        (peer,) = served.endpoint.peers
        longest, looks = 0.0, peer.quic.idle_timeout_s()
        for _ in range(200):
            longest = max(longest, peer.quic.state.silent_s(served.endpoint.time()))
            await asyncio.sleep(IDLE_S / 100)
        assert looks == pytest.approx(IDLE_S)
        assert longest < IDLE_S / 3 + 0.3, "and what a busy machine is late"


async def test_a_response_under_way_keeps_its_connection(identity: Identity) -> None:
    async with (
        serving(identity) as served,
        await served.connect(options=QuicOptions(idle_timeout_s=IDLE_S)) as client,
    ):
        waiting = asyncio.create_task(client.request("GET", "/wait"))
        await until(lambda: served.endpoint.counters["keep_alives"] >= 2 * ROUNDS)
        assert not waiting.done()
        waiting.cancel()


async def test_a_connection_that_nobody_uses_ends(identity: Identity) -> None:
    async with (
        serving(identity, idle_timeout_s=IDLE_S) as served,
        await served.connect() as client,
    ):
        link, _ = await open_session(client)
        await (await client.request("GET", "/hello")).read()
        link.close(0, "")
        assert not await _lives(client, 6 * IDLE_S)
        await until(lambda: not served.endpoint.peers)


async def test_a_peer_that_is_gone_is_not_kept(identity: Identity) -> None:
    async with serving(identity, idle_timeout_s=IDLE_S) as served:
        client = await served.connect()
        await open_session(client)
        client.endpoint._end_reading()
        client.endpoint.udp.close()
        client.endpoint.is_closed = True
        await until(lambda: not served.endpoint.peers, within_s=6 * IDLE_S + 5)
        assert served.doors.sessions[0].closed == 1
