"""SQLite's pages read one by one, whatever is left of them. Room: store. Pure.

SQLite gives up at the first page that makes no sense; this goes on past it. Nothing that is read here
can be trusted for itself: who reads rows of a damaged file checks them by what they say.

Source: the SQLite file format (https://sqlite.org/fileformat2.html), sections 1.5 (the freelist), 1.6 (b-tree
pages), 1.6.2 (cells and overflow) and 2.1 (records).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, Protocol

from gateway.limits import SALVAGE_PAYLOAD_BYTES_MAX

TABLE: Final = (0x05, 0x0D)
"""Interior and leaf pages of a table with rowids."""
INDEX: Final = (0x02, 0x0A)
"""Those of an index, or of a table without rowids."""
_U32: Final = struct.Struct(">I")
_U16: Final = struct.Struct(">H")
_INTEGER_BYTES: Final = (0, 1, 2, 3, 4, 6, 8)


class PageSource(Protocol):
    """Pages by number, from 1."""

    page_size: int

    def page(self, number: int) -> bytes | None:
        """Its bytes; None where there are none."""


class BrokenTree(Exception):
    """These bytes are not what they should be."""


class CellRow(NamedTuple):
    """One row: the page it stands on, its rowid (None without), its columns as stored."""

    page: int
    rowid: int | None
    values: list[Any]


OnLost = Callable[[int, str], None]
"""Called with a page's number and what is wrong with it."""


