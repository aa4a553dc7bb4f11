"""A publisher without a connection, and its link to nobody: for POST and plain UDP. Room: runtime.

Such publishers get no answers from the rules (``welcome``, ``durable``); what ends them is kept here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gateway import limits
from gateway.core.events import address_text
from gateway.core.ports import CloseCode, LiveOptions, OneByOne, Sent, Transport
from gateway.core.sessions import PublisherSession
from gateway.errors import Conflict, PublisherPresent

if TYPE_CHECKING:
    from gateway.runtime.host import WorldHost


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


class LocalPublisher:
    """A publisher without a connection: POST and plain UDP."""

    def __init__(self, host: WorldHost, session: PublisherSession, link: LocalLink) -> None:
        self._host = host
        self._session = session
        self._link = link
        self._used = time.monotonic()
        self._users = 0
        self._detached = False

    @classmethod
    async def attach(cls, host: WorldHost, transport: Transport, by: str = "") -> LocalPublisher:
        """``by``: the peer for whom it publishes. Raises ``PublisherPresent`` where another publishes."""
        link = LocalLink(transport, address_text(by, 0) if by else "")
        try:
            if host.edge is not None:
                # No session waits here for the home to move, as a publisher's would: it is asked before,
                # and the answer is awaited.
                await host.edge.have_it_given_up()
            session = await host.attach_publisher(LiveOptions(role="publish"), link)
        except PublisherPresent:
            raise PublisherPresent(
                f"world {host.name} has a publisher; wait until it has left, or take the world over by a session: "
                f"/v1/worlds/{host.name}/live?role=publish&takeover=1"
            ) from None
        return cls(host, session, link)

    @property
    def epoch(self) -> int:
        """The epoch of its frames."""
        return self._session.epoch

    @property
    def ended(self) -> bool:
        """True once it was taken over, shut down or detached."""
        return self._detached or self._link.closed is not None

    @property
    def is_idle(self) -> bool:
        """True while no request sends by it."""
        return self._users == 0

    def idle_s(self) -> float:
        """Seconds since the last message; 0 while a request is under way."""
        return 0.0 if self._users else time.monotonic() - self._used

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While a request sends by it, its silence does not count."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            self._used = time.monotonic()

    def receive(self, message: bytes) -> None:
        """One message. Raises of :mod:`gateway.errors`."""
        if self.ended:
            # Where the home was lost that is what is said, and where to go; Conflict only if not.
            self._host.homing.check()
            raise Conflict("another publisher has taken the world over, or the gateway is stopping")
        self._used = time.monotonic()
        self._session.receive(message, self._used)

    def detach(self) -> None:
        """Go away; the world lingers as for any publisher."""
        if not self._detached:
            self._detached = True
            self._session.on_closed(time.monotonic())
