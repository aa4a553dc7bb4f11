"""The demo's figures: what was sent, what the kill cost, what readers saw. Room: cli."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gateway.client.counts import EverySample, percentile

if TYPE_CHECKING:
    from gateway.client import Publisher
    from gateway.core.ports import Mark


@dataclass(slots=True)
class Crash:
    """What the kill cost. ``durable_tick``: the last that the publisher had heard to be stored."""

    last_sent_tick: int
    durable_tick: int
    recovered_tick: int
    recovered_equal: bool
    away_s: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "last_sent_tick": self.last_sent_tick,
            "durable_tick": self.durable_tick,
            "recovered_tick": self.recovered_tick,
            "recovered_equal": self.recovered_equal,
        }


@dataclass(slots=True)
class Sent:
    """What was sent, tick by tick, and how late the store confirmed it."""

    frames: int = 0
    motion_tick: int = 0
    states: dict[Mark, dict[int, bytes]] = field(default_factory=dict)
    durable_lag_ms: EverySample = field(default_factory=EverySample)
    durable_lag_ticks: EverySample = field(default_factory=EverySample)

    def close(self, publisher: Publisher) -> None:
        """A publisher's run is over: keep its figures, of every frame."""
        ms, ticks = publisher.lags()
        self.durable_lag_ms.merge(ms)
        self.durable_lag_ticks.merge(ticks)


@dataclass(slots=True)
class Seen:
    """Everything, at the end. ``figures``: the readers' of the whole time; ``agree``: all hold the publisher's state."""

    sent: Sent
    crash: Crash
    figures: dict[str, Any]
    agree: bool
    way: str
    readers: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "frames_sent": self.sent.frames,
            "delivered": {name: self.figures[name]["delivered"] for name in self.readers},
            "latency_ms": self.figures["latency_ms"],
            "durable_lag_ms": self.sent.durable_lag_ms.summary(),
            "crash": self.crash.as_json(),
        }

    def age_ms(self, transport: str, which: str = "p99") -> float:
        """How old what the transport's readers showed was, while it was measured."""
        return float(self.figures[transport]["measured_ms"][which] or 0.0)


def percentiles(samples: list[float]) -> dict[str, float | None]:
    """``{p50, p99}``, rounded to thousandths."""
    found = {name: percentile(samples, percent) for name, percent in (("p50", 50), ("p99", 99))}
    return {name: None if value is None else round(value, 3) for name, value in found.items()}
