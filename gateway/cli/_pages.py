"""What ``sql``, ``export`` and ``import`` share: which store, which database, which moment. Room: cli."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from gateway.cli._client import URL, add_trust_flags, token, trust
from gateway.cli._source import is_film
from gateway.errors import ConfigError, NothingRecorded
from gateway.wallclock import now_us

if TYPE_CHECKING:
    from gateway.store.base import BlockingStore, Namespace, Version

T = TypeVar("T")
_VERSION = re.compile(r"[0-9a-fA-F]{20}")


class Named(NamedTuple):
    """A database as it is named on the command line: ``NAME[:HASH.PROOF][@VERSION]``, as mvSQLite does."""

    key: str
    proof: str | None
    version: str | None


def add_store_flags(parser: argparse.ArgumentParser) -> None:
    """Where the pages are: a gateway, an mvstore, or a folder (to write to it, one that nobody has open)."""
    default = os.environ.get("MVGATEWAY_URL", URL)
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--store",
        metavar="URL|DIR",
        default=default,
        help=f"a gateway or mvstore, or a store's folder; to write, one not in use (default {URL}, or MVGATEWAY_URL)",
    )
    where.add_argument(
        "--url", metavar="URL", dest="store", default=default, help="the gateway, as other verbs take it"
    )
    parser.add_argument(
        "--store-admin", metavar="URL", help="the admin API of an mvstore, where namespaces are made by it"
    )
    add_trust_flags(parser)


def named(text: str) -> Named:
    """Take ``NAME[:HASH.PROOF][@VERSION]`` apart. Raises :class:`ConfigError`."""
    rest, at, version = text.rpartition("@")
    if not at:
        rest, version = text, ""
    elif not _VERSION.fullmatch(version):
        raise ConfigError(f"{version!r} behind @ is not a version: 20 hex digits; for a time use --at")
    name, colon, lock = rest.partition(":")
    digest, _, proof = lock.partition(".")
    if is_film(name):
        raise ConfigError(
            f"{text} is a file's name, and a world's is asked for; a film is read by sqlite3, and `mvgateway import WORLD "
            f"{text}` makes a world of any SQLite file"
        )
    if not name:
        raise ConfigError(f"{text!r} names no database; write WORLD, WORLD@VERSION or NAME:HASH.PROOF")
    return Named(f"{name}:{digest}" if colon else name, proof or None, version.lower() or None)


def namespace(name: Named) -> Namespace:
    """The namespace of a key."""
    from gateway.store.base import Namespace

    return Namespace(name.key, name.proof)


def namespace_meant(store: BlockingStore, name: Named, *, create: bool = False) -> Namespace:
    """The namespace that a name means in this store: of a world that was deleted and made again, the newest.
    A key means itself, and ``NAME~1`` the first of that name, whose key is the plain name. Raises ``UnknownWorld``
    for one that was deleted, unless it is to be made."""
    from gateway.store.base import Namespace
    from gateway.store.world import naming
    from gateway.wire import is_world_name

    first = name.key.removesuffix("~1")
    if first != name.key and is_world_name(first):
        return Namespace(first, name.proof)
    if name.proof is not None or not is_world_name(name.key):
        return namespace(name)
    if not create:
        return Namespace(naming.resolve(store, name.key).key, name.proof)
    identity = naming.claim(store, name.key, now_us())
    naming.confirm(store, identity, now_us())
    return Namespace(identity.key, name.proof)


def need_database(store: BlockingStore, ns: Namespace, version: Version | None) -> None:
    """Raises :class:`NotFound` where nothing was ever written by that name: a store that makes namespaces by use does not
    say so, and the name may be misspelled."""
    from gateway.errors import NotFound
    from gateway.store.base import PageRead

    if not store.read(ns, [PageRead(0, version or store.stat(ns).version)])[0].data:
        raise NotFound(
            f"nothing is stored by the name {ns.key!r}; `mvgateway worlds` lists the worlds there are"
        )


def with_store(args: argparse.Namespace, work: Callable[[BlockingStore], T], *, read_only: bool = False) -> T:
    """``work`` in a thread, with the store that the flags name; ``read_only``: a folder is not locked or
    written to, and may be in use."""
    if "://" not in args.store and not Path(args.store).is_dir():
        raise ConfigError(f"no store at {args.store}; --store names a gateway's URL or a store's folder")
    import asyncio  # here, so that --help need not load it

    return asyncio.run(_with_store(args, work, read_only))


async def _with_store(args: argparse.Namespace, work: Callable[[BlockingStore], T], read_only: bool) -> T:
    import asyncio

    from gateway.runtime.stores.opening import is_remote, open_store

    store = await open_store(
        args.store,
        admin_url=args.store_admin,
        read_only=read_only,
        trust=trust(args, args.store) if is_remote(args.store) else None,
        token=token(args),
        cache_bytes=0,
    )
    try:
        return await asyncio.to_thread(work, store.blocking())
    finally:
        await store.aclose()


def version_at(store: BlockingStore, name: Named, at: str | None) -> Version | None:
    """The version that ``@VERSION`` or ``--at VERSION|TIME`` means; None: the newest.
    Raises :class:`ConfigError`, and :class:`NothingRecorded` for a time before the store's first."""
    if at is None or at == "now":
        return name.version
    if name.version is not None:
        raise ConfigError("the moment is said twice: by @VERSION and by --at; leave one out")
    if _VERSION.fullmatch(at):
        return at.lower()
    from gateway.cli._times import parse_time

    seconds = parse_time(at, now_us()) // 1_000_000
    # The store names moments by the second, and `after` is the newest one that is older than what was
    # asked.
    before = store.time2version(max(seconds + 1, 1)).after
    if before is None:
        raise NothingRecorded(f"the store has recorded no moment before {at}; --at now is the newest")
    return before.version


def progress(what: str) -> Callable[[int, int], None] | None:
    """A line on stderr that counts pages, where somebody looks at it."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        print(f"\r{what}: {done:,} of {total:,} pages", end="\n" if done >= total else "", file=sys.stderr)

    return show
