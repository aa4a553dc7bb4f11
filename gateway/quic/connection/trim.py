"""What a connection need not hold once its handshake is over. Room: quic.

aioquic keeps three 16 KiB buffers for TLS messages, the keys of the handshake's packets, the whole of TLS, a
table for the handlers of frames to each connection, and both halves of one-way streams. Of a
reader that only listens that is more than half of its memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MethodType
from typing import Any

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic import connection
from aioquic.quic.connection import MAX_LOCAL_CHALLENGES
from aioquic.quic.crypto import CryptoPair, NoCallback
from aioquic.quic.stream import QuicStream, QuicStreamReceiver, QuicStreamSender

POST_HANDSHAKE_BUFFER_BYTES = 512
"""For what TLS may still want to say: an alert, or nothing."""


def share_epochs() -> None:
    """Have aioquic make each set of epochs once, not some thirty of them for every connection. Idempotent."""
    if not hasattr(connection.EPOCHS, "cache_info"):
        connection.EPOCHS = cache(connection.EPOCHS)


@cache
def _no_keys() -> CryptoPair:
    """A pair without keys: packets of a past epoch are dropped by it as undecryptable."""
    return CryptoPair()


@cache
def _no_buffer() -> Buffer:
    """For epochs that are over: nothing is written to it any more."""
    return Buffer(capacity=0)


@cache
def _no_stream() -> QuicStream:
    """The stream of TLS messages of an epoch that is over."""
    return QuicStream()


class EndedTls:
    """A server's TLS once the handshake is over: it has said all it will, and expects nothing."""

    state = tls.State.SERVER_POST_HANDSHAKE

    def __init__(self, alpn_negotiated: str | None) -> None:
        self.alpn_negotiated = alpn_negotiated

    def handle_message(self, data: bytes, output: Mapping[tls.Epoch, Buffer]) -> None:
        """Raises ``AlertUnexpectedMessage``, as aioquic does once such a message is complete."""
        raise tls.AlertUnexpectedMessage


@cache
def _ended_tls(alpn_negotiated: str | None) -> EndedTls:
    return EndedTls(alpn_negotiated)


@cache
def _unused_sender() -> QuicStreamSender:
    return QuicStreamSender(stream_id=None, writable=False)


@cache
def _unused_receiver() -> QuicStreamReceiver:
    return QuicStreamReceiver(stream_id=None, readable=False)


def share_unused_half(stream: QuicStream, *, is_ours: bool) -> None:
    """A one-way stream's other half never does anything: all streams have the same one."""
    if is_ours:
        stream.receiver = _unused_receiver()
    else:
        stream.sender = _unused_sender()


class FrameHandlers:
    """aioquic's table of frame handlers, without a bound method for each frame type and connection."""

    __slots__ = ("_quic", "_table")

    def __init__(self, quic: Any, table: dict[int, tuple[Any, frozenset[tls.Epoch]]]) -> None:
        self._quic = quic
        self._table = table

    def __getitem__(self, frame_type: int) -> tuple[Any, frozenset[tls.Epoch]]:
        function, epochs = self._table[frame_type]
        return MethodType(function, self._quic), epochs


@cache
def _functions(items: tuple[tuple[int, Any, frozenset[tls.Epoch]], ...]) -> dict[int, Any]:
    return {frame_type: (function, epochs) for frame_type, function, epochs in items}


def _share_handlers(quic: Any) -> None:
    handlers = quic._QuicConnection__frame_handlers
    if isinstance(handlers, dict):
        items = tuple((number, method.__func__, epochs) for number, (method, epochs) in handlers.items())
        table = _functions(items)
        quic._QuicConnection__frame_handlers = FrameHandlers(quic, table)


class Challenges(list[bytes]):
    """A peer's challenges of a path, of which there are mostly none: a deque takes 760 bytes all the same.
    aioquic lets no more in than its ``MAX_REMOTE_CHALLENGES``."""

    __slots__ = ()

    def popleft(self) -> bytes:
        return self.pop(0)


class OwnChallenges(Challenges):
    """Ours, the newest few."""

    __slots__ = ()

    def append(self, challenge: bytes) -> None:
        super().append(challenge)
        if len(self) > MAX_LOCAL_CHALLENGES:
            del self[0]


def trim(quic: Any) -> None:
    """Let go of what only the handshake needed. ``quic``: a connection whose handshake is confirmed, early
    data over, and that logs nothing."""
    _share_handlers(quic)
    pair = quic._cryptos[tls.Epoch.ONE_RTT]
    for context in (pair.recv, pair.send):
        context._setup_cb = context._teardown_cb = NoCallback
    quic._cryptos[tls.Epoch.ZERO_RTT] = _no_keys()
    for path in quic._network_paths:
        path.local_challenges = OwnChallenges(path.local_challenges)
        path.remote_challenges = Challenges(path.remote_challenges)
    for epoch in (tls.Epoch.INITIAL, tls.Epoch.HANDSHAKE):
        quic._crypto_buffers[epoch] = _no_buffer()
        if quic._spaces[epoch].discarded:
            quic._cryptos[epoch] = _no_keys()
            quic._crypto_streams[epoch] = _no_stream()
    if quic._spaces[tls.Epoch.INITIAL].discarded:
        quic._cryptos_initial = dict.fromkeys(quic._cryptos_initial, _no_keys())
    if quic._is_client:
        quic._crypto_buffers[tls.Epoch.ONE_RTT] = Buffer(capacity=POST_HANDSHAKE_BUFFER_BYTES)
    else:
        quic._crypto_buffers[tls.Epoch.ONE_RTT] = _no_buffer()
        quic.tls = _ended_tls(quic.tls.alpn_negotiated)
