"""The admin API of a remote store, from the client's side. Room: store."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from gateway import limits
from gateway.errors import BadInput, Forbidden, NotFound, StoreError, StoreUnavailable
from gateway.store.base import LockInfo, NamespaceInfo, OverlayBase, Version
from gateway.store.remote.transport import Answer, Ask, Transport, check


class AdminNeeded(Forbidden):
    """What was asked goes by the store's admin API, and no address of it was given."""

    code = "store_admin_needed"
    title = "The store's admin API is needed"


class AdminApi:
    """Makes, renames, deletes and tells of namespaces. Asks once: nothing here may be done twice."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def _ask(self, method: str, path: str, value: Any = None) -> Answer:
        answer = await self._transport.request(_ask(method, path, value), limits.STORE_DEADLINE_S)
        return check(answer, self._transport.url)

    async def create_namespace(self, key: str, overlay_base: OverlayBase | None) -> None:
        """As :meth:`gateway.store.base.Store.create_namespace`."""
        value: dict[str, Any] = {"key": key}
        if overlay_base is not None:
            value["overlay_base"] = {
                "ns_id": overlay_base.ns_id,
                "snapshot_version": overlay_base.snapshot_version,
            }
        await self._ask("POST", "/api/create_namespace", value)

    async def rename_namespace(self, old_key: str, new_key: str) -> None:
        """404 and 422 become their errors."""
        await self._ask("POST", "/api/rename_namespace", {"old_key": old_key, "new_key": new_key})

    async def delete_namespace(self, key: str) -> None:
        """404 and 409 become their errors."""
        await self._ask("POST", "/api/delete_namespace", {"key": key})

    async def list_namespaces(self, prefix: str) -> list[NamespaceInfo]:
        """Keys and ids only: a lock or a base is told by :meth:`namespace_info`."""
        answer = await self._ask("GET", f"/api/list_namespace?prefix={quote(prefix, safe='')}")
        try:
            lines = [json.loads(line) for line in answer.body.splitlines() if line.strip()]
            return [NamespaceInfo(line["nskey"], line["nsid"]) for line in lines]
        except (ValueError, KeyError, TypeError) as error:
            raise self._odd(error) from error

    async def namespace_info(self, key: str) -> NamespaceInfo:
        """The namespace's id, lock, base and truncation mark."""
        answer = await self._ask("POST", "/api/stat_namespace", {"key": key})
        try:
            return _info(json.loads(answer.body))
        except (ValueError, KeyError, TypeError) as error:
            raise self._odd(error) from error

    async def progress(self, path: str, value: dict[str, Any]) -> AsyncIterator[str]:
        """The lines of background work. Raises :class:`StoreError` where it ends in ERROR."""
        async for line in self._transport.lines(_ask("POST", path, value), limits.STORE_ADMIN_SILENCE_S_MAX):
            if line == "DONE":
                return
            if line == "ERROR":
                raise StoreError(f"{self._transport.url}{path} failed; the store's log tells why")
            yield line
        raise StoreUnavailable(f"{self._transport.url}{path} broke off before it was done")

    async def truncate_namespace(
        self, key: str, before_version: Version, *, apply: bool
    ) -> AsyncIterator[str]:
        """Progress lines."""
        value = {"key": key, "before_version": before_version, "apply": apply}
        async for line in self.progress("/api/truncate_namespace", value):
            yield line

    async def delete_unreferenced_content(self, key: str, *, apply: bool) -> AsyncIterator[str]:
        """Progress lines. mvstore tells of a missing key by 400 here, and by 404 everywhere else."""
        value = {"key": key, "apply": apply}
        try:
            async for line in self.progress("/api/delete_unreferenced_content", value):
                yield line
        except BadInput as error:
            if "does not exist" not in error.message:
                raise
            raise NotFound(
                f"namespace {key!r:.200} not found; create it first", namespace=key[:200]
            ) from error

    def _odd(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(f"{self._transport.url} answered what an admin API does not: {error}")

    async def aclose(self) -> None:
        """Close the transport."""
        await self._transport.aclose()


def _ask(method: str, path: str, value: Any) -> Ask:
    if value is None:
        return Ask(method, path, {}, b"", limits.STORE_ADMIN_ANSWER_BYTES_MAX)
    body = json.dumps(value).encode()
    headers = {"content-type": "application/json"}
    return Ask(method, path, headers, body, limits.STORE_ADMIN_ANSWER_BYTES_MAX)


def _info(value: dict[str, Any]) -> NamespaceInfo:
    metadata = value["metadata"]
    lock, base = metadata.get("lock"), metadata.get("overlay_base")
    return NamespaceInfo(
        value["nskey"],
        value["nsid"],
        lock
        and LockInfo(lock["owner"], lock["snapshot_version"], lock["nonce"], lock.get("rolling_back", False)),
        base and OverlayBase(base["ns_id"], base["snapshot_version"]),
        metadata.get("truncated_before"),
    )
