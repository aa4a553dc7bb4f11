"""The SQL of entities on a plain SQLite database: pages, changes, removals, bounds."""

from __future__ import annotations

from collections.abc import Iterator

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.store.entities import leases, queries, rows, schema
from gateway.wire.entities.refusals import NotOwner, OwnerPresent
from gateway.wire.entities.values import Actor, Delete, Entity, Filter, Put

NOBODY = Actor()


@pytest.fixture
def db() -> Iterator[apsw.Connection]:
    connection = apsw.Connection(":memory:")
    schema.ensure(connection)
    yield connection
    connection.close()


def put(db: apsw.Connection, name: str, state: bytes = b"", **more: object) -> Entity:
    return rows.put(db, Put(name, "bytes", state, **more), NOBODY, 0)[0]  # type: ignore[arg-type]


def test_a_page_ends_at_its_bytes_and_says_that_there_is_more(db: apsw.Connection) -> None:
    for n in range(6):
        put(db, f"e{n}", bytes(100))
    found, more = queries.page(db, Filter(), 100, bytes_max=250)
    assert ([entity.id for entity in found], more) == (["e0", "e1", "e2"], True)
    found, more = queries.page(db, Filter(after="e2"), 3)
    assert ([entity.id for entity in found], more) == (["e3", "e4", "e5"], False)
    assert queries.page(db, Filter(), 100, bytes_max=0)[1]


def test_a_prefix_that_ends_beyond_the_basic_plane_is_a_prefix_still(db: apsw.Connection) -> None:
    for name in ("a", "ab", "a\U0010fffd", "b"):
        put(db, name)
    assert [entity.id for entity in queries.page(db, Filter(prefix="a"), 10)[0]] == ["a", "ab", "a\U0010fffd"]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=30),
    st.integers(1, 4),
    st.integers(0, 300),
)
def test_reading_changes_page_by_page_gives_the_whole_state(
    steps: list[tuple[str, bool]], limit: int, bytes_max: int
) -> None:
    db = apsw.Connection(":memory:")
    schema.ensure(db)
    for name, is_put in steps:
        if is_put:
            put(db, name, bytes(100))
        elif rows.find(db, name) is not None:
            rows.delete(db, Delete(name), NOBODY, 0)
    known: dict[str, int] = {}
    cursor = 0
    while cursor < queries.revision(db):
        changes, upto = queries.changes(db, cursor, limit, bytes_max)
        assert upto > cursor
        assert all(cursor < change.revision <= upto for change in changes)
        for change in changes:
            if isinstance(change, Entity):
                known[change.id] = change.revision
            else:
                known.pop(change.id, None)
        cursor = upto
    assert known == {entity.id: entity.revision for entity in queries.page(db, Filter(), 100)[0]}
    db.close()


def test_forgotten_removals_are_noted(db: apsw.Connection) -> None:
    for n in range(10):
        put(db, f"e{n}")
        rows.delete(db, Delete(f"e{n}"), NOBODY, 0)
    rows.forget_removals(db, keep=3)
    changes, newest = queries.changes(db, 0, 100)
    assert len(changes) == 3
    assert queries.reaches_back_to(db) == changes[0].revision - 2
    assert newest == 20


def test_tags_follow_their_entity(db: apsw.Connection) -> None:
    put(db, "a", tags=("x", "y"))
    put(db, "b", tags=("y",))
    assert [entity.id for entity in queries.page(db, Filter(tag="y"), 10)[0]] == ["a", "b"]
    put(db, "a", tags=("z",))
    rows.delete(db, Delete("b"), NOBODY, 0)
    assert queries.page(db, Filter(tag="y"), 10)[0] == []
    assert list(db.execute("SELECT tag, id FROM entity_tags")) == [("z", "a")]


def test_a_lease_lives_as_long_as_it_is_renewed(db: apsw.Connection) -> None:
    put(db, "a", owner="srv")
    leases.acquire(db, "srv", "token", 0, 5_000, takeover=False)
    stranger, owner = Actor("guess"), Actor("token")
    with pytest.raises(NotOwner):
        rows.delete(db, Delete("a"), stranger, 4_999)
    leases.renew(db, "srv", "token", 4_000, 5_000)
    with pytest.raises(OwnerPresent):
        leases.acquire(db, "srv", "other", 8_999, 5_000, takeover=False)
    rows.put(db, Put("a", "bytes", b"1"), owner, 8_999)
    rows.put(db, Put("a", "bytes", b"2"), stranger, 9_000)
    leases.acquire(db, "srv", "other", 9_000, 5_000, takeover=False)
    with pytest.raises(NotOwner):
        rows.put(db, Put("a", "bytes", b"3"), owner, 9_001)


def test_reading_where_no_entity_ever_was_makes_no_tables() -> None:
    db = apsw.Connection(":memory:")
    assert queries.page(db, Filter(), 10) == ([], False)
    assert queries.changes(db, 0, 10) == ([], 0)
    assert rows.find(db, "a") is None
    assert list(db.execute("SELECT name FROM sqlite_schema")) == []
