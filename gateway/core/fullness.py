"""Records that find no room in a world: counted, and the publisher told. Room: core. Pure."""

from __future__ import annotations

from gateway.core.admission import Refusals
from gateway.core.capacity import Capacity
from gateway.core.counters import Counters
from gateway.core.sessions import PublisherSession
from gateway.limits import NOTICE_S, RECORD_HELD_BYTES
from gateway.wire.control import encode_control

RECORDS_BOUND = "records_per_world_max"
BYTES_BOUND = "world_bytes_max"


class Fullness:
    """Of one world. ``refusals``: where each bound counts what it refused."""

    __slots__ = ("_capacity", "_counters", "_name", "_refusals", "_tell_at", "noted")

    def __init__(
        self, name: str, capacity: Capacity, counters: Counters, refusals: Refusals, mono: float
    ) -> None:
        self._name = name
        self._capacity = capacity
        self._counters = counters
        self._refusals = refusals
        self.noted = 0
        """Of ``capacity.refused``: those that :meth:`note` has seen."""
        self._tell_at = mono

    def note(self, publisher: PublisherSession | None, mono: float) -> None:
        """Count what was refused since the last time, and tell the publisher now and then."""
        capacity = self._capacity
        refused, self.noted = capacity.refused - self.noted, capacity.refused
        self._counters.records_refused += refused
        self._refusals.count(self._bound)
        if publisher is not None and mono >= self._tell_at:
            self._tell_at = mono + NOTICE_S
            limit = capacity.bytes_max if capacity.is_short_of_bytes else capacity.records_max
            publisher.link.control(
                encode_control(
                    "notice",
                    code="world_full",
                    bound=self._bound,
                    limit=limit,
                    refused=capacity.refused,
                    message=self.message(),
                )
            )

    @property
    def _bound(self) -> str:
        return BYTES_BOUND if self._capacity.is_short_of_bytes else RECORDS_BOUND

    def message(self) -> str:
        """What a publisher is told whose records find no room."""
        capacity = self._capacity
        held = (
            f"{capacity.bytes_max} bytes of records ({RECORD_HELD_BYTES} more than its own each)"
            if capacity.is_short_of_bytes
            else f"{capacity.records_max} records"
        )
        return (
            f"world {self._name} holds {held} at most, and {capacity.refused} records found no room so far; what is "
            f"there goes on: remove keys, or start the gateway with a higher --{self._bound.replace('_', '-')}"
        )
