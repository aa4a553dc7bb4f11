"""``/batch/read``: pages asked for and answered, both sides. Room: wire. Pure.

There are thousands in a body, nearly all of one shape: what is usual is written and read as bytes, and everything else,
so whatever is refused, by MessagePack. Sources: ``docs/STORE.md``;
https://github.com/msgpack/msgpack/blob/master/spec.md.
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from typing import Final, NamedTuple

from gateway.limits import STORE_PAGE_HEADS_CACHED_MAX
from gateway.wire.mvstore.framing import PREFIX_BYTES, frame
from gateway.wire.mvstore.naming import VERSION_DIGITS
from gateway.wire.mvstore.shape import MISSING, NUMBERS, binary, fields, flag, hash32, pack, text, u32


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


_READ_HEADS: Final = {
    size: (60 + size).to_bytes(PREFIX_BYTES, "big") + b"\x84\xaapage_index" for size in (1, 2, 3)
}
_READ_TAILS: Final = (b"\xa4hash\xc0\xabaccept_zstd\xc2", b"\xa4hash\xc0\xabaccept_zstd\xc3")


def encode_read(page: int, version: str, digest: bytes | None, accept_zstd: bool = False) -> bytes:
    """One framed request of ``/batch/read``."""
    # As the packer would write it, without a dict and four names for each page.
    if digest is None and len(version) == VERSION_DIGITS and version.isascii() and 0x10000 > page >= 0:
        number = NUMBERS[page] if page < 0x100 else b"\xcd" + page.to_bytes(2, "big")
        head, tail = _READ_HEADS[len(number)], _READ_TAILS[accept_zstd]
        return b"".join((head, number, b"\xa7version\xb4", version.encode("ascii"), tail))
    return frame(pack({"page_index": page, "version": version, "hash": digest, "accept_zstd": accept_zstd}))


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
