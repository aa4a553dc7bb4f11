"""The journal at its bounds: what just fits and what is one over, what waits since when, and how a mark moves."""

from __future__ import annotations

import pytest

from gateway.core.counters import Counters
from gateway.core.journal import JournalBuffer, Unjournalled, _spanning
from gateway.core.keyframes import SharedKeyframe
from gateway.core.ports import Mark
from gateway.limits import (
    JOURNAL_GAPS_MAX,
    JOURNAL_LET_GO_TOLD_MAX,
    JOURNAL_ROW_MESSAGES_MAX,
    JOURNAL_ROW_OVERHEAD_BYTES,
)
from gateway.wire.journal import Batch, Gap, Tail

OVERHEAD = JOURNAL_ROW_OVERHEAD_BYTES
KEYFRAME_BYTES = 30


class Rig:
    """A journal by itself; ``order`` is the newest that its keyframes would be of."""

    def __init__(
        self, *, bytes_max: int = 10_000, durable: Mark | None = None, tail: Tail | None = None
    ) -> None:
        self.counters = Counters()
        self.order = 1 << 32
        self.made: list[float] = []
        self.journal = JournalBuffer(
            self.keyframe,
            self.counters,
            next_seq=7,
            durable=durable,
            keyframe_interval_s=4.0,
            bytes_max=bytes_max,
            tail=tail,
        )

    def keyframe(self, mono: float) -> SharedKeyframe:
        """What its world would make."""
        self.made.append(mono)
        return SharedKeyframe([bytes(10), bytes(20)], (), self.order, 0, 55, KEYFRAME_BYTES, mono)

    def add(
        self, tick: int, *, epoch: int = 1, part: int = 0, parts: int = 1, size: int = 100, mono: float = 1.0
    ) -> bool:
        self.order = max(self.order, epoch << 32 | tick)
        return self.journal.add(epoch, tick, part, parts, 33, bytes(size), mono, int(mono * 1e6))

    def take(self, mono: float = 1.0) -> Batch:
        batch = self.journal.take_batch(mono, int(mono * 1e6))
        assert batch is not None
        return batch

    def commit(self, mono: float = 1.0) -> Batch:
        batch = self.take(mono)
        self.journal.committed(batch)
        return batch


# --- room -----------------------------------------------------------------------------------


def test_there_is_room_for_a_message_that_just_fits_and_not_for_one_byte_more() -> None:
    rig = Rig(bytes_max=1_000)
    rig.add(1, size=100)
    left = 1_000 - (100 + OVERHEAD) - OVERHEAD
    assert (rig.journal.has_room(left), rig.journal.has_room(left + 1)) == (True, False)
    rig.add(2, size=left)
    assert rig.journal.size_bytes == 1_000
    assert rig.counters.journal_dropped == 0


def test_one_byte_over_the_bound_drops_what_waits_and_then_there_is_no_room_until_that_is_told() -> None:
    rig = Rig(bytes_max=1_000)
    rig.add(1)
    assert rig.add(2, size=1_000 - 100 - 2 * OVERHEAD + 1), "whoever takes the batches is told of it"
    assert (rig.journal.size_bytes, rig.counters.journal_dropped) == (0, 2)
    assert not rig.journal.has_room(1)
    rig.add(3, size=1)
    assert (rig.journal.size_bytes, rig.counters.journal_dropped) == (0, 3)
    batch = rig.commit()
    assert batch.gaps == (Gap(1, 1, 3, "dropped"),)
    assert rig.journal.has_room(1)


def test_a_drop_forgets_the_rows_that_wait_and_not_those_in_flight() -> None:
    rig = Rig(bytes_max=2_000)
    rig.add(1)
    flying = rig.take()
    for tick in (2, 3):
        rig.add(tick)
    rig.add(4, size=3_000)
    assert rig.journal.size_bytes == flying.size_bytes == 100 + OVERHEAD + KEYFRAME_BYTES + 2 * OVERHEAD
    assert rig.journal.next_seq == flying.frames[-1].seq + 1
    assert rig.journal.dropped_upto == 1 << 32 | 4
    rig.journal.committed(flying)
    assert rig.journal.size_bytes == 0
    batch = rig.commit()
    assert [row.keyframe for row in batch.frames] == [True], "the history goes on from a keyframe"
    assert batch.gaps == (Gap(1, 2, 4, "dropped"),)


