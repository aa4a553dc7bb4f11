"""A link to nobody: for publishers that come by POST or by plain UDP. Room: runtime.

They get no answers from the rules (``welcome``, ``durable``); what ends them is kept here.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway import limits
from gateway.core.ports import CloseCode, OneByOne, Sent, Transport


class LocalLink(OneByOne):
    """Implements :class:`gateway.core.ports.Link`; takes everything and sends nothing."""

    lossy = False

    def __init__(self, transport: Transport, address: str = "") -> None:
        self.transport: Transport = transport
        self.address = address
        self.closed: tuple[CloseCode, str] | None = None

    def message_bytes_max(self) -> int:
        return limits.STREAM_MESSAGE_BYTES_MAX

    def room_bytes(self) -> int:
        return limits.STREAM_MESSAGE_BYTES_MAX

    def send(self, message: bytes, token: int) -> Sent:
        return True

    def send_stream(self, messages: Sequence[bytes]) -> int:
        return 0

    def reset_stream(self, handle: int) -> None:
        pass

    def stream_done(self, handle: int) -> bool:
        return True

    def control(self, message: bytes) -> None:
        pass

    def close(self, code: CloseCode, reason: str) -> None:
        if self.closed is None:
            self.closed = (code, reason)
