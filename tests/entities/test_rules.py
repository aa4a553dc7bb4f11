"""The rules of entities, leases, transfers and trades at their bounds, on plain SQLite databases."""

from __future__ import annotations

from collections.abc import Iterator

import apsw
import pytest

from gateway.errors import Gone, NotFound, PreconditionFailed
from gateway.store.entities import leases, queries, rows, schema, trades, transfers
from gateway.wire.entities.refusals import Full, NotOwner, OwnerPresent
from gateway.wire.entities.trades import QUANTITY_MAX, DifferentItem, Expectation, Move, NotEnough, Trade
from gateway.wire.entities.transfers import (
    ACCEPTED,
    CANCELLED,
    EXPIRED,
    OFFERED,
    AlreadyThere,
    InTransfer,
    Offer,
    Transfer,
    TransferEnded,
    TransferExpired,
)
from gateway.wire.entities.values import Actor, Delete, Entity, Filter, Patch, Precondition, Put, Removal

NOBODY = Actor()


def database() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    schema.ensure(connection)
    return connection


@pytest.fixture
def db() -> Iterator[apsw.Connection]:
    connection = database()
    yield connection
    connection.close()


@pytest.fixture
def other() -> Iterator[apsw.Connection]:
    connection = apsw.Connection(":memory:")  # without tables: who comes first makes them
    yield connection
    connection.close()


def put(db: apsw.Connection, name: str, state: bytes = b"", now_us: int = 0, **more: object) -> Entity:
    return rows.put(db, Put(name, "bytes", state, **more), NOBODY, now_us)[0]  # type: ignore[arg-type]


# --- entities ---------------------------------------------------------------------------------------


def test_what_was_put_is_found_with_all_that_was_said(db: apsw.Connection) -> None:
    wanted = Put("a", "json", b"{}", "Door", "srv", ("x", "y"), 7, 2, 99, 5)
    entity, created = rows.put(db, wanted, NOBODY, 1_000)
    assert created
    assert entity == Entity("a", "json", b"{}", "Door", "srv", ("x", "y"), 7, 2, 99, 1_000, 1, None, 5)
    assert rows.find(db, "a") == rows.get(db, "a") == entity
    assert rows.find(db, "b") is None


def test_what_a_put_does_not_say_stays_but_for_state_and_moment(db: apsw.Connection) -> None:
    rows.put(db, Put("a", "json", b"{}", "Door", "srv", ("x",), 7, 2, 99, 5), NOBODY, 1_000)
    entity, created = rows.put(db, Put("a", "bytes", b"new"), NOBODY, 2_000)
    assert not created
    assert entity == Entity("a", "bytes", b"new", "Door", "srv", ("x",), 7, None, None, 2_000, 2, None, 5)
    assert rows.get(db, "a") == entity
    entity, _ = rows.put(db, Put("a", "bytes", b"", "", "", (), 0, 0, 0, 6), NOBODY, 3_000)
    assert entity == Entity("a", "bytes", b"", "", "", (), 0, 0, 0, 3_000, 3, None, 6)
    assert rows.get(db, "a") == entity


def test_a_patch_changes_what_it_names_and_leaves_the_state(db: apsw.Connection) -> None:
    rows.put(db, Put("a", "json", b"{}", "Door", "srv", ("x",), 7, 2, 99, 5), NOBODY, 1_000)
    entity = rows.patch(db, Patch("a"), NOBODY, 2_000)
    assert entity == Entity("a", "json", b"{}", "Door", "srv", ("x",), 7, 2, 99, 2_000, 2, None, 5)
    entity = rows.patch(db, Patch("a", "Gate", "", ("y", "z")), NOBODY, 3_000)
    assert entity == Entity("a", "json", b"{}", "Gate", "", ("y", "z"), 7, 2, 99, 3_000, 3, None, 5)
    assert rows.get(db, "a") == entity
    assert sorted(db.execute("SELECT tag, id FROM entity_tags")) == [("y", "a"), ("z", "a")]
    with pytest.raises(NotFound, match="no entity b here"):
        rows.patch(db, Patch("b"), NOBODY, 0)


