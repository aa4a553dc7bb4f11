"""What a reader counts: ticks that came and did not, repairs, late records, the age of the state.

Room: client. Pure: time comes in as an argument.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from gateway import limits


class Ticks:
    """How many ticks of an epoch came, and how many did not, however they were ordered."""

    def __init__(self) -> None:
        self.epoch = 0
        self.newest = 0
        self.seen = 0
        self._expected_before = 0
        self._first: int | None = None
        self._window = 0

    @property
    def lost(self) -> int:
        """Ticks since the last resync, between the first and the newest, of which no message came; and
        those before it."""
        return self._expected_before + self._expected() - self.seen

    def see(self, epoch: int, tick: int) -> None:
        """Count a message of this (epoch, tick); one of an earlier epoch counts for nothing."""
        if self._first is None or epoch > self.epoch:
            self._begin(epoch, tick)
        elif epoch < self.epoch or tick < self._first:
            return
        ahead = tick - self.newest
        if ahead > 0:
            self._window = (
                # A bit for each of the newest ticks: a tick of several messages counts once, in whatever
                # order they come.
                ((self._window << ahead) | 1) & ((1 << limits.CLIENT_COUNTED_TICKS) - 1)
                if ahead < limits.CLIENT_COUNTED_TICKS
                else 1
            )
            self.newest = tick
            self.seen += 1
        elif -ahead < limits.CLIENT_COUNTED_TICKS and not self._window >> -ahead & 1:
            self._window |= 1 << -ahead
            self.seen += 1

    def restart(self) -> None:
        """The gateway brings this reader up to date with a keyframe and repairs: what it skips by
        that is not lost. Counting goes on with the next live frame."""
        self._expected_before += self._expected()
        self._first = None

    def _begin(self, epoch: int, tick: int) -> None:
        self._expected_before += self._expected()
        self.epoch, self._first, self.newest, self._window = epoch, tick, tick - 1, 0

    def _expected(self) -> int:
        return 0 if self._first is None else self.newest - self._first + 1


class Latencies:
    """The newest samples of a duration in milliseconds, and their percentiles."""

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=limits.CLIENT_LATENCIES_MAX)

    def __len__(self) -> int:
        return len(self._samples)

    def add(self, milliseconds: float) -> None:
        self._samples.append(milliseconds)

    def percentile(self, percent: float) -> float | None:
        """The sample below which ``percent`` of them lie (nearest rank); None without samples."""
        return percentile(self._samples, percent)

    def summary(self) -> dict[str, float | None]:
        """``{p50, p99}`` in milliseconds, rounded to a microsecond."""
        return {name: _rounded(self.percentile(percent)) for name, percent in (("p50", 50), ("p99", 99))}

    def samples(self) -> list[float]:
        return list(self._samples)


class ClockOffset:
    """One-way times between two clocks that need not agree. A time below zero or over a minute is taken for
    a step of either clock: from then on times are told from there."""

    def __init__(self) -> None:
        self.ms = 0.0
        """What is taken off: 0 while the clocks agree as far as can be seen."""

    def corrected_ms(self, raw_ms: float) -> float:
        """The time without what the clocks differ by."""
        # Clocks of two machines may differ by hours; what counts is how the times change from there.
        if not 0 <= raw_ms - self.ms <= limits.CLIENT_LATENCY_MS_MAX:
            self.ms = 0.0 if 0 <= raw_ms <= limits.CLIENT_LATENCY_MS_MAX else raw_ms
        return raw_ms - self.ms


class EverySample:
    """All samples of a quantity ever, to three significant digits, and their percentiles: a bad minute of a
    long day is still in them."""

    def __init__(self) -> None:
        self._counts: Counter[float] = Counter()

    def __len__(self) -> int:
        return self._counts.total()

    def add(self, value: float) -> None:
        # To three digits there are some thousands of values, however long the day is.
        self._counts[float(f"{max(value, 0.0):.3g}")] += 1

    def merge(self, other: EverySample) -> None:
        """Take the other's samples, too."""
        self._counts.update(other._counts)

    def percentile(self, percent: float) -> float | None:
        """As :meth:`Latencies.percentile`."""
        rank, seen = max(1, -(-len(self) * percent // 100)), 0
        for value in sorted(self._counts):
            seen += self._counts[value]
            if seen >= rank:
                return value
        return None

    def summary(self) -> dict[str, float | None]:
        """``{p50, p99}``."""
        return {"p50": self.percentile(50), "p99": self.percentile(99)}


def percentile(samples: deque[float] | list[float], percent: float) -> float | None:
    """Nearest-rank percentile of ``samples``; None if there are none."""
    if not samples:
        return None
    ordered = sorted(samples)
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


@dataclass(slots=True)
class ReaderCounts:
    """Everything that a subscriber counts. ``latency``: publisher's clock to here, in milliseconds, without
    ``clock``, what the two differ by."""

    messages: int = 0
    bytes: int = 0
    keyframes: int = 0
    resyncs: int = 0
    repaired_records: int = 0
    late_messages: int = 0
    repeated_messages: int = 0
    rebuilt_messages: int = 0
    malformed: int = 0
    dropped_frames: int = 0
    connects: int = 0
    ticks: Ticks = field(default_factory=Ticks)
    latency: Latencies = field(default_factory=Latencies)
    clock: ClockOffset = field(default_factory=ClockOffset)

    def as_json(self) -> dict[str, object]:
        """JSON-ready, one level deep but for ``latency_ms``."""
        return {
            "ticks": self.ticks.seen,
            "lost": self.ticks.lost,
            "repaired": self.repaired_records,
            "late": self.late_messages,
            "repeated": self.repeated_messages,
            "rebuilt": self.rebuilt_messages,
            "messages": self.messages,
            "bytes": self.bytes,
            "keyframes": self.keyframes,
            "resyncs": self.resyncs,
            "malformed": self.malformed,
            "dropped_frames": self.dropped_frames,
            "connects": self.connects,
            "latency_ms": self.latency.summary(),
            "clock_offset_ms": round(self.clock.ms, 1),
        }
