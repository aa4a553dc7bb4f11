"""What each subject uses of its grants: requests and bytes a second, sessions at once. Room: runtime.

Counted by ``sub``, over all its tokens: who renews, or holds two, has no more. A rate is of the grant that asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from gateway import limits
from gateway.core.grants import Grant
from gateway.errors import TooMany


class _Used:
    """What one subject has used."""

    __slots__ = ("bytes_left", "bytes_since", "requests_left", "requests_since", "sessions")

    def __init__(self) -> None:
        self.sessions = 0
        self.requests_left: float | None = None
        self.requests_since = 0.0
        self.bytes_left: float | None = None
        self.bytes_since = 0.0


class Subjects:
    """All calls from one event loop. ``now``: seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._used: dict[str, _Used] = {}
        self.requests: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def of(self, grant: Grant) -> str:
        """Whom a grant counts for."""
        return grant.subject or f"key {grant.kid}"

    def take_request(self, grant: Grant, now: float) -> None:
        """One request more. Raises :class:`TooMany` above ``rps``."""
        subject = self.of(grant)
        self._count(self.requests, subject, 1)
        if grant.rps is None:
            return
        used = self._entry(subject)
        burst = max(1.0, grant.rps * limits.GRANT_BURST_S)
        # Full at first, and filled by what has passed since: no timer, and nothing to do for those who
        # rest.
        left = burst if used.requests_left is None else used.requests_left
        left = min(burst, left + (now - used.requests_since) * grant.rps)
        used.requests_since = now
        # A refused request takes nothing: or who asks too fast would never be let in again.
        used.requests_left = left if left < 1.0 else left - 1.0
        if left < 1.0:
            raise self._too_many(subject, "requests a second", "rps", grant.rps)

    def take_session(self, grant: Grant) -> None:
        """One session more, to be given back. Raises :class:`TooMany` at ``sessions``."""
        subject = self.of(grant)
        used = self._entry(subject)
        if grant.sessions is not None and used.sessions >= grant.sessions:
            raise self._too_many(subject, "sessions at once", "sessions", grant.sessions)
        used.sessions += 1

    def give_back_session(self, grant: Grant) -> None:
        """One session less."""
        used = self._used.get(self.of(grant))
        if used is not None:
            used.sessions -= 1

    def bytes_wait_s(self, grant: Grant, size: int, now: float) -> float:
        """Count bytes that go out by HTTP; how long the next ones wait."""
        subject = self.of(grant)
        self._count(self.bytes, subject, size)
        if grant.kbps is None:
            return 0.0
        used = self._entry(subject)
        per_s = grant.kbps * 125.0
        burst = per_s * limits.GRANT_BURST_S
        left = burst if used.bytes_left is None else used.bytes_left
        # May go below nothing: a page is sent whole, and what it was too large by is waited for before the
        # next.
        used.bytes_left = min(burst, left + (now - used.bytes_since) * per_s) - size
        used.bytes_since = now
        return max(0.0, -used.bytes_left / per_s)

    def sessions(self) -> Mapping[str, int]:
        """Sessions open now, by subject, with all beyond the bound as one."""
        shown: Counter[str] = Counter()
        for subject, used in self._used.items():
            if used.sessions:
                name = subject if len(shown) < limits.SUBJECTS_SHOWN_MAX else OTHERS
                shown[name] += used.sessions
        return shown

    def _too_many(self, subject: str, what: str, name: str, limit: int) -> TooMany:
        self._count(self.refused, subject, 1)
        return TooMany(
            f"this grant allows {limit} {what}, for all tokens of one subject together; come back slower, end a session, "
            "or ask whoever signs your tokens for more",
            bound=f"grant_{name}",
            limit=limit,
        )

    def _entry(self, subject: str) -> _Used:
        used = self._used.pop(subject, None)
        if used is None:
            used = _Used()
            if len(self._used) >= limits.SUBJECTS_COUNTED_MAX:
                self._forget_one()
        self._used[subject] = used  # the last one used stands last
        return used

    def _forget_one(self) -> None:
        """The one that was not used for longest and has no session: its rate is full again, or soon."""
        for subject, used in self._used.items():
            if not used.sessions:
                del self._used[subject]
                return

    @staticmethod
    def _count(counter: Counter[str], subject: str, more: int) -> None:
        if subject not in counter and len(counter) >= limits.SUBJECTS_SHOWN_MAX:
            subject = OTHERS
        counter[subject] += more


OTHERS = "(others)"
