"""Grants: patterns, needs, scopes of keys."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.grants import (
    EVERYTHING,
    VERBS,
    BadGrant,
    Grant,
    GrantRefused,
    Need,
    Scope,
    covers,
    matches,
)
from gateway.core.needs import need_of
from gateway.limits import (
    BUDGET_KBPS_MAX,
    DELAY_S_MAX,
    GRANT_PATTERNS_MAX,
    GRANT_RPS_MAX,
    GRANT_SESSIONS_MAX,
    PATTERN_CHARS_MAX,
)

NAMES = st.text("abz-1.", min_size=1, max_size=6)
PATTERNS = st.one_of(NAMES, st.text("abz-1.", max_size=6).map(lambda text: text + "*"))


def grant_of(claim: Any, key: Any = None, expires_s: float = 1e9) -> Grant:
    scope = None if key is None else Scope.of(key)
    return Scope.of(claim).grant(scope, subject="ann", jti="j", kid="k", expires_s=expires_s)


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("plaza", "plaza", True),
        ("plaza", "plaza-1", False),
        ("plaza-*", "plaza-1", True),
        ("plaza-*", "plaza-", True),
        ("plaza-*", "plaza", False),
        ("plaza-*", "xplaza-1", False),
        ("plaza-*", "Plaza-1", False),
        ("*", "anything", True),
        ("*", ":metrics", True),
        ("plaza-*", ":metrics", False),
        ("plaza-1", "plaza-10", False),
    ],
)
def test_a_pattern_is_a_name_or_the_beginning_of_names(pattern: str, name: str, fits: bool) -> None:
    assert matches(pattern, name) is fits


@given(PATTERNS, NAMES)
def test_a_pattern_matches_by_its_letters_alone(pattern: str, name: str) -> None:
    expected = name[: len(pattern) - 1] == pattern[:-1] if pattern[-1] == "*" else name == pattern
    assert matches(pattern, name) is expected


@given(PATTERNS, PATTERNS, NAMES)
def test_what_a_covered_pattern_matches_the_covering_one_does(outer: str, inner: str, name: str) -> None:
    if covers(outer, inner) and matches(inner, name):
        assert matches(outer, name)


@given(PATTERNS, PATTERNS)
def test_a_pattern_that_is_not_covered_matches_a_name_that_the_other_does_not(outer: str, inner: str) -> None:
    if not covers(outer, inner):
        stem = inner.removesuffix("*")
        witnesses = [stem] if inner == stem else [stem, stem + "q", stem + outer]
        assert any(not matches(outer, name) for name in witnesses)


@pytest.mark.parametrize(
    "entry", ["", "a*b", "**", "*a", "a b", "a\n", "a\x00", "x" * 300, 7, None, ["a"], {"a": 1}]
)
def test_an_entry_that_is_no_pattern_is_refused_with_the_whole_grant(entry: Any) -> None:
    with pytest.raises(BadGrant):
        Scope.of({"sub": ["plaza", entry]})


@pytest.mark.parametrize(
    "claim",
    [
        None,
        [],
        "sub",
        {"subs": ["*"]},
        {"sub": "plaza"},
        {"sub": {"plaza": 1}},
        {"sub": ["a"] * 65},
        {"takeover": 1},
        {"delay_s": -1},
        {"delay_s": float("nan")},
        {"delay_s": True},
        {"delay_s": "3"},
        {"kbps": 0},
        {"rps": 1.5},
        {"sessions": True},
        {"owner": 7},
    ],
)
def test_a_claim_outside_its_rule_is_no_grant_at_all(claim: Any) -> None:
    with pytest.raises(BadGrant):
        Scope.of(claim)


def test_what_a_grant_does_not_name_it_does_not_allow() -> None:
    grant = grant_of({"sub": ["plaza-*"], "pub": ["plaza-7"]})
    assert grant.allows(Need("sub", ("plaza-1",)))
    assert grant.allows(Need("pub", ("plaza-7",)))
    assert not grant.allows(Need("pub", ("plaza-1",)))
    assert not grant.allows(Need("sub", ("plaza-1", "arena")))
    assert not grant.allows(Need("admin", ()))
    assert not grant.allows(Need("no such verb", ()))
    assert grant.allows(Need("see", ("plaza-3",)))
    assert not grant.allows(Need("see", ("arena",)))
    assert grant.allows(Need("any", ()))
    assert not grant.allows(Need("pub", ("plaza-7",), takeover=True))
    assert not grant.may_own("server-1")


@pytest.mark.parametrize("verb", VERBS)
def test_without_access_control_everything_is_allowed(verb: str) -> None:
    assert EVERYTHING.allows(Need(verb, ("x", ":metrics"), takeover=True))
    assert EVERYTHING.may_own("anybody")


def test_a_refusal_names_the_rule_and_never_what_would_have_passed() -> None:
    grant = grant_of({"sub": ["secret-castle"]})
    for need, rule in (
        (Need("sub", ("plaza",)), "name"),
        (Need("pub", ("plaza",)), "verb"),
        (Need("sub", ("secret-castle",), takeover=True), "takeover"),
    ):
        with pytest.raises(GrantRefused) as caught:
            grant.check(need)
        assert caught.value.problem()["rule"] == rule
        assert "castle" not in str(caught.value.problem())


@pytest.mark.parametrize(
    ("claim", "key", "fits"),
    [
        ({"sub": ["plaza-1"]}, {"sub": ["plaza-*"]}, True),
        ({"sub": ["plaza-*"]}, {"sub": ["plaza-*"]}, True),
        ({"sub": ["plaza*"]}, {"sub": ["plaza-*"]}, False),
        ({"sub": ["*"]}, {"sub": ["plaza-*"]}, False),
        ({"sub": ["plaza-*"]}, {"sub": ["plaza-1"]}, False),
        ({"pub": ["plaza-1"]}, {"sub": ["*"]}, False),
        ({"takeover": True}, {"sub": ["*"]}, False),
        ({"owner": "server-2"}, {"owner": "server-*"}, True),
        ({"owner": "server-2"}, {"ent": ["*"]}, False),
        ({"delay_s": 5}, {"delay_s": 30}, False),
        ({"delay_s": 60}, {"delay_s": 30}, True),
        ({"kbps": 900}, {"kbps": 512}, False),
        ({"rps": 5}, {"rps": 5}, True),
        ({"sessions": 9}, {"sessions": 5}, False),
    ],
)
def test_a_token_that_asks_for_more_than_its_key_is_refused_whole(claim: Any, key: Any, fits: bool) -> None:
    if fits:
        grant_of(claim, key)
        return
    with pytest.raises(GrantRefused) as caught:
        grant_of(claim, key)
    assert caught.value.facts["rule"] == "key_scope"


def test_what_a_token_leaves_open_its_key_bounds() -> None:
    grant = grant_of({"sub": ["a"]}, {"sub": ["*"], "delay_s": 30, "kbps": 64, "rps": 2, "sessions": 3})
    assert (grant.delay_s, grant.kbps, grant.rps, grant.sessions) == (30.0, 64, 2, 3)


@given(st.lists(PATTERNS, max_size=3), st.lists(PATTERNS, max_size=3), NAMES)
def test_no_token_of_a_scoped_key_reaches_a_name_that_the_key_does_not(
    wanted: list[str], key: list[str], name: str
) -> None:
    try:
        grant = grant_of({"sub": wanted}, {"sub": key})
    except GrantRefused:
        return
    assert not grant.has("sub", name) or any(matches(pattern, name) for pattern in key)


@pytest.mark.parametrize(
    ("method", "path", "query", "need"),
    [
        ("GET", "/v1/worlds/plaza/live", "", Need("sub", ("plaza",), is_read=True)),
        ("GET", "/v1/worlds/plaza/live", "role=publish", Need("pub", ("plaza",))),
        ("GET", "/v1/worlds/plaza/live", "role=%70ublish&takeover=1", Need("pub", ("plaza",), True)),
        ("GET", "/v1/worlds/plaza/live", "role=subscribe&role=publish", Need("pub", ("plaza",))),
        ("HEAD", "/v1/worlds/plaza/frames", "", Need("sub", ("plaza",), is_read=True)),
        ("POST", "/v1/worlds/plaza/frames", "", Need("pub", ("plaza",))),
        ("DELETE", "/v1/worlds/plaza", "", Need("admin", ("plaza",))),
        ("GET", "/v1/worlds/plaza", "", Need("see", ("plaza",), is_read=True)),
        ("GET", "/v1/worlds", "", Need("any", (), is_read=True)),
        ("GET", "/v1/transfers", "world=a&world=b", Need("ent", ("a", "b"))),
        ("POST", "/v1/worlds/a/entities/x:wake", "takeover=1", Need("ent", ("a",), True)),
        ("GET", "/metrics", "", Need("admin", (":metrics",))),
        ("GET", "/healthz", "", Need("open", ())),
    ],
)
def test_each_path_says_what_it_needs(method: str, path: str, query: str, need: Need) -> None:
    assert need_of(method, path, query) == need


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/worlds/plaza/unheard-of"),
        ("GET", "/v1/worlds/plaza/live/"),
        ("GET", "/v1/worlds/plaza/live\n"),
        ("GET", "/v1/worlds//live"),
        ("GET", "//v1/worlds/plaza/live"),
        ("GET", "/v1/worlds/a/b/live"),
        ("GET", "/metrics/"),
        ("TRACE", "/healthz"),
        ("CONNECT", "/v1/worlds/plaza/live"),
        ("POST", "/api/_namespace/x"),
    ],
)
def test_a_path_that_no_rule_knows_has_no_need_that_could_be_met(method: str, path: str) -> None:
    assert need_of(method, path) is None


# --- each member, at its bound and beside it -------------------------------------------------------


@pytest.mark.parametrize(
    ("member", "taken", "refused"),
    [
        ("delay_s", [0, 0.5, 1, DELAY_S_MAX], [-0.5, DELAY_S_MAX + 0.5, False, "1", [1]]),
        ("kbps", [1, BUDGET_KBPS_MAX], [0, BUDGET_KBPS_MAX + 1, True, 1.0, "1"]),
        ("rps", [1, GRANT_RPS_MAX], [0, GRANT_RPS_MAX + 1, True, 1.0, "1"]),
        ("sessions", [1, GRANT_SESSIONS_MAX], [0, GRANT_SESSIONS_MAX + 1, True, 1.0, "1"]),
        ("takeover", [True, False], [0, 1, "true", []]),
        ("owner", ["a", "a*", "*", "x" * PATTERN_CHARS_MAX], ["", "x" * (PATTERN_CHARS_MAX + 1), 7, ["a"]]),
        (
            "sub",
            [[], ["x" * PATTERN_CHARS_MAX], ["a"] * GRANT_PATTERNS_MAX, ["é*"]],
            [["x" * (PATTERN_CHARS_MAX + 1)], ["a"] * (GRANT_PATTERNS_MAX + 1), "a", [""], 7, {}],
        ),
    ],
)
def test_each_member_of_a_claim_is_taken_up_to_its_bound(
    member: str, taken: list[Any], refused: list[Any]
) -> None:
    for value in taken:
        scope, grant = Scope.of({member: value}), grant_of({member: value})
        expected = tuple(value) if isinstance(value, list) else value
        assert (scope.patterns[member] if member in VERBS else getattr(scope, member)) == expected
        assert getattr(grant, member) == expected
    for value in refused:
        with pytest.raises(BadGrant):
            Scope.of({member: value})


def test_a_claim_that_says_nothing_allows_nothing_and_bounds_nothing() -> None:
    for claim in ({}, dict.fromkeys((*VERBS, "owner", "takeover", "delay_s", "kbps", "rps", "sessions"))):
        grant = Scope.of(claim).grant(None, subject="ann", jti="j", kid="k", expires_s=9.0, issued_s=3.0)
        assert grant == Grant(subject="ann", jti="j", kid="k", expires_s=9.0, issued_s=3.0)
        assert grant.delay_s == 0.0
        assert [grant.patterns(verb) for verb in (*VERBS, "owner", "subject")] == [()] * (len(VERBS) + 2)


@pytest.mark.parametrize(
    ("claim", "key", "expected"),
    [
        ({"delay_s": 60, "kbps": 8, "rps": 1, "sessions": 1}, {}, (60.0, 8, 1, 1)),
        ({"delay_s": 60, "kbps": 8, "rps": 1, "sessions": 1}, None, (60.0, 8, 1, 1)),
        (
            {"delay_s": 60, "kbps": 8, "rps": 1, "sessions": 1},
            {"delay_s": 30, "kbps": 8, "rps": 2, "sessions": 3},
            (60.0, 8, 1, 1),
        ),
        ({"delay_s": 30}, {"delay_s": 30}, (30.0, None, None, None)),
        ({}, {}, (0.0, None, None, None)),
        ({}, None, (0.0, None, None, None)),
    ],
)
def test_what_a_token_says_itself_counts_within_its_key(
    claim: Any, key: Any, expected: tuple[float, int | None, int | None, int | None]
) -> None:
    grant = grant_of(claim, key)
    assert (grant.delay_s, grant.kbps, grant.rps, grant.sessions) == expected


@pytest.mark.parametrize(
    ("claim", "key", "over"),
    [
        ({"sub": ["a"], "pub": ["b"]}, {"sub": ["a"]}, "pub"),
        ({"owner": "a"}, {}, "owner"),
        ({"owner": "a"}, {"owner": "b"}, "owner"),
        ({"owner": "a"}, {"owner": "*"}, None),
        ({"takeover": True}, {}, "takeover"),
        ({"takeover": True}, {"takeover": True}, None),
        ({"takeover": False}, {"takeover": True}, None),
        ({"delay_s": 29}, {"delay_s": 30}, "delay_s"),
        ({"delay_s": 30}, {"delay_s": 30}, None),
        ({"delay_s": 0}, {}, None),
        ({}, {"delay_s": 30}, None),
        ({"kbps": 9}, {"kbps": 8}, "kbps"),
        ({"rps": 9}, {"rps": 8}, "rps"),
        ({"sessions": 9}, {"sessions": 8}, "sessions"),
        ({"kbps": 8, "rps": 8, "sessions": 8}, {"kbps": 8, "rps": 8, "sessions": 8}, None),
        ({"kbps": 8}, {}, None),
        ({}, {"kbps": 8, "rps": 8, "sessions": 8}, None),
    ],
)
def test_the_member_in_which_a_token_asks_for_more_is_named(claim: Any, key: Any, over: str | None) -> None:
    assert Scope.of(claim).excess(Scope.of(key)) == over


def test_the_leases_of_others_are_refused_by_their_rule() -> None:
    grant = grant_of({"owner": "server-*"})
    grant.check_owner("server-1")
    assert grant.may_own("server-2")
    for one, owner in ((grant, "client-1"), (grant_of({}), "server-1")):
        assert not one.may_own(owner)
        with pytest.raises(GrantRefused) as caught:
            one.check_owner(owner)
        assert caught.value.facts == {"rule": "owner", "verb": "ent"}


@pytest.mark.parametrize(
    ("claim", "need", "rule"),
    [
        ({}, Need("open", takeover=True), None),
        ({}, Need("any"), None),
        ({}, Need("any", takeover=True), "takeover"),
        ({"takeover": True}, Need("any", takeover=True), None),
        ({}, Need("sub"), "verb"),
        ({"sub": ["a"]}, Need("sub"), None),
        ({"sub": ["a"]}, Need("sub", ("a", "b")), "name"),
        ({"sub": ["a", "b"]}, Need("sub", ("a", "b")), None),
        ({}, Need("see", ("a",)), "verb"),
        ({"inv": ["*"]}, Need("see", ("a",)), "verb"),
        ({"admin": ["a"]}, Need("see", ("a",)), None),
        ({"ent": ["b"]}, Need("see", ("a",)), "name"),
        ({"sub": ["*"]}, Need("owner", ("*",)), "verb"),
    ],
)
def test_by_which_rule_a_need_is_refused(claim: Any, need: Need, rule: str | None) -> None:
    assert grant_of(claim).refused_rule(need) == rule
    assert grant_of(claim).allows(need) is (rule is None)
