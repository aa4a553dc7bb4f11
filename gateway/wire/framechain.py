"""What a recorded frame may lean on: bodies, key lists, values by key, arithmetic. Room: wire. Pure.

The parts of :mod:`gateway.wire.framecodec`, which says what they are for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from gateway.errors import MalformedMessage
from gateway.wire.frames import FLAG_TICKS, FLAG_ZSTD, FLAGS_KNOWN, HEADER_BYTES, TYPE_FRAME
from gateway.wire.streams import prefix

MESSAGE_HEAD_BYTES: Final = 4 + HEADER_BYTES
_FLAGS: Final = FLAGS_KNOWN & ~FLAG_ZSTD
_U32: Final = struct.Struct("<I")
_RUNS_MAX: Final = 64


def join(messages: Sequence[bytes]) -> bytes:
    """The body of a row: each message after its u32 length."""
    return b"".join(map(prefix, messages))


def messages_of(body: bytes) -> list[bytes]:
    """The messages of a body. Raises :class:`MalformedMessage` where it ends inside one."""
    return [body[start:end] for start, end in _spans(body)]


def _spans(body: bytes) -> Iterator[tuple[int, int]]:
    at, end = 0, len(body)
    while at < end:
        start = at + 4
        at = start + int.from_bytes(body[at:start], "little")
        if start > end or at > end:
            raise MalformedMessage(f"a row's body of {end} bytes ends inside a message at byte {start}")
        yield start, at


class KeyList:
    """The keys of a row, in order. One object for equal lists of one chain, so it compares by identity."""

    __slots__ = ("keys", "members", "steps")

    def __init__(self, keys: tuple[int, ...], steps: bytes) -> None:
        self.keys = keys
        self.members = frozenset(keys)
        self.steps = steps
        """Each key less the one before it, u32 each: sorted lists pack to nothing."""


class KeyLists:
    """Finds the :class:`KeyList` of records or of steps without looking at each key again."""

    def __init__(self) -> None:
        self._by_columns: dict[bytes, KeyList] = {}
        self._by_steps: dict[bytes, KeyList] = {}

    def of_records(self, records: bytes, stride: int) -> KeyList:
        """The first four bytes of each record."""
        columns = b"".join([records[at::stride] for at in range(4)])
        found = self._by_columns.get(columns)
        if found is None:
            keys = [key for (key,) in struct.iter_unpack(f"<I{stride - 4}x", records)]
            steps = [key - before & 0xFFFF_FFFF for key, before in zip(keys, (0, *keys), strict=False)]
            found = self._keep(columns, struct.pack(f"<{len(steps)}I", *steps), keys)
        return found

    def of_steps(self, steps: bytes) -> KeyList:
        """The sums of the steps, modulo 2**32."""
        found = self._by_steps.get(steps)
        if found is None:
            keys, key = [], 0
            for (step,) in _U32.iter_unpack(steps):
                key = key + step & 0xFFFF_FFFF
                keys.append(key)
            packed = struct.pack(f"<{len(keys)}I", *keys)
            found = self._keep(b"".join([packed[at::4] for at in range(4)]), steps, keys)
        return found

    def _keep(self, columns: bytes, steps: bytes, keys: list[int]) -> KeyList:
        if len(self._by_columns) >= 4 * _RUNS_MAX:
            self._by_columns.clear()
            self._by_steps.clear()
        found = KeyList(tuple(keys), steps)
        self._by_columns[columns] = self._by_steps[steps] = found
        return found


class Layout(NamedTuple):
    """A body taken apart: the heads (length and header of each message), and all its records."""

    heads: bytes
    stride: int
    keys: KeyList
    records: bytes
    plain: bool
    """False where records have ticks of their own, or make no whole lanes: not packed by columns."""


def take_apart(body: bytes, lists: KeyLists) -> Layout | None:
    """None where the body is not whole records of one stride."""
    heads, chunks, stride, flags = [], [], 0, 0
    for start, end in _spans(body):
        if end - start < HEADER_BYTES or body[start] != TYPE_FRAME or body[start + 1] & ~_FLAGS:
            return None
        own = int.from_bytes(body[start + 6 : start + 8], "little")
        ticks_bytes = 4 if body[start + 1] & FLAG_TICKS else 0
        if own < 4 or (stride and own != stride) or (end - start - HEADER_BYTES) % (own + ticks_bytes):
            return None
        stride, flags = own, flags | body[start + 1]
        heads.append(body[start - 4 : start + HEADER_BYTES])
        records = body[start + HEADER_BYTES : end]
        chunks.append(_without_ticks(records, own) if ticks_bytes else records)
    if not stride:
        return None
    records = b"".join(chunks)
    plain = not flags & FLAG_TICKS and len(records) % 2 == 0
    return Layout(b"".join(heads), stride, lists.of_records(records, stride), records, plain)


def _without_ticks(records: bytes, stride: int) -> bytes:
    return b"".join([records[at : at + stride] for at in range(4, len(records), stride + 4)])


def put_together(heads: bytes, records: bytes) -> bytes:
    pieces, at = [], 0
    for start in range(0, len(heads), MESSAGE_HEAD_BYTES):
        head = heads[start : start + MESSAGE_HEAD_BYTES]
        end = at + _U32.unpack_from(head)[0] - HEADER_BYTES
        pieces += [head, records[at:end]]
        at = end
    return b"".join(pieces)


class Lanes:
    """Arithmetic modulo 65,536 on every 16-bit lane of a long integer at once."""

    __slots__ = ("bytes", "high", "low", "ones")

    def __init__(self, size_bytes: int) -> None:
        self.bytes = size_bytes
        self.ones = int.from_bytes(b"\1\0" * (size_bytes // 2), "little")
        self.high = self.ones << 15
        self.low = self.high - self.ones

    def minus(self, a: int, b: int) -> int:
        return ((a | self.high) - (b & self.low)) ^ ((a ^ b ^ self.high) & self.high)

    def plus(self, a: int, b: int) -> int:
        return ((a & self.low) + (b & self.low)) ^ ((a ^ b) & self.high)

    def predicted(self, last: bytes, before: bytes) -> int:
        """``2 * last - before``: what goes on as it went."""
        value = int.from_bytes(last, "little")
        return self.plus(value, self.minus(value, int.from_bytes(before, "little")))

    def residue(self, records: bytes, last: bytes, before: bytes) -> bytes:
        """Zigzag of what the prediction missed: small either way is a small number."""
        missed = self.minus(int.from_bytes(records, "little"), self.predicted(last, before))
        zigzag = ((missed & self.low) << 1) ^ (((missed & self.high) >> 15) * 0xFFFF)
        return zigzag.to_bytes(self.bytes, "little")

    def restored(self, residue: bytes, last: bytes, before: bytes) -> bytes:
        """The inverse of :meth:`residue`."""
        zigzag = int.from_bytes(residue, "little")
        missed = ((zigzag >> 1) & self.low) ^ ((zigzag & self.ones) * 0xFFFF)
        return self.plus(missed, self.predicted(last, before)).to_bytes(self.bytes, "little")


class Chain:
    """What a row may lean on: the body before it, and per key its last two values in this chain.

    A list of keys that comes again and again is a *run*: its values stay joined, and cost nothing per
    key. Runs share no key; one that a new list overlaps is dissolved into the values by key.
    """

    def __init__(self) -> None:
        self.body = b""
        self.lists = KeyLists()
        self._stride = 0
        self._runs: dict[KeyList, tuple[bytes, bytes]] = {}
        self._last: dict[int, bytes] = {}
        self._before: dict[int, bytes] = {}

    @property
    def known_keys(self) -> int:
        """About how many keys are remembered."""
        return len(self._last) + sum([len(run.keys) for run in self._runs])

    def restart(self) -> None:
        self.body = b""
        self._forget()

    def _forget(self) -> None:
        self._runs.clear()
        self._last.clear()
        self._before.clear()

    def follow(self, body: bytes, layout: Layout | None, *, alone: bool) -> None:
        """``body`` is the newest row now; one that leans on nothing starts the chain again."""
        if alone:
            self.restart()
        self.body = body
        if layout is None:
            return
        if layout.stride != self._stride:
            self._forget()
            self._stride = layout.stride
        keys, records = layout.keys, layout.records
        run = self._runs.get(keys)
        if run is not None:
            self._runs[keys] = (records, run[0])
        elif len(keys.members) == len(keys.keys):
            self._dissolve(keys)
            self._runs[keys] = (records, self._last_of(keys, records))
        else:
            self._dissolve(keys)
            self._set(keys, records)

    def _last_of(self, keys: KeyList, records: bytes) -> bytes:
        """Each key's last value; where there is none, the one that it has in ``records``."""
        if self._last.keys().isdisjoint(keys.members):
            return records
        get, values = self._last.get, self._values(records)
        return b"".join([get(key, value) for key, value in zip(keys.keys, values, strict=True)])

    def _values(self, records: bytes) -> list[bytes]:
        stride = self._stride
        return [records[at : at + stride] for at in range(0, len(records), stride)]

    def _set(self, keys: KeyList, records: bytes) -> None:
        last = self._last
        self._before.update([(key, last[key]) for key in keys.keys if key in last])
        last.update(zip(keys.keys, self._values(records), strict=True))

    def _dissolve(self, keys: KeyList) -> None:
        """Runs that share a key with ``keys`` become values by key; at most so many runs stay."""
        for run in [run for run in self._runs if not run.members.isdisjoint(keys.members)]:
            self._dissolve_run(run)
        if len(self._runs) >= _RUNS_MAX:
            self._dissolve_run(next(iter(self._runs)))

    def _dissolve_run(self, run: KeyList) -> None:
        last, before = self._runs.pop(run)
        self._last.update(zip(run.keys, self._values(last), strict=True))
        self._before.update(zip(run.keys, self._values(before), strict=True))

    def guesses(self, keys: KeyList, stride: int) -> tuple[bytes, bytes]:
        """Each key's last value and the one before it, joined; zeros where there is none."""
        if stride != self._stride:
            nothing = bytes(len(keys.keys) * stride)
            return nothing, nothing
        run = self._runs.get(keys)
        if run is not None:
            return run
        self._dissolve(keys)
        zero = bytes(stride)
        last = [self._last.get(key, zero) for key in keys.keys]
        before = [self._before.get(key, value) for key, value in zip(keys.keys, last, strict=True)]
        return b"".join(last), b"".join(before)
