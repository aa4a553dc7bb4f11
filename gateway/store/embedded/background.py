"""The engine's own thread: keeps time, copies SQLite's log into its file, collects. Room: store.
Source: https://sqlite.org/c3ref/wal_checkpoint_v2.html."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import apsw

from gateway.errors import GatewayError
from gateway.limits import (
    STORE_BACKGROUND_LOOK_S,
    STORE_COPY_PASSES_MAX,
    STORE_COPY_REST_PAGES,
    STORE_MOMENT_S,
    STORE_SWEEP_S,
)
from gateway.store.embedded import schema

if TYPE_CHECKING:
    from gateway.store.embedded.engine import Engine


class Background:
    """Runs until the event is set. What fails is tried again at the next turn and counted."""

    def __init__(self, engine: Engine, stop: threading.Event) -> None:
        self._engine = engine
        self._stop = stop
        self._copier: apsw.Connection | None = None
        self.failures = 0
        self._thread = threading.Thread(target=self._serve, name="store-background", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for its end, after the event was set."""
        # It sleeps on this event, not on the one that ends it: a full log is what cannot wait for the next
        # look.
        self._engine.writer.wal_full.set()
        self._thread.join()

    def _serve(self) -> None:
        kept = time.monotonic() - STORE_MOMENT_S
        swept = time.monotonic()
        wal_full = self._engine.writer.wal_full
        while not self._stop.is_set():
            now = time.monotonic()
            if now - kept >= STORE_MOMENT_S:
                kept = now
                self._try(self._engine.keep_time)
            if now - swept >= STORE_SWEEP_S:
                swept = now
                self._try(self._engine.sweep)
            if wal_full.wait(STORE_BACKGROUND_LOOK_S):
                wal_full.clear()
                self._try(self._copy_log)
        if self._copier is not None:
            self._copier.close(True)

    def _try(self, work: object) -> None:
        assert callable(work)
        try:
            work()
        except (GatewayError, apsw.Error):
            # A full or broken disk is told to those who commit; here it only means: later.
            self.failures += 1
            if self._copier is not None:
                self._copier.close(True)
                self._copier = None

    def _copy_log(self) -> None:
        """Copy pages from the log into the file; readers and the writer go on meanwhile. What they
        added since is left to the writer when it is little: only then does the log begin anew."""
        writer = self._engine.writer
        if self._copier is None:
            self._copier = schema.open_reader(self._engine.path)
        writer.copying = True
        try:
            for _ in range(STORE_COPY_PASSES_MAX):
                # PASSIVE waits for nobody and leaves what a reader still needs
                # (sqlite.org/c3ref/wal_checkpoint_v2.html); the log grows on meanwhile, hence several passes.
                pages, copied = self._copier.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                if pages - copied <= STORE_COPY_REST_PAGES:
                    break
        finally:
            writer.copying = False
        # The log begins anew only when all of it was copied and nobody reads from it; the writer brings the
        # last pages between two commits of its own, where it is alone.
        writer.copy_rest = True
