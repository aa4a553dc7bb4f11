"""The demo's readers, in a process of their own at the far end of the link. Room: cli.

``python -m gateway.cli.demo.following`` takes what to follow as a line of JSON on its standard input (``url``, ``ca``, ``world``,
``readers`` by transport, ``far``: the namespace to be in, or null), connects, says ``{"connected": true}``, and tells every tenth of a
second how they fare, a line of JSON each. Lines after that: ``measure`` and ``rest`` (whether ages count), ``figures`` (the next
line has those of the whole time, too). It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from gateway.cli.demo.seen import percentiles
from gateway.client import ReceivedFrame, Subscriber
from gateway.client.connect import TransportChoice
from gateway.client.counts import EverySample
from gateway.errors import GatewayError
from gateway.limits import DEMO_LOOK_S
from gateway.wallclock import now_us

LOOKS_HZ = 60.0


def digest(records: Mapping[int, bytes]) -> str:
    """A state in a few letters: equal ones are equal."""
    return hashlib.sha256(repr(sorted(records.items())).encode()).hexdigest()[:16]


class ReaderGroup:
    """The readers of one transport, and how old what they show is: ``recent`` of the last second, ``every`` while measured."""

    def __init__(self, url: str, ca: str, world: str, transport: TransportChoice, count: int) -> None:
        self.readers: list[Subscriber] = []
        self._newest_us = [0] * count
        self.recent: deque[float] = deque(maxlen=int(LOOKS_HZ) * count)
        self.every = EverySample()
        for n in range(count):
            self.readers.append(
                Subscriber(url, world, transport=transport, ca=ca, on_message=self._seen_by(n))
            )

    def _seen_by(self, n: int) -> Callable[[ReceivedFrame], None]:
        def see(frame: ReceivedFrame) -> None:
            self._newest_us[n] = max(self._newest_us[n], frame.sent_at_us)

        return see

    def look(self, at_us: int, *, measured: bool) -> None:
        """Take the age of what each shows."""
        for newest in filter(None, self._newest_us):
            age_ms = (at_us - newest) / 1e3
            self.recent.append(age_ms)
            if measured:
                self.every.add(age_ms)

    def tell(self) -> dict[str, object]:
        """JSON-ready."""
        counts = [reader.counts for reader in self.readers]
        return {
            "connected": sum(reader.connected for reader in self.readers),
            "delivered": sum(c.ticks.seen for c in counts),
            "lost": sum(c.ticks.lost for c in counts),
            "age_ms": percentiles(list(self.recent)),
            "measured_ms": self.every.summary(),
        }


class Following:
    """All readers; :meth:`run` until standard input ends."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.groups = {
            name: ReaderGroup(settings["url"], settings["ca"], settings["world"], name, count)
            for name, count in settings["readers"].items()
        }
        self._measured = False
        self._figures_due = False

    @property
    def readers(self) -> list[Subscriber]:
        return [reader for group in self.groups.values() for reader in group.readers]

    async def run(self) -> None:
        """Connect, look and tell."""
        async with AsyncExitStack() as stack:
            for reader in self.readers:
                await stack.enter_async_context(reader)
            _say({"connected": True})
            looking = [asyncio.create_task(work) for work in (self._look(), self._tell())]
            try:
                await self._obey()
            finally:
                for task in looking:
                    task.cancel()

    async def _obey(self) -> None:
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            if line == "figures":
                self._figures_due = True
            else:
                self._measured = line == "measure"
                if self._measured:
                    for group in self.groups.values():
                        group.recent.clear()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(1 / LOOKS_HZ)
            now = now_us()
            for group in self.groups.values():
                group.look(now, measured=self._measured)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(DEMO_LOOK_S)
            told: dict[str, object] = {name: group.tell() for name, group in self.groups.items()}
            told["held"] = Counter(digest(reader.records()) for reader in self.readers)
            if self._figures_due:
                self._figures_due = False
                told["latency_ms"] = percentiles(
                    [ms for reader in self.readers for ms in reader.counts.latency.samples()]
                )
            _say(told)


def _say(told: Mapping[str, object]) -> None:
    print(json.dumps(told), flush=True)


def main() -> None:
    """Entry. Started before there is anything to follow, so that what takes long is imported meanwhile."""
    import uvloop

    line = sys.stdin.readline()
    if not line:
        return
    settings = json.loads(line)
    if settings["far"] is not None:
        from gateway.link.namespaces import enter

        enter(settings["far"])
    try:
        uvloop.run(Following(settings).run())
    except GatewayError as error:
        _say({"error": error.message})


if __name__ == "__main__":
    main()
