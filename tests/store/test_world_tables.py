"""The SQL of a recording by itself, in a database in memory: what each statement leaves, and what it answers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import apsw
import pytest

from gateway.errors import Unprocessable, WorldHeld
from gateway.limits import (
    HOME_LEASE_MS_MAX,
    JOURNAL_ROWS_AT_ONCE,
    NODE_CHARS_MAX,
    RECOVERED_TAIL_ROWS_MAX,
)
from gateway.store.world import ending, home, reading, schema, writing
from gateway.store.world.home import Holder, HomeRow, Sign
from gateway.store.world.past import horizon
from gateway.store.world.schema import Parent, Part, Retention, WorldInfo
from gateway.store.world.state import live_records, state_hash
from gateway.wire import Frame, Record, encode_frame
from gateway.wire.framecodec import FrameDecoder, FrameEncoder
from gateway.wire.journal import Gap, JournalFrame

INFO = WorldInfo("w", 8, Retention("ring", 30), 77)
A, B = Holder("https://a", "place-a", "run-a"), Holder("https://b", "place-b", "run-b")


@pytest.fixture(params=["as we make it", "as a newer version may"])
def world(request: pytest.FixtureRequest) -> Iterator[apsw.Connection]:
    """Tables grow by columns alone (docs/SCHEMA.md): whoever does not know them goes on."""
    with closing(apsw.Connection(":memory:")) as connection:
        schema.create(connection, INFO)
        if request.param == "as a newer version may":
            connection.execute(home.TABLE)
            for table in column(connection, "SELECT name FROM sqlite_schema WHERE type = 'table'"):
                connection.execute(f"ALTER TABLE {table} ADD COLUMN later TEXT")
        yield connection


def frame(
    seq: int, tick: int | None = None, *, epoch: int = 1, at: int | None = None, keyframe: bool = False
) -> JournalFrame:
    """A row that came at second ``at``; its tick is its number where none is given."""
    of = seq if tick is None else tick
    message = encode_frame(Frame(epoch, of, [Record(1, b"%d" % seq), Record(2, None)], sent_at=5))
    return JournalFrame(seq, epoch, of, seq if at is None else at, 5, keyframe, (message,))


def write(connection: apsw.Connection, *frames: JournalFrame, gaps: tuple[Gap, ...] = ()) -> bool:
    packed = writing.pack(FrameEncoder(), frames, gaps, alone=True)
    writing.finish([packed])
    return writing.write(connection, packed)


def column(connection: apsw.Connection, query: str) -> list[Any]:
    return [row[0] for row in connection.execute(query)]


# --- writing rows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, JOURNAL_ROWS_AT_ONCE, JOURNAL_ROWS_AT_ONCE + 1, 40])
def test_a_batch_of_any_size_is_written_whole_and_may_be_given_again(
    world: apsw.Connection, count: int
) -> None:
    frames = [frame(seq, keyframe=seq % 7 == 0) for seq in range(count)]
    for _ in range(2):
        assert write(world, *frames, gaps=(Gap(1, 3, 4, "dropped"),))
        assert list(reading.rows(world, 0)) == frames
        assert column(world, "SELECT seq FROM keyframes ORDER BY seq") == list(range(0, count, 7))
        assert reading.gaps_between(world, 0, reading.ORDER_MAX, 10) == [Gap(1, 3, 4, "dropped")]


def test_a_keyframes_row_tells_how_many_records_live_and_their_hash(world: apsw.Connection) -> None:
    row = frame(4, keyframe=True)
    write(world, row)
    assert live_records(row.messages) == {1: b"4"}
    assert world.execute(
        "SELECT seq, epoch, tick, received_at, records, state_hash FROM keyframes"
    ).fetchall() == [
        (4, 1, 4, 4, 1, state_hash({1: b"4"})),
    ]


@pytest.mark.parametrize(
    "other", [frame(1, at=9), frame(1, tick=9), frame(1, epoch=2)], ids=["time", "tick", "epoch"]
)
@pytest.mark.parametrize("many", [False, True])
def test_rows_of_another_writer_under_these_numbers_refuse_the_batch(
    world: apsw.Connection, other: JournalFrame, many: bool
) -> None:
    write(world, other)
    mine = [frame(seq, keyframe=True) for seq in range(JOURNAL_ROWS_AT_ONCE + 1 if many else 3)]
    assert not write(world, *mine, gaps=(Gap(1, 8, 9, "dropped"),))
    assert column(world, "SELECT count(*) FROM keyframes") == [0]
    assert column(world, "SELECT count(*) FROM gaps") == [0]


def test_which_batches_are_one_statement() -> None:
    def is_one(count: int, *, keyframe: bool = False, gap: bool = False) -> bool:
        frames = [frame(seq, keyframe=keyframe) for seq in range(count)]
        gaps = [Gap(1, 1, 1, "dropped")] if gap else []
        return writing.is_one_statement(writing.pack(FrameEncoder(), frames, gaps))

    assert [is_one(n) for n in (0, 1, JOURNAL_ROWS_AT_ONCE, JOURNAL_ROWS_AT_ONCE + 1)] == [
        False,
        True,
        True,
        False,
    ]
    assert not is_one(1, keyframe=True)
    assert not is_one(1, gap=True)


@pytest.mark.parametrize("quick", [0, 1_000])
def test_rows_lean_on_the_one_before_them_unless_they_stand_alone(quick: int) -> None:
    encoder = FrameEncoder()
    encoder.quick_bytes_max = quick

    def packed(*seqs: int, alone: bool = False) -> list[bytes]:
        """What each of these rows gives, unpacked by itself; nothing where it leans on another."""
        made = writing.pack(encoder, [frame(seq) for seq in seqs], [], alone=alone)
        writing.finish([made])
        found = []
        for *_, codec, body in made.frames:
            try:
                found += FrameDecoder().decode(codec, body)
            except Exception:
                found.append(b"")
        return found

    whole = {seq: frame(seq).messages[0] for seq in range(20)}
    assert packed(0, 1, alone=True) == [whole[0], whole[1]]
    assert packed(2) == [whole[2]], "the first after those that stand alone stands alone"
    if not quick:
        assert packed(3, 4) == [b"", b""]
    assert packed(5, alone=True) == [whole[5]]
    assert packed(6)[0] == whole[6]


# --- epochs, marks -----------------------------------------------------------------------------------


def epochs(connection: apsw.Connection) -> list[tuple[int, int, int | None]]:
    return connection.execute("SELECT epoch, started_at, ended_at FROM epochs ORDER BY epoch").fetchall()


def test_epochs_follow_each_other_and_the_newest_may_be_had_again(world: apsw.Connection) -> None:
    assert writing.begin_epoch(world, None, 10) == 1
    assert writing.begin_epoch(world, 1, 20) == 1
    assert epochs(world) == [(1, 10, None)]
    writing.end_epoch(world, 1, 30)
    assert epochs(world) == [(1, 10, 30)]
    assert writing.begin_epoch(world, 1, 40) == 1
    assert epochs(world) == [(1, 10, None)]
    assert writing.begin_epoch(world, None, 50) == 2
    assert epochs(world) == [(1, 10, 50), (2, 50, None)]
    writing.end_epoch(world, 2, 60)
    assert writing.begin_epoch(world, 1, 70) == 3, "an older one is not had again"
    assert writing.begin_epoch(world, 9, 80) == 4, "nor one that never was"
    assert epochs(world) == [(1, 10, 50), (2, 50, 60), (3, 70, 80), (4, 80, None)]


# --- what falls out of a ring ------------------------------------------------------------------------


def ring(connection: apsw.Connection, keyframes: tuple[int, ...], last: int) -> None:
    write(connection, *(frame(seq, keyframe=seq in keyframes) for seq in range(last + 1)))


@pytest.mark.parametrize(
    ("before", "rows_max", "first"),
    [
        (9, 100, 0),  # before the first keyframe that may be begun from
        (10, 100, 10),
        (19, 100, 10),
        (20, 100, 20),
        (29, 100, 20),
        (45, 100, 40),
        (45, 15, 10),  # some rows at a time, up to a keyframe
        (45, 20, 20),
        (45, 5, 10),  # and always up to the next one at least
        (45, 0, 10),
    ],
)
def test_what_is_older_than_the_ring_goes_up_to_a_keyframe(
    world: apsw.Connection, before: int, rows_max: int, first: int
) -> None:
    ring(world, (10, 20, 30, 40), 50)
    assert writing.prune(world, before, rows_max) == first
    assert column(world, "SELECT min(seq) FROM frames") == [first]
    assert column(world, "SELECT count(*) FROM frames") == [51 - first]
    assert column(world, "SELECT seq FROM keyframes ORDER BY seq") == [
        k for k in (10, 20, 30, 40) if k >= first
    ]
    assert writing.prune(world, first, rows_max) == 0


def test_an_empty_recording_and_one_without_keyframes_lose_nothing(world: apsw.Connection) -> None:
    assert writing.prune(world, 100, 100) == 0
    ring(world, (), 5)
    assert writing.prune(world, 100, 100) == 0
    assert column(world, "SELECT count(*) FROM frames") == [6]


def test_gaps_and_epochs_go_with_the_rows_before_the_oldest_keyframe_and_the_newest_epoch_stays(
    world: apsw.Connection,
) -> None:
    for now in (1, 2, 3):
        writing.begin_epoch(world, None, now)
    write(
        world,
        *(frame(seq, seq, epoch=1) for seq in range(5)),
        frame(5, 5, epoch=2, keyframe=True),
        frame(6, 8, epoch=2, keyframe=True),
        gaps=(Gap(1, 7, 9, "dropped"), Gap(2, 6, 7, "parts"), Gap(2, 7, 8, "dropped"), Gap(2, 8, 9, "parts")),
    )
    assert writing.prune(world, 6, 5) == 5
    assert len(reading.gaps_between(world, 0, reading.ORDER_MAX, 10)) == 4, "as long as rows before it remain"
    assert writing.prune(world, 6, 5) == 1
    assert [gap.to_tick for gap in reading.gaps_between(world, 0, reading.ORDER_MAX, 10)] == [8, 9]
    assert [epoch for epoch, *_ in epochs(world)] == [2, 3]
    write(world, frame(7, 1, epoch=9, keyframe=True))
    writing.prune(world, 7, 5)
    assert [epoch for epoch, *_ in epochs(world)] == [3]


# --- reading -----------------------------------------------------------------------------------------


def test_gaps_are_found_by_where_they_begin_or_where_they_reach(world: apsw.Connection) -> None:
    gaps = (Gap(1, 2, 4, "dropped"), Gap(1, 6, 6, "parts"), Gap(2, 1, 3, "dropped"), Gap(2, 5, 9, "dropped"))
    write(world, frame(0), gaps=gaps)

    def between(low: tuple[int, int], high: tuple[int, int], limit: int = 10, **how: bool) -> list[int]:
        orders = [epoch << 32 | tick for epoch, tick in (low, high)]
        return [gaps.index(gap) for gap in reading.gaps_between(world, *orders, limit, **how)]

    assert between((1, 0), (9, 0)) == [0, 1, 2, 3]
    assert between((1, 0), (9, 0), 2) == [0, 1]
    assert between((1, 2), (1, 6)) == [0, 1]
    assert between((1, 3), (1, 5)) == []
    assert between((1, 3), (1, 5), overlapping=True) == [0]
    assert between((1, 4), (2, 1), overlapping=True) == [0, 1, 2]
    assert between((1, 5), (2, 0), overlapping=True) == [1]
    before = [
        [gaps.index(gap) for gap in reading.gaps_before(world, epoch << 32 | tick, limit)]
        for epoch, tick, limit in [
            (1, 1, 9),
            (1, 2, 9),
            (1, 9, 9),
            (1, 9, 1),
            (2, 4, 9),
            (2, 5, 9),
            (3, 9, 9),
        ]
    ]
    assert before == [[], [0], [0, 1], [1], [2], [2, 3], []]
    told = [
        reading.is_gap(world, *ticks)
        for ticks in [(1, 2, 4), (1, 3, 3), (1, 1, 2), (1, 4, 5), (2, 2, 2), (1, 6, 6)]
    ]
    assert told == [True, True, False, False, True, False]


def test_where_to_begin_is_the_newest_keyframe_at_or_before_a_moment(world: apsw.Connection) -> None:
    assert reading.first_row(world) is reading.last_row(world) is reading.last_keyframe(world) is None
    write(
        world,
        frame(3, 10, at=100),
        frame(4, 10, at=100, keyframe=True),
        frame(5, 20, at=200, keyframe=True),
        frame(6, 5, epoch=2, at=300, keyframe=True),
        frame(7, 6, epoch=2, at=310),
    )

    def seq_of(row: reading.RowHead | None) -> int | None:
        return None if row is None else row.seq

    assert [seq_of(find(world)) for find in (reading.first_row, reading.last_row, reading.last_keyframe)] == [
        3,
        7,
        6,
    ]
    ticks = [(1, 9), (1, 10), (1, 19), (1, 20), (2, 4), (2, 5), (3, 0)]
    assert [seq_of(reading.keyframe_at_tick(world, *at)) for at in ticks] == [None, 4, 4, 5, 5, 6, 6]
    times = [99, 100, 199, 200, 299, 300, 900]
    assert [seq_of(reading.keyframe_at_time(world, at)) for at in times] == [None, 4, 4, 5, 5, 6, 6]
    assert [seq_of(reading.keyframe_at_seq(world, at)) for at in (3, 4, 5, 9)] == [None, 4, 5, 6]
    row = reading.last_row(world)
    assert row is not None
    assert (row.order, row.received_at_us) == (2 << 32 | 6, 310)


@pytest.mark.parametrize(
    ("until", "last"), [(0, -1), (9, -1), (10, 0), (15, 0), (20, 1), (31, 3), (35, 3), (40, 4), (99, 4)]
)
def test_what_had_come_by_a_time_is_everything_up_to_the_last_row_of_then(
    world: apsw.Connection, until: int, last: int
) -> None:
    assert horizon(world, until) == (-1, -1, -1)
    ats = [10, 20, 33, 30, 40]
    write(world, *(frame(seq, 50 + seq, at=at, keyframe=seq == 3) for seq, at in enumerate(ats)))
    assert horizon(world, until) == ((last, 1, 50 + last) if last >= 0 else (-1, -1, -1))


def test_of_the_end_of_a_recording_the_messages_of_the_newest_epoch_are_told(world: apsw.Connection) -> None:
    assert ending.newest_messages(world, 1, 5) == ()
    write(
        world,
        frame(0, epoch=1, keyframe=True),
        frame(1, 1),
        frame(2, 2),
        frame(3, 3, epoch=2),
        frame(4, 3, epoch=2, keyframe=True),
    )
    assert ending.newest_messages(world, 1, 4) == ((1, 0, 1), (2, 0, 1))
    assert ending.newest_messages(world, 2, 4) == ((3, 0, 1),)
    assert ending.newest_messages(world, 3, 4) == ()


@pytest.mark.parametrize("keyframe", [None, 2, 3])
def test_only_so_many_rows_are_looked_through_and_ticks_begun_before_them_are_left_out(
    world: apsw.Connection, keyframe: int | None
) -> None:
    count = RECOVERED_TAIL_ROWS_MAX + 3
    rows = [frame(seq, tick=100 + seq // 2, keyframe=seq == keyframe) for seq in range(count)]
    write(world, *rows)
    found = [tick for tick, _, _ in ending.newest_messages(world, 1, count - 1)]
    expected = [row.tick for row in rows[3:] if row.tick > 101 and not row.keyframe]
    if keyframe == 2:
        expected = [row.tick for row in rows[3:]]  # the keyframe is no part of tick 101
    assert found == expected


# --- the home's row ----------------------------------------------------------------------------------


def test_each_home_takes_a_higher_fence_and_begins_without_a_beat(world: apsw.Connection) -> None:
    assert home.read(world) is None
    assert home.sign(world) == Sign(None, -1, 0)
    assert home.seize(world, A, "w", 100) is None
    assert home.acquire(world, A, "w", 100, None, world="w") == 1
    assert home.read(world) == HomeRow(1, "https://a", "place-a/run-a", "w", 100, 0)
    for _ in range(3):
        home.beat(world)
    row = home.read(world)
    assert row is not None
    assert row.beat == 3
    assert home.seize(world, B, "w", 200) == 2
    assert home.read(world) == HomeRow(2, "https://b", "place-b/run-b", "w", 200, 0)
    home.beat(world)
    assert home.acquire(world, A, "w", 300, None, world="w") == 3
    assert home.read(world) == HomeRow(3, "https://a", "place-a/run-a", "w", 300, 0)
    home.give_up(world)
    assert home.read(world) == HomeRow(3, "https://a", "place-a/run-a", "w", 0, 0)
    assert column(world, "SELECT count(*) FROM home") == [1]


def test_a_sign_tells_of_rows_and_epochs_too(world: apsw.Connection) -> None:
    write(world, frame(0))
    assert home.sign(world) == Sign(None, 0, 0)
    writing.begin_epoch(world, None, 1)
    write(world, frame(1))
    home.acquire(world, A, "w", 1, None, world="w")
    assert home.sign(world) == Sign(home.read(world), 1, 1)


def test_a_home_that_stirred_is_not_taken_and_one_that_is_free_or_still_is(world: apsw.Connection) -> None:
    home.acquire(world, A, "w", 100, None, world="w")
    judged = home.sign(world)
    home.beat(world)
    with pytest.raises(WorldHeld, match="world arena has its home at the gateway at https://a"):
        home.acquire(world, B, "w", 100, judged, world="arena")
    assert home.acquire(world, B, "w", 100, home.sign(world), world="w") == 2
    home.give_up(world)
    assert home.acquire(world, A, "w", 100, judged, world="w") == 3
    assert home.acquire(world, B, "a-copy", 100, judged, world="w") == 4, (
        "of a copy of a database the row says nothing"
    )


def test_only_the_fence_of_the_home_may_write(world: apsw.Connection) -> None:
    with pytest.raises(WorldHeld):
        home.check(world, "w", 1)
    home.acquire(world, A, "w", 100, None, world="w")
    home.check(world, "w", 1)
    for fence in (0, 2):
        with pytest.raises(WorldHeld):
            home.check(world, "w", fence)


@pytest.mark.parametrize(
    ("lease_ms", "namespace", "free"), [(1, "w", False), (0, "w", True), (-1, "w", True), (1, "v", True)]
)
def test_a_home_is_free_where_it_was_given_up_or_is_of_another_database(
    lease_ms: int, namespace: str, free: bool
) -> None:
    assert home.is_free(HomeRow(1, "n", "h", namespace, lease_ms, 0), "w") == free
    assert home.is_free(None, "w")


@pytest.mark.parametrize(
    ("lease_ms", "seconds"),
    [(1_500, 1.5), (HOME_LEASE_MS_MAX, HOME_LEASE_MS_MAX / 1_000), (10**9, HOME_LEASE_MS_MAX / 1_000)],
)
def test_a_lease_is_of_milliseconds_and_bounded(lease_ms: int, seconds: float) -> None:
    assert home.lease_s(HomeRow(1, "n", "h", "w", lease_ms, 0)) == seconds


def test_the_refusal_names_the_home_where_it_has_an_address() -> None:
    long = "x" * NODE_CHARS_MAX
    assert long in str(home.held("w", HomeRow(1, long, "h", "w", 1, 0)))
    for row in (
        HomeRow(1, long + "x", "h", "w", 1, 0),
        HomeRow(1, "https://a", "h", "w", 0, 0),
        None,
    ):
        told = str(home.held("w", row))
        assert long not in told
        assert "https://a" not in told


# --- meta --------------------------------------------------------------------------------------------


def test_what_a_world_says_of_itself_is_read_as_it_was_written(world: apsw.Connection) -> None:
    assert schema.read_info(world) == INFO
    branch = WorldInfo("b", 0, Retention("record"), 5, Parent("w", 2, 3), '{"a": 1}')
    schema.write_info(world, branch)
    assert schema.read_info(world) == branch
    schema.write_layout(world, None)
    assert schema.read_info(world).layout is None
    schema.write_layout(world, '{"b": 2}')
    assert schema.read_info(world).layout == '{"b": 2}'
    for name in ("world", "stride", "retention", "ring_s", "created_at"):
        world.execute("SAVEPOINT s")
        world.execute("DELETE FROM meta WHERE name = ?", (name,))
        with pytest.raises(Unprocessable, match=f"lacks {name}; it is damaged"):
            schema.read_info(world)
        world.execute("ROLLBACK TO s")


def test_a_world_is_told_from_an_empty_database_a_foreign_one_and_a_newer_one(world: apsw.Connection) -> None:
    assert schema.is_world(world)
    with closing(apsw.Connection(":memory:")) as other:
        assert not schema.is_world(other)
        other.execute("CREATE TABLE t(a)")
        with pytest.raises(Unprocessable, match="is not a world"):
            schema.is_world(other)
    world.execute(f"PRAGMA user_version = {schema.USER_VERSION + 1}")
    with pytest.raises(Unprocessable, match="use the newer gateway"):
        schema.is_world(world)
    with closing(sqlite3.connect(":memory:")) as plain:
        plain.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        assert schema.is_worlds_page(plain.serialize()[:4096])
        plain.execute(f"PRAGMA application_id = {schema.APPLICATION_ID + 1}")
        assert not schema.is_worlds_page(plain.serialize()[:4096])


def test_other_rooms_tables_are_made_step_by_step_and_each_step_once(world: apsw.Connection) -> None:
    steps = ["CREATE TABLE x(a)", "ALTER TABLE x ADD b", "ALTER TABLE x ADD c"]
    for upto in range(4):
        parts = [Part("x", steps[:upto]), Part("y", ["CREATE TABLE IF NOT EXISTS y(a)"])]
        assert not schema.is_current(world, parts) or upto == 0
        schema.migrate(world, parts)
        assert schema.is_current(world, parts)
        schema.migrate(world, parts)
        assert len(column(world, "SELECT name FROM pragma_table_info('x')")) == upto
    assert schema.is_current(world, [Part("x", steps[:1])]), "what a newer gateway made is not made again"
    schema.migrate(world, [Part("x", steps[:1])])
    versions = dict(world.execute("SELECT name, version FROM parts"))
    assert {name: versions[name] for name in ("x", "y")} == {"x": 3, "y": 1}
