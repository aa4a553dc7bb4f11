"""Entities against a model: random work, with a crash at any step of any commit.

The store is the real embedded engine. A crash is an exception out of the store at a chosen call,
before or after the call had its effect; then everything that ran is thrown away and opened anew
from the folder, as after ``kill -9``. Whatever was under way must have happened whole or not at all.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.errors import GatewayError
from gateway.store.base import Namespace
from gateway.store.database import Database, transact_together
from gateway.store.embedded import EmbeddedStore
from gateway.store.entities import queries, rows, schema, transfers
from gateway.wire.entities.transfers import CANCELLED, Offer
from gateway.wire.entities.values import Actor, Delete, Filter, Put

WORLDS = ("town", "forest", "cave")
IDS = tuple("abcd")
NOBODY = Actor()


class Crash(BaseException):
    """The process is gone."""


class Mortal:
    """A store that dies at its n-th call from now, before it has its effect or after."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.calls_left: int | None = None
        self.commits_only = False
        self.after = False

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._inner, name)
        if not callable(call):
            return call

        def mortal(*args: Any, **kwargs: Any) -> Any:
            if self.calls_left is None or (self.commits_only and name != "commit"):
                return call(*args, **kwargs)
            self.calls_left -= 1
            if self.calls_left >= 0:
                return call(*args, **kwargs)
            if self.after:
                call(*args, **kwargs)
            raise Crash

        return mortal


@dataclass
class Ticket:
    source: str
    destination: str
    ids: tuple[str, ...]
    expires_us: int
    state: str = "offered"


@dataclass
class Model:
    """What must be: where each entity is and its state, and how each ticket stands."""

    places: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tickets: dict[str, Ticket] = field(default_factory=dict)

    def settle(self, world: str, now_us: int) -> None:
        for ticket in self.tickets.values():
            if ticket.source == world and ticket.state == "offered" and ticket.expires_us <= now_us:
                ticket.state = "expired"

    def held(self, ident: str) -> bool:
        world = self.places.get(ident, ("", b""))[0]
        return any(
            t.state == "offered" and ident in t.ids and t.source == world for t in self.tickets.values()
        )


