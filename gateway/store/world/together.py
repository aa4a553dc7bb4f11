"""Batches of many worlds, written together: a transaction each, one sync or one request for many. Room: store.

Nothing of one world depends on another: who fails is told so, who takes long is left behind, and the
others go on.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from gateway.errors import StoreUnavailable
from gateway.store.base import CommitRequest, Committed, GroupStore, NamespaceCommit
from gateway.store.world.commits import Answers, AtOnce, Commits
from gateway.store.world.database import PackedWrite, WorldDatabase
from gateway.store.world.writing import finish
from gateway.wire.journal import Batch

Write = tuple[WorldDatabase, Batch]
End = tuple[int, Exception | None]
"""Of the write at this place: None where it is durable now, else what was wrong."""
Tell = Callable[[Sequence[End]], None]


def append_each(store: GroupStore, writes: Sequence[Write]) -> list[Exception | None]:
    """:meth:`WorldDatabase.append` for each, in a thread; None where it is durable now, else what was
    wrong. A world must stand in ``writes`` but once, and be used by nobody else meanwhile."""
    ends: list[Exception | None] = [None] * len(writes)

    def tell(some: Sequence[End]) -> None:
        for at, error in some:
            ends[at] = error

    Round(writes, AtOnce(store), tell).work()
    return ends


class Round:
    """:meth:`WorldDatabase.append` for each of ``writes``. A world must stand there but once, and be used by
    nobody else until it was told of. ``tell`` is called on any thread, several times."""

    def __init__(self, writes: Sequence[Write], commits: Commits, tell: Tell) -> None:
        self._writes = writes
        self._commits = commits
        self._tell = tell
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, PackedWrite]] | None = None
        self._held: list[tuple[int, NamespaceCommit]] = []
        self._at: int | None = None
        self._turn = 0
        self._open = set(range(len(writes)))
        self._left: set[int] = set()

    def leave_behind(self) -> tuple[int, int] | None:
        """Go on without the world that is being worked on: its place, and the turn with which to call
        :meth:`work` on another thread; None where no world is. The one left behind is told of when it has ended."""
        with self._lock:
            left, self._at = self._at, None
            if left is None:
                return None
            # Whoever comes back with an older turn finds by it that the others have gone on without him.
            self._turn += 1
            self._left.add(left)
            return left, self._turn

    def work(self, turn: int = 0) -> None:
        """On a thread: everything, or what the turns before have left."""
        try:
            if self._waiting is None:
                self._waiting = deque(self._packed())
            while (taken := self._take()) is not None:
                at, write = taken
                end = self._hold(at, write)
                if not self._keep(turn, at, end):
                    if isinstance(end, NamespaceCommit):
                        self._commit([(at, end)])
                    return
            if self._held:
                self._commit(self._held)
        except BaseException as error:
            failure = StoreUnavailable(f"the round of commits broke off: {error!r}")
            self._say([(at, failure) for at in self._mine(turn)])
            if not isinstance(error, Exception):
                raise

    def _packed(self) -> list[tuple[int, PackedWrite]]:
        # All first, and then compressed in one call for the round: a call for each gives up the
        # interpreter's lock each time.
        packed = [world.pack(batch) for world, batch in self._writes]
        finish([each.packed for each in packed])
        return list(enumerate(packed))

    def _take(self) -> tuple[int, PackedWrite] | None:
        assert self._waiting is not None
        with self._lock:
            if not self._waiting:
                return None
            taken = self._waiting.popleft()
            self._at = taken[0]
            return taken

    def _hold(self, at: int, write: PackedWrite) -> NamespaceCommit | Exception | None:
        world, batch = self._writes[at]
        try:
            return world.hold_append(batch, write)
        except Exception as error:
            return error

    def _keep(self, turn: int, at: int, end: NamespaceCommit | Exception | None) -> bool:
        """False: the others have gone on without it."""
        with self._lock:
            is_left = turn != self._turn
            if not is_left:
                self._at = None
                if isinstance(end, NamespaceCommit):
                    self._held.append((at, end))
        # Outside of the lock: who is told may call back.
        if not isinstance(end, NamespaceCommit):
            self._say([(at, end)])
        return not is_left

    def _commit(self, held: Sequence[tuple[int, NamespaceCommit]]) -> None:
        requests = [
            CommitRequest(self._writes[at][0].database.new_key(), [part], first_attempt=True)
            for at, part in held
        ]

        def settle(answers: Answers) -> None:
            ends: list[End] = []
            for place, answer in answers:
                at = held[place][0]
                world, batch = self._writes[at]
                # Before it is told: whoever hears of the end may write to this world at once.
                world.settle_append(batch, answer)
                ends.append((at, None if isinstance(answer, Committed) else answer))
            self._say(ends)

        self._commits.commit(requests, settle)

    def _say(self, ends: Iterable[End]) -> None:
        """Each once."""
        with self._lock:
            told = [end for end in ends if end[0] in self._open]
            self._open.difference_update([at for at, _ in told])
        if told:
            self._tell(told)

    def _mine(self, turn: int) -> set[int]:
        """What nobody else works on, where the worker of this turn breaks off."""
        with self._lock:
            # Those left behind have workers of their own, who tell of them.
            return self._open - self._left if turn == self._turn else self._open & self._left
