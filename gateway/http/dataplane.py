"""mvstore's data plane over any :class:`Store`: the routes that mvSQLite clients use. Room: http.

Status and body are those of ``docs/STORE.md`` exactly: a client retries on any 5xx and on a body
that ends early, and gives up on any 4xx. Bodies stream both ways: a frame is served when it is
there, and no more than one batch is held.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import zstandard
from starlette.routing import Route

from gateway import limits
from gateway.errors import BadInput, GatewayError, NotFound, StoreUnavailable, Unprocessable
from gateway.http.dataplane_call import Call, Headers, PlaneEndpoint
from gateway.http.dataplane_commit import read_commit
from gateway.store.base import MAX_VERSION, OWN_KEYS, Namespace, PageContent, PageRead, Store, TimePoint
from gateway.wire import mvstore
from gateway.wire.mvstore import FrameReader, ReadMessage

T = TypeVar("T")

_BYTES: Headers = [(b"content-type", b"application/octet-stream")]
_CHECKS: Headers = [(b"x-store-checks", b"assumed-version")]
"""Says that a commit on a version of another namespace is refused here, so that who asks need not look before."""
_U64_MAX = 2**64 - 1


@dataclass(slots=True)
class PlaneCounters:
    """What went through, since the start."""

    stats: int = 0
    reads: int = 0
    pages_read: int = 0
    pages_written: int = 0
    commits: int = 0
    ended_early: int = 0


def routes(
    store: Store,
    *,
    auto_create: bool = False,
    wire_zstd: bool = False,
    near_zstd: bool = True,
    counters: PlaneCounters | None = None,
) -> list[Route]:
    """The data plane's routes, for the root of an origin.

    ``auto_create``: a namespace that isn't there is made when ``/stat``, ``/batch/read``,
    ``/batch/write`` or a lock names it. ``wire_zstd``: compress pages for readers that accept it;
    ``near_zstd``: also for those on loopback, whom it costs more time than it saves.
    """
    plane = DataPlane(store, auto_create, wire_zstd, counters or PlaneCounters(), near_zstd=near_zstd)
    return [
        Route("/stat", PlaneEndpoint(plane.stat), methods=["GET"]),
        Route("/batch/read", PlaneEndpoint(plane.read), methods=["POST"]),
        Route("/batch/write", PlaneEndpoint(plane.write), methods=["POST"]),
        Route("/batch/commit", PlaneEndpoint(plane.commit), methods=["POST"]),
        Route("/time2version", PlaneEndpoint(plane.time2version), methods=["GET"]),
        Route("/nslock/acquire", PlaneEndpoint(plane.acquire), methods=["POST"]),
        Route("/nslock/release", PlaneEndpoint(plane.release), methods=["POST"]),
    ]


class DataPlane:
    """The handlers. Each answers its call once, or raises a :class:`GatewayError`."""

    def __init__(
        self,
        store: Store,
        auto_create: bool,
        wire_zstd: bool,
        counters: PlaneCounters,
        *,
        near_zstd: bool = True,
    ) -> None:
        self._store = store
        self._auto_create = auto_create
        self._wire_zstd = wire_zstd
        self._near_zstd = near_zstd
        self._packer = zstandard.ZstdCompressor(1)
        self.counters = counters

    async def _using(self, ns: Namespace, work: Callable[[], Awaitable[T]]) -> T:
        """Do ``work``; if its namespace isn't there and may be made by use, make it and do it again."""
        try:
            return await work()
        except NotFound:
            # The gateway's own namespaces are never made by a client's use: one made so would be empty
            # where it must not be.
            by_use = self._auto_create and not ns.key.startswith(OWN_KEYS)
            if not by_use or not mvstore.proof_ok(ns.key, ns.proof):
                raise
        key = mvstore.openable(ns.key)
        try:
            await self._store.create_namespace(key)
        except Unprocessable:
            pass  # someone else was first
        return await work()

    # -- /stat, /time2version -----------------------------------------------------------------

    async def stat(self, call: Call) -> None:
        """``GET /stat?from_version=V&lock_owner=O``."""
        self.counters.stats += 1
        ns, query = call.namespace(), call.query()
        since = query.get("from_version") or None
        if since is not None:
            since = mvstore.version_of(since)
        owner = query.get("lock_owner") or None
        stat = await self._using(ns, lambda: self._store.stat(ns, from_version=since, lock_owner=owner))
        answer = {"version": stat.version, "metadata": stat.metadata, "read_only": stat.read_only}
        await call.answer_json({**answer, "interval": stat.interval}, headers=_CHECKS)

    async def time2version(self, call: Call) -> None:
        """``GET /time2version?t=UNIX_SECONDS``."""
        text = call.query().get("t", "")
        if not (text.isascii() and text.isdigit() and len(text) <= 20) or int(text) > _U64_MAX:
            raise BadInput(f"t is {text[:40]!r}, not a number of seconds since 1970 (0: now)")
        bounds = await self._store.time2version(int(text))
        await call.answer_json({"after": _point(bounds.after), "not_after": _point(bounds.not_after)})

    # -- /batch/read --------------------------------------------------------------------------

    async def read(self, call: Call) -> None:
        """``POST /batch/read``: pages in request order. A read that fails ends the body early; where no page went
        before it, it is answered by its own status, for a client asks for a short body again and again."""
        self.counters.reads += 1
        ns, reader, room = call.namespace(), FrameReader(), limits.STORE_READ_PAGES_MAX
        failure: GatewayError | None = None
        while (piece := await call.piece()) is not None:
            messages, failure = _reads(reader, piece, room)
            room -= len(messages)
            if messages:
                pages, failed = await self._pages(ns, messages, started=call.started)
                # The page's failure first: it stands before the bad message that came with the same piece.
                failure = failed or failure
                packs = self._wire_zstd and (self._near_zstd or not call.is_near)
                frames = self._page_frames(messages, pages, packs=packs)
                if failure is not None and not pages and not call.started:
                    break
                # All has come in one piece, as it nearly always does: one answer with its length, without
                # chunks.
                if call.complete and not call.started:
                    self.counters.ended_early += failure is not None
                    await call.answer(200, b"".join(frames), _BYTES + _why(failure))
                    return
                await _stream(call, frames)
            if failure is not None or not room or call.complete:
                break
        if failure is not None and not call.started:
            self.counters.ended_early += 1
            # A namespace that is not there is said by 404, whatever was wrong with the reads.
            await self._using(ns, lambda: self._store.stat(ns))
            await call.refuse(failure, _why(failure))
            return
        await self._end_early_or_not(call, ns, failure)

    async def _end_early_or_not(self, call: Call, ns: Namespace, failure: GatewayError | None) -> None:
        """No more frames. Where there was none at all, the namespace must at least be there."""
        self.counters.ended_early += failure is not None
        if call.started:
            await call.end()
            return
        await self._using(ns, lambda: self._store.stat(ns))
        await call.answer(200, b"", _BYTES + _why(failure))

    async def _pages(
        self, ns: Namespace, messages: list[ReadMessage], *, started: bool
    ) -> tuple[list[PageContent], GatewayError | None]:
        """The pages, up to the first that fails, and why it did."""
        reads = [PageRead(m.page, m.version.lower(), m.hash) for m in messages]
        try:
            pages = await self._using(ns, lambda: self._store.read(ns, reads))
        except (NotFound, StoreUnavailable) as error:
            if not started:
                raise
            return [], error
        except GatewayError as error:
            return await self._pages_before_failure(ns, reads), error
        self.counters.pages_read += len(pages)
        return pages, None

    async def _pages_before_failure(self, ns: Namespace, reads: list[PageRead]) -> list[PageContent]:
        pages: list[PageContent] = []
        # One by one, as far as they go: which of the batch failed the store does not say.
        if len(reads) > 1:
            for read in reads:
                try:
                    pages += await self._store.read(ns, [read])
                except GatewayError:
                    break
        return pages

    def _page_frames(
        self, messages: list[ReadMessage], pages: list[PageContent], *, packs: bool
    ) -> list[bytes]:
        """The answers' bytes in pieces, to be joined."""
        frames: list[bytes] = []
        for message, page in zip(messages, pages, strict=False):
            # A read by hash is answered with the version that it asked for, as mvstore does.
            version = message.version[:20] if message.hash is not None and page.data else page.version
            if packs and message.accept_zstd and page.data:
                frames += mvstore.page_pieces(version, self._packer.compress(page.data), True)
            else:
                frames += mvstore.page_pieces(version, page.data)
        return frames

    # -- /batch/write -------------------------------------------------------------------------

    async def write(self, call: Call) -> None:
        """``POST /batch/write``: hashes in order, then an empty one once the pages are durable.
        A batch that breaks a rule is dropped whole, and the body ends early."""
        ns = call.namespace()
        try:
            pages = await _written(call)
        except BadInput as error:
            await self._end_early_or_not(call, ns, error)
            return
        if pages:
            hashes = await self._using(ns, lambda: self._store.write(ns, pages))
        else:
            await self._using(ns, lambda: self._store.stat(ns))
            hashes = []
        self.counters.pages_written += len(hashes)
        await call.answer(200, b"".join(map(mvstore.encode_hash, (*hashes, b""))), _BYTES)

    # -- /batch/commit ------------------------------------------------------------------------

    async def commit(self, call: Call) -> None:
        """``POST /batch/commit``: all namespaces atomically, at one version."""
        request = await read_commit(call.piece)
        self.counters.commits += 1
        done = await self._store.commit(request)
        headers = [
            (b"x-committed-version", done.version.encode("ascii")),
            (b"x-last-version", MAX_VERSION.encode("ascii")),
        ]
        await call.answer(200, mvstore.encode_changelog(done.changelog), headers + _BYTES)

    # -- /nslock ------------------------------------------------------------------------------

    async def acquire(self, call: Call) -> None:
        """``POST /nslock/acquire`` ``{owner, version?}``: 201."""
        ns, body = call.namespace(), await call.json()
        owner, version = _owner(body), body.get("version")
        if version is not None:
            version = mvstore.version_of(version if isinstance(version, str) else repr(version))
        await self._using(ns, lambda: self._store.lock(ns, owner, version))
        await call.answer(201)

    async def release(self, call: Call) -> None:
        """``POST /nslock/release`` ``{owner, mode}``: 201 after "commit", 200 after "rollback"."""
        ns, body = call.namespace(), await call.json()
        owner, mode = _owner(body), body.get("mode")
        if mode not in ("commit", "rollback"):
            raise BadInput(f'mode is {str(mode)[:40]!r}, not "commit" or "rollback"')
        await self._using(ns, lambda: self._store.unlock(ns, owner, rollback=mode == "rollback"))
        await call.answer(200 if mode == "rollback" else 201)


