"""The engine's own thread: keeps time, copies SQLite's log into its file, collects. Room: store."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

import apsw

from ...errors import GatewayError
from . import schema

if TYPE_CHECKING:
    from .engine import Engine

TIME_KEEPER_S: Final = 5.0
SWEEP_S: Final = 60.0
LOOK_S: Final = 0.25
"""How often the thread looks whether something is due; between looks it sleeps."""


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
        self._thread.join()

    def _serve(self) -> None:
        kept = swept = time.monotonic() - SWEEP_S + TIME_KEEPER_S
        while True:
            now = time.monotonic()
            if now - kept >= TIME_KEEPER_S:
                kept = now
                self._try(self._engine.keep_time)
            if now - swept >= SWEEP_S:
                swept = now
                self._try(self._engine.sweep)
            self._try(self._copy_log)
            if self._stop.wait(LOOK_S):
                break
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
        """Copy pages from the log into the file; readers and the writer go on meanwhile."""
        wal_full = self._engine.writer.wal_full
        if not wal_full.is_set():
            return
        wal_full.clear()
        if self._copier is None:
            self._copier = schema.open_reader(self._engine.path)
        for _ in range(8):
            pages, copied = self._copier.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            if pages == copied:
                return
