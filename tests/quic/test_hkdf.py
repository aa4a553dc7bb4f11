"""HKDF for TLS and QUIC: as the RFCs' own examples have it, and as another implementation."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from gateway.quic.connection.hkdf import hkdf_expand_label, hkdf_extract
from gateway.quic.connection.seam import prepare

SHA256 = hashes.SHA256()
INITIAL_SALT = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")


def test_the_keys_of_rfc_9001s_example() -> None:
    """Appendix A.1."""
    initial = hkdf_extract(SHA256, INITIAL_SALT, bytes.fromhex("8394c8f03e515708"))
    assert initial.hex() == "7db5df06e7a69e432496adedb00851923595221596ae2ae9fb8115c1e9ed0a44"
    client = hkdf_expand_label(SHA256, initial, b"client in", b"", 32)
    assert client.hex() == "c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea"
    assert hkdf_expand_label(SHA256, client, b"quic key", b"", 16).hex() == "1f369613dd76d5467730efcbe3b1a22d"
    assert hkdf_expand_label(SHA256, client, b"quic iv", b"", 12).hex() == "fa044b2f42a3fd3b46fb255c"
    assert hkdf_expand_label(SHA256, client, b"quic hp", b"", 16).hex() == "9f50449e04a0e810283a1e9933adedd2"


@given(
    st.sampled_from([hashes.SHA256(), hashes.SHA384()]),
    st.binary(max_size=64),
    st.binary(max_size=30),
    st.binary(max_size=48),
    st.integers(1, 32),
)
def test_labels_expand_as_another_implementation_has_it(
    algorithm: Any, secret: bytes, label: bytes, hash_value: bytes, length: int
) -> None:
    name = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes([len(name)]) + name + bytes([len(hash_value)]) + hash_value
    theirs = HKDFExpand(algorithm=algorithm, length=length, info=info).derive(secret)
    assert hkdf_expand_label(algorithm, secret, label, hash_value, length) == theirs


def test_more_than_one_block_is_refused() -> None:
    with pytest.raises(ValueError, match="33 bytes"):
        hkdf_expand_label(SHA256, bytes(32), b"x", b"", 33)


def test_the_handshake_derives_by_it() -> None:
    from aioquic import tls
    from aioquic.quic import crypto

    prepare()
    assert tls.hkdf_expand_label is crypto.hkdf_expand_label is hkdf_expand_label
    assert tls.hkdf_extract is crypto.hkdf_extract is hkdf_extract