def _reads(reader: FrameReader, piece: bytes, room: int) -> tuple[list[ReadMessage], GatewayError | None]:
    """What has come with ``piece``, at most ``room`` messages, up to the first bad one, and what is bad about it."""
    # One regular expression over the whole body: 16 us for ten reads in place of 60 by MessagePack
    # (docs/PERFORMANCE.md, "What a forwarded page costs").
    if reader.is_empty and (usual := mvstore.usual_reads(piece)) is not None and len(usual) <= room:
        return usual, None
    reader.feed(piece)
    messages: list[ReadMessage] = []
    try:
        while len(messages) < room and (contents := reader.pull()) is not None:
            message = mvstore.decode_read(contents)
            if message.hash is None:
                mvstore.version_of(message.version)
            messages.append(message)
    except BadInput as error:
        return messages, error
    return messages, None


def _why(failure: GatewayError | None) -> Headers:
    """Why a body ends early, for a gateway that asks: it need not ask again. Others see a short body."""
    if failure is None:
        return []
    # Printable ASCII alone: a name in the message may hold what no header can.
    detail = "".join(c for c in failure.message[:200] if " " <= c <= "~")
    return [(b"x-ended-early", f"{failure.code} {detail}".strip().encode("ascii"))]


async def _written(call: Call) -> list[bytes]:
    """The pages of a write, once its empty frame has come. Raises :class:`BadInput`."""
    reader = FrameReader()
    pages: list[bytes] = []
    while (piece := await call.piece()) is not None:
        reader.feed(piece)
        for contents in reader:
            if not contents:
                return pages
            pages.append(_page(mvstore.decode_write(contents)))
            if len(pages) > limits.STORE_WRITE_PAGES_MAX:
                raise BadInput(f"over {limits.STORE_WRITE_PAGES_MAX} pages in one write; split it")
    raise BadInput("the body ended before its empty frame")


