"""The ``mvstore`` engine: a remote mvstore, or another gateway, as a :class:`Store`. Room: store.

Speaks ``docs/STORE.md`` through whatever :class:`Transport` it is given. Large reads and writes
are split to the protocol's bounds and go side by side; a commit of few pages carries them itself,
of many sends them ahead.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from gateway import limits
from gateway.errors import BadInput, Forbidden, NotFound
from gateway.store.base import (
    BlockingStore,
    CommitRequest,
    Committed,
    Namespace,
    NamespaceCommit,
    NamespaceInfo,
    OverlayBase,
    PageContent,
    PageRead,
    Stat,
    TimeBounds,
    Traits,
    Version,
)
from gateway.store.remote import bodies
from gateway.store.remote.addresses import Addresses
from gateway.store.remote.admin import AdminApi, AdminNeeded
from gateway.store.remote.asking import Asker, real_sleep
from gateway.store.remote.assumed import ASSUMED_VERSION, CHECKS, AssumedVersions
from gateway.store.remote.blocking import BlockingBridge
from gateway.store.remote.committing import Committing
from gateway.store.remote.reading import RemoteReading
from gateway.store.remote.requests import ask_for, ask_stat, cut, ignored, side_by_side
from gateway.store.remote.sunken import SunkenHeads
from gateway.store.remote.transport import Transport
from gateway.wire.mvstore import version_of


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """``deadline_s`` bounds every single operation's waiting; ``inline_pages`` what a commit carries;
    ``check_assumed``: see before each commit that its assumed version is of the namespace that the key names, since
    the store may be an mvstore, which does not look."""

    deadline_s: float = limits.STORE_DEADLINE_S
    inline_pages: int = limits.STORE_INLINE_PAGES
    check_assumed: bool = False
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = real_sleep
    uniform: Callable[[float, float], float] = random.uniform


class RemoteStore:
    """A :class:`gateway.store.base.Store`. Make it on the event loop that it shall run on."""

    def __init__(
        self,
        transports: Sequence[Transport],
        *,
        admin: AdminApi | None = None,
        options: RemoteOptions | None = None,
    ) -> None:
        options = options or RemoteOptions()
        self._admin = admin
        self.traits = Traits(
            takes_any_version=options.check_assumed, content_kept_s=limits.STORE_CONTENT_KEPT_S
        )
        self._loop = asyncio.get_running_loop()
        self._asker = Asker(
            Addresses(transports, options.uniform),
            deadline_s=options.deadline_s,
            clock=options.clock,
            sleep=options.sleep,
            uniform=options.uniform,
        )
        info = None if admin is None else admin.namespace_info
        self._reading = RemoteReading(
            self._asker, SunkenHeads(self._head_of, self.commit, info), options.clock
        )
        self._committing = Committing(
            self._asker,
            AssumedVersions(self._stat_since, info),
            self.write,
            inline_pages=options.inline_pages,
            check=options.check_assumed,
        )

    @property
    def urls(self) -> list[str]:
        """The addresses, in the order given."""
        return [transport.url for transport in self._asker.addresses.transports]

    def facts(self) -> dict[str, object]:
        """Counters, and failures in a row by address."""
        asked = self._asker.counters
        return {
            "requests": asked.requests,
            "retries": asked.retries,
            "failovers": asked.failovers,
            "given_up": asked.given_up,
            "failing": self._asker.addresses.health(),
        }

    # -- reading ------------------------------------------------------------------------------

    async def stat(
        self, ns: Namespace, *, from_version: Version | None = None, lock_owner: str | None = None
    ) -> Stat:
        """``GET /stat``."""
        ask = ask_stat(ns, from_version, lock_owner)
        return await self._asker.ask(lambda _: ask, bodies.take_stat)

    async def _stat_since(self, part: NamespaceCommit, lock_owner: str | None) -> tuple[Stat, bool]:
        ask = ask_stat(part.namespace, part.version, lock_owner)
        return await self._asker.ask(
            lambda _: ask,
            lambda a, url: (bodies.take_stat(a, url), a.headers.get(CHECKS) == ASSUMED_VERSION),
        )

    async def _head_of(self, ns: Namespace) -> Version:
        ask = ask_stat(ns, None, None)
        # Asked once: whoever asks does so because something else failed, and has waited for that already.
        stat = await self._asker.ask(lambda _: ask, bodies.take_stat, bears=lambda _: False)
        return stat.version

    async def read(self, ns: Namespace, reads: Sequence[PageRead]) -> list[PageContent]:
        """``POST /batch/read``, 200 pages a request. Raises :class:`Gone` for what can't be had."""
        return await self._reading.read(ns, reads)

    async def time2version(self, t: int) -> TimeBounds:
        """``GET /time2version``."""
        ask = ask_for("GET", f"/time2version?t={t}", None, replayable=True)
        return await self._asker.ask(lambda _: ask, bodies.take_bounds)

    # -- writing ------------------------------------------------------------------------------

    async def write(self, ns: Namespace, pages: Sequence[bytes]) -> list[bytes]:
        """``POST /batch/write``, 50 pages a request."""
        for page in pages:
            bodies.check_page(page)
        batches = await side_by_side(
            lambda batch: self._write_batch(ns, batch), cut(pages, limits.STORE_WRITE_AHEAD_PAGES)
        )
        return [digest for batch in batches for digest in batch]

    async def _write_batch(self, ns: Namespace, pages: Sequence[bytes]) -> list[bytes]:
        ask = ask_for("POST", "/batch/write", ns, bodies.write_body(pages))
        return await self._asker.ask(lambda _: ask, lambda a, url: bodies.take_hashes(a, url, len(pages)))

    async def commit(self, request: CommitRequest) -> Committed:
        """``POST /batch/commit``; where it carries many pages, their content goes ahead.

        Raises :class:`Conflict` too where the namespace is not the one any more that the assumed version is of,
        though mvstore would take the commit, and :class:`TooLarge` for what the store below never takes."""
        return await self._committing.commit(request)

    # -- locks --------------------------------------------------------------------------------

    async def lock(self, ns: Namespace, owner: str, version: Version | None = None) -> None:
        """``POST /nslock/acquire``. mvstore answers an owner out of bounds by 500: it is refused here."""
        size = len(owner.encode("utf-8", "surrogatepass"))
        if not 0 < size <= limits.STORE_LOCK_OWNER_BYTES_MAX:
            raise BadInput(f"lock owner of {size} bytes; it has 1 to {limits.STORE_LOCK_OWNER_BYTES_MAX}")
        value = {"owner": owner} if version is None else {"owner": owner, "version": version}
        await self._post_json("/nslock/acquire", ns, value)

    async def unlock(self, ns: Namespace, owner: str, *, rollback: bool) -> None:
        """``POST /nslock/release``."""
        value = {"owner": owner, "mode": "rollback" if rollback else "commit"}
        await self._post_json("/nslock/release", ns, value)

    async def _post_json(self, path: str, ns: Namespace, value: dict[str, str]) -> None:
        ask = ask_for("POST", path, ns, json.dumps(value).encode())
        await self._asker.ask(lambda _: ask, ignored)

    # -- namespaces ---------------------------------------------------------------------------

    async def create_namespace(self, key: str, overlay_base: OverlayBase | None = None) -> None:
        """By the admin API; without one, by use, where the store allows it and no base is asked for.
        Raises :class:`AdminNeeded` where that does not work."""
        if self._admin is not None or overlay_base is not None:
            await self._need_admin("a namespace is made").create_namespace(key, overlay_base)
            return
        try:
            await self.stat(Namespace(key))
        except NotFound:
            raise AdminNeeded(
                f"{', '.join(self.urls)} has no namespace {key!r} and makes none by use; "
                "give its admin API with --store-admin URL, or start it with --auto-create-namespace"
            ) from None

    async def rename_namespace(self, old_key: str, new_key: str) -> None:
        """By the admin API."""
        await self._need_admin("a namespace is renamed").rename_namespace(old_key, new_key)

    async def delete_namespace(self, key: str) -> None:
        """By the admin API."""
        await self._need_admin("a namespace is deleted").delete_namespace(key)

    async def list_namespaces(self, prefix: str = "") -> list[NamespaceInfo]:
        """By the admin API; keys and ids only."""
        return await self._need_admin("namespaces are listed").list_namespaces(prefix)

    async def namespace_info(self, key: str) -> NamespaceInfo:
        """By the admin API."""
        return await self._need_admin("a namespace is described").namespace_info(key)

    async def truncate_namespace(
        self, key: str, before_version: Version, *, apply: bool = True
    ) -> AsyncIterator[str]:
        """By the admin API, and never above the head: mvstore would set the mark there, and serve the head no
        more. So a protected key, whose head is not told without its proof, is refused (:class:`Forbidden`)."""
        admin = self._need_admin("versions are truncated")
        if ":" in key:
            raise Forbidden(f"{key!r:.200} is protected: its head is not known here, and must not be cut off")
        # The head may only rise in between, and then the mark is lower than it could be.
        before = min(version_of(before_version), (await self.stat(Namespace(key))).version)
        async for line in admin.truncate_namespace(key, before, apply=apply):
            yield line

    async def delete_unreferenced_content(self, key: str, *, apply: bool = True) -> AsyncIterator[str]:
        """By the admin API."""
        async for line in self._need_admin("content is collected").delete_unreferenced_content(
            key, apply=apply
        ):
            yield line

    def _need_admin(self, what: str) -> AdminApi:
        if self._admin is None:
            urls = ", ".join(self.urls)
            raise AdminNeeded(f"{what} by the admin API of {urls}; give it with --store-admin URL")
        return self._admin

    # -- the rest -----------------------------------------------------------------------------

    def blocking(self) -> BlockingStore:
        """The same store for a SQLite thread."""
        return BlockingBridge(self, self._loop)

    async def aclose(self) -> None:
        """Close every transport. Idempotent."""
        for transport in self._asker.addresses.transports:
            await transport.aclose()
        if self._admin is not None:
            await self._admin.aclose()