def test_what_was_asked_of_a_revision_is_refused_at_another_one(db: apsw.Connection) -> None:
    put(db, "a")
    put(db, "b")
    stale, right, new = (
        Precondition(if_match=frozenset({9})),
        Precondition(if_match=frozenset({2})),
        Precondition(if_none_match="*"),
    )
    for work in (
        lambda: put(db, "b", when=stale),
        lambda: put(db, "b", when=new),
        lambda: put(db, "c", when=stale),
        lambda: rows.patch(db, Patch("b", when=stale), NOBODY, 0),
        lambda: rows.patch(db, Patch("c", when=stale), NOBODY, 0),
        lambda: rows.delete(db, Delete("b", stale), NOBODY, 0),
        lambda: rows.delete(db, Delete("c", stale), NOBODY, 0),
    ):
        with pytest.raises(PreconditionFailed) as refused:
            work()
        assert refused.value.facts["revision"] in (2, None)
    assert queries.revision(db) == 2
    assert rows.patch(db, Patch("b", when=right), NOBODY, 0).revision == 3
    assert put(db, "c", when=new).revision == 4
    assert rows.delete(db, Delete("c", Precondition(if_match="*")), NOBODY, 0) == 5


def test_what_was_deleted_is_gone_and_what_moved_is_told_where_to(db: apsw.Connection) -> None:
    entity = put(db, "a", tags=("t",))
    assert rows.delete(db, Delete("a"), NOBODY, 5) == 2
    assert list(db.execute("SELECT * FROM entity_removals")) == [("a", 2, 5, None)]
    for work in (lambda: rows.get(db, "a"), lambda: rows.delete(db, Delete("a"), NOBODY, 0)):
        with pytest.raises(NotFound, match="no entity a here"):
            work()
    entity = put(db, "a", tags=("t",))
    assert list(db.execute("SELECT * FROM entity_removals")) == [], "it is there again"
    assert rows.remove(db, entity, 6, "forest") == 4
    assert list(db.execute("SELECT * FROM entity_tags")) == []
    with pytest.raises(NotFound, match="moved to forest") as refused:
        rows.get(db, "a")
    assert (refused.value.facts["moved_to"], refused.value.facts["moved_at_us"]) == ("forest", 6)
    with pytest.raises(NotFound, match="moved to forest"):
        rows.patch(db, Patch("a"), NOBODY, 0)


def test_where_no_entity_ever_was_each_is_missing_without_a_table_being_made(other: apsw.Connection) -> None:
    with pytest.raises(NotFound, match="no entity a here"):
        rows.get(other, "a")
    assert (queries.revision(other), queries.reaches_back_to(other)) == (0, 0)
    assert transfers.settle(other, 5) == 0
    assert transfers.next_due(other) is None
    assert transfers.records(other) == []
    with pytest.raises(NotFound, match="no such ticket"):
        transfers.find_transfer(other, "t")
    assert list(other.execute("SELECT name FROM sqlite_schema")) == []


def test_a_world_takes_as_many_entities_as_its_bound_and_changes_of_them_all(db: apsw.Connection) -> None:
    def make(name: str) -> None:
        rows.put(db, Put(name, "bytes", b""), NOBODY, 0, 3)

    for name in ("a", "b", "c"):
        make(name)
    with pytest.raises(Full, match="there are 3 entities here") as refused:
        make("d")
    assert refused.value.facts == {"bound": "--entities-per-world-max", "limit": 3}
    make("b")
    rows.delete(db, Delete("a"), NOBODY, 0)
    make("d")
    with pytest.raises(Full):
        make("a")


def test_old_removals_are_forgotten_now_and_then_and_how_far_is_noted(db: apsw.Connection) -> None:
    for number in range(4):
        put(db, f"{number}")
        rows.delete(db, Delete(f"{number}"), NOBODY, 0)
    rows.forget_removals(db, keep=4)
    assert queries.reaches_back_to(db) == 0
    rows.forget_removals(db, keep=0)
    assert queries.reaches_back_to(db) == 8
    assert queries.changes(db, 0, 10) == ([], 8)


