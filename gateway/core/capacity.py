"""How much a world's state may hold, and which records of a message no longer fit. Room: core. Pure.

The bytes are not weighed with every message, for most only renew what is there: a count that is never
too low by more than one frame rises with what comes, and is made anew from the state when it reaches the
bound. Near the bound each record is weighed, and the count made anew every so many messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.limits import CAPACITY_RECOUNT_MESSAGES, RECORD_HELD_BYTES

Records = Mapping[int, tuple[int, bytes]]


class Capacity:
    """At most ``records_max`` records, and ``bytes_max`` bytes of them: their contents and
    :data:`RECORD_HELD_BYTES` each. ``refused``: records that found no room so far."""

    def __init__(self, records_max: int, bytes_max: int) -> None:
        self.records_max = records_max
        self.bytes_max = bytes_max
        self.refused = 0
        self.is_short_of_bytes = False
        """Whether the last record that was refused was so for its bytes, and not for being one more."""
        self._bytes = 0
        self._is_near = False
        self._since = CAPACITY_RECOUNT_MESSAGES

    def misfits(
        self, records: Records, keys: Sequence[int], values: Sequence[bytes | None]
    ) -> frozenset[int] | None:
        """The places of those records of a message that find no room beside ``records``; None
        (nearly always): all do. Call it once for each message, before it is taken."""
        # As if none of them replaced another: too high rather than too low, and one addition a message in place of
        # a look-up a record.
        more = sum([RECORD_HELD_BYTES + len(value) for value in values if value is not None])
        is_far = not self._is_near
        if is_far and len(records) + len(keys) <= self.records_max and self._bytes + more <= self.bytes_max:
            self._bytes += more
            return None
        if is_far:
            self._recount(records)
        return self._weighed(records, keys, values)

    def _recount(self, records: Records) -> None:
        self._bytes = held_bytes(records)
        # From seven eighths on each record is weighed: the rough count would reach the bound again within a few
        # frames.
        self._is_near = self._bytes > self.bytes_max - self.bytes_max // 8
        self._since = 0

    def _weighed(
        self, records: Records, keys: Sequence[int], values: Sequence[bytes | None]
    ) -> frozenset[int] | None:
        """One record after the other. What makes the state no larger always fits; what makes it smaller gives
        room once the state is counted anew, for it may turn out to come too late."""
        self._since += 1
        if self._since > CAPACITY_RECOUNT_MESSAGES:
            self._recount(records)
        count, misfits = len(records), []
        seen: dict[int, int] = {}
        for at, (key, value) in enumerate(zip(keys, values, strict=True)):
            if value is None:
                continue
            before = seen.get(key, -1)
            if before < 0:
                found = records.get(key)
                before = 0 if found is None else RECORD_HELD_BYTES + len(found[1])
            growth = RECORD_HELD_BYTES + len(value) - before
            if growth <= 0:
                continue
            is_one_too_many = not before and count >= self.records_max
            if is_one_too_many or self._bytes + growth > self.bytes_max:
                misfits.append(at)
                self.is_short_of_bytes = not is_one_too_many
                continue
            seen[key] = before + growth
            self._bytes += growth
            count += not before
        self.refused += len(misfits)
        return frozenset(misfits) if misfits else None


def held_bytes(records: Records) -> int:
    """What records count for."""
    return sum([len(data) for _, data in records.values()]) + RECORD_HELD_BYTES * len(records)
