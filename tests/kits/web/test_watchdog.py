"""The web kit tells a dead path from a quiet one, a slow one, and a page that slept: by a clock of the test's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.client.test_dropins import output_of, program
from tests.kits.web.test_vectors import KIT

BELIEVED_MS = 2500
BOUND_MS = 3000
HANDSHAKE_MS = 1200
"""What is left of the bound for another connection to be there: TCP, TLS, WebSocket and welcome."""


@pytest.fixture
async def told() -> dict[str, Any]:
    script = str(Path(__file__).with_name("watchdog.mjs"))
    found: dict[str, Any] = json.loads(await output_of(program("node"), script, str(KIT)))
    return found


async def test_a_dead_path_is_noticed_in_time_for_another_connection(told: dict[str, Any]) -> None:
    assert told["worst"] <= BOUND_MS - HANDSHAKE_MS
    assert told["once_busy"] <= BOUND_MS - HANDSHAKE_MS, "one slow answer makes no slow path"
    assert told["slow_and_cut"] <= BELIEVED_MS, "two round trips of 700 ms, not more"


async def test_what_is_quiet_slow_older_or_asleep_is_not_taken_for_dead(told: dict[str, Any]) -> None:
    assert told["quiet"]["suspected"] is None
    assert 50 <= told["quiet"]["asked"] <= 75, "a quiet world is asked about once a second"
    assert told["slow"]["suspected"] is None
    assert told["older"] is None
    assert told["slept"] is None
    assert told["off"] == {"suspected": None, "asked": 0}