def test_a_row_of_several_messages_that_is_dropped_leaves_nothing_behind() -> None:
    rig = Rig(bytes_max=1_000)
    assert rig.journal.dropped_upto == -1
    for part in range(3):
        rig.add(1, part=part, parts=3, size=10)
    rig.add(2, size=1_000)
    assert rig.journal.size_bytes == 0


def test_dropped_ticks_are_told_for_so_many_epochs_and_the_oldest_give_way() -> None:
    rig = Rig(bytes_max=500)
    rig.add(1, size=10)
    for epoch in range(1, JOURNAL_GAPS_MAX + 2):
        rig.add(5, epoch=epoch, size=600)
    gaps = [gap for gap in rig.take().gaps if gap.reason == "dropped"]
    assert [gap.epoch for gap in gaps] == list(range(2, JOURNAL_GAPS_MAX + 2))


# --- rows -----------------------------------------------------------------------------------


def test_whoever_takes_batches_is_called_for_the_first_message_and_not_for_those_that_wait_with_it() -> None:
    rig = Rig()
    assert [rig.add(1), rig.add(2)] == [True, False]
    rig.commit()
    assert rig.add(3)
    assert rig.counters.journal_frames == 3


def test_a_row_says_when_it_came_and_was_sent_under_rising_numbers() -> None:
    rig = Rig()
    rig.add(1, mono=2.0)
    rig.add(2, mono=3.0)
    frames = rig.take(5.0).frames
    assert [(row.seq, row.epoch, row.tick, row.received_at_us, row.sent_at_us) for row in frames] == [
        (7, 1, 1, 2_000_000, 33),
        (8, 1, 2, 3_000_000, 33),
        (9, 1, 2, 5_000_000, 55),
    ]
    assert [row.keyframe for row in frames] == [False, False, True]
    assert rig.journal.next_seq == 10


def test_so_many_parts_share_a_row_and_one_more_begins_the_next() -> None:
    rig = Rig(bytes_max=1 << 20)
    parts = JOURNAL_ROW_MESSAGES_MAX + 1
    for part in range(parts):
        rig.add(1, part=part, parts=parts)
    rows = [row for row in rig.take().frames if not row.keyframe]
    assert [len(row.messages) for row in rows] == [JOURNAL_ROW_MESSAGES_MAX, 1]


@pytest.mark.parametrize(("epoch", "tick"), [(1, 2), (2, 1)])
def test_a_late_part_shares_no_row_with_another_tick(epoch: int, tick: int) -> None:
    rig = Rig()
    rig.add(tick, epoch=epoch)
    rig.add(1, epoch=1, part=1, parts=2)
    assert [row.tick for row in rig.take().frames if not row.keyframe] == [tick, 1]


def test_a_part_of_a_tick_that_a_keyframe_was_made_of_has_a_row_of_its_own() -> None:
    rig = Rig()
    rig.add(1, parts=2)
    rig.commit()
    rig.add(1, part=1, parts=2)
    assert [row.keyframe for row in rig.take().frames] == [False]


# --- keyframes ------------------------------------------------------------------------------


def test_a_keyframe_is_due_at_the_start_and_when_its_interval_is_over() -> None:
    rig = Rig()
    for tick, mono in enumerate((1.0, 4.9375, 5.0, 8.0, 9.0), 1):
        rig.add(tick, mono=mono)
        rig.commit(mono)
    assert rig.made == [1.0, 5.0, 9.0]


def test_before_the_first_message_there_is_no_keyframe_to_make() -> None:
    rig = Rig(durable=Mark(1, 5), tail=Tail(((5, 0, 2),)))
    rig.journal.note_gaps(100.0)
    batch = rig.commit(100.0)
    assert (batch.frames, batch.gaps) == ((), (Gap(1, 5, 5, "partial"),))
    assert (batch.epoch, batch.tick) == (None, None)
    assert rig.made == []


