"""What TLS still says and hears once the handshake is over: session tickets. Room: quic.

A server has its tickets sent again until they arrive, and expects nothing; of a client's TLS all is kept that takes one.
Sources: RFC 8446 section 4.6.1; RFC 9001 sections 4.6.1 and 6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aioquic import tls
from aioquic.buffer import encode_uint_var
from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from gateway import limits
from gateway.quic.buffers import Buffer
from gateway.quic.connection.faults import PeerFault
from gateway.quic.connection.flight import Handler
from gateway.quic.connection.recvhalf import RecvHalf
from gateway.quic.connection.sendhalf import SendHalf

MAX_EARLY_DATA: Final = 0xFFFFFFFF
"""What a ticket says of early data in QUIC, if it allows it (RFC 9001 section 4.6.1)."""
ANSWER_BYTES: Final = 512
"""For what TLS may want to say: an alert, or nothing."""


class TlsRest:
    """``said``: with its offset, what TLS of a server had to say last. ``context``: a client's TLS; None for a server.
    ``heard``: what came of the peer's messages so far."""

    __slots__ = ("_context", "_heard", "_send", "_ticket_handler")

    def __init__(
        self,
        context: tls.Context | None,
        heard: RecvHalf,
        said: list[tuple[int, bytes]],
        ticket_handler: Callable[[tls.SessionTicket], None] | None,
    ) -> None:
        self._context, self._heard = context, heard
        self._ticket_handler = ticket_handler
        self._send: SendHalf | None = None
        if said:
            self._send = SendHalf(1 << 30)
            self._send.begin_at(said[0][0])
            self._send.write(b"".join([data for _, data in said]), end=False)
        if context is not None:
            # Bound methods of aioquic's connection: held, they would keep all of it alive for a ticket.
            context.alpn_cb = context.get_session_ticket_cb = None
            # TLS calls it without asking whether there is one.
            context.update_traffic_key_cb = lambda *_: None
            context.new_session_ticket_cb = self._on_ticket if ticket_handler is not None else None

    def _on_ticket(self, ticket: tls.SessionTicket) -> None:
        early = ticket.max_early_data_size
        if early is not None and early != MAX_EARLY_DATA:
            raise PeerFault(
                QuicErrorCode.PROTOCOL_VIOLATION,
                QuicFrameType.CRYPTO,
                f"Invalid max_early_data value {early}",
            )
        if self._ticket_handler is not None:
            self._ticket_handler(ticket)

    def receive(self, offset: int, data: bytes) -> None:
        """A CRYPTO frame. Raises :class:`PeerFault`. RFC 9000 section 7.5."""
        kind = QuicFrameType.CRYPTO
        side = limits.QUIC_CRYPTO_BYTES_MAX if self._context is None else limits.QUIC_CLIENT_CRYPTO_BYTES_MAX
        if offset + len(data) > side[-1]:
            raise PeerFault(
                QuicErrorCode.CRYPTO_BUFFER_EXCEEDED,
                kind,
                f"TLS messages up to byte {offset + len(data)}, at most {side[-1]} are expected",
            )
        try:
            piece = self._heard.receive(offset, data, is_end=False)
        except PeerFault as fault:
            fault.code, fault.frame_type = QuicErrorCode.CRYPTO_BUFFER_EXCEEDED, kind
            raise
        if piece is None:
            return
        try:
            if self._context is None:
                raise tls.AlertUnexpectedMessage("no message of TLS is expected any more")
            self._context.handle_message(piece[0], {tls.Epoch.ONE_RTT: Buffer(capacity=ANSWER_BYTES)})
        except tls.Alert as alert:
            raise PeerFault(QuicErrorCode.CRYPTO_ERROR + int(alert.description), kind, str(alert)) from alert

    def let_go(self) -> None:
        """Hold nothing that holds this."""
        if self._context is not None:
            self._context.new_session_ticket_cb = None
        self._context = self._ticket_handler = self._send = None

    @property
    def is_due(self) -> bool:
        """Whether any message is to be sent."""
        return self._send is not None and self._send.is_due

    def frames(self, room: int, handlers: list[Handler]) -> bytes:
        """CRYPTO frames in at most ``room`` bytes. RFC 9000 section 19.6."""
        send = self._send
        if send is None or room < 16:
            return b""
        frame = send.next_frame(room - 12, 1 << 30)
        if frame is None:
            return b""
        offset, data, _ = frame
        handlers.append((send.on_fate, (offset, offset + len(data), False)))
        return b"".join((b"\x06", encode_uint_var(offset), encode_uint_var(len(data)), data))
