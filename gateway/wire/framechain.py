"""What a recorded frame may lean on: bodies, key lists, values by key, arithmetic. Room: wire. Pure.

The parts of :mod:`gateway.wire.framecodec`, which says what they are for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from gateway.errors import MalformedMessage
from gateway.limits import (
    FRAME_CHAIN_BYTES_MAX,
    FRAME_CHAIN_KEYS_KEPT_MAX,
    FRAME_CHAIN_LISTED_KEYS_MAX,
    FRAME_CHAIN_RUNS_MAX,
)
from gateway.wire.frames import FLAG_TICKS, FLAG_ZSTD, FLAGS_KNOWN, HEADER_BYTES, TYPE_FRAME
from gateway.wire.records import RecordColumns

MESSAGE_HEAD_BYTES: Final = 4 + HEADER_BYTES
_FLAGS: Final = FLAGS_KNOWN & ~FLAG_ZSTD
_U32: Final = struct.Struct("<I")
_HEAD: Final = struct.Struct("<IBBHHHIIQ")
"""A message's length and its header, see :mod:`gateway.wire.frames`."""
_PART: Final = struct.Struct("<I2xHH18x")
"""Of the same, what differs between the parts of a frame: length, part, parts."""


def join(messages: Sequence[bytes]) -> bytes:
    """The body of a row: each message after its u32 length. No message is copied on the way, for a keyframe's are
    as large as the state."""
    # By slices, not by append: this runs for each frame that is recorded.
    pieces: list[bytes] = [b""] * (2 * len(messages))
    pieces[::2] = [_U32.pack(len(message)) for message in messages]
    pieces[1::2] = messages
    return b"".join(pieces)


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
        self._keys = 0
        self._by_columns: dict[bytes, KeyList] = {}
        self._by_steps: dict[bytes, KeyList] = {}

    def of_records(self, records: bytes, stride: int) -> KeyList:
        """The first four bytes of each record."""
        # Four strided slices, in C, stand for the list of keys: only a list that is new is taken apart in Python.
        columns = b"".join([records[at::stride] for at in range(4)])
        found = self._by_columns.get(columns)
        if found is None:
            keys = [key for (key,) in struct.iter_unpack(f"<I{stride - 4}x", records)]
            # ``-`` binds before ``&``: the difference, modulo 2**32.
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
        self._keys += len(keys)
        # Lists that never come again would pile up: all go, and the few in use are back with their next frame.
        if len(self._by_columns) >= 4 * FRAME_CHAIN_RUNS_MAX or self._keys > FRAME_CHAIN_LISTED_KEYS_MAX:
            self._by_columns.clear()
            self._by_steps.clear()
            self._keys = len(keys)
        found = KeyList(tuple(keys), steps)
        # Never kept, for it alone is over the bound; used once.
        if len(keys) > FRAME_CHAIN_LISTED_KEYS_MAX:
            return found
        self._by_columns[columns] = self._by_steps[steps] = found
        return found


class RowValues:
    """The records of a row, joined: bytes and one long number, each made of the other when asked for.

    ``speed``: the number less the one before it in its run, by lanes; None where nobody knows.
    """

    __slots__ = ("_bytes", "_number", "size_bytes", "speed")

    def __init__(self, data: bytes) -> None:
        self._bytes: bytes | None = data
        self._number: int | None = None
        self.size_bytes = len(data)
        self.speed: int | None = None

    @classmethod
    def of_number(cls, number: int, size_bytes: int, speed: int) -> RowValues:
        made = cls(b"")
        made._bytes, made._number, made.size_bytes, made.speed = None, number, size_bytes, speed
        return made

    @property
    def bytes(self) -> bytes:
        if self._bytes is None:
            self._bytes = self.number.to_bytes(self.size_bytes, "little")
        return self._bytes

    @property
    def number(self) -> int:
        if self._number is None:
            assert self._bytes is not None
            self._number = int.from_bytes(self._bytes, "little")
        return self._number


class FrameHead(NamedTuple):
    """What the messages of a row have in common where they are the parts of one frame."""

    epoch: int
    tick: int
    sent_at: int


