"""README as a newcomer pastes it: in order, in a fresh copy, each command in a terminal of its own where it says so."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.patience import HANG_S

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README, GUIDE = ROOT / "README.md", DOCS / "README.md"
BESIDE_A_WORLD = (
    "CLIENTS.md",
    "PAGES.md",
    "RECOVERY.md",
    "EXPORTS.md",
    "LAYOUTS.md",
    "ENTITIES.md",
    "STORE.md",
    "SCHEMA.md",
    "VARIANT.md",
    "operating/README.md",
    "operating/monitoring.md",
)
"""Guides whose first commands are typed beside ``mvgateway serve`` and ``mvgateway publish plaza``, one after the other."""
BY_THEMSELVES = {
    "ACCESS.md": ['"rule": "missing"', '"rule": "verb"'],
    "URO.md": ["lobby  webtransport", '{"epoch": 1'],
    "operating/workers.md": ["plaza  webtransport"],
    "operating/edges.md": ["plaza  webtransport", "x-hops: 1"],
}
"""Those that start gateways of their own, and what is to be seen then."""
NO_COMMANDS = {
    **dict.fromkeys(
        ("API.md", "CLI.md", "CONFIG.md", "FRAMES.md", "LIMITS.md", "METRICS.md"), "is looked up"
    ),
    **dict.fromkeys(("ARCHITECTURE.md", "DEPENDENCIES.md", "RELEASING.md", "SECURITY.md"), "is read"),
    **dict.fromkeys(("BENCHMARKS.md", "PERFORMANCE.md", "operating/sizing.md"), "measures for minutes"),
    **dict.fromkeys(("CONTRIBUTING.md", "TESTING.md"), "runs what runs this"),
    "operating/install.md": "changes the machine it is typed on",
    "operating/network.md": "is about machines between",
}
"""Pages that are no such guides, and why."""
ENDLESS = {
    "mvgateway serve": "ready",
    "mvgateway store --path": "ready",
    "mvgateway publish": "publishing",
    "mvgateway film": "/film#",
}
"""Commands that go on in another terminal, and what they say when they are under way."""
LOOKED_AT = ("mvgateway watch",)
"""Commands that one looks at for a while and ends by Ctrl-C."""
LOOK_S = 4
FIRST_CHARACTERS_MAX = 600
DEMO_S_MAX, TERMINAL_S_MAX = 600, 600
ALONE = ["unshare", "--user", "--map-root-user", "--net", "bash", "-c"]
"""A loopback that nobody else uses: README's commands take the default port."""

AWAIT = """
under_way() {  # FILE WORD: until the word stands in the file
  for _ in $(seq 2400); do grep -q "$2" "$1" && return; sleep 0.05; done
  echo "never said $2:"; cat "$1"; exit 1
}
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
set -e
"""


def blocks(page: Path, language: str) -> list[str]:
    """What stands between the fences of a page, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.M | re.S)


def commands(block: str) -> list[str]:
    """Its lines without their comments."""
    found = [line.split(" #")[0].strip() for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in found if line]


def first_commands(guide: str) -> list[str]:
    """Those with which a page begins."""
    assert (DOCS / guide).read_text().index("```sh") < FIRST_CHARACTERS_MAX, f"{guide} begins with commands"
    return commands(blocks(DOCS / guide, "sh")[0])


def typed(lines: list[str]) -> str:
    """The lines as one script: what is endless goes on behind it, what is looked at is ended as by Ctrl-C."""
    script = [AWAIT]
    for n, line in enumerate(lines):
        word = next((word for start, word in ENDLESS.items() if line.startswith(start)), None)
        if word is not None:
            script += [f"{line} >said.{n} 2>&1 &", f"under_way said.{n} {word}"]
        elif line.startswith(LOOKED_AT):
            script.append(f"timeout --signal=INT {LOOK_S} {line} || test $? = 124")
        else:
            script.append(line)
    return "\n".join(script)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that a clone has, no environment, no store; after README's first command."""
    there = tmp_path_factory.mktemp("newcomer") / "mvgateway"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout: nothing says which files a clone has")
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (there / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, there / name)
    return there


