"""Where a recovery verb reads from: a gateway, a store, or a film. Room: cli.

A store's folder is opened for reading alone: without a lock or a write, whoever has it open.
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli._client import add_client_flags, add_trust_flags, http_client, token, trust
from gateway.cli._files import need_file
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from gateway.recordings.recording import LocalRecording, Moment, Recording
    from gateway.store.base import Store


def add_source_flags(parser: argparse.ArgumentParser) -> None:
    """``--store``, ``--store-admin`` and the client's flags."""
    add_client_flags(parser)
    _add_store(parser, "read this store itself: a folder, also one in use, an mvstore or a gateway")


def add_target_flags(parser: argparse.ArgumentParser) -> None:
    """``--store`` as what is written to, ``--store-admin``, and whom to trust."""
    add_trust_flags(parser)
    _add_store(parser, "a world of this store: a folder that nobody has open, an mvstore or a gateway")


def _add_store(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--store", metavar="DIR|URL", help=text)
    parser.add_argument(
        "--store-admin",
        metavar="URL",
        help="the admin API of the mvstore that --store names, where namespaces are listed and made",
    )


def add_moment_flags(parser: argparse.ArgumentParser) -> None:
    """``--at``, ``--tick``, ``--epoch``, ``--mark``: which moment; none of them: the last synced one."""
    moment = parser.add_mutually_exclusive_group()
    moment.add_argument("--at", metavar="TIME", help="'2026-11-20 21:14:03' (UTC), 90s-ago, Unix seconds")
    moment.add_argument("--tick", type=int, help="this tick (of --epoch, or of the newest epoch)")
    moment.add_argument("--mark", metavar="NAME", help="the tick of this mark")
    parser.add_argument("--epoch", type=int, default=None, help="the epoch of --tick")


def moment_of(args: argparse.Namespace, now_us: int) -> Moment:
    """The moment that the flags name."""
    from gateway.cli._times import parse_time
    from gateway.recordings.recording import Moment

    if args.epoch is not None and args.tick is None:
        raise ConfigError("--epoch goes with --tick; for a whole epoch give its first or last tick")
    at_us = parse_time(args.at, now_us) if args.at else None
    return Moment(args.epoch, args.tick, at_us, args.mark)


FILM_WAY_OUT = "`mvgateway clip WORLD --out FILE` makes one"


def is_film(world: str) -> bool:
    """True where a world's name is a file's: a film stands in its place."""
    return "/" in world or world.endswith((".sqlite", ".sqlite3", ".film"))


@asynccontextmanager
async def open_recording(args: argparse.Namespace) -> AsyncIterator[Recording]:
    """The recording of ``args.world``: a film, a world of ``--store``, or one behind ``--url``."""
    from gateway.recordings.recording import RemoteRecording, open_film

    if is_film(args.world):
        need_file(Path(args.world), "film", FILM_WAY_OUT)
        with open_film(Path(args.world)) as film:
            yield film
    elif args.store:
        async with open_store_of(args) as store, local_recording(store, args.world) as recording:
            yield recording
    else:
        async with http_client(args) as client:
            yield RemoteRecording(args.world, client)


@asynccontextmanager
async def open_store_of(args: argparse.Namespace, *, read_only: bool = True) -> AsyncIterator[Store]:
    """The store that ``--store`` names. Raises :class:`ConfigError` for a folder that is none."""
    from gateway.runtime.stores.opening import is_remote, open_store

    target = _target(args)
    store = await open_store(
        target,
        admin_url=args.store_admin,
        read_only=read_only,
        trust=trust(args, target) if is_remote(target) else None,
        token=token(args),
    )
    try:
        yield store
    finally:
        await store.aclose()


def _target(args: argparse.Namespace) -> str:
    target = str(args.store)
    if "://" not in target and not Path(target).is_dir():
        raise ConfigError(f"--store {target}: there is no such folder")
    return target


@asynccontextmanager
async def local_recording(store: Store, world: str) -> AsyncIterator[LocalRecording]:
    """A world of a store as a recording; its questions run on threads, as a store's must."""
    import asyncio  # here, so that --help need not load it

    from gateway.recordings.recording import LocalRecording, open_world

    opened = await asyncio.to_thread(open_world, store.blocking(), world)
    try:
        yield LocalRecording(world, opened)
    finally:
        await asyncio.to_thread(opened.close)
