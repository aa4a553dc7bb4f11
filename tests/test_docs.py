"""The docs list every promise: verbs and flags, settings, paths, metrics, tables, dependencies; and no link is dead."""

from __future__ import annotations

import argparse
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import apsw
import pytest

from bench import pages
from gateway.cli import build_parser, load_verb, verb_names
from gateway.config import Settings
from gateway.quic.connection import seam
from gateway.store.entities import schema as entity_schema
from gateway.store.world import home as world_home
from gateway.store.world import schema as world_schema

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
ROUTE = re.compile(r'Route\(\s*f?"([^"]+)"')
METRIC = re.compile(r'"((?:mvgateway|process)_[a-z0-9_]+)"')
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md"]
SOURCES = [path for folder in ("gateway", "tests", "bench", ".ci") for path in (ROOT / folder).rglob("*.py")]


def doc(name: str) -> str:
    return (DOCS / name).read_text()


def flags(parser: argparse.ArgumentParser) -> Iterator[str]:
    # argparse has no public way to list what a parser takes; its help text is for people.
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from flags(inner)
        if action.help == argparse.SUPPRESS:
            continue
        yield from (o for o in action.option_strings if o.startswith("--") and o != "--help")


@pytest.mark.parametrize("verb", verb_names())
def test_every_verb_and_flag_is_documented(verb: str) -> None:
    text = doc("CLI.md")
    found = re.search(rf"^## `?mvgateway {verb}`?\b(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"docs/CLI.md has no section '## mvgateway {verb}'"
    parser = argparse.ArgumentParser()
    load_verb(verb).add_arguments(parser)
    missing = sorted({f for f in flags(parser) if f not in found.group(1)})
    assert not missing, f"docs/CLI.md, mvgateway {verb}: {missing}"


@pytest.mark.parametrize("verb", verb_names())
def test_every_verb_shows_an_example_in_its_help(verb: str) -> None:
    parser = build_parser(verb)
    sub = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    assert f"mvgateway {verb}" in sub.choices[verb].format_help().split("example:")[1]


def commands(page: Path) -> Iterator[str]:
    """The lines of a page that call the program, as they would be pasted."""
    for block in re.findall(
        r"^```(?:sh|bash|console)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
    ):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"\s*(\$ )?mvgateway [a-z]", line):
                yield line.strip().removeprefix("$ ")


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))], ids=lambda page: str(page.relative_to(ROOT))
)
def test_every_command_that_a_page_shows_is_one_that_is_understood(page: Path) -> None:
    for line in commands(page):
        words = shlex.split(line, comments=True)[1:]
        end = next((at for at, word in enumerate(words) if word[0] in "|>&<;"), len(words))
        try:
            build_parser().parse_args(words[:end])
        except SystemExit as ended:
            pytest.fail(f"{line!r} ends with {ended.code}")


def test_every_setting_is_documented() -> None:
    text = doc("CONFIG.md")
    assert not [f.name for f in fields(Settings) if f"`{f.name}`" not in text]


def sources(*rooms: str) -> Iterator[tuple[Path, str]]:
    for room in rooms:
        for path in sorted((ROOT / "gateway" / room).rglob("*.py")):
            yield path, path.read_text()


def test_every_http_path_is_documented() -> None:
    text = "".join(p.read_text() for p in DOCS.glob("*.md"))
    paths = {p for _, source in sources("http", "runtime") for p in ROUTE.findall(source) if p != "/"}
    plain = {re.sub(r":(path|int|str)}", "}", p) for p in paths}
    assert plain, "no route was found: does the pattern still match the code?"
    assert not sorted(p for p in plain if p not in text)


def test_every_metric_is_documented() -> None:
    text = doc("METRICS.md")
    names = {
        n for _, source in sources("http", "runtime", "quic", "store", "core") for n in METRIC.findall(source)
    }
    assert names, "no metric was found: does the pattern still match the code?"
    assert not sorted(n for n in names if n not in text)


