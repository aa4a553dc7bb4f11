"""No test waits for what must come for a time of its own: on a machine that stands still it would be too short."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
ITS_OWN = "(its own time)"
"""Stands in the comment of a line where time is the claim itself."""
HANG_CALLS = {"asyncio.timeout": 0, "asyncio.wait_for": 1, "until": 1}
"""What ends a hang, and which argument says when."""


def own_times(path: Path) -> Iterator[str]:
    """Lines that end a wait after seconds of their own."""
    text = path.read_text()
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        at = HANG_CALLS.get(ast.unparse(node.func))
        if at is None or len(node.args) <= at:
            continue
        when = node.args[at]
        if not isinstance(when, ast.Constant) or not isinstance(when.value, int | float):
            continue
        line = lines[when.lineno - 1]
        if ITS_OWN not in line:
            yield f"{path.relative_to(TESTS)}:{node.lineno}: {line.strip()}"


def test_what_ends_a_hang_is_one_time_for_all() -> None:
    found = [place for path in sorted(TESTS.rglob("*.py")) for place in own_times(path)]
    assert not found, (
        "say HANG_S of tests/patience.py, or, where time is the claim, a comment with " + ITS_OWN
    )
