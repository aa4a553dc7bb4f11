"""Addresses of the peer: which is used, which are proved, and what may be sent to one that is not. Room: quic. Pure but for
randomness. Source: RFC 9000 sections 8.2, 9.3 and 9.5.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from gateway import limits
from gateway.quic.connection.ids import ConnectionId

Address = tuple[str, int, *tuple[int | str, ...]]
"""Host and port as the socket module has them, IPv6 with flow and scope. One that came to a socket which is bound to every address has
ours behind it, as a further item (:mod:`gateway.quic.udp.sockets`)."""

NOWHERE: Final[Address] = ("", 0)
"""Where nothing goes: until the first packet is sent or taken."""
AMPLIFICATION: Final = 3
"""To an address that is not proved goes so many times what came from it (section 8.1)."""


class Path:
    """One address. ``came_bytes`` and ``sent_bytes`` count while it is not proved. ``cid``: of the peer's, reserved for it."""

    __slots__ = (
        "_challenges",
        "address",
        "came_bytes",
        "challenge_sent",
        "challenges_due",
        "cid",
        "give_up_at",
        "is_proved",
        "sent_bytes",
    )

    def __init__(self, address: Address, *, is_proved: bool = False) -> None:
        self.address = address
        self.is_proved = is_proved
        self.came_bytes = self.sent_bytes = 0
        self.challenge_sent = False
        self.challenges_due: tuple[bytes, ...] = ()
        """Of the peer, to be answered."""
        self.cid: ConnectionId | None = None
        self.give_up_at: float | None = None
        self._challenges: tuple[bytes, ...] = ()

    def allowed_bytes(self) -> int | None:
        """How many bytes may still go there; None: as many as there are. RFC 9000 section 8.1."""
        return None if self.is_proved else AMPLIFICATION * self.came_bytes - self.sent_bytes

    def challenge(self) -> bytes:
        """A new PATH_CHALLENGE frame. RFC 9000 section 8.2.1."""
        data = os.urandom(8)
        self._challenges = (*self._challenges, data)[-limits.QUIC_CHALLENGES_SENT_MAX :]
        self.challenge_sent = True
        return b"\x1a" + data

    def take_challenge(self, data: bytes) -> None:
        """The peer's, to be answered on this path. RFC 9000 section 8.2.2."""
        if len(self.challenges_due) < limits.QUIC_CHALLENGES_WAITING_MAX:
            self.challenges_due = (*self.challenges_due, data)

    def responses(self, room: int) -> bytes:
        """PATH_RESPONSE frames that are due, in at most ``room`` bytes. RFC 9000 section 19.18."""
        count = min(len(self.challenges_due), room // 9)
        now, self.challenges_due = self.challenges_due[:count], self.challenges_due[count:]
        return b"".join([b"\x1b" + data for data in now])

    def answers(self, data: bytes) -> bool:
        """Whether this is the answer to a challenge of ours on this path, which proves it then. RFC 9000 section 8.2.3."""
        if data not in self._challenges:
            return False
        self.is_proved = True
        self._challenges = ()
        return True


class Paths:
    """``active``: where packets go; ``address``: its own."""

    __slots__ = ("active", "address", "others")

    def __init__(self, first: Path) -> None:
        self.active, self.address = first, first.address
        self.others: list[Path] = []

    def begin_at(self, address: Address) -> None:
        """The first path is at this address; ``NOWHERE``: it is not known any more."""
        self.active.address = self.address = address

    def find(self, address: Address) -> Path:
        """The path of this address, or a new one that is not kept yet."""
        if self.active.address == address:
            return self.active
        for path in self.others:
            if path.address == address:
                return path
        return Path(address)

    def keep(self, path: Path) -> Path | None:
        """Keep a path that something valid came from. Answers the one that made room for it: the oldest that was not
        proved, or the oldest."""
        if path is self.active or path in self.others:
            return None
        evicted = None
        if len(self.others) >= limits.QUIC_PATHS_MAX - 1:
            # An unproved address costs whoever claims it one packet; a proved one is where the peer was.
            evicted = next((one for one in self.others if not one.is_proved), self.others[0])
            self.others.remove(evicted)
        self.others.append(path)
        return evicted

    def promote(self, path: Path) -> None:
        """Packets go there from now on; it is proved anew where it was not (section 9.3)."""
        self.others.remove(path)
        # First, so that it is what is gone back to if the new one is not proved (RFC 9000 section 9.3.2).
        self.others.insert(0, self.active)
        self.active, self.address = path, path.address
        if not path.is_proved:
            path.challenge_sent, path.give_up_at = False, None

    def give_up_active(self) -> bool:
        """The active path could not be proved: back to the last one that was. False: there is none (section 9.3.2)."""
        proved = next((path for path in self.others if path.is_proved), None)
        if proved is None:
            return False
        self.others.remove(proved)
        self.active, self.address = proved, proved.address
        return True

    def prove(self, data: bytes) -> None:
        """A PATH_RESPONSE: the path that its challenge went to is proved. Unknown ones count for nothing.
        RFC 9000 section 8.2.3."""
        for path in (self.active, *self.others):
            if path.answers(data):
                return

    def reserved(self) -> list[ConnectionId]:
        """The peer's IDs that are reserved for paths. RFC 9000 section 9.5."""
        return [path.cid for path in self.others if path.cid is not None]

    def __iter__(self) -> Iterator[Path]:
        return iter((self.active, *self.others))

    def __len__(self) -> int:
        return 1 + len(self.others)
