"""One message on its way to every reader of a world: encoded once, shared by all. Room: core. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.limits import PIECE_SIZES_CACHED_MAX, PIECES_MAX
from gateway.wire.frames import HEADER_BYTES, Frame, Record, encode_frame, encode_message
from gateway.wire.records import record_chunks
from gateway.wire.split import pack_chunks

Piece = tuple[bytes, tuple[int, ...]]


class Outgoing:
    """A frame message for fan-out.

    ``message``: its plain bytes; ``packed``: the zstd form for readers that asked for it, or the
    same; ``keys``: those of which it carries the newest value. All readers share these objects.
    """

    __slots__ = (
        "_frame",
        "_marks",
        "_pieces",
        "has_ticks",
        "keys",
        "message",
        "packed",
        "parts",
        "size",
        "tick",
    )

    def __init__(self, frame: Frame, message: bytes, keys: tuple[int, ...]) -> None:
        self._frame = frame
        self.tick = frame.tick
        self.has_ticks = frame.ticks
        """Whether its values may be older than it is."""
        self.parts = frame.parts
        self.packed = message
        # Once for all: most readers did not ask for zstd, and each would have to unpack it.
        self.message = plain(frame) if frame.zstd else message
        self.keys = keys
        self.size = len(self.message)
        self._marks: dict[int, None] | None = None
        self._pieces: dict[int, list[Piece]] = {}

    @property
    def marks(self) -> dict[int, None]:
        """The keys as a dict, for its order and speed."""
        marks = self._marks
        if marks is None:
            # Made when it is asked for: where everybody takes the frame as it came nobody does.
            marks = self._marks = dict.fromkeys(self.keys)
        return marks

    def pieces(self, message_bytes_max: int) -> list[Piece]:
        """The same records in messages of at most so many bytes (whole records; one that does not
        fit by itself stands alone in a longer one), each with the keys that it carries."""
        pieces = self._pieces.get(message_bytes_max)
        if pieces is None:
            if len(self._pieces) >= PIECE_SIZES_CACHED_MAX:
                # By size of datagram, of which readers' paths have few.
                self._pieces.clear()
            fits = self.size <= message_bytes_max
            pieces = [(self.message, self.keys)] if fits else self._cut(message_bytes_max)
            self._pieces[message_bytes_max] = pieces
        return pieces

    def datagrams(self, message_bytes_max: int) -> list[Piece] | None:
        """The pieces, or None where a stream is the better way: they would be more than
        ``PIECES_MAX``, or one record is too large for any of them."""
        pieces = self.pieces(message_bytes_max)
        if len(pieces) > PIECES_MAX or max([len(message) for message, _ in pieces]) > message_bytes_max:
            return None
        return pieces

    def _cut(self, message_bytes_max: int) -> list[Piece]:
        wanted = self.marks
        cut = _copy(self._frame, [row for row in self._frame.records if row.key in wanted])
        keys, values, ticks = cut.columns()
        groups = pack_chunks(record_chunks(keys, values, ticks, cut.stride), message_bytes_max - HEADER_BYTES)
        at, pieces = 0, []
        for part, group in enumerate(groups):
            message = encode_message(cut, b"".join(group), part, len(groups))
            pieces.append((message, keys[at : at + len(group)]))
            at += len(group)
        return pieces


def plain(frame: Frame) -> bytes:
    """The message of a frame that came compressed, uncompressed."""
    copy = _copy(frame, frame.records)
    copy.keyframe, copy.part, copy.parts = frame.keyframe, frame.part, frame.parts
    return encode_frame(copy)


def only(frame: Frame, keys: tuple[int, ...]) -> Frame:
    """The frame with these keys' records alone: the others are older than what is known already."""
    wanted = set(keys)
    rows = []
    for row in frame.records:
        if row.key in wanted:
            # The first of two records with one key counts, as it does in the state.
            wanted.discard(row.key)
            rows.append(row)
    cut = _copy(frame, rows)
    cut.part, cut.parts = frame.part, frame.parts
    return cut


def _copy(frame: Frame, rows: Sequence[Record]) -> Frame:
    """These records under the frame's header, no longer a keyframe: a part of one that is cut again
    can't be counted by its readers (what it removes reaches them as removals)."""
    return Frame(
        frame.epoch,
        frame.tick,
        rows,
        repair=frame.repair,
        ticks=frame.ticks,
        stride=frame.stride,
        sent_at=frame.sent_at,
    )
