"""``mvgateway store check | stat | backup``: works on a store's folder, also while it is in use. Room: cli."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from gateway.cli import EXIT_FAILED
from gateway.errors import ConfigError
from gateway.store import embedded


def check(args: argparse.Namespace) -> int:
    """Verify hashes and references; goes on past damage. Answers 1 where there is any."""
    _need_folder(args.path)
    damages: list[str] = []
    report = embedded.check(args.path, on_damage=lambda line: _damage(line, damages, args.json))
    if args.json:
        facts = {"contents": report.contents, "references": report.references, "damaged": report.damaged}
        print(json.dumps({**facts, "ok": report.ok, "damage": damages}))
    else:
        good = report.contents + report.references - report.damaged
        print(
            f"{good} ok, {report.damaged} damaged ({report.contents} pages, {report.references} references)"
        )
    return EXIT_FAILED if report.damaged else 0


def _damage(line: str, damages: list[str], quiet: bool) -> None:
    damages.append(line)
    if not quiet:
        print(line, file=sys.stderr)


def stat(args: argparse.Namespace) -> int:
    """Sizes and counts."""
    _need_folder(args.path)
    facts: dict[str, Any] = embedded.stats(args.path)
    if args.json:
        print(json.dumps(facts))
        return 0
    width = max(map(len, facts))
    for name, value in facts.items():
        print(
            f"{name.replace('_', ' '):<{width}}  {value:,}"
            if isinstance(value, int)
            else f"{name:<{width}}  {value}"
        )
    return 0


def backup(args: argparse.Namespace) -> int:
    """Copy the store to one file. Raises :class:`ConfigError` where that file is there already."""
    _need_folder(args.path)
    size = embedded.backup(args.path, args.file)
    print(f"{args.file}: {size:,} bytes; to restore, put it into an empty folder as store.sqlite")
    return 0


def _need_folder(path: str) -> None:
    if not Path(path).is_dir():
        raise ConfigError(f"no store at {path}; the folder is what --path of mvgateway store names")
