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
    from gateway.client.connect import TransportChoice, Unanswered
    from gateway.client.counts import ReaderCounts
    from gateway.client.entities import ClientEntity, Entities, EntityChange
    from gateway.client.fetch import FetchedState, fetch_last
    from gateway.client.http import Answer, HttpClient
    from gateway.client.live import ConnectionEvent
    from gateway.client.past import Recordings
    from gateway.client.publisher import Publisher
    from gateway.client.sender import PublisherCounts
    from gateway.client.session import GrantEnded
    from gateway.client.subscriber import ReceivedFrame, Subscriber
    from gateway.client.token import NoToken
    from gateway.client.trust import Trust
    from gateway.errors import (
        BadInput,
        ConfigError,
        Conflict,
        Forbidden,
        GatewayError,
        Gone,
        MalformedMessage,
        NotFound,
        NothingRecorded,
        Overloaded,
        PreconditionFailed,
        PublisherPresent,
        ShuttingDown,
        StoreUnavailable,
        TooLarge,
        TooMany,
        Unauthorized,
        UnknownWorld,
        Unprocessable,
        WorldDeleted,
        WorldFull,
        WorldHeld,
    )
    from gateway.wire.entities.refusals import NotOwner
    from gateway.wire.entities.trades import NotEnough
    from gateway.wire.entities.transfers import InTransfer, TransferEnded

_HOMES = {
    "Address": "gateway.client.address",
    "Answer": "gateway.client.http",
    "BadInput": "gateway.errors",
    "ClientEntity": "gateway.client.entities",
    "ConfigError": "gateway.errors",
    "Conflict": "gateway.errors",
    "ConnectionEvent": "gateway.client.live",
    "DEFAULT_URL": "gateway.client.address",
    "Entities": "gateway.client.entities",
    "EntityChange": "gateway.client.entities",
    "FetchedState": "gateway.client.fetch",
    "Forbidden": "gateway.errors",
    "GatewayError": "gateway.errors",
    "Gone": "gateway.errors",
    "GrantEnded": "gateway.client.session",
    "HttpClient": "gateway.client.http",
    "InTransfer": "gateway.wire.entities.transfers",
    "MalformedMessage": "gateway.errors",
    "NoToken": "gateway.client.token",
    "NotEnough": "gateway.wire.entities.trades",
    "NotFound": "gateway.errors",
    "NotOwner": "gateway.wire.entities.refusals",
    "NothingRecorded": "gateway.errors",
    "Overloaded": "gateway.errors",
    "PreconditionFailed": "gateway.errors",
    "Publisher": "gateway.client.publisher",
    "PublisherCounts": "gateway.client.sender",
    "PublisherPresent": "gateway.errors",
    "ReaderCounts": "gateway.client.counts",
    "ReceivedFrame": "gateway.client.subscriber",
    "Recordings": "gateway.client.past",
    "ShuttingDown": "gateway.errors",
    "StoreUnavailable": "gateway.errors",
    "Subscriber": "gateway.client.subscriber",
    "TooLarge": "gateway.errors",
    "TooMany": "gateway.errors",
    "TransferEnded": "gateway.wire.entities.transfers",
    "TransportChoice": "gateway.client.connect",
    "Trust": "gateway.client.trust",
    "Unanswered": "gateway.client.connect",
    "Unauthorized": "gateway.errors",
    "UnknownWorld": "gateway.errors",
    "Unprocessable": "gateway.errors",
    "WorldDeleted": "gateway.errors",
    "WorldFull": "gateway.errors",
    "WorldHeld": "gateway.errors",
    "fetch_last": "gateway.client.fetch",
}
"""Where each public name lives, the errors that a client may get among them. They are imported when first asked for: who only
fetches does not pay for the sessions."""

__all__ = [
    "DEFAULT_URL",
    "Address",
    "Answer",
    "BadInput",
    "ClientEntity",
    "ConfigError",
    "Conflict",
    "ConnectionEvent",
    "Entities",
    "EntityChange",
    "FetchedState",
    "Forbidden",
    "GatewayError",
    "Gone",
    "GrantEnded",
    "HttpClient",
    "InTransfer",
    "MalformedMessage",
    "NoToken",
    "NotEnough",
    "NotFound",
    "NotOwner",
    "NothingRecorded",
    "Overloaded",
    "PreconditionFailed",
    "Publisher",
    "PublisherCounts",
    "PublisherPresent",
    "ReaderCounts",
    "ReceivedFrame",
    "Recordings",
    "ShuttingDown",
    "StoreUnavailable",
    "Subscriber",
    "TooLarge",
    "TooMany",
    "TransferEnded",
    "TransportChoice",
    "Trust",
    "Unanswered",
    "Unauthorized",
    "UnknownWorld",
    "Unprocessable",
    "WorldDeleted",
    "WorldFull",
    "WorldHeld",
    "fetch_last",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
