"""HKDF as TLS 1.3 uses it, in one call of HMAC each. Room: quic. Pure. Sources: RFC 5869 section 2; RFC 8446 section 7.1.

A handshake derives some forty secrets, none longer than its hash. Through objects that are made for a single use each costs
several times what HMAC itself does.
"""

from __future__ import annotations

import hmac
from functools import lru_cache

from cryptography.hazmat.primitives.hashes import HashAlgorithm

from gateway import limits


def hkdf_extract(algorithm: HashAlgorithm, salt: bytes, key_material: bytes) -> bytes:
    """HKDF-Extract. RFC 5869 section 2.2."""
    return hmac.digest(salt, key_material, algorithm.name)


def hkdf_expand_label(
    algorithm: HashAlgorithm, secret: bytes, label: bytes, hash_value: bytes, length: int
) -> bytes:
    """HKDF-Expand-Label, ``length`` bytes. Raises ``ValueError`` for more than one hash holds, which nothing in TLS asks for.
    RFC 8446 section 7.1."""
    if length > algorithm.digest_size:
        raise ValueError(f"{length} bytes of a {algorithm.name} of {algorithm.digest_size} are not one block")
    info = _plain(label, length) if not hash_value else _info(label, hash_value, length)
    return hmac.digest(secret, info, algorithm.name)[:length]


def _info(label: bytes, hash_value: bytes, length: int) -> bytes:
    """HkdfLabel, and the number of the only block."""
    name = b"tls13 " + label
    heads = length.to_bytes(2, "big") + bytes((len(name),))
    return b"".join((heads, name, bytes((len(hash_value),)), hash_value, b"\x01"))


@lru_cache(maxsize=limits.QUIC_LABELS_CACHED_MAX)
def _plain(label: bytes, length: int) -> bytes:
    """The same for what is derived of the secret alone: keys, IVs, header protection, of a few labels."""
    return _info(label, b"", length)
