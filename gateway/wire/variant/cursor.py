"""A reader over bytes that says where it stopped. Room: wire."""

from __future__ import annotations

from gateway.errors import Unprocessable


class Cursor:
    """Reads ``data`` from ``at`` on; every fault is an :class:`Unprocessable` with its ``offset``."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def fault(self, what: str, offset: int | None = None) -> Unprocessable:
        """The exception for what stands at ``offset`` (default: here)."""
        where = self.at if offset is None else offset
        return Unprocessable(f"not a Godot Variant: {what} at offset {where}", offset=where)

    def left(self) -> int:
        return len(self.data) - self.at

    def read(self, size: int, what: str) -> bytes:
        """The next ``size`` bytes."""
        if size > self.left():
            raise self.fault(f"{what} needs {size} bytes, {self.left()} are left")
        start = self.at
        self.at += size
        return self.data[start : self.at]

    def u32(self, what: str) -> int:
        return int.from_bytes(self.read(4, what), "little")

    def u64(self, what: str) -> int:
        return int.from_bytes(self.read(8, what), "little")

    def count(self, item_bytes_min: int, mask: int = 0xFFFFFFFF) -> int:
        """A count, refused if so many items of at least ``item_bytes_min`` bytes cannot follow."""
        start = self.at
        count = self.u32("a count") & mask
        if count * item_bytes_min > self.left():
            raise self.fault(
                f"a count of {count} needs {count * item_bytes_min} bytes, {self.left()} are left", start
            )
        return count

    def signed_count(self, item_bytes_min: int) -> int:
        """A count that Godot reads with a sign and loops up to: a negative one means none."""
        # The sign bit, without reading the count: a cursor that is short of four bytes faults below.
        if self.left() >= 4 and self.data[self.at + 3] & 0x80:
            self.at += 4
            return 0
        return self.count(item_bytes_min)

    def sized(self, what: str) -> bytes:
        """A u32 length, that many bytes, and padding (of any content) to a multiple of four."""
        start = self.at
        size = self.u32(f"the length of {what}")
        if size + -size % 4 > self.left():
            raise self.fault(f"{what} of {size} bytes and its padding, {self.left()} are left", start)
        data = self.read(size, what)
        # The padding was counted above: a cursor never stands behind its data.
        self.at += -size % 4
        return data

    def text(self) -> str:
        """A string. Like Godot's parser it ends at the first NUL; what is not UTF-8 is refused."""
        start = self.at
        data = self.sized("a string").split(b"\0", 1)[0]
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise self.fault("a string that is not UTF-8", start + 4 + error.start) from error
