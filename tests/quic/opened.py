"""1-RTT packets opened by RFC 9001 alone: neither aioquic's code nor the gateway's has a hand in it.

The secrets come from the TLS key log, as a packet capture's reader would have them.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

AES_128, AES_256, CHACHA20 = 0x1301, 0x1302, 0x1303
_HASHES = {AES_128: hashes.SHA256(), AES_256: hashes.SHA384(), CHACHA20: hashes.SHA256()}
_KEY_BYTES = {AES_128: 16, AES_256: 32, CHACHA20: 32}
_NAMES = {0x00: "padding", 0x01: "ping", 0x1E: "handshake_done", 0x10: "max_data"}


@dataclass(frozen=True)
class Opened:
    """One packet: its number, key phase, the names of its frames, the ranges of its ACK, its datagrams'
    contents, and all of its plain text."""

    number: int
    phase: int
    frames: tuple[str, ...]
    ack_ranges: int
    datagrams: tuple[bytes, ...]
    plain: bytes

    @property
    def kind(self) -> str:
        """Its frames, several of one name counted as one with an s, without padding."""
        names: list[str] = []
        for name in self.frames:
            if name == "padding":
                continue
            if names and names[-1].rstrip("s") == name:
                names[-1] = name + "s"
            else:
                names.append(name)
        return "+".join(names)


def log_secret(key_log: str, label: str) -> bytes:
    """A secret out of a key log (``SSLKEYLOGFILE``'s format)."""
    return next(bytes.fromhex(line.split()[2]) for line in key_log.splitlines() if line.startswith(label))


class Opener:
    """Opens packets of one direction that bear connection IDs of ``cid_bytes`` bytes."""

    def __init__(self, cipher: int, secret: bytes, cid_bytes: int = 8) -> None:
        self._cipher, self._cid_bytes = cipher, cid_bytes
        self._hp = self._expand(secret, b"quic hp", _KEY_BYTES[cipher])
        self._secrets = [secret, self._expand(secret, b"quic ku", _HASHES[cipher].digest_size)]
        self._largest = -1

    def _expand(self, secret: bytes, label: bytes, length: int) -> bytes:
        name = b"tls13 " + label
        info = length.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0"
        return HKDFExpand(algorithm=_HASHES[self._cipher], length=length, info=info).derive(secret)

    def _mask(self, sample: bytes) -> bytes:
        if self._cipher == CHACHA20:
            return Cipher(algorithms.ChaCha20(self._hp, sample), None).encryptor().update(bytes(5))
        return Cipher(algorithms.AES(self._hp), modes.ECB()).encryptor().update(sample)[:5]

    def open(self, packet: bytes) -> Opened | None:
        """The packet; ``None`` for a long header. Raises ``InvalidTag``, ``ValueError``."""
        if packet[0] & 0x80:
            return None
        at = 1 + self._cid_bytes
        mask = self._mask(packet[at + 4 : at + 20])
        first = packet[0] ^ (mask[0] & 0x1F)
        size = (first & 3) + 1
        low = bytes(a ^ b for a, b in zip(packet[at : at + size], mask[1:], strict=False))
        if first & 0x18 or not first & 0x40:
            raise ValueError("reserved bits")
        number = self._number(int.from_bytes(low, "big"), 8 * size)
        phase = first >> 2 & 1
        secret = self._secrets[phase]
        key = self._expand(secret, b"quic key", _KEY_BYTES[self._cipher])
        iv = self._expand(secret, b"quic iv", 12)
        nonce = (int.from_bytes(iv, "big") ^ number).to_bytes(12, "big")
        aead = ChaCha20Poly1305(key) if self._cipher == CHACHA20 else AESGCM(key)
        plain = aead.decrypt(nonce, packet[at + size :], bytes([first]) + packet[1:at] + low)
        self._largest = max(self._largest, number)
        frames, ranges, datagrams = _frames(plain)
        return Opened(number, phase, tuple(frames), ranges, tuple(datagrams), plain)

    def _number(self, low: int, bits: int) -> int:
        expected, window = self._largest + 1, 1 << bits
        near = (expected & ~(window - 1)) | low
        return min(
            (n for n in (near - window, near, near + window) if n >= 0), key=lambda n: abs(n - expected)
        )


def _frames(plain: bytes) -> tuple[list[str], int, list[bytes]]:
    names: list[str] = []
    ranges = 0
    datagrams: list[bytes] = []
    at = 0

    def integer() -> int:
        nonlocal at
        size = 1 << (plain[at] >> 6)
        if at + size > len(plain):
            raise ValueError("cut short")
        value = int.from_bytes(plain[at : at + size], "big") & ((1 << (8 * size - 2)) - 1)
        at += size
        return value

    def content(length: int) -> bytes:
        nonlocal at
        if at + length > len(plain):
            raise ValueError("cut short")
        at += length
        return plain[at - length : at]

    while at < len(plain):
        kind = integer()
        if kind in (0x00, 0x01, 0x1E):
            names.append(_NAMES[kind])
        elif kind in (0x02, 0x03):
            names.append("ack")
            integer()
            integer()
            ranges = integer() + 1
            for _ in range(2 * ranges - 1 + (3 if kind == 3 else 0)):
                integer()
        elif 0x08 <= kind <= 0x0F:
            names.append("stream")
            integer()
            if kind & 4:
                integer()
            content(integer() if kind & 2 else len(plain) - at)
        elif kind in (0x30, 0x31):
            names.append("datagram")
            datagrams.append(content(integer() if kind & 1 else len(plain) - at))
        elif kind == 0x18:
            names.append("new_connection_id")
            integer()
            integer()
            content(integer() + 16)
        elif kind == 0x06:
            names.append("crypto")
            integer()
            content(integer())
        else:
            names.append(_NAMES.get(kind, f"other {kind:#x}"))
            return names, ranges, datagrams
    return names, ranges, datagrams
