"""``mvgateway bench``: measure a gateway that is running, over the link that there is. Room: cli."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli._client import add_client_flags, connection

if TYPE_CHECKING:
    from bench.results import Row

NAME = "bench"
HELP = "measure a running gateway from here: age of frames by transport, reads, fan-out"
EXAMPLE = """
mvgateway bench --url https://gateway.example.org:4433
mvgateway bench --scenario fanout --readers 100 --seconds 20 --json
"""
SCENARIOS = ("frames", "reads", "fanout")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where, what and how much."""
    add_client_flags(parser)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="only this one (repeatable)")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds measured for each (default 5)")
    parser.add_argument("--hz", type=int, default=60, help="frames a second (default 60)")
    parser.add_argument("--frame-bytes", type=int, default=1024, help="size of a frame (default 1024)")
    parser.add_argument("--readers", type=int, default=20, help="readers of the fan-out (default 20)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of tables")


def run(args: argparse.Namespace) -> int:
    """Exit code 0: measured."""
    from bench.processes import BenchError
    from bench.remote import Remote
    from gateway.client import Address
    from gateway.client.token import ENV_TOKEN, from_file
    from gateway.errors import StoreUnavailable

    address = Address.parse(args.url)
    given = {k: v for k, v in connection(args).items() if k not in ("transport", "token")}
    if given.get("ca"):  # they run in the checkout's folder, and it was named from this one
        given["ca"] = str(Path(str(given["ca"])).resolve())
    if args.token_file:  # the processes that measure take it from there
        os.environ[ENV_TOKEN] = from_file(args.token_file)().strip()
    target: dict[str, object] = {"url": args.url, "host": address.host, "port": address.port, **given}
    remote = Remote(
        target, seconds=args.seconds, hz=args.hz, frame_bytes=args.frame_bytes, readers=args.readers
    )
    try:
        rows = remote.run(args.scenario or SCENARIOS, lambda line: None if args.json else print(line))
    except BenchError as error:
        raise StoreUnavailable(f"{args.url} could not be measured: {error}") from error
    _show(rows, args.json)
    return 0


def _show(rows: list[Row], as_json: bool) -> None:
    if as_json:
        for row in rows:
            print(json.dumps(asdict(row)))
        return
    from rich.console import Console

    from bench.report import print_tables
    from bench.results import summarise

    print_tables(summarise(rows), Console())
