"""The keys of packets by themselves: RFC 9001's own example, and which keys open what around an update (sections 5 and 6)."""

from __future__ import annotations

import pytest
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import CipherSuite, cipher_suite_hash
from cryptography.exceptions import InvalidTag

from gateway.quic.connection.keys import Keys, Secret, sealing, updated

CHACHA20 = CipherSuite.CHACHA20_POLY1305_SHA256
SUITES = [CipherSuite.AES_128_GCM_SHA256, CipherSuite.AES_256_GCM_SHA384, CHACHA20]
EXAMPLE = bytes.fromhex("9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b")
NUMBER, HEADER, CONTENT = 654360564, bytes.fromhex("4200bff4"), b"\x01"
SEALED = bytes.fromhex("655e5cd55c41f69080575d7999c25a5bfb")
SAMPLE, MASK = SEALED[1:17], bytes.fromhex("aefefe7d03")
PTO_S = 0.1


def _secret(suite: CipherSuite, value: int) -> Secret:
    secret = bytes([value]) * cipher_suite_hash(suite).digest_size
    return Secret(suite, QuicProtocolVersion.VERSION_1, secret, secret)


def _nonce(iv: int, number: int) -> bytes:
    return (iv ^ number).to_bytes(12, "big")


def test_the_example_of_the_rfc_is_sealed_masked_and_opened_as_there() -> None:
    """RFC 9001 appendix A.5."""
    one = Secret(CHACHA20, QuicProtocolVersion.VERSION_1, EXAMPLE, EXAMPLE)
    encrypt, iv, masks_of = sealing(one, opens=False)
    assert encrypt(_nonce(iv, NUMBER), CONTENT, HEADER) == SEALED
    assert masks_of(SAMPLE)[:5] == MASK
    decrypt, iv, masks_of = sealing(one, opens=True)
    assert decrypt(_nonce(iv, NUMBER), SEALED, HEADER) == CONTENT
    assert masks_of(SAMPLE)[:5] == MASK
    after = updated(one)
    assert after.secret.hex() == "1223504755036d556342ee9361d253421a826c9ecdf3c7148684b36b714881f9"
    assert after.protection == EXAMPLE


@pytest.mark.parametrize("suite", SUITES)
def test_masks_of_several_samples_are_those_of_each(suite: CipherSuite) -> None:
    _, _, masks_of = sealing(_secret(suite, 1), opens=False)
    samples = [bytes([value]) * 16 for value in (3, 5, 7)]
    together = masks_of(b"".join(samples))
    assert len(together) == 48
    for at, sample in enumerate(samples):
        assert together[16 * at : 16 * at + 5] == masks_of(sample)[:5]


@pytest.mark.parametrize("suite", SUITES)
def test_header_protection_outlives_updates_and_nothing_else_does(suite: CipherSuite) -> None:
    keys = Keys(_secret(suite, 1), _secret(suite, 2))
    before, opening = keys.sealing, keys.opening
    keys.update()
    assert keys.sealing[2] is before[2]
    assert keys.opening[2] is opening[2]
    assert keys.sealing[1] != before[1]
    assert keys.opening[1] != opening[1]
    assert sealing(updated(_secret(suite, 2)), opens=False)[2](SAMPLE)[:5] == before[2](SAMPLE)[:5]


class _Ends:
    """Two ends' keys, and packets from one to the other."""

    def __init__(self, suite: CipherSuite) -> None:
        self.far = Keys(_secret(suite, 1), _secret(suite, 2))
        self.near = Keys(_secret(suite, 2), _secret(suite, 1))

    def packet(self, number: int) -> tuple[int, bytes, bytes]:
        encrypt, iv, _ = self.far.sealing
        header = bytes([0x41 | self.far.bits]) + number.to_bytes(2, "big")
        return number, header, encrypt(_nonce(iv, number), b"%d" % number, header)

    def opens(self, packet: tuple[int, bytes, bytes], now: float) -> bool:
        """Whether a packet opens."""
        try:
            return self.near.open(*packet, now, PTO_S) == b"%d" % packet[0]
        except InvalidTag:
            return False


@pytest.mark.parametrize("suite", SUITES)
def test_a_packet_of_the_next_phase_updates_and_late_ones_of_the_last_still_open(suite: CipherSuite) -> None:
    ends = _Ends(suite)
    late = [ends.packet(number) for number in (3, 4, 5)]
    assert ends.opens(ends.packet(1), 1.0)
    assert (ends.near.phase, ends.near.is_settled) == (0, True)
    ends.far.update()
    assert ends.opens(ends.packet(10), 2.0)
    assert (ends.near.phase, ends.near.is_settled) == (1, False)
    assert ends.opens(late[0], 2.0)
    assert ends.opens(ends.packet(8), 2.1), "one under the new keys overtaken by another"
    assert ends.opens(late[1], 2.0 + 3 * PTO_S - 0.001)
    assert not ends.opens(late[2], 2.0 + 3 * PTO_S), "three probe timeouts after the first under the new keys"
    assert ends.near.is_settled
    assert ends.near.phase == 1


@pytest.mark.parametrize("suite", SUITES)
def test_what_is_numbered_as_of_the_new_keys_is_none_of_the_old(suite: CipherSuite) -> None:
    ends = _Ends(suite)
    same, before = ends.packet(8), ends.packet(7)
    ends.far.update()
    assert ends.opens(ends.packet(9), 2.0)
    assert ends.opens(ends.packet(8), 2.0)
    assert not ends.opens(same, 2.0)
    assert ends.opens(before, 2.0)
    assert ends.near.phase == 1, "a forged phase updates nothing"


@pytest.mark.parametrize("suite", SUITES)
def test_after_ones_own_update_the_peers_old_packets_open_until_it_follows(suite: CipherSuite) -> None:
    ends = _Ends(suite)
    late = [ends.packet(number) for number in (6, 7)]
    ends.near.update()
    assert ends.opens(ends.packet(500), 1_000.0), "however long it takes"
    ends.far.update()
    assert ends.opens(ends.packet(501), 2_000.0)
    assert ends.opens(late[0], 2_000.0 + 2.9 * PTO_S)
    assert not ends.near.is_settled
    assert ends.opens(ends.packet(502), 2_000.0 + 3 * PTO_S)
    assert ends.near.is_settled
    assert not ends.opens(late[1], 2_000.0 + 3 * PTO_S)


def test_a_second_update_begins_its_own_time() -> None:
    ends = _Ends(CHACHA20)
    for turn, phase in enumerate((1, 0, 1)):
        now, number = 10.0 * turn, 100 * turn
        old = ends.packet(number + 1)
        ends.far.update()
        assert ends.opens(ends.packet(number + 2), now)
        assert ends.near.phase == phase
        assert ends.opens(old, now + 2.9 * PTO_S)
        assert ends.opens(ends.packet(number + 3), now + 3 * PTO_S)
        assert ends.near.is_settled


@pytest.mark.parametrize("phase", [0, 1])
def test_keys_go_on_in_the_phase_that_a_handshake_left(phase: int) -> None:
    keys = Keys(_secret(CHACHA20, 1), _secret(CHACHA20, 2), phase)
    assert (keys.phase, keys.bits) == (phase, 4 * phase)
    keys.update()
    assert (keys.phase, keys.bits) == (1 - phase, 4 - 4 * phase)
