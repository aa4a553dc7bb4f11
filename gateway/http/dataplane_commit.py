"""A commit's body into a :class:`CommitRequest`, bounded at every frame. Room: http.

Frame 1 is the head; then, for each namespace, its head and its pages. Each bound is checked as
soon as it can be seen, so that a body that cannot succeed is not taken in first.
Source: ``docs/STORE.md``, "Data plane".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gateway import limits
from gateway.errors import BadInput, MalformedMessage, PreconditionFailed, TooLarge
from gateway.store.base import CommitRequest, Namespace, NamespaceCommit, PageWrite
from gateway.wire import mvstore
from gateway.wire.mvstore import CommitHead, CommitNamespace, FrameReader


class CommitReader:
    """Takes a commit's frames one by one; ``request`` is set once the last has come."""

    def __init__(self) -> None:
        self._head: CommitHead | None = None
        self._open: CommitNamespace | None = None
        self._pages: list[PageWrite] = []
        self._done: list[NamespaceCommit] = []
        self._pages_declared = 0
        self._pages_inline = 0
        self.request: CommitRequest | None = None

    def receive(self, contents: bytes) -> None:
        """The next frame. Raises :class:`PreconditionFailed`, :class:`TooLarge`, :class:`BadInput`."""
        if self._head is None:
            self._take_head(contents)
        elif self._open is None:
            self._take_namespace(contents)
        else:
            self._take_page(contents)

    def _take_head(self, contents: bytes) -> None:
        head = mvstore.decode_commit_head(contents)
        if not 1 <= head.namespaces <= limits.STORE_COMMIT_NAMESPACES_MAX:
            raise PreconditionFailed(
                f"num_namespaces is {head.namespaces}; a commit has 1 to {limits.STORE_COMMIT_NAMESPACES_MAX}"
            )
        self._head = head

    def _take_namespace(self, contents: bytes) -> None:
        namespace = mvstore.decode_commit_namespace(contents)
        self._pages_declared += namespace.pages
        if self._pages_declared > limits.STORE_COMMIT_PAGES_MAX:
            raise TooLarge(
                f"{self._pages_declared} pages in one commit; at most {limits.STORE_COMMIT_PAGES_MAX} are taken"
            )
        if any(done.namespace.key == namespace.key for done in self._done):
            raise BadInput(f"namespace {namespace.key[:80]!r} stands twice in one commit; merge its pages")
        self._open = namespace
        self._close_if_complete()

    def _take_page(self, contents: bytes) -> None:
        page = mvstore.decode_commit_page(contents)
        if page.data is not None:
            self._check_inline(page.data)
        self._pages.append(PageWrite(*page))
        self._close_if_complete()

    def _check_inline(self, data: bytes) -> None:
        self._pages_inline += 1
        if self._pages_inline > limits.STORE_COMMIT_INLINE_PAGES_MAX:
            raise TooLarge(
                f"over {limits.STORE_COMMIT_INLINE_PAGES_MAX} inline pages in one commit; "
                "write them ahead by /batch/write"
            )
        if len(data) > limits.STORE_PAGE_BYTES_MAX:
            raise TooLarge(f"a page of {len(data)} bytes; at most {limits.STORE_PAGE_BYTES_MAX} are taken")

    def _close_if_complete(self) -> None:
        head, namespace = self._head, self._open
        assert head is not None
        assert namespace is not None
        if len(self._pages) < namespace.pages:
            return
        named = Namespace(namespace.key, namespace.proof)
        self._done.append(
            NamespaceCommit(named, namespace.version, self._pages, namespace.read_set, namespace.metadata)
        )
        self._open, self._pages = None, []
        if len(self._done) == head.namespaces:
            self.request = CommitRequest(
                head.idempotency_key, self._done, head.allow_skip_idempotency_check, head.lock_owner
            )


async def read_commit(next_piece: Callable[[], Awaitable[bytes | None]]) -> CommitRequest:
    """The commit that a body holds, whose pieces come from ``next_piece`` (None: its end). Raises as :meth:`CommitReader.receive` does, and
    :class:`MalformedMessage` where the body ends too early; what follows the last frame is not read."""
    frames, commit = FrameReader(), CommitReader()
    while (piece := await next_piece()) is not None:
        frames.feed(piece)
        for contents in frames:
            commit.receive(contents)
            if commit.request is not None:
                return commit.request
    raise MalformedMessage("the body ends before the commit is complete")
