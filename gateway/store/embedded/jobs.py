"""What waits for the writer, and how its end is told. Room: store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar, cast

from gateway.errors import GatewayError
from gateway.store.embedded.transaction import WriteTxn

T = TypeVar("T")
Apply = Callable[[WriteTxn], object]
Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class Job(Generic[T]):
    """One change: ``apply`` runs in the writer's transaction, and its answer counts once that is on disk.

    ``alone``: shares its transaction with no other, since it changes more than heads. ``contents``:
    (namespace, hash) of what it will look up; those of a whole batch are asked for at once.
    ``follows``: it came with another one of the same caller, who will be back but once.
    """

    __slots__ = (
        "_ended",
        "alone",
        "apply",
        "bytes",
        "contents",
        "done",
        "error",
        "follows",
        "result",
        "waiter",
        "weight",
    )

    def __init__(
        self,
        apply: Callable[[WriteTxn], T],
        *,
        weight: int = 1,
        size: int = 0,
        alone: bool = False,
        waiter: Waiter | None = None,
        contents: Sequence[tuple[int, bytes]] = (),
    ) -> None:
        self.apply = apply
        self.contents = contents
        self.weight = weight
        self.bytes = size
        self.alone = alone
        self.waiter = waiter
        self.follows = False
        self.done = False
        self.result: T | None = None
        self.error: BaseException | None = None
        self._ended = threading.Lock()
        self._ended.acquire()

    def end(self) -> None:
        """Result or error stand: let a thread that waits go on. An event loop is told by :func:`tell`."""
        self.done = True
        # A bare lock, as it is taken only once and `done` says it from then on; an Event has a condition
        # and a lock besides.
        self._ended.release()

    def wait(self) -> T:
        """In a thread: the result, or raise the error."""
        # It stays taken afterwards, which is right: who asks again finds `done`.
        if not self.done:
            self._ended.acquire()
        if self.error is not None:
            raise self.error
        return cast("T", self.result)

    def outcome(self) -> T | GatewayError:
        """In a thread: the result, or the error if it is one of the house's; others are raised."""
        try:
            return self.wait()
        except GatewayError as error:
            return error


AnyJob = Job[Any]


def tell(jobs: Iterable[AnyJob]) -> None:
    """Resolve the futures of those that an event loop waits for: one call into each loop."""
    loops: dict[asyncio.AbstractEventLoop, list[AnyJob]] = {}
    for job in jobs:
        if job.waiter is not None:
            loops.setdefault(job.waiter[0], []).append(job)
    for loop, ended in loops.items():
        try:
            loop.call_soon_threadsafe(_resolve, ended)
        except RuntimeError:
            # The loop is closed: nobody waits there any more.
            continue


def _resolve(jobs: list[AnyJob]) -> None:
    for job in jobs:
        assert job.waiter is not None
        future = job.waiter[1]
        # Cancelled meanwhile: who asked has gone, but what was committed stays committed.
        if future.done():
            continue
        if job.error is not None:
            future.set_exception(job.error)
        else:
            future.set_result(job.result)
