"""``/batch/write``: pages sent ahead of a commit, their hashes answered, both sides. Room: wire. Pure.

Source: ``docs/STORE.md``; the protocol of mvSQLite 0.3.22.
"""

from __future__ import annotations

from gateway.errors import MalformedMessage
from gateway.wire.mvstore.framing import frame
from gateway.wire.mvstore.shape import HASH_BYTES, MISSING, binary, fields, pack, u32


def decode_write(contents: bytes) -> bytes:
    """``{data, delta_base}``: the page. ``delta_base`` is a hint, and not needed."""
    data, delta_base = fields(contents, "data", "delta_base")
    if delta_base is not None and delta_base is not MISSING:
        u32(delta_base, "delta_base")
    return binary(data, "data")


def encode_write(data: bytes) -> bytes:
    """One framed request of ``/batch/write``; :data:`COMPLETE` follows the last."""
    return frame(pack({"data": data, "delta_base": None}))


def encode_hash(digest: bytes) -> bytes:
    """One framed answer of ``/batch/write``; the last has an empty hash."""
    return frame(pack({"hash": digest}))


def decode_hash(contents: bytes) -> bytes:
    """``{hash}``: 32 bytes, or none at the end."""
    (sent,) = fields(contents, "hash")
    digest = binary(sent, "hash")
    if len(digest) not in (0, HASH_BYTES):
        raise MalformedMessage(f"a hash has {len(digest)} bytes, not {HASH_BYTES}")
    return digest
