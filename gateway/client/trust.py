"""Whom the client believes: a CA file, a pinned certificate, the system's roots, or anyone.

Room: client. Environment: ``MVGATEWAY_CA`` and ``MVGATEWAY_CERTIFICATE_SHA256`` stand in for the
arguments where neither is given.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway import quic
from gateway.errors import ConfigError
from gateway.givenfiles import read_given

ENV_CA = "MVGATEWAY_CA"
ENV_CERTIFICATE_SHA256 = "MVGATEWAY_CERTIFICATE_SHA256"


class CertificateRefused(ssl.SSLCertVerificationError):
    """The server's certificate is not the pinned one."""


@dataclass(frozen=True, slots=True)
class Trust:
    """One decision for both transports. At most one of the three is set; none: the system's roots.

    ``certificate_sha256``: the 32-byte SHA-256 of the leaf certificate in DER, as the gateway
    tells at ``/certificate.sha256`` and a browser takes in ``serverCertificateHashes``.
    """

    ca: Path | None = None
    certificate_sha256: bytes | None = None
    insecure: bool = False

    @classmethod
    def of(
        cls,
        *,
        ca: str | Path | None = None,
        certificate_sha256: str | bytes | None = None,
        insecure: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> Trust:
        """Build it from arguments, or else from ``environ`` (default: the process's).
        Raises :class:`ConfigError` for a file that is missing or holds no certificate, or a hash that is not 64 hex digits."""
        if insecure:
            return cls(insecure=True)
        env = os.environ if environ is None else environ
        if ca is None and certificate_sha256 is None:
            ca, certificate_sha256 = env.get(ENV_CA) or None, env.get(ENV_CERTIFICATE_SHA256) or None
        if certificate_sha256 is not None:
            return cls(certificate_sha256=_hash(certificate_sha256))
        if ca is None:
            return cls()
        if not Path(ca).is_file():
            raise ConfigError(f"no CA file at {ca}; --ca names the gateway's ca.pem (in its --certs folder)")
        _check_ca(Path(ca))
        return cls(ca=Path(ca))

    def ssl_context(self) -> ssl.SSLContext:
        """A TLS client context for TCP that enforces this decision, the pin included."""
        if self.certificate_sha256 is not None:
            return _PinningContext.pinned_to(self.certificate_sha256)
        context = ssl.create_default_context(cafile=str(self.ca) if self.ca else None)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def for_quic(self) -> quic.QuicTrust:
        """The same decision in the form that QUIC connections take."""
        pins = frozenset({self.certificate_sha256} if self.certificate_sha256 else ())
        ca_pem = read_given(self.ca) if self.ca else None
        return quic.QuicTrust(ca_pem=ca_pem, certificate_hashes=pins, insecure=self.insecure)

    def check(self, certificate_der: bytes | None) -> None:
        """Compare a leaf certificate with the pin, if there is one. Raises :class:`CertificateRefused`."""
        if self.certificate_sha256 is None:
            return
        seen = hashlib.sha256(certificate_der or b"").digest()
        if not hmac.compare_digest(seen, self.certificate_sha256):
            raise CertificateRefused(
                f"the certificate's SHA-256 is {seen.hex()}, expected {self.certificate_sha256.hex()}; "
                "the gateway renews it every few days: read /certificate.sha256 again, or trust its CA with --ca"
            )


def _check_ca(ca: Path) -> None:
    """Whether TLS will take it: said before a gateway is asked, and not once for each attempt to connect."""
    try:
        read_given(ca)
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=str(ca))
    except ssl.SSLError:
        raise ConfigError(
            f"the CA file {ca} holds no certificate in PEM; --ca names the gateway's ca.pem"
        ) from None
    except OSError as error:
        raise ConfigError(f"the CA file {ca} cannot be read: {error.strerror}") from None


def _hash(value: str | bytes) -> bytes:
    try:
        digest = value if isinstance(value, bytes) else bytes.fromhex(value.replace(":", "").strip())
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise ConfigError(f"--certificate-sha256 takes 64 hex digits, not {value!r}")
    return digest


class _PinnedObject(ssl.SSLObject):
    """TLS over memory (asyncio, uvloop): checks the pin before a byte of the request is sent."""

    def do_handshake(self) -> None:
        # Here and not after the connection is made: by then the first bytes of the request may have gone.
        super().do_handshake()
        _check_pin(self.context, self.getpeercert(binary_form=True))


class _PinnedSocket(ssl.SSLSocket):
    """TLS over a blocking socket, the same."""

    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        _check_pin(self.context, self.getpeercert(binary_form=True))


class _PinningContext(ssl.SSLContext):
    sslobject_class = _PinnedObject
    sslsocket_class = _PinnedSocket
    pin: bytes

    @classmethod
    def pinned_to(cls, digest: bytes) -> _PinningContext:
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        # The pin says all: a certificate for that hash is right, whatever name or time it bears.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.pin = digest
        return context


def _check_pin(context: ssl.SSLContext, certificate_der: bytes | None) -> None:
    assert isinstance(context, _PinningContext)
    Trust(certificate_sha256=context.pin).check(certificate_der)