# --- lists and changes ------------------------------------------------------------------------------


def ids(found: tuple[list[Entity], bool]) -> tuple[list[str], bool]:
    return [entity.id for entity in found[0]], found[1]


def test_a_list_takes_what_all_of_its_filters_take(db: apsw.Connection) -> None:
    put(db, "ab", class_name="Door", owner="me", tags=("x",))
    put(db, "ac", class_name="Door", owner="you", tags=("x",))
    put(db, "b", class_name="Key", owner="me")
    put(db, "c")
    for wanted, found in (
        (Filter(), ["ab", "ac", "b", "c"]),
        (Filter(class_name="Door"), ["ab", "ac"]),
        (Filter(class_name=""), ["c"]),
        (Filter(owner="me"), ["ab", "b"]),
        (Filter(owner="me", class_name="Door"), ["ab"]),
        (Filter(tag="x"), ["ab", "ac"]),
        (Filter(tag="x", owner="you", prefix="a"), ["ac"]),
        (Filter(tag="none"), []),
        (Filter(prefix="a"), ["ab", "ac"]),
        (Filter(prefix="ab"), ["ab"]),
        (Filter(after="ab"), ["ac", "b", "c"]),
        (Filter(after="ab", prefix="a"), ["ac"]),
    ):
        assert ids(queries.page(db, wanted, 10)) == (found, False), wanted


def test_a_list_says_whether_there_is_more_behind_its_bounds(db: apsw.Connection) -> None:
    for name in ("a", "b", "c"):
        put(db, name, bytes(100))
    assert ids(queries.page(db, Filter(), 3)) == (["a", "b", "c"], False)
    assert ids(queries.page(db, Filter(), 2)) == (["a", "b"], True)
    assert ids(queries.page(db, Filter(), 9, bytes_max=200)) == (["a", "b", "c"], False)
    assert ids(queries.page(db, Filter(), 9, bytes_max=199)) == (["a", "b"], True)
    assert ids(queries.page(db, Filter(), 9, bytes_max=1)) == (["a"], True)


def test_changes_say_up_to_where_they_are_complete(db: apsw.Connection) -> None:
    for name in ("a", "b", "c"):
        put(db, name, bytes(100))
    rows.delete(db, Delete("a"), NOBODY, 9)  # now: b at 2, c at 3, a's removal at 4
    b, c, gone = rows.get(db, "b"), rows.get(db, "c"), Removal("a", 4, 9)
    assert queries.changes(db, 0, 10) == ([b, c, gone], 4)
    assert queries.changes(db, 2, 10) == ([c, gone], 4)
    assert queries.changes(db, 4, 10) == ([], 4)
    assert queries.changes(db, 0, 1) == ([b], 2)
    assert queries.changes(db, 0, 2) == ([b, c], 3)
    assert queries.changes(db, 0, 10, bytes_max=100) == ([b, c], 3)
    assert queries.changes(db, 0, 10, bytes_max=99) == ([b], 2)
    rows.delete(db, Delete("b"), NOBODY, 9)
    also = Removal("b", 5, 9)
    assert queries.changes(db, 3, 1) == ([gone], 4)
    assert queries.changes(db, 3, 2) == ([gone, also], 5)
    assert queries.changes(db, 0, 2) == ([c, gone, also], 5)
    assert queries.changes(db, 0, 1) == ([c], 3)


# --- leases -----------------------------------------------------------------------------------------


