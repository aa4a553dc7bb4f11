"""SQL that writes a recording: epochs, rows, gaps, marks; and what falls out of the ring. Room: store.

Functions of a connection, within its transaction. Rows go to the end of ``frames``, which has no
second index, so that one appended frame changes one page of the tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import apsw

from gateway.limits import CACHED_STATEMENT_BYTES_MAX, JOURNAL_ROWS_AT_ONCE
from gateway.store.world.reading import RowHead, first_row, keyframe_at_time
from gateway.store.world.state import live_records, state_hash
from gateway.wire.framecodec import QUICK, FrameEncoder, pack_quick
from gateway.wire.journal import Gap, JournalFrame

# Every column by name: a newer gateway beside this one may have added some to the tables of a world (docs/SCHEMA.md).
_APPEND: Final = [
    "INSERT OR IGNORE INTO frames(seq, epoch, tick, received_at, sent_at, keyframe, codec, body) VALUES "
    + ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?)"] * count)
    for count in range(1, JOURNAL_ROWS_AT_ONCE + 1)
]
_KEYFRAME: Final = "INSERT OR IGNORE INTO keyframes(seq, epoch, tick, received_at, records, state_hash) VALUES(?, ?, ?, ?, ?, ?)"


class PackedBatch(NamedTuple):
    """A batch as rows, ready to be written, as often as it takes. A frame's last two columns are its codec and body."""

    frames: list[list[Any]]
    keyframes: list[tuple[int, int, int, int, int, bytes]]
    gaps: list[tuple[int, int, int, str]]


def pack(
    encoder: FrameEncoder, frames: Sequence[JournalFrame], gaps: Sequence[Gap], *, alone: bool = False
) -> PackedBatch:
    """The rows of a batch, ``seq`` rising by one from the last row that was packed. ``alone``: they may
    not follow it, or may be there already: each row stands alone, and so will the next one. Call
    :func:`finish` before :func:`write`."""
    if alone:
        encoder.restart()
    rows, keyframes = [], []
    for seq, epoch, tick, received_at_us, sent_at_us, is_keyframe, messages in frames:
        if is_keyframe:
            keyframes.append((seq, epoch, tick, received_at_us, *_counted(messages)))
        # A keyframe always stands alone: replays begin with it, and pruning ends before it.
        codec, body = encoder.encode(messages, fresh=alone or is_keyframe)
        rows.append([seq, epoch, tick, received_at_us, sent_at_us, int(is_keyframe), codec, body])
    if alone:
        encoder.restart()
    told: list[tuple[int, int, int, str]] = [(g.epoch, g.from_tick, g.to_tick, g.reason) for g in gaps]
    return PackedBatch(rows, keyframes, told)


def _counted(messages: Sequence[bytes]) -> tuple[int, bytes]:
    """How many records a keyframe has, and their hash. They are let go before it is packed: each is a copy."""
    records = live_records(messages)
    return len(records), state_hash(records)


def finish(batches: Sequence[PackedBatch]) -> None:
    """Pack the rows that :func:`pack` left for being packed with many others."""
    rows = [row for batch in batches for row in batch.frames if row[6] == QUICK]
    if rows:
        # In one call for the journals of a whole round: half the time (docs/PERFORMANCE.md, "What a
        # publisher's frame costs").
        for row, packed in zip(rows, pack_quick([row[7] for row in rows]), strict=True):
            row[6:] = packed


def is_one_statement(batch: PackedBatch) -> bool:
    """True where :func:`write` is one statement: rows alone, and few."""
    return not batch.keyframes and not batch.gaps and 0 < len(batch.frames) <= len(_APPEND)


def write(connection: apsw.Connection, batch: PackedBatch) -> bool:
    """Write a batch. Rows that are there already stay as they are: its own, from a try whose end nobody learned. False: another
    writer's rows have these numbers, and nothing of the batch may be kept."""
    many, frames = connection.executemany, batch.frames
    before = connection.total_changes()
    small = (
        sum([len(row[7]) for row in frames]) <= CACHED_STATEMENT_BYTES_MAX
    )  # a kept statement keeps its values
    if 0 < len(frames) <= len(_APPEND):
        connection.execute(_APPEND[len(frames) - 1], tuple(chain.from_iterable(frames)), can_cache=small)
    else:
        many(_APPEND[0], frames, can_cache=small)
    # The look at what is there costs a query, so it is made only where IGNORE has left something out.
    if connection.total_changes() - before < len(frames) and not _are_there(connection, frames):
        return False
    if batch.keyframes:
        many(_KEYFRAME, batch.keyframes)
    if batch.gaps:
        many("INSERT OR IGNORE INTO gaps(epoch, from_tick, to_tick, reason) VALUES(?, ?, ?, ?)", batch.gaps)
    return True


