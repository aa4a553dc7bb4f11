"""A reader that asked for every frame in order (``conflate=0``). Room: core. Pure.

What an ordinary TCP server does, for comparison and for tools that want each frame: messages queue
in the link, up to a bound; beyond it they are dropped, and once the queue has drained a keyframe
takes their place. Only for links that are not lossy.
"""

from __future__ import annotations

from collections import deque

from gateway.core.bundle import Bundle
from gateway.core.ports import Link
from gateway.core.reader import Reader
from gateway.core.state import WorldState
from gateway.core.window import Keys
from gateway.limits import READER_BACKLOG_BYTES_MAX, READER_FLUSH_S
from gateway.wire.control import encode_control


class QueueingReader(Reader):
    """Forwards every message, whatever room there is; the link sends them in order."""

    __slots__ = ("_backlog", "_backlog_bytes")

    def __init__(self, state: WorldState, link: Link, mono: float, **options: object) -> None:
        super().__init__(state, link, mono, **options)  # type: ignore[arg-type]  # those of a Reader
        self._backlog: deque[tuple[int, int]] = deque()
        self._backlog_bytes = 0

    @property
    def metered(self) -> bool:
        return False

    @property
    def ordered(self) -> bool:
        return True

    def offer(self, bundle: Bundle, mono: float) -> bool:
        self._settle_backlog()
        if self._rebase.wanted is not None:
            self.serve(mono)
            return False
        for out in bundle.outs:
            if self._backlog_bytes + out.size > READER_BACKLOG_BYTES_MAX:
                self._counters.withheld += 1
                self.want_keyframe("lagging", mono)
                return False
            self._queue([out.packed if self._zstd else out.message], out.size)
        return True

    def catch_up(self, mono: float) -> None:
        """What was dropped is in the keyframe that is owed."""
        self.serve(mono)

    @property
    def taken(self) -> int | None:
        return None

    def mark(self, keys: Keys) -> None:
        """Nothing gets lost on the way, so nothing has to be said again."""

    def serve(self, mono: float) -> None:
        """The keyframe that is owed; after a drop, once what was queued before it is out."""
        self._settle_backlog()
        # Behind what was queued before, which is older than the keyframe: in order means that nothing goes back.
        if self._rebase.wanted is None or (self._backlog and self._rebase.wanted == "lagging"):
            return
        reason, self._rebase.wanted = self._rebase.wanted, None
        # There is nothing to start from yet: the first frame is the beginning.
        if reason == "joined" and not self._state.records:
            return
        keyframe = self._rebase.keyframes.fresh(mono, zstd=self._zstd)
        self._link.control(encode_control("resync", reason=reason))
        self._counters.resyncs += 1
        self._queue(keyframe.messages, keyframe.size_bytes)

    def poll(self, mono: float) -> float | None:
        self.serve(mono)
        return mono + READER_FLUSH_S if self._rebase.wanted is not None else None

    def _queue(self, messages: list[bytes], size_bytes: int) -> None:
        self._outlet.messages += len(messages)
        # As a stream even if it is one message: only a stream's handle tells when it is out.
        self._backlog.append((self._link.send_stream(messages), size_bytes))
        self._backlog_bytes += size_bytes

    def _settle_backlog(self) -> None:
        backlog = self._backlog
        while backlog and self._link.stream_done(backlog[0][0]):
            self._backlog_bytes -= backlog.popleft()[1]