def test_what_an_owner_with_a_living_lease_owns_is_changed_by_its_holder(db: apsw.Connection) -> None:
    put(db, "a", owner="srv")
    put(db, "free")
    assert leases.acquire(db, "srv", "token", 1_000, 5_000_000, takeover=False) == 5_001_000
    holder, guess, bold = Actor("token"), Actor("guess"), Actor(takeover=True)
    for stranger in (NOBODY, guess):
        for work in (
            lambda actor: rows.put(db, Put("a", "bytes", b""), actor, 2_000),
            lambda actor: rows.patch(db, Patch("a"), actor, 2_000),
            lambda actor: rows.delete(db, Delete("a"), actor, 2_000),
            lambda actor: rows.put(db, Put("free", "bytes", b"", owner="srv"), actor, 2_000),
            lambda actor: rows.put(db, Put("new", "bytes", b"", owner="srv"), actor, 2_000),
            lambda actor: rows.patch(db, Patch("free", owner="srv"), actor, 2_000),
        ):
            with pytest.raises(NotOwner, match="its lease lives for another 4999 ms") as refused:
                work(stranger)
            assert refused.value.facts == {"owner": "srv", "expires_us": 5_001_000}
    for actor in (holder, bold):
        assert rows.put(db, Put("a", "bytes", b"x"), actor, 2_000)[0].owner == "srv"
        assert rows.patch(db, Patch("free", owner="srv"), actor, 2_000).owner == "srv"
        assert rows.patch(db, Patch("free", owner=""), actor, 2_000).owner == ""
    assert rows.put(db, Put("free", "bytes", b""), NOBODY, 2_000)[0].owner == ""
    assert rows.delete(db, Delete("a"), NOBODY, 5_001_000) > 0, "the lease has run out"


def test_a_lease_is_held_by_its_token_while_it_lives(db: apsw.Connection) -> None:
    leases.acquire(db, "srv", "token", 0, 5_000, takeover=False)
    assert leases.holds(db, "srv", "token", 4_999)
    for owner, token, now_us in (
        ("srv", "token", 5_000),
        ("srv", "other", 0),
        ("srv", "", 0),
        ("srv", None, 0),
        ("", "token", 0),
        ("nobody", "token", 0),
    ):
        assert not leases.holds(db, owner, token, now_us)


def test_a_lease_that_lives_is_taken_by_its_token_or_by_force(db: apsw.Connection) -> None:
    leases.acquire(db, "srv", "token", 0, 5_000_000, takeover=False)
    with pytest.raises(OwnerPresent, match="wait 4000 ms") as refused:
        leases.acquire(db, "srv", "other", 1_000_000, 5_000, takeover=False)
    assert refused.value.facts == {"owner": "srv", "expires_us": 5_000_000}
    assert leases.acquire(db, "srv", "token", 1_000_000, 5_000_000, takeover=False) == 6_000_000
    assert leases.acquire(db, "srv", "other", 1_000_000, 5_000_000, takeover=True) == 6_000_000
    assert leases.holds(db, "srv", "other", 2_000_000)
    assert not leases.holds(db, "srv", "token", 2_000_000)


def test_a_lease_is_renewed_while_it_is_ones_own_and_given_back(
    db: apsw.Connection, other: apsw.Connection
) -> None:
    leases.acquire(db, "srv", "token", 0, 5_000, takeover=False)
    assert leases.renew(db, "srv", "token", 4_999, 5_000) == 9_999
    assert leases.holds(db, "srv", "token", 9_998)
    for token, now_us in (("other", 5_000), ("token", 9_999)):
        with pytest.raises(Gone, match="the lease of srv has run out"):
            leases.renew(db, "srv", token, now_us, 5_000)
    assert leases.renew(db, "srv", "token", 6_000, 0) == 6_000
    assert not leases.holds(db, "srv", "token", 6_000)
    with pytest.raises(Gone):
        leases.renew(other, "srv", "token", 0, 5_000)
    assert leases.acquire(database(), "srv", "x", 0, 1, takeover=False) == 1


def test_leases_that_ran_out_a_minute_ago_are_let_go_of(db: apsw.Connection) -> None:
    leases.acquire(db, "old", "token", 0, 1_000, takeover=False)
    leases.acquire(db, "new", "token", 60_001_000, 1_000, takeover=False)
    assert [owner for (owner,) in db.execute("SELECT owner FROM entity_leases ORDER BY 1")] == ["new", "old"]
    leases.acquire(db, "new", "token", 60_001_001, 1_000, takeover=False)
    assert [owner for (owner,) in db.execute("SELECT owner FROM entity_leases")] == ["new"]


