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
COMMON = {"errors", "limits", "wallclock", "givenfiles", "__init__"}
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
        assert not {"gateway.wallclock", "gateway.givenfiles"} & set(imported(path)), path
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


SAME_NAME_ON_PURPOSE = {"Publisher", "Subscriber", "Entities", "Recordings"}
"""``gateway.client.sync`` has them under the names of ``gateway.client``: a program that changes to the other changes its
imports and its ``await`` alone (docs/CLIENTS.md)."""


def test_a_class_name_stands_for_one_thing() -> None:
    where: dict[str, list[str]] = {}
    for _, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    shared = {name: paths for name, paths in where.items() if len(paths) > 1}
    assert set(shared) <= SAME_NAME_ON_PURPOSE, shared
    assert all(any("client/sync/" in path for path in paths) for paths in shared.values()), shared


ANY_MAX = 99
"""How often ``Any`` may stand for a type: JSON that came from others, rows of SQLite, what libraries leave open."""


def test_any_stays_rare_and_out_of_the_core() -> None:
    uses = [
        str(path.relative_to(GATEWAY))
        for _, path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name) and node.id == "Any"
    ]
    assert not [path for path in uses if path.startswith("core/")]
    assert len(uses) <= ANY_MAX, "say what it is: a dataclass, a TypedDict, a Protocol, or object and look"


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


# -- aioquic's private names ----------------------------------------------------------------

CONNECTION_SEAM = "quic/connection/seam.py"
"""Where names may stand that aioquic does not promise."""
PRIVATE_NAMES_MAX = 25
OF_CONNECTION = (
    "quic/connection.py",
    "quic/recovery.py",
    "quic/stream.py",
    "quic/crypto.py",
    "quic/packet_builder.py",
)
CONNECTION_MODULES = {
    "aioquic.quic." + name for name in ("connection", "recovery", "stream", "crypto", "packet_builder")
}
PROMISED = {"derive_key_iv_hp", "CryptoPair", "QuicPacketBuilder", "TRANSPORT_CLOSE_FRAME_CAPACITY"}
"""What else is taken from those modules, none of it of a connection: deriving keys, and building a refusal."""


def _private_of_aioquic(*parts: str) -> set[str]:
    """Names with an underscore that aioquic's own code gives to methods and attributes of its objects."""
    import aioquic

    folder = Path(aioquic.__file__).parent
    text = "".join((folder / part).read_text() for part in parts)
    return set(re.findall(r"self\.(_[a-z]\w*)", text)) | set(re.findall(r"def (_[a-z]\w*)\(", text))


def _touched(path: Path, *, own: bool) -> set[str]:
    """Names with an underscore that a module touches on objects; ``own``: on ``self`` as well, and what it overrides."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            of_self = isinstance(node.value, ast.Name) and node.value.id == "self"
            found |= {node.attr} if own or not of_self else set()
        elif own and isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return found


def _defined(path: Path) -> set[str]:
    """Names with an underscore that a module's own classes define."""
    text = path.read_text()
    return set(re.findall(r"self\.(_[a-z]\w*)(?:: [^=\n]+)? =", text)) | set(
        re.findall(r'"(_[a-z]\w*)",', text)
    )


def test_only_the_seam_imports_aioquics_connection_and_nobody_a_private_module() -> None:
    for path in GATEWAY.rglob("*.py"):
        where = str(path.relative_to(GATEWAY))
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("aioquic"):
                continue
            names = {alias.name for alias in node.names}
            assert not re.search(r"\._", f"{node.module}."), f"{where} imports the private {node.module}"
            if node.module in CONNECTION_MODULES and where != CONNECTION_SEAM:
                assert names <= PROMISED, f"{where} imports {sorted(names - PROMISED)} of {node.module}"
            assert where == CONNECTION_SEAM or node.module != "aioquic.quic" or "connection" not in names, (
                where
            )


def test_no_module_takes_aioquics_http3() -> None:
    for path in GATEWAY.rglob("*.py"):
        strangers = [name for name in imported(path) if name.startswith("aioquic.h3")]
        assert not strangers, f"{path.relative_to(ROOT)} imports {strangers}"


def test_no_module_but_the_seam_touches_a_private_name_of_aioquic() -> None:
    theirs = _private_of_aioquic(*OF_CONNECTION, "tls.py")
    defined = set().union(*map(_defined, (GATEWAY / "quic").rglob("*.py")))
    for path in (GATEWAY / "quic").rglob("*.py"):
        if str(path.relative_to(GATEWAY)) != CONNECTION_SEAM:
            strangers = (_touched(path, own=False) & theirs) - defined
            assert not strangers, f"{path.relative_to(ROOT)} touches {sorted(strangers)}"


def test_the_seam_lists_what_it_touches_and_the_list_is_short() -> None:
    from gateway.quic.connection import seam

    listed = {name for _, name, _ in seam.PRIVATE}
    assert len(listed) <= PRIVATE_NAMES_MAX
    touched = _touched(GATEWAY / CONNECTION_SEAM, own=True) & _private_of_aioquic(*OF_CONNECTION, "tls.py")
    assert touched <= listed
