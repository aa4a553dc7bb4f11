"""What the client's plain requests read of an answer, by HTTP/3 and by TCP."""

from __future__ import annotations

import pytest

from gateway import limits
from gateway.client import HttpClient, Trust
from gateway.client.connect import TransportChoice
from gateway.errors import TooLarge
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
