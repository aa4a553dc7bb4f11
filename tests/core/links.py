"""Links for the core's tests: what they are given is kept, nothing is sent anywhere."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.bundle import Bundle
from gateway.core.ports import CloseCode, OneByOne, Refusal, Sent, Transport
from gateway.core.reader import Reader
from gateway.wire import Control, Frame, decode_frame, decode_message


class RecordingLink(OneByOne):
    """A link with settable room. ``sent`` holds (token, message), ``streams`` handle → messages."""

    def __init__(self, *, lossy: bool = True, room: int = 1 << 30, bytes_max: int = 1_200) -> None:
        self.lossy = lossy
        self.transport: Transport = "webtransport" if lossy else "websocket"
        self.room = room
        self.bytes_max = bytes_max
        self.sent: list[tuple[int, bytes]] = []
        self.streams: dict[int, list[bytes]] = {}
        self.reset: set[int] = set()
        self.done: set[int] = set()
        self.controls: list[Control] = []
        self.closed: CloseCode | None = None

    def message_bytes_max(self) -> int:
        return self.bytes_max

    def room_bytes(self) -> int:
        return self.room

    def send(self, message: bytes, token: int) -> Sent:
        assert len(message) <= self.bytes_max
        if len(message) > self.room:
            return Refusal.BLOCKED
        self.sent.append((token, message))
        self.room -= len(message)
        return True

    def send_stream(self, messages: Sequence[bytes]) -> int:
        handle = len(self.streams)
        self.streams[handle] = list(messages)
        return handle

    def reset_stream(self, handle: int) -> None:
        self.reset.add(handle)

    def stream_done(self, handle: int) -> bool:
        return handle in self.done or handle in self.reset

    def control(self, message: bytes) -> None:
        what = decode_message(message)
        assert isinstance(what, Control)
        self.controls.append(what)

    def close(self, code: CloseCode, reason: str) -> None:
        self.closed = self.closed if self.closed is not None else code

    # what the tests ask

    def frames(self) -> list[Frame]:
        """The frames given to ``send`` since the last call."""
        sent, self.sent = self.sent, []
        return [decode_frame(message) for _, message in sent if message[0] == 1]

    def control_types(self) -> list[str]:
        return [control.type for control in self.controls]


def offer_alone(reader: Reader, bundle: Bundle, mono: float) -> None:
    """As a world's fan-out offers it to all its readers, for one that shares its late log with nobody."""
    if not reader.offer(bundle, mono):
        for out in bundle.outs:
            reader.mark(out.keys)
        reader.catch_up(mono)
