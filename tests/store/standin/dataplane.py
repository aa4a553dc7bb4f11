"""mvstore's data plane over the stand-in's rules, answers as bare as mvstore's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgpack

from gateway.errors import (
    BadInput,
    Conflict,
    GatewayError,
    Gone,
    MalformedMessage,
    NotFound,
    StoreUnavailable,
    Unprocessable,
)
from gateway.store.base import (
    MAX_VERSION,
    CommitRequest,
    Namespace,
    NamespaceCommit,
    PageRead,
    PageWrite,
    TimePoint,
)
from gateway.wire import mvstore
from gateway.wire.mvstore import FrameReader
from tests.store.standin.http import Answer, Asked
from tests.store.standin.names import NameCache
from tests.store.standin.rules import Failed, StandIn

READS_MAX = 200
WRITES_MAX = 100
PAGE_BYTES_MAX = 32_768
PAGES_MAX = 50_000
NAMESPACES_MAX = 16
OWNER_BYTES_MAX = 256
NOT_FOUND = Answer(404, b"namespace not found")


class DataPlane:
    """One mvstore process's: it has a name cache of its own."""

    def __init__(self, store: StandIn) -> None:
        self._store = store
        self._names = NameCache(store.clock)

    async def serve(self, asked: Asked) -> Answer:
        """Any request."""
        ns_id, proof = None, asked.headers.get("x-namespace-hashproof")
        key = asked.headers.get("x-namespace-key")
        if key is not None:
            ns_id = self._look_up(key, proof) or await self._make_by_use(key, proof)
        handlers = {
            "/stat": self._stat,
            "/batch/read": self._read,
            "/batch/write": self._write,
            "/nslock/acquire": self._acquire,
            "/nslock/release": self._release,
        }
        if asked.path == "/batch/commit":
            return await self._commit(asked)
        if asked.path == "/time2version":
            return await self._time2version(asked)
        if asked.path not in handlers:
            return Answer(404, b"not found")
        if ns_id is None:
            return Answer(400, b"this operation requires x-namespace-key")
        return await handlers[asked.path](asked, ns_id, proof)

    def _look_up(self, key: str, proof: str | None) -> str | None:
        if not mvstore.proof_ok(key, proof):
            return None
        known = self._names.get(key)
        if known is None and (known := self._store.find(key)) is not None:
            self._names.put(key, known)
        return known

    async def _make_by_use(self, key: str, proof: str | None) -> str:
        if not self._store.knobs.auto_create:
            raise NOT_FOUND
        try:
            await self._store.create(key)
        except Unprocessable as error:
            raise Failed("this key already exists") from error
        made = self._look_up(key, None)
        if made is None:
            raise Failed("panic: a protected key was asked for without its proof")
        return made

    # --- reading -----------------------------------------------------------------------------------

    async def _stat(self, asked: Asked, ns_id: str, proof: str | None) -> Answer:
        since = asked.query.get("from_version") or None
        try:
            since = since and mvstore.version_of(since)
            stat = await self._store.stat(ns_id, proof, since, asked.query.get("lock_owner") or None)
        except Gone:
            return Answer(410)
        except BadInput as error:
            raise Failed(str(error)) from error
        value = {"version": stat.version, "metadata": "", "read_only": False, "interval": stat.interval}
        return _json(value)

    async def _time2version(self, asked: Asked) -> Answer:
        text = asked.query.get("t", "")
        if not text.isascii() or not text.isdigit() or int(text) >= 2**64:
            raise Failed("invalid t")
        bounds = await self._store.time2version(int(text))
        return _json({"after": _point(bounds.after), "not_after": _point(bounds.not_after)})

    async def _read(self, asked: Asked, ns_id: str, proof: str | None) -> Answer:
        body = b""
        for contents in _first(READS_MAX, _until_bad(await _some_frames(asked, READS_MAX + 1))):
            try:
                message = mvstore.decode_read(contents)
                version = message.version if message.hash is not None else mvstore.version_of(message.version)
                page = await self._store.read(ns_id, proof, PageRead(message.page, version, message.hash))
            except (BadInput, Gone):
                break
            shown = message.version[:20] if message.hash is not None and page.data else page.version
            body += mvstore.encode_page(shown, page.data)
        return Answer(200, body)

    # --- writing -----------------------------------------------------------------------------------

    async def _write(self, asked: Asked, ns_id: str, proof: str | None) -> Answer:
        pages: list[bytes] = []
        for contents in _until_bad(await asked.body()):
            if not contents:
                break
            if len(pages) > WRITES_MAX:
                return Answer(200)
            pages.append(contents)
        else:
            return Answer(200)
        try:
            written = [_data(contents) for contents in pages]
        except BadInput:
            return Answer(200)
        if any(len(data) > PAGE_BYTES_MAX for data in written):
            return Answer(200)
        hashes = await self._store.write(ns_id, proof, written) if written else []
        return Answer(200, b"".join(map(mvstore.encode_hash, (*hashes, b""))))

    async def _commit(self, asked: Asked) -> Answer:
        frames = _frames(await asked.body())
        try:
            request, named = self._parsed(frames)
            version, changed = await self._store.commit(request, named)
        except (StopIteration, MalformedMessage) as error:
            raise Failed(f"malformed: {error}") from error
        except Conflict:
            return Answer(409)
        except Gone as error:
            return Answer(410, b"bad page reference" if "bad page" in error.message else b"")
        except NotFound:
            raise NOT_FOUND from None
        except BadInput as error:
            return Answer(400, error.message.encode())
        headers = {"x-committed-version": version, "x-last-version": MAX_VERSION}
        return Answer(200, mvstore.encode_changelog(changed), headers)

    def _parsed(self, frames: Iterator[bytes]) -> tuple[CommitRequest, list[tuple[str, str]]]:
        head = mvstore.decode_commit_head(next(frames))
        if not 1 <= head.namespaces <= NAMESPACES_MAX:
            raise Answer(412, b"num_namespaces out of bound")
        parts: list[NamespaceCommit] = []
        named: list[tuple[str, str]] = []
        count = inline = 0
        for _ in range(head.namespaces):
            part = mvstore.decode_commit_namespace(next(frames))
            count += part.pages
            if count > PAGES_MAX:
                raise Answer(413, b"too many pages in commit")
            ns_id = self._look_up(part.key, part.proof)
            if ns_id is None:
                raise NOT_FOUND
            pages = []
            for _ in range(part.pages):
                page = _commit_page(next(frames))
                if page.data is not None:
                    inline += 1
                    if inline > WRITES_MAX:
                        raise Answer(413, b"too many fast writes")
                    if len(page.data) > PAGE_BYTES_MAX:
                        raise Answer(413, b"fast write page too large")
                pages.append(page)
            ns = Namespace(part.key, part.proof)
            parts.append(NamespaceCommit(ns, part.version, pages, part.read_set, part.metadata))
            named.append((part.key, ns_id))
        skip = head.allow_skip_idempotency_check
        return CommitRequest(head.idempotency_key, parts, skip, head.lock_owner), named

    # --- locks ---------------------------------------------------------------------------------------

    async def _acquire(self, asked: Asked, ns_id: str, proof: str | None) -> Answer:
        value, owner = await _owner(asked)
        if not owner:
            return Answer(400, b"invalid owner\n")
        if len(owner.encode()) > OWNER_BYTES_MAX:
            raise Failed("the owner is too long")
        version = value.get("version")
        try:
            at = None if version is None else mvstore.version_of(version)
            await self._store.lock(ns_id, proof, owner, at)
        except Conflict as error:
            return Answer(409, b"", _lock_owner(error))
        except (BadInput, TypeError) as error:
            raise Failed(str(error)) from error
        return Answer(201)

    async def _release(self, asked: Asked, ns_id: str, proof: str | None) -> Answer:
        value, owner = await _owner(asked)
        if value.get("mode") not in ("commit", "rollback"):
            raise Failed("unknown variant")
        if not owner:
            return Answer(400, b"invalid owner\n")
        rollback = value["mode"] == "rollback"
        try:
            await self._store.unlock(ns_id, proof, owner, rollback=rollback)
        except Unprocessable as error:
            return Answer(422, b"namespace is not locked", _lock_owner(error))
        except Conflict:
            return Answer(409, b"rollback already in progress")
        except Gone:
            return Answer(410, b"lock is gone")
        return Answer(200 if rollback else 201)


