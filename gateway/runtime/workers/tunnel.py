"""A publisher's session whose world has its home at another worker: what the publisher says goes there as it came, and what the
home says comes back. Room: runtime.

The near end is the session of the publisher's link, the far end is the link of the home's session: every call of the one is
made at the other, in order.
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final

from gateway.core.ports import CloseCode, Link, LiveOptions, OneByOne, Sent, Session, Transport
from gateway.limits import SESSION_OPEN_S_MAX, STREAM_MESSAGE_BYTES_MAX
from gateway.runtime.workers.channel import Channel, Kind, SiblingGone
from gateway.runtime.workers.siblings import Siblings, gone, settle
from gateway.wire import Control, decode_message, encode_control, prefix

_TOKEN: Final = struct.Struct("<I")
_STREAM: Final = struct.Struct("<QB")


async def open_tunnel(
    siblings: Siblings, number: int, world: str, options: LiveOptions, link: Link
) -> Tunnel:
    """A session at the home. ``welcome`` has been given to the link on return. Raises what the home raises, and
    :class:`SiblingGone`."""
    begun: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    tunnel = Tunnel(link)

    def on_frame(channel: Channel, kind: int, data: bytes) -> None:
        if kind in (Kind.ANSWER, Kind.FAILED):
            settle(begun, kind, data)
        else:
            tunnel.receive(kind, data)

    channel = tunnel.channel = await siblings.connect(
        *(number, "publish", on_frame),
        world=world,
        # A publisher has no keys, and JSON would make texts of numbers.
        options={**asdict(options), "keys": {}},
        transport=link.transport,
        address=link.address,
        lossy=link.lossy,
        bytes_max=link.message_bytes_max(),
    )
    channel.on_lost = lambda: gone(begun, number)
    try:
        async with asyncio.timeout(SESSION_OPEN_S_MAX):
            await begun
    except BaseException as error:
        channel.close()
        if isinstance(error, TimeoutError):
            raise SiblingGone(f"worker {number} did not answer in {SESSION_OPEN_S_MAX:g} s") from None
        raise
    channel.on_lost = tunnel.on_gone
    # It may have been lost in between, while on_lost was still the other one.
    if channel.is_lost:
        tunnel.on_gone()
    return tunnel


class Tunnel:
    """The near end: implements :class:`gateway.core.ports.Session`."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._closed = False
        self._tokens = 0
        self._told: dict[int, int] = {}
        self.channel = Channel()

    # -- what the publisher says ----------------------------------------------------------

    def on_message(self, data: bytes, mono: float) -> None:
        self.channel.write(Kind.MESSAGE, data)

    def on_stream_data(self, stream_id: int, data: bytes, fin: bool, mono: float) -> None:
        self.channel.write(Kind.STREAM_DATA, _STREAM.pack(stream_id, fin), data)

    def on_stream_reset(self, stream_id: int) -> None:
        self.channel.write(Kind.STREAM_RESET, _STREAM.pack(stream_id, 1))

    def on_acked(self, token: int, count: int = 1) -> None:
        """Does nothing: the home does not ask what arrived."""

    def on_lost(self, token: int) -> None:
        # Tokens of QUIC count on for ever; 32 bits of them tell those apart that are under way.
        self.channel.write(Kind.LOST, _TOKEN.pack(token & 0xFFFFFFFF))

    def on_writable(self, mono: float) -> None:
        """Nothing waits for a publisher."""

    def on_closed(self, mono: float) -> None:
        self._closed = True
        self.channel.write(Kind.END)
        self.channel.finish()

    def bye(self, reason: str, code: CloseCode) -> None:
        self._end(encode_control("bye", reason=reason, reconnect_after_ms=0), code, reason)

    # -- what the home says ---------------------------------------------------------------

    def receive(self, kind: int, data: bytes) -> None:
        """A frame of the channel."""
        link = self._link
        if self._closed:
            return
        if kind == Kind.MESSAGE:
            link.control(data)
        elif kind == Kind.DATAGRAM:
            link.send(data[_TOKEN.size :], _TOKEN.unpack_from(data)[0])
        elif kind == Kind.STREAM:
            link.send_stream(_split(data))
        elif kind == Kind.TOKEN and link.on_token is not None:
            what = decode_message(data)
            if isinstance(what, Control):
                link.on_token(what)
        elif kind == Kind.CLOSE:
            told = json.loads(data)
            self._closed = True
            link.close(CloseCode(told["code"]), str(told["reason"]))
            self.channel.close()

    def on_gone(self) -> None:
        """The home has ended without a word: come back, there will be another."""
        self._end(
            encode_control("bye", reason="the gateway is stopping", reconnect_after_ms=100),
            CloseCode.SHUTTING_DOWN,
            "the world's worker has ended",
        )

    def _end(self, last: bytes, code: CloseCode, reason: str) -> None:
        if not self._closed:
            self._closed = True
            self._link.control(last)
            self._link.close(code, reason)
            self.channel.write(Kind.END)
            self.channel.finish()


