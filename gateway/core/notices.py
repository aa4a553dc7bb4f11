"""Telling the publisher how far the store is. Room: core. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.ports import Link, Mark, Refusal
from gateway.limits import DURABLE_BUSY_PATIENCE_S, DURABLE_NOTICE_S, DURABLE_PATIENCE_S, NOTICE_COMMITS_MAX
from gateway.wire.control import encode_durable
from gateway.wire.journal import Gap


class DurableNotices:
    """``durable`` messages: the newest mark, not too often, right after the commit that moved it where
    commits follow each other, and again if one is lost."""

    __slots__ = ("_commits", "_patience_s", "_said", "_said_at")

    def __init__(self) -> None:
        self._commits: list[tuple[Mark, float]] = []
        self._said: Mark | None = None
        self._said_at = float("-inf")
        self._patience_s = DURABLE_PATIENCE_S

    def due(self, mark: Mark | None, epoch: int) -> float | None:
        """When the publisher of ``epoch`` is to be told of ``mark`` if no commit comes before, or None: it knows."""
        if mark is None or mark == self._said or mark.epoch != epoch:
            return None
        return self._said_at + DURABLE_NOTICE_S + self._patience_s

    def is_due(self, mark: Mark | None, epoch: int, mono: float, *, busy: bool, fresh: bool) -> bool:
        """Whether to tell it now. ``fresh``: the mark has just moved. ``busy``: it is about to."""
        at = self.due(mark, epoch)
        if at is None:
            return False
        if fresh:
            return mono >= at - self._patience_s
        if mono >= at and busy:
            self._patience_s = DURABLE_BUSY_PATIENCE_S
        return mono >= self._said_at + DURABLE_NOTICE_S + self._patience_s

    def moved(self, mark: Mark, mono: float) -> None:
        """A commit has moved the mark: the next notice tells when. Of too many the oldest are told as later ones."""
        self._commits.append((mark, mono))
        if len(self._commits) > NOTICE_COMMITS_MAX:
            del self._commits[0]

    def say(
        self, mark: Mark, link: Link, mono: float, let_go: Sequence[Gap] = (), *, each_commit: bool = False
    ) -> None:
        """Tell it: by a datagram where there are any and it fits one. ``let_go``: ticks up to the mark that were dropped.
        ``each_commit``: it asked to hear of each commit since the last notice."""
        self._said_at, self._patience_s = mono, DURABLE_PATIENCE_S
        more = self._since(mark.epoch, mono) if each_commit else {}
        dropped = [[gap.from_tick, gap.to_tick] for gap in let_go if gap.epoch == mark.epoch]
        if dropped:
            more["dropped"] = dropped
        message = encode_durable(mark.epoch, mark.tick, **more)
        self._commits.clear()
        if not link.lossy:
            link.control(message)
        else:
            # By a datagram: one that is lost is said again with a newer mark, and no stream of them waits behind
            # it.
            sent = link.send(message, 0)
            if sent is Refusal.TOO_LARGE or sent is Refusal.UNSUPPORTED:
                link.control(message)
            elif not sent:
                return
        self._said = mark

    def _since(self, epoch: int, mono: float) -> dict[str, list[list[int]]]:
        """Nothing where there was one commit, just now."""
        commits = [[mark.tick, int((mono - at) * 1e3)] for mark, at in self._commits if mark.epoch == epoch]
        return {"commits": commits} if len(commits) > 1 or (commits and commits[0][1]) else {}

    def again(self) -> None:
        """It was lost, or there is another publisher: say it again, by then perhaps with a newer tick."""
        self._said = None
