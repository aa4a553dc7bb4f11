"""Certificates: a local CA and a short-lived leaf of our own, or the user's files. Room: runtime.

The leaf is ECDSA P-256 and valid for 13 days, so that browsers accept it by its hash
(WebTransport's ``serverCertificateHashes`` takes less than 14 days); it is renewed three days
before it runs out, without a restart. The user's own files are read again when they change.
Sources: RFC 5280; https://www.w3.org/TR/webtransport/.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import ssl
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway import limits
from gateway.config import Settings
from gateway.errors import ConfigError
from gateway.givenfiles import read_given
from gateway.runtime.access.clientcerts import ask_clients
from gateway.runtime.folderlock import locked, write_whole

CA_CERT, CA_KEY, LEAF_CERT, LEAF_KEY = "ca.pem", "ca.key", "leaf.pem", "leaf.key"
log = logging.getLogger("mvgateway.certs")

_Stamp = tuple[tuple[int, int], ...]
CA_BEGUN = timedelta(days=30)
"""How long before it was made it begins: clients have its file, and a clock that was ahead is to cost them nothing."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A leaf with its chain and key, PEM, and what there is to know about it."""

    cert_pem: bytes
    key_pem: bytes
    sha256: str
    """Hex digest of the leaf's DER form: what a browser is given."""
    not_after: datetime
    names: tuple[str, ...]
    not_before: datetime


def names_for(host: str) -> tuple[str, ...]:
    """The leaf's subject names: localhost, both loopback addresses, and the listen address."""
    fixed = ("localhost", "127.0.0.1", "::1")
    return fixed if host in (*fixed, "0.0.0.0", "::") else (*fixed, host)


def read_pair(cert_path: Path, key_path: Path, now: datetime, flags: str = "--cert/--key") -> Certificate:
    """Read and check a certificate and its key. Raises :class:`ConfigError` naming ``flags``."""
    try:
        cert_pem, key_pem = read_given(cert_path), read_given(key_path)
    except OSError as error:
        raise ConfigError(f"{flags}: {error.filename}: {error.strerror}") from None
    try:
        leaf = x509.load_pem_x509_certificates(cert_pem)[0]
        key = serialization.load_pem_private_key(key_pem, None)
    except (ValueError, TypeError, IndexError) as error:
        raise ConfigError(
            f"{flags}: {cert_path} and {key_path} are not a PEM certificate and key: {error}"
        ) from None
    if key.public_key() != leaf.public_key():
        raise ConfigError(f"{flags}: the key {key_path} does not belong to the certificate {cert_path}")
    if leaf.not_valid_after_utc <= now:
        raise ConfigError(
            f"{flags}: the certificate {cert_path} expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; "
            "renew it, or leave both flags out to have the gateway make its own"
        )
    if leaf.not_valid_before_utc > now + timedelta(minutes=5):
        raise ConfigError(
            f"{flags}: the certificate {cert_path} is not valid before {leaf.not_valid_before_utc} UTC"
        )
    return _described(cert_pem, key_pem, leaf)


def _described(cert_pem: bytes, key_pem: bytes, leaf: x509.Certificate) -> Certificate:
    digest = hashlib.sha256(leaf.public_bytes(serialization.Encoding.DER)).hexdigest()
    valid = leaf.not_valid_after_utc, leaf.not_valid_before_utc
    return Certificate(cert_pem, key_pem, digest, valid[0], _names_of(leaf), valid[1])


def _names_of(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names)


def ensure_own(folder: Path, host: str, now: datetime, *, renew: bool = False) -> Certificate:
    """The gateway's own leaf, made (with its CA) where it is missing, running out, or for another address.

    Several processes may do so in one folder at once: one makes what all of them then use. ``renew``: a leaf made after
    this call began. Raises :class:`ConfigError` naming ``--certs`` where the folder cannot be used.
    RFC 5280 section 4.2.
    """
    # Before the lock: what another makes while this one waits for it is new enough.
    seen = _bytes_of(folder / LEAF_CERT) if renew else None
    with _own_folder(folder):
        renewed = renew and _bytes_of(folder / LEAF_CERT) != seen  # by another, while this one waited
        return _ensure(folder, host, now, renew=renew and not renewed)


