"""The work of ``mvgateway branch``. Room: cli."""

from __future__ import annotations

import argparse
import json
from typing import Any, cast

from gateway.cli._client import http_client
from gateway.cli._source import moment_of, open_store_of
from gateway.client.address import world_path
from gateway.client.branches import branch
from gateway.client.live import now_us
from gateway.client.recordings import Moment, iso_time


async def branch_world(args: argparse.Namespace) -> int:
    """By the gateway, or in the store itself."""
    moment = moment_of(args, now_us())
    if args.store:
        async with open_store_of(args) as store:
            made = (await branch(store, args.world, args.new, moment, now_us=now_us())).as_json()
    else:
        made = await _by_gateway(args, moment)
    parent = made["parent"]
    text = f"world {made['world']} starts from {parent['world']} at epoch {parent['epoch']}, tick {parent['tick']}"
    print(json.dumps(made) if args.json else text)
    return 0


async def _by_gateway(args: argparse.Namespace, moment: Moment) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": args.new,
        "epoch": moment.epoch,
        "tick": moment.tick,
        "mark": moment.mark,
    }
    if moment.at_us is not None:
        fields["at"] = iso_time(moment.at_us)
    body = json.dumps({name: value for name, value in fields.items() if value is not None}).encode()
    async with http_client(args) as client:
        answer = await client.request(
            "POST",
            world_path(args.world, "branch"),
            headers={"content-type": "application/json"},
            body=body,
        )
        return cast(dict[str, Any], answer.json())
