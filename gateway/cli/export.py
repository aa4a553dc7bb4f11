"""``mvgateway export``: a world as an ordinary SQLite file. Room: cli."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from gateway.cli import _pages
from gateway.cli._files import add_file, file_of

if TYPE_CHECKING:
    from gateway.store.base import BlockingStore

NAME = "export"
HELP = "write a world's database to an ordinary SQLite file, as it is now or was at a moment"
EXAMPLE = """
mvgateway export zone-1 zone-1.sqlite
mvgateway export zone-1 before-the-raid.sqlite --at "2026-11-20 21:14:03"
mvgateway export zone-1 zone-1.sqlite --store ./store
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.add_argument("world", metavar="WORLD[@VERSION]", help="the world, or any namespace")
    add_file(parser, "FILE", "the file; must not exist")
    parser.add_argument("--at", metavar="VERSION|TIME", help="as it was then: 20 hex digits, a time, 90s-ago")
    _pages.add_store_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Copy it at one version, check it, and only then give the file its name."""
    name, args.file = _pages.named(args.world), file_of(args, "FILE")
    size = _pages.with_store(args, lambda store: _export(store, args, name), read_only=True)
    print(f"{args.file}: {size:,} bytes, passes PRAGMA integrity_check")
    return 0


def _export(store: BlockingStore, args: argparse.Namespace, name: _pages.Named) -> int:
    from gateway.store.database import Database
    from gateway.store.world.files import export

    ns = _pages.namespace_meant(store, name)
    version = _pages.version_at(store, name, args.at) or store.stat(ns).version
    _pages.need_database(store, ns, version)
    database = Database.open(store, ns, version=version)
    try:
        return export(database, args.file, _pages.progress(name.key))
    finally:
        database.close()
