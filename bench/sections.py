"""The tables of the docs that are written from the source, each as Markdown. Room: bench.

What the code declares (settings, flags, errors, control messages) is read there; paths and metrics are asked of a gateway that is
started for it, in a folder of its own.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import functools
import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.routing import BaseRoute, Route

from gateway import errors, limits
from gateway.cli import build_parser, verb_names
from gateway.config import SETTINGS, Settings, flag_of
from gateway.core import states
from gateway.http import admin
from gateway.http.grants import grant_routes
from gateway.http.metrics import Metric
from gateway.runtime.gateway import Gateway
from gateway.wire import controls

ROOT = Path(__file__).resolve().parents[1]
FILES_OF_PAGES = ("web", "kit")
"""Where the files stand that the gateway's own pages load; one line for each."""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; a bar inside a cell stays one."""
    cells = [list(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], "| " + " | ".join("---" for _ in cells[0]) + " |", *lines[1:]])


def coded(words: Iterable[object]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def first_words(docstring: str | None) -> str:
    """A docstring's first paragraph, in one line, as Markdown."""
    return " ".join((docstring or "").split("\n\n")[0].split()).replace("``", "`")


def bounds() -> str:
    """Every bound of ``gateway/limits.py``: name, value, reason."""
    body = ast.parse((ROOT / "gateway" / "limits.py").read_text()).body
    rows = []
    for node, after in itertools.pairwise(body):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            name = node.target.id
            rows.append(
                (f"`{name}`", _shown(getattr(limits, name)), " ".join(str(after.value.value).split()))
            )
    return table(("bound", "value", "why"), rows)


def _shown(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else f"`{value}`"


def settings() -> str:
    """Every setting: where it comes from, its default, its bounds, and whether SIGHUP brings it."""
    return table(
        ("setting", "flag", "environment", "default", "what it does", "SIGHUP"), map(_setting, SETTINGS)
    )


def _setting(setting: Any) -> tuple[str, ...]:
    low, high, choices, off, again = map(setting.metadata.get, ("low", "high", "choices", "off", "reload"))
    default = setting.default
    shown = (
        "" if default in ("", ()) else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    )
    bound = (
        f" ({low} to {high})" if high is not None else f" (one of {', '.join(choices)})" if choices else ""
    )
    return (
        f"`{setting.name}`",
        coded([flag_of(setting.name), *([off] if off else [])]),
        f"`MVGATEWAY_{setting.name.upper()}`",
        shown,
        setting.metadata["help"] + bound,
        "yes" if again else "",
    )


def refusals() -> str:
    """Every error that a client can get: what its ``code`` and status are, and whether to try again."""
    kinds = list(_below(errors.GatewayError))
    return table(
        ("`code`", "status", "try again", "what it says"),
        ((f"`{e.code}`", str(e.status), "yes" if e.retry else "no", _said(e)) for e in kinds),
    )


def _said(kind: type[errors.GatewayError]) -> str:
    return f"{kind.title}." if kind is errors.GatewayError else first_words(kind.__doc__)


def _below(kind: type[errors.GatewayError]) -> Iterator[type[errors.GatewayError]]:
    """The classes of ``gateway/errors.py`` that have a code of their own, in the tree's order."""
    if "code" in vars(kind) and kind.__module__ == errors.__name__:
        yield kind
    for below in kind.__subclasses__():
        yield from _below(below)


def control_messages() -> str:
    """Every control message, by where it is said."""
    where = (
        ("session", controls.SESSION),
        ("recording", controls.RECORDING),
        ("entities", controls.ENTITIES),
    )
    rows = [
        (f"`{kind}`", f"{room}: {one.said_by} to {one.to}", coded(one.fields), coded(one.more))
        for room, kinds in where
        for kind, one in kinds.items()
    ]
    return table(("type", "where, who to whom", "always has", "may have"), rows)


def flags_of(verb: str) -> str:
    """Every argument of a verb, those of its own verbs too; what is a setting stands in docs/CONFIG.md."""
    top = next(a for a in build_parser(verb)._actions if isinstance(a, argparse._SubParsersAction))
    return table(("argument", "default", "what it is"), _arguments(top.choices[verb], ""))


def _arguments(parser: argparse.ArgumentParser, before: str) -> Iterator[tuple[str, str, str]]:
    settings_ = {setting.name for setting in SETTINGS}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from _arguments(inner, f"{before}{name} ")
        elif action.dest not in {"help", *settings_} and action.help != argparse.SUPPRESS:
            yield _argument(action, before)


def _argument(action: argparse.Action, before: str) -> tuple[str, str, str]:
    takes = action.metavar or (action.choices and "|".join(map(str, action.choices))) or action.dest.upper()
    named = ", ".join(action.option_strings) or str(action.metavar or action.dest).upper()
    value = f" {takes}" if action.option_strings and action.nargs != 0 else ""
    default = action.default
    text = (action.help or "").replace("%%", "%")
    silent = default in (None, False, "", argparse.SUPPRESS) or default == [] or "default" in text
    return f"`{before}{named}{value}`", "" if silent else f"`{default}`", text


def paths() -> str:
    """Every HTTP path, with its methods."""
    served, administration, _ = _asked()
    rows = [(f"`{path}`", methods, "") for path, methods in _by_path(served)]
    rows += [(f"`{path}`", methods, "`--admin-api`") for path, methods in _by_path(administration)]
    rows += [(f"`{path}`", methods, "access control") for path, methods in _by_path(grant_routes(_nobody))]
    return table(("path", "methods", "only with"), rows)


async def _nobody(name: str) -> dict[str, object]:
    return {"revoked": name}


def _by_path(routes: Iterable[BaseRoute]) -> list[tuple[str, str]]:
    found = dict[str, set[str]]()
    for route in routes:
        if isinstance(route, Route):
            path = f"/{of}/…" if (of := route.path.split("/")[1]) in FILES_OF_PAGES else route.path
            found.setdefault(path, set()).update(route.methods or {"any"})
    return [(path, ", ".join(sorted(methods))) for path, methods in sorted(found.items())]


def metrics() -> str:
    """Every metric, in a scrape's own words."""
    rows = [(f"`{metric.name}`", metric.kind, metric.help) for metric in _asked()[2]]
    return table(("name", "kind", "what a scrape says of it"), sorted(rows))


@functools.cache
def _asked() -> tuple[tuple[BaseRoute, ...], tuple[BaseRoute, ...], tuple[Metric, ...]]:
    """The routes of a gateway, those of its admin API, and its metrics."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_asked_of(Path(folder)))


async def _asked_of(
    folder: Path,
) -> tuple[tuple[BaseRoute, ...], tuple[BaseRoute, ...], tuple[Metric, ...]]:
    base = Settings(port=0, plain="", store=str(folder / "store"), certs=str(folder / "certs"))
    gateway = await Gateway.start(replace(base, udp="127.0.0.1:0"))
    try:
        return gateway.app.routes, tuple(admin.routes(gateway.store)), tuple(gateway.metrics.gather())
    finally:
        await gateway.drain(1.0)


SECTIONS: dict[str, Callable[[], str]] = {
    "gateway/core/states.py": states.drawn,
    "gateway/limits.py": bounds,
    "gateway/config/settings.py": settings,
    "gateway/errors.py": refusals,
    "gateway/wire/controls.py": control_messages,
    "gateway/http": paths,
    "gateway/runtime/metrics.py": metrics,
    **{f"mvgateway/{verb}": functools.partial(flags_of, verb) for verb in verb_names()},
}
"""By what stands in a page's mark: the source, or a verb of the command line."""
