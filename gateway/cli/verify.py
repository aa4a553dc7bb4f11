"""``mvgateway verify``: check that a recording adds up. Room: cli."""

from __future__ import annotations

import argparse

from gateway.cli._source import add_source_flags

NAME = "verify"
HELP = "replay a recording from keyframe to keyframe and compare; exit 1 if any of it is damaged"
EXAMPLE = """
mvgateway verify arena
mvgateway verify arena --store /var/lib/mvgateway
mvgateway verify film.sqlite --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", help="a world, or a film's file name")
    add_source_flags(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    import asyncio

    from gateway.cli._verify import verify

    return asyncio.run(verify(args))