def test_a_first_lease_makes_the_tables(other: apsw.Connection) -> None:
    assert leases.acquire(other, "srv", "token", 0, 5_000, takeover=False) == 5_000
    assert leases.holds(other, "srv", "token", 1)


# --- transfers --------------------------------------------------------------------------------------


def offer(
    db: apsw.Connection, *names: str, ticket: str = "town~1", now_us: int = 1_000, ms: int = 5
) -> Transfer:
    return transfers.offer(db, Offer(names, "town", "forest", ms), ticket, NOBODY, now_us)


def test_what_is_offered_is_held_for_its_ticket(db: apsw.Connection) -> None:
    put(db, "a", b"state", owner="srv")
    put(db, "b")
    made = offer(db, "a", "b")
    assert made == Transfer("town~1", "town", "forest", ("a", "b"), "srv", 1_000, 6_000, OFFERED, None)
    assert transfers.find_transfer(db, "town~1") == made
    assert [(each.ticket, each.revision, each.updated_us) for each in (rows.get(db, n) for n in "ab")] == [
        ("town~1", 3, 1_000),
        ("town~1", 4, 1_000),
    ]
    for work in (
        lambda: put(db, "a"),
        lambda: rows.delete(db, Delete("b"), NOBODY, 0),
        lambda: offer(db, "b", ticket="t"),
    ):
        with pytest.raises(InTransfer, match="in transfer"):
            work()
    with pytest.raises(NotFound):
        offer(db, "c", ticket="t")
    assert transfers.next_due(db) == 6_000


def test_an_offer_of_what_another_owns_is_refused(db: apsw.Connection) -> None:
    put(db, "a", owner="srv")
    leases.acquire(db, "srv", "token", 0, 50_000, takeover=False)
    with pytest.raises(NotOwner):
        offer(db, "a")
    assert transfers.records(db) == []


def test_an_offer_that_ends_gives_back_what_is_still_its_own(db: apsw.Connection) -> None:
    put(db, "a")
    put(db, "b")
    made = offer(db, "a", "b")
    transfers.hold(db, rows.get(db, "b"), "another", 1_500)
    ended = transfers.end(db, made, CANCELLED, 2_000)
    assert ended == Transfer("town~1", "town", "forest", ("a", "b"), "", 1_000, 6_000, CANCELLED, 2_000)
    assert transfers.find_transfer(db, "town~1") == ended
    assert (rows.get(db, "a").ticket, rows.get(db, "b").ticket) == (None, "another")
    assert rows.get(db, "a").updated_us == 2_000
    assert transfers.next_due(db) is None


def test_offers_whose_time_is_over_are_written_down_as_expired(db: apsw.Connection) -> None:
    put(db, "a")
    put(db, "b")
    offer(db, "a", ms=5)
    offer(db, "b", ticket="town~2", ms=9)
    assert transfers.settle(db, 5_999) == 0
    assert transfers.next_due(db) == 6_000
    assert transfers.settle(db, 6_000) == 1
    assert rows.get(db, "a").ticket is None
    assert (transfers.find_transfer(db, "town~1").state, transfers.next_due(db)) == (EXPIRED, 10_000)
    assert transfers.settle(db, 6_000) == 0
    offer(db, "a", ticket="town~3", now_us=10_000)  # who offers settles first
    assert transfers.find_transfer(db, "town~2").state == EXPIRED


def accept(
    db: apsw.Connection, other: apsw.Connection, owner: str | None = None, now_us: int = 2_000
) -> list[Entity]:
    return transfers.accept(db, other, "town~1", owner, NOBODY, now_us)[1]


def test_what_is_accepted_is_in_the_destination_and_its_source_says_where(
    db: apsw.Connection, other: apsw.Connection
) -> None:
    put(db, "a", b"state", owner="srv", tags=("x",))
    offer(db, "a")
    done, moved = transfers.accept(db, other, "town~1", None, NOBODY, 2_000)
    assert done == Transfer("town~1", "town", "forest", ("a",), "srv", 1_000, 6_000, ACCEPTED, 2_000)
    assert transfers.find_transfer(db, "town~1") == transfers.find_transfer(other, "town~1") == done
    assert moved == [Entity("a", "bytes", b"state", owner="srv", tags=("x",), updated_us=2_000, revision=1)]
    assert rows.get(other, "a") == moved[0]
    with pytest.raises(NotFound, match="moved to forest"):
        rows.get(db, "a")
    with pytest.raises(TransferEnded):
        accept(db, other)


