"""The load generators: publishers that keep their rate whatever happens, readers that weigh age by time.

Room: bench. ``python -m bench.load publish|read|ingest JSON``: connects, prints ``ready``, waits for a line
on standard input, runs, prints one JSON line. The JSON's fields: ``door``, ``target``, ``seconds``,
``warmup_s``, ``records``; for ``publish`` also ``hz``; for ``read`` also ``readers``; for ``ingest``
``hz`` and ``publishers``.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import uvloop

from bench.ages import AgeHistogram
from bench.doors import door
from bench.payload import ReaderAges, messages, still_messages
from gateway.wire import Control, decode_message

BUSY_SHARE = 0.9
"""A generator that used more than this share of a core was the bottleneck itself."""


def now_us() -> int:
    """The clock that sender and reader share: one machine, so one clock."""
    return time.time_ns() // 1000


async def _wait_for_go() -> None:
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)


async def publish(settings: dict[str, Any]) -> dict[str, Any]:
    """One publisher at ``hz``; a tick that is late is sent at once, and counted."""
    send, close = await door(settings["door"]).publisher(settings["target"])
    await _wait_for_go()
    cpu = time.process_time()
    started = time.monotonic()
    total = int((settings["warmup_s"] + settings["seconds"]) * settings["hz"])
    late = 0
    if settings.get("still"):
        send(still_messages(settings["records"] + 1, settings["still"]))
    for tick in range(1, total + 1):
        send(messages(tick, settings["records"], now_us()))
        ahead = started + tick / settings["hz"] - time.monotonic()
        late += ahead < 0
        await asyncio.sleep(max(0.0, ahead))
    took = time.monotonic() - started
    share = (time.process_time() - cpu) / took
    await close()
    return {"frames": total, "late": late, "cpu_share": share, "seconds": took}


class _Lag:
    """How long after its sending a frame was durable, from the ``durable`` notices of one publisher."""

    def __init__(self) -> None:
        self._sent_us: dict[int, int] = {}
        self.lags_ms: list[float] = []

    def sent(self, tick: int, at_us: int) -> None:
        self._sent_us[tick] = at_us

    def take(self, message: bytes) -> None:
        control = decode_message(message)
        if not isinstance(control, Control) or control.type != "durable":
            return
        at_us = self._sent_us.get(control["tick"])
        if at_us is not None:
            self.lags_ms.append((now_us() - at_us) / 1000)
        for tick in [t for t in self._sent_us if t <= control["tick"]]:
            del self._sent_us[tick]


async def ingest(settings: dict[str, Any]) -> dict[str, Any]:
    """``publishers`` game servers, each with a world of its own, their ticks spread evenly."""
    way = door(settings["door"])
    lags = [_Lag() for _ in range(settings["publishers"])]
    opened = []
    for number, lag in enumerate(lags):
        target = {**settings["target"], "world": f"{settings['target']['world']}-{number}"}
        opened.append(await way.publisher(target, lag.take))
    await _wait_for_go()
    cpu, started = time.process_time(), time.monotonic()
    ticks = int((settings["warmup_s"] + settings["seconds"]) * settings["hz"])
    late = sent = 0
    for tick in range(1, ticks + 1):
        for number, ((send, _), lag) in enumerate(zip(opened, lags, strict=True)):
            at_us = now_us()
            frame = messages(tick, settings["records"], at_us)
            send(frame)
            sent += len(frame)
            lag.sent(tick, at_us)
            ahead = started + (tick - 1 + (number + 1) / len(opened)) / settings["hz"] - time.monotonic()
            late += ahead < 0
            if ahead > 0.0005:
                await asyncio.sleep(ahead)
            elif number % 16 == 0:
                await asyncio.sleep(0)
    took = time.monotonic() - started
    share = (time.process_time() - cpu) / took
    await asyncio.sleep(settings["warmup_s"])
    await asyncio.gather(*(close() for _, close in opened), return_exceptions=True)
    all_lags = [ms for lag in lags for ms in lag.lags_ms]
    return {
        "frames": ticks * len(opened),
        "messages": sent,
        "late": late,
        "lags_ms": all_lags,
        "cpu_share": share,
        "seconds": took,
    }


async def read(settings: dict[str, Any]) -> dict[str, Any]:
    """``readers`` readers; what came in the warm-up is not counted."""
    ages = [ReaderAges(settings["records"]) for _ in range(settings["readers"])]
    renewed = [0] * len(ages)

    def taker(index: int) -> Any:
        def take(message: bytes) -> None:
            renewed[index] += ages[index].take(message, now_us())

        return take

    way = door(settings["door"])
    locals_ = settings.get("locals")
    targets = [{**settings["target"], **({"local": locals_[n]} if locals_ else {})} for n in range(len(ages))]
    closers = [await way.subscribe(target, taker(n)) for n, target in enumerate(targets)]
    await _wait_for_go()
    await asyncio.sleep(settings["warmup_s"])
    for index, reader in enumerate(ages):
        reader.restart()
        renewed[index] = 0
    cpu, started = time.process_time(), time.monotonic()
    await asyncio.sleep(settings["seconds"])
    took = time.monotonic() - started
    share = (time.process_time() - cpu) / took
    histogram = AgeHistogram()
    for reader in ages:
        reader.finish(now_us())
        histogram.merge(reader.histogram)
    answer = {
        "histogram": histogram.dump(),
        "messages": sum(r.messages for r in ages),
        "bytes": sum(r.bytes for r in ages),
        "records_renewed": sum(renewed),
        "frames_seen": sum(renewed) / settings["records"],
        "cpu_share": share,
        "seconds": took,
    }
    await asyncio.gather(*(close() for close in closers), return_exceptions=True)
    return answer


def main() -> None:
    """Entry."""
    role = {"publish": publish, "read": read, "ingest": ingest}[sys.argv[1]]
    print(json.dumps(uvloop.run(role(json.loads(sys.argv[2])))), flush=True)


if __name__ == "__main__":
    main()
