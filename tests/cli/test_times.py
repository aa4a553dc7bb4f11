"""Moments as a person types them: what is none is said to be none, whatever was typed."""

from __future__ import annotations

import pytest

from gateway.cli._times import parse_time, show_time
from gateway.errors import ConfigError

NOW_US = 1_795_000_000_000_000


@pytest.mark.parametrize(
    ("text", "at_us"),
    [
        ("now", NOW_US),
        ("90s-ago", NOW_US - 90_000_000),
        ("1.5 h", NOW_US - 5_400_000_000),
        ("999999999d-ago", 0),
        ("1795000000.5", NOW_US + 500_000),
        ("2026-11-20 21:14:03", 1_795_209_243_000_000),
    ],
)
def test_a_moment_is_read(text: str, at_us: int) -> None:
    assert parse_time(text, NOW_US) == at_us
    assert show_time(at_us).endswith(" UTC")


@pytest.mark.parametrize(
    "text",
    ["", "9" * 400, "9" * 400 + "s", "1." + "9" * 400 + "h", "٣s", "1e9", "-5s", "2026-99-99", "x" * 400],
)
def test_what_is_no_moment_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_time(text, NOW_US)
    assert "is no time" in caught.value.message
    assert len(caught.value.message) < 200
