"""The seams of the house: what the rules need of a transport, and what the doors need of the rules.

Room: core. Pure: protocols and values only, no asyncio, sockets or clocks. Times are integers:
``now_us`` is microseconds since the Unix epoch, ``mono`` is seconds of a monotonic clock (float).

* :class:`Link` is implemented by ``quic/`` (WebTransport) and ``http/`` (WebSocket, HTTP
  streams, server-sent events); :class:`Session` is implemented by ``core/`` and driven by them.
* :class:`Worlds` is implemented by ``runtime/`` and called by ``http/`` and by the QUIC doors.

A visitor who may only see what is ``delay_s`` old: the door puts that into the query by
:func:`gateway.core.delay.at_least`, and everything behind it (``LiveOptions.delay_s``, the ``delay_s=`` of
:class:`Worlds`) takes it from there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from gateway.core.bundle import Burst
    from gateway.core.gate import Standing
    from gateway.core.grants import Grant
    from gateway.core.told import Listed, Overview, Posted, RecordedState, UdpPlace
    from gateway.wire.control import Control

Role = Literal["publish", "subscribe"]
Transport = Literal["webtransport", "websocket", "http", "sse", "udp", "local"]


class CloseCode(IntEnum):
    """Session close codes: WebTransport application codes; a WebSocket uses 4000 + code."""

    OK = 0
    ERROR = 1
    SHUTTING_DOWN = 2
    TAKEN_OVER = 3
    PUBLISHER_PRESENT = 4
    MALFORMED = 5
    TOO_SLOW = 6
    HELD_ELSEWHERE = 7
    EXPIRED = 8
    REFUSED = 9


class Refusal(Enum):
    """Why a message was not taken: nothing of it is queued, and its token is not used. False, as an answer to whether it went."""

    TOO_LARGE = "too large"
    """It is longer than what the link takes now: see ``message_bytes_max``. Cut it, or use a stream."""
    BLOCKED = "blocked"
    """There is no room for it now: later there will be."""
    UNSUPPORTED = "unsupported"
    """The peer takes no datagrams (RFC 9221 section 3), and never will on this link: use streams."""
    CLOSED = "closed"
    """The link is over, or about to be: nothing more goes."""

    def __bool__(self) -> Literal[False]:
        return False


Sent = Literal[True] | Refusal
"""Whether a message went, and if not, why."""


class RoundTrips(NamedTuple):
    """What a lossy link knows of its path's round trips, in seconds, without the peer's own delays."""

    latest_s: float
    least_s: float
    """The smallest so far."""
    given_up: int = 0
    """Messages so far that were told as lost because nothing was answered for a while, and may have arrived."""


class Link(Protocol):
    """One session's transport, as the rules see it. Every method returns at once.

    A *lossy* link (WebTransport datagrams) reports the fate of each token by
    ``Session.on_acked`` / ``Session.on_lost``; on the others what was sent will arrive.
    """

    on_token: Callable[[Control], None] | None
    """What to do with a fresh token that the peer sends; None: nobody asked for one."""

    @property
    def standing(self) -> Standing | None:
        """The grant that the request of this session was let in by, where its door has asked for it already."""

    @property
    def certificate(self) -> Grant | None:
        """The grant of the connection's client certificate."""

    @property
    def closed_code(self) -> int | None:
        """How it ended; None while it has not, as far as the transport knows."""

    @property
    def transport(self) -> Transport: ...

    @property
    def address(self) -> str:
        """The peer's address and port for the operator's log; empty where there is none."""

    @property
    def lossy(self) -> bool:
        """True where ``send`` goes by datagrams that may be lost."""

    def message_bytes_max(self) -> int:
        """The largest message that ``send`` takes now: the path's datagram, or 65,535 on WebSocket."""

    def room_bytes(self) -> int:
        """How many bytes ``send`` admits now without anything waiting behind them: the congestion
        window less what is in flight, or the free part of a TCP link's low write limit. Below
        ``DATAGRAM_SAFE_BYTES``, what a message is worth: wait for ``Session.on_writable``."""

    def round_trips(self) -> RoundTrips | None:
        """What is known of the path's round trips; None where nothing is, or nothing is lost on it anyway."""

    def send(self, message: bytes, token: int) -> Sent:
        """Send one message; or say why not."""

    def send_burst(self, burst: Burst, token: int) -> int | Refusal:
        """Send several messages as far as they are admitted, under ``token`` and the ones after it; answers how many went,
        or why none did."""

    def after_input(self, call: Callable[[], None]) -> None:
        """Make this call once what the transport has read together has all been handed over: at once
        where it reads one thing at a time."""

    def send_stream(self, messages: Sequence[bytes]) -> int:
        """Send messages that must not be split into datagrams: a unidirectional stream of its own
        on WebTransport, in line elsewhere. Answers a handle for ``reset_stream``."""

    def reset_stream(self, handle: int) -> None:
        """Give up such a stream: newer state has overtaken it. Unknown or finished: nothing."""

    def stream_done(self, handle: int) -> bool:
        """True once all its bytes were acknowledged (or handed to the kernel), or it was reset."""

    def control(self, message: bytes) -> None:
        """Send a control message in order on the session's control stream."""

    def close(self, code: CloseCode, reason: str) -> None:
        """End the session after what ``control`` was given. Idempotent."""


