"""The load generators: publishers that keep their rate whatever happens, readers that weigh age by time.

Room: bench. Started as :mod:`bench.jobs` tells, as ``bench.load``. Fields of a job: ``door``, ``target``, ``seconds``,
``warmup_s``, ``records``; for ``publish`` also ``hz``, and ``steady`` to go on until another line comes; for ``read``
also ``readers``, ``lean``, and ``windows``: so many answers, one for each ``go``, the warm-up before the first;
for ``ingest`` ``hz`` and ``publishers``; for ``join`` ``readers``.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.doors import Close, Send, door, lean_door
from bench.jobs import hear, main, say, wait_for_go
from bench.lean import LeanAges, LeanPool, Samples
from bench.payload import messages, parse, still_messages
from gateway.wire import Control, decode_message

BUSY_SHARE = 0.9
"""A generator that used more than this share of a core was the bottleneck itself."""


STEADY_TICKS = 1_000_000
"""Four and a half hours at 60 Hz: a steady publisher whose scenario died ends by itself."""
CONNECT_AT_ONCE = 16
"""Readers that shake hands at one time."""
JOIN_PAUSE_S = 0.05
"""From one that has joined to the next, at no fixed place in a second: groups of a second begin at one."""
JOIN_S_MAX = 10.0


def now_us() -> int:
    """The clock that sender and reader share: one machine, so one clock."""
    return time.time_ns() // 1000


async def publish(settings: dict[str, Any]) -> dict[str, Any]:
    """One publisher at ``hz``; a tick that is late is sent at once, and counted."""
    send, close = await door(settings["door"]).publisher(settings["target"])
    await wait_for_go()
    stopped = asyncio.ensure_future(hear()) if settings.get("steady") else None
    cpu = time.process_time()
    started = time.monotonic()
    total = STEADY_TICKS if stopped else int((settings["warmup_s"] + settings["seconds"]) * settings["hz"])
    late = tick = 0
    if settings.get("still"):
        send(still_messages(settings["records"] + 1, settings["still"]))
    while tick < total and not (stopped and stopped.done()):
        tick += 1
        send(messages(tick, settings["records"], now_us()))
        ahead = started + tick / settings["hz"] - time.monotonic()
        late += ahead < 0
        await asyncio.sleep(max(0.0, ahead))
    took = time.monotonic() - started
    share = (time.process_time() - cpu) / took
    await close()
    return {"frames": tick, "late": late, "cpu_share": share, "seconds": took}


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
    """``publishers`` game servers, each with a world of its own, their ticks spread evenly.

    All send the same bytes at one tick, so that making them is not what is measured. Where the load can't keep
    up it ends on time all the same, with fewer frames.
    """
    way = door(settings["door"])
    lags = [_Lag() for _ in range(settings["publishers"])]
    turn = asyncio.Semaphore(CONNECT_AT_ONCE)

    async def one(number: int, lag: _Lag) -> tuple[Send, Close]:
        target = {**settings["target"], "world": f"{settings['target']['world']}-{number}"}
        async with turn:
            return await way.publisher(target, lag.take)

    opened = await asyncio.gather(*(one(number, lag) for number, lag in enumerate(lags)))
    await wait_for_go()
    cpu, started = time.process_time(), time.monotonic()
    wanted_s = settings["warmup_s"] + settings["seconds"]
    late = sent = frames = tick = 0
    while tick < int(wanted_s * settings["hz"]) and time.monotonic() - started < wanted_s:
        tick += 1
        frame = messages(tick, settings["records"], now_us())
        for number, ((send, _), lag) in enumerate(zip(opened, lags, strict=True)):
            send(frame)
            frames += 1
            sent += len(frame)
            lag.sent(tick, now_us())
            ahead = started + (tick - 1 + (number + 1) / len(opened)) / settings["hz"] - time.monotonic()
            late += ahead < 0
            if ahead > 0.0005:
                await asyncio.sleep(ahead)
            elif number % 16 == 0:
                await asyncio.sleep(0)
    took = time.monotonic() - started
    share = (time.process_time() - cpu) / took
    # The last ticks have no commit after them: they are told when a notice is due again, not when they are down.
    all_lags = [ms for lag in lags for ms in lag.lags_ms]
    await asyncio.sleep(settings["warmup_s"])
    await asyncio.gather(*(close() for _, close in opened), return_exceptions=True)
    return {
        "frames": frames,
        "messages": sent,
        "late": late,
        "lags_ms": all_lags,
        "cpu_share": share,
        "seconds": took,
    }


async def _connected(settings: dict[str, Any], ages: list[LeanAges]) -> Callable[[], Awaitable[Any]]:
    """Every reader, some at a time; answers what closes them."""
    locals_ = settings.get("locals")
    targets = [{**settings["target"], **({"local": locals_[n]} if locals_ else {})} for n in range(len(ages))]
    if settings.get("lean"):
        pool, lean = LeanPool(), lean_door(settings["door"])
        await asyncio.gather(
            *(lean.subscribe_lean(pool, t, a.take) for t, a in zip(targets, ages, strict=True))
        )
        return pool.close
    way, turn = door(settings["door"]), asyncio.Semaphore(CONNECT_AT_ONCE)

    async def one(target: dict[str, Any], reader: LeanAges) -> Close:
        def take(message: bytes) -> None:
            reader.take(message, 0, len(message), now_us())

        async with turn:
            return await way.subscribe(target, take)

    closers = await asyncio.gather(*(one(t, a) for t, a in zip(targets, ages, strict=True)))

    async def close() -> None:
        await asyncio.gather(*(each() for each in closers), return_exceptions=True)

    return close


async def read(settings: dict[str, Any]) -> dict[str, Any]:
    """``readers`` readers; what came in the warm-up is not counted."""
    samples = Samples()
    ages = [LeanAges(settings["records"], samples) for _ in range(settings["readers"])]
    close = await _connected(settings, ages)
    try:
        await wait_for_go()
        await asyncio.sleep(settings["warmup_s"])
        for _ in range(settings.get("windows", 1) - 1):
            say(json.dumps(await _window(settings, samples, ages)))
            await hear()
        return await _window(settings, samples, ages)
    finally:
        await close()


async def _window(settings: dict[str, Any], samples: Samples, ages: list[LeanAges]) -> dict[str, Any]:
    """Measure for ``seconds``, from now on."""
    samples.restart()
    for reader in ages:
        reader.restart()
    cpu, started = time.process_time(), time.monotonic()
    await asyncio.sleep(settings["seconds"])
    took = time.monotonic() - started
    share = (time.process_time() - cpu) / took
    renewed = sum(r.renewed for r in ages)
    counted = {"messages": sum(r.messages for r in ages), "bytes": sum(r.bytes for r in ages)}
    for reader in ages:
        reader.finish(now_us())
    return {
        **counted,
        "histogram": samples.weigh().dump(),
        "records_renewed": renewed,
        "frames_seen": renewed / settings["records"],
        "frames_seen_in_all": sum(r.renewed_in_all for r in ages) / settings["records"],
        "cpu_share": share,
        "seconds": took,
    }


async def join(settings: dict[str, Any]) -> dict[str, Any]:
    """``readers`` join a world that goes on, one after the other, each by a connection of its own, until it has every
    record. Times from the beginning of the handshake, this client's own work included."""
    way, times = door(settings["door"]), []
    await wait_for_go()
    for _ in range(settings["readers"]):
        times.append(await _joined(way, settings))
        await asyncio.sleep(JOIN_PAUSE_S)
    times.sort()
    return {"join_p50_ms": times[len(times) // 2], "join_max_ms": times[-1]}


async def _joined(way: Any, settings: dict[str, Any]) -> float:
    seen: set[int] = set()
    is_whole = asyncio.Event()

    def take(message: bytes) -> None:
        records = parse(message)
        if records is not None:
            seen.update(records["key"].tolist())
            if len(seen) >= settings["records"]:
                is_whole.set()

    began = time.perf_counter()
    close = await way.subscribe(settings["target"], take)
    try:
        async with asyncio.timeout(JOIN_S_MAX):
            await is_whole.wait()
        return (time.perf_counter() - began) * 1e3
    finally:
        await close()


if __name__ == "__main__":
    main({"publish": publish, "read": read, "ingest": ingest, "join": join})
