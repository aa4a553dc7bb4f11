"""The mutation tool makes the mutants that it says, and one that breaks a rule is noticed."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.mutation.__main__ import ROOT, Copy, files_of
from tests.mutation.mutants import mutants_of
from tests.mutation.targets import TARGETS

SOURCE = '''
BOUND = 7

class Thing:
    """Says 5."""

    def is_small(self, size: int = 3) -> bool:
        """Not over 4."""
        self.asked = True
        if size < 0 or not size:
            raise ValueError("a size of 0")
        return size + 1 <= BOUND
'''


def test_each_kind_of_change_is_made_once_and_words_and_defaults_are_left_alone() -> None:
    names = [mutant.name.partition(": ")[2] for mutant in mutants_of("thing.py", SOURCE)]
    assert sorted(names) == sorted(
        [
            "self.asked = True -> pass",
            "size < 0 or not size -> size < 0 and (not size)",
            "size < 0 -> size <= 0",
            "0 -> 1",
            "not size -> bool(size)",
            "return size + 1 <= BOUND -> return None",
            "size + 1 <= BOUND -> size + 1 < BOUND",
            "size + 1 -> size - 1",
            "1 -> 2",
        ]
    )


def test_a_mutant_differs_from_its_source_in_one_place_and_can_be_run() -> None:
    texts = [mutant.text for mutant in mutants_of("thing.py", SOURCE)]
    assert len(set(texts)) == len(texts)
    for text in texts:
        compile(text, "thing.py", "exec")


def test_every_target_names_tests_that_are_there() -> None:
    for prefix, tests in TARGETS:
        assert files_of([prefix.rstrip("/")]) or not tests or not (ROOT / prefix).exists()
        assert [test for test in tests if not (ROOT / test).exists()] == []


def test_what_breaks_a_rule_is_noticed_and_the_copy_is_whole_again() -> None:
    path = "gateway/core/lease.py"
    mutant = next(
        one for one in mutants_of(path, (ROOT / path).read_text()) if "self._alive_at -> mono +" in one.name
    )
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder))
        tests = ("tests/core/test_lease.py",)
        assert copy.passes(tests, 100.0)
        (copy.folder / path).write_text(mutant.text)
        assert not copy.passes(tests, 100.0)
