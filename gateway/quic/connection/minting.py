"""Connection IDs of ours, which say whose they are where several processes share a port. Room: quic. Pure but for randomness.

Sources: RFC 9000 section 5.1 (an ID is the issuer's affair, and may route); draft-ietf-quic-load-balancers-21 sections 3 and 4:
three bits of the configuration, five that are random, the server ID in plain text, and a nonce of at least four bytes. Ours begins
with the byte that names the process.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from gateway.quic.connection.ids import CID_BYTES

ROTATION_BITS: Final = 3
"""Of the first byte: the configuration of the balancer, of which 7 says that there is none."""


@dataclass(frozen=True, slots=True)
class IdLayout:
    """Where in an ID what stands. ``server_id``: which gateway of several it is, for a balancer in front of them; ``rotation``:
    under which of the balancer's configurations. Without a server ID there is nothing for a balancer, and the first byte is
    random."""

    server_id: bytes = b""
    rotation: int = 0

    @classmethod
    def of(cls, server_id: str, rotation: int) -> IdLayout:
        """As settings write it: hexadecimal digits."""
        return cls(bytes.fromhex(server_id), rotation)

    @property
    def worker_at(self) -> int:
        """Which byte names the worker: the first of the nonce."""
        return 1 + len(self.server_id)

    def begin(self, random: int) -> bytes:
        """What an ID begins with; ``random``: a byte, of which the balancer leaves five bits."""
        if not self.server_id:
            return bytes((random,))
        return bytes((self.rotation << (8 - ROTATION_BITS) | random & 0x1F,)) + self.server_id


@dataclass(frozen=True, slots=True)
class Mint:
    """Of worker ``number`` of ``workers``: the byte is any that leaves ``number`` when divided by that (256 at most), so
    that it tells nothing more. One of one, without a server ID: IDs are random all over."""

    number: int = 0
    workers: int = 1
    layout: IdLayout = IdLayout()

    def __call__(self) -> bytes:
        """A fresh ID."""
        cid, at = os.urandom(CID_BYTES), self.layout.worker_at
        named = cid[at]
        if self.workers > 1:
            # Any of the bytes that leave the worker's number as the rest of the division, by chance: IDs must not be told apart
            # more than routing needs (RFC 9000 section 5.1).
            named = named % (256 // self.workers) * self.workers + self.number
        return b"%b%c%b" % (self.layout.begin(cid[0]), named, cid[at + 1 :])

    def worker_of(self, cid: bytes) -> int:
        """The worker that an ID names; a client's own names any. RFC 9000 section 5.1."""
        at = self.layout.worker_at
        return cid[at] % self.workers if len(cid) > at else 0


ALONE: Final = Mint()
