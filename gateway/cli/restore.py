"""``mvgateway restore``: bring an archived recording back. Room: cli."""

from __future__ import annotations

import argparse

from gateway.cli._source import add_target_flags

NAME = "restore"
HELP = "bring an archive back: as a world of a store, or as one film"
EXAMPLE = """
mvgateway restore s3://films/arena --out arena.sqlite
mvgateway restore /backups/arena --store /var/lib/mvgateway --world arena-again
mvgateway restore s3://films/arena --check
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("place", help="where the archive is: a folder, s3://BUCKET/PREFIX, …")
    parser.add_argument("--out", metavar="FILE.sqlite", help="one film, for every verb that takes a world")
    add_target_flags(parser)
    parser.add_argument("--world", help="its name there (default: the archived one's)")
    parser.add_argument("--check", action="store_true", help="only fetch every part and compare its checksum")
    parser.add_argument(
        "--storage",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option for fsspec, such as endpoint_url=http://127.0.0.1:8333",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    import asyncio

    from gateway.cli._archive import restore
    from gateway.errors import ConfigError

    if (args.out is not None) + (args.store is not None) + args.check != 1:
        raise ConfigError("say what to make: --out FILE.sqlite, --store DIR, or only --check")
    return asyncio.run(restore(args))
