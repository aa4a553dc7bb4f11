"""A request has the time that it was given, and not once more what is left of it: also where a server turns out to speak HTTP/2."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import StoreUnavailable
from gateway.store.remote import HttpxTransport, TcpTransport
from tests.patience import HANG_S
from tests.store.remote.test_tcp import GET, stand_in

SOON_S = 0.3
"""Of which a second request is to begin: no claim, so that a slow machine sees the first one only."""


@pytest.mark.parametrize("says", [b"", b"SSH-2.0-x\r\n"])
@pytest.mark.parametrize("make", [TcpTransport, HttpxTransport])
async def test_a_server_that_is_silent_or_speaks_another_protocol_is_waited_for_no_longer_than_was_said(
    make: type[TcpTransport] | type[HttpxTransport], says: bytes
) -> None:
    """The second request, by the other protocol, is answered with silence."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if connections == 1 and says:
            await reader.read(1)
            writer.write(says)
            return
        await asyncio.Event().wait()

    async with stand_in(serve) as url:
        transport = make(url)
        async with asyncio.timeout(HANG_S):
            with pytest.raises(StoreUnavailable):
                await transport.request(GET, SOON_S)
        assert connections >= 1
        await transport.aclose()