class EntityMachine(RuleBasedStateMachine):
    """Every rule does the same to the databases and to the model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.model = Model()
        self.now_us = 1_000_000
        self.tickets = 0
        self.crash: tuple[int, bool, bool] | None = None
        self.open()

    def open(self) -> None:
        self.engine = EmbeddedStore.open(self.folder, auto_create=True)
        self.store = Mortal(self.engine.blocking())
        self.databases = {w: Database.open(self.store, Namespace(w), create=True) for w in WORLDS}  # type: ignore[arg-type]

    def teardown(self) -> None:
        self.engine.close()
        shutil.rmtree(self.folder)

    @initialize()
    def begin(self) -> None:
        for world in WORLDS:
            self.databases[world].transact(schema.ensure)

    # --- one step, which may crash --------------------------------------------------------------

    def step(
        self, worlds: tuple[str, ...], work: Callable[..., Any], expect: Callable[[Model], None]
    ) -> None:
        """``work(connections)`` in one commit; ``expect(model)`` does the same, or raises KeyError
        where the work must be refused."""
        before, after = copy.deepcopy(self.model), copy.deepcopy(self.model)
        for world in worlds:
            after.settle(world, self.now_us)
        settled = copy.deepcopy(after)
        try:
            expect(after)
            refused = False
        except KeyError:
            after, refused = settled, True
        if self.crash is not None:
            (self.store.calls_left, self.store.after, self.store.commits_only), self.crash = self.crash, None
        answer: Any = None
        try:
            answer = transact_together(
                [self.databases[w] for w in worlds], lambda cs: self._attempt(cs, work)
            )
        except Crash:
            self.engine.close()
            self.open()
            seen = self.look()
            assert seen in (self.flat(before), self.flat(after)), "a commit happened by halves"
            self.model = after if seen == self.flat(after) else before
            return
        self.store.calls_left = None
        assert isinstance(answer, GatewayError) == refused, answer
        self.model = after

    def _attempt(self, connections: Any, work: Callable[..., Any]) -> Any:
        for connection in connections:
            transfers.settle(connection, self.now_us)
            connection.execute("SAVEPOINT work")
        try:
            work(*connections)
        except GatewayError as error:
            for connection in connections:
                connection.execute("ROLLBACK TO work")
            return error
        return None

    # --- rules --------------------------------------------------------------------------------------

    @rule(world=st.sampled_from(WORLDS), ident=st.sampled_from(IDS), state=st.binary(max_size=6))
    def put(self, world: str, ident: str, state: bytes) -> None:
        if self.model.places.get(ident, (world,))[0] != world:
            return

        def expect(model: Model) -> None:
            if model.held(ident):
                raise KeyError
            model.places[ident] = (world, state)

        self.step((world,), lambda c: rows.put(c, Put(ident, "bytes", state), NOBODY, self.now_us), expect)

    @rule(ident=st.sampled_from(IDS), world=st.sampled_from(WORLDS))
    def delete(self, ident: str, world: str) -> None:
        def expect(model: Model) -> None:
            if model.places.get(ident, ("",))[0] != world or model.held(ident):
                raise KeyError
            del model.places[ident]

        self.step((world,), lambda c: rows.delete(c, Delete(ident), NOBODY, self.now_us), expect)

    @rule(
        ids=st.lists(st.sampled_from(IDS), min_size=1, max_size=3, unique=True), ways=st.permutations(WORLDS)
    )
    def offer(self, ids: list[str], ways: list[str]) -> None:
        self.make_offer(ids, *ways[:2])

    def make_offer(self, ids: list[str], source: str, destination: str) -> None:
        self.tickets += 1
        ticket = f"{source}~{self.tickets:032x}"

        def expect(model: Model) -> None:
            if any(model.places.get(i, ("",))[0] != source or model.held(i) for i in ids):
                raise KeyError
            model.tickets[ticket] = Ticket(source, destination, tuple(ids), self.now_us + 5_000_000)

        wanted = Offer(tuple(ids), source, destination, 5_000)
        self.step((source,), lambda c: transfers.offer(c, wanted, ticket, NOBODY, self.now_us), expect)

    @precondition(lambda self: self.model.tickets)
    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        self.take(data.draw(st.sampled_from(sorted(self.model.tickets))))

    def take(self, ticket: str) -> None:
        known = self.model.tickets[ticket]

        def expect(model: Model) -> None:
            if model.tickets[ticket].state != "offered":
                raise KeyError
            model.tickets[ticket].state = "accepted"
            for ident in known.ids:
                model.places[ident] = (known.destination, model.places[ident][1])

        self.step(
            (known.source, known.destination),
            lambda s, d: transfers.accept(s, d, ticket, None, NOBODY, self.now_us),
            expect,
        )

    @precondition(lambda self: self.model.tickets)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.model.tickets)))
        known = self.model.tickets[ticket]

        def expect(model: Model) -> None:
            if model.tickets[ticket].state != "offered":
                raise KeyError
            model.tickets[ticket].state = "cancelled"

        def work(connection: Any) -> None:
            transfer = transfers.find_transfer(connection, ticket)
            transfer.must_be_open(self.now_us)
            transfers.end(connection, transfer, CANCELLED, self.now_us)

        self.step((known.source,), work, expect)

    @rule(ms=st.sampled_from([1, 2_500, 5_001]))
    def time_passes(self, ms: int) -> None:
        self.now_us += ms * 1_000

    @rule(calls=st.integers(0, 6), after=st.booleans())
    def the_next_step_may_crash(self, calls: int, after: bool) -> None:
        self.crash = (calls, after, False)

    @precondition(lambda self: any(not self.model.held(ident) for ident in self.model.places))
    @rule(data=st.data(), commit=st.sampled_from([None, 0, 0, 1]), after=st.booleans())
    def an_entity_is_handed_over_and_the_commit_may_crash(
        self, data: st.DataObject, commit: int | None, after: bool
    ) -> None:
        free = sorted(ident for ident in self.model.places if not self.model.held(ident))
        ident = data.draw(st.sampled_from(free))
        source = self.model.places[ident][0]
        known = set(self.model.tickets)
        self.crash = None
        self.make_offer([ident], source, data.draw(st.sampled_from([w for w in WORLDS if w != source])))
        (ticket,) = set(self.model.tickets) - known
        self.crash = None if commit is None else (commit, after, True)
        self.take(ticket)

    @rule()
    def everything_is_killed_between_two_steps(self) -> None:
        self.engine.close()
        self.open()

    # --- what must hold ----------------------------------------------------------------------------

    def look(self) -> Any:
        """What the databases hold: (id -> world and state, ticket -> how it stands)."""
        places: dict[str, tuple[str, bytes]] = {}
        stands: dict[str, str] = {}
        for world in WORLDS:
            entities, records = self.databases[world].read(
                lambda c: (queries.page(c, Filter(), 100)[0], transfers.records(c, limit=1000))
            )
            for entity in entities:
                assert entity.id not in places, f"{entity.id} is in two worlds"
                places[entity.id] = (world, entity.state)
            for record in records:
                if record.source == world or record.ticket not in stands:
                    stands[record.ticket] = record.state
        return places, stands

    @staticmethod
    def flat(model: Model) -> Any:
        return model.places, {name: ticket.state for name, ticket in model.tickets.items()}

    @invariant()
    def every_entity_is_in_one_world_with_its_last_committed_state(self) -> None:
        assert self.look() == self.flat(self.model)


TestEntityMachine = EntityMachine.TestCase
TestEntityMachine.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
