"""mvstore's admin API over the stand-in's rules, and the stand-in's own page for tests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from gateway.errors import BadInput, Conflict, NotFound, StoreUnavailable, Unprocessable
from gateway.store.base import OverlayBase
from gateway.wire import mvstore
from tests.store.standin.http import Answer, Asked
from tests.store.standin.rules import Failed, StandIn

NO_KEY = Answer(404, b"this key does not exist\n")


class AdminApi:
    """Names are looked up anew at each request: nothing is cached here."""

    def __init__(self, store: StandIn) -> None:
        self._store = store

    async def serve(self, asked: Asked) -> Answer:
        """Any request."""
        if asked.path == "/standin":
            return await self._own(asked)
        handlers = {
            "/api/create_namespace": self._create,
            "/api/rename_namespace": self._rename,
            "/api/delete_namespace": self._delete,
            "/api/truncate_namespace": self._truncate,
            "/api/delete_unreferenced_content": self._collect,
            "/api/list_namespace": self._list,
            "/api/stat_namespace": self._stat,
        }
        self._store.counts.admin += 1
        if asked.path not in handlers:
            return Answer(404)
        try:
            return await handlers[asked.path](asked)
        except NotFound:
            return NO_KEY

    async def _own(self, asked: Asked) -> Answer:
        """``GET``: the counts. ``{"advance_s": N}``: it is later now."""
        body = await asked.body()
        if body:
            await self._store.advance(float(json.loads(body)["advance_s"]))
        return Answer(
            200, json.dumps(asdict(self._store.counts)).encode(), {"content-type": "application/json"}
        )

    async def _create(self, asked: Asked) -> Answer:
        value = await _object(asked, "key")
        base = value.get("overlay_base")
        try:
            await self._store.create(value["key"], None if base is None else _base(base))
        except Unprocessable:
            return Answer(422, b"this key already exists\n")
        except Conflict:
            return Answer(409, b"base namespace is locked\n")
        except BadInput as error:
            return Answer(400, error.message.encode())
        return Answer(201, b"created\n")

    async def _rename(self, asked: Asked) -> Answer:
        value = await _object(asked, "old_key", "new_key")
        try:
            await self._store.rename(value["old_key"], value["new_key"])
        except Unprocessable:
            return Answer(422, b"new key already exists\n")
        except NotFound:
            return Answer(404, b"old key does not exist\n")
        return Answer(200, b"renamed\n")

    async def _delete(self, asked: Asked) -> Answer:
        value = await _object(asked, "key")
        try:
            await self._store.delete(value["key"])
        except Conflict:
            return Answer(409, b"namespace has overlay children and cannot be deleted\n")
        return Answer(200, b"deleted\n")

    async def _truncate(self, asked: Asked) -> Answer:
        value = await _object(asked, "key", "before_version")
        ns_id = self._store.find(value["key"])
        if ns_id is None:
            return NO_KEY
        try:
            before = mvstore.version_of(value["before_version"])
        except BadInput as error:
            raise Failed(str(error)) from error
        return Answer(200, lines=_progress(self._store.truncate(ns_id, before, _apply(value))))

    async def _collect(self, asked: Asked) -> Answer:
        value = await _object(asked, "key")
        ns_id = self._store.find(value["key"])
        if ns_id is None:
            return Answer(400, b"this key does not exist")
        return Answer(200, lines=_progress(self._store.collect(ns_id, _apply(value))))

    async def _list(self, asked: Asked) -> Answer:
        found = await self._store.list(asked.query.get("prefix", ""))
        lines = [json.dumps({"nskey": info.key, "nsid": info.ns_id}) + "\n" for info in found]
        return Answer(200, "".join(lines).encode())

    async def _stat(self, asked: Asked) -> Answer:
        info = await self._store.info((await _object(asked, "key"))["key"])
        metadata = {
            "lock": info.lock and asdict(info.lock),
            "overlay_base": info.overlay_base and asdict(info.overlay_base),
            "truncated_before": info.truncated_before,
        }
        value = {"nskey": info.key, "nsid": info.ns_id, "metadata": metadata}
        return Answer(200, json.dumps(value).encode(), {"content-type": "application/json"})


async def _progress(lines: AsyncIterator[str]) -> AsyncIterator[bytes]:
    last = b"ERROR\n"
    with suppress(Failed, NotFound, StoreUnavailable):
        async for line in lines:
            yield line.encode() + b"\n"
        last = b"DONE\n"
    yield last


async def _object(asked: Asked, *names: str) -> dict[str, Any]:
    """A JSON object with these texts. Raises :class:`Failed`: any other body is a 500."""
    try:
        value = json.loads(await asked.json_body())
    except (ValueError, RecursionError) as error:
        raise Failed(str(error)) from error
    if not isinstance(value, dict) or not all(isinstance(value.get(name), str) for name in names):
        raise Failed(f"missing field among {', '.join(names)}")
    return value


def _apply(value: dict[str, Any]) -> bool:
    apply = value.get("apply", False)
    if not isinstance(apply, bool):
        raise Failed("invalid type: expected a boolean")
    return apply


def _base(value: Any) -> OverlayBase:
    if not isinstance(value, dict) or not {"ns_id", "snapshot_version"} <= value.keys():
        raise Failed("missing field of overlay_base")
    return OverlayBase(mvstore.version_of(value["ns_id"]), mvstore.version_of(value["snapshot_version"]))
