"""QUIC, HTTP/3 and WebTransport, on aioquic: the server's endpoint and the client's connection.

Room: quic. It speaks to ``core`` through :mod:`gateway.core.ports` and to ``http`` through ASGI.
"""

from gateway.quic.client import Client, connect, connect_webtransport, h3_request
from gateway.quic.h3.exchange import ConnectFailed, RequestFailed, Response, SessionRefused, WholeExchange
from gateway.quic.h3.webtransport import WebTransportLink
from gateway.quic.options import QuicOptions
from gateway.quic.server import ServerEndpoint, listen
from gateway.quic.tls import QuicTrust, ServerTls, TicketStore
from gateway.quic.udp.race import first_of, resolve

__all__ = [
    "Client",
    "ConnectFailed",
    "QuicOptions",
    "QuicTrust",
    "RequestFailed",
    "Response",
    "ServerEndpoint",
    "ServerTls",
    "SessionRefused",
    "TicketStore",
    "WebTransportLink",
    "WholeExchange",
    "connect",
    "connect_webtransport",
    "first_of",
    "h3_request",
    "listen",
    "resolve",
]
