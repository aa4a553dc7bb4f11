"""``mvgateway store check | stat | backup | salvage``: works on a store's folder. Room: cli.

The first three also while it is in use; a salvage is for one that nobody can use any more.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

from gateway.cli import EXIT_FAILED
from gateway.errors import ConfigError
from gateway.limits import SALVAGE_SHOWN_MAX
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
    if report.damaged:
        print(
            f"`mvgateway store salvage {shlex.quote(str(args.path))} --to NEWDIR` gets out what can be read",
            file=sys.stderr,
        )
    return EXIT_FAILED if report.damaged else 0


def _damage(line: str, damages: list[str], quiet: bool) -> None:
    damages.append(line)
    if not quiet:
        print(line, file=sys.stderr)


def stat(args: argparse.Namespace) -> int:
    """Sizes and counts."""
    _need_folder(args.path)
    facts: dict[str, object] = embedded.stats(args.path)
    if args.json:
        print(json.dumps(facts))
        return 0
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name.replace('_', ' '):<{width}}  {_for_people(name, value)}")
    return 0


def _for_people(name: str, value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{file} {size:,} bytes" for file, size in value.items())
    if name == "oldest_moment" and isinstance(value, int):
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{value:,}" if isinstance(value, int) else str(value)


def backup(args: argparse.Namespace) -> int:
    """Copy the store to one file. Raises :class:`ConfigError` where that file is there already."""
    _need_folder(args.path)
    size = embedded.backup(args.path, args.file)
    print(f"{args.file}: {size:,} bytes; to restore, put it into an empty folder as store.sqlite")
    return 0


def salvage(args: argparse.Namespace) -> int:
    """Get out what can be read. Answers 1 where anything is lost."""
    from gateway.store.salvage import salvage as salvaged

    _need_folder(args.path)
    report = salvaged(args.path, args.to, lambda line: None if args.json else print(line, file=sys.stderr))
    if args.json:
        print(json.dumps(report.as_json()))
        return 0 if report.is_whole else EXIT_FAILED
    for each in report.namespaces:
        state = "" if each.database == "none" else f", database {each.database}"
        print(
            f"{each.name}: {each.ok} ok, {each.lost} lost{state}{f' ({each.detail})' if each.detail else ''}"
        )
        for missing in each.missing[:SALVAGE_SHOWN_MAX]:
            page, version = (missing[name] or "unknown" for name in ("page", "version"))
            print(f"  lost page {page} at version {version}")
        if each.lost > SALVAGE_SHOWN_MAX:
            print(f"  … and {each.lost - SALVAGE_SHOWN_MAX} more (the first {len(each.missing)} with --json)")
    print(f"{args.to}: {report.ok} page versions ok, {report.lost} lost, {len(report.namespaces)} namespaces")
    return 0 if report.is_whole else EXIT_FAILED


def _need_folder(path: str) -> None:
    if not Path(path).is_dir():
        raise ConfigError(f"no store at {path}; the folder is what --path of mvgateway store names")
