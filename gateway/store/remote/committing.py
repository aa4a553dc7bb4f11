"""``POST /batch/commit``: what goes ahead, what is asked before, and what a failure means. Room: store. Source: docs/STORE.md."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from gateway import limits
from gateway.errors import Conflict, Gone, TooLarge
from gateway.store.base import CommitRequest, Committed, Namespace, NamespaceCommit
from gateway.store.remote import bodies
from gateway.store.remote.asking import Asker, bears
from gateway.store.remote.assumed import AssumedVersions
from gateway.store.remote.requests import ask_for
from gateway.store.remote.transport import Ask, StoreFailed


class Committing:
    """``write`` puts content ahead of a commit that would carry more than ``inline_pages``. ``check``: whether
    assumed versions are looked at before."""

    def __init__(
        self,
        asker: Asker,
        assumed: AssumedVersions,
        write: Callable[[Namespace, Sequence[bytes]], Awaitable[list[bytes]]],
        *,
        inline_pages: int,
        check: bool,
    ) -> None:
        self._asker = asker
        self._assumed = assumed
        self._write = write
        self._inline_pages = inline_pages
        self._check = check

    async def commit(self, request: CommitRequest) -> Committed:
        """As :meth:`gateway.store.remote.RemoteStore.commit`."""
        if self._check:
            await self._assumed.check(request)
        inline = bodies.inline_pages(request)
        if inline > self._inline_pages:
            # In no transaction: content by its hash harms nobody where the commit then fails, and is
            # collected after its grace.
            request = replace(request, namespaces=[await self._ahead(p) for p in request.namespaces])
        body = await bodies.CommitBody.of(request)

        def make(attempt: int) -> Ask:
            # Only the first sending may say that it is the first: the store then skips the look for an earlier one
            # under its key.
            ask = ask_for("POST", "/batch/commit", None, body.later() if attempt else body.first())
            return ask._replace(again=body.later)

        try:
            done = await self._ask(make, sum(len(part.pages) for part in request.namespaces))
        except Gone as error:
            # An anchored commit names content by its hash that the namespace must hold: gone is that, not a
            # lock.
            if request.lock_owner is None and any(part.anchored for part in request.namespaces):
                raise Conflict(f"what the namespace held is not there any more: {error.message}") from error
            raise
        self._assumed.learn(request, done)
        return done

    async def _ask(self, make: Callable[[int], Ask], pages: int) -> Committed:
        """A 5xx is tried again, unless the commit is of a size that the store below has never taken."""
        too_large = pages > limits.STORE_TRANSACTION_PAGES
        try:
            return await self._asker.ask(
                make,
                bodies.take_committed,
                bears=bears(StoreFailed, limits.STORE_TRANSACTION_FAILURES if too_large else 1 << 30),
                # What a large commit takes the store would else be taken for silence, and sent again on top
                # of the first.
                more_s=pages * limits.STORE_COMMIT_PAGE_S,
            )
        except StoreFailed as error:
            if not too_large:
                raise
            raise TooLarge(
                f"a commit of {pages} pages is more than the store below takes in one transaction, however often it is "
                f"sent ({error.message}); up to {limits.STORE_TRANSACTION_PAGES} pages have been seen to go: "
                "commit in smaller steps"
            ) from error

    async def _ahead(self, part: NamespaceCommit) -> NamespaceCommit:
        await self._write(part.namespace, [page.data for page in part.pages if page.data is not None])
        return bodies.without_data(part)
