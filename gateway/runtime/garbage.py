"""A full collection of cycles where it may free something: connections have ended, or memory grew. Room: runtime.

With thresholds that suit frames, which make no cycles (:mod:`gateway.runtime.serve`), Python's own collector hardly
ever looks at old objects. Ends of connections break their cycles; this is for what they miss.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

from gateway import limits
from gateway.runtime.memory import give_back
from gateway.runtime.process import memory


class Collecting:
    """Looks every ``GARBAGE_LOOK_S``. ``ended`` counts connections that have ended. Ended by :meth:`stop`."""

    def __init__(self, ended: Callable[[], int], resident: Callable[[], int] | None = None) -> None:
        self.collections = 0
        self._ended = ended
        self._resident = resident or (lambda: memory().resident)
        self._ended_before = ended()
        self._resident_before = self._resident()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(limits.GARBAGE_LOOK_S, self._again)

    def _again(self) -> None:
        self._timer = self._loop.call_later(limits.GARBAGE_LOOK_S, self._again)
        self.look()

    def look(self) -> bool:
        """Collect, if it is time to. Memory that stays is no reason to look again until it has grown further."""
        ended, resident = self._ended(), self._resident()
        if (
            ended - self._ended_before < limits.GARBAGE_ENDED_MAX
            and resident - self._resident_before < limits.GARBAGE_GROWTH_BYTES_MAX
        ):
            self._resident_before = min(resident, self._resident_before)
            return False
        gc.collect()
        give_back()
        self.collections += 1
        self._ended_before, self._resident_before = ended, self._resident()
        return True

    def stop(self) -> None:
        """Look no more. Idempotent."""
        self._timer.cancel()
