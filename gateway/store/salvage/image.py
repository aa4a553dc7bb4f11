"""The newest state of a SQLite file and its log, page by page, damaged or not. Room: store.

SQLite stops at the first frame of the log whose checksum fails. Every frame tells the checksum up to itself,
so a frame after a damaged one is checked against what that one *says*: little more than what was hit is lost.

Source: the SQLite file format, section 4 (the log: header, frames, checksums, commits).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final

from gateway.store.salvage.btree import cell_offsets, header_at, kind_of

_HEADER: Final = struct.Struct(">IIIIIIII")
_FRAME: Final = struct.Struct(">IIIIII")
_MAGIC: Final = 0x377F0682
_CHECKED: Final = 8
"""Bytes of a frame's header that its checksum covers: page number, and size after a commit."""


class Image:
    """A :class:`gateway.store.salvage.btree.PageSource` over ``path`` and ``path-wal``, which are only read."""

    def __init__(self, path: Path, page_size: int) -> None:
        self.page_size = page_size
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._wal: int | None = None
        self._frames: dict[int, int] = {}
        self.damage: list[str] = []
        """What is wrong with the log, in sentences."""
        size = os.fstat(self._file).st_size
        self.cut_bytes = size % page_size
        # Rounded up: the page within which the file was cut counts, as far as it goes.
        self.pages = -(-size // page_size)
        try:
            self._wal = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        _Log(self, self._wal).read()

    def page(self, number: int) -> bytes | None:
        """The page; zeros after where the file was cut within it."""
        at = self._frames.get(number)
        if at is not None and self._wal is not None:
            return os.pread(self._wal, self.page_size, at)
        data = os.pread(self._file, self.page_size, (number - 1) * self.page_size)
        return data.ljust(self.page_size, b"\0") if data else None

    def close(self) -> None:
        os.close(self._file)
        if self._wal is not None:
            os.close(self._wal)

    def put(self, frames: dict[int, int], pages: int) -> None:
        """A commit of the log: where the pages stand that it wrote, and how many there are then.
        https://sqlite.org/fileformat2.html section 4.1."""
        self._frames.update(frames)
        self.pages = pages


class _Log:
    """Reads the log once, from its beginning to its end."""

    def __init__(self, image: Image, descriptor: int) -> None:
        self._image = image
        self._wal = descriptor
        self._order = "<"

    def read(self) -> None:
        header = os.pread(self._wal, _HEADER.size, 0)
        if len(header) < _HEADER.size or not any(header):
            return
        magic, _, page_size, _, *salts, first, second = _HEADER.unpack(header)
        # The magic's last bit says in which order of bytes checksums are reckoned (section 4.1).
        if magic == _MAGIC + 1:
            self._order = ">"
        stored = (first, second)
        if self._sum(header[:24], (0, 0)) != stored or page_size != self._image.page_size:
            self._image.damage.append("the header of the log is damaged")
            # The first frame has them, too; without them frames of an older log could not be told apart.
            salts = list(_FRAME.unpack(os.pread(self._wal, _FRAME.size, _HEADER.size).ljust(24, b"\0"))[2:4])
        self._read_frames((salts[0], salts[1]), stored)

    def _read_frames(self, salts: tuple[int, int], before: tuple[int, int]) -> None:
        size = self._image.page_size + _FRAME.size
        held: dict[int, int] = {}
        damaged, sound, torn = 0, True, False
        at = _HEADER.size
        while len(frame := os.pread(self._wal, size, at)) == size:
            page, pages, salt_1, salt_2, *sums = _FRAME.unpack_from(frame)
            ours = (salt_1, salt_2) == salts
            data = frame[_FRAME.size :]
            proven = ours and self._sum(frame[:_CHECKED] + data, before) == (sums[0], sums[1])
            if proven or (ours and not sound and self._is_plausible(page, data)):
                held[page] = at + _FRAME.size
                # A size stands in a commit's last frame alone: only then does what was held count.
                if pages:
                    self._image.put(held, pages)
                    held, torn = {}, False
            damaged += ours and not proven
            torn = torn or (ours and not proven and held != {})
            # What the frame says, not what was reckoned: that is how the next one can be proven behind a
            # damaged one.
            before, sound = (sums[0], sums[1]), proven
            at += size
        if damaged:
            self._image.damage.append(f"{damaged} frames of the log are damaged, or follow one that is")
        if held and torn:  # it was hit within its last transaction, whose end may have been told
            self._image.put(held, max(self._image.pages, *held))
        elif held:
            self._image.damage.append(f"the log ends inside a transaction of {len(held)} pages or more")
        if frame and (not any(frame) or _FRAME.unpack_from(frame.ljust(_FRAME.size, b"\0"))[2:4] == salts):
            self._image.damage.append("the log ends within a page: what it went on with is lost, if it did")

    def _is_plausible(self, number: int, data: bytes) -> bool:
        """For a page of the log that nothing vouches for, since the frame before it was hit: whether it
        looks like one. What is read from it is checked again by whoever reads it."""
        kind = kind_of(data, number)
        if not kind:
            return (
                number > 1 and int.from_bytes(data[:4], "big") <= self._image.pages + self._image.pages // 2
            )
        count = int.from_bytes(data[header_at(number) + 3 : header_at(number) + 5], "big")
        return len(cell_offsets(data, number, kind)) == count

    def _sum(self, data: bytes, start: tuple[int, int]) -> tuple[int, int]:
        first, second = start
        words = iter(struct.unpack(f"{self._order}{len(data) // 4}I", data))
        for word, following in zip(words, words, strict=True):
            first = (first + word + second) & 0xFFFF_FFFF
            second = (second + following + first) & 0xFFFF_FFFF
        return first, second
