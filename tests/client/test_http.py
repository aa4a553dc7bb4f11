"""What the client's plain requests read of an answer, by HTTP/3 and by TCP."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from gateway import limits
from gateway.client import HttpClient, Trust, http
from gateway.client.connect import TransportChoice
from gateway.errors import ConfigError, StoreUnavailable, TooLarge
from tests.client.conftest import Served


@pytest.mark.parametrize("transport", ["webtransport", "websocket"])
async def test_an_answer_of_exactly_the_bound_is_read_and_a_byte_more_is_refused(
    served: Served, transport: TransportChoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with HttpClient(served.url, trust=Trust(ca=served.ca), transport=transport) as client:
        size = len((await client.request("GET", "/")).body)
        monkeypatch.setattr(limits, "CLIENT_HTTP_BODY_BYTES_MAX", size)
        assert len((await client.request("GET", "/")).body) == size
        monkeypatch.setattr(limits, "CLIENT_HTTP_BODY_BYTES_MAX", size - 1)
        with pytest.raises(TooLarge, match=f"over {size - 1} bytes"):
            await client.request("GET", "/")


async def test_a_certificate_that_is_not_trusted_is_said_to_be_none_and_one_that_is_asked_for_is_something_else(
    served: Served,
) -> None:
    """By TCP: OpenSSL speaks of certificates in both, unless the server's reset is there before its alert; then the refusal says by
    which error it ended, and is not left empty."""
    async with HttpClient(served.url, trust=Trust(), transport="websocket") as client:
        with pytest.raises(ConfigError, match=r"is not trusted .*--ca"):
            await client.request("GET", "/")
    wants = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(served.ca))
    wants.load_cert_chain(served.ca.parent / "leaf.pem", served.ca.parent / "leaf.key")
    wants.verify_mode = ssl.CERT_REQUIRED
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0, ssl=wants)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        async with HttpClient(url, trust=Trust(ca=served.ca), transport="websocket") as client:
            with pytest.raises(StoreUnavailable, match=r"^no gateway answers at \S+: \S"):
                await client.request("GET", "/")
    finally:
        server.close()


async def test_requests_that_are_made_at_once_connect_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second connection would stand in the first one's place, which nobody would close."""
    made: list[Connection] = []

    class Connection:
        is_closed = False

        def close(self) -> None:
            self.is_closed = True

    async def connect(*args: object, **how: object) -> Connection:
        connection = Connection()
        await asyncio.sleep(0)
        made.append(connection)
        return connection

    monkeypatch.setattr(http, "connect", connect)
    async with HttpClient("https://gateway.example", trust=Trust(insecure=True)) as client:
        found = await asyncio.gather(*(client._connected() for _ in range(3)))
    assert found == made * 3
    assert [connection.is_closed for connection in made] == [True]
