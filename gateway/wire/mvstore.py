"""mvstore's data plane messages: bytes <-> values, both ways. Room: wire. Pure.

A body of ``/batch/*`` is a sequence of frames: u32 big-endian length, then MessagePack. Feed a
:class:`FrameReader` with what arrived and pull whole frames; each ``decode_*`` takes one frame's
contents and raises :class:`MalformedMessage` (a value of the wrong shape). Structures are maps with
string keys; readers also take arrays in field order, and ignore fields that they don't know.

Source: ``docs/STORE.md``; the protocol of mvSQLite 0.3.22.
"""

from __future__ import annotations

import hmac
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from blake3 import blake3

from gateway.errors import BadInput, MalformedMessage, TooLarge
from gateway.limits import STORE_FRAME_BYTES_MAX, STORE_PAGE_HEADS_CACHED_MAX
from gateway.wire.mvstore_shape import (
    HASH_BYTES,
    MISSING,
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
VERSION_DIGITS: Final = 20
PREFIX_BYTES: Final = 4
COMPLETE: Final = b"\0" * PREFIX_BYTES
"""The empty frame that ends a ``/batch/write`` request."""

_VERSION = re.compile(r"[0-9a-fA-F]{20}")


class ReadMessage(NamedTuple):
    """One page wanted. ``version`` is not checked: with ``hash`` it is not consulted."""

    page: int
    version: str
    hash: bytes | None = None
    accept_zstd: bool = False


class ReadAnswer(NamedTuple):
    """One page's content; version "" and no data: it never existed."""

    version: str
    data: bytes
    zstd: bool = False


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


class FrameReader:
    """Takes a body's bytes as they come and gives back the frames' contents, as ``bytes``.

    Never holds more than one frame of ``frame_bytes_max`` beyond what was fed last. After an error
    it is of no use any more.
    """

    __slots__ = ("_buffer", "_frame_bytes_max", "_start")

    def __init__(self, frame_bytes_max: int = STORE_FRAME_BYTES_MAX) -> None:
        # ``bytes`` while each piece ends with a whole frame, which is the usual case: nothing is copied into a
        # buffer of ours.
        self._buffer: bytes | bytearray = b""
        self._start = 0
        self._frame_bytes_max = frame_bytes_max

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        # All of it was taken: the new piece becomes the buffer as it is.
        if self._start == len(self._buffer):
            self._buffer = data
        else:
            # a bytearray, so that a frame that comes byte by byte costs no more than its length
            rest = self._buffer if isinstance(self._buffer, bytearray) else bytearray(self._buffer)
            del rest[: self._start]
            rest += data
            self._buffer = rest
        self._start = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits in it."""
        return self._start == len(self._buffer)

    def __iter__(self) -> Iterator[bytes]:
        while (frame := self.pull()) is not None:
            yield frame

    def pull(self) -> bytes | None:
        """The next whole frame's contents (empty: "complete"), or None until more is fed.
        Raises :class:`TooLarge` on a length over the bound."""
        head_end = self._start + PREFIX_BYTES
        length = int.from_bytes(self._buffer[self._start : head_end], "big")
        if head_end > len(self._buffer):
            return None
        # Looked at before the frame is there: a length is believed only up to the bound, so that no peer makes us
        # hold more.
        if length > self._frame_bytes_max:
            raise TooLarge(
                f"a frame of {length} bytes is over the limit of {self._frame_bytes_max}; split the batch",
                limit_bytes=self._frame_bytes_max,
            )
        end = head_end + length
        if end > len(self._buffer):
            return None
        self._start = end
        # A copy if the buffer is a bytearray, which later pieces move; of ``bytes`` the slice is a copy already,
        # and bytes() none more.
        return bytes(self._buffer[head_end:end])

    def finish(self) -> None:
        """The body has ended: raises :class:`MalformedMessage` if it did so inside a frame."""
        rest = len(self._buffer) - self._start
        if rest:
            raise MalformedMessage(f"the body ends inside a frame: {rest} bytes are left over")


def frame(contents: bytes) -> bytes:
    """The contents as they stand in a body: length, then themselves."""
    return len(contents).to_bytes(PREFIX_BYTES, "big") + contents


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


# --- requests, as the store reads them ------------------------------------------------------


# The marks are MessagePack's (spec.md, "Formats"): 0x84 a map of four, 0xa0 and up a short string, 0xcc to 0xce
# numbers of 1, 2 and 4 bytes, 0xc4 bytes, 0xc0 nil.
_USUAL_READ = re.compile(
    rb"\x84\xaapage_index(?:([\x00-\x7f])|\xcc(.)|\xcd(..)|\xce(....))"
    rb"\xa7version\xb4([0-9a-f]{20})\xa4hash\xc0\xabaccept_zstd([\xc2\xc3])",
    re.DOTALL,
)
"""A read as mvSQLite's client and ours write it: serde's map, in the fields' order, by version."""


def decode_read(contents: bytes) -> ReadMessage:
    """``{page_index, version, hash, accept_zstd}``."""
    usual = _USUAL_READ.fullmatch(contents)
    if usual is not None:
        small, one, two, four, version_text, zstd = usual.groups()
        # A group that has matched is never empty, so that ``or`` picks the one that did, a page number 0 (b"\0")
        # included.
        number = int.from_bytes(small or one or two or four, "big")
        return ReadMessage(number, version_text.decode("ascii"), None, zstd == b"\xc3")
    page, version, digest, accept_zstd = fields(contents, "page_index", "version", "hash", "accept_zstd")
    return ReadMessage(
        u32(page, "page_index"),
        text(version, "version"),
        None if digest is None or digest is MISSING else hash32(digest),
        flag(accept_zstd, "accept_zstd"),
    )


_USUAL_READS = re.compile(
    rb"\0\0\0(?:\x3d\x84\xaapage_index([\x00-\x7f])|\x3e\x84\xaapage_index\xcc(.)|\x3f\x84\xaapage_index\xcd(..)"
    rb"|\x41\x84\xaapage_index\xce(....))\xa7version\xb4([0-9a-f]{20})\xa4hash\xc0\xabaccept_zstd([\xc2\xc3])",
    re.DOTALL,
)
_USUAL_READ_FRAME: Final = 64
"""Of such a frame, without its number."""


def usual_reads(body: bytes) -> list[ReadMessage] | None:
    """A body of usual reads alone, every frame whole, read at one go; None where anything else is in it."""
    messages: list[ReadMessage] = []
    # A batch reads at one version, or few: its text is made once.
    versions: dict[bytes, str] = {}
    size = 0
    for small, one, two, four, version_text, zstd in _USUAL_READS.findall(body):
        number = small or one or two or four
        # A number of more than seven bits has a byte before it that says its width.
        size += _USUAL_READ_FRAME + len(number) + (not small)
        version = versions.get(version_text)
        if version is None:
            version = versions[version_text] = version_text.decode("ascii")
        messages.append(ReadMessage(int.from_bytes(number, "big"), version, None, zstd == b"\xc3"))
    return messages if size == len(body) else None  # else there was something between them


def decode_write(contents: bytes) -> bytes:
    """``{data, delta_base}``: the page. ``delta_base`` is a hint, and not needed."""
    data, delta_base = fields(contents, "data", "delta_base")
    if delta_base is not None and delta_base is not MISSING:
        u32(delta_base, "delta_base")
    return binary(data, "data")


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


# --- answers, as the store writes them ------------------------------------------------------


def encode_page(version: str, data: bytes, zstd: bool = False) -> bytes:
    """One framed answer of ``/batch/read``. https://github.com/msgpack/msgpack/blob/master/spec.md."""
    return frame(pack({"version": version, "data": data, "zstd": zstd}))


_PAGE_START: Final = b"\x83\xa7version"
_PAGE_TAILS: Final = (b"\xa4zstd\xc2", b"\xa4zstd\xc3")


def page_pieces(version: str, data: bytes, zstd: bool = False) -> tuple[bytes, bytes, bytes]:
    """:func:`encode_page` in pieces, of which the second is ``data`` itself, so that a page is copied once only."""
    size = len(data)
    # Beyond these MessagePack writes other marks (str8, bin32), which no page of ours needs.
    if size > 0xFFFF or len(version) > 31:
        return encode_page(version, data, zstd), b"", b""
    return _page_head(version, size), data, _PAGE_TAILS[zstd]


@lru_cache(STORE_PAGE_HEADS_CACHED_MAX)
def _page_head(version: str, size: int) -> bytes:
    """All before a page's data. Pages of one size and version are many, and their versions few."""
    name = version.encode("ascii")
    # The shortest form that holds the size: what an encoder of MessagePack would choose, byte for byte.
    length = b"\xc4" + size.to_bytes(1, "big") if size < 0x100 else b"\xc5" + size.to_bytes(2, "big")
    head = b"".join((_PAGE_START, (0xA0 | len(name)).to_bytes(1, "big"), name, b"\xa4data", length))
    return (len(head) + size + len(_PAGE_TAILS[0])).to_bytes(PREFIX_BYTES, "big") + head


def encode_hash(digest: bytes) -> bytes:
    """One framed answer of ``/batch/write``; the last has an empty hash."""
    return frame(pack({"hash": digest}))


def encode_changelog(changelog: Mapping[str, Iterable[int]]) -> bytes:
    """The body of a good commit: one bare map."""
    return pack({"changelog": {key: list(pages) for key, pages in changelog.items()}})


# --- the client's side ----------------------------------------------------------------------


def encode_read(page: int, version: str, digest: bytes | None, accept_zstd: bool = False) -> bytes:
    """One framed request of ``/batch/read``."""
    # As the packer would write it, without a dict and four names for each page.
    if digest is None and len(version) == VERSION_DIGITS and version.isascii() and 0x10000 > page >= 0:
        number = _NUMBERS[page] if page < 0x100 else b"\xcd" + page.to_bytes(2, "big")
        head, tail = _READ_HEADS[len(number)], _READ_TAILS[accept_zstd]
        return b"".join((head, number, b"\xa7version\xb4", version.encode("ascii"), tail))
    return frame(pack({"page_index": page, "version": version, "hash": digest, "accept_zstd": accept_zstd}))


def encode_write(data: bytes) -> bytes:
    """One framed request of ``/batch/write``; :data:`COMPLETE` follows the last."""
    return frame(pack({"data": data, "delta_base": None}))


def encode_commit_head(head: CommitHead) -> bytes:
    """The first frame of a commit."""
    values = {
        "idempotency_key": head.idempotency_key,
        "allow_skip_idempotency_check": head.allow_skip_idempotency_check,
        "num_namespaces": head.namespaces,
        "lock_owner": head.lock_owner,
    }
    return frame(pack(values))


def encode_commit_namespace(head: CommitNamespace) -> bytes:
    """A namespace's frame; its pages' frames follow."""
    read_set = None if head.read_set is None else list(head.read_set)
    return frame(pack(dict(zip(_NAMESPACE_FIELDS, (*head[:5], read_set), strict=True))))


_NUMBERS: Final = [pack(number) for number in range(0x100)]
_AHEAD_HEADS: Final = {
    size: (57 + size).to_bytes(PREFIX_BYTES, "big") + b"\x83\xaapage_index" for size in (1, 2, 3)
}


def encode_commit_page(page: int, digest: bytes, data: bytes | None) -> bytes:
    """One page's frame within a commit."""
    if data is None and len(digest) == HASH_BYTES and 0x10000 > page >= 0:
        number = _NUMBERS[page] if page < 0x100 else b"\xcd" + page.to_bytes(2, "big")
        return b"".join((_AHEAD_HEADS[len(number)], number, b"\xa4hash\xc4\x20", digest, b"\xa4data\xc0"))
    return frame(pack({"page_index": page, "hash": digest, "data": data}))


_READ_HEADS: Final = {
    size: (60 + size).to_bytes(PREFIX_BYTES, "big") + b"\x84\xaapage_index" for size in (1, 2, 3)
}
_READ_TAILS: Final = (b"\xa4hash\xc0\xabaccept_zstd\xc2", b"\xa4hash\xc0\xabaccept_zstd\xc3")


_USUAL_PAGE: Final = b"\x83\xa7version\xb4"
_USUAL_DATA: Final = b"\xa4data\xc5"
_PAGE_HEAD: Final = struct.Struct(">I10s20s6sH")
"""A usual page up to its data: the frame's length, the map's beginning, the version, what stands between, the data's length."""


def decode_page(contents: bytes) -> ReadAnswer:
    """``{version, data, zstd}``."""
    if contents.startswith(_USUAL_PAGE) and contents.startswith(_USUAL_DATA, 30):
        end = 38 + int.from_bytes(contents[36:38], "big")
        tail = contents[end:]
        # The tail must be the whole rest: a length that lies leaves something else there, and the general way looks
        # at it.
        if tail in _PAGE_TAILS and (version := contents[10:30]).isascii():
            return ReadAnswer(version.decode("ascii"), contents[38:end], tail == _PAGE_TAILS[1])
    at, data, zstd = fields(contents, "version", "data", "zstd")
    return ReadAnswer(text(at, "version"), binary(data, "data"), flag(zstd, "zstd"))


def usual_pages(body: bytes) -> list[ReadAnswer] | None:
    """A body of whole usual pages alone, read without a copy but of what a page holds; None where anything else is in it."""
    pages: list[ReadAnswer] = []
    at, last = 0, len(body) - _PAGE_HEAD.size
    version_text, version = b"", ""
    while at <= last:
        length, start, text_here, middle, size = _PAGE_HEAD.unpack_from(body, at)
        data_at = at + _PAGE_HEAD.size
        at += PREFIX_BYTES + length
        tail = body[data_at + size : at]
        # All or nothing: a body with anything else in it is read again from its beginning, frame by frame, with its
        # errors named.
        if start != _USUAL_PAGE or middle != _USUAL_DATA or tail not in _PAGE_TAILS:
            return None
        if text_here != version_text:
            version_text = text_here
            if not version_text.isascii():
                return None
            version = version_text.decode("ascii")
        pages.append(ReadAnswer(version, body[data_at : data_at + size], tail == _PAGE_TAILS[1]))
    return pages if at == len(body) else None


def decode_hash(contents: bytes) -> bytes:
    """``{hash}``: 32 bytes, or none at the end."""
    (sent,) = fields(contents, "hash")
    digest = binary(sent, "hash")
    if len(digest) not in (0, HASH_BYTES):
        raise MalformedMessage(f"a hash has {len(digest)} bytes, not {HASH_BYTES}")
    return digest


def decode_changelog(body: bytes) -> dict[str, tuple[int, ...]]:
    """``{changelog: {ns_key: [page, …]}}``."""
    (changelog,) = fields(body, "changelog")
    if not isinstance(changelog, dict):
        raise MalformedMessage("changelog is not a map")
    return {
        text(key, "ns_key"): tuple(sorted(pages_or_none(pages) or ())) for key, pages in changelog.items()
    }
