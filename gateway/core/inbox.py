"""A peer's streams, taken apart into messages, with bounds on all of them together. Room: core. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.errors import TooLarge
from gateway.limits import SESSION_STREAM_BYTES_MAX, SESSION_STREAMS_MAX
from gateway.wire.streams import MESSAGE_FLAG, MessageStream


class Inbox:
    """Feed a stream's bytes, take its whole messages. Raises :class:`TooLarge` and
    :class:`gateway.errors.MalformedMessage`; the session is of no use after that."""

    __slots__ = ("_bound", "_message_bytes_max", "_streams")

    def __init__(self, message_bytes_max: int, bound: str = MESSAGE_FLAG) -> None:
        """``bound``: what a refusal names that of a message by."""
        self._bound = bound
        self._message_bytes_max = message_bytes_max
        self._streams: dict[int, MessageStream] = {}

    @property
    def buffered_bytes(self) -> int:
        """Bytes of messages that are not whole yet."""
        return sum([stream.buffered_bytes for stream in self._streams.values()])

    def feed(self, stream_id: int, data: bytes, fin: bool) -> Iterator[bytes]:
        """The messages that are whole with these bytes."""
        stream = self._streams.pop(stream_id, None) or MessageStream(self._message_bytes_max, self._bound)
        stream.feed(data)
        yield from stream
        if fin:
            stream.finish()
        # A stream between two messages holds nothing, and is made anew for the next: only what is inside one
        # counts.
        elif stream.buffered_bytes:
            self._keep(stream_id, stream)

    def reset(self, stream_id: int) -> None:
        """The peer gave the stream up: what was not whole is nothing."""
        self._streams.pop(stream_id, None)

    def clear(self) -> None:
        self._streams.clear()

    def _keep(self, stream_id: int, stream: MessageStream) -> None:
        self._streams[stream_id] = stream
        if len(self._streams) > SESSION_STREAMS_MAX:
            raise TooLarge(
                f"{len(self._streams)} streams of this session are inside a message, and the bound is "
                f"{SESSION_STREAMS_MAX}; finish or reset some first",
                bound="session streams",
                limit=SESSION_STREAMS_MAX,
            )
        if self.buffered_bytes > SESSION_STREAM_BYTES_MAX:
            raise TooLarge(
                f"unfinished messages of this session hold {self.buffered_bytes} bytes, and the bound is "
                f"{SESSION_STREAM_BYTES_MAX}; send one large message at a time",
                bound="session stream bytes",
                limit=SESSION_STREAM_BYTES_MAX,
            )