def test_every_table_and_column_of_a_world_is_documented() -> None:
    text = doc("SCHEMA.md")
    connection = apsw.Connection(":memory:")
    added = world_schema.ADDED.migrations
    sources_of_tables = [world_schema._TABLES, *added, world_home.TABLE, *entity_tables()]
    for statements in sources_of_tables:
        connection.execute(statements)
    tables = [t for (t,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    assert {"frames", "entities"} <= set(tables)
    for table in tables:
        assert re.search(rf"`{table}[`(]", text), table
        columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        assert not sorted(c for c in columns if not re.search(rf"\b{c}\b", text)), table


def entity_tables() -> list[str]:
    found = entity_schema.SCHEMA
    return [found] if isinstance(found, str) else list(found)


def test_every_dependency_tells_what_it_is_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[\[<>=~ ]", w)[0] for w in wanted}
    text = doc("DEPENDENCIES.md")
    assert not sorted(n for n in names if not re.search(rf"\b{re.escape(n)}\b", text))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_link_to_a_file_or_its_section_is_dead(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|mailto:)([^)\s]+)\)", page.read_text())
    assert not [link for link in links if not is_there(page, *link.partition("#")[::2])]


def is_there(page: Path, link: str, section: str) -> bool:
    to = page.parent / link if link else page
    if not section or to.suffix != ".md":
        return to.exists()
    text = re.sub(r"^```.*?^```", "", to.read_text(), flags=re.MULTILINE | re.DOTALL)
    return section in {anchor(title) for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


def anchor(title: str) -> str:
    """As the sites that show Markdown name a section: GitHub's rule."""
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


@pytest.mark.parametrize("page", [*sorted(DOCS.glob("*.md")), ROOT / "README.md"], ids=lambda p: p.name)
def test_every_make_target_and_module_that_a_page_names_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    text = page.read_text()
    targets = set(re.findall(r"`make ([a-z-]+)`", text))
    assert not [t for t in targets if not re.search(rf"^{t}:", makefile, re.MULTILINE)]
    for module in set(re.findall(r"python -m ((?:bench|gateway)[\w.]*)", text)):
        path = ROOT.joinpath(*module.split("."))
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_source_file_that_a_page_names_is_there(page: Path) -> None:
    """By its path or the end of it (`quic/timers.py`), and the name that stands behind it (`mixed.py`, `packets`) in it."""
    for name, inner in re.findall(r"`([a-z0-9_/]+\.py)`(?:, `(\w+)`)?", page.read_text()):
        found = [path for path in SOURCES if path.as_posix().endswith(f"/{name}")]
        assert found, name
        assert any(re.search(rf"\b{inner}\b", path.read_text()) for path in found), f"{inner} in {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_metric_that_a_page_names_is_in_the_list_of_them(page: Path) -> None:
    listed = doc("METRICS.md")
    named = set(re.findall(r"\bmvgateway_[a-z0-9_]+_(?:total|bytes|seconds)\b", page.read_text()))
    assert not [name for name in sorted(named) if name not in listed]


def test_the_page_counts_the_names_that_aioquic_does_not_promise() -> None:
    counted = re.search(r"with its type \((\d+)\)", doc("ARCHITECTURE.md"))
    assert counted is not None
    assert int(counted[1]) == len(seam.PRIVATE)


def test_every_promise_of_security_names_a_test_that_exists() -> None:
    rows = [line for line in doc("SECURITY.md").splitlines() if line.startswith("| ")]
    promises = [row for row in rows if row not in ("| promise | test |", "| --- | --- |")]
    assert len(promises) > 20
    for row in promises:
        named = re.findall(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`", row)
        assert named, f"no test: {row}"
        for path, name in named:
            assert re.search(rf"^(?:async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), name


SECTION = re.compile(
    r"(?:docs/)?\b([A-Z][A-Z_]+\.md)`*(?:,|:| says)?\s+(?:section )?(?:\"|\*)([^\"*\n]+)(?:\"|\*)"
)
"""A reference to a section: ``docs/FRAMES.md``, "Control messages"."""


def headings(page: str) -> set[str]:
    """Of a page: its headings, and the bold words that begin a paragraph or an item, by their first words."""
    text = doc(page)
    found = re.findall(r"^#+ (.+)$|^(?:\* |\| )?\*\*(.+?)\*\*", text, re.MULTILINE)
    return {re.sub(r"[`*]", "", a or b).rstrip(":. ") for a, b in found}


@pytest.mark.parametrize("room", ["gateway", "bench", "docs"])
def test_every_section_of_the_docs_that_is_referred_to_is_there(room: str) -> None:
    lost, seen = [], 0
    for path in sorted((ROOT / room).rglob("*")):
        if path.suffix not in (".py", ".md", ".js", ".gd", ".ex", ".html") or not path.is_file():
            continue
        text = re.sub(r"\n\s*(?:#|//)?\s*", " ", path.read_text())
        for page, section in SECTION.findall(text):
            seen += 1
            if (DOCS / page).is_file() and not any(h.startswith(section.strip()) for h in headings(page)):
                lost.append(f"{path.relative_to(ROOT)}: {page}, {section!r}")
            elif (
                not (DOCS / page).is_file()
                and not (DOCS / "operating" / page).is_file()
                and page not in ("README.md", "CHANGELOG.md")
            ):
                lost.append(f"{path.relative_to(ROOT)}: there is no {page}")
    assert seen or room != "gateway"
    assert not lost, "\n".join(lost)


def test_every_file_that_the_table_of_changes_names_is_there() -> None:
    table = doc("ARCHITECTURE.md").split("## To change something")[1]
    named = re.findall(r"`((?:gateway|tests|docs)/[\w/.]+|runtime/[\w.]+|wire/[\w.]+)`", table)
    assert len(named) > 30
    assert not [n for n in named if not ((ROOT / n).exists() or (ROOT / "gateway" / n).exists())]


def test_the_pages_that_are_made_from_the_source_are_current() -> None:
    stale = [
        path.name for path in sorted(DOCS.glob("*.md")) if pages.current(path.read_text()) != path.read_text()
    ]
    assert not stale, "run `python -m bench.pages`"
    drawn = set(re.findall(r"<!-- from (\S+) -->", "".join(path.read_text() for path in DOCS.glob("*.md"))))
    assert drawn == set(pages.SECTIONS)
