"""Versions, keys of namespaces and what opens them, as text. Room: wire. Pure.

Source: ``docs/STORE.md``; the protocol of mvSQLite 0.3.22.
"""

from __future__ import annotations

import hmac
import re
from typing import Final

from blake3 import blake3

from gateway.errors import BadInput, MalformedMessage
from gateway.wire.mvstore.shape import HASH_BYTES

VERSION_DIGITS: Final = 20


_VERSION = re.compile(r"[0-9a-fA-F]{20}")


def version_of(value: str) -> str:
    """A version as 20 lower-case hex digits. Raises :class:`MalformedMessage` for anything else."""
    if _VERSION.fullmatch(value) is None:
        raise MalformedMessage(f"{value[:40]!r} is not a version: 20 hex digits")
    return value.lower()


def proof_ok(key: str, proof: str | None) -> bool:
    """Whether ``proof`` (hex) opens ``key``. Keys without a ``:`` are open; ``name:HASH`` asks for
    BLAKE3(unhex(proof)) == unhex(HASH), compared in constant time."""
    parts = key.split(":")
    if len(parts) < 2:
        return True
    try:
        wanted, given = bytes.fromhex(parts[1]), bytes.fromhex(proof or "")
    except ValueError:
        return False
    # fromhex() takes a hash of any length: one that is not 32 bytes opens for nobody.
    return len(wanted) == HASH_BYTES and hmac.compare_digest(blake3(given).digest(), wanted)


_PROTECTED = re.compile(r"[^:]*:[0-9a-fA-F]{64}")


def openable(key: str) -> str:
    """The key, if a client can open the namespace that it is given to. Raises :class:`BadInput` with the reason.

    A client names a namespace in a header, cuts what it was given at "@" (a version follows) and takes what
    stands after ":" for a hash that asks for a proof.
    """
    if not key.isascii() or not key.isprintable() or key != key.strip():
        why = "a client names it in a header, which carries printable ASCII without spaces at its ends"
    elif "@" in key:
        why = 'for a client "@" ends the key, and a version follows'
    elif ":" in key and _PROTECTED.fullmatch(key) is None:
        why = 'after ":" stands the hash of a protected key, 64 hex digits, and nothing else'
    elif key.startswith("/"):
        why = 'a client drops "/" at its beginning'
    else:
        return key
    raise BadInput(f"no client could open a namespace of the key {key!r:.200}: {why}; give it another key")
