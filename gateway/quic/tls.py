"""Certificates, trust and session tickets of QUIC endpoints. Room: quic.

A :class:`ServerTls` can be given another certificate while it serves: connections made from then
on use it. A :class:`QuicTrust` says whom a client believes: a CA, certificates by their hash (as
browsers pin them), or anybody.
"""

from __future__ import annotations

import hashlib
import ssl
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from aioquic.quic.configuration import QuicConfiguration
from aioquic.tls import SessionTicket, load_pem_private_key, load_pem_x509_certificates
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509 import Certificate

from gateway import limits
from gateway.errors import ConfigError
from gateway.givenfiles import read_given
from gateway.quic.connection.seam import prepare
from gateway.quic.h3.codes import ALPN
from gateway.quic.options import QuicOptions

DATAGRAM_FRAME_BYTES_MAX = 65_535
"""Announced to peers: no bound beyond the UDP payload (RFC 9221 section 3)."""


class TicketStore:
    """Session tickets of one server, each good for one resumption, so that 0-RTT cannot be replayed
    to this process (RFC 8446 section 8.1). Bounded: the oldest goes first."""

    def __init__(self, entries_max: int = limits.QUIC_TICKETS_MAX) -> None:
        self._tickets: OrderedDict[bytes, SessionTicket] = OrderedDict()
        self._entries_max = entries_max

    def add(self, ticket: SessionTicket) -> None:
        self._tickets[ticket.ticket] = ticket
        while len(self._tickets) > self._entries_max:
            self._tickets.popitem(last=False)

    def pop(self, label: bytes) -> SessionTicket | None:
        return self._tickets.pop(label, None)

    def __len__(self) -> int:
        return len(self._tickets)


class ServerTls:
    """A server's identity: PEM chain (leaf first) and PEM private key. Raises ``ConfigError``."""

    def __init__(self, cert_pem: bytes, key_pem: bytes, *, tickets: TicketStore | None = None) -> None:
        self.tickets = tickets if tickets is not None else TicketStore()
        self._chain, self._key = _load(cert_pem, key_pem)
        self._made: dict[QuicOptions, QuicConfiguration] = {}

    @classmethod
    def from_files(cls, cert: Path | str, key: Path | str) -> ServerTls:
        """Read both files once; call :meth:`replace` when they change."""
        try:
            return cls(read_given(cert), read_given(key))
        except OSError as exc:
            raise ConfigError(f"cannot read {exc.filename}: {exc.strerror}; give --cert and --key") from exc

    def replace(self, cert_pem: bytes, key_pem: bytes) -> None:
        """Serve this certificate to connections made from now on; the old one stays on failure."""
        self._chain, self._key = _load(cert_pem, key_pem)
        # Made anew with the next connection; those that are being made hold the one that they began with.
        self._made.clear()

    def configuration(self, options: QuicOptions) -> QuicConfiguration:
        """aioquic's form of it, shared by all connections made with one certificate."""
        configuration = self._made.get(options)
        if configuration is None:
            configuration = self._made[options] = _configuration(options, is_client=False)
            configuration.certificate = self._chain[0]
            configuration.certificate_chain = self._chain[1:]
            configuration.private_key = self._key
        return configuration


@dataclass(frozen=True, slots=True)
class QuicTrust:
    """Whom a client believes. ``certificate_hashes``: SHA-256 of the leaf's DER, 32 bytes each; any
    one of them is enough and nothing else is asked. With nothing given: the system's authorities.
    Hashes: WebTransport's ``serverCertificateHashes`` (https://www.w3.org/TR/webtransport/)."""

    ca_pem: bytes | None = None
    certificate_hashes: frozenset[bytes] = frozenset()
    insecure: bool = False

    def configuration(
        self, server_name: str, options: QuicOptions, ticket: SessionTicket | None
    ) -> QuicConfiguration:
        """aioquic's form of it for one connection."""
        configuration = _configuration(options, is_client=True)
        configuration.server_name = server_name
        configuration.session_ticket = ticket
        if self.ca_pem is not None:
            configuration.load_verify_locations(cadata=self.ca_pem)
        if self.insecure or self.certificate_hashes:
            # A pinned certificate need not have an authority: in place of the chain its hash is looked at, when the
            # handshake is done (accepts).
            configuration.verify_mode = ssl.CERT_NONE
        return configuration

    def accepts(self, leaf_der: bytes | None) -> bool:
        """Whether the leaf is one of the pinned ones, where some are pinned. ``None``: resumed from
        a ticket, which only a server believed earlier could have given."""
        if not self.certificate_hashes or leaf_der is None:
            return True
        return hashlib.sha256(leaf_der).digest() in self.certificate_hashes


def _load(cert_pem: bytes, key_pem: bytes) -> tuple[list[Certificate], PrivateKeyTypes]:
    try:
        chain = load_pem_x509_certificates(cert_pem)
        key = load_pem_private_key(key_pem)
    except (ValueError, TypeError) as exc:
        raise ConfigError(f"the certificate or its key is not PEM ({exc}); give --cert and --key") from exc
    if not chain:
        raise ConfigError("the certificate file holds no certificate; give --cert a PEM chain, leaf first")
    if chain[0].public_key() != key.public_key():
        raise ConfigError(
            "the private key does not belong to the certificate; give --cert and --key of one pair"
        )
    return chain, key


def _configuration(options: QuicOptions, *, is_client: bool) -> QuicConfiguration:
    prepare()
    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=[ALPN],
        congestion_control_algorithm=options.congestion,
        idle_timeout=options.idle_timeout_s,
        max_data=limits.QUIC_CLIENT_CONNECTION_WINDOW_BYTES
        if is_client
        else limits.QUIC_CONNECTION_WINDOW_BYTES,
        max_stream_data=limits.QUIC_CLIENT_STREAM_WINDOW_BYTES
        if is_client
        else limits.QUIC_STREAM_WINDOW_BYTES,
        max_datagram_size=options.max_datagram_size,
        max_datagram_frame_size=DATAGRAM_FRAME_BYTES_MAX,
    )
