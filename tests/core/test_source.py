"""What one gateway believes of another's word."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.ports import Mark
from gateway.core.source import SourceNews, read_source
from gateway.errors import MalformedMessage
from gateway.limits import EDGE_HOPS_MAX, EDGE_ID_CHARS_MAX
from gateway.wire.control import decode_control, encode_control

SOUND: dict[str, Any] = {
    "home": True,
    "hops": 1,
    "via": ["a", "b"],
    "epoch": 3,
    "durable": {"epoch": 3, "tick": 9},
    "records": 5,
    "stale_ms": 7,
    "known": [12, 3],
}


def read(**changes: Any) -> SourceNews:
    return read_source(decode_control(encode_control("source", **{**SOUND, **changes})))


def test_a_sound_message_is_read_as_it_is() -> None:
    assert read() == SourceNews(True, 1, ("a", "b"), 3, Mark(3, 9), 5, 7, (12, 3))
    assert read(durable=None, known=None, home=False).durable is None
    assert read(known=[-1, 0]).known == (-1, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"hops": EDGE_HOPS_MAX + 1},
        {"hops": -1},
        {"hops": True},
        {"hops": "1"},
        {"via": None},
        {"via": ["a"] * (EDGE_HOPS_MAX + 2)},
        {"via": [1]},
        {"via": [""]},
        {"via": ["x" * (EDGE_ID_CHARS_MAX + 1)]},
        {"epoch": 1 << 32},
        {"epoch": 1.5},
        {"durable": 7},
        {"durable": {"epoch": 1}},
        {"records": None},
        {"stale_ms": -5},
        {"stale_ms": 1 << 64},
        {"known": [1]},
        {"known": "12"},
        {"known": [-2, 1]},
    ],
)
def test_whatever_is_out_of_bounds_is_malformed_and_named(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage, match=next(iter(changes))):
        read(**changes)


def test_a_home_is_one_that_says_so_in_so_many_words() -> None:
    for word in (1, "true", None, {}):
        assert not read(home=word).is_home
