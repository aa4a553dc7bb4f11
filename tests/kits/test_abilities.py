"""What the page says that kits can do is what was seen to pass, and what was seen to pass is what runs."""

from __future__ import annotations

import pytest

from tests.kits.abilities import ABILITIES, KITS, RESULTS, marked, proves, results, written
from tests.kits.table import PAGE, parts, table

HOW = "KITS_RECORD=1 python -m pytest on the tests that changed, then python -m tests.kits.table"


@pytest.mark.parametrize("kit", KITS)
def test_what_was_seen_to_pass_is_what_runs(kit: str) -> None:
    """A test that is marked and not in the results never passed; one in the results that is not marked is gone."""
    assert results(kit) == marked()[kit], HOW
    assert (RESULTS / f"{kit}.json").read_text() == written(kit, results(kit))


def test_the_page_says_what_was_seen_to_pass() -> None:
    assert parts(PAGE.read_text())[1] == table(), HOW


def test_a_mark_of_a_kit_or_an_ability_that_there_is_not_is_refused() -> None:
    for kit, *abilities in (("fortran", "publish"), ("web", "publsih"), ("web",)):
        with pytest.raises(ValueError, match="is called"):
            proves(kit, *abilities)


def test_each_ability_is_shown_by_a_kit() -> None:
    shown = {ability for kit in KITS for ability in results(kit)}
    assert shown == set(ABILITIES)