def _are_there(connection: apsw.Connection, frames: Sequence[Sequence[Any]]) -> bool:
    """Whether each of these rows is in the recording: the same frame, come at the same time."""
    query = "SELECT seq, epoch, tick, received_at FROM frames WHERE seq BETWEEN ? AND ?"
    there = set(connection.execute(query, (frames[0][0], frames[-1][0])))
    return there.issuperset(tuple(row[:4]) for row in frames)


def begin_epoch(connection: apsw.Connection, requested: int | None, now_us: int) -> int:
    """The epoch of a publisher that attaches: the next one, or its own again while it is the newest."""
    newest = connection.execute("SELECT max(epoch) FROM epochs").get or 0
    # The same publisher after a broken connection: a new epoch would void what readers hold.
    if requested is not None and requested == newest:
        query = "UPDATE epochs SET ended_at = NULL WHERE epoch = ? AND ended_at IS NOT NULL"
        connection.execute(query, (newest,))
        return int(newest)
    connection.execute(
        "UPDATE epochs SET ended_at = ? WHERE epoch = ? AND ended_at IS NULL", (now_us, newest)
    )
    connection.execute("INSERT INTO epochs(epoch, started_at) VALUES(?, ?)", (newest + 1, now_us))
    return int(newest) + 1


def end_epoch(connection: apsw.Connection, epoch: int, now_us: int) -> None:
    """Note that the publisher of ``epoch`` is gone."""
    connection.execute("UPDATE epochs SET ended_at = ? WHERE epoch = ?", (now_us, epoch))


def set_mark(
    connection: apsw.Connection, name: str, epoch: int, tick: int, at_us: int, data: str | None
) -> None:
    """Set the mark ``name``, or move it. ``data``: JSON text."""
    connection.execute(
        "REPLACE INTO marks(name, epoch, tick, at, data) VALUES(?, ?, ?, ?, ?)",
        (name, epoch, tick, at_us, data),
    )


def prune(connection: apsw.Connection, before_us: int, rows_max: int) -> int:
    """Delete the rows that no moment from ``before_us`` on needs; answers how many.

    The newest keyframe at or before ``before_us`` and everything after it stay. The oldest go first,
    some ``rows_max`` of them, always up to a keyframe: what is left begins with one.
    """
    keep, first = keyframe_at_time(connection, before_us), first_row(connection)
    if keep is None or first is None or first.seq >= keep.seq:
        return 0
    # Up to a keyframe, even where that is more than asked for: rows behind it may lean on those before.
    upto = _keyframe_seq(connection, first.seq, min(keep.seq, first.seq + rows_max))
    connection.execute("DELETE FROM frames WHERE seq < ?", (upto,))
    connection.execute("DELETE FROM keyframes WHERE seq < ?", (upto,))
    if upto == keep.seq:
        _prune_gaps(connection, keep)
    return upto - first.seq


def _keyframe_seq(connection: apsw.Connection, after: int, limit: int) -> int:
    """The last keyframe row after ``after`` up to ``limit``, or else the next one beyond."""
    last = connection.execute("SELECT max(seq) FROM keyframes WHERE seq > ? AND seq <= ?", (after, limit)).get
    return int(last or connection.execute("SELECT min(seq) FROM keyframes WHERE seq > ?", (after,)).get)


def _prune_gaps(connection: apsw.Connection, keep: RowHead) -> None:
    before = (keep.epoch, keep.tick)
    connection.execute("DELETE FROM gaps WHERE (epoch, to_tick) < (?, ?)", before)
    connection.execute(
        "DELETE FROM epochs WHERE epoch < ? AND epoch < (SELECT max(epoch) FROM epochs)", before[:1]
    )
