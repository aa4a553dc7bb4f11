"""A remote store: mvstore, or another gateway, behind any HTTP transport. Room: store.

:class:`RemoteStore` speaks the protocol, :class:`Transport` is what carries it:
:class:`TcpTransport` here (HTTP/1.1; by :class:`HttpxTransport` HTTP/2), HTTP/3 in the room ``client``.
"""

from gateway.store.remote.addresses import Addresses, Backoff
from gateway.store.remote.admin import AdminApi, AdminNeeded
from gateway.store.remote.blocking import BlockingBridge
from gateway.store.remote.engine import RemoteOptions, RemoteStore
from gateway.store.remote.http import HttpxTransport
from gateway.store.remote.tcp import TcpTransport
from gateway.store.remote.transport import Ask, StoreAnswer, Transport

__all__ = [
    "Addresses",
    "AdminApi",
    "AdminNeeded",
    "Ask",
    "Backoff",
    "BlockingBridge",
    "HttpxTransport",
    "RemoteOptions",
    "RemoteStore",
    "StoreAnswer",
    "TcpTransport",
    "Transport",
]
