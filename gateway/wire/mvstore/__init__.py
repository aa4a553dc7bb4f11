"""mvstore's data plane messages: bytes <-> values, both ways. Room: wire. Pure.

A body of ``/batch/*`` is a sequence of frames: u32 big-endian length, then MessagePack. Feed a
:class:`FrameReader` with what arrived and pull whole frames; each ``decode_*`` takes one frame's
contents and raises :class:`MalformedMessage` (a value of the wrong shape). Structures are maps with
string keys; readers also take arrays in field order, and ignore fields that they don't know.

Source: ``docs/STORE.md``; the protocol of mvSQLite 0.3.22.
"""

from gateway.wire.mvstore.commits import (
    IDEMPOTENCY_KEY_BYTES,
    CommitHead,
    CommitNamespace,
    CommitPage,
    decode_changelog,
    decode_commit_head,
    decode_commit_namespace,
    decode_commit_page,
    encode_changelog,
    encode_commit_head,
    encode_commit_namespace,
    encode_commit_page,
)
from gateway.wire.mvstore.framing import COMPLETE, PREFIX_BYTES, FrameReader, frame
from gateway.wire.mvstore.naming import VERSION_DIGITS, openable, proof_ok, version_of
from gateway.wire.mvstore.reads import (
    ReadAnswer,
    ReadMessage,
    decode_page,
    decode_read,
    encode_page,
    encode_read,
    page_pieces,
    usual_pages,
    usual_reads,
)
from gateway.wire.mvstore.writes import decode_hash, decode_write, encode_hash, encode_write

__all__ = [
    "COMPLETE",
    "IDEMPOTENCY_KEY_BYTES",
    "PREFIX_BYTES",
    "VERSION_DIGITS",
    "CommitHead",
    "CommitNamespace",
    "CommitPage",
    "FrameReader",
    "ReadAnswer",
    "ReadMessage",
    "decode_changelog",
    "decode_commit_head",
    "decode_commit_namespace",
    "decode_commit_page",
    "decode_hash",
    "decode_page",
    "decode_read",
    "decode_write",
    "encode_changelog",
    "encode_commit_head",
    "encode_commit_namespace",
    "encode_commit_page",
    "encode_hash",
    "encode_page",
    "encode_read",
    "encode_write",
    "frame",
    "openable",
    "page_pieces",
    "proof_ok",
    "usual_pages",
    "usual_reads",
    "version_of",
]
