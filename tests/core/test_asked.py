"""What a session is asked for, at its bounds: the query, what another gateway says, who sits in the publisher's place, delays."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.delay import Behind, parse_delay
from gateway.core.events import address_text
from gateway.core.options import FOCUS_WEIGHT, RESUME_HEX_DIGITS, parse_live_query, parse_weights
from gateway.core.origins import Misdirected, Origins
from gateway.core.ports import Mark
from gateway.core.seat import Seat
from gateway.core.sessions import focus_weights, redundancy_of
from gateway.core.source import SourceNews, read_source
from gateway.errors import BadInput, MalformedMessage
from gateway.limits import (
    BUDGET_KBPS_MAX,
    DELAY_S_MAX,
    DELAY_S_MIN,
    DELAY_STEP_US_MIN,
    DELAY_STEPS_MAX,
    EDGE_HOPS_MAX,
    EDGE_ID_CHARS_MAX,
    FOCUS_KEYS_MAX,
    FOLLOW_CHARS_MAX,
    WEIGHT_MAX,
)
from gateway.wire import Control

U32, U64 = 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF

# --- the query ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "field", "value"),
    [
        ("epoch=0", "epoch", 0),
        (f"epoch={U32}", "epoch", U32),
        ("budget_kbps=1", "budget_kbps", 1),
        (f"budget_kbps={BUDGET_KBPS_MAX}", "budget_kbps", BUDGET_KBPS_MAX),
        ("takeover=true", "takeover", True),
        ("takeover=1", "takeover", True),
        ("takeover=false", "takeover", False),
        ("takeover=0", "takeover", False),
        (f"follow={'x' * FOLLOW_CHARS_MAX}", "follow", "x" * FOLLOW_CHARS_MAX),
        ("follow=x", "follow", "x"),
        (f"resume={'aB' * 16}", "resume", "ab" * 16),
        (f"keys={U32}", "keys", {U32: FOCUS_WEIGHT}),
        ("keys=0:0.5", "keys", {0: 0.5}),
        (f"keys=1:{WEIGHT_MAX}", "keys", {1: WEIGHT_MAX}),
        ("keys=", "keys", {}),
        ("role=subscribe&delay_s=2", "delay_s", 2.0),
        ("role=publish&delay_s=0", "delay_s", 0.0),
    ],
)
def test_what_is_just_within_its_rule_is_taken(query: str, field: str, value: object) -> None:
    assert getattr(parse_live_query(query), field) == value


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (f"budget_kbps={BUDGET_KBPS_MAX + 1}", f"from 1 to {BUDGET_KBPS_MAX}"),
        ("epoch=00000000001", "epoch='00000000001' is not"),
        (f"follow={'x' * (FOLLOW_CHARS_MAX + 1)}", f"has {FOLLOW_CHARS_MAX + 1} characters"),
        (f"resume={'a' * (RESUME_HEX_DIGITS - 1)}", "hex digits"),
        (f"resume={'g' * RESUME_HEX_DIGITS}", "hex digits"),
        (f"keys=1:{WEIGHT_MAX + 1}", "weight"),
        ("role=publish&delay_s=2", "role=subscribe"),
        (f"role={'r' * 60}", f"'{'r' * 60}'"),
        (f"role={'r' * 61}", f"'{'r' * 60}…'"),
    ],
)
def test_what_is_one_over_is_refused_by_name(query: str, says: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_live_query(query)
    assert says in refused.value.message


def test_as_many_keys_as_the_bound_are_weighed_and_one_more_is_refused() -> None:
    assert len(parse_weights([(key, 1.0) for key in range(FOCUS_KEYS_MAX)])) == FOCUS_KEYS_MAX
    with pytest.raises(BadInput, match=f"{FOCUS_KEYS_MAX + 1} keys"):
        parse_weights([(key, 1.0) for key in range(FOCUS_KEYS_MAX + 1)])
    for key in (-1, U32 + 1):
        with pytest.raises(BadInput, match=f"key {key} is not a u32"):
            parse_weights([(key, 1.0)])


# --- control messages of a subscriber -------------------------------------------------------


def focus(**fields: object) -> Control:
    return Control("focus", fields)


def test_a_focus_names_keys_and_may_weigh_them() -> None:
    assert focus_weights(focus(keys=[7, 9])) == {7: FOCUS_WEIGHT, 9: FOCUS_WEIGHT}
    assert focus_weights(focus(keys=[7, 9], weights=[4, 0.5])) == {7: 4.0, 9: 0.5}
    assert focus_weights(focus(keys=[])) == {}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"keys": 7},
        {"keys": [7], "weights": []},
        {"keys": [7], "weights": [1, 2]},
        {"keys": [True]},
        {"keys": [7.0]},
        {"keys": [7], "weights": [True]},
        {"keys": [7], "weights": ["1"]},
        {"keys": [7], "weights": 1},
        {"keys": {"7": 1}, "weights": [1]},
        {"keys": [7], "weights": [10**400]},
    ],
)
def test_a_focus_of_another_shape_is_malformed(fields: dict[str, object]) -> None:
    with pytest.raises(MalformedMessage, match="focus"):
        focus_weights(focus(**fields))


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, (None, None)),
        ({"mode": "auto"}, (True, None)),
        ({"mode": "off", "parity": False}, (False, False)),
        ({"parity": True}, (None, True)),
    ],
)
def test_redundancy_is_asked_for_by_mode_and_parity(fields: dict[str, object], wanted: object) -> None:
    assert redundancy_of(Control("redundancy", fields)) == wanted


@pytest.mark.parametrize("fields", [{"mode": "on"}, {"mode": True}, {"parity": 1}, {"parity": "true"}])
def test_any_other_redundancy_is_malformed(fields: dict[str, object]) -> None:
    with pytest.raises(MalformedMessage, match=f"the {next(iter(fields))} of redundancy"):
        redundancy_of(Control("redundancy", fields))


# --- another gateway ------------------------------------------------------------------------


def news(**changes: Any) -> SourceNews:
    sound = {"home": False, "hops": 0, "via": ["a"], "epoch": 0, "durable": None, "records": 0, "stale_ms": 0}
    return read_source(Control("source", {**sound, "known": None, **changes}))


@pytest.mark.parametrize(
    ("changes", "read"),
    [
        ({"hops": EDGE_HOPS_MAX}, {"hops": EDGE_HOPS_MAX}),
        ({"via": ["a"] * (EDGE_HOPS_MAX + 1)}, {"via": ("a",) * (EDGE_HOPS_MAX + 1)}),
        ({"via": ["x" * EDGE_ID_CHARS_MAX]}, {"via": ("x" * EDGE_ID_CHARS_MAX,)}),
        ({"via": []}, {"via": ()}),
        ({"epoch": U32}, {"epoch": U32}),
        ({"records": U32, "stale_ms": U64}, {"records": U32, "stale_ms": U64}),
        ({"durable": {"epoch": U32, "tick": U32}}, {"durable": Mark(U32, U32)}),
        ({"durable": {"epoch": 0, "tick": 0}}, {"durable": Mark(0, 0)}),
        ({"known": [U64, U32]}, {"known": (U64, U32)}),
        ({"known": [0, 0]}, {"known": (0, 0)}),
        ({"known": [-1, 4]}, {"known": (-1, 4)}),
    ],
)
def test_another_gateway_is_believed_up_to_the_bounds(changes: Any, read: dict[str, Any]) -> None:
    assert {name: getattr(news(**changes), name) for name in read} == read


@pytest.mark.parametrize(
    "changes",
    [
        {"known": [-1, -1]},
        {"known": [1, 2, 3]},
        {"known": [U64 + 1, 0]},
        {"known": [0, U32 + 1]},
        {"durable": {"epoch": U32 + 1, "tick": 0}},
        {"durable": {"epoch": 0, "tick": -1}},
        {"records": U32 + 1},
    ],
)
def test_and_not_beyond_them(changes: Any) -> None:
    with pytest.raises(MalformedMessage, match=f"{next(iter(changes))} of source"):
        news(**changes)


# --- the publisher's place ------------------------------------------------------------------


def test_an_epoch_is_proven_by_its_secret_and_by_nothing_else() -> None:
    seat = Seat()
    assert (seat.is_proven(1, "one"), seat.knows("one")) == (False, False)
    assert seat.taken(1, None, "one") == "one"
    assert [seat.is_proven(1, claim) for claim in ("one", "two", None, "")] == [True, False, False, False]
    assert [seat.is_proven(epoch, "one") for epoch in (2, 0, None)] == [False] * 3
    assert (seat.knows("one"), seat.knows("two"), seat.knows(None)) == (True, False, False)
    assert seat.taken(1, "two", "fresh") is None
    assert seat.taken(1, "one", "fresh") == "one"
    assert seat.taken(2, "claimed", "fresh") == "claimed"
    assert (seat.knows("claimed"), seat.knows("one")) == (True, False)
    assert "claimed" not in repr(seat)


def test_who_drives_the_rules_without_random_bits_has_no_secrets() -> None:
    seat = Seat()
    assert seat.taken(1, None, "") is None
    assert seat.is_proven(1, None)
    assert not seat.knows("")
    assert not seat.is_proven(2, None)


@pytest.mark.parametrize(
    ("host", "is_named"),
    [
        ("a.game.example", True),
        (".game.example", False),
        ("game.example", False),
        ("a.b.game.example", False),
    ],
)
def test_a_star_in_a_certificates_name_is_one_whole_label(host: str, is_named: bool) -> None:
    origins = Origins(names=lambda: ["*.game.example"])
    if is_named:
        origins.check("https", host, None)
    else:
        with pytest.raises(Misdirected):
            origins.check("https", host, None)


# --- delays ---------------------------------------------------------------------------------


def test_a_delay_of_just_the_bounds_is_taken() -> None:
    for delay_s in (DELAY_S_MIN, DELAY_S_MAX):
        assert parse_delay(str(delay_s)) == delay_s


SECOND = 1_000_000


def test_a_clock_that_wanders_less_than_a_step_was_not_set() -> None:
    for off_us, is_set in ((DELAY_STEP_US_MIN - 1, False), (DELAY_STEP_US_MIN, True)):
        behind = Behind(0.0, 10 * SECOND)
        behind.saw(1.0, 11 * SECOND + off_us)
        horizon = behind.horizon_us(2.0)
        assert (horizon < 9 * SECOND + off_us) is is_set


def test_what_was_recorded_before_a_step_is_shown_when_it_is_old_enough() -> None:
    """Set forwards by 10 s at 11 s: from 21 s on is new. What came right before it is 11 s by the clock as it was."""
    behind = Behind(0.0, 10 * SECOND)
    behind.saw(1.0, 21 * SECOND)
    assert behind.horizon_us(2.0) == 9 * SECOND
    behind.saw(2.5, 22 * SECOND + SECOND // 2)
    assert behind.horizon_us(2.0) == 10 * SECOND + SECOND // 2
    behind.saw(3.0, 23 * SECOND)
    assert behind.horizon_us(2.0) == 21 * SECOND
    behind.saw(4.0, 24 * SECOND)
    assert behind.horizon_us(2.0) == 22 * SECOND


def test_a_clock_set_back_undoes_as_much_of_what_it_was_set_forwards() -> None:
    for back_s in (4, 10):
        behind = Behind(0.0, 10 * SECOND)
        behind.saw(1.0, 21 * SECOND)
        behind.saw(1.0, (21 - back_s) * SECOND)
        assert behind.horizon_us(2.0) == 9 * SECOND, "what was just recorded is still too young"
        behind.saw(9.0, (29 - back_s) * SECOND)
        assert behind.horizon_us(2.0) == (27 - back_s) * SECOND
    behind = Behind(0.0, 10 * SECOND)
    behind.saw(1.0, 21 * SECOND)
    behind.saw(1.0, 11 * SECOND - DELAY_STEP_US_MIN // 2)
    assert behind.horizon_us(2.0) < 9 * SECOND


def test_a_step_back_of_just_the_least_is_undone() -> None:
    behind = Behind(0.0, 10 * SECOND)
    behind.saw(1.0, 11 * SECOND + DELAY_STEP_US_MIN)
    behind.saw(1.0, 11 * SECOND)
    assert behind.horizon_us(2.0) == 9 * SECOND


def test_so_many_steps_are_remembered_the_newest() -> None:
    behind, wall_us = Behind(0.0, 0), 0
    for n in range(1, DELAY_STEPS_MAX + 2):
        wall_us += 11 * SECOND
        behind.saw(float(n), wall_us)
    # a second goes by for each step of ten: of the oldest nothing is known any more, of the others all
    assert behind.horizon_us(float(DELAY_STEPS_MAX)) == wall_us - DELAY_STEPS_MAX * 11 * SECOND
    assert behind.horizon_us(float(DELAY_STEPS_MAX) + 1) == wall_us - DELAY_STEPS_MAX * 11 * SECOND - SECOND


def test_an_address_has_brackets_where_it_has_colons() -> None:
    assert [address_text(host, 7) for host in ("127.0.0.1", "::1")] == ["127.0.0.1:7", "[::1]:7"]
