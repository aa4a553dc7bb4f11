"""``mvgateway verify``: check that a recording adds up. Room: cli."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from gateway.cli._client import http_client, waiting
from gateway.cli._source import add_source_flags, is_film, open_recording
from gateway.limits import VERIFY_FINDINGS_SHOWN_MAX

if TYPE_CHECKING:
    from gateway.recordings.recording import LocalRecording
    from gateway.wire.recorded import ToldReport


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

    return asyncio.run(verify(args))


async def verify(args: argparse.Namespace) -> int:
    """0 if nothing is damaged; recorded gaps are told, and are no damage."""
    import asyncio

    from gateway.client.address import world_path
    from gateway.recordings.recording import LocalRecording

    if args.store or is_film(args.world):
        async with open_recording(args) as recording:
            assert isinstance(recording, LocalRecording)
            report = await asyncio.to_thread(_local, recording, quiet=args.json)
    else:
        async with http_client(args) as client:
            with waiting(f"the gateway verifies {args.world}"):
                report = await client.get_json(world_path(args.world, "verify"))
    print(json.dumps({"world": args.world, **report}) if args.json else _text(args.world, report))
    return 1 if report["damaged"] else 0


def _local(recording: LocalRecording, *, quiet: bool) -> ToldReport:
    from gateway.recordings.verifying import Verifier

    verifier = Verifier(recording.history)
    if quiet or not sys.stderr.isatty():
        for _ in verifier.stretches():
            pass
        return verifier.report.as_json()
    from rich.console import Console
    from rich.progress import track

    total = len(verifier.starts())
    for _ in track(verifier.stretches(), "verifying", total, console=Console(stderr=True), transient=True):
        pass
    return verifier.report.as_json()


def _text(world: str, report: ToldReport) -> str:
    lines = [
        f"{world}: {report['ok']} stretches ok, {len(report['damaged'])} damaged, "
        f"{report['unchecked']} with gaps; {report['rows']} rows, {len(report['gaps'])} gaps"
    ]
    for stretch in report["damaged"][:VERIFY_FINDINGS_SHOWN_MAX]:
        begin, end = stretch["from"], stretch["to"]
        lines.append(
            f"  damaged {begin['epoch']}:{begin['tick']} to {end['epoch']}:{end['tick']}: {stretch['why']}"
        )
    lines += [
        f"  gap     {g['epoch']}:{g['from']} to {g['epoch']}:{g['to']} ({g['reason']})"
        for g in report["gaps"][:VERIFY_FINDINGS_SHOWN_MAX]
    ]
    return "\n".join(lines)
