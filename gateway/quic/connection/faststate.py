"""What the short way knows of its connection, and what makes aioquic's own way due. Room: quic.

The base of :class:`gateway.quic.connection.fast.FastConnection`: whatever may give aioquic something to send
besides datagrams, stream data and a delayed ACK, or change keys, paths or connection IDs, is noted
here, and the short way then stands back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aioquic import tls
from aioquic.quic.connection import NetworkAddress
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream

from gateway.quic.connection.base import CONNECTED, FRAME_HEAD_BYTES, Connection
from gateway.quic.connection.faststreams import limits_due, look_over
from gateway.quic.connection.shortpacket import PACKET_NUMBER_BYTES, keys_of, sealed
from gateway.quic.connection.trim import share_epochs, share_unused_half, trim

CID_BYTES = 8
PTO_S_MIN = 0.025
"""No probe timeout is shorter: it includes max_ack_delay (RFC 9002 section 6.2.1)."""
ONE_RTT, ZERO_RTT = tls.Epoch.ONE_RTT, tls.Epoch.ZERO_RTT


class FastState(Connection):
    """Flags and routes of the short way; see the module."""

    __slots__ = (
        "_ack_wanted",
        "_acks_alone",
        "_eliciting_at",
        "_flush_due",
        "_idle_s",
        "_pair",
        "_route_in",
        "_route_out",
        "_space",
        "_stock_doubt",
        "_stock_due",
        "_stream_due",
        "calm",
        "content_bytes_max",
        "packets_fast",
        "packets_stock",
    )

    def __init__(self, **kwargs: Any) -> None:
        share_epochs()
        super().__init__(**kwargs)
        self.packets_fast = 0
        self.packets_stock = 0
        self.calm = False
        self.content_bytes_max = 0
        self._stock_due = True
        self._stock_doubt = False
        self._stream_due = False
        self._flush_due = False
        self._space: QuicPacketSpace | None = None
        self._idle_s = 0.0
        self._ack_wanted = 0
        self._acks_alone = 0
        self._eliciting_at = 0.0
        self._pair: Any = None
        self._route_in: tuple[Any, ...] | None = None
        self._route_out: tuple[Any, ...] = (None,) * 3

    # -- what makes aioquic's own way due -------------------------------------------------

    def _leave_to_stock(self) -> None:
        """aioquic has, or may have, something to send; and what we know of keys and paths may be old."""
        self._stock_due = True
        self._route_in = None

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        self._stock_doubt = True
        super().send_stream_data(stream_id, data, end_stream)

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        self._stock_due = True
        super().reset_stream(stream_id, error_code)

    def stop_stream(self, stream_id: int, error_code: int) -> None:
        self._stock_due = True
        super().stop_stream(stream_id, error_code)

    def send_ping(self, uid: int) -> None:
        self._stock_due = True
        super().send_ping(uid)

    def request_key_update(self) -> None:
        self._leave_to_stock()
        super().request_key_update()

    def change_connection_id(self) -> None:
        self._leave_to_stock()
        super().change_connection_id()

    def close(self, *args: Any, **kwargs: Any) -> None:
        self._leave_to_stock()
        super().close(*args, **kwargs)

    def _get_or_create_stream(self, frame_type: int, stream_id: int) -> QuicStream:
        """Frames name our own streams, too (MAX_STREAM_DATA, STOP_SENDING): of those the sending half is in use."""
        stream = super()._get_or_create_stream(frame_type, stream_id)
        if stream_id & 2 and stream_id & 1 == self._is_client:
            share_unused_half(stream, is_ours=False)
        return stream

    def _get_or_create_stream_for_send(self, stream_id: int) -> QuicStream:
        stream = super()._get_or_create_stream_for_send(stream_id)
        if stream_id & 2:
            share_unused_half(stream, is_ours=True)
        return stream

    def release(self, stream_id: int, size: int) -> None:
        self._stock_doubt = True
        super().release(stream_id, size)

    def handle_timer(self, now: float) -> None:
        loss_at = self._loss_at
        super().handle_timer(now)
        if self._state is not CONNECTED or (loss_at is not None and now >= loss_at):
            self._leave_to_stock()

    def receive_datagram(self, data: bytes, addr: NetworkAddress, now: float) -> None:
        self._stock_doubt = True
        self._route_in = None
        super().receive_datagram(data, addr, now)
        if self._space is not None:
            self._idle_s = self._idle_timeout()

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, NetworkAddress]]:
        space = self._space
        if space is not None and self._stream_due and space.ack_at is not None and space.ack_at > now:
            space.ack_at = now
        datagrams = super().datagrams_to_send(now)
        self.packets_stock += len(datagrams)
        if space is None:
            if self._is_settled():
                self._space = self._spaces[ONE_RTT]
                self._pair = self._cryptos[ONE_RTT]
                self._idle_s = self._idle_timeout()
                payload_bytes_max = self.datagram_bytes_max()
                self.content_bytes_max = payload_bytes_max and payload_bytes_max + FRAME_HEAD_BYTES
                self._stock_due = self._stock_has_work()
                trim(self)
        else:
            if space.ack_at is None:
                self._ack_wanted = 0
            self._stock_due = self._stock_has_work()
        return datagrams

    def _is_settled(self) -> bool:
        """Handshake confirmed, 0-RTT over, connection IDs of our length, nobody logs packets."""
        return (
            self._handshake_confirmed
            and self._state is CONNECTED
            and not self._cryptos[ZERO_RTT].recv.is_valid()
            and len(self.host_cid) == CID_BYTES
            and self._quic_logger is None
        )

    def _stock_has_work(self) -> bool:
        """Whether aioquic holds anything to send besides datagrams, stream data and a delayed ACK."""
        path = self._network_paths[0]
        needs_stock, self._stream_due = look_over(self)
        return bool(
            needs_stock
            or self._close_pending
            or self._ping_pending
            or self._probe_pending
            or self._handshake_done_pending
            or self._retire_connection_ids
            or self._streams_blocked_pending
            or len(self._network_paths) != 1
            or not path.is_validated
            or path.remote_challenges
            or self._state is not CONNECTED
            or self._pair._update_key_requested
            or not self._crypto_streams[ONE_RTT].sender.buffer_is_empty
            or any(not cid.was_sent for cid in self._host_cids)
            or limits_due(self)
        )

    def let_go(self) -> None:
        super().let_go()
        self._route_in, self._route_out, self._pair = None, (None,) * 3, None

    # -- routes ---------------------------------------------------------------------------

    def _find_route_in(self) -> tuple[Any, ...] | None:
        """What a packet must match to go the short way: address, connection ID, the unprotected bits
        of its first byte; and what reads it: decrypt, IV, mask. None: none may."""
        if self._space is None:
            return None
        path = self._network_paths[0]
        if (
            not path.is_validated
            or self._state is not CONNECTED
            or self._close_pending
            or len(self.host_cid) != CID_BYTES
            or self._pair.old is not None
        ):
            return None
        recv = self._pair.recv
        keys = keys_of(recv, "decrypt")
        self._route_in = (path.addr, self.host_cid, recv.key_phase << 2 | 0x40, *keys)
        return self._route_in

    def _sealed(self, contents: Sequence[bytes]) -> bytes:
        """Packets of these contents with the next numbers, one behind the other."""
        pair, number = self._pair, self._packet_number
        aead, cid, keys = self._route_out
        if aead is not pair.send.aead or cid is not self._peer_cid.cid:
            aead, cid, keys = pair.send.aead, self._peer_cid.cid, keys_of(pair.send, "encrypt")
            self._route_out = (aead, cid, keys)
        first = 0x40 | (self._spin_bit << 5) | (pair.recv.key_phase << 2) | (PACKET_NUMBER_BYTES - 1)
        self._packet_number = number + len(contents)
        return sealed(contents, number, first, cid, keys)

    # -- deadlines ------------------------------------------------------------------------

    def fast_deadline(self) -> float | None:
        """When to look at this connection again, no later than ``get_timer`` would say."""
        space = self._space
        deadline = self._close_at
        if deadline is None or space is None or self._stock_due:
            return self.get_timer()
        if space.ack_at is not None and space.ack_at < deadline:
            deadline = space.ack_at
        if space.loss_time is not None:
            if space.loss_time < deadline:
                deadline = space.loss_time
        elif space.ack_eliciting_in_flight:
            loss = self._loss
            pto = loss.get_probe_timeout() * (1 << loss._pto_count)
            probe_at = loss._time_of_last_sent_ack_eliciting_packet + pto
            if probe_at < deadline:
                deadline = probe_at
        if self._pacing_at is not None and self._pacing_at < deadline:
            deadline = self._pacing_at
        return deadline

    @property
    def needs_flush(self) -> bool:
        """Whether input left anything to send, or a deadline that came closer."""
        space = self._space
        if self._stock_due or self._stock_doubt or self._flush_due or self._queue or space is None:
            return True
        return self._stream_due or space.loss_time is not None