def _split(data: bytes) -> list[bytes]:
    messages, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        messages.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return messages


class TunnelLink(OneByOne):
    """The far end: implements :class:`gateway.core.ports.Link` for the home's session. ``told`` is of the near link."""

    def __init__(self, channel: Channel, told: dict[str, Any]) -> None:
        self.transport: Transport = told["transport"]
        self.address = str(told["address"])
        self.lossy = bool(told["lossy"])
        self.closed_code: int | None = None
        self._bytes_max = int(told["bytes_max"])
        self._channel = channel
        self._session: Session | None = None
        self._handles = 0
        self.on_token: Callable[[Control], None] | None = self._token

    def attach(self, session: Session) -> None:
        """From here on what comes is the session's."""
        self._session = session
        self._channel.on_lost = self.lost
        self._channel.listen(self._take)

    def _take(self, kind: int, data: bytes) -> None:
        session, mono = self._session, time.monotonic()
        if session is None:
            return
        if kind == Kind.MESSAGE:
            session.on_message(data, mono)
        elif kind == Kind.STREAM_DATA:
            stream_id, fin = _STREAM.unpack_from(data)
            session.on_stream_data(stream_id, data[_STREAM.size :], bool(fin), mono)
        elif kind == Kind.STREAM_RESET:
            session.on_stream_reset(_STREAM.unpack_from(data)[0])
        elif kind == Kind.LOST:
            session.on_lost(_TOKEN.unpack_from(data)[0])
        elif kind == Kind.END:
            self.lost()
            self._channel.close()

    def lost(self) -> None:
        """The near end has left. Idempotent."""
        if self.closed_code is None:
            self.closed_code = int(CloseCode.OK)
        session, self._session = self._session, None
        if session is not None:
            session.on_closed(time.monotonic())

    def _token(self, message: Control) -> None:
        self._channel.write(Kind.TOKEN, encode_control(message.type, token=message.get("token")))

    # -- Link -----------------------------------------------------------------------------

    def message_bytes_max(self) -> int:
        return self._bytes_max

    def room_bytes(self) -> int:
        return 0 if self._channel.is_lost else STREAM_MESSAGE_BYTES_MAX

    def after_input(self, call: Callable[[], None]) -> None:
        self._channel.after_input(call)

    def send(self, message: bytes, token: int) -> Sent:
        self._channel.write(Kind.DATAGRAM, _TOKEN.pack(token & 0xFFFFFFFF), message)
        # On its way for sure: a Unix socket loses nothing, and what the near link cannot send comes back as LOST.
        return True

    def send_stream(self, messages: Sequence[bytes]) -> int:
        self._handles += 1
        self._channel.write(Kind.STREAM, *map(prefix, messages))
        return self._handles

    def reset_stream(self, handle: int) -> None:
        """It is on its way."""

    def stream_done(self, handle: int) -> bool:
        return True

    def control(self, message: bytes) -> None:
        self._channel.write(Kind.MESSAGE, message)

    def close(self, code: CloseCode, reason: str) -> None:
        if self.closed_code is None:
            self.closed_code = int(code)
            self._channel.write_json(Kind.CLOSE, {"code": int(code), "reason": reason})
            self._channel.finish()
