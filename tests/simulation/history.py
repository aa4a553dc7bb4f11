"""What publishers have said, and whether somebody who says it again says it rightly."""

from __future__ import annotations

from bisect import bisect_right


class Run:
    """One run of a publisher's process. Its ticks rise over all epochs that it is given."""

    def __init__(self) -> None:
        self._ticks: dict[int, list[int]] = {}
        self._values: dict[int, list[bytes | None]] = {}

    def said(self, tick: int, key: int, data: bytes | None) -> None:
        self._ticks.setdefault(key, []).append(tick)
        self._values.setdefault(key, []).append(data)

    def at(self, tick: int, key: int) -> tuple[int, bytes | None]:
        """The value of ``key`` after ``tick``, and the tick at which it was set; -1 before the first."""
        found = bisect_right(self._ticks.get(key, []), tick) - 1
        return (-1, None) if found < 0 else (self._ticks[key][found], self._values[key][found])

    def newest(self, key: int) -> tuple[int, bytes | None]:
        return self.at(1 << 40, key)

    @property
    def keys(self) -> list[int]:
        return list(self._ticks)


class Said:
    """All runs, by the epochs that they were given."""

    def __init__(self) -> None:
        self.runs: dict[int, Run] = {}
        self._ever: set[tuple[int, bytes]] = set()

    def say(self, epoch: int, run: Run, tick: int, values: dict[int, bytes | None]) -> None:
        self.runs[epoch] = run
        for key, data in values.items():
            if run.newest(key)[1] != data:
                run.said(tick, key, data)
            if data is not None:
                self._ever.add((key, data))

    def wrong(self, epoch: int, tick: int, key: int, data: bytes | None) -> str | None:
        """What is wrong with somebody's record ``key``, set at that moment; None where nothing is. Tick 0 of an
        epoch also stands for all that was set in an earlier one."""
        if tick == 0 or epoch not in self.runs:
            ok = data is None or (key, data) in self._ever
        else:
            ok = self.runs[epoch].at(tick, key)[1] == data
        return None if ok else f"record {key} at tick {tick} of epoch {epoch} was never {data!r}"
