"""An event loop whose clock jumps: where nothing is to be done before a timer, it is that time at once.

Real sockets, real threads, a real gateway; only waiting takes no time. A thread at work holds the clock.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

GRACE_S = 0.0005
"""What is on its way between two sockets of this machine is there after so long."""
THREAD_LOOK_S = 0.005


class Clock:
    """What all clocks of the process show more than they would."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self.at_least_s = 0.0
        """How far a jump goes at least, where nothing is under way that would be late: timers that come close together
        are served together."""


class _Selector(selectors.DefaultSelector):  # type: ignore[valid-type, misc]
    clock: Clock
    busy: Callable[[], bool]

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if found or (timeout is not None and timeout <= 0):
            return found
        if timeout is None or self.busy():
            return super().select(THREAD_LOOK_S)
        found = [] if self.clock.at_least_s else super().select(GRACE_S)
        if not found and not self.busy():
            self.clock.ahead_s += max(timeout, self.clock.at_least_s)
        return found


class JumpingLoop(asyncio.SelectorEventLoop):
    """Made by :func:`jumping`."""

    def __init__(self, clock: Clock) -> None:
        selector = _Selector()
        selector.clock, selector.busy = clock, lambda: self._at_work > 0
        self._at_work = 0
        super().__init__(selector)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        future = super().run_in_executor(executor, func, *args)
        self._at_work += 1
        future.add_done_callback(self._done)
        return future

    def _done(self, future: Any) -> None:
        self._at_work -= 1


@contextmanager
def jumping() -> Iterator[tuple[JumpingLoop, Clock]]:
    """The loop and its clock; every clock of the process goes with it meanwhile."""
    clock, real = Clock(), {name: getattr(time, name) for name in ("monotonic", "time", "perf_counter")}
    real_ns = {name: getattr(time, name) for name in ("monotonic_ns", "time_ns")}
    for name, fn in real.items():
        setattr(time, name, lambda fn=fn: fn() + clock.ahead_s)
    for name, fn in real_ns.items():
        setattr(time, name, lambda fn=fn: fn() + int(clock.ahead_s * 1e9))
    loop = JumpingLoop(clock)
    try:
        yield loop, clock
    finally:
        for name, fn in {**real, **real_ns}.items():
            setattr(time, name, fn)
        loop.close()
