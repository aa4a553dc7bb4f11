"""``mvgateway recover``: get a world's last synced frame back, or any recorded moment. Room: cli."""

from __future__ import annotations

import argparse

from gateway.cli._source import add_moment_flags, add_source_flags

NAME = "recover"
HELP = "get the last synced frame of a world back, or the state at any recorded moment"
EXAMPLE = """
mvgateway recover arena
mvgateway recover arena --store /var/lib/mvgateway --out last.frames
mvgateway recover arena --at 90s-ago --decode xrgrid
mvgateway recover arena --tick 51230 --epoch 3 --out state.json
mvgateway recover arena --to-world arena2
mvgateway recover --list
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", nargs="?", help="a world, or a film's file name")
    add_source_flags(parser)
    add_moment_flags(parser)
    parser.add_argument("--list", action="store_true", help="all worlds, with what can be got back")
    parser.add_argument(
        "--out", metavar="FILE", help=".frames, .json or .sqlite; - is standard output (.frames)"
    )
    parser.add_argument("--decode", choices=("variant", "xrgrid", "hex"), help="show the records")
    parser.add_argument(
        "--godot",
        type=int,
        choices=(3, 4),
        default=4,
        help="with --decode variant: which Godot wrote them (4)",
    )
    parser.add_argument(
        "--to-world",
        metavar="WORLD",
        help="publish it there, as the first keyframe of a new epoch (at --url)",
    )
    parser.add_argument("--takeover", action="store_true", help="with --to-world: throw its publisher out")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    import asyncio

    from gateway.cli._recover import list_worlds, recover
    from gateway.errors import ConfigError

    if args.list == bool(args.world):
        raise ConfigError("name a world, or give --list for all of them")
    return asyncio.run(list_worlds(args) if args.list else recover(args))