# --- what waits -----------------------------------------------------------------------------


def test_the_oldest_that_the_store_has_not_is_in_flight_or_waits() -> None:
    rig = Rig()
    assert rig.journal.oldest is None
    rig.add(1, mono=2.0)
    rig.add(2, mono=3.0)
    assert rig.journal.oldest == 2.0
    batch = rig.take(3.0)
    rig.add(3, mono=4.0)
    assert rig.journal.oldest == 2.0
    rig.journal.committed(batch)
    assert rig.journal.oldest == 4.0
    batch = rig.take(5.0)
    rig.journal.failed(batch)
    assert rig.journal.oldest == 4.0
    assert rig.counters.journal_failures == 1
    assert rig.take(6.0) is batch
    rig.journal.committed(batch)
    assert (rig.journal.oldest, rig.journal.empty, rig.journal.ready) == (None, True, False)


def test_while_a_batch_is_in_flight_no_other_is_given_and_the_journal_is_not_empty() -> None:
    rig = Rig()
    assert (rig.journal.empty, rig.journal.in_flight) == (True, None)
    rig.add(1)
    batch = rig.take()
    assert rig.journal.in_flight is batch
    rig.add(2)
    assert (rig.journal.ready, rig.journal.empty) == (False, False)
    assert rig.journal.take_batch(1.0, 0) is None
    another = Rig()
    another.add(2)
    with pytest.raises(ValueError, match="not the one in flight"):
        rig.journal.committed(another.take())


@pytest.mark.parametrize("epoch", [0, 1])
def test_parts_are_awaited_from_the_first_message_on(epoch: int) -> None:
    rig = Rig()
    assert (rig.journal.awaits, rig.journal.is_unsure) == (False, False)
    rig.add(0, epoch=epoch, parts=2)
    assert (rig.journal.awaits, rig.journal.is_unsure) == (True, True)
    rig.add(0, epoch=epoch, part=1, parts=2)
    assert (rig.journal.awaits, rig.journal.is_unsure) == (False, False)


# --- the mark -------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_batch_marks_the_newest_tick_up_to_which_all_is_whole(epoch: int) -> None:
    rig = Rig()
    rig.add(0, epoch=epoch)
    batch = rig.commit()
    assert (batch.epoch, batch.tick) == (epoch, 0)
    assert rig.journal.durable == Mark(epoch, 0)
    assert rig.made == [1.0]
    rig.add(1, epoch=epoch, parts=2)
    assert rig.commit().tick == 0
    assert not rig.journal.mark_is_behind
    rig.journal.saw(epoch, 1, 1, 2, 1.0)
    assert rig.journal.mark_is_behind
    assert rig.commit().tick == 1
    assert not rig.journal.mark_is_behind


def test_a_batch_marks_nothing_while_the_first_tick_is_not_whole() -> None:
    rig = Rig()
    rig.add(0, parts=2)
    batch = rig.commit()
    assert (batch.epoch, batch.tick, rig.journal.durable) == (None, None, None)


def test_a_mark_never_goes_back() -> None:
    rig = Rig(durable=Mark(3, 9))
    rig.add(5, epoch=2)
    rig.commit()
    assert rig.journal.durable == Mark(3, 9)


def test_what_a_recording_ends_with_is_durable_as_far_as_it_is_whole() -> None:
    for tail, durable in (
        (None, Mark(1, 0)),
        (Tail(((0, 0, 1),)), Mark(1, 0)),
        (Tail(((0, 0, 2),)), None),
    ):
        assert Rig(durable=Mark(1, 0), tail=tail).journal.durable == durable
    assert Rig(tail=Tail(())).journal.durable is None


# --- gaps -----------------------------------------------------------------------------------