class Sends(Protocol):
    """What sends one message after the other: the part of a :class:`Link` that does."""

    def message_bytes_max(self) -> int: ...

    def send(self, message: bytes, token: int) -> Sent: ...


def send_each(link: Sends, burst: Burst, token: int) -> int | Refusal:
    """``Link.send_burst`` by ``Link.send``. Where one is too large none goes, though others would."""
    bytes_max = link.message_bytes_max()
    if bytes_max and burst.largest > bytes_max:
        return Refusal.TOO_LARGE
    for at, message in enumerate(burst.messages):
        sent = link.send(message, token + at)
        if sent is not True:
            return at or sent
    return burst.count


class OneByOne:
    """The part of a :class:`Link` that most have alike: nobody's grant, and several messages one after the other."""

    __slots__ = ()
    address = ""
    on_token: Callable[[Control], None] | None = None
    standing: Standing | None = None
    certificate: Grant | None = None
    closed_code: int | None = None

    if TYPE_CHECKING:  # what a link that has this part brings itself

        def message_bytes_max(self) -> int: ...

        def send(self, message: bytes, token: int) -> Sent: ...

    def send_burst(self, burst: Burst, token: int) -> int | Refusal:
        return send_each(self, burst, token)

    def round_trips(self) -> RoundTrips | None:
        return None

    def after_input(self, call: Callable[[], None]) -> None:
        call()


class ClientGone(OSError):
    """A client gave its request up, or takes none of its answer: there is nobody to read from, or to send to."""


class Session(Protocol):
    """The rules' end of one session. The transport calls these from the event loop, never twice at once."""

    def on_message(self, data: bytes, mono: float) -> None:
        """A datagram or a WebSocket binary message."""

    def on_stream_data(self, stream_id: int, data: bytes, fin: bool, mono: float) -> None:
        """Bytes of a peer's stream: a sequence of length-prefixed messages."""

    def on_stream_reset(self, stream_id: int) -> None: ...

    def on_acked(self, token: int, count: int = 1) -> None:
        """This token and those after it, ``count`` in all, arrived."""

    def on_lost(self, token: int) -> None: ...

    def on_writable(self, mono: float) -> None:
        """Room for a message again after ``send`` or ``room_bytes`` said there was none."""

    def on_closed(self, mono: float) -> None:
        """The transport is gone. Called exactly once, also after ``Link.close``."""


