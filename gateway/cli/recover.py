"""``mvgateway recover``: get a world's last synced frame back, or any recorded moment. Room: cli."""

from __future__ import annotations

import argparse
import base64
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from gateway.cli._client import connection
from gateway.cli._files import write_whole
from gateway.cli._source import (
    add_moment_flags,
    add_source_flags,
    moment_of,
    open_recording,
)
from gateway.cli._times import show_age, show_time
from gateway.errors import ConfigError, GatewayError, StoreUnavailable
from gateway.limits import DURABLE_S_MAX, RECOVER_GAPS_SHOWN_MAX, RECOVER_MARKS_SHOWN_MAX
from gateway.wallclock import now_us

if TYPE_CHECKING:
    from gateway.recordings.recording import Snapshot
    from gateway.wire.layouts import Layout

How: TypeAlias = "Layout | str | None"
"""By what records are shown: a layout, the name of a way of this verb's, or not at all."""


NAME = "recover"
HELP = "get the last synced frame of a world back, or the state at any recorded moment"
EXAMPLE = """
mvgateway recover arena
mvgateway recover arena --store /var/lib/mvgateway --out last.frames
mvgateway recover arena --at 90s-ago --decode xrgrid
mvgateway recover arena --tick 51230 --epoch 3 --out state.json
mvgateway recover arena --to-world arena2
mvgateway recover --list
mvgateway recover arena --list
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", nargs="?", help="a world, or a film's file name")
    add_source_flags(parser)
    add_moment_flags(parser)
    parser.add_argument(
        "--list", action="store_true", help="all worlds, or the one named, with what can be got back"
    )
    parser.add_argument(
        "--out", metavar="FILE", help=".frames, .json or .sqlite; - is standard output (.frames)"
    )
    parser.add_argument(
        "--decode",
        choices=("layout", "variant", "xrgrid", "hex"),
        help="show the records; layout: by the world's own",
    )
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

    from gateway.cli._recover_list import list_worlds

    if not args.list and not args.world:
        raise ConfigError("name a world (mvgateway recover WORLD); --list shows which there are")
    return asyncio.run(list_worlds(args) if args.list else recover(args))


VARIANT_OF_3 = "variant of Godot 3"


async def recover(args: argparse.Namespace) -> int:
    """Read one state and show, write or publish it."""
    from gateway.wire.layouts import told

    if args.decode == "variant" and args.godot == 3:
        args.decode = VARIANT_OF_3
    started = time.monotonic()
    async with open_recording(args) as recording:
        found = await recording.state(moment_of(args, now_us()))
        took_ms = (time.monotonic() - started) * 1000
        marks = await recording.marks()
        layout = told((await recording.summary()).get("layout"))
        how = _reading(args, layout)
    facts = _facts(args.world, found, took_ms)
    facts["marks"] = [{name: mark[name] for name in ("name", "epoch", "tick")} for mark in marks]
    if args.out:
        _write_out(args, found, how, layout)
        facts["out"] = args.out
    if args.to_world:
        facts["published"] = await _publish(args, found)
    _show(args, found, facts, how)
    return 0


def _reading(args: argparse.Namespace, layout: Layout | None) -> How:
    """How records are shown. Raises ``ConfigError`` where the world does not say what they mean."""
    if args.decode != "layout":
        return cast(How, args.decode)
    if layout is None:
        raise ConfigError(
            f"world {args.world} has no layout; give it one (mvgateway worlds set {args.world} --layout NAME), or say "
            "--decode variant, xrgrid or hex"
        )
    return layout


def _facts(world: str, found: Snapshot, took_ms: float) -> dict[str, object]:

    facts: dict[str, object] = {
        "world": world,
        "epoch": found.epoch,
        "tick": found.tick,
        "at": show_time(found.at_us),
        "at_us": found.at_us,
        "age_s": round((now_us() - found.at_us) / 1e6, 3),
        "records": len(found.records),
        "bytes": sum(map(len, found.records.values())),
        "stride": found.stride,
        "took_ms": round(took_ms, 1),
    }
    if found.gaps is not None:
        facts["gaps"] = [
            {"epoch": g.epoch, "from": g.from_tick, "to": g.to_tick, "reason": g.reason} for g in found.gaps
        ]
    return facts


def _show(args: argparse.Namespace, found: Snapshot, facts: dict[str, Any], how: How) -> None:
    out = sys.stderr if args.out == "-" else sys.stdout
    if args.json:
        if how:
            facts["decoded"] = {str(key): decode(data, how) for key, data in found.records.items()}
        print(json.dumps(facts), file=out)
        return
    print(f"world     {facts['world']}", file=out)
    print(f"epoch     {found.epoch}", file=out)
    print(f"tick      {found.tick}", file=out)
    print(f"time      {facts['at']}, {show_age(facts['age_s'])} ago", file=out)
    print(f"records   {len(found.records)}, {facts['bytes']} bytes", file=out)
    if found.gaps is not None:
        told = [f"{g.from_tick}-{g.to_tick} ({g.reason})" for g in found.gaps[-RECOVER_GAPS_SHOWN_MAX:]]
        print(f"gaps      {', '.join(told) or 'none since its keyframe'}", file=out)
    if facts["marks"]:
        told = [
            f"{mark['name']} ({mark['epoch']}:{mark['tick']})"
            for mark in facts["marks"][-RECOVER_MARKS_SHOWN_MAX:]
        ]
        print(f"marks     {', '.join(told)}", file=out)
    for name in ("out", "published"):
        if name in facts:
            print(f"{name:<10}{facts[name]}", file=out)
    if how:
        for key in sorted(found.records):
            print(f"{key:>10}  {_line(decode(found.records[key], how))}", file=out)


def decode(data: bytes, how: How) -> object:
    """A record's bytes as JSON-ready values; what does not decode says so, and the hex."""
    from gateway.wire.xrgrid import EntityPacket

    try:
        if not isinstance(how, str | None):
            return how.read(data)
        if how == "xrgrid":
            return EntityPacket.decode(data).as_json()
        if how in ("variant", VARIANT_OF_3):
            from gateway.wire import variant

            return json.loads(variant.to_json(variant.decode(data, godot=3 if how == VARIANT_OF_3 else 4)))
    except GatewayError as error:
        return {"undecodable": error.message, "hex": data.hex()}
    return data.hex()


