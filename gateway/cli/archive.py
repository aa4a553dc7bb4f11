"""``mvgateway archive``: move a recording to any place. Room: cli."""

from __future__ import annotations

import argparse

from gateway.cli._source import add_source_flags

NAME = "archive"
HELP = "copy a recording to a folder, S3 or whatever fsspec can write; resumable"
EXAMPLE = """
mvgateway archive arena /backups/arena
mvgateway archive arena s3://films/arena --from 2h-ago
mvgateway archive arena s3://films/arena --storage endpoint_url=http://127.0.0.1:8333
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", help="a world, or a film's file name")
    parser.add_argument("place", help="a folder, s3://BUCKET/PREFIX, or another URL that fsspec knows")
    add_source_flags(parser)
    parser.add_argument("--from", dest="begin", metavar="WHEN", help="a tick, EPOCH:TICK, a time, or a mark")
    parser.add_argument("--to", dest="end", metavar="WHEN", help="the last one, likewise")
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

    from gateway.cli._archive import archive

    return asyncio.run(archive(args))
