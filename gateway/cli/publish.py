"""``mvgateway publish``: send frames into a world. Room: cli."""

from __future__ import annotations

import argparse

from gateway.cli._client import add_client_flags

NAME = "publish"
HELP = "publish a world: moving avatars, or frames from a file or standard input"
EXAMPLE = """
mvgateway publish arena --players 10 --hz 60
mvgateway publish arena --from recording.frames --hz 20
mvgateway replay arena --out - | mvgateway publish copy --from -
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world")
    add_client_flags(parser)
    parser.add_argument("--hz", type=float, default=60.0, help="ticks a second (default 60)")
    parser.add_argument("--seconds", type=float, default=None, help="stop after so long (default: never)")
    parser.add_argument("--players", type=int, default=10, help="avatars (default 10)")
    parser.add_argument("--bones", type=int, default=1, help="records of 100 bytes an avatar (default 1)")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other walks")
    parser.add_argument(
        "--from", dest="source", metavar="FILE", help="length-prefixed messages instead; - is standard input"
    )
    parser.add_argument("--takeover", action="store_true", help="throw out the publisher that is there")
    parser.add_argument("--epoch", type=int, default=None, help="ask for this epoch back")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end")


def run(args: argparse.Namespace) -> int:
    import asyncio

    from gateway.cli._publish import publish
    from gateway.errors import ConfigError

    if not 0 < args.hz <= 1000 or args.players < 1 or args.bones < 1:
        raise ConfigError("--hz is above 0 and at most 1000; --players and --bones are at least 1")
    return asyncio.run(publish(args))
