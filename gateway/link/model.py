"""What one direction of a link does to packets: pure rules, seeded, no sockets and no clocks.

Room: link. Pure. Times are float seconds of a monotonic clock handed in by the caller; sizes are
bytes of whole IP packets. The order of effects is that of a real path: loss, then the bottleneck's
queue and rate, then propagation delay with jitter, then reordering.
Source of the burst model: Gilbert (1960), Elliott (1963), as in tc-netem(8) ``loss gemodel``.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass

from gateway import limits


@dataclass(frozen=True, slots=True)
class GilbertElliott:
    """Bursty loss: a good and a bad state. ``enter``/``leave``: chance per step to go bad/good;
    ``bad_loss``: chance that a packet in the bad state is lost. Mean burst: 1 / leave steps.

    A step is a packet (as in netem), or ``slot_ms`` of time: a fade passes whether or not anybody sends,
    and a sender that waits for its time-out is not kept in the bad state by its own silence.
    """

    enter: float
    leave: float
    bad_loss: float = 1.0
    slot_ms: float = 0.0

    @property
    def mean_loss(self) -> float:
        """The long-run share of packets lost, 0 to 1."""
        return self.bad_loss * self.enter / (self.enter + self.leave)

    @classmethod
    def of_mean(cls, loss: float, burst_steps: float, slot_ms: float = 0.0) -> GilbertElliott:
        """The model with this mean ``loss`` (0 to 1) in bursts of ``burst_steps`` on average."""
        leave = 1.0 / burst_steps
        return cls(enter=leave * loss / (1.0 - loss), leave=leave, slot_ms=slot_ms)


@dataclass(frozen=True, slots=True)
class Direction:
    """One way of a link. ``rate_kbps`` 0: unlimited. ``queue_bytes``: the bottleneck's buffer.

    ``reorder``: the share of packets held back by ``reorder_ms`` so that later ones overtake them.
    """

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
    burst: GilbertElliott | None = None
    reorder: float = 0.0
    reorder_ms: float = 5.0
    rate_kbps: float = 0.0
    queue_bytes: int = 64 * 1024

    @property
    def mean_loss(self) -> float:
        """The share of packets that the loss models take, 0 to 1 (queue drops not counted)."""
        burst = self.burst.mean_loss if self.burst else 0.0
        return 1.0 - (1.0 - self.loss) * (1.0 - burst)


@dataclass(frozen=True, slots=True)
class LinkPath:
    """Both ways between the first host and another: ``up`` towards the first host, ``down`` from it."""

    up: Direction
    down: Direction

    @classmethod
    def symmetric(cls, direction: Direction) -> LinkPath:
        """The same both ways."""
        return cls(direction, direction)

    def describe(self) -> dict[str, object]:
        """JSON-ready, for the record of a run."""
        return asdict(self)


class Shaper:
    """The state of one direction for one address. ``admit`` says when a packet arrives, or None."""

    __slots__ = (
        "_bad",
        "_free_at",
        "_last_arrival",
        "_random",
        "_slot",
        "dropped_loss",
        "dropped_queue",
        "rule",
    )

    def __init__(self, rule: Direction, seed: int | str) -> None:
        self.rule = rule
        self._random = random.Random(seed)
        self._bad = False
        self._slot = 0
        self._free_at = 0.0
        self._last_arrival = 0.0
        self.dropped_loss = 0
        self.dropped_queue = 0

    def admit(self, size_bytes: int, now: float) -> float | None:
        """The time at which a packet of ``size_bytes`` that enters at ``now`` comes out; None: dropped."""
        if self._lost(now):
            self.dropped_loss += 1
            return None
        departs = self._through_bottleneck(size_bytes, now)
        if departs is None:
            self.dropped_queue += 1
            return None
        return self._propagate(departs)

    def _lost(self, now: float) -> bool:
        rule = self.rule
        lost = rule.loss > 0.0 and self._random.random() < rule.loss
        if rule.burst is not None:
            for _ in range(self._steps(rule.burst, now)):
                change = rule.burst.leave if self._bad else rule.burst.enter
                if self._random.random() < change:
                    self._bad = not self._bad
            # The chance is drawn whatever has been decided: a run with another loss keeps the same bursts.
            lost = (self._bad and self._random.random() < rule.burst.bad_loss) or lost
        return lost

    def _steps(self, burst: GilbertElliott, now: float) -> int:
        if burst.slot_ms <= 0.0:
            return 1
        slot = int(now * 1000.0 / burst.slot_ms)
        steps, self._slot = slot - self._slot, slot
        # After a long silence it makes no difference in which of so many steps the state last changed.
        return min(steps, limits.LINK_SLOTS_AT_ONCE_MAX)

    def _through_bottleneck(self, size_bytes: int, now: float) -> float | None:
        rate_kbps = self.rule.rate_kbps
        if rate_kbps <= 0.0:
            return now
        bytes_per_second = rate_kbps * 125.0
        starts = max(now, self._free_at)
        if (starts - now) * bytes_per_second + size_bytes > self.rule.queue_bytes:
            return None
        self._free_at = starts + size_bytes / bytes_per_second
        return self._free_at

    def _propagate(self, departs: float) -> float:
        rule = self.rule
        arrival = departs + rule.delay_ms / 1000.0
        if rule.jitter_ms > 0.0:
            arrival += self._random.uniform(-rule.jitter_ms, rule.jitter_ms) / 1000.0
        if rule.reorder > 0.0 and self._random.random() < rule.reorder:
            # Without moving _last_arrival: those behind it overtake it.
            return arrival + rule.reorder_ms / 1000.0
        # Jitter alone reorders nothing: on a real path packets wait in one queue.
        self._last_arrival = max(arrival, self._last_arrival)
        return self._last_arrival
