"""``mvgateway watch``: follow a world and say how well it arrives. Room: cli."""

from __future__ import annotations

import argparse

from gateway.cli._client import add_client_flags

NAME = "watch"
HELP = "follow a world: tick rate, lost, repaired, latency"
EXAMPLE = """
mvgateway watch arena
mvgateway watch arena --transport websocket --seconds 10 --json
mvgateway watch arena --delay-s 30
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world")
    add_client_flags(parser)
    parser.add_argument("--seconds", type=float, default=None, help="stop after so long (default: never)")
    parser.add_argument("--budget-kbps", type=int, default=None, help="take at most so many kbit/s")
    parser.add_argument(
        "--delay-s", type=float, default=0.0, help="watch the world as it was so many seconds ago (1 to 3600)"
    )
    parser.add_argument("--zstd", action="store_true", help="ask for compressed frames")
    parser.add_argument("--json", action="store_true", help="one JSON object a second on standard output")


def run(args: argparse.Namespace) -> int:
    import asyncio

    from gateway.cli._watch import watch

    return asyncio.run(watch(args))
