"""The query of a live session, strictly."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.options import FOCUS_WEIGHT, parse_live_query
from gateway.core.ports import LiveOptions
from gateway.errors import BadInput
from gateway.limits import FOCUS_KEYS_MAX


def test_nothing_asked_for_is_a_plain_subscriber() -> None:
    assert parse_live_query("") == LiveOptions()


def test_everything_can_be_asked_for() -> None:
    query = "role=publish&epoch=7&takeover=1&zstd=1&budget_kbps=256&keys=7,9:2.5&follow=crate-1&conflate=0"
    assert parse_live_query(query) == LiveOptions(
        role="publish",
        epoch=7,
        takeover=True,
        zstd=True,
        budget_kbps=256,
        keys={7: FOCUS_WEIGHT, 9: 2.5},
        follow="crate-1",
        conflate=False,
    )


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("rolle=publish", "rolle"),
        ("role=admin", "role"),
        ("role=publish&role=publish", "role"),
        ("epoch=-1", "epoch"),
        ("epoch=4294967296", "epoch"),
        ("epoch=\u0661", "epoch"),
        ("takeover=yes", "takeover"),
        ("zstd=", "zstd"),
        ("budget_kbps=0", "budget_kbps"),
        ("budget_kbps=1e3", "budget_kbps"),
        ("keys=a", "keys"),
        ("keys=1:x", "keys"),
        ("keys=1:0", "weight 0"),
        ("keys=1:nan", "weight nan"),
        ("keys=1:-2", "weight -2"),
        ("keys=1:inf", "weight inf"),
        ("keys=4294967296", "keys"),
        ("keys=" + ",".join(map(str, range(FOCUS_KEYS_MAX + 1))), f"{FOCUS_KEYS_MAX + 1} keys"),
        ("follow=", "follow"),
        ("follow=" + "x" * 300, "300"),
        ("=1", "''"),
        ("zstd", "zstd"),
        ("&".join(["zstd=1"] * 100), "query"),
    ],
)
def test_what_is_not_in_the_rule_is_refused_by_name(query: str, names: str) -> None:
    with pytest.raises(BadInput, match=names):
        parse_live_query(query)


@given(st.text(max_size=60))
def test_any_text_is_options_or_bad_input(query: str) -> None:
    with suppress(BadInput):
        assert parse_live_query(query).role in ("publish", "subscribe")


def test_redundancy_and_parity_are_asked_for_by_name() -> None:
    assert parse_live_query("redundancy=off").redundancy is False
    assert parse_live_query("redundancy=auto&parity=1").redundancy is True
    assert parse_live_query("redundancy=auto&parity=1").parity is True
    assert parse_live_query("parity=0").parity is False
    for wrong in ("redundancy=on", "redundancy=1", "redundancy=", "parity=2", "parity=auto"):
        with pytest.raises(BadInput, match=wrong.split("=")[0]):
            parse_live_query(wrong)