def test_who_accepts_says_whose_it_is_then(db: apsw.Connection, other: apsw.Connection) -> None:
    put(db, "a", owner="srv")
    offer(db, "a")
    leases.acquire(other, "guard", "token", 0, 50_000, takeover=False)
    with pytest.raises(NotOwner):
        accept(db, other, "guard")
    assert [entity.owner for entity in accept(db, other, "")] == [""]


def test_what_the_destination_has_already_is_not_moved_over(
    db: apsw.Connection, other: apsw.Connection
) -> None:
    put(db, "a")
    schema.ensure(other)
    put(other, "a", b"theirs")
    offer(db, "a")
    with pytest.raises(AlreadyThere, match="forest has an entity a already") as refused:
        accept(db, other)
    assert refused.value.facts["id"] == "a"
    assert rows.get(other, "a").state == b"theirs"


def test_an_offer_is_accepted_before_its_end_and_not_at_it(
    db: apsw.Connection, other: apsw.Connection
) -> None:
    put(db, "a")
    offer(db, "a")
    with pytest.raises(TransferExpired):
        accept(db, other, now_us=6_000)
    assert accept(db, other, now_us=5_999)


def test_records_are_told_newest_first_by_entity_and_by_state(db: apsw.Connection) -> None:
    for number, name in enumerate("abc"):
        put(db, name)
        made = offer(db, name, ticket=f"town~{number}", now_us=1_000 + number, ms=1_000)
        if name == "b":
            transfers.end(db, made, CANCELLED, 1_500)
    assert [each.ticket for each in transfers.records(db)] == ["town~2", "town~1", "town~0"]
    assert [each.ticket for each in transfers.records(db, limit=2)] == ["town~2", "town~1"]
    assert [each.ticket for each in transfers.records(db, entity="a")] == ["town~0"]
    assert [each.ticket for each in transfers.records(db, state=CANCELLED)] == ["town~1"]
    assert transfers.records(db, state=CANCELLED, entity="a") == []
    transfers.forget_old(db, keep=2)
    assert len(transfers.records(db)) == 3, "what is still offered stays"
    transfers.forget_old(db, keep=1)
    assert [each.ticket for each in transfers.records(db)] == ["town~2", "town~0"]


# --- trades -----------------------------------------------------------------------------------------

OWNERS = ("ann", "bob")


class Bags:
    """Two inventories."""

    def __init__(self, ann: apsw.Connection, bob: apsw.Connection) -> None:
        self.by_owner = {"ann": ann, "bob": bob}
        put(ann, "coin", b"gold", class_name="Coin", quantity=10)

    def trade(
        self, *moves: Move, expect: tuple[Expectation, ...] = (), actor: Actor = NOBODY
    ) -> list[dict[str, object]]:
        return trades.trade(self.by_owner, Trade(OWNERS, moves, expect), actor, 77)

    def has(self, owner: str, item: str = "coin") -> int:
        entity = rows.find(self.by_owner[owner], item)
        return 0 if entity is None else entity.quantity


@pytest.fixture
def bags(db: apsw.Connection, other: apsw.Connection) -> Bags:
    return Bags(db, other)


def told(owner: str, quantity: int, revision: int) -> dict[str, object]:
    return {"owner": owner, "item": "coin", "quantity": quantity, "revision": revision}


