"""``mvgateway recover --list``: what can be got back of each world. Room: cli."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, TypedDict

from gateway.cli._client import http_client
from gateway.cli._source import (
    local_recording,
    open_recording,
    open_store_of,
)
from gateway.cli._times import show_age, show_time
from gateway.errors import GatewayError
from gateway.wallclock import now_us

if TYPE_CHECKING:
    from gateway.store.base import Store
    from gateway.wire.recorded import ToldSummary


async def list_worlds(args: argparse.Namespace) -> int:
    """Every world, or the one that is named, with the span that can be got back."""
    if args.world:
        async with open_recording(args) as recording:
            rows: list[ToldSummary | Unread] = [await recording.summary()]
    else:
        rows = await (_worlds_of_store(args) if args.store else _worlds_of_gateway(args))
    if args.json:
        print(json.dumps({"worlds": rows}))
        return 0
    for row in rows:
        print(_span(row))
    if not rows:
        print("no worlds")
    return 0


class Unread(TypedDict):
    """A world whose recording cannot be read."""

    world: str
    error: str


async def _worlds_of_store(args: argparse.Namespace) -> list[ToldSummary | Unread]:
    async with open_store_of(args) as store:
        rows: list[ToldSummary | Unread] = []
        for name in await _names(args, store):
            try:
                async with local_recording(store, name) as recording:
                    rows.append(await recording.summary())
            except GatewayError as error:
                rows.append({"world": name, "error": error.message})
        return rows


async def _names(args: argparse.Namespace, store: Store) -> list[str]:
    """The worlds of a store. One without an admin API may be a gateway, which tells them by itself."""
    from gateway.store.remote import AdminNeeded
    from gateway.store.world.listing import WorldNames

    try:
        return await WorldNames(store).all()
    except AdminNeeded as error:
        try:
            async with http_client(args, args.store.partition(",")[0]) as client:
                return sorted(world["world"] for world in (await client.get_json("/v1/worlds"))["worlds"])
        except (GatewayError, ValueError):
            raise error from None


async def _worlds_of_gateway(args: argparse.Namespace) -> list[ToldSummary | Unread]:
    from gateway.recordings.recording import RemoteRecording

    async with http_client(args) as client:
        worlds = (await client.get_json("/v1/worlds"))["worlds"]
        rows: list[ToldSummary | Unread] = []
        for world in worlds:
            try:
                rows.append(await RemoteRecording(world["world"], client).summary())
            except GatewayError as error:
                rows.append({"world": world["world"], "error": error.message})
        return rows


def _span(row: ToldSummary | Unread) -> str:

    name = f"{row['world']:<24}"
    if "error" in row:
        return f"{name}{row['error']}"
    first, last = row["first"], row["last"]
    if first is None or last is None:
        return f"{name}nothing recorded"
    ago = show_age(now_us() / 1e6 - last["received_at_us"] / 1e6)
    return (
        f"{name}{show_time(first['received_at_us'])} to {show_time(last['received_at_us'])} ({ago} ago), "
        f"epoch {first['epoch']} tick {first['tick']} to epoch {last['epoch']} tick {last['tick']}, "
        f"{row['gaps']} gaps, {row['marks']} marks, {row['retention']}"
    )
