"""Before a commit goes to a store that takes any assumed version: is the namespace still that one? Room: store.

mvstore remembers key -> namespace for up to two minutes, and takes any assumed version where nothing was written
since the namespace was made. So a commit of a client that read the namespace of that key which is deleted by now would be
acknowledged: and be lost, or be mixed with what its successor holds. Two questions tell, side by side: ``/stat``
by the process that takes the commit, and, where the admin API is known, which namespace has the key (it remembers nothing).
Source: ``docs/STORE.md``, "What the real mvstore does otherwise".
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from gateway import limits
from gateway.errors import Conflict, NotFound, StoreUnavailable
from gateway.store.base import (
    ZERO_VERSION,
    CommitRequest,
    Committed,
    Namespace,
    NamespaceCommit,
    NamespaceInfo,
    Stat,
    Version,
)

CHECKS: Final = "x-store-checks"
"""Answers to ``/stat`` of stores that refuse such commits themselves carry this header, with the value below."""
ASSUMED_VERSION: Final = "assumed-version"

AskStat = Callable[[NamespaceCommit, str | None], Awaitable[tuple[Stat, bool]]]
"""``/stat`` since the part's assumed version, as the lock's owner: what it says, and whether the store checks by itself."""
AskInfo = Callable[[str], Awaitable[NamespaceInfo]]
"""The namespace that a key names now. Raises ``NotFound``."""


class AssumedVersions:
    """``ask_info``: None where no admin API is known."""

    def __init__(self, ask_stat: AskStat, ask_info: AskInfo | None) -> None:
        self._ask_stat = ask_stat
        self._ask_info = ask_info
        self._committed: OrderedDict[str, Version] = OrderedDict()
        self._store_checks = False
        self._silent_until = 0.0

    def learn(self, request: CommitRequest, done: Committed) -> None:
        """A commit was answered: its version is no namespace's id, so whoever has it as head was written to."""
        for part in request.namespaces:
            key = part.namespace.key
            self._committed[key] = done.version
            self._committed.move_to_end(key)
        while len(self._committed) > limits.STORE_NAMESPACES_CACHED_MAX:
            self._committed.popitem(last=False)

    async def check(self, request: CommitRequest) -> None:
        """Raises :class:`Conflict` for a part that stands on another namespace. Parts that are anchored
        need no question: the store refuses them by itself."""
        parts = [part for part in request.namespaces if not part.anchored]
        # Once a store has said that it checks by itself it does so for good: another gateway, which is not
        # asked again.
        if self._store_checks or not parts:
            return
        for part in parts:
            await self._check(part, request)

    async def _check(self, part: NamespaceCommit, request: CommitRequest) -> None:
        # A version that a commit of ours was given belongs to the namespace that was written to, so its id
        # need not be asked.
        written = self._committed.get(part.namespace.key) == part.version
        asked = self._ask_stat(part, request.lock_owner)
        if written:
            (stat, self._store_checks), ns_id = await asked, None
        else:
            (stat, self._store_checks), ns_id = await asyncio.gather(asked, self._id_of(part.namespace))
        if self._store_checks:
            return
        if ns_id is not None and ZERO_VERSION < part.version < ns_id:
            raise _another(part)
        # An interval is told only from a version that the namespace's own log has.
        if stat.version == part.version or stat.interval is not None:
            return
        if part.version > stat.version:
            raise Conflict(
                f"assumed version {part.version} is ahead of the head {stat.version} of {part.namespace.key!r:.200}, "
                "or of another namespace that had this key"
            )
        if not await self._may_be_older(part, request, stat, ns_id):
            raise _another(part)

    async def _may_be_older(
        self, part: NamespaceCommit, request: CommitRequest, stat: Stat, ns_id: Version | None
    ) -> bool:
        """Below the head, and no version that its change log knows: the id itself, version zero, and a retry, whose own commit may have moved the head, are left to the store."""
        if ns_id is None:
            ns_id = await self._id_of(part.namespace)
        if ns_id is None:
            return not request.first_attempt or part.version == ZERO_VERSION
        if (
            part.version == ZERO_VERSION
        ):  # it assumes nothing, but the commit must not go to the one that was deleted
            return stat.version >= ns_id
        return part.version == ns_id or (not request.first_attempt and part.version > ns_id)

    async def _id_of(self, ns: Namespace) -> Version | None:
        """None where it can't be told: no admin API, or none that answers soon. Then it is let be for a while, so
        that no commit waits for an admin API that is away."""
        now = asyncio.get_running_loop().time
        if self._ask_info is None or now() < self._silent_until:
            return None
        try:
            async with asyncio.timeout(limits.STORE_ADMIN_LOOK_S):
                return (await self._ask_info(ns.key)).ns_id
        # Known for certain: no namespace has this key. All else only says that nobody knows.
        except NotFound:
            raise
        except (StoreUnavailable, TimeoutError):
            self._silent_until = now() + limits.STORE_ADMIN_SILENT_S
            return None


def _another(part: NamespaceCommit) -> Conflict:
    return Conflict(
        f"assumed version {part.version} is not of the namespace that {part.namespace.key!r:.200} names now: "
        "it was deleted and made again, or renamed; read the head anew"
    )
