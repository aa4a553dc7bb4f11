"""The Python client: publish a world, follow it, fetch its last synced state. Room: client.

    async with Publisher(url, "arena", ca="certs/ca.pem") as pub:
        pub.send({1: b"newest bytes of record 1"})

HTTP/3 and WebTransport first, TCP when UDP gets no answer. ``docs/CLIENTS.md`` tells more.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.client.address import DEFAULT_URL, Address
    from gateway.client.connect import TransportChoice
    from gateway.client.counts import ReaderCounts
    from gateway.client.entities import Entities
    from gateway.client.fetch import FetchedState, fetch_last
    from gateway.client.http import Answer, HttpClient
    from gateway.client.publisher import Publisher
    from gateway.client.sender import PublisherCounts
    from gateway.client.subscriber import ReceivedFrame, Subscriber
    from gateway.client.trust import Trust

_HOMES = {
    "DEFAULT_URL": "address",
    "Address": "address",
    "Answer": "http",
    "Entities": "entities",
    "FetchedState": "fetch",
    "HttpClient": "http",
    "Publisher": "publisher",
    "PublisherCounts": "sender",
    "ReaderCounts": "counts",
    "ReceivedFrame": "subscriber",
    "Subscriber": "subscriber",
    "TransportChoice": "connect",
    "Trust": "trust",
    "fetch_last": "fetch",
}
"""Where each public name lives. They are imported when first asked for: a gateway that only opens a
store does not pay for the sessions."""

__all__ = [
    "DEFAULT_URL",
    "Address",
    "Answer",
    "Entities",
    "FetchedState",
    "HttpClient",
    "Publisher",
    "PublisherCounts",
    "ReaderCounts",
    "ReceivedFrame",
    "Subscriber",
    "TransportChoice",
    "Trust",
    "fetch_last",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
