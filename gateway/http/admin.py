"""mvstore's admin API over any :class:`Store`: JSON in, short lines out. Room: http.

For a listener of its own, never for the data plane's: it makes, renames, truncates and deletes
namespaces. Source: ``docs/STORE.md``, "Admin API".
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Callable

from starlette.routing import Route

from gateway.errors import BadInput, Conflict, Forbidden, GatewayError, NotFound
from gateway.http.dataplane_call import Call, PlaneEndpoint
from gateway.store.base import NamespaceInfo, OverlayBase, Store
from gateway.store.world.catalogue import CATALOGUE_KEY
from gateway.wire import mvstore

logger = logging.getLogger(__name__)

_TEXT = [(b"content-type", b"text/plain; charset=utf-8")]


def routes(store: Store, *, truncate_min_age_s: int = 0) -> list[Route]:
    """The admin API's routes, for the root of an origin. ``truncate_min_age_s``: versions that are younger are
    not truncated (0: no such check)."""
    admin = Admin(store, truncate_min_age_s)
    posts = {
        "/api/create_namespace": admin.create,
        "/api/rename_namespace": admin.rename,
        "/api/delete_namespace": admin.delete,
        "/api/truncate_namespace": admin.truncate,
        "/api/delete_unreferenced_content": admin.collect,
        "/api/stat_namespace": admin.stat,
    }
    return [
        *(Route(path, PlaneEndpoint(handler), methods=["POST"]) for path, handler in posts.items()),
        Route("/api/list_namespace", PlaneEndpoint(admin.list), methods=["GET"]),
        Route("/fdb/status", PlaneEndpoint(admin.fdb_status), methods=["GET"]),
    ]


class TooYoung(Forbidden):
    """A truncation of versions that are to be kept for some time yet."""

    code = "too_young"
    title = "Too young to be truncated"


class Admin:
    """The handlers. Each answers its call once, or raises a :class:`GatewayError`."""

    def __init__(
        self, store: Store, truncate_min_age_s: int = 0, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._truncate_min_age_s = truncate_min_age_s
        self._clock = clock

    async def create(self, call: Call) -> None:
        """``{key, overlay_base?: {ns_id, snapshot_version}}``: 201, 422 where it exists."""
        body = await call.json()
        key, base = mvstore.openable(_key(body, "key")), body.get("overlay_base")
        await self._store.create_namespace(key, None if base is None else _overlay(base))
        await call.answer(201, b"created\n", _TEXT)

    async def rename(self, call: Call) -> None:
        """``{old_key, new_key}``: 200, 404, 422 where the new one exists."""
        body = await call.json()
        old_key = _key(body, "old_key")
        _refuse_catalogue(old_key, "renamed")
        await self._store.rename_namespace(old_key, mvstore.openable(_key(body, "new_key")))
        await call.answer(200, b"renamed\n", _TEXT)

    async def delete(self, call: Call) -> None:
        """``{key}``: 200, 404, 409 with overlay children."""
        key = _key(await call.json(), "key")
        _refuse_catalogue(key, "deleted")
        await self._store.delete_namespace(key)
        await call.answer(200, b"deleted\n", _TEXT)

    async def truncate(self, call: Call) -> None:
        """``{key, before_version, apply?}``: progress lines, then ``DONE`` or ``ERROR``."""
        body = await call.json()
        before = mvstore.version_of(_key(body, "before_version"))
        await self._check_age(before)
        lines = self._store.truncate_namespace(_key(body, "key"), before, apply=_apply(body))
        await _progress(call, lines)

    async def _check_age(self, before: str) -> None:
        """Raises :class:`TooYoung`."""
        if not self._truncate_min_age_s:
            return
        cutoff = max(int(self._clock()) - self._truncate_min_age_s, 1)
        # The first point after the cutoff: what was committed before it is older, and no later one is.
        oldest = (await self._store.time2version(cutoff)).after
        if oldest is None or before > oldest.version:
            allowed = (
                "no version is known to be as old" if oldest is None else f"up to {oldest.version} it may be"
            )
            raise TooYoung(
                f"before_version {before} is younger than {self._truncate_min_age_s} s, which is kept here "
                f"(--truncate-min-age-seconds): {allowed}"
            )

    async def collect(self, call: Call) -> None:
        """``{key, apply?}``: progress lines, then ``DONE`` or ``ERROR``."""
        body = await call.json()
        await _progress(call, self._store.delete_unreferenced_content(_key(body, "key"), apply=_apply(body)))

    async def list(self, call: Call) -> None:
        """``?prefix=``: one JSON object a line."""
        for info in await self._store.list_namespaces(call.query().get("prefix", "")):
            line = json.dumps({"nskey": info.key, "nsid": info.ns_id}, ensure_ascii=False)
            await call.stream(line.encode() + b"\n", _TEXT)
        # A list without a line is a good answer, too.
        if not call.started:
            await call.stream(b"", _TEXT)
        await call.end()

    async def stat(self, call: Call) -> None:
        """``{key}``: the namespace's id and metadata."""
        await call.answer_json(_described(await self._store.namespace_info(_key(await call.json(), "key"))))

    async def fdb_status(self, call: Call) -> None:
        """There is no FoundationDB below this store."""
        raise NotFound("this store does not run on FoundationDB, so there is no status of it")


async def _progress(call: Call, lines: AsyncIterator[str]) -> None:
    """Stream the lines as they come. What cannot begin is refused; what breaks later ends in ERROR."""
    last = b"DONE\n"
    try:
        async for line in lines:
            await call.stream(line.rstrip("\n").encode() + b"\n", _TEXT)
    except BadInput:
        if not call.started:
            raise
        last = b"ERROR\n"
    except GatewayError as error:
        # The status has gone out: mvstore's tools read the last line, and this is how it says so.
        logger.error("background work on a namespace failed: %s", error.message)
        last = b"ERROR\n"
    await call.stream(last, _TEXT)
    await call.end()


def _refuse_catalogue(key: str, what: str) -> None:
    if key == CATALOGUE_KEY:
        raise Conflict(
            f"{key} says which namespaces the names of worlds mean, so it is not {what}: "
            "worlds that were deleted and made again would be found no more"
        )


def _key(body: dict[str, object], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise BadInput(f"{name} is missing; it is a non-empty string")
    return value


def _apply(body: dict[str, object]) -> bool:
    value = body.get("apply", False)
    if not isinstance(value, bool):
        raise BadInput("apply is true or false; without it nothing is changed, only counted")
    return value


def _overlay(base: object) -> OverlayBase:
    if not isinstance(base, dict):
        raise BadInput("overlay_base is an object with ns_id and snapshot_version")
    return OverlayBase(
        mvstore.version_of(_key(base, "ns_id")), mvstore.version_of(_key(base, "snapshot_version"))
    )


def _described(info: NamespaceInfo) -> dict[str, object]:
    lock, base = info.lock, info.overlay_base
    metadata = {
        "lock": lock
        and {
            "snapshot_version": lock.snapshot_version,
            "owner": lock.owner,
            "nonce": lock.nonce,
            "rolling_back": lock.rolling_back,
        },
        "overlay_base": base and {"ns_id": base.ns_id, "snapshot_version": base.snapshot_version},
        "truncated_before": info.truncated_before,
    }
    return {"nskey": info.key, "nsid": info.ns_id, "metadata": metadata}