class BodyLayout(NamedTuple):
    """A body taken apart: the heads (length and header of each message), and all its records."""

    heads: bytes
    stride: int
    keys: KeyList
    records: RowValues
    plain: bool
    """False where records have ticks of their own, or make no whole lanes: not packed by columns."""

    def check(self) -> None:
        """Raises ``ValueError`` where the heads do not share out the records."""
        lengths = [length - HEADER_BYTES for length, _, _ in _PART.iter_unpack(self.heads)]
        if not lengths or min(lengths) < 0 or sum(lengths) != self.records.size_bytes:
            raise ValueError(f"its heads do not share out {self.records.size_bytes} bytes of records")

    def one_frame(self) -> FrameHead | None:
        """The frame that the row is, where it is one and no more: no keyframe, no repair, each key once."""
        if not self.plain or len(self.keys.members) != len(self.keys.keys):
            return None
        heads, stride = self.heads, self.stride
        starts = range(0, len(heads), MESSAGE_HEAD_BYTES)
        # All of the heads but the length, the part, and the parts, which differ between the messages of one frame.
        if len({heads[at + 4 : at + 6] + heads[at + 10 : at + 28] for at in starts}) != 1:
            return None
        _, kind, flags, _, _, own, epoch, tick, sent_at = _HEAD.unpack_from(heads)
        if (kind, flags, own) != (TYPE_FRAME, 0, stride):
            return None
        for length, part, parts in _PART.iter_unpack(heads):
            # parts == 0 means that their number is not known (docs/FRAMES.md).
            if (length - HEADER_BYTES) % stride or 0 < parts <= part:
                return None
        return FrameHead(epoch, tick, sent_at)

    def columns(self) -> RecordColumns:
        """The records by column."""
        data, stride = self.records.bytes, self.stride
        return RecordColumns(
            self.keys.keys, [data[at : at + stride] for at in range(0, len(data), stride)], None
        )