def run(where: Path, argv: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    ours = (
        "MVGATEWAY_",
        "VIRTUAL_ENV",
        "XDG_",
        "MAKE",
        "MFLAGS",
    )  # a make that runs inside another says where it is
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    env["XDG_DATA_HOME"] = str(where.parent / "data")
    return subprocess.run(
        argv,
        cwd=where,
        env=env,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def pasted(copy: Path, lines: list[str]) -> str:
    """What the lines print, typed in the copy on a loopback of their own; each has ended well."""
    if shutil.which("unshare") is None or run(copy, [*ALONE, "ip link set lo up"], HANG_S).returncode:
        assert not os.environ.get("CI"), "unshare and ip are there in CI"
        pytest.skip("no network namespace can be made: the default port may be somebody else's")
    shown = run(copy, [*ALONE, typed(["ip link set lo up", ". .venv/bin/activate", *lines])], TERMINAL_S_MAX)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert not re.search(r"Traceback|\{'", shown.stdout + shown.stderr), shown.stdout + shown.stderr
    return shown.stdout


@pytest.fixture(scope="module")
def demo(copy: Path) -> subprocess.CompletedProcess[str]:
    """README's first command, which makes the environment that the others are found in."""
    ended = run(copy, ["make", "demo"], DEMO_S_MAX)
    if ended.returncode and re.search("No matching distribution|Connection|Temporary failure", ended.stderr):
        if os.environ.get("CI"):
            pytest.fail(f"no packages to be had:\n{ended.stderr}")
        pytest.skip("make demo found no packages to install: no registry can be reached from here")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended


@pytest.mark.timeout(DEMO_S_MAX + 60)
def test_the_demo_recovers_and_fits_a_terminal(demo: subprocess.CompletedProcess[str]) -> None:
    assert commands(blocks(README, "sh")[0]) == ["make demo", "make test"], "the second is what runs this"
    assert "byte for byte equal" in demo.stdout
    assert "killed it (SIGKILL)" in demo.stderr
    told = [*demo.stdout.splitlines(), *demo.stderr.splitlines()]
    assert not [line for line in told if len(line) > 80], "a terminal has 80 columns"


@pytest.mark.usefixtures("demo")
@pytest.mark.timeout(TERMINAL_S_MAX + 60)
def test_readme_works_as_it_is_pasted(copy: Path) -> None:
    (copy / "example.py").write_text(blocks(README, "python")[0])
    shown = pasted(copy, [*commands(blocks(README, "sh")[1]), "python example.py"])
    assert "where player 1 is" in shown


@pytest.mark.usefixtures("demo")
@pytest.mark.timeout(TERMINAL_S_MAX + 60)
def test_the_guide_works_as_it_is_pasted(copy: Path) -> None:
    shown = pasted(copy, [line for block in blocks(GUIDE, "sh") for line in commands(block)])
    assert "a sword" in shown
    assert "urn:mvgateway:problem" not in shown


@pytest.mark.usefixtures("demo")
@pytest.mark.timeout(TERMINAL_S_MAX + 60)
def test_each_guide_begins_with_commands_that_work_as_they_are_pasted(copy: Path) -> None:
    lines = ["mvgateway serve", "mvgateway publish plaza"]
    for guide in BESIDE_A_WORLD:
        lines += first_commands(guide)
    shown = pasted(copy, lines)
    assert "<title>" in shown
    assert "seconds.sqlite: " in shown
    assert '{"gold": 12}' in shown
    assert "urn:mvgateway:problem" not in shown


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize("guide", BY_THEMSELVES)
@pytest.mark.timeout(TERMINAL_S_MAX + 60)
def test_a_guide_that_starts_gateways_begins_with_commands_that_work_as_they_are_pasted(
    copy: Path, guide: str
) -> None:
    shown = pasted(copy, first_commands(guide))
    assert [what for what in BY_THEMSELVES[guide] if what not in shown] == [], shown


def test_each_page_is_a_guide_that_is_pasted_or_says_why_not() -> None:
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    assert pages == {*BESIDE_A_WORLD, *BY_THEMSELVES, *NO_COMMANDS, GUIDE.name}
