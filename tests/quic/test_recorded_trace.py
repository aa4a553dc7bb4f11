"""A recorded trace through both paths: the same datagrams, the same ACKs, and the same recovery to the bit.

The trace comes from a real link (see :mod:`tests.quic.recorded`). Both servers are driven from outside
only, by datagrams offered, packets given and timers, so nothing here knows how the fast path is made.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from aioquic.buffer import encode_uint_var
from aioquic.quic.rangeset import RangeSet
from aioquic.tls import Epoch

from gateway.quic import QuicOptions
from gateway.quic.connection import Connection
from gateway.quic.connection.fast import FastConnection
from gateway.quic.connection.recovery import Pacer
from tests.quic.conftest import Identity
from tests.quic.pair import CLIENT, Pair, Sink
from tests.quic.recorded import TRACES, Event, load

START_S, FIRST_NUMBER = 1_000.0, 5_000


class Unpaced(Pacer):
    """Lets all go that the window lets go. The short way keeps a burst's account a little differently
    from aioquic (see :class:`gateway.quic.connection.recovery.Pacer`), which shows where a window shrinks within it."""

    def admit(self, now: float) -> float | None:
        return None

    def next_send_time(self, now: float) -> float | None:  # type: ignore[override]
        return None

    def update_after_send(self, now: float) -> None:
        pass


class Replay:
    """One server that lives through a trace."""

    def __init__(self, identity: Identity, server: type, congestion: str) -> None:
        options = QuicOptions(congestion=congestion)  # type: ignore[arg-type]
        tls, trust = identity.server(), identity.trust()
        pair = Pair(
            Connection(configuration=trust.configuration("localhost", options, None)),
            lambda cid: server(
                configuration=tls.configuration(options), original_destination_connection_id=cid
            ),
        )
        pair.connect()
        pair.run_for(1.0)
        self.client, self.quic = pair.client.quic, pair.server.quic
        self.sink = Sink()
        self.packets = 0
        self._number_of: list[int] = []
        self._begin_afresh()
        if congestion != "realtime":
            quic: Any = self.quic
            quic._pacer = quic._loss._pacer = Unpaced(max_datagram_size=1_200)

    def _begin_afresh(self) -> None:
        """No RTT sample yet, nothing in flight, and packet numbers that both servers share."""
        quic: Any = self.quic
        self.space = quic._spaces[Epoch.ONE_RTT]
        loss = quic._loss
        loss._rtt_initialized = False
        loss._rtt_min, loss._rtt_smoothed, loss._rtt_variance, loss._rtt_latest = float("inf"), 0.0, 0.0, 0.0
        cc = loss._cc = type(loss._cc)(max_datagram_size=1_200)
        if hasattr(cc, "recovery"):
            cc.recovery = loss
        self.space.sent_packets.clear()
        self.space.ack_eliciting_in_flight = self.space.largest_acked_packet = 0
        self.space.ack_at = self.space.loss_time = None
        quic._packet_number = FIRST_NUMBER
        quic._close_at = START_S + 60.0

    def take(self, event: Event) -> None:
        now = START_S + event.at_s
        self._timers_until(now)
        quic: Any = self.quic
        if event.size:
            token = len(self._number_of)
            self._number_of.append(-1)
            quic.queue_datagram(token.to_bytes(4, "big") + bytes(event.size - 4), self.sink, token)
        else:
            packet = self._ack_packet(event)
            if packet is not None and not quic.receive_short(packet, CLIENT, now):
                quic.receive_datagram(packet, CLIENT, now)
        self._flush(now)

    def _timers_until(self, now: float) -> None:
        quic: Any = self.quic
        while (timer := quic.get_timer()) is not None and timer <= now:
            quic.handle_timer(timer)
            self._flush(timer)

    def _flush(self, now: float) -> None:
        quic: Any = self.quic
        packets = quic.fast_packets(now)
        if packets is None:
            packets = quic.datagrams_to_send(now)
        self.packets += len(packets)
        for number, packet in self.space.sent_packets.items():
            for _, args in packet.delivery_handlers:
                if args and args[0] is self.sink:
                    self._number_of[args[1]] = number
        for sink, token, acked in quic.take_fates():
            sink.on_fate(token, acked)

    def _ack_packet(self, event: Event) -> bytes | None:
        """The trace's ACK in the packet numbers of this server, sealed by the client's keys."""
        ranges = RangeSet()
        for start, stop in event.ranges:
            for index in range(start, stop):
                if self._number_of[index] >= 0:
                    ranges.add(self._number_of[index])
        if not len(ranges):
            return None
        rows = list(ranges)[::-1]
        values = [rows[0].stop - 1, event.delay, len(rows) - 1, len(rows[0]) - 1]
        for after, row in pairwise(rows):
            values += [after.start - row.stop - 1, len(row) - 1]
        plain = b"\x02" + b"".join(map(encode_uint_var, values))
        client: Any = self.client
        number = client._packet_number
        client._packet_number += 1
        header = b"\x41" + client._peer_cid.cid + (number & 0xFFFF).to_bytes(2, "big")
        sealed: bytes = client._cryptos[Epoch.ONE_RTT].encrypt_packet(header, plain, number)
        return sealed

    def numbers(self) -> dict[str, Any]:
        """What loss recovery has come to. aioquic also sets a pacing time when nothing is left to send,
        or the window is full: a turn for nothing, left out here."""
        quic: Any = self.quic
        quic.get_timer()
        room = quic._loss._cc.congestion_window - quic._loss._cc.bytes_in_flight
        is_paced = quic._queue and len(quic._queue[0][0]) + 30 <= room
        loss, space = quic._loss, self.space
        return {
            "rtt": (loss._rtt_latest, loss._rtt_min, loss._rtt_smoothed, loss._rtt_variance),
            "pto": (loss._pto_count, loss.get_probe_timeout(), loss._time_of_last_sent_ack_eliciting_packet),
            "loss time": space.loss_time,
            "deadlines": (quic._close_at, quic._loss_at, quic._pacing_at if is_paced else None),
            "window": (loss._cc.congestion_window, loss._cc.ssthresh, loss._cc.bytes_in_flight),
            "in flight": [n for n, packet in space.sent_packets.items() if packet.in_flight],
            "largest acked": space.largest_acked_packet,
            "queued": quic.datagram_bytes_queued,
            "packets": self.packets,
            "fates": (sorted(self.sink.acked), sorted(self.sink.lost)),
        }


@pytest.mark.parametrize("congestion", ["realtime", "reno", "cubic"])
@pytest.mark.parametrize("name", sorted(path.name for path in TRACES.iterdir()))
def test_both_paths_live_through_a_recorded_trace_alike(
    identity: Identity, name: str, congestion: str
) -> None:
    trace = load(name)
    fast, stock = (Replay(identity, server, congestion) for server in (FastConnection, Connection))
    losses = 0
    for at, event in enumerate(trace):
        fast.take(event)
        stock.take(event)
        mine, theirs = fast.numbers(), stock.numbers()
        assert mine == theirs, f"event {at} of {name}: {event}"
        losses = len(mine["fates"][1])
    assert losses > 20, "a trace without losses shows little"
    assert len(fast.sink.acked) > 500
    quic: Any = fast.quic
    assert quic.packets_fast > 0.8 * fast.packets


def test_received_packets_make_the_same_ack_ranges_on_both_paths(identity: Identity) -> None:
    """The trace's losses turned round: the datagrams that were acknowledged are what came."""
    acked: set[int] = set()
    for event in load("bursts-4pct.json.gz"):
        for start, stop in event.ranges:
            acked.update(range(start, stop))
    base = 10_000
    kept: list[list[tuple[int, int]]] = []
    for server in (FastConnection, Connection):
        replay = Replay(identity, server, "realtime")
        client, quic = replay.client, replay.quic
        ranges = []
        for index in sorted(acked):
            number = base + index
            header = b"\x41" + client._peer_cid.cid + (number & 0xFFFF).to_bytes(2, "big")
            packet = client._cryptos[Epoch.ONE_RTT].encrypt_packet(header, b"\x31\x04" + bytes(4), number)
            if not quic.receive_short(packet, CLIENT, START_S + index / 1_000):
                quic.receive_datagram(packet, CLIENT, START_S + index / 1_000)
            ranges.append([(r.start, r.stop) for r in replay.space.ack_queue if r.start >= base])
        assert ranges[-1][-1][1] == base + max(acked) + 1
        assert len(ranges[-1]) > 10
        kept.append([part for row in ranges for part in row])
    assert kept[0] == kept[1]
