"""Connection IDs of ours, which say whose they are where several processes share a port. Room: quic. Pure but for randomness.

Source: RFC 9000 section 5.1 (an ID is the issuer's affair, and may route). The second byte names the process, so that the
first one stays free for what a balancer reads there (draft-ietf-quic-load-balancers section 3).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from gateway.quic.connection.ids import CID_BYTES

WORKER_AT: Final = 1
"""Which byte of a connection ID names the worker."""


@dataclass(frozen=True, slots=True)
class Mint:
    """Of worker ``number`` of ``workers``: the byte is any that leaves ``number`` when divided by that (256 at most), so
    that it tells nothing more. One of one: IDs are random all over."""

    number: int = 0
    workers: int = 1

    def __call__(self) -> bytes:
        """A fresh ID."""
        cid = os.urandom(CID_BYTES)
        if self.workers == 1:
            return cid
        turns = 256 // self.workers
        named = cid[WORKER_AT] % turns * self.workers + self.number
        return b"%b%c%b" % (cid[:WORKER_AT], named, cid[WORKER_AT + 1 :])

    def worker_of(self, cid: bytes) -> int:
        """The worker that an ID names; a client's own names any."""
        return cid[WORKER_AT] % self.workers if len(cid) > WORKER_AT else 0


ALONE: Final = Mint()
