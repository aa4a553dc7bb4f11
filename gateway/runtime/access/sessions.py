"""Sessions under a grant: opened by a token or by their first message, ended when it ends, renewed in place. Room: runtime.

A session in use is called as if nobody stood before it: what its transport calls are its own methods. Source: docs/ACCESS.md.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from gateway.core.closing import close_code
from gateway.core.gate import QUERY_KEY, TOKEN_MESSAGE, Gate, Standing
from gateway.core.inbox import Inbox
from gateway.core.ports import CloseCode, Hosted, Link
from gateway.errors import GatewayError, MalformedMessage, TooLarge
from gateway.limits import CONTROL_MESSAGE_BYTES_MAX, TOKEN_WAIT_BYTES_MAX, TOKEN_WAIT_S
from gateway.wire import encode_control, encode_error
from gateway.wire.control import TYPE_CONTROL, Control, decode_control

log = logging.getLogger("mvgateway.gate")

Admit = Callable[[str | None], Standing]
"""``(token, or that there is none) -> standing``. Raises as ``Gate.admit``."""
Open = Callable[[Standing], Awaitable[Hosted]]
"""``(standing) -> session``, under that grant."""


class GrantedSession:
    """A session, and the standing that it has. Its other methods are the session's own, so that a frame costs nothing."""

    __slots__ = (
        "_inner",
        "_link",
        "_standing",
        "bye",
        "on_acked",
        "on_lost",
        "on_message",
        "on_stream_data",
        "on_stream_reset",
        "on_writable",
    )

    def __init__(self, inner: Hosted, link: Link, standing: Standing) -> None:
        self._inner = inner
        self._link = link
        self._standing = standing
        # Bound methods of the session itself, and not methods that call them: this is called for every
        # datagram.
        self.on_message = inner.on_message
        self.on_stream_data = inner.on_stream_data
        self.on_stream_reset = inner.on_stream_reset
        self.on_acked = inner.on_acked
        self.on_lost = inner.on_lost
        self.on_writable = inner.on_writable
        self.bye = inner.bye
        standing.ends_by(inner.bye)

    def on_closed(self, mono: float) -> None:
        self._standing.over()
        self._link.on_token = None  # which holds the link: a cycle
        self._inner.on_closed(mono)


def renews(gate: Gate, standing: Standing, link: Link, peer: str) -> Callable[[Control], None]:
    """What a link's ``on_token`` is: a token that counts goes on, and is told; one that does not ends the session."""

    def on_token(message: Control) -> None:
        try:
            gate.renew(standing, token_of(message), peer)
        except GatewayError as error:
            link.control(encode_error(error))
            link.close(close_code(error), error.title)
            return
        if standing.ended is None:
            link.control(granted(standing))

    return on_token


def granted(standing: Standing) -> bytes:
    """``{"type":"granted","expires":UNIX_SECONDS}``."""
    return encode_control("granted", expires=int(standing.grant.expires_s))


def token_of(message: Control) -> str:
    """The token in a control message. Raises :class:`MalformedMessage`."""
    token = message.get(QUERY_KEY)
    if message.type != TOKEN_MESSAGE or not isinstance(token, str):
        raise MalformedMessage('a token is sent as {"type":"token","token":"..."}')
    return token


