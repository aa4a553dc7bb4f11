"""The states of what lives long, and what leads from one to another: as tables. Room: core. Pure.

A link goes by its table (:meth:`Table.after`): an event that the table does not have raises. A reader, a publisher's session and a
journal's pump keep what they need for the thousands of messages a second, and *say* by ``state`` where they are; tests drive
them and hold every step to their tables, in both directions. ``docs/ARCHITECTURE.md``, "States", is drawn from here
(``python -m bench.pages``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Generic, TypeVar


class LinkState(Enum):
    """A WebTransport session's way to its end (draft-ietf-webtrans-http3, sections 3 and 6)."""

    OPENING = "the rules' end is not there yet: what comes early is kept, up to a bound"
    OPEN = "messages go both ways"
    CLOSING = "it takes and gives nothing any more; the last control messages have a moment to arrive"
    CLOSED = "the end is known, with its code"


class ReaderState(Enum):
    """How a reader gets what its world says."""

    CURRENT = "it gets each frame as it came"
    BEHIND = "some newest values wait for room: frames are noted, and go as repairs"
    REBASING = "it waits to be given everything, as a keyframe"
    METERED = "it has everything, and lives on turns: its budget decides when, not frames"
    OVER = "its link takes nothing any more, and nothing is kept"


class PublisherState(Enum):
    """What a publisher's session makes of the next message."""

    IN_ORDER = "its ticks rise"
    LATE = "its last messages were all older than its newest tick; after LATE_RUN_MAX of them its ticks went back"
    OVER = "the session has ended, and nothing is taken"


class PumpState(Enum):
    """What a journal's pump is doing with its world's next batch."""

    IDLE = "nothing is due"
    DUE = "a batch is due, in the next round"
    IN_ROUND = "its batch is being committed together with other worlds'"
    ALONE = "a task of its own commits: somebody waits, it was too large or slow for a round, or a commit has failed"
    STOPPED = "nothing is begun any more; what was begun ends"


S = TypeVar("S", bound=Enum)


@dataclass(frozen=True, slots=True)
class Table(Generic[S]):
    """Events by state, and the states that they may lead to."""

    name: str
    first: S
    rows: Mapping[S, Mapping[str, tuple[S, ...]]]

    def after(self, state: S, event: str) -> S:
        """The one state that ``event`` leads to. Raises ``KeyError`` where the table does not have it, ``ValueError`` where there are several."""
        (then,) = self.rows[state][event]
        return then

    def allows(self, before: S, event: str, after: S) -> bool:
        """Whether this step is in the table."""
        return after in self.rows[before].get(event, ())

    def steps(self) -> Iterator[tuple[S, str, S]]:
        """Each (state, event, state)."""
        for before, events in self.rows.items():
            for event, states in events.items():
                yield from ((before, event, after) for after in states)


_L, _R, _P, _J = LinkState, ReaderState, PublisherState, PumpState

LINK: Final = Table(
    "WebTransportLink",
    _L.OPENING,
    {
        _L.OPENING: {"attach": (_L.OPEN,), "close": (_L.CLOSING,), "end": (_L.CLOSED,)},
        _L.OPEN: {"close": (_L.CLOSING,), "end": (_L.CLOSED,)},
        # refused before the rules' end was made: it hears of the end all the same
        _L.CLOSING: {"attach": (_L.CLOSING,), "close": (_L.CLOSING,), "end": (_L.CLOSED,)},
        _L.CLOSED: {"attach": (_L.CLOSED,), "close": (_L.CLOSED,), "end": (_L.CLOSED,)},
    },
)
"""``attach``: the rules' end is there. ``close``: this end ends it. ``end``: the peer ended it, the connection is gone, or what was to
be said at the end was said."""