def take_apart(body: bytes, lists: KeyLists) -> BodyLayout | None:
    """None where the body is not whole records of one stride."""
    heads, chunks, stride, has_ticks = [], [], 0, False
    for start, end in _spans(body):
        if end - start < HEADER_BYTES or body[start] != TYPE_FRAME or body[start + 1] & ~_FLAGS:
            return None
        own = int.from_bytes(body[start + 6 : start + 8], "little")
        ticks_bytes = 4 if body[start + 1] & FLAG_TICKS else 0
        # A stride of 0 (records with their own lengths) has no columns either: such a row is packed by prefix.
        if own < 4 or (stride and own != stride) or (end - start - HEADER_BYTES) % (own + ticks_bytes):
            return None
        stride, has_ticks = own, has_ticks or ticks_bytes > 0
        heads.append(body[start - 4 : start + HEADER_BYTES])
        records = body[start + HEADER_BYTES : end]
        chunks.append(_without_ticks(records, own) if ticks_bytes else records)
    if not stride:
        return None
    records = b"".join(chunks)
    # An odd number of bytes makes no whole 16-bit lanes.
    plain = not has_ticks and len(records) % 2 == 0
    return BodyLayout(b"".join(heads), stride, lists.of_records(records, stride), RowValues(records), plain)


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
        # The masks of "Hacker's Delight", chapter 2, "Multibyte Add, Subtract, Absolute Value": the top bit of each
        # lane is kept out of the sum, so that nothing is carried into the next. An operation on a number of a
        # million bits is one loop in C.
        self.ones = int.from_bytes(b"\1\0" * (size_bytes // 2), "little")
        self.high = self.ones << 15
        self.low = self.high - self.ones

    def minus(self, a: int, b: int) -> int:
        return ((a | self.high) - (b & self.low)) ^ ((a ^ b ^ self.high) & self.high)

    def plus(self, a: int, b: int) -> int:
        return ((a & self.low) + (b & self.low)) ^ ((a ^ b) & self.high)

    def speed(self, last: RowValues, before: RowValues) -> int:
        """How ``last`` came from ``before``."""
        return self.minus(last.number, before.number) if last.speed is None else last.speed

    def residue(self, records: RowValues, last: RowValues, before: RowValues) -> bytes:
        """Zigzag of what the prediction (it goes on as it went) missed: small either way is a small
        number. Zigzag: https://protobuf.dev/programming-guides/encoding/."""
        speed = self.minus(records.number, last.number)
        missed = self.minus(speed, self.speed(last, before))
        records.speed = speed
        # Sign to the lowest bit (protobuf.dev/programming-guides/encoding, "Signed Integers"): -1 is 1 and not
        # 0xFFFF, whose high byte would break the runs of zeros.
        zigzag = ((missed & self.low) << 1) ^ (((missed & self.high) >> 15) * 0xFFFF)
        return zigzag.to_bytes(self.bytes, "little")

    def restored(self, residue: bytes | bytearray, last: RowValues, before: RowValues) -> RowValues:
        """The inverse of :meth:`residue`."""
        zigzag = int.from_bytes(residue, "little")
        missed = ((zigzag >> 1) & self.low) ^ ((zigzag & self.ones) * 0xFFFF)
        speed = self.plus(self.speed(last, before), missed)
        return RowValues.of_number(self.plus(last.number, speed), self.bytes, speed)


class Chain:
    """What a row may lean on: the body before it, and per key its last two values in this chain.

    A list of keys that comes again and again is a *run*: its values stay joined, and cost nothing per
    key. Runs share no key; one that a new list overlaps is dissolved into the values by key.
    """

    def __init__(self) -> None:
        self._body: bytes | BodyLayout = b""
        self._lanes = Lanes(0)
        self.lists = KeyLists()
        self._stride = 0
        self._runs: dict[KeyList, tuple[RowValues, RowValues]] = {}
        self._last: dict[int, bytes] = {}
        self._before: dict[int, bytes] = {}

    @property
    def body(self) -> bytes:
        """The newest row's; empty where the next row must stand alone."""
        if isinstance(self._body, BodyLayout):
            self._body = put_together(self._body.heads, self._body.records.bytes)
        return self._body

    @property
    def begun(self) -> bool:
        """True where there is a row to lean on."""
        return bool(self._body)

    def lanes(self, size_bytes: int) -> Lanes:
        """The arithmetic for so many bytes; it is mostly the same as for the row before."""
        if self._lanes.bytes != size_bytes:
            self._lanes = Lanes(size_bytes)
        return self._lanes

    @property
    def known_keys(self) -> int:
        """About how many keys are remembered."""
        return len(self._last) + sum([len(run.keys) for run in self._runs])

    @property
    def is_heavy(self) -> bool:
        """True where more is remembered than is worth it."""
        keys = self.known_keys
        if not isinstance(self._body, BodyLayout) and len(self._body) > FRAME_CHAIN_BYTES_MAX:
            return True
        return keys > FRAME_CHAIN_KEYS_KEPT_MAX or keys * self._stride > FRAME_CHAIN_BYTES_MAX

    def restart(self) -> None:
        self._body = b""
        self._forget()

    def _forget(self) -> None:
        self._runs.clear()
        self._last.clear()
        self._before.clear()

    def follow(self, body: bytes | None, layout: BodyLayout | None, *, alone: bool) -> None:
        """``body`` is the newest row now; one that leans on nothing starts the chain again.
        None: it is what ``layout`` says, put together when asked for."""
        if alone:
            self.restart()
        if layout is None:
            self._body = body or b""
            return
        self._body = layout if body is None else body
        # Values of another length predict nothing.
        if layout.stride != self._stride:
            self._forget()
            self._stride = layout.stride
        keys, records = layout.keys, layout.records
        run = self._runs.get(keys)
        if run is not None:
            # The usual frame: the same keys as before. Two references move, whatever the number of keys.
            self._runs[keys] = (records, run[0])
            return
        # residue() took it from zeros for keys that are new; here those count as having stood still.
        records.speed = None
        if len(keys.members) == len(keys.keys):
            self._dissolve(keys)
            self._runs[keys] = (records, self._last_of(keys, records))
        else:
            self._dissolve(keys)
            self._set(keys, records)

    def _last_of(self, keys: KeyList, records: RowValues) -> RowValues:
        """Each key's last value; where there is none, the one that it has in ``records``."""
        # Runs over the chain's first row are all new: one look, and no join.
        if self._last.keys().isdisjoint(keys.members):
            return records
        get, values = self._last.get, self._values(records)
        return RowValues(b"".join([get(key, value) for key, value in zip(keys.keys, values, strict=True)]))

    def _values(self, records: RowValues) -> list[bytes]:
        data, stride = records.bytes, self._stride
        return [data[at : at + stride] for at in range(0, len(data), stride)]

    def _set(self, keys: KeyList, records: RowValues) -> None:
        last = self._last
        self._before.update([(key, last[key]) for key in keys.keys if key in last])
        last.update(zip(keys.keys, self._values(records), strict=True))

    def _dissolve(self, keys: KeyList) -> None:
        """Runs that share a key with ``keys`` become values by key; at most so many runs stay."""
        for run in [run for run in self._runs if not run.members.isdisjoint(keys.members)]:
            self._dissolve_run(run)
        if len(self._runs) >= FRAME_CHAIN_RUNS_MAX:
            # The oldest: dicts keep the order of insertion.
            self._dissolve_run(next(iter(self._runs)))

    def _dissolve_run(self, run: KeyList) -> None:
        last, before = self._runs.pop(run)
        self._last.update(zip(run.keys, self._values(last), strict=True))
        self._before.update(zip(run.keys, self._values(before), strict=True))

    def guesses(self, keys: KeyList, stride: int) -> tuple[RowValues, RowValues]:
        """Each key's last value and the one before it, joined; zeros where there is none."""
        # After a change of stride a row predicts from zeros: it is packed by columns all the same.
        if stride != self._stride:
            nothing = RowValues(bytes(len(keys.keys) * stride))
            return nothing, nothing
        run = self._runs.get(keys)
        if run is not None:
            return run
        self._dissolve(keys)
        zero = bytes(stride)
        last = [self._last.get(key, zero) for key in keys.keys]
        before = [self._before.get(key, value) for key, value in zip(keys.keys, last, strict=True)]
        return RowValues(b"".join(last)), RowValues(b"".join(before))
