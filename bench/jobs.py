"""The talk between a scenario and its load generators, on the generators' side. Room: bench.

``python -m MODULE ROLE JSON`` does one job and ends; ``python -m MODULE serve`` takes jobs as lines of JSON
(``role``, ``settings``) for as long as its standard input is open, so that starting Python is paid once. A job prints
``ready`` when it is connected, waits for the line ``go``, and answers with one line of JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import uvloop

Role = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


def say(line: str) -> None:
    """One whole line, also where stdout is unbuffered."""
    with open(sys.stdout.fileno(), "w", closefd=False) as out:
        out.write(line + "\n")


async def hear() -> str:
    """The next line of standard input; empty at its end."""
    return await asyncio.to_thread(sys.stdin.readline)


async def wait_for_go() -> None:
    """Say that everything is connected, and wait for the start."""
    say("ready")
    await hear()


def main(roles: Mapping[str, Role]) -> None:
    """Entry of a load generator."""
    if sys.argv[1] != "serve":
        say(json.dumps(uvloop.run(_awaited(roles[sys.argv[1]], json.loads(sys.argv[2])))))
        return
    for line in iter(sys.stdin.readline, ""):
        job = json.loads(line)
        say(json.dumps(_answered(roles[job["role"]], job["settings"])))
        gc.collect()


async def _awaited(role: Role, settings: dict[str, Any]) -> dict[str, Any]:
    return await role(settings)


def _answered(role: Role, settings: dict[str, Any]) -> dict[str, Any]:
    try:
        return uvloop.run(_awaited(role, settings))
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