READER: Final = Table(
    "Reader",
    _R.CURRENT,
    {
        _R.CURRENT: {
            "offer": (_R.CURRENT, _R.BEHIND, _R.OVER),
            "lost": (_R.CURRENT, _R.BEHIND),
            "turn": (_R.CURRENT, _R.BEHIND),
            "rebase": (_R.CURRENT, _R.REBASING),
        },
        _R.BEHIND: {
            "offer": (_R.CURRENT, _R.BEHIND, _R.METERED, _R.REBASING, _R.OVER),
            "lost": (_R.BEHIND,),
            "turn": (_R.CURRENT, _R.BEHIND, _R.METERED, _R.REBASING, _R.OVER),
            "rebase": (_R.CURRENT, _R.METERED, _R.REBASING),
        },
        _R.METERED: {
            "offer": (_R.METERED, _R.BEHIND, _R.OVER),
            "lost": (_R.METERED, _R.BEHIND),
            "turn": (_R.METERED,),
            "rebase": (_R.METERED, _R.REBASING),
        },
        _R.REBASING: {
            "offer": (_R.CURRENT, _R.METERED, _R.REBASING),
            "lost": (_R.REBASING,),
            "turn": (_R.CURRENT, _R.METERED, _R.REBASING),
            "rebase": (_R.CURRENT, _R.METERED, _R.REBASING),
        },
        _R.OVER: {"offer": (_R.OVER,), "lost": (_R.OVER,), "turn": (_R.OVER,), "rebase": (_R.OVER,)},
    },
)
"""``offer``: a frame of the world. ``lost``: a datagram was lost. ``turn``: room, or time, also of a stream that does not get through.
``rebase``: everything is wanted, on joining and for a new epoch. With a budget it begins METERED."""

PUBLISHER: Final = Table(
    "PublisherSession",
    _P.IN_ORDER,
    {
        _P.IN_ORDER: {"newer": (_P.IN_ORDER,), "older": (_P.LATE, _P.OVER), "end": (_P.OVER,)},
        _P.LATE: {"newer": (_P.IN_ORDER,), "older": (_P.LATE, _P.OVER), "end": (_P.OVER,)},
        _P.OVER: {"newer": (_P.OVER,), "older": (_P.OVER,), "end": (_P.OVER,)},
    },
)
"""``newer`` and ``older``: a frame whose tick the world took, or one before the newest that it did not. ``end``: it left, was told
to leave, or sent what nobody may. In order (TCP) the first ``older`` one ends it."""

PUMP: Final = Table(
    "JournalPump",
    _J.IDLE,
    {
        _J.IDLE: {"wake": (_J.IDLE,), "begin": (_J.IDLE,), "stop": (_J.STOPPED,)},
        _J.DUE: {
            "wake": (_J.DUE, _J.ALONE, _J.IN_ROUND),
            "begin": (_J.IN_ROUND, _J.ALONE),
            "stop": (_J.STOPPED,),
        },
        _J.IN_ROUND: {"wake": (_J.IN_ROUND,), "end": (_J.IDLE, _J.DUE, _J.ALONE), "stop": (_J.STOPPED,)},
        _J.ALONE: {
            "wake": (_J.ALONE,),
            "begin": (_J.ALONE,),
            "end": (_J.IDLE, _J.DUE, _J.ALONE),
            "stop": (_J.STOPPED,),
        },
        _J.STOPPED: {
            "wake": (_J.STOPPED,),
            "begin": (_J.STOPPED,),
            "end": (_J.STOPPED,),
            "stop": (_J.STOPPED,),
        },
    },
)
"""``wake``: there may be something to write. ``begin`` and ``end``: of a round, or of its own task."""


def drawn() -> str:
    """All of them, as Markdown."""
    parts = []
    for table in (LINK, READER, PUBLISHER, PUMP):
        lines = [
            f"**`{table.name}`**, first {table.first.name}",
            "",
            "| state | | events → states |",
            "| --- | --- | --- |",
        ]
        for state, events in table.rows.items():
            ways = "; ".join(
                f"`{event}` → {', '.join(s.name for s in then)}" for event, then in events.items()
            )
            lines.append(f"| {state.name} | {state.value} | {ways} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
