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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import urlencode

from gateway import limits
from gateway.errors import BadInput, NotFound
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
    Version,
)
from gateway.store.remote import bodies
from gateway.store.remote.addresses import Addresses
from gateway.store.remote.admin import AdminApi, AdminNeeded
from gateway.store.remote.asking import Asker, Incomplete, real_sleep
from gateway.store.remote.blocking import BlockingBridge
from gateway.store.remote.transport import Answer, Ask, Transport
from gateway.wire.mvstore import version_of

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """``deadline_s`` bounds every single operation's waiting; ``inline_pages`` what a commit carries."""

    deadline_s: float = limits.STORE_DEADLINE_S
    inline_pages: int = limits.STORE_INLINE_PAGES
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
        self._options = options
        self._admin = admin
        self._loop = asyncio.get_running_loop()
        self._asker = Asker(
            Addresses(transports, options.uniform),
            deadline_s=options.deadline_s,
            clock=options.clock,
            sleep=options.sleep,
            uniform=options.uniform,
        )

    @property
    def urls(self) -> list[str]:
        """The addresses, in the order given."""
        return [transport.url for transport in self._asker.addresses.transports]

    def facts(self) -> dict[str, Any]:
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
        if from_version:
            version_of(from_version)
        fields = {"from_version": from_version, "lock_owner": lock_owner}
        query = urlencode({name: value for name, value in fields.items() if value is not None})
        ask = _ask("GET", "/stat" + (f"?{query}" if query else ""), ns, replayable=True)
        return await self._asker.ask(lambda _: ask, bodies.take_stat)

    async def read(self, ns: Namespace, reads: Sequence[PageRead]) -> list[PageContent]:
        """``POST /batch/read``, 200 pages a request."""
        for read in reads:
            if read.hash is None:
                version_of(read.version)
        batches = await _side_by_side(
            lambda batch: self._read_batch(ns, batch), _cut(reads, limits.STORE_READ_PAGES_MAX)
        )
        return [page for batch in batches for page in batch]

    async def _read_batch(self, ns: Namespace, reads: Sequence[PageRead]) -> list[PageContent]:
        bytes_max = len(reads) * limits.STORE_ANSWER_FRAME_BYTES_MAX + limits.STORE_SMALL_ANSWER_BYTES_MAX
        ask = _ask("POST", "/batch/read", ns, bodies.read_body(reads), bytes_max, replayable=True)
        try:
            return await self._asker.ask(lambda _: ask, lambda a, url: bodies.take_pages(a, url, reads))
        except Incomplete as error:
            raise bodies.unreadable(error) from error

    async def time2version(self, t: int) -> TimeBounds:
        """``GET /time2version``."""
        ask = _ask("GET", f"/time2version?t={t}", None, replayable=True)
        return await self._asker.ask(lambda _: ask, bodies.take_bounds)

    # -- writing ------------------------------------------------------------------------------

    async def write(self, ns: Namespace, pages: Sequence[bytes]) -> list[bytes]:
        """``POST /batch/write``, 50 pages a request."""
        for page in pages:
            bodies.check_page(page)
        batches = await _side_by_side(
            lambda batch: self._write_batch(ns, batch), _cut(pages, limits.STORE_WRITE_AHEAD_PAGES)
        )
        return [digest for batch in batches for digest in batch]

    async def _write_batch(self, ns: Namespace, pages: Sequence[bytes]) -> list[bytes]:
        ask = _ask("POST", "/batch/write", ns, bodies.write_body(pages))
        return await self._asker.ask(lambda _: ask, lambda a, url: bodies.take_hashes(a, url, len(pages)))

    async def commit(self, request: CommitRequest) -> Committed:
        """``POST /batch/commit``; where it carries many pages, their content goes ahead."""
        inline = bodies.inline_pages(request)
        if inline > self._options.inline_pages:
            request = replace(request, namespaces=[await self._ahead(p) for p in request.namespaces])
        later = bodies.commit_body(request, first=False)
        first = bodies.commit_body(request, first=True) if request.first_attempt else later

        def make(attempt: int) -> Ask:
            return _ask("POST", "/batch/commit", None, later if attempt else first)

        return await self._asker.ask(make, bodies.take_committed)

    async def _ahead(self, part: NamespaceCommit) -> NamespaceCommit:
        await self.write(part.namespace, [page.data for page in part.pages if page.data is not None])
        return bodies.without_data(part)

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
        ask = _ask("POST", path, ns, json.dumps(value).encode())
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
        """By the admin API."""
        admin = self._need_admin("versions are truncated")
        async for line in admin.truncate_namespace(key, before_version, apply=apply):
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


def _ask(
    method: str,
    path: str,
    ns: Namespace | None,
    body: bytes = b"",
    answer_bytes_max: int = limits.STORE_SMALL_ANSWER_BYTES_MAX,
    *,
    replayable: bool = False,
) -> Ask:
    headers = {}
    if ns is not None:
        headers["x-namespace-key"] = ns.key
        if ns.proof is not None:
            headers["x-namespace-hashproof"] = ns.proof
    return Ask(method, path, headers, body, answer_bytes_max, replayable)


def _cut(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[at : at + size] for at in range(0, len(items), size)]


async def _side_by_side(work: Callable[[T], Awaitable[U]], parts: Iterable[T]) -> list[U]:
    """``work`` over all parts, a few at once; the first failure ends the others."""
    parts = list(parts)
    if len(parts) == 1:
        return [await work(parts[0])]
    places = asyncio.Semaphore(limits.STORE_REQUESTS_AT_ONCE)

    async def one(part: T) -> U:
        async with places:
            return await work(part)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(part)) for part in parts]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


def ignored(answer: Answer, url: str) -> None:
    """Takes a good answer that says nothing."""
