"""The mutation tool makes the mutants that it says, and one that breaks a rule is noticed."""

from __future__ import annotations

import ast
import math
import re
import runpy
import subprocess
import sys
from pathlib import Path

from tests.mutation.__main__ import ROOT, files_of
from tests.mutation.gate import CHANCE, least_noticed, seed_of
from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.swapping import Functions
from tests.mutation.targets import EQUIVALENT, ROOMS, TARGETS
from tests.patience import HANG_S

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
    texts = [ast.unparse(mutant.tree(SOURCE)) for mutant in mutants_of("thing.py", SOURCE)]
    assert len(set(texts)) == len(texts)
    for text in texts:
        compile(text, "thing.py", "exec")


def test_of_a_yes_or_no_the_other_is_answered() -> None:
    source = "def small(size):\n    if size > 4:\n        return False\n    return True\n"
    names = [mutant.name.partition(": ")[2] for mutant in mutants_of("thing.py", source)]
    assert {"return False -> return True", "return True -> return False"} < set(names)


def test_every_target_names_tests_that_are_there() -> None:
    for prefix, tests in TARGETS:
        assert files_of([prefix.rstrip("/")]) or not tests or not (ROOT / prefix).exists()
        assert [test for test in tests if not (ROOT / test).exists()] == []


def test_what_nobody_could_tell_is_there_and_each_is_one_mutant() -> None:
    every = [m.told for path in {told.partition(":")[0] for told in EQUIVALENT} for m in counted_all(path)]
    assert {told: every.count(told) for told in EQUIVALENT} == dict.fromkeys(EQUIVALENT, 1)


def counted_all(path: str) -> list[Mutant]:
    return list(mutants_of(path, (ROOT / path).read_text()))


def test_each_room_has_modules_and_every_target_is_of_a_room() -> None:
    for room, share in ROOMS.items():
        assert files_of([room]), room
        assert 0.5 < share.held <= 1 > share.aim > 0.8
    assert [prefix for prefix, _ in TARGETS if not prefix.startswith(tuple(ROOMS))] == []


def test_code_takes_its_functions_place_also_where_the_one_call_of_super_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "thing.py").write_text(
        "class A:\n    def go(self):\n        self.gone = 1\n\n\n"
        "class B(A):\n    def go(self):\n        super().go()\n\n    def size(self):\n        return 3\n"
    )
    space = runpy.run_path(str(tmp_path / "thing.py"))
    mutants = {
        m.name.partition(": ")[2]: m for m in mutants_of("thing.py", (tmp_path / "thing.py").read_text())
    }
    functions = Functions(tmp_path, {"thing.py"})
    for name in ("3 -> 4", "super().go() -> pass"):
        changed = functions.changed(mutants[name])
        assert changed is not None
        assert functions.put(*changed)
    thing = space["B"]()
    thing.go()
    assert (thing.size(), vars(thing)) == (4, {})


def test_the_gate_passes_over_chance_and_no_more() -> None:
    assert least_noticed([]) == 0
    assert least_noticed([1.0] * 5) == 5
    assert least_noticed([0.5], chance=0.4) == 0
    assert least_noticed([0.5], chance=0.6) == 1
    for share, least in ((0.85, 24), (0.92, 29)):
        assert least_noticed([share] * 40) == least
        below = sum(math.comb(40, n) * share**n * (1 - share) ** (40 - n) for n in range(least))
        assert below < CHANCE <= below + math.comb(40, least) * share**least * (1 - share) ** (40 - least)
    assert 24 < least_noticed([0.85] * 20 + [0.92] * 20) < 29


def test_one_tree_has_one_seed_and_a_changed_one_another(tmp_path: Path) -> None:
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway" / "thing.py").write_text(SOURCE)
    seed = seed_of(tmp_path)
    assert seed_of(tmp_path) == seed
    (tmp_path / "gateway" / "thing.py").write_text(SOURCE + "\n")
    assert seed_of(tmp_path) != seed


def test_what_breaks_a_rule_is_noticed_and_what_no_test_comes_to_is_said() -> None:
    command = [sys.executable, "-m", "tests.mutation", "gateway/core/lease.py", "--sample", "0"]
    command += ["--tests", "tests/core/test_lease.py"]
    told = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=2 * HANG_S
    ).stdout
    assert "gateway/core/lease.py: " in told
    assert "self._alive_at -> mono" not in told
    survived = re.findall(
        r"^survived: gateway/core/lease.py:\d+: .* \((?:survived|no test comes there)\)$", told, re.M
    )
    noticed, tried = map(int, re.search(r"lease.py: (\d+) of (\d+) mutants", told).groups())  # type: ignore[union-attr]
    assert noticed + len(survived) == tried > noticed / 2 > 5
