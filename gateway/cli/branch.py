"""``mvgateway branch``: a new world that starts from a moment of another. Room: cli."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, cast

from gateway.cli._client import http_client, waiting
from gateway.cli._source import add_moment_flags, add_source_flags, moment_of, open_store_of
from gateway.errors import ConfigError, GatewayError
from gateway.wallclock import now_us

if TYPE_CHECKING:
    from gateway.recordings.recording import Moment
    from gateway.store.remote import AdminNeeded
    from gateway.wire.recorded import ToldBranch


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

    return asyncio.run(branch_world(args))


async def branch_world(args: argparse.Namespace) -> int:
    """By the gateway, or in the store itself."""

    moment = moment_of(args, now_us())
    with waiting(f"branching {args.world}"):
        made = await (_in_store(args, moment) if args.store else _by_gateway(args, args.url, moment))
    parent = made["parent"]
    text = f"world {made['world']} starts from {parent['world']} at epoch {parent['epoch']}, tick {parent['tick']}"
    print(json.dumps(made) if args.json else text)
    return 0


async def _in_store(args: argparse.Namespace, moment: Moment) -> ToldBranch:
    """A folder is opened for writing only once the moment was found by reading."""
    import asyncio

    from gateway.recordings.branches import branch, find
    from gateway.store.embedded import FolderInUse
    from gateway.store.remote import AdminNeeded

    async with open_store_of(args) as store:
        await asyncio.to_thread(find, store.blocking(), args.world, moment)
    try:
        async with open_store_of(args, read_only=False) as store:
            return (await branch(store, args.world, args.new, moment, now_us=now_us())).as_json()
    except FolderInUse as error:
        raise ConfigError(
            f"a branch is written, and {error.message}; or leave --store out and ask its gateway by --url"
        ) from None
    except AdminNeeded as error:
        return await _by_store_gateway(args, moment, error)


async def _by_store_gateway(args: argparse.Namespace, moment: Moment, needed: AdminNeeded) -> ToldBranch:
    """A store without an admin API may be a gateway, which branches by itself."""
    url = args.store.partition(",")[0]
    try:
        async with http_client(args, url) as client:
            await client.get_json("/v1/worlds")
    except (GatewayError, ValueError):
        raise needed from None
    return await _by_gateway(args, url, moment)


async def _by_gateway(args: argparse.Namespace, url: str, moment: Moment) -> ToldBranch:
    from gateway.client.address import world_path
    from gateway.recordings.recording import iso_time

    fields: dict[str, object] = {
        "name": args.new,
        "epoch": moment.epoch,
        "tick": moment.tick,
        "mark": moment.mark,
    }
    if moment.at_us is not None:
        fields["at"] = iso_time(moment.at_us)
    body = json.dumps({name: value for name, value in fields.items() if value is not None}).encode()
    async with http_client(args, url) as client:
        answer = await client.request(
            "POST",
            world_path(args.world, "branch"),
            headers={"content-type": "application/json"},
            body=body,
        )
        return cast("ToldBranch", answer.json())
