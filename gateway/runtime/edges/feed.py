"""One session at another gateway by which a world is followed: messages in, as bytes and as values. Room: runtime.

Implements :class:`gateway.core.ports.Session`. What comes before :meth:`Feed.release` is held, up to a bound, so that
nothing is fed that turns out not to be the home's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from gateway import limits
from gateway.client.address import Address
from gateway.client.problems import error_for
from gateway.core.ports import CloseCode, Link
from gateway.core.source import SourceNews, read_source
from gateway.errors import GatewayError, StoreUnavailable
from gateway.quic import Client
from gateway.runtime.edges.peers import Peers
from gateway.wire import Control, Frame, MessageStream, decode_message, encode_control
from gateway.wire.parity import TYPE_PARITY, Rebuilder

log = logging.getLogger("mvgateway.edge")
_PARITY = bytes([TYPE_PARITY])

OnFrame = Callable[[Frame, bytes], None]


class FeedOver(StoreUnavailable):
    """The gateway that was followed said something else than that it is the home, or nothing."""

    code = "feed_over"
    title = "Not followed any more"


class Feed:
    """``address``: the gateway that is asked. ``on_source`` and ``on_over`` are the edge's."""

    def __init__(self, address: Address, on_source: Callable[[Feed, SourceNews], None],
                 on_over: Callable[[Feed], None]) -> None:  # fmt: skip
        self.address = address
        self.heard_at = time.monotonic()
        """When anything came last (``time.monotonic``)."""
        self.begun: asyncio.Future[SourceNews] = asyncio.get_running_loop().create_future()
        """The first that is said of the source, or why there is none."""
        self.whole: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once a whole keyframe has been given on."""
        self.token_expires: float | None = None
        """When the token ends by which this gateway is let in, as the other one said last (Unix seconds)."""
        self.is_over = False
        self.link: Link | None = None
        self._client: Client | None = None
        self._on_source = on_source
        self._on_over = on_over
        self._on_frame: OnFrame | None = None
        self._held: list[tuple[Frame, bytes]] = []
        self._held_bytes = 0
        self._streams: dict[int, MessageStream] = {}
        self._rebuilder = Rebuilder()
        self._parts: dict[int, set[int]] = {}
        self._renewing: asyncio.Task[None] | None = None

    async def open(self, peers: Peers, path: str, timeout_s: float) -> None:
        """Raises :class:`GatewayError`. Afterwards :meth:`close` it."""
        # A connection of its own: its end is the feed's end, and one world's frames never wait for
        # another's.
        client = await peers.session(self.address, path, self._attached, timeout_s)
        if self.is_over:
            client.close()
            raise self._why()
        self._client = client
        if peers.token_due_s is not None:
            self._renewing = asyncio.get_running_loop().create_task(self._renew(peers))

    def _attached(self, link: Link) -> Feed:
        self.link = link
        return self

    def _why(self) -> GatewayError:
        error = self.begun.exception() if self.begun.done() and not self.begun.cancelled() else None
        return error if isinstance(error, GatewayError) else FeedOver(f"{self.address.base_url} has ended it")

    async def _renew(self, peers: Peers) -> None:
        """A fresh token before the old one ends."""
        while not self.is_over and (due_s := peers.token_due_s) is not None:
            await asyncio.sleep(max(due_s, limits.CLIENT_TOKEN_AGAIN_S))
            try:
                text = await peers.fresh_token()
            except GatewayError as error:
                log.warning("no fresh token for %s: %s", self.address.base_url, error.message)
                continue
            if self.link is not None and not self.is_over:
                self.link.control(encode_control("token", token=text))

    def release(self, on_frame: OnFrame) -> None:
        """Give on what was held, and what comes from now on."""
        self._on_frame = on_frame
        # Emptied first: a held frame that is refused ends the feed in the middle of this.
        held, self._held, self._held_bytes = self._held, [], 0
        for frame, data in held:
            self._give(on_frame, frame, data)

    def close(self) -> None:
        """End it. Idempotent."""
        self._ended(FeedOver(f"the session at {self.address.base_url} was ended here"))
        if self._client is not None:
            self._client.close()
            self._client = None

    def _ended(self, error: GatewayError) -> None:
        if self.is_over:
            return
        self.is_over = True
        self._held.clear()
        self._streams.clear()
        if self._renewing is not None:
            self._renewing.cancel()
        if not self.begun.done():
            self.begun.set_exception(error)
            # Looked at, or else asyncio logs "exception was never retrieved" where nobody waits any more.
            self.begun.exception()
        if not self.whole.done():
            self.whole.cancel()
        self._on_over(self)

    # -- ports.Session --------------------------------------------------------------------

    def on_message(self, data: bytes, mono: float) -> None:
        self.heard_at = time.monotonic()
        # A parity message is no frame; what is lost may be made of it and the frames that came.
        if data[:1] != _PARITY:
            self._take(data)
        lost = self._rebuilder.receive(data)
        if lost is not None:
            self._take(lost)

    def on_stream_data(self, stream_id: int, data: bytes, fin: bool, mono: float) -> None:
        self.heard_at = time.monotonic()
        stream = self._streams.get(stream_id)
        if stream is None:
            stream = self._streams[stream_id] = MessageStream()
            # The oldest goes (a dict keeps the order): a home that never ends its streams is not to fill
            # this process.
            while len(self._streams) > limits.CLIENT_STREAMS_MAX:
                del self._streams[next(iter(self._streams))]
        try:
            stream.feed(data)
            for message in stream:
                self._take(message)
        except GatewayError as error:
            self._refuse(error)
        if fin:
            self._streams.pop(stream_id, None)

    def on_stream_reset(self, stream_id: int) -> None:
        self._streams.pop(stream_id, None)

    def on_acked(self, token: int, count: int = 1) -> None:
        """Nothing is sent that has to arrive."""

    def on_lost(self, token: int) -> None:
        """As :meth:`on_acked`."""

    def on_writable(self, mono: float) -> None:
        """Nothing waits."""

    def on_closed(self, mono: float) -> None:
        self._ended(FeedOver(f"the connection to {self.address.base_url} has ended"))

    # -- what came ------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        if self.is_over:
            return
        try:
            message = decode_message(data)
        except GatewayError as error:
            self._refuse(error)
            return
        if isinstance(message, Control):
            self._control(message)
        elif self._on_frame is not None:
            self._give(self._on_frame, message, data)
        else:
            self._hold(message, data)

    def _hold(self, frame: Frame, data: bytes) -> None:
        self._held_bytes += len(data)
        if self._held_bytes > limits.EDGE_HELD_BYTES_MAX:
            self._refuse(FeedOver(f"{self.address.base_url} sends frames without saying whose they are"))
        else:
            self._held.append((frame, data))

    def _give(self, on_frame: OnFrame, frame: Frame, data: bytes) -> None:
        try:
            on_frame(frame, data)
        except GatewayError as error:
            self._refuse(error)
            return
        if frame.keyframe and not self.whole.done():
            self._seen(frame)

    def _seen(self, frame: Frame) -> None:
        """A part of a keyframe: of the newest few the parts are noted until one is whole."""
        # One number as the key: ticks have 32 bits (docs/FRAMES.md).
        parts = self._parts.setdefault(frame.epoch << 32 | frame.tick, set())
        parts.add(frame.part)
        if len(parts) >= frame.parts:
            self._parts.clear()
            self.whole.set_result(None)
        while len(self._parts) > limits.EDGE_KEYFRAMES_MAX:
            del self._parts[next(iter(self._parts))]

    def _control(self, message: Control) -> None:
        link = self.link
        if message.type == "welcome" and link is not None:
            link.control(encode_control("redundancy", parity=True))
            link.control(encode_control("edge"))
        elif message.type == "granted":
            expires = message.get("expires")
            self.token_expires = float(expires) if isinstance(expires, int | float) else None
        elif message.type == "source":
            self._source(message)
        elif message.type in ("error", "bye"):
            code, text = str(message.get("code") or message.get("reason")), message.get("message")
            self._refuse(error_for(code, str(text or f"it said bye: {code}")))

    def _source(self, message: Control) -> None:
        try:
            news = read_source(message)
        except GatewayError as error:
            self._refuse(error)
            return
        # Before `begun`: whoever waits for that finds what was said already known.
        self._on_source(self, news)
        if not self.begun.done():
            self.begun.set_result(news)

    def _refuse(self, error: GatewayError) -> None:
        log.debug("%s is followed no more: %s", self.address.base_url, error.message)
        if self.link is not None:
            self.link.close(CloseCode.OK, "")
        self._ended(error)
