"""What one gateway tells another that follows a world there: the control message ``source``. Room: core. Pure.

Source: docs/FRAMES.md, "Control messages" and "Edges".
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.ports import Mark
from gateway.errors import MalformedMessage
from gateway.limits import EDGE_HOPS_MAX, EDGE_ID_CHARS_MAX
from gateway.wire.control import Control

_U32 = 0xFFFFFFFF
_U64 = 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True, slots=True)
class SourceNews:
    """``is_home``: it is the world's home, or another worker of that gateway is; ``hops``: gateways between it and the home;
    ``via``: which they are, itself included; ``durable``: how far the store has the world; ``records``: how many it has;
    ``stale_ms``: how long it has heard nothing of its own source; ``known``: row and epoch up to which the store
    has everything, where it is the home no more; ``born``: when the world was made in the store of the home (µs, Unix), by which
    gateways know that they have one store."""

    is_home: bool
    hops: int
    via: tuple[str, ...]
    epoch: int
    durable: Mark | None
    records: int
    stale_ms: int
    known: tuple[int, int] | None = None
    born: int | None = None


def read_source(message: Control) -> SourceNews:
    """Raises :class:`MalformedMessage` naming the field."""
    via = message.get("via")
    if not isinstance(via, list) or len(via) > EDGE_HOPS_MAX + 1 or not all(map(_is_id, via)):
        raise MalformedMessage(f"via of source is not a list of at most {EDGE_HOPS_MAX + 1} short texts")
    return SourceNews(
        message.get("home") is True,
        _number(message, "hops", EDGE_HOPS_MAX),
        tuple(via),
        _number(message, "epoch", _U32),
        _mark(message.get("durable")),
        _number(message, "records", _U32),
        _number(message, "stale_ms", _U64),
        _known(message.get("known")),
        None if message.get("born") is None else _number(message, "born", _U64),
    )


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= EDGE_ID_CHARS_MAX


def _number(message: Control, name: str, most: int) -> int:
    return _whole(message.get(name), name, most)


def _whole(value: object, name: str, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise MalformedMessage(
            f"{name} of source is {value!r:.40}, which is no whole number from 0 to {most}"
        )
    return value


def _mark(value: object) -> Mark | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise MalformedMessage("durable of source is neither null nor an object")
    return Mark(
        _whole(value.get("epoch"), "durable", _U32),
        _whole(value.get("tick"), "durable", _U32),
    )


def _known(value: object) -> tuple[int, int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise MalformedMessage("known of source is not a row and an epoch")
    row = value[0]
    return (-1 if row == -1 else _whole(row, "known", _U64)), _whole(value[1], "known", _U32)