@contextmanager
def _own_folder(folder: Path, wait_s: float = limits.FOLDER_LOCK_S) -> Iterator[None]:
    """Made where it is missing, and locked: nobody else is between writing a key and its certificate."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, wait_s):
            yield
    except OSError as error:
        raise ConfigError(
            f"--certs {folder}: {error.strerror}; name a folder that can be written to"
        ) from None


def _ensure(folder: Path, host: str, now: datetime, *, renew: bool = False) -> Certificate:
    present = None if renew else _present(folder, host, now)
    return present or _make_leaf(folder, host, now)


def _bytes_of(path: Path) -> bytes | None:
    try:
        return read_given(path)
    except OSError:
        return None


def _present(folder: Path, host: str, now: datetime) -> Certificate | None:
    try:
        own = read_pair(folder / LEAF_CERT, folder / LEAF_KEY, now)
    except ConfigError:
        return None
    fresh = own.not_after - now > timedelta(days=limits.CERTIFICATE_RENEW_DAYS)
    begun = own.not_before <= now  # not so where it was made while the clock was ahead
    return own if fresh and begun and set(names_for(host)) <= set(own.names) else None


def _make_leaf(folder: Path, host: str, now: datetime) -> Certificate:
    ca, ca_key = _ensure_ca(folder, now)
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = (
        _builder("mvgateway", ca.subject, key, now, timedelta(days=limits.CERTIFICATE_DAYS))
        .add_extension(
            x509.SubjectAlternativeName([_general_name(n) for n in names_for(host)]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            # Python 3.13's default context is strict and asks for it (ssl.VERIFY_X509_STRICT; RFC 5280 section
            # 4.2.1.1).
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    cert_pem, key_pem = leaf.public_bytes(pem) + ca.public_bytes(pem), _key_pem(key)
    # The key first: a run that dies in between leaves a pair that does not match, which read_pair() refuses and
    # _ensure() replaces.
    write_whole(folder / LEAF_KEY, key_pem, 0o600)
    write_whole(folder / LEAF_CERT, cert_pem, 0o644)
    return _described(cert_pem, key_pem, leaf)


def _ensure_ca(folder: Path, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        ca = x509.load_pem_x509_certificate(read_given(folder / CA_CERT))
        ca_key = serialization.load_pem_private_key(read_given(folder / CA_KEY), None)
        lasts = (
            ca.not_valid_before_utc <= now < ca.not_valid_after_utc - timedelta(days=limits.CERTIFICATE_DAYS)
        )
        if (
            lasts
            and isinstance(ca_key, ec.EllipticCurvePrivateKey)
            and ca_key.public_key() == ca.public_key()
        ):
            return ca, ca_key
    except (FileNotFoundError, ValueError, TypeError):
        pass
    return _make_ca(folder, now)


def _make_ca(folder: Path, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = "mvgateway local CA"
    # keyCertSign and cRLSign, all that a CA is for (RFC 5280 section 4.2.1.3).
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    ca = (
        _builder(
            name, _name(name), key, now, timedelta(days=limits.CERTIFICATE_AUTHORITY_DAYS), begun=CA_BEGUN
        )
        # No CA below it (RFC 5280 section 4.2.1.9): the key can sign leaves only.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_whole(folder / CA_KEY, _key_pem(key), 0o600)
    write_whole(folder / CA_CERT, ca.public_bytes(serialization.Encoding.PEM), 0o644)
    return ca, key


def _builder(
    subject: str,
    issuer: x509.Name,
    key: CertificateIssuerPrivateKeyTypes,
    now: datetime,
    life: timedelta,
    *,
    begun: timedelta = timedelta(minutes=5),
) -> x509.CertificateBuilder:
    start = now - begun
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + life)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def tls_context(cert_path: Path, key_path: Path, flag: str = "--cert", client_ca: str = "") -> ssl.SSLContext:
    """TLS 1.2 and 1.3 for the TCP side, offering HTTP/2 and HTTP/1.1. ``client_ca``: clients are asked for a certificate
    of that CA, and need none. Raises :class:`ConfigError` naming the flag. RFC 8446; RFC 7301."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Compression gives away secrets by length (CRIME), and renegotiation lets a client have us do the costly half
    # again.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # Of TLS 1.2 only what HTTP/2 allows (RFC 9113 section 9.2.2); TLS 1.3's are not touched by it.
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        context.load_cert_chain(cert_path, key_path)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"{flag} {cert_path}: TLS cannot use it: {error}") from None
    if client_ca:
        ask_clients(context, Path(client_ca))
    return context