def test_what_was_dropped_is_told_with_the_mark_of_its_own_epoch_until_the_next() -> None:
    rig = Rig(bytes_max=500)
    for epoch in (1, 2):
        rig.add(4, epoch=epoch, size=10)
        rig.add(5, epoch=epoch, size=600)
        rig.commit()
        assert rig.journal.let_go == [Gap(epoch, 4, 5, "dropped")]
    rig.add(6, epoch=2, size=10)
    rig.commit()
    assert rig.journal.let_go == [Gap(2, 4, 5, "dropped")]


def test_of_what_is_missing_only_what_was_dropped_in_the_marks_epoch_is_told_with_it() -> None:
    rig = Rig(bytes_max=500)
    rig.add(1, parts=2, size=10)
    rig.add(2, size=10)
    batch = rig.commit(100.0)
    assert (batch.gaps, rig.journal.let_go) == ((Gap(1, 1, 1, "partial"),), [])
    rig.add(3, size=10, mono=100.0)
    rig.add(4, size=600, mono=100.0)
    rig.add(1, epoch=2, size=10, mono=100.0)
    batch = rig.commit(100.0)
    assert Gap(1, 3, 4, "dropped") in batch.gaps
    assert rig.journal.let_go == [Gap(2, 1, 1, "dropped")]


def test_too_many_of_them_are_told_as_wider_ones_the_oldest_first() -> None:
    rig = Rig(bytes_max=500)
    count = JOURNAL_LET_GO_TOLD_MAX + 2
    for n in range(count):
        rig.add(10 * n, size=10)
        rig.add(10 * n + 1, size=600)
        rig.commit()
    rest = [Gap(1, 10 * n, 10 * n + 1, "dropped") for n in range(3, count)]
    assert rig.journal.let_go == [Gap(1, 0, 21, "dropped"), *rest]


def test_gaps_are_counted_and_of_too_many_epochs_the_newest_are_told() -> None:
    gaps = [Gap(epoch, 1, 2, "unseen") for epoch in range(JOURNAL_GAPS_MAX + 3)]
    spans = _spanning(gaps)
    assert [gap.epoch for gap in spans] == list(range(3, JOURNAL_GAPS_MAX + 3))
    rig = Rig()
    rig.add(1, parts=2)
    rig.journal.note_gaps(100.0)
    assert rig.counters.gaps == 1
    assert rig.take(100.0).gaps == (Gap(1, 1, 1, "partial"),)


def test_a_world_whose_frames_come_from_the_store_keeps_nothing_and_knows_what_is_missing() -> None:
    counters = Counters()
    journal = Unjournalled(
        Rig().keyframe, counters, next_seq=1, durable=None, keyframe_interval_s=1.0, bytes_max=500
    )
    assert not journal.add(1, 1, 0, 2, 0, bytes(600), 1.0, 0)
    assert not journal.add(2, 1, 0, 1, 0, bytes(600), 1.0, 0)
    assert not journal.ready, "the gaps of the epoch that is over are not told either"
    journal.note_gaps(100.0)
    assert (journal.size_bytes, journal.ready, counters.frames) == (0, False, 2)


def test_gaps_that_are_in_the_store_already_are_counted() -> None:
    counters = Counters()
    journal = Unjournalled(
        Rig().keyframe, counters, next_seq=1, durable=None, keyframe_interval_s=1.0, bytes_max=500
    )
    journal.add(1, 1, 0, 2, 0, b"", 1.0, 0)
    journal.note_gaps(100.0)
    assert (counters.gaps, journal.ready) == (1, False)


@pytest.mark.parametrize(("at_most", "is_told_apart"), [(3, True), (2, False)])
def test_so_many_gaps_are_told_apart_and_with_one_more_all_as_one(
    at_most: int, is_told_apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.core.journal.JOURNAL_GAPS_MAX", at_most)
    rig = Rig()
    for tick in (1, 2, 3):
        rig.add(tick, parts=2)
    rig.journal.note_gaps(100.0)
    apart = tuple(Gap(1, tick, tick, "partial") for tick in (1, 2, 3))
    assert rig.take(100.0).gaps == (apart if is_told_apart else (Gap(1, 1, 3, "dropped"),))
