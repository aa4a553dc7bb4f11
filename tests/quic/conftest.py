"""What the tests of the QUIC room share: a certificate, an application, doors that record."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from gateway.core.ports import Link
from gateway.errors import UnknownWorld
from gateway.quic import QuicTrust, ServerTls


@dataclass(frozen=True)
class Identity:
    cert_pem: bytes
    key_pem: bytes
    leaf_hash: bytes

    def server(self) -> ServerTls:
        return ServerTls(self.cert_pem, self.key_pem)

    def trust(self) -> QuicTrust:
        return QuicTrust(ca_pem=self.cert_pem)


def make_identity() -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=13))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Identity(
        cert.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        hashlib.sha256(cert.public_bytes(Encoding.DER)).digest(),
    )


@pytest.fixture(scope="session")
def identity() -> Identity:
    return make_identity()


@dataclass
class RecordingSession:
    """Keeps what it is told; ``on_change`` is called after each call."""

    link: Any
    """The link that the doors were given, with what only that kind of link has."""
    messages: list[bytes] = field(default_factory=list)
    streams: dict[int, bytes] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    resets: list[int] = field(default_factory=list)
    acked: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    writable: int = 0
    closed: int = 0
    echo: bool = False

    def on_message(self, data: bytes, mono: float) -> None:
        self.messages.append(data)
        if self.echo:
            self.link.send(data, len(self.messages))

    def on_stream_data(self, stream_id: int, data: bytes, fin: bool, mono: float) -> None:
        self.streams[stream_id] = self.streams.get(stream_id, b"") + data
        if fin:
            self.ended.add(stream_id)

    def on_stream_reset(self, stream_id: int) -> None:
        self.resets.append(stream_id)

    def on_acked(self, token: int, count: int = 1) -> None:
        self.acked.extend(range(token, token + count))

    def on_lost(self, token: int) -> None:
        self.lost.append(token)

    def on_writable(self, mono: float) -> None:
        self.writable += 1

    def on_closed(self, mono: float) -> None:
        self.closed += 1


class RecordingDoors:
    """Opens ``/v1/worlds/{name}/live``; the world ``nowhere`` does not exist."""

    def __init__(self, *, echo: bool = False) -> None:
        self.sessions: list[RecordingSession] = []
        self.asked: list[tuple[str, str, Mapping[str, str]]] = []
        self.echo = echo

    async def open_at(
        self, path: str, query: str, headers: Mapping[str, str], link: Link
    ) -> RecordingSession:
        self.asked.append((path, query, headers))
        if "nowhere" in path:
            raise UnknownWorld("there is no world 'nowhere'; create it with PUT")
        if "half" in path:
            link.control(b"\x10{}")
            raise UnknownWorld("it went away meanwhile")
        session = RecordingSession(link, echo=self.echo)
        self.sessions.append(session)
        return session


Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class App:
    """A small ASGI application with one behaviour a path."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.disconnects = 0
        self.read = 0

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        await getattr(self, "on_" + scope["path"].strip("/").replace("/", "_"), self.on_missing)(
            scope, receive, send
        )

    async def on_missing(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await self._answer(send, 404, b"no such path")

    async def on_hello(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await self._answer(send, 200, b"hello")

    async def on_stat(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await self._answer(send, 200, b"stat")

    async def on_echo(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-kind", b"echo")]})
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnects += 1
                return
            more = message["more_body"]
            self.read += len(message["body"])
            await send({"type": "http.response.body", "body": message["body"], "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def on_big(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(int(scope["query_string"] or b"64")):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            self.read += 65536
        await send({"type": "http.response.body", "body": b""})

    async def on_wait(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.disconnects += 1

    async def on_break(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        raise ValueError("on purpose")

    @staticmethod
    async def _answer(send: Send, status: int, body: bytes) -> None:
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