class Certificates:
    """The certificate in use. Call :meth:`refresh` now and then; ``on_change`` hears of a new one."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._host = settings.host
        self._own = not settings.cert
        self._client_ca = settings.client_ca
        folder = Path(settings.certs)
        self.ca_path = folder / CA_CERT if self._own else None
        self.cert_path = folder / LEAF_CERT if self._own else Path(settings.cert)
        self.key_path = folder / LEAF_KEY if self._own else Path(settings.key)
        self._folder = folder
        self.on_change: Callable[[Certificate], None] = lambda certificate: None
        self.current, self.context, self._seen = self._load(limits.FOLDER_LOCK_S)
        self._say_who_reads_the_key()

    def _say_who_reads_the_key(self) -> None:
        keys = [self.key_path, *([self._folder / CA_KEY] if self._own else ())]
        for path in keys:
            if path.exists() and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
                log.warning(
                    "the private key %s is open to other users of this machine (%o): chmod 600 it", path, mode
                )

    def _load(self, wait_s: float) -> tuple[Certificate, ssl.SSLContext, _Stamp]:
        """Both sides' certificate, and what its files looked like. Of the own folder all three are of one leaf; the
        user's may change at any time, which the stamp from before then tells at the next look."""
        now = self._clock()
        if self._own:
            with _own_folder(self._folder, wait_s):
                own = _ensure(self._folder, self._host, now)
                return own, self._context("--certs"), self._stamp()
        # Before they are read: a change in between shows as another stamp at the next look.
        stamp = self._stamp()
        theirs = read_pair(self.cert_path, self.key_path, now)
        return theirs, self._context("--cert"), stamp

    def _context(self, flag: str) -> ssl.SSLContext:
        return tls_context(self.cert_path, self.key_path, flag, self._client_ca)

    def _stamp(self) -> _Stamp:
        """Changes with the files; empty where one is missing."""
        try:
            stats = [path.stat() for path in (self.cert_path, self.key_path)]
        except OSError:
            return ()
        # The inode too: a file that was put in its place by rename may bear an old time.
        return tuple((s.st_mtime_ns, s.st_ino) for s in stats)

    def refresh(self) -> bool:
        """Renew or reload what needs it; True if there is a new certificate.

        Raises :class:`ConfigError` where the changed files are unusable: the old one stays in use.
        """
        now = self._clock()
        left = self.current.not_after - now
        runs_out = left < timedelta(days=limits.CERTIFICATE_RENEW_DAYS)
        due = self._own and (runs_out or self.current.not_before > now)  # made while the clock was ahead
        stamp = self._stamp()
        is_gone = not stamp and not self._own  # the user's own files: what is in use goes on
        if not due and (is_gone or stamp == self._seen):
            return False
        fresh, self.context, self._seen = self._load(limits.FOLDER_LOCK_RUNNING_S)
        changed = fresh.sha256 != self.current.sha256
        self.current = fresh
        if changed:
            self.on_change(fresh)
        return changed


__all__ = ["Certificate", "Certificates", "ensure_own", "names_for", "read_pair", "tls_context"]
