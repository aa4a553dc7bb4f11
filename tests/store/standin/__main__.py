"""``python -m tests.store.standin --path DIR``: the stand-in as a process, until SIGTERM or kill -9."""

from __future__ import annotations

import argparse
import asyncio
import signal

from tests.store.standin.rules import Knobs
from tests.store.standin.server import serving


def _range(text: str) -> tuple[float, float]:
    low, _, high = text.partition(":")
    return float(low), float(high or low)


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.store.standin", description=__doc__)
    parser.add_argument("--path", required=True, metavar="DIR", help="folder of the pages")
    parser.add_argument("--port", type=int, action="append", default=[], help="data planes, then admin APIs")
    parser.add_argument("--planes", type=int, default=1, help="data planes, each with its own name cache")
    parser.add_argument("--admins", type=int, default=1, help="admin APIs")
    parser.add_argument("--commit-ms", type=_range, default=(3.0, 12.0), metavar="LOW:HIGH")
    parser.add_argument("--collect-s", type=float, default=0.0, help="how long a collection takes at least")
    parser.add_argument("--auto-create-namespace", action="store_true")
    parser.add_argument("--seed", type=int, default=0, help="of the random latency")
    return parser.parse_args()


async def _serve(args: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    knobs = Knobs(args.commit_ms, args.auto_create_namespace, args.collect_s, seed=args.seed)
    async with serving(
        args.path, knobs, planes=args.planes, admins=args.admins, ports=tuple(args.port)
    ) as served:
        print(f"data {served.url}", f"admin {served.admin_url}", "ready", sep="\n", flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(_serve(_parsed()))