class Hosted(Session, Protocol):
    """A session that the gateway can end, as those are that it opens."""

    def bye(self, reason: str, code: CloseCode) -> None:
        """End it without blame: what it was granted is over, for one."""


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """What the query of ``/v1/worlds/{world}/live`` asks for, already validated."""

    role: Role = "subscribe"
    epoch: int | None = None
    takeover: bool = False
    zstd: bool = False
    budget_kbps: int | None = None
    keys: Mapping[int, float] = field(default_factory=dict)
    follow: str | None = None
    resume: str | None = field(default=None, repr=False)
    """The secret of the epoch's publisher, 32 hex digits; never shown."""
    conflate: bool = True
    """False: every frame in order, as an ordinary TCP server would; only on links that are not lossy."""
    delay_s: float = 0.0
    """Of a subscriber: nothing that came less than so long ago. 0: the newest."""
    redundancy: bool = True
    """False: nothing is said twice, whatever the path loses."""
    parity: bool = False
    """True: the reader rebuilds a lost message of a frame from the others and its parity."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A point in a world's history."""

    epoch: int
    tick: int


class Worlds(Protocol):
    """What the doors ask of the gateway. All raise only classes of :mod:`gateway.errors`. ``delay_s``: nothing that
    was recorded less than so long ago; 0: all there is."""

    async def create(
        self, name: str, options: Mapping[str, object], *, by: str = ""
    ) -> tuple[Overview, bool]:
        """Here and below ``by`` is the peer that a new world counts for (:func:`gateway.core.admission.peer_of`). Create a world (idempotent). ``options``: ``stride``, ``retention``. Answers (info, created)."""

    async def info(self, name: str, *, delay_s: float = 0.0) -> Overview:
        """What there is to say of it. Raises ``UnknownWorld``."""

    async def list(self, *, delay_s: float = 0.0) -> list[Listed]: ...

    async def open_session(self, name: str, options: LiveOptions, link: Link) -> Hosted:
        """Attach a publisher or a subscriber. ``welcome`` has been given to the link on return."""

    async def post_frames(
        self, name: str, messages: AsyncIterator[bytes], *, durable: bool, by: str = ""
    ) -> Posted:
        """Take length-prefixed messages' contents; answers what became of them."""

    async def last_synced(self, name: str, *, delay_s: float = 0.0) -> RecordedState:
        """The last synced state, from the store."""

    async def patch(self, name: str, options: Mapping[str, object]) -> Overview:
        """Change ``retention`` or ``ring_s``. Answers the info."""

    async def delete(self, name: str) -> None:
        """End its sessions and delete the world with all its history."""

    async def state_at(
        self,
        name: str,
        *,
        epoch: int | None = None,
        tick: int | None = None,
        at_us: int | None = None,
        delay_s: float = 0.0,
    ) -> RecordedState:
        """The recorded state at a tick, or at a time (microseconds since the Unix epoch): as ``last_synced``."""

    async def history(
        self,
        name: str,
        *,
        epoch: int | None,
        from_tick: int | None,
        to_tick: int | None,
        rows: bool = False,
        delay_s: float = 0.0,
    ) -> AsyncIterator[bytes]:
        """The recorded messages in order, gaps as control messages of type ``gap``. ``rows``: before the
        messages of each recorded row one of type ``row``, with its number and times."""

    async def udp_token(self, name: str, *, by: str = "") -> UdpPlace:
        """Register a plain UDP publisher."""


class Doors(Protocol):
    """Where a session request ends up, whatever transport it came by. Implemented by ``runtime/``.

    ``quic/`` calls it for each WebTransport CONNECT, ``http/`` for each WebSocket and streamed GET,
    so that paths and their queries are understood in one place.
    """

    async def open_at(self, path: str, query: str, headers: Mapping[str, str], link: Link) -> Session:
        """Open the session that ``path?query`` names (``/v1/worlds/{world}/live`` and the like).
        Raises :class:`gateway.errors.GatewayError`: the transport turns it into a refusal."""
