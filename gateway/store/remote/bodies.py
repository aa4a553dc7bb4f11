"""Request bodies of the data plane, and what their answers hold. Room: store. Source: docs/STORE.md."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import zstandard

from gateway import limits
from gateway.errors import BadInput, Gone, StoreUnavailable, TooLarge
from gateway.store.base import (
    CommitRequest,
    Committed,
    NamespaceCommit,
    PageContent,
    PageRead,
    PageWrite,
    Stat,
    TimeBounds,
    TimePoint,
)
from gateway.store.remote.asking import Incomplete
from gateway.store.remote.transport import StoreAnswer, ended_early
from gateway.store.unpacking import unpacked
from gateway.wire import mvstore
from gateway.wire.mvstore import CommitHead, CommitNamespace, FrameReader


def frames_of(answer: StoreAnswer) -> list[bytes]:
    """The whole frames of an answer's body; what is left over belongs to a frame that broke off."""
    reader = FrameReader(limits.STORE_ANSWER_FRAME_BYTES_MAX)
    reader.feed(answer.body)
    return list(reader)


def read_body(reads: Sequence[PageRead]) -> bytes:
    """``/batch/read`` for at most 200 pages."""
    return b"".join(mvstore.encode_read(read.page, read.version, read.hash, True) for read in reads)


def take_pages(answer: StoreAnswer, url: str, reads: Sequence[PageRead]) -> list[PageContent]:
    """The pages, in order. Raises :class:`Incomplete`, or why the store will never complete it."""
    try:
        # Nearly every answer has one form, which is read in one go; any other by the slow way, frame by
        # frame.
        answers = mvstore.usual_pages(answer.body)
        if answers is None:
            answers = list(map(mvstore.decode_page, frames_of(answer)))
        pages = list(map(_page, answers))
    except BadInput as error:
        raise StoreUnavailable(f"{url} answered what is not a page: {error.message}") from error
    if len(pages) == len(reads):
        return pages
    # The store may have said why in the answer itself: then no further attempt changes it.
    if (final := ended_early(answer, url)) is not None:
        raise final
    at = reads[min(len(pages), len(reads) - 1)]
    raise Incomplete(
        f"{url} ended its answer early, at page {at.page} of version {at.version or '(by hash)'}"
    )


def truncated(version: str, mark: str | None) -> Gone:
    """A read below the truncation mark."""
    return Gone(
        f"version {version} is before the truncation mark {mark}; read at the mark or later",
        truncated_before=mark,
    )


def unreadable(error: Incomplete) -> Gone:
    """A read that ended early at every attempt until the deadline: the page cannot be had."""
    return Gone(f"{error.message}; the version is below the truncation mark, or the page is damaged")


def _page(answer: mvstore.ReadAnswer) -> PageContent:
    if not answer.zstd:
        return PageContent(answer.version, answer.data)
    try:
        unpacker = zstandard.ZstdDecompressor()
        data = unpacked(unpacker, answer.data, limits.STORE_PAGE_BYTES_UNPACKED_MAX)
    except zstandard.ZstdError as error:
        raise BadInput(f"a page that is not zstd: {error}") from error
    return PageContent(answer.version, data)


def write_body(pages: Sequence[bytes]) -> bytes:
    """``/batch/write`` for at most 100 pages."""
    return b"".join(map(mvstore.encode_write, pages)) + mvstore.COMPLETE


def take_hashes(answer: StoreAnswer, url: str, count: int) -> list[bytes]:
    """The hashes, once the last frame says that the pages are durable. Raises :class:`Incomplete`."""
    try:
        hashes = [mvstore.decode_hash(contents) for contents in frames_of(answer)]
    except BadInput as error:
        raise StoreUnavailable(f"{url} answered what is not a hash: {error.message}") from error
    # An empty last frame is the store's word that all are down; without it none is sure.
    if len(hashes) != count + 1 or hashes[-1]:
        raise Incomplete(f"{url} ended its answer early: {len(hashes)} of {count + 1} frames")
    return hashes[:-1]


def check_page(data: bytes) -> bytes:
    """The page if the store takes it. Raises :class:`TooLarge`."""
    if len(data) > limits.STORE_PAGE_BYTES_MAX:
        raise TooLarge(
            f"a page of {len(data)} bytes is over the store's bound of {limits.STORE_PAGE_BYTES_MAX}"
        )
    return data


