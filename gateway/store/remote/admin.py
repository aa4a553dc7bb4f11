"""The admin API of a remote store, from the client's side. Room: store. Source: docs/STORE.md."""

from __future__ import annotations

import json
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import quote

from gateway import limits
from gateway.errors import (
    BadInput,
    Forbidden,
    GatewayError,
    NoNamespace,
    NotFound,
    StoreError,
    StoreUnavailable,
)
from gateway.store.base import LockInfo, NamespaceInfo, OverlayBase, Version
from gateway.store.remote.addresses import Addresses
from gateway.store.remote.transport import Ask, StoreAnswer, Transport, check


class AdminNeeded(Forbidden):
    """What was asked goes by the store's admin API, and no address of it was given."""

    code = "store_admin_needed"
    title = "The store's admin API is needed"


class AdminApi:
    """Makes, renames, deletes and tells of namespaces. Each address is asked once, in turn, until one answers; one
    that does not is set aside for a while. Time and randomness come in."""

    def __init__(
        self,
        *transports: Transport,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._addresses = Addresses(transports, uniform)
        self._clock = clock

    @property
    def urls(self) -> str:
        """The addresses, for messages."""
        return ", ".join(transport.url for transport in self._addresses.transports)

    async def _ask(
        self, method: str, path: str, value: object = None, *, again: type[GatewayError] | None = None
    ) -> StoreAnswer:
        """Raises what a 4xx stands for, and :class:`StoreUnavailable` where no address answers. ``again``: says
        that an address before, whose answer was lost, has done it already."""
        ask = _ask(method, path, value)
        failure: StoreUnavailable | None = None
        for transport in self._in_turn():
            try:
                answer = check(
                    await transport.request(ask, limits.STORE_DEADLINE_S / len(self._addresses)),
                    transport.url,
                )
            except StoreUnavailable as error:
                failure = error
                self._addresses.bad(transport, self._clock())
            except GatewayError as error:
                self._addresses.good(transport)
                if failure is None or again is None or not isinstance(error, again):
                    raise
                return StoreAnswer(200, {}, b"")
            else:
                self._addresses.good(transport)
                return answer
        assert failure is not None
        raise failure

    def _in_turn(self) -> Iterator[Transport]:
        """Each address once, the one that answered last first."""
        asked: list[Transport] = []
        for _ in range(len(self._addresses)):
            transport = self._addresses.pick(self._clock())
            if transport in asked:
                transport = next(each for each in self._addresses.transports if each not in asked)
            asked.append(transport)
            yield transport

    async def create_namespace(self, key: str, overlay_base: OverlayBase | None) -> None:
        """As :meth:`gateway.store.base.Store.create_namespace`."""
        value: dict[str, object] = {"key": key}
        if overlay_base is not None:
            value["overlay_base"] = {
                "ns_id": overlay_base.ns_id,
                "snapshot_version": overlay_base.snapshot_version,
            }
        await self._ask("POST", "/api/create_namespace", value)

    async def rename_namespace(self, old_key: str, new_key: str) -> None:
        """404 and 422 become their errors."""
        value = {"old_key": old_key, "new_key": new_key}
        await self._ask("POST", "/api/rename_namespace", value, again=NotFound)

    async def delete_namespace(self, key: str) -> None:
        """404 and 409 become their errors."""
        await self._ask("POST", "/api/delete_namespace", {"key": key}, again=NotFound)

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

    async def progress(self, path: str, value: dict[str, object]) -> AsyncIterator[str]:
        """The lines of background work. Raises :class:`StoreError` where it ends in ERROR."""
        failure: StoreUnavailable | None = None
        for transport in self._in_turn():
            begun = False
            try:
                async for line in _lines(transport, path, value):
                    begun = True
                    yield line
            except StoreUnavailable as error:
                self._addresses.bad(transport, self._clock())
                if begun:
                    raise
                failure = error
            else:
                self._addresses.good(transport)
                return
        assert failure is not None
        raise failure

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
            raise NoNamespace(
                f"namespace {key!r:.200} not found; create it first", namespace=key[:200]
            ) from error

    def _odd(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(f"{self.urls} answered what an admin API does not: {error}")

    async def aclose(self) -> None:
        """Close the transports."""
        for transport in self._addresses.transports:
            await transport.aclose()


async def _lines(transport: Transport, path: str, value: dict[str, object]) -> AsyncIterator[str]:
    async for line in transport.lines(_ask("POST", path, value), limits.STORE_ADMIN_SILENCE_S_MAX):
        if line == "DONE":
            return
        if line == "ERROR":
            raise StoreError(f"{transport.url}{path} failed; the store's log tells why")
        yield line
    raise StoreUnavailable(f"{transport.url}{path} broke off before it was done")


def _ask(method: str, path: str, value: object) -> Ask:
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