async def _some_frames(asked: Asked, count: int) -> bytes:
    """The body, up to the frame beyond which nothing is read."""
    body = b""
    try:
        async for piece in asked.pieces():
            body += piece
            if sum(1 for _ in _until_bad(body)) >= count:
                break
    except Failed:
        pass
    return body


def _frames(body: bytes) -> Iterator[bytes]:
    reader = FrameReader()
    reader.feed(body)
    try:
        yield from reader
    except GatewayError as error:
        raise MalformedMessage(str(error)) from error


def _until_bad(body: bytes) -> Iterator[bytes]:
    try:
        yield from _frames(body)
    except MalformedMessage:
        return


def _first(count: int, frames: Iterator[bytes]) -> Iterator[bytes]:
    for at, frame in enumerate(frames):
        if at == count:
            return
        yield frame


def _data(contents: bytes) -> bytes:
    """A written page: text is taken for bytes, as serde_bytes does."""
    try:
        value = msgpack.unpackb(contents, raw=False, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise MalformedMessage(str(error)) from error
    data = (
        value.get("data")
        if isinstance(value, dict)
        else value[0]
        if isinstance(value, list) and value
        else None
    )
    if isinstance(data, str):
        return data.encode()
    if not isinstance(data, bytes):
        raise MalformedMessage("data is no bytes")
    return data


def _commit_page(contents: bytes) -> PageWrite:
    value: Any = msgpack.unpackb(contents, raw=False, strict_map_key=False)
    if isinstance(value, dict) and isinstance(value.get("hash"), bytes) and len(value["hash"]) != 32:
        raise Answer(400, b"invalid hash")
    return PageWrite(*mvstore.decode_commit_page(contents))


async def _owner(asked: Asked) -> tuple[dict[str, Any], str]:
    try:
        value = json.loads(await asked.json_body())
    except (ValueError, RecursionError) as error:
        raise Failed(str(error)) from error
    if not isinstance(value, dict) or not isinstance(value.get("owner"), str):
        raise Failed("missing field `owner`")
    try:
        value["owner"].encode()
    except UnicodeEncodeError as error:
        raise Failed("lone surrogate") from error
    return value, value["owner"]


def _lock_owner(error: GatewayError) -> dict[str, str]:
    owner = error.facts.get("owner")
    return {} if owner is None else {"x-lock-owner": str(owner)}


def _json(value: Any) -> Answer:
    return Answer(200, json.dumps(value).encode(), {"content-type": "application/json"})


def _point(point: TimePoint | None) -> dict[str, Any] | None:
    return None if point is None else {"version": point.version, "time": point.time}


__all__ = ["DataPlane", "StoreUnavailable"]
