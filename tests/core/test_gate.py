"""What stands between a door and what it opens: grants in use, tokens in requests, and what a refusal says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.core.gate import (
    Standing,
    challenge_of,
    check_current,
    check_current_name,
    check_current_owner,
    credentials_of,
    current,
    hand_on,
    within_grant,
)
from gateway.core.grants import Grant, GrantRefused, Need
from gateway.core.ports import CloseCode, LiveOptions
from gateway.errors import Unauthorized
from gateway.wire.control import Control
from tests.core.links import RecordingLink


def standing_of(grant: Grant | None = None, need: Need | None = None) -> tuple[Standing, list[Standing]]:
    """One that stands, and the list of those that are over."""
    over: list[Standing] = []
    return Standing(grant or Grant(), need or Need("sub"), over.append), over


@pytest.fixture
def stands() -> Iterator[Standing]:
    """The code runs in the name of somebody who may read ``plaza``, for ``server-1``, at 64 kbps."""
    standing, _ = standing_of(Grant(sub=("plaza",), owner="server-1", kbps=64))
    token = current.set(standing)
    yield standing
    current.reset(token)


def test_what_is_in_use_ends_once_with_its_reason_whoever_asks_first() -> None:
    early, _ = standing_of()
    told: list[tuple[str, CloseCode]] = []
    assert early.ended is None
    assert not early.is_session
    early.ends_by(lambda *why: told.append(why))
    assert told == []
    early.end("revoked", CloseCode.EXPIRED)
    early.end("again", CloseCode.ERROR)
    assert told == [("revoked", CloseCode.EXPIRED)]
    late, _ = standing_of()
    late.end("revoked", CloseCode.REFUSED)
    assert late.ended == ("revoked", CloseCode.REFUSED)
    late.ends_by(lambda *why: told.append(why))
    assert told[1:] == [("revoked", CloseCode.REFUSED)]


def test_what_is_over_is_told_once_and_is_ended_by_nobody() -> None:
    standing, over = standing_of()
    told: list[str] = []
    standing.ends_by(lambda reason, code: told.append(reason))
    standing.over()
    standing.over()
    assert over == [standing]
    standing.end("too late", CloseCode.ERROR)
    assert told == []


@pytest.mark.parametrize(("is_read", "query"), [(True, "a=1&delay_s=30.000"), (False, "a=1")])
def test_a_grant_s_delay_is_in_the_query_of_what_shows_a_world(is_read: bool, query: str) -> None:
    standing, _ = standing_of(Grant(delay_s=30.0), Need("sub", ("plaza",), is_read=is_read))
    assert standing.seen("a=1") == query


def test_without_access_control_nothing_is_refused() -> None:
    assert current.get() is None
    check_current(Need("admin", ("plaza",)))
    check_current_name("admin", "plaza")
    check_current_owner("anybody")
    assert within_grant(LiveOptions()).budget_kbps is None


def test_whoever_asks_now_is_held_to_the_grant(stands: Standing) -> None:
    check_current(Need("sub", ("plaza",)))
    check_current_name("sub", "plaza")
    check_current_owner("server-1")
    with pytest.raises(GrantRefused):
        check_current(Need("pub", ("plaza",)))
    with pytest.raises(GrantRefused):
        check_current_name("sub", "arena")
    with pytest.raises(GrantRefused):
        check_current_name("pub", "plaza")
    with pytest.raises(GrantRefused):
        check_current_owner("server-2")


@pytest.mark.parametrize(
    ("options", "kbps"),
    [
        (LiveOptions(), 64),
        (LiveOptions(budget_kbps=32), 32),
        (LiveOptions(budget_kbps=900), 64),
        (LiveOptions(role="publish", budget_kbps=900), 900),
        (LiveOptions(role="publish"), None),
    ],
)
def test_a_reader_gets_no_more_than_its_grant(
    options: LiveOptions, kbps: int | None, stands: Standing
) -> None:
    assert within_grant(options).budget_kbps == kbps


def test_a_grant_without_a_bound_leaves_what_was_asked_for() -> None:
    standing, _ = standing_of(Grant(sub=("*",)))
    token = current.set(standing)
    asked = LiveOptions(budget_kbps=900)
    assert within_grant(asked) is asked
    current.reset(token)


@pytest.mark.parametrize(("kind", "handed"), [("token", True), ("weights", False)])
def test_a_session_hands_on_tokens_and_nothing_else(kind: str, handed: bool) -> None:
    link, got = RecordingLink(), list[Control]()
    message = Control(kind)
    hand_on(message, link)
    link.on_token = got.append
    hand_on(message, link)
    assert got == [message] * handed


@pytest.mark.parametrize(
    ("authorization", "query", "token", "rest"),
    [
        (None, "", None, ""),
        (None, "a=1&b=2", None, "a=1&b=2"),
        (None, "a=1&token=x%2By+z&b=2", "x+y z", "a=1&b=2"),
        (None, "%74oken=x", "x", ""),
        (None, "token", "", ""),
        (None, "tokens=x&Token=y", None, "tokens=x&Token=y"),
        ("Bearer abc", "", "abc", ""),
        ("  bEARER   abc  ", "a=1", "abc", "a=1"),
        ("abc", "", "abc", ""),
        ("Basic abc", "", "Basic abc", ""),
    ],
)
def test_a_token_comes_in_a_header_or_in_the_query_and_is_taken_out_of_it(
    authorization: str | None, query: str, token: str | None, rest: str
) -> None:
    headers = [("host", "gate"), ("cookie", "token=no")]
    headers += [] if authorization is None else [("authorization", authorization)]
    assert credentials_of(headers, query) == (token, rest)


@pytest.mark.parametrize(
    ("headers", "query"), [(1, "token=y"), (2, ""), (0, "token=x&token=y"), (0, "token=x&token=x")]
)
def test_two_tokens_are_refused(headers: int, query: str) -> None:
    with pytest.raises(Unauthorized) as caught:
        credentials_of([("authorization", "Bearer x")] * headers, query)
    assert caught.value.facts["rule"] == "two_places"


@pytest.mark.parametrize(
    ("facts", "challenge"),
    [
        ({"rule": "missing"}, 'Bearer realm="mvgateway"'),
        ({"rule": "expired"}, 'Bearer realm="mvgateway", error="invalid_token"'),
        ({}, 'Bearer realm="mvgateway", error="invalid_token"'),
    ],
)
def test_the_challenge_calls_a_token_invalid_only_where_there_was_one(
    facts: dict[str, str], challenge: str
) -> None:
    assert challenge_of(Unauthorized("no", **facts)) == challenge
