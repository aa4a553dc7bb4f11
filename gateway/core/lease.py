"""Whether a process that somebody else only sees by its traces is alive. Room: core. Pure.

Clocks of two machines need not agree, so no time of the other side counts: what it leaves in the store changes while it
lives, and the observer measures, by its own monotonic clock, for how long it has stayed the same.
"""

from __future__ import annotations

from enum import Enum

from gateway.limits import HOME_ALIVE_S, HOME_UNSEEN_S


class HomeVerdict(Enum):
    """What can be said of it now."""

    ALIVE = "it has just given a sign of life"
    SILENT = "it gave none since the last look, and its lease is not out yet"
    DEAD = "it gave none for as long as its lease"


class HomeWatch:
    """Looks at one thing's ``trace`` (any value that changes with each sign of life). ``mono``: seconds."""

    __slots__ = ("_alive_at", "_changed_at", "_looked_at", "_since", "_trace")
    _since: float

    def __init__(self) -> None:
        self._trace: object = None
        self._looked_at = float("-inf")
        self._changed_at = float("-inf")
        self._alive_at = float("-inf")

    def look(self, trace: object, lease_s: float, mono: float, *, attended: bool = False) -> HomeVerdict:
        """What this look says. Only what was looked at all the while is taken for dead. ``attended``: whoever looks has looked before, and waited for a change. A change
        since a look that was long ago proves nothing: it may have been long ago too."""
        # Its silence is measured while somebody looks: after a pause of ours (a stopped process, a loaded machine)
        # it begins anew.
        if mono - self._looked_at > HOME_UNSEEN_S:
            self._since = mono
        if trace != self._trace:
            known = self._trace is not None
            self._trace, self._since, self._changed_at = trace, mono, mono
            if known and (attended or mono - self._looked_at <= HOME_ALIVE_S):
                self._alive_at = mono
        self._looked_at = mono
        if self.is_alive(mono):
            return HomeVerdict.ALIVE
        return HomeVerdict.DEAD if mono - self._since >= lease_s else HomeVerdict.SILENT

    def is_alive(self, mono: float) -> bool:
        """True where a sign of life was seen so recently that no other look is needed."""
        return mono - self._alive_at <= HOME_ALIVE_S

    def stirred_within(self, seconds: float, mono: float) -> bool:
        """True where the trace changed, or was first seen, so recently."""
        return mono - self._changed_at < seconds

    def forget(self) -> None:
        """What was seen was of another."""
        self.__init__()  # type: ignore[misc]  # as it was made; nothing derives from it
