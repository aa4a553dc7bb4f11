"""The web kit where streams come in another order than they were sent, as WebTransport lets them: in a JavaScript engine, where
the test says which is read first."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.client.test_dropins import program
from tests.kits.web.test_vectors import KIT


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    script = str(Path(__file__).with_name("order.mjs"))
    command = [program("node"), script, str(KIT)]
    told: dict[str, Any] = json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=60).stdout
    )
    return told


def test_a_films_first_picture_may_overtake_its_welcome_and_each_command_has_its_own_answer(
    found: dict[str, Any],
) -> None:
    film = found["overtaken_welcome"]
    assert film["early"] == "disconnected", "before its welcome there is nobody to ask"
    assert film["begun"] == 1
    assert (film["sought"], film["stepped"], film["shows"]) == (12, 10, 10)


def test_the_present_may_overtake_the_answer_before_it(found: dict[str, Any]) -> None:
    assert found["overtaken_position"] == {"live": None, "sought": 12, "isLive": True}


def test_a_welcome_that_nobody_asked_for_is_no_commands_answer(found: dict[str, Any]) -> None:
    assert found["second_welcome"] == 12


def test_a_film_that_goes_on_by_another_connection_keeps_what_was_asked_meanwhile(
    found: dict[str, Any],
) -> None:
    assert found["taken_over"] == {"playing": 1, "waiting": "disconnected", "said": ["play"], "stepped": 2}


def test_a_keyframe_that_overtakes_the_welcome_counts(found: dict[str, Any]) -> None:
    assert found["reader"] == {"shows": 7, "seen": ["open", "frame"]}
    assert found["reader_with_token"] == {"shows": 7, "seen": ["open", "frame"]}


def test_what_comes_before_a_welcome_has_a_bound(found: dict[str, Any]) -> None:
    assert found["flood"] == ["too much came before its welcome"]
