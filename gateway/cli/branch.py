"""``mvgateway branch``: a new world that starts from a moment of another. Room: cli."""

from __future__ import annotations

import argparse

from gateway.cli._source import add_moment_flags, add_source_flags

NAME = "branch"
HELP = "make a new world from a moment of another's recording; no pages are copied"
EXAMPLE = """
mvgateway branch arena arena-retry --at 90s-ago
mvgateway branch arena what-if --tick 51230 --epoch 3 --store /var/lib/mvgateway
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world")
    parser.add_argument("new", help="the name of the new world")
    add_source_flags(parser)
    add_moment_flags(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    import asyncio

    from gateway.cli._branch import branch_world

    return asyncio.run(branch_world(args))
