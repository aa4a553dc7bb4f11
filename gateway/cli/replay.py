"""``mvgateway replay``: play a recording with its timing. Room: cli."""

from __future__ import annotations

import argparse

from gateway.cli._source import add_source_flags

NAME = "replay"
HELP = "play a recording with its timing: to a world, a file, or standard output"
EXAMPLE = """
mvgateway replay arena --to-world rerun --speed 2
mvgateway replay film.sqlite --from 1200 --to 3600 --to-world rerun
mvgateway replay arena --from 90s-ago --out - --speed max > last90s.frames
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", help="a world, or a film's file name")
    add_source_flags(parser)
    parser.add_argument("--from", dest="begin", metavar="WHEN", help="a tick, EPOCH:TICK, a time, or a mark")
    parser.add_argument("--to", dest="end", metavar="WHEN", help="the last one, likewise")
    parser.add_argument("--speed", default="1", help="0.25 to 64, or max (default 1)")
    parser.add_argument("--to-world", metavar="WORLD", help="publish there (at --url), for live readers")
    parser.add_argument("--takeover", action="store_true", help="with --to-world: throw its publisher out")
    parser.add_argument("--out", metavar="FILE", help="length-prefixed messages; - is standard output")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end")


def run(args: argparse.Namespace) -> int:
    import asyncio

    from gateway.cli._replay import replay

    return asyncio.run(replay(args))
