"""``python -m tests.store.standin.cost [--seconds 120] [--hz 60]``: what the upkeep of one world asks of mvstore.

A world is written to for so long, and then left alone for two hours, on the stand-in's clock. Told is how many page
versions and contents truncations and collections had to look at: as the gateway asks, and as one that asks for
both every five seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path
from typing import Any

from gateway.core.state import WorldState
from gateway.store.world import Retention, WorldDatabase
from gateway.store.world.maintenance import Upkeep, Written, discard_before
from tests.store.recording import START_US, Recorder
from tests.store.standin.elsewhere import Elsewhere
from tests.store.standin.rules import Knobs

IDLE_S = 7_200
RETENTION = Retention("ring", 60)


class Run:
    """One world over one stand-in, tidied up every five seconds in the way of ``always``."""

    def __init__(self, store: Elsewhere, *, always: bool) -> None:
        self.store, self.always = store, always
        self.written = Written()
        self.upkeep = Upkeep(store, "w", self.written)  # type: ignore[arg-type]

    async def tidy(self) -> None:
        """Five seconds later."""
        await self.store.advance(5.0)
        now_s = int(self.store.served.standin.clock())
        if not self.always:
            await self.upkeep.run(RETENTION, now_s)
            return
        after = (await self.store.time2version(now_s - 5)).after
        if after is not None:
            await discard_before(self.store, "w", after.version)  # type: ignore[arg-type]

    def told(self) -> str:
        """The counts so far."""
        counts: Any = self.store.served.standin.counts
        return (
            f"{self.written.pages:>8} page versions written, {counts.truncations:>5} truncations, "
            f"{counts.collections:>5} collections, {counts.rows_scanned:>9} rows looked at"
        )


async def measure(always: bool, seconds: int, hz: int) -> None:
    """One run, told."""
    with tempfile.TemporaryDirectory() as folder:
        store = Elsewhere(Path(folder), Knobs()).start()
        run = Run(store, always=always)
        world, _ = await asyncio.to_thread(
            lambda: WorldDatabase.create(
                store.blocking(), "w", make_state=WorldState, now_us=START_US, retention=RETENTION
            )
        )
        world.database.pages.on_committed = run.written.committed
        recorder = Recorder(hz=hz)
        for _ in range(seconds // 5):
            for batch in recorder.batches(5 * hz):
                await asyncio.to_thread(world.append, batch)
            await run.tidy()
        print(f"{'every 5 s' if always else 'as asked':>10}, {seconds} s written: {run.told()}", flush=True)
        for _ in range(IDLE_S // 5):
            await run.tidy()
        print(f"{'':>10}  {IDLE_S} s idle more: {run.told()}", flush=True)
        await asyncio.to_thread(world.close)
        await store.aclose()


def main() -> None:
    """Both ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--hz", type=int, default=60)
    args = parser.parse_args()
    for always in (False, True):
        asyncio.run(measure(always, args.seconds, args.hz))


if __name__ == "__main__":
    main()
