"""``mvgateway plot``: a recording over time, as a picture. Room: cli."""

from __future__ import annotations

import argparse

from gateway.cli._source import add_source_flags

NAME = "plot"
HELP = "draw a recording over time: frame rate, size, time on the way to the gateway, gaps and marks"
EXAMPLE = """
mvgateway plot arena arena.svg
mvgateway plot film.sqlite film.svg --from goal
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", help="a world, or a film's file name")
    parser.add_argument("out", metavar="FILE.svg")
    add_source_flags(parser)
    parser.add_argument("--from", dest="begin", metavar="WHEN", help="a tick, EPOCH:TICK, a time, or a mark")
    parser.add_argument("--to", dest="end", metavar="WHEN", help="the last one, likewise")


def run(args: argparse.Namespace) -> int:
    import asyncio

    from gateway.cli._plot import plot

    return asyncio.run(plot(args))
