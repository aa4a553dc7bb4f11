"""aioquic's own connection as the other end of a :class:`tests.quic.pair.Pair`: an implementation that is not ours.

It has the few methods of ours that conversations use, by aioquic's own means.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from aioquic.buffer import size_uint_var
from aioquic.quic.connection import END_STATES, QuicConnection
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.tls import Epoch

from gateway.quic.connection import FateSink, Refusal
from gateway.quic.connection.seam import prepare


class _Paths(list[Any]):
    @property
    def active(self) -> Any:
        return self[0]


class Stock(QuicConnection):
    """Client or server. Datagrams have fates, as ours."""

    def __init__(self, **kwargs: Any) -> None:
        prepare()
        self.fates: list[tuple[FateSink, int, bool]] = []
        super().__init__(**kwargs)

    @property
    def address(self) -> Any:
        return self._network_paths[0].addr if self._network_paths else None

    content_bytes_max = 0

    @property
    def number(self) -> int:
        return self._packet_number

    def offer_burst(self, framing: Any, sink: FateSink, token: int) -> Refusal:
        return Refusal.UNSUPPORTED

    def abandon_receiving(self, number: int, code: int) -> None:
        if number in self._streams and not self._streams[number].receiver.is_finished:
            self.stop_stream(number, code)

    @property
    def keys(self) -> Any:
        return SimpleNamespace(phase=self._cryptos[Epoch.ONE_RTT].recv.key_phase)

    @property
    def streams(self) -> Any:
        by_number = {
            number: SimpleNamespace(
                recv=SimpleNamespace(is_over=stream.receiver.is_finished),
                send=SimpleNamespace(highest=stream.sender.highest_offset),
            )
            for number, stream in self._streams.items()
        }
        may_open = self._local_next_stream_id_uni // 4 < self._remote_max_streams_uni
        return SimpleNamespace(
            by_number=by_number, can_open_uni=lambda: may_open, send_is_over=self._send_is_over
        )

    def _send_is_over(self, number: int) -> bool:
        sender = self._streams[number].sender if number in self._streams else None
        # A reset that was sent and is not acknowledged: aioquic says so by this name alone.
        return sender is None or sender.is_finished or sender._reset_error_code is not None

    @property
    def paths(self) -> Any:
        paths = [
            SimpleNamespace(address=path.addr, is_proved=path.is_validated) for path in self._network_paths
        ]
        return _Paths(paths)

    @property
    def peer_ids(self) -> Any:
        return SimpleNamespace(current=self._peer_cid)

    @property
    def our_ids(self) -> Any:
        return SimpleNamespace(known=self._host_cids)

    @property
    def recovery(self) -> Any:
        sent = [one for space in self._loss.spaces for one in space.sent_packets.values() if one.in_flight]
        control = SimpleNamespace(in_flight=self._loss.bytes_in_flight)
        return SimpleNamespace(control=control, packets=len(sent))

    @property
    def datagrams(self) -> Any:
        return SimpleNamespace(size=len(self._datagrams_pending))

    @property
    def close_event(self) -> Any:
        return self._close_event

    @property
    def is_ended(self) -> bool:
        return self._state in END_STATES

    @property
    def is_established(self) -> bool:
        return self._handshake_complete and not self.is_ended

    def take_fates(self) -> list[tuple[FateSink, int, bool]]:
        fates, self.fates = self.fates, []
        return fates

    def queue_datagram(self, payload: bytes, sink: FateSink, token: int) -> Refusal | None:
        if self.is_ended:
            return Refusal.CLOSED
        self._datagrams_pending.append((payload, sink, token))  # type: ignore[arg-type]
        return None

    def _write_datagram_frame(self, builder: Any, data: Any, frame_type: Any) -> bool:
        payload, sink, token = data
        length = len(payload)
        buf = builder.start_frame(
            frame_type,
            capacity=1 + size_uint_var(length) + length,
            handler=self._on_datagram_delivery,
            handler_args=(sink, token),
        )
        buf.push_uint_var(length)
        buf.push_bytes(payload)
        return True

    def _on_datagram_delivery(self, delivery: QuicDeliveryState, sink: FateSink, token: int) -> None:
        self.fates.append((sink, token, delivery is QuicDeliveryState.ACKED))

    def has_unsent(self) -> bool:
        # What is not acknowledged: `buffer_is_empty` is about what is not sent.
        return any(
            not stream.sender.is_finished and stream.sender._buffer_stop > stream.sender._buffer_start
            for stream in self._streams.values()
        )
