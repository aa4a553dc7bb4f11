"""``mvgateway import``: an ordinary SQLite file as a new world. Room: cli."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli import _pages
from gateway.cli._files import need_file
from gateway.wallclock import now_us

if TYPE_CHECKING:
    from gateway.store.base import BlockingStore, Namespace


NAME = "import"
HELP = "put an ordinary SQLite file into a new world"
EXAMPLE = """
mvgateway import zone-1-copy zone-1.sqlite
mvgateway import notes notes.sqlite --store http://127.0.0.1:7000 --store-admin http://127.0.0.1:7001
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.add_argument("world", metavar="WORLD", help="the new world, or any new namespace")
    parser.add_argument("file", metavar="FILE", type=Path, help="a SQLite file that nobody has open")
    _pages.add_store_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Copy page by page; page 0 goes last, so until then the world is empty."""
    from gateway.errors import ConfigError

    name = _pages.named(args.world)
    need_file(args.file, "SQLite file", "the one to import is named behind the world")
    if name.version is not None:
        raise ConfigError("a file goes into a new world, not into a moment of one; leave out @VERSION")
    pages, key = _pages.with_store(args, lambda store: _import(store, args, name))
    print(f"{name.key}: {pages:,} pages" + ("" if key == name.key else f", in the namespace {key}"))
    return 0


def _import(store: BlockingStore, args: argparse.Namespace, name: _pages.Named) -> tuple[int, str]:
    from gateway.store.world.files import import_file, new_identity

    ns = _pages.namespace(name)
    if new_identity(store, ns.key).key == ns.key:
        _check_new(store, ns)
    pages = import_file(
        store,
        ns,
        args.file,
        new_key=lambda: os.urandom(16),
        progress=_pages.progress(name.key),
        now_us=now_us(),
    )
    return pages, _pages.namespace_meant(store, name).key


def _check_new(store: BlockingStore, ns: Namespace) -> None:
    """A store that makes namespaces by use does not tell whether one was there: its first page does."""
    from gateway.errors import NotFound, Unprocessable
    from gateway.store.base import PageRead

    try:
        head = store.stat(ns).version
        there = bool(store.read(ns, [PageRead(0, head)])[0].data)
    except NotFound:
        return
    if there:
        raise Unprocessable(f"{ns.key!r} exists and is not empty; choose another name")
