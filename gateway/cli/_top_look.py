"""One look at one gateway, and what two of them say: numbers, rates and shares. Room: cli. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.cli._exposition import ScrapedSample

KEPT: Final = frozenset(
    {
        "mvgateway_uptime_seconds",
        "mvgateway_process_cpu_seconds_total",
        "mvgateway_process_resident_bytes",
        "mvgateway_event_loop_lag_seconds_sum",
        "mvgateway_event_loop_lag_seconds_count",
        "mvgateway_world_readers",
        "mvgateway_world_home",
        "mvgateway_world_waiting_seconds",
        "mvgateway_world_events_total",
    }
)
"""The metrics that are looked at; the others are let go at once."""

Numbers = dict[tuple[str, str], float]
"""By metric and worker."""


@dataclass(slots=True)
class WorldNumbers:
    """Of one world at one gateway, all workers together."""

    readers: float = 0.0
    waiting_s: float = 0.0
    is_home: bool = False
    delivered: float = 0.0
    lost: float = 0.0


@dataclass(slots=True)
class Look:
    """What a gateway told at ``at`` (seconds of a clock that only rises). ``worlds``: as ``GET /v1/worlds`` lists them;
    ``no_metrics``: why ``/metrics`` told nothing."""

    at: float
    health: Mapping[str, object]
    worlds: Mapping[str, Mapping[str, object]]
    processes: Numbers = field(default_factory=dict)
    told: dict[str, WorldNumbers] = field(default_factory=lambda: defaultdict(WorldNumbers))
    no_metrics: str | None = None

    @property
    def instance(self) -> str | None:
        """What tells gateways apart, whatever URL they are asked at; None: an older one does not say."""
        name = self.health.get("instance")
        return name if isinstance(name, str) else None

    @property
    def node(self) -> str | None:
        """The URL at which others reach it, and under which it is the home of worlds; None as above."""
        url = self.health.get("node")
        return url.rstrip("/") if isinstance(url, str) else None

    def add(self, metrics: Iterable[ScrapedSample]) -> None:
        """Keep what is looked at."""
        for name, labels, value in metrics:
            if name not in KEPT:
                continue
            if "world" in labels:
                self._take_world(self.told[labels["world"]], name, labels, value)
            else:
                self.processes[name, labels.get("worker", "")] = value

    @staticmethod
    def _take_world(world: WorldNumbers, name: str, labels: Mapping[str, str], value: float) -> None:
        if name == "mvgateway_world_readers":
            world.readers += value
        elif name == "mvgateway_world_home":
            world.is_home = world.is_home or value > 0
        elif name == "mvgateway_world_waiting_seconds":
            world.waiting_s = max(world.waiting_s, value)
        elif labels.get("what") == "delivered":
            world.delivered += value
        elif labels.get("what") == "lost":
            world.lost += value

    def workers(self) -> list[str]:
        """Their numbers; of one that is one process: the empty word."""
        found = {worker for name, worker in self.processes if name == "mvgateway_uptime_seconds"}
        return sorted(found, key=lambda worker: (len(worker), worker))


def process_row(now: Look, before: Look | None, worker: str) -> dict[str, object]:
    """Of one process: since when, CPU, memory, and how late its event loop came."""

    def of(look: Look, name: str) -> float | None:
        return look.processes.get((f"mvgateway_{name}", worker))

    def rise(name: str) -> float | None:
        after, earlier = of(now, name), None if before is None else of(before, name)
        # Fewer than before: the process was started anew in between.
        return None if after is None or earlier is None or after < earlier else after - earlier

    cpu_s, lag_s, looks = (rise(f"{name}") for name in (
        "process_cpu_seconds_total", "event_loop_lag_seconds_sum", "event_loop_lag_seconds_count"
    ))  # fmt: skip
    passed_s = 0.0 if before is None else now.at - before.at
    resident = of(now, "process_resident_bytes")
    return {
        "uptime_s": _rounded(of(now, "uptime_seconds"), 0),
        "cpu_percent": None if cpu_s is None or passed_s <= 0 else round(100 * cpu_s / passed_s, 1),
        "resident_bytes": None if resident is None else int(resident),
        "loop_lag_ms": None if lag_s is None or not looks else round(1_000 * lag_s / looks, 2),
    }


def gateway_row(now: Look, before: Look | None) -> dict[str, object]:
    """Of one gateway: its processes together, and by themselves under ``workers`` where there are several."""
    rows = {worker: process_row(now, before, worker) for worker in now.workers()}
    told = now.told.values()
    together: dict[str, object] = {
        "uptime_s": _most(rows, "uptime_s"),
        "cpu_percent": _sum(rows, "cpu_percent"),
        "resident_bytes": _sum(rows, "resident_bytes"),
        "loop_lag_ms": _most(rows, "loop_lag_ms"),
        "readers": _readers(now),
        "worlds": sum(world.get("open") is True for world in now.worlds.values()),
        "homes": sum(world.is_home for world in told) if now.no_metrics is None else None,
        "loss_percent": loss_percent(told, None if before is None else before.told.values()),
        "status": now.health.get("status"),
        "store": now.health.get("store"),
        "version": now.health.get("version"),
    }
    if now.no_metrics is not None:
        together["no_metrics"] = now.no_metrics
    if "workers" in now.health:
        together["workers"] = [{"worker": int(worker), **row} for worker, row in rows.items() if worker]
        together["workers_wanted"] = _wanted(now.health["workers"])
    return together


def loss_percent(now: Iterable[WorldNumbers], before: Iterable[WorldNumbers] | None) -> float | None:
    """Of the messages whose fate became known between two looks, how many were lost; None: of none."""
    if before is None:
        return None
    delivered, lost = _fates(now)
    delivered_before, lost_before = _fates(before)
    known = delivered - delivered_before + lost - lost_before
    if known <= 0 or lost < lost_before:
        return None
    return round(100 * (lost - lost_before) / known, 2)


def _fates(worlds: Iterable[WorldNumbers]) -> tuple[float, float]:
    all_worlds = list(worlds)
    return sum(w.delivered for w in all_worlds), sum(w.lost for w in all_worlds)


def _readers(now: Look) -> int:
    if now.no_metrics is None:
        return int(sum(world.readers for world in now.told.values()))
    return sum(whole(world.get("readers")) for world in now.worlds.values())


def _wanted(workers: object) -> int:
    return whole(workers.get("wanted")) if isinstance(workers, Mapping) else 0


def whole(value: object) -> int:
    """A count that somebody else told, or 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _numbers(rows: Mapping[str, Mapping[str, object]], name: str) -> list[float]:
    return [value for row in rows.values() if isinstance(value := row[name], int | float)]


def _sum(rows: Mapping[str, Mapping[str, object]], name: str) -> float | None:
    found = _numbers(rows, name)
    return round(sum(found), 1) if found else None


def _most(rows: Mapping[str, Mapping[str, object]], name: str) -> float | None:
    return max(_numbers(rows, name), default=None)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
