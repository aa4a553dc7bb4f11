"""The house is as docs/ARCHITECTURE.md says: arrows run one way, pure rooms stay pure."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GATEWAY = ROOT / "gateway"
COMMON = {"errors", "limits", "__init__"}
PURE_ROOMS = ("wire", "core")
IMPURE = {"asyncio", "socket", "time", "aioquic", "httpx", "apsw", "subprocess", "ssl"}
TOP_LEVEL = {"pyproject.toml", "README.md", "gateway", "certs", "tests", "bench", "docs"}
TOP_LEVEL_USUAL = {"LICENSE", "CHANGELOG.md", "Makefile", "requirements.lock"}


def arrows() -> dict[str, set[str]]:
    """The table of docs/ARCHITECTURE.md: room -> rooms that it may import."""
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", text, re.MULTILINE)
    return {room: set(re.findall(r"`(\w+)`", allowed)) for room, allowed in rows}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(GATEWAY.rglob("*.py")):
        parts = path.relative_to(GATEWAY).parts
        yield (parts[0] if len(parts) > 1 else path.stem), path


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module == "gateway")
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{path}: imports are absolute, so that arrows can be seen")


def rooms_of(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imported(path) if name.startswith("gateway.")}


@pytest.mark.parametrize(
    ("room", "path"), [pytest.param(r, p, id=str(p.relative_to(ROOT))) for r, p in modules()]
)
def test_a_module_imports_only_rooms_that_its_room_may(room: str, path: Path) -> None:
    if room in COMMON:
        allowed: set[str] = set()
    else:
        allowed = arrows()[room] | {room} | COMMON | {"__version__"}
    strangers = {r for r in rooms_of(path) if r not in allowed and r not in COMMON}
    assert not strangers, f"{path.relative_to(ROOT)}: {room} may not import {sorted(strangers)}"


@pytest.mark.parametrize("room", PURE_ROOMS)
def test_the_pure_rooms_import_no_clock_socket_or_loop(room: str) -> None:
    for path in (GATEWAY / room).rglob("*.py"):
        impure = {name.split(".")[0] for name in imported(path)} & IMPURE
        assert not impure, f"{path.relative_to(ROOT)} imports {sorted(impure)}"


def test_the_top_level_holds_what_was_agreed_and_nothing_else() -> None:
    import subprocess

    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout: the list of files is git's")
    names = {line.split("/")[0] for line in listed.stdout.splitlines()}
    strangers = {n for n in names if not n.startswith(".")} - TOP_LEVEL - TOP_LEVEL_USUAL
    assert not strangers


def test_every_limit_tells_its_reason() -> None:
    body = ast.parse((GATEWAY / "limits.py").read_text()).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if node.target.id in {"KIB", "MIB", "GIB"}:
            continue
        told = (
            isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and bool(after.value.value)
        )
        assert told, f"limits.{node.target.id} has no reason below it"


def test_every_module_says_which_room_it_is() -> None:
    for _, path in modules():
        doc = ast.get_docstring(ast.parse(path.read_text()))
        assert doc or not path.read_text().strip(), f"{path.relative_to(ROOT)} has no docstring"


def locked(path: str) -> dict[str, str]:
    """package → version."""
    lines = (ROOT / path).read_text().splitlines()
    return dict(line.split(" ")[0].split("==") for line in lines if "==" in line and not line.startswith(" "))  # type: ignore[misc]


def test_what_runs_a_gateway_is_locked_as_it_is_for_the_tests() -> None:
    runtime, every = locked(".ci/runtime.lock"), locked("requirements.lock")
    assert {name: every.get(name) for name in runtime} == runtime, "run `make lock`"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for wanted in project["dependencies"] + project["optional-dependencies"]["build"]:
        assert re.split(r"[\[<>=]", wanted)[0] in runtime, "run `make lock`"
