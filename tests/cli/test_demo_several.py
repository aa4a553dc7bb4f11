"""``mvgateway demo --gateways``: really played, its gateways processes, the home killed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.patience import HANG_S


def demo(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway.cli", "demo", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=2 * HANG_S, check=False)


def test_the_home_is_killed_and_readers_at_the_others_go_on_without_connecting_anew() -> None:
    played = demo("--gateways", "3", "--seconds", "4", "--json")
    assert played.returncode == 0, played.stderr
    told = json.loads(played.stdout)
    assert (told["gateways"], told["readers"], told["reconnects"]) == (3, 10, 0)
    assert told["all_have_the_last_frame"]
    assert told["recorded_tick"] > told["killed_at_tick"] >= told["known_durable_tick"] > 0


@pytest.mark.parametrize("count", ["0", "9"])
def test_a_number_of_gateways_that_no_demo_plays_is_refused_with_the_bound(count: str) -> None:
    refused = demo("--gateways", count)
    assert refused.returncode != 0
    assert f"--gateways {count} is outside 1 to 8" in refused.stderr
