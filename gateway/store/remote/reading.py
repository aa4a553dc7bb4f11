"""``POST /batch/read``: pages, and what becomes of a body that ends early. Room: store.

A store does not say why it ends a body. It may be a hiccup, so that it is asked again; after the second time the
admin API is asked for the truncation mark, and the store for the head. A head below its mark is lifted; any other
version below it is gone; what is wanted above the head is served as the head is, which our own engine does too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway import limits
from gateway.errors import StoreUnavailable
from gateway.store.base import Namespace, PageContent, PageRead
from gateway.store.remote import bodies
from gateway.store.remote.asking import Asker, Incomplete, bears
from gateway.store.remote.requests import ask_for, cut, side_by_side
from gateway.store.remote.sunken import SunkenHeads
from gateway.wire.mvstore import version_of


class RemoteReading:
    """``clock``: that of the asker."""

    def __init__(self, asker: Asker, sunken: SunkenHeads, clock: Callable[[], float]) -> None:
        self._asker = asker
        self._sunken = sunken
        self._clock = clock

    async def read(self, ns: Namespace, reads: Sequence[PageRead]) -> list[PageContent]:
        """The pages, in order. Raises :class:`Gone`, and what the store answers."""
        for version in {read.version for read in reads if read.hash is None}:
            # Checked here: a store may answer a malformed one as any store pleases.
            version_of(version)
        if len(reads) <= limits.STORE_READ_PAGES_MAX:
            return await self._read_batch(ns, reads)
        batches = await side_by_side(
            lambda batch: self._read_batch(ns, batch), cut(reads, limits.STORE_READ_PAGES_MAX)
        )
        return [page for batch in batches for page in batch]

    async def _read_batch(self, ns: Namespace, reads: Sequence[PageRead]) -> list[PageContent]:
        began = self._clock()
        try:
            return await self._read_once(ns, reads, early_ends=limits.STORE_EARLY_ENDS)
        except Incomplete:
            # The mark first: a head asked before it could be one that a commit has since left behind.
            mark, head = await self._sunken.mark(ns.key), await self._sunken.head(ns)
        at = [read.version for read in reads if read.hash is None]
        # As text: versions have twenty digits of one case, so that their order is that of their numbers.
        below = [version for version in at if version < (mark or "")]
        if below and await self._sunken.lift(ns, below[0], mark):
            return await self._read_once(ns, reads)
        if below:
            raise bodies.truncated(below[0], mark)
        if head is not None and any(version > head for version in at):
            reads = [read if read.hash else read._replace(version=min(read.version, head)) for read in reads]
        try:
            # What the first round took counts: the caller waits for one deadline, not two.
            return await self._read_once(ns, reads, more_s=began - self._clock())
        except StoreUnavailable as error:
            # Without an admin API nobody tells the mark; a head that cannot be read though it is the head
            # can only lie below one.
            if mark is None and at and await self._sunken.lift(ns, at[0], mark):
                return await self._read_once(ns, reads)
            if not isinstance(error, Incomplete):
                raise
            raise bodies.unreadable(error) from error

    async def _read_once(
        self, ns: Namespace, reads: Sequence[PageRead], *, early_ends: int = 1 << 30, more_s: float = 0.0
    ) -> list[PageContent]:
        """Asked until the deadline, or until so many answers have ended early (:class:`Incomplete`)."""
        reads = self._sunken.moved(ns.key, reads)
        bytes_max = len(reads) * limits.STORE_ANSWER_FRAME_BYTES_MAX + limits.STORE_SMALL_ANSWER_BYTES_MAX
        ask = ask_for("POST", "/batch/read", ns, bodies.read_body(reads), bytes_max, replayable=True)
        return await self._asker.ask(
            lambda _: ask,
            lambda a, url: bodies.take_pages(a, url, reads),
            bears=bears(Incomplete, early_ends),
            more_s=more_s,
        )
