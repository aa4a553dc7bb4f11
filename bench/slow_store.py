"""``mvgateway store`` in which every commit takes so much longer: a store on other machines. Room: bench.

``python -m bench.slow_store --path FOLDER --data-plane 127.0.0.1:7000 --admin-api 127.0.0.1:7001 --delay 5``: milliseconds,
or a range as 3:12, of which each commit takes any.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from typing import Any, cast

from gateway.cli import _store_server
from gateway.cli.store import add_arguments
from gateway.store.base import CommitRequest, Committed, Store
from gateway.store.embedded import EmbeddedStore


class SlowStore:
    """Everything as ``inner`` does it, but a commit waits before it begins."""

    def __init__(self, inner: EmbeddedStore, low_ms: float, high_ms: float, dice: random.Random) -> None:
        self._inner = inner
        self._low_ms, self._high_ms, self._dice = low_ms, high_ms, dice

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def commit(self, request: CommitRequest) -> Committed:
        """As the inner store's, later."""
        await asyncio.sleep(self._dice.uniform(self._low_ms, self._high_ms) / 1e3)
        return await self._inner.commit(request)


def delay(text: str) -> tuple[float, float]:
    """``5`` or ``3:12``."""
    low, _, high = text.partition(":")
    return float(low), float(high or low)


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m bench.slow_store", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--delay", type=delay, default=(5.0, 5.0), metavar="MS[:MS]")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    (low_ms, high_ms), dice = args.delay, random.Random(args.seed)

    def opened(path: str) -> Store:
        return cast(Store, SlowStore(EmbeddedStore.open(path), low_ms, high_ms, dice))

    return _store_server.run(args, open_folder=opened)


if __name__ == "__main__":
    sys.exit(main())