def test_a_part_of_a_pile_goes_and_the_rest_stays(bags: Bags) -> None:
    assert bags.trade(Move("coin", "ann", "bob", 4)) == [told("ann", 6, 2), told("bob", 4, 1)]
    assert (bags.has("ann"), bags.has("bob")) == (6, 4)
    arrived = rows.get(bags.by_owner["bob"], "coin")
    assert arrived == Entity("coin", "bytes", b"gold", "Coin", updated_us=77, revision=1, quantity=4)
    assert rows.get(bags.by_owner["ann"], "coin").updated_us == 77
    assert bags.trade(Move("coin", "ann", "bob", 6)) == [told("ann", 0, 3), told("bob", 10, 2)]
    assert rows.find(bags.by_owner["ann"], "coin") is None
    assert bags.trade(Move("coin", "bob", "ann", 1), Move("coin", "bob", "ann", 2)) == [
        told("bob", 7, 4),
        told("ann", 3, 5),
    ]


def test_nobody_gives_more_than_he_has_or_what_has_changed(bags: Bags) -> None:
    for move, words in (
        (Move("coin", "ann", "bob", 11), "ann has 10 of coin at revision 1; the trade takes 11"),
        (Move("coin", "bob", "ann", 1), "bob has 0 of coin; the trade takes 1"),
        (Move("coin", "ann", "bob", 1, revision=2), "ann has 10 of coin at revision 1"),
    ):
        with pytest.raises(NotEnough, match=words) as refused:
            bags.trade(move)
        assert refused.value.facts["owner"] == move.giver
        assert refused.value.facts["quantity"] == (10 if move.giver == "ann" else 0)
    assert bags.trade(Move("coin", "ann", "bob", 10, revision=1))


def test_a_trade_holds_only_where_all_is_as_expected(bags: Bags) -> None:
    move = Move("coin", "ann", "bob", 1)
    for wrong in (
        Expectation("ann", "coin", 11),
        Expectation("ann", "coin", 1, revision=2),
        Expectation("bob", "coin", 1),
        Expectation("ann", "key", 1),
    ):
        with pytest.raises(PreconditionFailed):
            bags.trade(move, expect=(wrong,))
    assert bags.trade(move, expect=(Expectation("ann", "coin", 10, revision=1),))
    assert bags.trade(move, expect=(Expectation("bob", "coin", 1, revision=1),))


@pytest.mark.parametrize("differs", [{"class_name": "Key"}, {"state": b"silver"}, {"kind": "json"}])
def test_another_thing_of_the_same_id_is_not_added_to(bags: Bags, differs: dict[str, object]) -> None:
    bob = bags.by_owner["bob"]
    schema.ensure(bob)
    rows.put(
        bob,
        Put(**{"id": "coin", "kind": "bytes", "state": b"gold", "class_name": "Coin", **differs}),
        NOBODY,
        0,
    )  # type: ignore[arg-type]
    with pytest.raises(DifferentItem, match="bob has another thing under the id coin") as refused:
        bags.trade(Move("coin", "ann", "bob", 1))
    assert refused.value.facts["item"] == "coin"


def test_nobody_holds_more_than_a_number_can_say(bags: Bags) -> None:
    bob = bags.by_owner["bob"]
    schema.ensure(bob)
    put(bob, "coin", b"gold", class_name="Coin", quantity=QUANTITY_MAX - 4)
    with pytest.raises(NotEnough, match=f"bob cannot hold more than {QUANTITY_MAX}"):
        bags.trade(Move("coin", "ann", "bob", 5))
    bags.trade(Move("coin", "ann", "bob", 4))
    assert bags.has("bob") == QUANTITY_MAX


def test_what_is_in_transfer_or_another_ones_is_not_traded(bags: Bags) -> None:
    ann, bob = bags.by_owner["ann"], bags.by_owner["bob"]
    schema.ensure(bob)
    held = put(bob, "coin", b"gold", class_name="Coin")
    transfers.hold(bob, held, "ticket", 0)
    with pytest.raises(InTransfer):
        bags.trade(Move("coin", "ann", "bob", 1))
    transfers.hold(bob, rows.get(bob, "coin"), None, 0)
    rows.patch(ann, Patch("coin", owner="srv"), NOBODY, 0)
    leases.acquire(ann, "srv", "token", 0, 5_000, takeover=False)
    with pytest.raises(NotOwner):
        bags.trade(Move("coin", "ann", "bob", 1))
    assert bags.trade(Move("coin", "ann", "bob", 1), actor=Actor("token"))
