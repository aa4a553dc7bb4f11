"""Trades: items and quantities between two inventories, all or nothing. Room: wire; pure. Source: docs/ENTITIES.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.errors import BadInput, Conflict, PreconditionFailed, TooLarge
from gateway.limits import TRADE_MOVES_MAX
from gateway.wire.entities.checks import check_id, check_place

QUANTITY_MAX = (1 << 53) - 1
"""What a JSON number holds exactly."""


class NotEnough(Conflict):
    """The giver has not (or no longer) what the trade wants of him."""

    code = "not_enough"
    title = "Not enough"
    retry = False


class DifferentItem(Conflict):
    """The taker has another thing under the same id."""

    code = "different_item"
    title = "Different item"
    retry = False


@dataclass(frozen=True, slots=True)
class Move:
    """``quantity`` of ``item`` from ``giver`` to ``taker``; ``revision``: only if the giver's is at it."""

    item: str
    giver: str
    taker: str
    quantity: int
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class Expectation:
    """A precondition: ``owner`` has at least ``quantity`` of ``item`` (and, if given, at ``revision``)."""

    owner: str
    item: str
    quantity: int
    revision: int | None = None

    def check(self, quantity: int, revision: int | None) -> None:
        """Raise :class:`PreconditionFailed` unless it holds."""
        if quantity < self.quantity or (self.revision is not None and revision != self.revision):
            raise PreconditionFailed(
                f"{self.owner} has {quantity} of {self.item} at revision {revision}; the trade expects otherwise",
                owner=self.owner,
                item=self.item,
                quantity=quantity,
                revision=revision,
            )


@dataclass(frozen=True, slots=True)
class Trade:
    """``owners``: the two, in the order in which their databases are taken."""

    owners: tuple[str, str]
    moves: tuple[Move, ...]
    expect: tuple[Expectation, ...] = ()


def parse_trade(members: Mapping[str, object]) -> Trade:
    """The body of ``POST /v1/inventories:trade``. Raises :class:`BadInput` and its kin."""
    moves = tuple(_move(item) for item in _list(members, "moves"))
    expect = tuple(_expectation(item) for item in _list(members, "expect"))
    if not 1 <= len(moves) <= TRADE_MOVES_MAX or len(expect) > TRADE_MOVES_MAX:
        raise TooLarge(f"a trade has 1 to {TRADE_MOVES_MAX} moves and as many expectations at most")
    owners = {move.giver for move in moves} | {move.taker for move in moves}
    if len(owners) != 2 or not {item.owner for item in expect} <= owners:
        raise BadInput(f"a trade is between two owners; this one names {sorted(owners)}")
    # Sorted, and so the same for both directions.
    first, second = sorted(owners)
    return Trade((first, second), moves, expect)


def _list(members: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    value = members.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise BadInput(f"{name} is a list of objects")
    return value


def _move(item: Mapping[str, object]) -> Move:
    giver, taker = check_place(item.get("from")), check_place(item.get("to"))
    if giver == taker:
        raise BadInput(f"{giver} trades with {taker}: a move goes from one owner to the other")
    quantity = check_quantity(item.get("quantity", 1))
    return Move(check_id(item.get("item")), giver, taker, quantity, _revision(item.get("revision")))


def _expectation(item: Mapping[str, object]) -> Expectation:
    owner, quantity = check_place(item.get("owner")), check_quantity(item.get("quantity", 1))
    return Expectation(owner, check_id(item.get("item")), quantity, _revision(item.get("revision")))


def check_quantity(value: object) -> int:
    """1 to 2**53 - 1. Raises :class:`BadInput`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= QUANTITY_MAX:
        raise BadInput(f"a quantity is an integer of 1 to {QUANTITY_MAX}, not {value!r}")
    return value


def _revision(value: object) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise BadInput(f"a revision is an integer, not {value!r}")
    return value