def _line(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _write_out(args: argparse.Namespace, found: Snapshot, how: How, layout: Layout | None) -> None:
    from gateway.recordings.films import FilmWriter
    from gateway.wire import is_world_name, prefix

    if args.out == "-":
        sys.stdout.buffer.write(b"".join(map(prefix, found.messages)))
        sys.stdout.buffer.flush()
        return
    path = Path(args.out)
    if path.suffix == ".json":
        write_whole(path, _as_json(found, how).encode())
    elif path.suffix in (".sqlite", ".sqlite3"):
        world = args.world if is_world_name(args.world) else "film"
        with FilmWriter(path, world=world, stride=found.stride, now_us=now_us(), layout=layout) as film:
            film.begin(found.messages, received_at_us=found.at_us)
    elif path.suffix == ".frames":
        write_whole(path, b"".join(map(prefix, found.messages)))
    else:
        raise ConfigError(f"--out {args.out}: the name ends in .frames, .json or .sqlite")


def _as_json(found: Snapshot, how: How) -> str:
    records = {
        str(key): decode(data, how) if how else base64.b64encode(data).decode()
        for key, data in found.records.items()
    }
    head = {"epoch": found.epoch, "tick": found.tick, "durable_at": found.at_us, "stride": found.stride}
    return json.dumps({**head, "records": records}, indent=1)


async def _publish(args: argparse.Namespace, found: Snapshot) -> str:
    import asyncio

    from gateway.client import Publisher

    stride = found.stride if all(len(data) == found.stride for data in found.records.values()) else 0
    async with Publisher(
        args.url, args.to_world, stride=stride, takeover=args.takeover, **connection(args)
    ) as publisher:
        tick = publisher.send(dict(found.records), keyframe=True)
        try:
            await asyncio.wait_for(publisher.wait_durable(tick), DURABLE_S_MAX)
        except TimeoutError:
            raise StoreUnavailable(
                f"{args.to_world} took the state, but the store has not confirmed it within {DURABLE_S_MAX:.0f} s"
            ) from None
        return f"world {args.to_world}, epoch {publisher.epoch}, tick {tick}, durable"