def inline_pages(request: CommitRequest) -> int:
    """How many pages carry their content. Raises :class:`TooLarge` over the protocol's bound, and for
    a page over its own."""
    inline = [page.data for part in request.namespaces for page in part.pages if page.data is not None]
    if len(inline) > limits.STORE_COMMIT_INLINE_PAGES_MAX:
        raise TooLarge(
            f"{len(inline)} inline pages in one commit; at most {limits.STORE_COMMIT_INLINE_PAGES_MAX} "
            "are taken: write the content ahead"
        )
    for data in inline:
        check_page(data)
    return len(inline)


class CommitBody:
    """``/batch/commit``: what differs between a first and a later attempt stands in its first frame."""

    __slots__ = ("_head", "_rest")

    def __init__(self, request: CommitRequest, rest: bytes) -> None:
        self._head = CommitHead(
            request.idempotency_key, request.first_attempt, len(request.namespaces), request.lock_owner
        )
        self._rest = rest

    @classmethod
    async def of(cls, request: CommitRequest) -> CommitBody:
        """Made in steps, between which the event loop goes on: a commit may name 50,000 pages."""
        parts: list[bytes] = []
        for part in request.namespaces:
            ns = part.namespace
            named = CommitNamespace(
                part.version, ns.key, ns.proof, part.metadata, len(part.pages), part.read_set
            )
            parts.append(_framed(mvstore.encode_commit_namespace(named)))
            for first in range(0, len(part.pages), limits.STORE_COMMIT_STEP_PAGES):
                if first:
                    await asyncio.sleep(0)
                some = part.pages[first : first + limits.STORE_COMMIT_STEP_PAGES]
                parts.extend(_framed(mvstore.encode_commit_page(*page)) for page in some)
        return cls(request, b"".join(parts))

    def first(self) -> bytes:
        """As the request says: it may be the first attempt with its idempotency key."""
        return _framed(mvstore.encode_commit_head(self._head)) + self._rest

    def later(self) -> bytes:
        """After an attempt that may have arrived."""
        # The store has to look whether it has this commit already; a first attempt spares it that.
        head = self._head._replace(allow_skip_idempotency_check=False)
        return _framed(mvstore.encode_commit_head(head)) + self._rest


def _framed(frame: bytes) -> bytes:
    if len(frame) > limits.STORE_FRAME_BYTES_MAX + mvstore.PREFIX_BYTES:
        raise TooLarge(
            f"a frame of the commit is over {limits.STORE_FRAME_BYTES_MAX} bytes; send no read set"
        )
    return frame


def take_committed(answer: StoreAnswer, url: str) -> Committed:
    """The version and what others changed."""
    try:
        version = mvstore.version_of(answer.headers.get("x-committed-version", ""))
        return Committed(version, mvstore.decode_changelog(answer.body))
    except BadInput as error:
        raise StoreUnavailable(f"{url} answered what is not a commit's answer: {error.message}") from error


def without_data(part: NamespaceCommit) -> NamespaceCommit:
    """The same part, its pages by hash only: their content was written ahead."""
    return replace(part, pages=[PageWrite(page.page, page.hash) for page in part.pages])


def take_stat(answer: StoreAnswer, url: str) -> Stat:
    """The answer of ``/stat``."""
    value = _json(answer, url)
    try:
        interval = value.get("interval")
        pages = None if interval is None else tuple(map(int, interval))
        version = mvstore.version_of(value["version"])
        return Stat(version, bool(value.get("read_only", False)), pages, str(value.get("metadata", "")))
    # OverflowError: 1e999 is JSON, and int() of it fails so.
    except (KeyError, TypeError, ValueError, OverflowError, BadInput) as error:
        raise StoreUnavailable(f"{url} answered what is not a statistic: {error}") from error


def take_bounds(answer: StoreAnswer, url: str) -> TimeBounds:
    """The answer of ``/time2version``."""
    value = _json(answer, url)
    try:
        return TimeBounds(_point(value.get("after")), _point(value.get("not_after")))
    except (KeyError, TypeError, ValueError, OverflowError, BadInput) as error:
        raise StoreUnavailable(f"{url} answered what is not a point in time: {error}") from error


def _point(value: Any) -> TimePoint | None:
    return None if value is None else TimePoint(mvstore.version_of(value["version"]), int(value["time"]))


def _json(answer: StoreAnswer, url: str) -> dict[str, Any]:
    try:
        value = json.loads(answer.body)
    except ValueError as error:
        raise StoreUnavailable(f"{url} answered what is not JSON; is it a store?") from error
    if not isinstance(value, dict):
        raise StoreUnavailable(f"{url} answered JSON that is no object; is it a store?")
    return value
