"""The keys of 1-RTT packets, and their update, with the old ones kept for what was on its way. Room: quic.

Old receive keys are kept until a packet came under the new ones and three probe timeouts more, and packet numbers tell
which of the two to use. The next ones are worked out once, whoever claims to use them. Sources: RFC 9001 sections 5, 6.1,
6.3 and 6.5.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from aioquic.quic.crypto import derive_key_iv_hp
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import CipherSuite, cipher_suite_hash, hkdf_expand_label
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

OLD_KEYS_PTOS = 3
"""Probe timeouts for which old keys outlive the first packet under the new ones (RFC 9001 section 6.5)."""

Cipherer = Callable[[bytes, bytes, bytes], bytes]
"""Encrypts or decrypts: nonce, content, what is authenticated beside it."""
Masks = Callable[[bytes], bytes]
"""Header protection: the masks of samples of 16 bytes each, 16 bytes a mask."""
Sealing = tuple[Cipherer, int, Masks]
"""What seals, or opens: the AEAD, its IV as an integer, and the masks."""


class Secret(NamedTuple):
    """What TLS gives for one direction. ``protection``: the secret that header protection is made of, which no update
    changes (RFC 9001 section 6.1); ``secret``: of the packets now."""

    suite: CipherSuite
    version: int
    protection: bytes
    secret: bytes


def _aead(key: bytes, suite: CipherSuite) -> AESGCM | ChaCha20Poly1305:
    return ChaCha20Poly1305(key) if suite == CipherSuite.CHACHA20_POLY1305_SHA256 else AESGCM(key)


def _masks(key: bytes, suite: CipherSuite) -> Masks:
    if suite == CipherSuite.CHACHA20_POLY1305_SHA256:
        return partial(_each_mask, key)
    # One encryptor for all packets: ECB has no state between blocks, and making one costs as much as several masks.
    masks: Masks = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update
    return masks


def _each_mask(key: bytes, samples: bytes) -> bytes:
    """ChaCha20's masks, which are worked out one by one."""
    masks = []
    for at in range(0, len(samples), 16):
        encryptor = Cipher(algorithms.ChaCha20(key, samples[at : at + 16]), None).encryptor()
        masks.append(encryptor.update(bytes(16)))
    return b"".join(masks)


def sealing(one: Secret, *, opens: bool) -> Sealing:
    """What opens or seals the packets of one direction. RFC 9001 section 5.3."""
    key, iv, protection = derive_key_iv_hp(cipher_suite=one.suite, secret=one.secret, version=one.version)
    # After an update: the header's key stays that of the first secret.
    if one.protection != one.secret:
        _, _, protection = derive_key_iv_hp(
            cipher_suite=one.suite, secret=one.protection, version=one.version
        )
    aead = _aead(key, one.suite)
    return aead.decrypt if opens else aead.encrypt, int.from_bytes(iv, "big"), _masks(protection, one.suite)


def updated(one: Secret) -> Secret:
    """The next secret of this direction (RFC 9001 section 6.1)."""
    algorithm = cipher_suite_hash(one.suite)
    label = b"quicv2 ku" if one.version == QuicProtocolVersion.VERSION_2 else b"quic ku"
    return one._replace(secret=hkdf_expand_label(algorithm, one.secret, label, b"", algorithm.digest_size))


class Keys:
    """Both directions of one connection. ``opening`` and ``sealing`` are of the phase now, ``bits`` its bit of the first
    byte. ``old``: what opens packets of the phase before, while they may still come."""

    __slots__ = (
        "_first_number",
        "_next",
        "_old_until",
        "_receiving",
        "_sending",
        "bits",
        "old",
        "opening",
        "sealing",
    )

    def __init__(self, receiving: Secret, sending: Secret, phase: int = 0) -> None:
        self._receiving, self._sending = receiving, sending
        self.opening = sealing(receiving, opens=True)
        self.sealing = sealing(sending, opens=False)
        self.bits = phase << 2
        self.old: Sealing | None = None
        self._old_until: float | None = None
        self._first_number: int | None = None
        self._next: Sealing | None = None

    @property
    def phase(self) -> int:
        """0 or 1. RFC 9001 section 6."""
        return self.bits >> 2

    @property
    def is_settled(self) -> bool:
        """Whether the last update is over, so that another may begin (RFC 9001 section 6.5)."""
        return self.old is None

    def open(self, number: int, header: bytes, sealed: bytes, now: float, pto_s: float) -> bytes:
        """The content of a packet, of whichever phase its ``header`` says; a packet of the next phase has the keys
        updated. Raises ``InvalidTag``. ``pto_s``: the probe timeout, in seconds. RFC 9001 section 6.5."""
        if self._old_until is not None and now >= self._old_until:
            self.old = self._old_until = None
        nonce_of = number
        # 0x04 is the key phase (RFC 9000 section 17.3.1).
        if header[0] & 4 == self.bits:
            decrypt, iv, _ = self.opening
            plain = decrypt((iv ^ nonce_of).to_bytes(12, "big"), sealed, header)
            if self.old is not None:
                self._note_current(number, now, pto_s)
            return plain
        # The phase is one bit: an unlike one means the last keys or the next. Packets numbered below the first under the keys
        # of now are old ones that were late (RFC 9001 section 6.5).
        if self.old is not None and (self._first_number is None or number < self._first_number):
            decrypt, iv, _ = self.old
            return decrypt((iv ^ nonce_of).to_bytes(12, "big"), sealed, header)
        decrypt, iv, _ = self._following()
        plain = decrypt((iv ^ nonce_of).to_bytes(12, "big"), sealed, header)
        self.update()
        self._note_current(number, now, pto_s)
        return plain

    def _note_current(self, number: int, now: float, pto_s: float) -> None:
        """A packet came under the keys of now: from its number on none is of the old."""
        if self._first_number is None or number < self._first_number:
            self._first_number = number
        if self._old_until is None:
            self._old_until = now + OLD_KEYS_PTOS * pto_s

    def _following(self) -> Sealing:
        # Kept, though the packet may be forged: who sends many with the other phase bit must not have a key derived
        # for each, nor learn from the time it takes that one was (RFC 9001 section 9.5).
        if self._next is None:
            fresh, _, _ = sealing(updated(self._receiving), opens=True), None, None
            # Header protection stays as it was: the phase bit must be readable before one knows which keys to use (RFC 9001 section 6.1).
            self._next = (fresh[0], fresh[1], self.opening[2])
        return self._next

    def update(self) -> None:
        """Go on with the next keys, both ways. RFC 9001 section 6.1."""
        following = self._following()
        self.old, self._old_until, self._first_number = self.opening, None, None
        self._receiving, self._sending = updated(self._receiving), updated(self._sending)
        self.opening, self._next = following, None
        encrypt, iv, _ = sealing(self._sending, opens=False)
        self.sealing = (encrypt, iv, self.sealing[2])
        self.bits ^= 4


__all__ = ["InvalidTag", "Keys", "Sealing", "Secret", "sealing", "updated"]