class Walker:
    """Walks the trees of one file. ``seen`` marks what was reached: by trees, overflow, the freelist."""

    def __init__(self, source: PageSource, pages: int, on_lost: OnLost) -> None:
        self.source = source
        self.pages = pages
        self.seen = bytearray(pages + 1)
        self._on_lost = on_lost

    def rows(self, root: int, kinds: tuple[int, int]) -> Iterator[CellRow]:
        """Every row of the tree below ``root`` that can be read, page by page."""
        waiting = [root]
        while waiting:
            number = waiting.pop()
            # A damaged pointer may lead anywhere, also back up: each page is walked once, so that every
            # walk ends.
            if not 1 <= number <= self.pages or self.seen[number]:
                self._on_lost(number, "is named twice, or beyond the file")
                continue
            data = self.source.page(number)
            kind = kind_of(data, number)
            if data is None or kind not in kinds:
                self._on_lost(number, "is missing" if data is None else "is no page of its tree")
                continue
            self.seen[number] = 1
            if kind == kinds[0]:
                waiting += self._children(data, number, kind)
            # A table's interior pages hold rowids only; an index has rows on its interior pages, too
            # (section 1.6).
            if kind != TABLE[0]:
                yield from self.cells(number, data, kind)

    def _children(self, data: bytes, number: int, kind: int) -> list[int]:
        start = header_at(number)
        places = [start + 8, *cell_offsets(data, number, kind)]
        return [_U32.unpack_from(data, at)[0] for at in places if at + 4 <= len(data)]

    def cells(self, number: int, data: bytes, kind: int) -> Iterator[CellRow]:
        """The rows on one page. https://sqlite.org/fileformat2.html section 1.6."""
        for at in cell_offsets(data, number, kind):
            try:
                yield self._cell(number, data, kind, at)
            except (BrokenTree, IndexError, struct.error, UnicodeDecodeError) as error:
                self._on_lost(number, f"has a row that cannot be read ({error})")

    def _cell(self, number: int, data: bytes, kind: int, at: int) -> CellRow:
        rowid: int | None = None
        if kind == INDEX[0]:
            at += 4
        size, at = varint(data, at)
        if kind == TABLE[1]:
            rowid, at = varint(data, at)
            # A rowid is signed, and its nine bytes are not.
            rowid -= (rowid >> 63) << 64
        payload = self._payload(data, at, size, is_table=kind == TABLE[1])
        return CellRow(number, rowid, record(payload))

    def _payload(self, data: bytes, at: int, size: int, *, is_table: bool) -> bytes:
        if size > SALVAGE_PAYLOAD_BYTES_MAX:
            raise BrokenTree(
                f"its length {size} makes no sense: none is over {SALVAGE_PAYLOAD_BYTES_MAX} bytes"
            )
        local = local_bytes(size, self.source.page_size, is_table=is_table)
        if at + local > len(data):
            raise BrokenTree("it reaches over the page's end")
        payload = data[at : at + local]
        if local < size:
            payload += self._overflow(_U32.unpack_from(data, at + local)[0], size - local)
        return payload

    def _overflow(self, number: int, left: int) -> bytes:
        pieces: list[bytes] = []
        chain: list[int] = []
        while left > 0:
            data = self.source.page(number) if 1 <= number <= self.pages else None
            # A longer circle ends with the length: each page takes something off it.
            if data is None or number in chain[-1:] or self.seen[number]:
                raise BrokenTree(f"its page {number} is missing")
            pieces.append(data[4 : 4 + left])
            left -= len(pieces[-1])
            chain.append(number)
            number = _U32.unpack_from(data)[0]
        # Only once it is whole: pages of a chain that broke may be another row's.
        for page in chain:
            self.seen[page] = 1
        return b"".join(pieces)

    def free(self, first_page: bytes) -> None:
        """Mark the pages that the freelist says are free. https://sqlite.org/fileformat2.html section 1.5."""
        trunk = _U32.unpack_from(first_page, 32)[0]
        while 1 <= trunk <= self.pages and not self.seen[trunk]:
            data = self.source.page(trunk)
            if data is None:
                return
            self.seen[trunk] = 1
            following, count = struct.unpack_from(">II", data)
            # The count may be damaged, too; no more fit.
            for at in range(min(count, len(data) // 4 - 2)):
                leaf = _U32.unpack_from(data, 8 + 4 * at)[0]
                if 1 <= leaf <= self.pages:
                    self.seen[leaf] = 1
            trunk = following

    def orphans(self) -> Iterator[tuple[int, bytes, int]]:
        """The leaves (and index pages) that nothing led to: number, bytes, kind."""
        for number in range(2, self.pages + 1):
            if self.seen[number]:
                continue
            data = self.source.page(number)
            kind = kind_of(data, number)
            if data is not None and kind in (TABLE[1], *INDEX):
                yield number, data, kind


def header_at(number: int) -> int:
    """Where a page's header begins: after the file's own on page 1. https://sqlite.org/fileformat2.html section 1.6."""
    return 100 if number == 1 else 0


def kind_of(data: bytes | None, number: int) -> int:
    """The type byte; 0 for no b-tree page. https://sqlite.org/fileformat2.html section 1.6."""
    if data is None:
        return 0
    kind = data[header_at(number)]
    return kind if kind in (*TABLE, *INDEX) else 0


def cell_offsets(data: bytes, number: int, kind: int) -> list[int]:
    """Where the page's cells begin. https://sqlite.org/fileformat2.html section 1.6."""
    start = header_at(number)
    count = _U16.unpack_from(data, start + 3)[0]
    first = start + (12 if kind in (TABLE[0], INDEX[0]) else 8)
    count = min(count, (len(data) - first) // 2)
    offsets = struct.unpack_from(f">{count}H", data, first)
    # Others would read the page's own header as a row.
    return [offset for offset in offsets if first <= offset < len(data)]


def local_bytes(size: int, page_size: int, *, is_table: bool) -> int:
    """How much of a payload stands on the page itself (section 1.6.2)."""
    most = page_size - 35 if is_table else (page_size - 12) * 64 // 255 - 23
    if size <= most:
        return size
    least = (page_size - 12) * 32 // 255 - 23
    local = least + (size - least) % (page_size - 4)
    return local if local <= most else least


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer and where it ends. https://sqlite.org/fileformat2.html section 1.6."""
    value = 0
    for count in range(8):
        byte = data[at + count]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + count + 1
    # The ninth byte has eight bits and no flag.
    return value << 8 | data[at + 8], at + 9


def record(payload: bytes) -> list[object]:
    """The values of a record. Raises :class:`BrokenTree`, ``IndexError``. https://sqlite.org/fileformat2.html section 2.1."""
    end, at = varint(payload, 0)
    if end > len(payload) or end < at:
        raise BrokenTree("its header makes no sense")
    serials: list[int] = []
    while at < end:
        serial, at = varint(payload, at)
        serials.append(serial)
    values: list[object] = []
    at = end
    for serial in serials:
        value, at = _value(payload, at, serial)
        values.append(value)
    # The one check that a record allows for: a hit length or type seldom comes out even.
    if at != len(payload):
        raise BrokenTree("its values do not fill it")
    return values


def _value(payload: bytes, at: int, serial: int) -> tuple[object, int]:
    if serial >= 12:
        end = at + (serial - 12) // 2
        if end > len(payload):
            raise BrokenTree("a value reaches over its end")
        data = payload[at:end]
        return (data.decode() if serial & 1 else data), end
    if serial == 0:
        return None, at
    if serial in (8, 9):
        return serial - 8, at
    if serial == 7:
        return struct.unpack_from(">d", payload, at)[0], at + 8
    if serial > 9:
        raise BrokenTree(f"there is no type {serial}")
    end = at + _INTEGER_BYTES[serial]
    if end > len(payload):
        raise BrokenTree("a value reaches over its end")
    return int.from_bytes(payload[at:end], "big", signed=True), end
