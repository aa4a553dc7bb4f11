"""What each kit can do, and which tests show it.

A test says so by ``@proves("web", "publish", "repair")``. Where a run has ``KITS_RECORD=1``, the tests that passed are kept in
``results/KIT.json``, which is tracked; ``python -m tests.kits.table`` writes the table of docs/CLIENTS.md from these files.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = HERE / "results"
KITS = {"python": "Python", "web": "browser", "godot": "Godot", "elixir": "Elixir"}
ABILITIES = {
    "vectors": "reads and makes the shared vectors",
    "scenario": "plays the shared scenario over a link that loses",
    "datagrams": "WebTransport datagrams",
    "websocket": "WebSocket",
    "publish": "publish",
    "repair": "repair of what it published",
    "takeover": "takes a world over; one that was replaced stays away",
    "comes_back": "comes back to a gateway that was away",
    "dead_path": "notices a dead path",
    "refusals": "is told why it was refused",
    "sleep": "is told of entities that sleep and wake",
    "homes": "follows its world to another gateway",
    "follow": "follows an entity to another world",
    "tokens": "tokens that are renewed in session",
    "focus": "budget and weights",
    "redundancy": "rebuilds what was lost by parity",
    "replay": "replay",
    "entities": "entities",
    "watch": "watches entities, over restarts",
    "transfers": "transfers",
    "inventories": "inventories and trades",
    "marks": "marks",
    "last_state": "fetches the last synced state",
    "background": "works beside the program's own thread",
    "nodes": "nodes that follow nodes, smoothly",
    "typed": "typed",
}
"""By name: what the table says."""
NOTES = {
    ("godot", "datagrams"): "no (stock Godot has no QUIC)",
    ("godot", "redundancy"): "no (TCP)",
    ("godot", "publish"): "also plain UDP",
    ("godot", "sleep"): "not by plain UDP",
    ("godot", "repair"): "TCP; newest values where the path is slow",
    ("web", "repair"): "the next value, or a stream",
    ("web", "background"): "a worker",
    ("python", "background"): "a thread",
    ("elixir", "datagrams"): "no (no QUIC in Erlang)",
    ("elixir", "repair"): "TCP; newest values where the path is slow",
    ("elixir", "redundancy"): "no (TCP)",
}
"""What is said beside a "yes", or in its place where nothing shows one."""
_OUTCOMES: dict[str, set[str]] = {}
"""test → what became of its cases in this run."""


def proves(kit: str, *abilities: str) -> pytest.MarkDecorator:
    """The decorated test shows that ``kit`` can do these."""
    wrong = [one for one in abilities if one not in ABILITIES] + ([] if kit in KITS else [kit])
    if wrong or not abilities:
        raise ValueError(f"no ability or kit is called {wrong}: they are {list(KITS)}, {list(ABILITIES)}")
    return pytest.mark.proves(kit, *abilities)


def marked() -> dict[str, dict[str, list[str]]]:
    """kit → ability → tests that say that they show it, as they stand in the source."""
    found: dict[str, dict[str, set[str]]] = {kit: {} for kit in KITS}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text()
        if "proves(" in text:
            for test, kit, ability in _marks(ast.parse(text)):
                found[kit].setdefault(ability, set()).add(f"{path.relative_to(ROOT)}::{test}")
    return {kit: {one: sorted(found[kit][one]) for one in ABILITIES if one in found[kit]} for kit in KITS}


def _marks(tree: ast.Module) -> Iterator[tuple[str, str, str]]:
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for mark in node.decorator_list:
                if (
                    isinstance(mark, ast.Call)
                    and isinstance(mark.func, ast.Name)
                    and mark.func.id == "proves"
                ):
                    kit, *abilities = [ast.literal_eval(word) for word in mark.args]
                    yield from ((node.name, kit, ability) for ability in abilities)


def results(kit: str) -> dict[str, list[str]]:
    """ability → tests that were seen to pass."""
    path = RESULTS / f"{kit}.json"
    told: dict[str, list[str]] = json.loads(path.read_text()) if path.exists() else {}
    return told


def written(kit: str, told: dict[str, list[str]]) -> str:
    """As the file of a kit's results has it."""
    return json.dumps({one: sorted(told[one]) for one in ABILITIES if told.get(one)}, indent=1) + "\n"


def _record(kit: str, ability: str, test: str, *, has_passed: bool) -> None:
    told = results(kit)
    tests = set(told.get(ability, [])) - {test}
    told[ability] = sorted({*tests, test} if has_passed else tests)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{kit}.json").write_text(written(kit, told))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "proves(kit, *abilities): the test shows that the kit can do these")


def pytest_sessionfinish() -> None:
    """Keep what passed. A test of several cases must pass in all that ran; one that was skipped shows nothing."""
    if os.environ.get("KITS_RECORD") != "1":
        return
    marks = marked()
    for kit, abilities in marks.items():
        for ability in ABILITIES:
            for test in {*abilities.get(ability, []), *results(kit).get(ability, [])}:
                if test not in abilities.get(ability, []):
                    _record(kit, ability, test, has_passed=False)
                elif test in _OUTCOMES:
                    _record(kit, ability, test, has_passed=_OUTCOMES[test] == {"passed"})


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """What became of a test: its worst phase counts."""
    if report.when == "call" or report.outcome != "passed":
        _OUTCOMES.setdefault(report.nodeid.split("[")[0], set()).add(report.outcome)
