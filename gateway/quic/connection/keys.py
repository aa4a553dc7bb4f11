"""The keys of 1-RTT packets, with the old ones kept for what was on its way when they changed. Room: quic.

aioquic forgets the keys of a phase the moment the next one begins. Packets that were overtaken are then lost; and
after an update that began here, all that the peer sends until it has heard of it. RFC 9001 section
6.1 forbids the second and section 6.5 tells how to avoid the first: old receive keys are kept until a
packet came under the new ones and three probe timeouts more, and packet numbers tell which to use.
"""

from __future__ import annotations

from collections.abc import Callable

from aioquic.quic.crypto import CryptoContext, CryptoPair
from aioquic.quic.packet import decode_packet_number

OLD_KEYS_PTOS = 3
"""Probe timeouts for which old keys outlive the first packet under the new ones (RFC 9001 section 6.5)."""


class UpdatableKeys(CryptoPair):
    """aioquic's pair for the 1-RTT space, which keeps ``old`` receive keys for a while.

    ``pair``: whose keys to take over. ``probe_timeout``: answers that of the connection, in seconds.
    Set ``now`` before a packet is decrypted.
    """

    def __init__(self, pair: CryptoPair, probe_timeout: Callable[[], float]) -> None:
        super().__init__()
        self.recv, self.send = pair.recv, pair.send
        self.now = 0.0
        self.old: CryptoContext | None = None
        self._probe_timeout = probe_timeout
        self._old_until: float | None = None
        self._first_number: int | None = None

    def expire_old(self) -> None:
        """Let go of the old keys if their time is over."""
        if self._old_until is not None and self.now >= self._old_until:
            self.old = self._old_until = None

    def decrypt_packet(
        self, packet: bytes, encrypted_offset: int, expected_packet_number: int
    ) -> tuple[bytes, bytes, int]:
        self.expire_old()
        if self.old is not None and self._is_of_old(packet, encrypted_offset, expected_packet_number):
            header, payload, number, _ = self.old.decrypt_packet(
                packet, encrypted_offset, expected_packet_number
            )
            return header, payload, number
        header, payload, number = super().decrypt_packet(packet, encrypted_offset, expected_packet_number)
        if self.old is not None and (self._first_number is None or number < self._first_number):
            self._first_number = number
            if self._old_until is None:
                self._old_until = self.now + OLD_KEYS_PTOS * self._probe_timeout()
        return header, payload, number

    def _is_of_old(self, packet: bytes, encrypted_offset: int, expected_packet_number: int) -> bool:
        """Whether a packet of the other phase is from before the update: its number is below all of the current."""
        assert self.recv.hp is not None
        header, truncated = self.recv.hp.remove(packet, encrypted_offset)
        if (header[0] >> 2) & 1 == self.recv.key_phase:
            return False
        if self._first_number is None:
            return True
        number: int = decode_packet_number(truncated, ((header[0] & 3) + 1) * 8, expected_packet_number)
        return number < self._first_number

    def _update_key(self, trigger: str) -> None:
        recv = self.recv
        old = CryptoContext(key_phase=recv.key_phase)
        old.aead, old.hp, old.secret = recv.aead, recv.hp, recv.secret
        old.cipher_suite, old.version = recv.cipher_suite, recv.version
        self.old = old
        self._old_until = self._first_number = None
        super()._update_key(trigger)

    def teardown(self) -> None:
        self.old = None
        super().teardown()