def _page(data: bytes) -> bytes:
    if len(data) > limits.STORE_PAGE_BYTES_MAX:
        raise BadInput(f"a page of {len(data)} bytes is over {limits.STORE_PAGE_BYTES_MAX}")
    return data


async def _stream(call: Call, frames: Iterable[bytes]) -> None:
    for piece in _pieces(frames):
        await call.stream(piece, _BYTES)


def _pieces(frames: Iterable[bytes]) -> Iterator[bytes]:
    """Frames joined to pieces that a transport takes well."""
    waiting, size = [], 0
    for frame in frames:
        waiting.append(frame)
        size += len(frame)
        if size >= limits.STORE_ANSWER_PIECE_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def _owner(body: Mapping[str, object]) -> str:
    owner = body.get("owner")
    if not isinstance(owner, str) or not owner:
        raise BadInput("owner is missing or empty; it is text of 1 to 256 bytes")
    try:
        size = len(owner.encode("utf-8"))
    except UnicodeEncodeError:
        raise BadInput("owner is not text that UTF-8 can carry") from None
    if size > limits.STORE_LOCK_OWNER_BYTES_MAX:
        raise BadInput(f"owner has {size} bytes; at most {limits.STORE_LOCK_OWNER_BYTES_MAX} are taken")
    return owner


def _point(point: TimePoint | None) -> dict[str, str | int] | None:
    return None if point is None else {"version": point.version, "time": point.time}
