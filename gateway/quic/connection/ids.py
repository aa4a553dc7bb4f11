"""Connection IDs: ours, which the peer writes on its packets, and the peer's, which we write on ours. Room: quic. Pure but
for randomness. Source: RFC 9000 sections 5.1, 10.3, 19.15 and 19.16.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from typing import Final

from aioquic.buffer import encode_uint_var
from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from gateway import limits
from gateway.quic.connection.faults import PeerFault
from gateway.quic.connection.flight import Handler

CID_BYTES: Final = 8
"""Of ours."""
TOKEN_BYTES: Final = 16
COUNT_LEAST: Final = 2
"""What every peer keeps (section 18.2)."""
ISSUE_FRAME_BYTES: Final = 1 + 8 + 8 + 1 + CID_BYTES + TOKEN_BYTES
RETIRE_FRAME_BYTES: Final = 1 + 8


def reset_token(key: bytes, cid: bytes) -> bytes:
    """The stateless reset token of a connection ID: a keyed hash, so that no state is needed. RFC 9000 section 10.3.2."""
    # What RFC 9000 section 10.3.2 proposes: whoever has the key can answer for connections of an earlier run.
    return hmac.digest(key, b"stateless reset" + cid, "sha256")[:TOKEN_BYTES]


class ConnectionId:
    """One, with the number that it was issued under, and what says that its issuer has forgotten it. RFC 9000 section 5.1.1."""

    __slots__ = ("cid", "is_said", "number", "token")

    def __init__(self, cid: bytes, number: int, token: bytes, *, is_said: bool = True) -> None:
        self.cid, self.number, self.token = cid, number, token
        self.is_said = is_said

    def on_fate(self, acked: bool) -> None:
        """What issued it was acknowledged, or lost."""
        self.is_said = acked


def random_cid() -> bytes:
    """A connection ID of ours that says nothing."""
    return os.urandom(CID_BYTES)


class OurIds:
    """``first``: of the handshake. ``reset_key``: tokens are made of it where there is one. ``mint``: makes further ones. ``used``:
    the one that the peer writes on its packets now. ``count_max``: how many the peer keeps."""

    __slots__ = ("_mint", "_next", "_reset_key", "count_max", "known", "used")

    def __init__(self, first: bytes, reset_key: bytes | None, mint: Callable[[], bytes] = random_cid) -> None:
        self._reset_key = reset_key
        self._mint = mint
        self.used = first
        self.count_max = COUNT_LEAST
        self.known = [ConnectionId(first, 0, b"")]
        self._next = 1

    def token_of(self, cid: bytes) -> bytes:
        """The token to tell with a connection ID of ours."""
        return os.urandom(TOKEN_BYTES) if self._reset_key is None else reset_token(self._reset_key, cid)

    def number_of(self, cid: bytes) -> int | None:
        """The number of one of ours; None: it is not, or no longer."""
        for one in self.known:
            if one.cid == cid:
                return one.number
        return None

    def replenish(self) -> None:
        """Have as many as the peer keeps, and we do. RFC 9000 section 5.1.1."""
        while len(self.known) < min(limits.QUIC_CONNECTION_IDS_MAX, self.count_max):
            cid = self._mint()
            self.known.append(ConnectionId(cid, self._next, self.token_of(cid), is_said=False))
            self._next += 1

    def retire(self, number: int, in_use: bytes) -> bytes | None:
        """RETIRE_CONNECTION_ID, in a packet that bears ``in_use``. Answers the ID that is no longer one. Raises
        :class:`PeerFault`. RFC 9000 section 19.16."""
        kind = QuicFrameType.RETIRE_CONNECTION_ID
        if number >= self._next:
            raise PeerFault(QuicErrorCode.PROTOCOL_VIOLATION, kind, "Cannot retire unknown connection ID")
        for index, one in enumerate(self.known):
            if one.number == number:
                # RFC 9000 section 19.16 makes that an error: the packet that retires it could not have been
                # routed by it.
                if one.cid == in_use:
                    raise PeerFault(
                        QuicErrorCode.PROTOCOL_VIOLATION, kind, "Cannot retire current connection ID"
                    )
                del self.known[index]
                return one.cid
        return None

    @property
    def is_due(self) -> bool:
        """Whether any is still to be said."""
        return not all(one.is_said for one in self.known)

    def frames(self, room: int, handlers: list[Handler], issued: Callable[[bytes], None]) -> bytes:
        """NEW_CONNECTION_ID frames in at most ``room`` bytes; ``issued`` is told of each. RFC 9000 section 19.15."""
        frames = b""
        for one in self.known:
            if one.is_said or len(frames) + ISSUE_FRAME_BYTES > room:
                continue
            one.is_said = True
            frames += (
                b"\x18" + encode_uint_var(one.number) + b"\x00" + bytes((len(one.cid),)) + one.cid + one.token
            )
            handlers.append((one.on_fate, ()))
            issued(one.cid)
        return frames


class PeerIds:
    """``cid``: what packets on the active path bear, of which ``current`` is the whole. ``spare``: not used yet. ``retiring``:
    numbers to be given back."""

    __slots__ = ("_numbers", "_retired_below", "cid", "current", "retiring", "spare")

    def __init__(self) -> None:
        self.current = ConnectionId(b"", 0, b"")
        self.cid = b""
        self.spare: list[ConnectionId] = []
        self.retiring: list[int] = []
        self._numbers = {0}
        self._retired_below = 0

    def begin(self, cid: bytes, token: bytes | None) -> None:
        """What the peer announced of itself in the handshake, as long as it is in use."""
        if self.current.number == 0:
            self.current.cid = self.cid = cid
            self.current.token = token or self.current.token

    def _go_on(self, one: ConnectionId) -> None:
        self.current, self.cid = one, one.cid

    def add(
        self, number: int, below: int, cid: bytes, token: bytes, reserved: list[ConnectionId]
    ) -> list[ConnectionId]:
        """NEW_CONNECTION_ID. ``reserved``: IDs of other paths; answers those of them that are retired now. Raises
        :class:`PeerFault`. RFC 9000 section 19.15."""
        kind = QuicFrameType.NEW_CONNECTION_ID
        if not 1 <= len(cid) <= 20:
            raise PeerFault(
                QuicErrorCode.FRAME_ENCODING_ERROR, kind, "Length must be greater than 0 and less than 20"
            )
        if below > number:
            raise PeerFault(
                QuicErrorCode.FRAME_ENCODING_ERROR, kind, "Retire Prior To is greater than Sequence Number"
            )
        below = self._retired_below = max(below, self._retired_below)
        gone = [one for one in reserved if one.number < below]
        retire = [one for one in self.spare if one.number < below] + gone
        changes = self.current.number < below
        if changes:
            # First: it is on the packets that go out now, and the peer waits for it most.
            retire.insert(0, self.current)
        if retire:
            self.spare = [one for one in self.spare if one.number >= below]
        # A repeated frame issues nothing new; one below the bound is retired as it comes (RFC 9000 section 19.15).
        if number >= below and number not in self._numbers:
            self.spare.append(ConnectionId(cid, number, token))
            self._numbers.add(number)
            self._forget_old()
        self.retiring += [one.number for one in retire]
        if changes and self.spare:
            self._go_on(self.spare.pop(0))
        self._check(len(reserved) - len(gone))
        return gone

    def _forget_old(self) -> None:
        if len(self._numbers) > limits.QUIC_SEQUENCE_NUMBERS_MAX:
            # The older half: a frame that comes again after so many others were issued would have been lost and
            # repeated for minutes.
            self._numbers = set(sorted(self._numbers)[-limits.QUIC_SEQUENCE_NUMBERS_MAX // 2 :])

    def _check(self, reserved: int) -> None:
        kind = QuicFrameType.NEW_CONNECTION_ID
        if 1 + len(self.spare) + reserved > limits.QUIC_CONNECTION_IDS_MAX:
            raise PeerFault(QuicErrorCode.CONNECTION_ID_LIMIT_ERROR, kind, "Too many active connection IDs")
        if len(self.retiring) > limits.QUIC_IDS_RETIRING_MAX:
            raise PeerFault(
                QuicErrorCode.CONNECTION_ID_LIMIT_ERROR, kind, "Too many pending retired connection IDs"
            )

    def change(self) -> bool:
        """Go on under another ID, and give the one of now back. False: there is no other. RFC 9000 section 5.1.2."""
        if not self.spare:
            return False
        self.retiring.append(self.current.number)
        self._go_on(self.spare.pop(0))
        return True

    def use(self, one: ConnectionId) -> None:
        """Go on under this one, which was reserved for the path that is active now."""
        self.retiring.append(self.current.number)
        self._go_on(one)

    def retire(self, one: ConnectionId) -> None:
        """Give one back that nothing uses."""
        self.retiring.append(one.number)

    def frames(self, room: int, handlers: list[Handler]) -> bytes:
        """RETIRE_CONNECTION_ID frames in at most ``room`` bytes. RFC 9000 section 19.16."""
        frames = b""
        while self.retiring and len(frames) + RETIRE_FRAME_BYTES <= room:
            number = self.retiring.pop(0)
            frames += b"\x19" + encode_uint_var(number)
            handlers.append((self._on_fate, (number,)))
        return frames

    def _on_fate(self, acked: bool, number: int) -> None:
        if not acked:
            self.retiring.append(number)
