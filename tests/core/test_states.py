"""What the tables of states say is what happens: each step is in its table, and each row of a table is seen."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gateway.core.bundle import Bundle
from gateway.core.outgoing import Outgoing
from gateway.core.ports import Refusal, Sent
from gateway.core.reader import Reader
from gateway.core.state import WorldState
from gateway.core.states import LINK, PUBLISHER, PUMP, READER, LinkState, ReaderState, Table, drawn
from gateway.core.world import World, WorldSettings
from gateway.limits import LATE_RUN_MAX
from gateway.wire import Frame, Record, encode_frame
from tests.core.links import RecordingLink, offer_alone

RUNS, STEPS = 700, 60


class MortalLink(RecordingLink):
    """A recording link that may come to take nothing at all."""

    over = False

    def send(self, message: bytes, token: int) -> Sent:
        return Refusal.CLOSED if self.over else super().send(message, token)


class Walk:
    """A reader that is driven at random, and every step that it took."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.state = WorldState()
        self.link = MortalLink(lossy=seed % 2 == 0)
        self.reader = Reader(self.state, self.link, 0.0, budget_kbps=16 if seed % 3 == 0 else None)
        self.mono, self.tick = 0.0, 0
        self.steps: set[tuple[ReaderState, str, ReaderState]] = set()

    def offer(self) -> None:
        self.tick += 1
        keys = {self.dice.randrange(40) for _ in range(self.dice.randrange(1, 9))}
        sizes = [
            self.dice.choice((8, 60, 60, 20_000)) for _ in keys
        ]  # what no datagram holds goes by a stream
        frame = Frame(1, self.tick, [Record(key, bytes(size)) for key, size in zip(keys, sizes, strict=True)])
        changed = self.state.apply(frame).changed
        offer_alone(self.reader, Bundle([Outgoing(frame, encode_frame(frame), changed)]), self.mono)

    def lost(self) -> None:
        self.reader.on_lost(self.dice.randrange(max(1, len(self.link.sent) + 1)))

    def turn(self) -> None:
        (self.reader.on_writable if self.dice.random() < 0.5 else self.reader.poll)(self.mono)

    def rebase(self) -> None:
        self.reader.want_keyframe("epoch", self.mono)

    def step(self) -> None:
        self.mono += self.dice.choice((0.0, 0.01, 0.3, 9.0))
        self.link.room = self.dice.choice((0, 60, 1_000, 1 << 30))
        self.link.over = self.link.over or self.dice.random() < 0.02
        event = self.dice.choices(("offer", "lost", "turn", "rebase"), (6, 3, 6, 1))[0]
        before = self.reader.state
        getattr(self, event)()
        self.steps.add((before, event, self.reader.state))


def told(steps: set[tuple[Any, str, Any]]) -> list[str]:
    return sorted(f"{a.name} --{event}-> {b.name}" for a, event, b in steps)


def test_a_reader_takes_the_steps_of_its_table_and_no_other() -> None:
    seen: set[tuple[ReaderState, str, ReaderState]] = set()
    for seed in range(RUNS):
        walk = Walk(seed)
        assert walk.reader.state in (ReaderState.CURRENT, ReaderState.METERED)
        for _ in range(STEPS):
            walk.step()
        seen |= walk.steps
    assert told(seen | {stalled()}) == told(set(READER.steps()))


def stalled() -> tuple[ReaderState, str, ReaderState]:
    """A stream that does not get through while there is no room."""
    walk = Walk(2)
    frame = Frame(1, 1, [Record(1, bytes(20_000))])
    changed = walk.state.apply(frame).changed
    offer_alone(walk.reader, Bundle([Outgoing(frame, encode_frame(frame), changed)]), 0.0)
    before, walk.link.room = walk.reader.state, 0
    walk.reader.poll(100.0)
    return before, "turn", walk.reader.state


def test_a_publishers_session_takes_the_steps_of_its_table_and_no_other() -> None:
    seen: set[tuple[Any, str, Any]] = set()
    for lossy in (True, False):
        for seed in range(16):
            dice, world = random.Random(seed), World("arena", WorldSettings(), mono=0.0, now_us=0)
            session = world.attach_publisher(RecordingLink(lossy=lossy), 1, 0.0)
            tick = 10
            session.on_message(encode_frame(Frame(1, tick, [Record(1, b"first")])), 0.0)
            for _ in range(LATE_RUN_MAX * 3):
                event = dice.choices(("newer", "older", "end"), (4, 20, 0.5) if seed % 2 else (0.05, 40, 0))[
                    0
                ]
                tick += event == "newer"
                frame = Frame(1, tick if event == "newer" else 1, [Record(1, b"%d" % tick)])
                before = session.state
                if event == "end":
                    session.on_closed(0.0)
                else:
                    session.on_message(encode_frame(frame), 0.0)
                seen.add((before, event, session.state))
    assert told(seen) == told(set(PUBLISHER.steps()))


def unreached(table: Table[Any]) -> set[str]:
    reached = {table.first} | {after for before, _, after in table.steps() if before is not after}
    return {state.name for state in table.rows} - {state.name for state in reached}


def test_every_state_is_reached_has_its_row_and_an_end() -> None:
    for table in (LINK, READER, PUBLISHER, PUMP):
        assert set(table.rows) == set(type(table.first)), table.name
        assert table is PUMP or not unreached(table), table.name
        assert any(all(then == (state,) for then in events.values()) for state, events in table.rows.items())


def test_a_table_answers_where_an_event_leads_and_refuses_what_it_does_not_have() -> None:
    assert LINK.after(LinkState.OPENING, "attach") is LinkState.OPEN
    assert LINK.after(LinkState.OPEN, "end") is LinkState.CLOSED
    with pytest.raises(KeyError):
        LINK.after(LinkState.OPEN, "attach")
    with pytest.raises(ValueError, match="unpack"):
        READER.after(ReaderState.CURRENT, "offer")


def test_a_table_allows_its_own_steps_alone() -> None:
    for table in (LINK, READER, PUBLISHER, PUMP):
        steps = set(table.steps())
        events = {event for _, event, _ in steps} | {"unheard of"}
        for before in table.rows:
            for event in events:
                for after in table.rows:
                    assert table.allows(before, event, after) is ((before, event, after) in steps)


def test_each_table_is_drawn_with_a_line_for_each_of_its_states() -> None:
    assert [part.splitlines()[0] for part in drawn().split("\n\n**")] == [
        "**`WebTransportLink`**, first OPENING",
        "`Reader`**, first CURRENT",
        "`PublisherSession`**, first IN_ORDER",
        "`JournalPump`**, first IDLE",
    ]
    lines = drawn().splitlines()
    closed = "`attach` → CLOSED; `close` → CLOSED; `end` → CLOSED"
    assert f"| CLOSED | the end is known, with its code | {closed} |" in lines
    assert len([line for line in lines if line.startswith("| ")]) == 2 * 4 + sum(
        len(table.rows) for table in (LINK, READER, PUBLISHER, PUMP)
    )
