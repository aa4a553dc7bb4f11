"""HTTP/2 frames counted before they are parsed: a flood costs its sender the connection. Room: http. Pure.

:class:`FrameGuard` is fed with what the connection brings and gives back whole frames, a few at a
time, so that no connection keeps the loop. Frames that carry nothing for a request cost tokens; so
do resets. Data that flows earns tokens, since it makes a peer answer with WINDOW_UPDATE and PING.
Sources: RFC 9113 sections 4.1, 6 and 10.5; CVE-2019-9512 to 9518 (floods), CVE-2023-44487 (rapid
reset), CVE-2024-27316 (CONTINUATION).
"""

from __future__ import annotations

from gateway import limits
from gateway.http.tcp.rates import Bucket

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
_END_STREAM = _ACK = 0x1
_END_HEADERS = 0x4
_PADDED = 0x8
_FRAME_BYTES_MAX = 16_384
_HEAD_BYTES = 9
_SETTING_BYTES = 6
_GOAWAY_BYTES = 8

PROTOCOL_ERROR, FRAME_SIZE_ERROR, ENHANCE_YOUR_CALM = 0x1, 0x6, 0xB


class Flood(Exception):
    """The peer sends what no peer needs to. ``code``: of the GOAWAY that it gets; ``what``: what is counted.
    RFC 9113 section 10.5."""

    def __init__(self, what: str, code: int = ENHANCE_YOUR_CALM) -> None:
        super().__init__(what)
        self.what = what
        self.code = code


class FrameGuard:
    """Feed, then pull whole frames. RFC 9113 sections 4.1 and 10.5."""

    __slots__ = (
        "_block_bytes",
        "_block_frames",
        "_control",
        "_inbox",
        "_preface_left",
        "_resets",
        "in_block",
        "is_peer_leaving",
    )

    def __init__(self) -> None:
        self._inbox = bytearray()
        self._preface_left = len(PREFACE)
        self._control = Bucket(limits.H2_CONTROL_FRAMES_BURST, limits.H2_CONTROL_FRAMES_PER_S)
        self._resets = Bucket(limits.H2_RESETS_BURST, limits.H2_RESETS_PER_S)
        self._block_bytes = self._block_frames = 0
        self.is_peer_leaving = False
        """Whether a GOAWAY has come. It is not handed on: h2 would send nothing more, and the peer still waits for
        what it has asked (RFC 9113 section 6.8)."""
        self.in_block = False
        """Whether a header block has begun and not ended."""

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        self._inbox += data

    def __len__(self) -> int:
        """Bytes fed and not pulled."""
        return len(self._inbox)

    @property
    def is_between_frames(self) -> bool:
        """Whether nothing of a frame or a header block waits for its rest."""
        return not self._inbox and not self.in_block

    def flowed(self, frames: int = 1) -> None:
        """Data went out, or a body's data was taken."""
        # Two for each: a peer that takes or sends much answers with a WINDOW_UPDATE for the stream and one for the
        # connection.
        self._control.earn(2 * frames)

    def answered(self) -> None:
        """A request was served to its end."""
        self._resets.earn(1)

    def reset_by_us(self, now: float) -> None:
        """A stream had to be reset for what the peer did on it. Raises :class:`Flood`."""
        if not self._resets.spend(1, now):
            raise Flood("resets")

    def pull(self, now: float) -> bytes:
        """Up to :data:`H2_FRAMES_PER_PULL` whole frames; empty: there is none. Raises :class:`Flood`."""
        inbox = self._inbox
        size = len(inbox)
        at = min(self._preface_left, size)
        self._preface_left -= at
        for _ in range(limits.H2_FRAMES_PER_PULL):
            if size - at < _HEAD_BYTES:
                break
            length = int.from_bytes(inbox[at : at + 3], "big")
            # SETTINGS_MAX_FRAME_SIZE is left at its default of 2^14 (RFC 9113 section 4.2): more is refused before
            # it is collected.
            if length > _FRAME_BYTES_MAX:
                raise Flood("frame_size", FRAME_SIZE_ERROR)
            if size - at < _HEAD_BYTES + length:
                break
            if inbox[at + 3] == GOAWAY and self._is_farewell(at, length):
                self.is_peer_leaving = True
                del inbox[at : at + _HEAD_BYTES + length]
                size = len(inbox)
                continue
            self._count(inbox[at + 3], inbox[at + 4], length - self._padding(at, length), now)
            at += _HEAD_BYTES + length
        if not at:
            return b""
        whole = bytes(inbox[:at])
        del inbox[:at]
        return whole

    def _padding(self, at: int, length: int) -> int:
        """Bytes of a DATA frame that are no data (RFC 9113 section 6.1)."""
        inbox = self._inbox
        if inbox[at + 3] != DATA or not inbox[at + 4] & _PADDED or not length:
            return 0
        return min(length, 1 + inbox[at + _HEAD_BYTES])

    def _is_farewell(self, at: int, length: int) -> bool:
        """Whether a GOAWAY is as it should be; h2 says what is wrong with others."""
        stream = int.from_bytes(self._inbox[at + 5 : at + 9], "big") & 0x7FFFFFFF
        return stream == 0 and length >= _GOAWAY_BYTES and not self.in_block and not self._preface_left

    def _count(self, kind: int, flags: int, length: int, now: float) -> None:
        if kind == DATA:
            if length == 0 and not flags & _END_STREAM:
                self._spend(1, now, "empty_frames")
        elif kind == HEADERS:
            self._block(flags, length)
        elif kind == CONTINUATION:
            self._spend(1 if length == 0 else 0, now, "empty_frames")
            self._block(flags, length)
        elif kind == RST_STREAM:
            if not self._resets.spend(1, now):
                raise Flood("resets")
        elif kind == SETTINGS:
            if length > limits.H2_SETTINGS_MAX * _SETTING_BYTES:
                raise Flood("settings")
            # Each costs an acknowledgement (CVE-2019-9515), and h2 looks at all streams for a new window.
            self._spend(4 + length // _SETTING_BYTES, now, "settings")
        else:
            self._spend(1, now, "control_frames")

    def _spend(self, tokens: int, now: float, what: str) -> None:
        if tokens and not self._control.spend(tokens, now):
            raise Flood(what)

    def _block(self, flags: int, length: int) -> None:
        """One more frame of a header block: as a whole it is bounded, too."""
        # CONTINUATION has no bound of its own in RFC 9113: the block is counted as one (CVE-2024-27316).
        self._block_bytes = self._block_bytes + length if self.in_block else length
        self._block_frames = self._block_frames + 1 if self.in_block else 1
        self.in_block = not flags & _END_HEADERS
        if (
            self._block_bytes > limits.HTTP_HEADER_BYTES_MAX
            or self._block_frames > limits.H2_BLOCK_FRAMES_MAX
        ):
            raise Flood("header_block")
