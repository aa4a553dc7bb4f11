"""WebSocket frames in, whole messages out, within bounds that hold while they are collected. Room: http. Pure.

wsproto parses and unmasks; it hands on each piece of a payload as it comes, and what is added up
here is checked before it is kept. No extension is negotiated, so nothing is inflated.
Source: RFC 6455 sections 5 and 7.4.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wsproto.frame_protocol import Frame, FrameProtocol, Opcode, ParseFailed

from gateway import limits
from gateway.http.budget import UNFINISHED_FLAG, ByteBudget, Crowded
from gateway.http.tcp.rates import Bucket
from gateway.wire.streams import MESSAGE_FLAG

PROTOCOL_ERROR, POLICY, TOO_BIG, TRY_LATER = 1002, 1008, 1009, 1013
NO_STATUS = 1005


class Breach(Exception):
    """What a WebSocket may not send. ``code``: of the Close that it gets; ``bound``: the setting that says so.
    RFC 6455 section 7.4.1."""

    def __init__(self, code: int, reason: str, bound: str = "") -> None:
        super().__init__(reason)
        self.bound = bound
        self.code = int(code)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """One whole message; ``control`` is ping, pong or close, whose ``code`` is the peer's. RFC 6455 section 5.5."""

    data: bytes | str
    control: Opcode | None = None
    code: int = NO_STATUS


class Collector:
    """Feed, then pull. RFC 6455 section 5."""

    def __init__(self, message_bytes_max: int, budget: ByteBudget) -> None:
        self._message_bytes_max = message_bytes_max
        # Without permessage-deflate: frames are compressed by the publisher (zstd), and what does not inflate needs
        # no bound on inflating.
        self._protocol = FrameProtocol(client=False, extensions=[])
        self._frames: Iterator[Frame] | None = None
        self._parts: list[bytes | str] = []
        self._size = 0
        self._fragments = 0
        self._lease = budget.lease()
        self._control = Bucket(limits.WEBSOCKET_CONTROL_BURST, limits.WEBSOCKET_CONTROL_PER_S)

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        self._protocol.receive_bytes(data)

    def pull(self, now: float, pieces_max: int) -> ReceivedMessage | bool | None:
        """The next message; None: none is whole yet; False: there is more to do than ``pieces_max`` pieces.
        Raises :class:`Breach`."""
        try:
            for _ in range(pieces_max):
                frame = next(iter(self._protocol.received_frames()), None)
                if frame is None:
                    return None
                whole = self._take(frame, now)
                if whole is not None:
                    return whole
        except ParseFailed as error:
            raise Breach(error.code, str(error)) from None
        return False

    def release(self) -> None:
        """Keep nothing any more."""
        self._parts.clear()
        self._lease.release()

    def _take(self, frame: Frame, now: float) -> ReceivedMessage | None:
        if frame.opcode.iscontrol():
            return self._take_control(frame, now)
        payload = frame.payload
        assert isinstance(payload, (bytes, bytearray, str))
        # In bytes of the wire: a bound by characters would let four times as much in.
        self._size += len(payload) if not isinstance(payload, str) else len(payload.encode())
        # wsproto hands one fragment on in several pieces; only its end counts.
        self._fragments += frame.frame_finished
        if self._size > self._message_bytes_max:
            raise Breach(
                TOO_BIG,
                f"a message is at most {self._message_bytes_max} bytes ({MESSAGE_FLAG})",
                MESSAGE_FLAG,
            )
        if self._fragments > limits.WEBSOCKET_FRAGMENTS_MAX:
            raise Breach(POLICY, f"a message comes in at most {limits.WEBSOCKET_FRAGMENTS_MAX} fragments")
        # A message in one piece, as nearly all: nothing is held, so nothing is asked of the budget.
        if frame.message_finished and not self._parts:
            self._begin_anew()
            return ReceivedMessage(payload if isinstance(payload, str) else bytes(payload))
        self._keep(payload)
        return self._whole() if frame.message_finished else None

    def _keep(self, payload: bytes | bytearray | str) -> None:
        try:
            self._lease.hold(self._size)
        except Crowded as error:
            raise Breach(TRY_LATER, f"{error.title} ({UNFINISHED_FLAG})", UNFINISHED_FLAG) from None
        if payload:
            self._parts.append(payload if isinstance(payload, str) else bytes(payload))

    def _whole(self) -> ReceivedMessage:
        parts = self._parts
        text = bool(parts) and isinstance(parts[0], str)
        data: bytes | str = (
            "".join(map(str, parts)) if text else b"".join(p for p in parts if isinstance(p, bytes))
        )
        self._begin_anew()
        return ReceivedMessage(data)

    def _begin_anew(self) -> None:
        self._parts = []
        self._size = self._fragments = 0
        self._lease.release()

    def _take_control(self, frame: Frame, now: float) -> ReceivedMessage:
        if not self._control.spend(1, now):
            raise Breach(POLICY, "too many control frames")
        payload = frame.payload
        if isinstance(payload, tuple):
            return ReceivedMessage(payload[1], Opcode.CLOSE, int(payload[0]))
        return ReceivedMessage(payload, Opcode(frame.opcode))
