"""``/batch/commit``: its head, its namespaces, their pages and the answer, both sides. Room: wire. Pure.

Source: ``docs/STORE.md``; the protocol of mvSQLite 0.3.22.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from gateway.errors import MalformedMessage
from gateway.wire.mvstore.framing import PREFIX_BYTES, frame
from gateway.wire.mvstore.naming import version_of
from gateway.wire.mvstore.shape import (
    HASH_BYTES,
    MISSING,
    NUMBERS,
    binary,
    count,
    fields,
    flag,
    hash32,
    pack,
    pages_or_none,
    text,
    text_or_none,
    u32,
)

IDEMPOTENCY_KEY_BYTES: Final = 16


class CommitHead(NamedTuple):
    """Frame 1 of a commit. ``namespaces`` is not yet bounded here: out of bounds has its own status."""

    idempotency_key: bytes
    allow_skip_idempotency_check: bool
    namespaces: int
    lock_owner: str | None


class CommitNamespace(NamedTuple):
    """A namespace's head within a commit; ``pages`` page frames follow it."""

    version: str
    key: str
    proof: str | None
    metadata: str | None
    pages: int
    read_set: frozenset[int] | None


class CommitPage(NamedTuple):
    """One page of a commit; ``data`` where it is inline."""

    page: int
    hash: bytes
    data: bytes | None


def encode_commit_head(head: CommitHead) -> bytes:
    """The first frame of a commit."""
    values = {
        "idempotency_key": head.idempotency_key,
        "allow_skip_idempotency_check": head.allow_skip_idempotency_check,
        "num_namespaces": head.namespaces,
        "lock_owner": head.lock_owner,
    }
    return frame(pack(values))


def decode_commit_head(contents: bytes) -> CommitHead:
    """``{idempotency_key, allow_skip_idempotency_check, num_namespaces, lock_owner}``."""
    key, skip, namespaces, owner = fields(
        contents, "idempotency_key", "allow_skip_idempotency_check", "num_namespaces", "lock_owner"
    )
    attempt = binary(key, "idempotency_key")
    if len(attempt) != IDEMPOTENCY_KEY_BYTES:
        raise MalformedMessage(f"idempotency_key has {len(attempt)} bytes, not {IDEMPOTENCY_KEY_BYTES}")
    return CommitHead(
        attempt,
        flag(skip, "allow_skip_idempotency_check"),
        count(namespaces, "num_namespaces"),
        text_or_none(owner, "lock_owner"),
    )


_NAMESPACE_FIELDS: Final = ("version", "ns_key", "ns_key_hashproof", "metadata", "num_pages", "read_set")


def encode_commit_namespace(head: CommitNamespace) -> bytes:
    """A namespace's frame; its pages' frames follow."""
    read_set = None if head.read_set is None else list(head.read_set)
    return frame(pack(dict(zip(_NAMESPACE_FIELDS, (*head[:5], read_set), strict=True))))


def decode_commit_namespace(contents: bytes) -> CommitNamespace:
    """``{version, ns_key, ns_key_hashproof, metadata, num_pages, read_set}``."""
    version, key, proof, metadata, pages, read_set = fields(contents, *_NAMESPACE_FIELDS)
    return CommitNamespace(
        version_of(text(version, "version")),
        text(key, "ns_key"),
        text_or_none(proof, "ns_key_hashproof"),
        text_or_none(metadata, "metadata"),
        u32(pages, "num_pages"),
        pages_or_none(read_set),
    )


_AHEAD_HEADS: Final = {
    size: (57 + size).to_bytes(PREFIX_BYTES, "big") + b"\x83\xaapage_index" for size in (1, 2, 3)
}


def encode_commit_page(page: int, digest: bytes, data: bytes | None) -> bytes:
    """One page's frame within a commit."""
    if data is None and len(digest) == HASH_BYTES and 0x10000 > page >= 0:
        number = NUMBERS[page] if page < 0x100 else b"\xcd" + page.to_bytes(2, "big")
        return b"".join((_AHEAD_HEADS[len(number)], number, b"\xa4hash\xc4\x20", digest, b"\xa4data\xc0"))
    return frame(pack({"page_index": page, "hash": digest, "data": data}))


_USUAL_COMMIT_PAGE = re.compile(
    rb"\x83\xaapage_index(?:([\x00-\x7f])|\xcc(.)|\xcd(..)|\xce(....))\xa4hash\xc4\x20(.{32})\xa4data\xc0",
    re.DOTALL,
)
"""A page that was written ahead, as clients name it: there may be 50,000 in a commit."""


def decode_commit_page(contents: bytes) -> CommitPage:
    """``{page_index, hash, data}``."""
    usual = _USUAL_COMMIT_PAGE.fullmatch(contents)
    if usual is not None:
        small, one, two, four, ahead = usual.groups()
        return CommitPage(int.from_bytes(small or one or two or four, "big"), ahead, None)
    page, digest, data = fields(contents, "page_index", "hash", "data")
    inline = None if data is None or data is MISSING else binary(data, "data")
    return CommitPage(u32(page, "page_index"), hash32(digest), inline)


def encode_changelog(changelog: Mapping[str, Iterable[int]]) -> bytes:
    """The body of a good commit: one bare map."""
    return pack({"changelog": {key: list(pages) for key, pages in changelog.items()}})


def decode_changelog(body: bytes) -> dict[str, tuple[int, ...]]:
    """``{changelog: {ns_key: [page, …]}}``."""
    (changelog,) = fields(body, "changelog")
    if not isinstance(changelog, dict):
        raise MalformedMessage("changelog is not a map")
    return {
        text(key, "ns_key"): tuple(sorted(pages_or_none(pages) or ())) for key, pages in changelog.items()
    }
