"""What came of a world's commits: how many, how long they took, why the newest failed. Room: runtime."""

from __future__ import annotations

import logging

from gateway.errors import GatewayError
from gateway.limits import JOURNAL_PATIENCE_S
from gateway.runtime.lags import Lags
from gateway.wire.journal import Batch

log = logging.getLogger("mvgateway.journal")


def is_told(count: int) -> bool:
    """Whether to log the event that many times in: the 1st, 2nd, 4th, 8th and so on get a line."""
    return count & (count - 1) == 0


class Outcomes:
    """Of one world, as ``/metrics``, ``/healthz`` and the operator's log tell them."""

    def __init__(self, world: str) -> None:
        self._world = world
        self.commits = 0
        self.commit_failures = 0
        self.commit_seconds = 0.0
        self.lags = Lags()
        self.newest_received_us: int | None = None
        """When the newest committed frame was received (µs since the Unix epoch)."""
        self.newest_commit = float("-inf")
        """When the newest one was (``time.monotonic``)."""
        self.has_failed = False
        """True while the store has said no to the newest commit, or not answered it."""
        self.failure = ""
        """Why it did; empty after one that did not."""
        self.times_left_behind = 0
        """How often rounds of other worlds went on without this one."""

    def succeeded(self, batch: Batch, began: float, now: float, now_us: int) -> None:
        """A commit that ``began`` is down at ``now`` (``time.monotonic``), which is ``now_us`` (µs since the Unix epoch)."""
        self.newest_commit = now
        self.has_failed, self.failure = False, ""
        if batch.frames:
            self.newest_received_us = batch.frames[-1].received_at_us
            self.lags.note(batch.frames, now_us)
        self.commits += 1
        self.commit_seconds += now - began

    def failed(self, error: Exception) -> None:
        """The store said no, or nothing."""
        self.commit_failures += 1
        if is_told(self.commit_failures):
            log.warning(
                "world %s: commit failed (%d so far); the frames wait and it is tried again: %s",
                self._world,
                self.commit_failures,
                error,
                exc_info=None if isinstance(error, GatewayError) else error,
            )
        self.has_failed = True
        self.failure = error.message if isinstance(error, GatewayError) else repr(error)

    def left_behind(self) -> None:
        """Its database takes longer than a round waits."""
        self.failure = f"its database takes over {JOURNAL_PATIENCE_S * 1e3:.0f} ms"
        self.times_left_behind += 1
        if is_told(self.times_left_behind):
            log.warning(
                "world %s: its database takes over %.0f ms; its journal lags behind, the others go on without it "
                "(%d times so far)",
                self._world,
                JOURNAL_PATIENCE_S * 1e3,
                self.times_left_behind,
            )
