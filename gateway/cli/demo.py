"""``mvgateway demo``: everything once, with a crash in the middle. Room: cli."""

from __future__ import annotations

import argparse

NAME = "demo"
HELP = "publish, follow, kill the gateway, recover and go on: in one command"
EXAMPLE = """
mvgateway demo
mvgateway demo --seconds 6 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=12.0, help="how long in all (default 12)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(args: argparse.Namespace) -> int:
    import asyncio

    import uvloop

    from gateway.cli._demo import Demo
    from gateway.errors import ConfigError

    if not 2 <= args.seconds <= 3600:
        raise ConfigError(f"--seconds {args.seconds:g} is outside 2 to 3600")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Demo(args.seconds, as_json=args.json).run())