class AwaitedSession:
    """A session whose token comes with its first message, within :data:`TOKEN_WAIT_S`. Nothing is opened before."""

    def __init__(self, link: Link, admit: Admit, open_session: Open) -> None:
        self._link = link
        self._admit = admit
        self._open = open_session
        self._inbox = Inbox(CONTROL_MESSAGE_BYTES_MAX)
        self._inner: Hosted | None = None
        self._opening: asyncio.Task[None] | None = None
        self._early: list[Callable[[Hosted], None]] = []
        self._early_bytes = 0
        self._over = False
        self._timer: asyncio.TimerHandle | None = asyncio.get_running_loop().call_later(
            TOKEN_WAIT_S, self._too_late
        )

    # -- ports.Session --------------------------------------------------------------------

    def bye(self, reason: str, code: CloseCode) -> None:
        """As :meth:`gateway.core.ports.Hosted.bye`."""
        self._link.control(encode_control("bye", reason=reason, reconnect_after_ms=0))
        self._link.close(code, reason)

    def on_message(self, data: bytes, mono: float) -> None:
        if self._inner is not None:
            self._inner.on_message(data, mono)
        elif self._opening is not None:
            self._keep(len(data), lambda session: session.on_message(data, time.monotonic()))
        elif not self._over:
            self._guarded(lambda: self._first(data))

    def on_stream_data(self, stream_id: int, data: bytes, fin: bool, mono: float) -> None:
        if self._inner is not None:
            self._inner.on_stream_data(stream_id, data, fin, mono)
        elif self._opening is not None:
            self._keep(
                len(data), lambda session: session.on_stream_data(stream_id, data, fin, time.monotonic())
            )
        elif not self._over:
            self._guarded(lambda: self._feed(stream_id, data, fin))

    def on_stream_reset(self, stream_id: int) -> None:
        if self._inner is not None:
            self._inner.on_stream_reset(stream_id)
        elif self._opening is not None:
            self._keep(0, lambda session: session.on_stream_reset(stream_id))
        else:
            self._inbox.reset(stream_id)

    def on_acked(self, token: int, count: int = 1) -> None:
        if self._inner is not None:
            self._inner.on_acked(token, count)

    def on_lost(self, token: int) -> None:
        if self._inner is not None:
            self._inner.on_lost(token)

    def on_writable(self, mono: float) -> None:
        if self._inner is not None:
            self._inner.on_writable(mono)

    def on_closed(self, mono: float) -> None:
        self._stop()
        if self._inner is not None:
            self._inner.on_closed(mono)
        elif self._opening is not None:
            self._opening.cancel()

    # -- the first message ----------------------------------------------------------------

    def _feed(self, stream_id: int, data: bytes, fin: bool) -> None:
        messages = list(self._inbox.feed(stream_id, data, fin))
        if len(messages) > 1:
            raise MalformedMessage("wait for the answer to your token before you send more")
        if messages:
            self._first(messages[0])

    def _first(self, data: bytes) -> None:
        message = decode_control(data) if data[:1] == bytes([TYPE_CONTROL]) else None
        is_token = message is not None and message.type == TOKEN_MESSAGE
        standing = self._admit(token_of(message) if message is not None and is_token else None)
        self._stop_timer()
        self._inbox.clear()
        self._opening = asyncio.get_running_loop().create_task(self._go(standing))
        # A task that is cancelled before its first step never runs: whoever sends a token and closes at once would keep
        # his place among the sessions of his subject for ever. Where it has run, this is over already.
        self._opening.add_done_callback(lambda task: standing.over() if task.cancelled() else None)

    async def _go(self, standing: Standing) -> None:
        # Before the session is open: a client waits for it before it sends more.
        self._link.control(granted(standing))
        try:
            session = await self._open(standing)
        except GatewayError as error:
            self._refuse(error)
            return
        except Exception:
            log.exception("opening a session failed")
            self._refuse(GatewayError("the session could not be opened"))
            return
        if self._over:
            # It was closed while it opened: the session is there, and nobody else would end it.
            session.on_closed(time.monotonic())
            return
        self._inner = session
        # In the order in which they came, and before anything that comes from here on: all on one loop.
        early, self._early = self._early, []
        for call in early:
            call(session)

    def _keep(self, size: int, call: Callable[[Hosted], None]) -> None:
        self._early_bytes += size + 64
        if self._early_bytes > TOKEN_WAIT_BYTES_MAX:
            self._refuse(
                TooLarge(f"more than {TOKEN_WAIT_BYTES_MAX} bytes came before this session was open")
            )
            return
        self._early.append(call)

    # -- the end --------------------------------------------------------------------------

    def _guarded(self, take: Callable[[], object]) -> None:
        try:
            take()
        except GatewayError as error:
            self._refuse(error)

    def _too_late(self) -> None:
        self._timer = None
        self._guarded(lambda: self._admit(None))

    def _refuse(self, error: GatewayError) -> None:
        if self._over:
            return
        self._stop()
        self._link.control(encode_error(error))
        self._link.close(close_code(error), error.title)

    def _stop(self) -> None:
        self._over = True
        self._early.clear()
        self._inbox.clear()
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
