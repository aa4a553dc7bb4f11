"""``mvgateway worlds``: list, show, make, change and delete worlds of a running gateway. Room: cli."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from gateway.cli._client import add_client_flags, http_client, object_of
from gateway.errors import ConfigError

NAME = "worlds"
HELP = "list, show, make, change or delete worlds of a running gateway"
EXAMPLE = """
mvgateway worlds
mvgateway worlds create zone-1 --stride 100 --retention record
mvgateway worlds show zone-1 --json
mvgateway worlds set zone-1 --retention ring --ring-s 300
mvgateway worlds set zone-1 --layout avatars
mvgateway worlds delete zone-1
"""

COLUMNS = ("world", "publisher", "readers", "records", "epoch", "tick", "durable")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action", nargs="?", choices=("list", "show", "create", "set", "delete"), default="list"
    )
    parser.add_argument("world", nargs="?", help="the world's name (for all actions but list)")
    parser.add_argument(
        "--stride", type=int, help="create: bytes of every record; 0: records carry their length"
    )
    parser.add_argument(
        "--retention", choices=("ring", "record"), help="create, set: how much history is kept"
    )
    parser.add_argument("--ring-s", type=int, help="create, set: seconds of history in the ring")
    parser.add_argument(
        "--layout",
        metavar="NAME|FILE",
        help="create, set: what records mean: a built-in layout, or a JSON file; none takes it away",
    )
    parser.add_argument("--json", action="store_true", help="JSON on stdout")
    add_client_flags(parser)


def run(args: argparse.Namespace) -> int:
    import asyncio

    if args.action != "list" and not args.world:
        raise ConfigError(f"{args.action} needs the world's name: mvgateway worlds {args.action} WORLD")
    return asyncio.run(_work(args))


async def _work(args: argparse.Namespace) -> int:
    from gateway.client.address import world_path

    method, members = _request(args)
    path = "/v1/worlds" if args.action == "list" else world_path(args.world)
    headers = {"accept": "application/json", "content-type": "application/json"}
    body = b"" if members is None else json.dumps(members).encode()
    async with http_client(args) as client:
        answer = await client.request(method, path, headers=headers, body=body)
    _show(args, object_of(answer, args.url))
    return 0


def _request(args: argparse.Namespace) -> tuple[str, Mapping[str, object] | None]:
    options = {"stride": args.stride, "retention": args.retention, "ring_s": args.ring_s}
    given = {name: value for name, value in options.items() if value is not None}
    if args.layout is not None:
        given["layout"] = _layout(args.layout)
    methods = {"list": "GET", "show": "GET", "create": "PUT", "set": "PATCH", "delete": "DELETE"}
    return methods[args.action], given if args.action in ("create", "set") else None


def _layout(text: str) -> object:
    """What is sent of ``--layout``: a name, or a file's document, which is checked here for the file's name to be told."""
    if text == "none":
        return None
    from gateway.errors import Unprocessable
    from gateway.givenfiles import read_given
    from gateway.wire.layouts import DOCUMENTS, parse
    from gateway.wire.strictjson import loads

    if text in DOCUMENTS:
        return text
    try:
        return dict(parse(loads(read_given(text))).document)
    except OSError as error:
        known = ", ".join(DOCUMENTS)
        raise ConfigError(
            f"--layout {text}: no built-in layout ({known}), and no file with one: {error.strerror}"
        ) from None
    except (ValueError, Unprocessable) as error:
        raise ConfigError(
            f"--layout {text}: it is no layout's JSON: {error}; docs/LAYOUTS.md has examples"
        ) from None


def _show(args: argparse.Namespace, answer: Mapping[str, Any]) -> None:
    if args.json:
        print(json.dumps(answer))
    elif args.action == "list":
        _table(answer["worlds"])
    else:
        for name, value in answer.items():
            print(f"{name:<12}{_layout_told(value) if name == 'layout' else _cell(value)}")


def _table(worlds: list[Mapping[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not worlds:
        print("no worlds yet; mvgateway publish WORLD makes one")
        return
    columns = (*COLUMNS, "error") if any("error" in world for world in worlds) else COLUMNS
    table = Table(box=None, header_style="bold")
    for column in columns:
        table.add_column(column, justify="left" if column in ("world", "error") else "right")
    for world in worlds:
        table.add_row(*(_cell(world.get(column)) for column in columns))
    Console().print(table)


def _layout_told(value: object) -> str:
    """A layout by its name and its fields' names; ``--json`` has all of it."""
    if not isinstance(value, Mapping) or not isinstance(value.get("fields"), list):
        return _cell(value)
    fields = [str(field.get("name")) for field in value["fields"] if isinstance(field, Mapping)]
    return f"{_cell(value.get('name'))}: {', '.join(fields)}"


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        if set(value) == {"epoch", "tick"}:
            return f"{value['epoch']}:{value['tick']}"
        return "  ".join(f"{name} {_cell(inner)}" for name, inner in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(_cell(inner) for inner in value) or "-"
    return "-" if value is None else str(value)
