"""``mvgateway clip``: a stretch of a recording as a film of its own. Room: cli."""

from __future__ import annotations

import argparse

from gateway.cli._source import add_source_flags

NAME = "clip"
HELP = "cut a stretch of a recording into a self-contained film, an SQLite file"
EXAMPLE = """
mvgateway clip arena --from 90s-ago --out goal.sqlite
mvgateway clip arena --from 3:51000 --to 3:54600 --out goal.sqlite --store /var/lib/mvgateway
mvgateway replay goal.sqlite --to-world rerun
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", help="a world, or a film's file name")
    add_source_flags(parser)
    parser.add_argument("--from", dest="begin", metavar="WHEN", help="a tick, EPOCH:TICK, a time, or a mark")
    parser.add_argument("--to", dest="end", metavar="WHEN", help="the last one, likewise")
    parser.add_argument("--out", required=True, metavar="FILE.sqlite")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    import asyncio

    from gateway.cli._clip import clip

    return asyncio.run(clip(args))
