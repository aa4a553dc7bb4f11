"""Every kind of packet that the short way builds, read by code that has nothing to do with it.

Two readers: qh3 (another QUIC, in Rust) as the peer, and :mod:`tests.quic.opened`, which names what
is in each packet, so that it is certain that every kind was among those that qh3 took.
"""

from __future__ import annotations

import dataclasses
import io
import ssl
from collections import Counter, deque
from typing import Any

import pytest
from aioquic.tls import CipherSuite

from gateway.core.bundle import Burst
from gateway.quic import QuicOptions
from gateway.quic.connection import Connection
from gateway.quic.connection.framing import Framing, Run
from tests.quic.conftest import Identity
from tests.quic.opened import AES_128, AES_256, CHACHA20, Opener, log_secret
from tests.quic.pair import CLIENT, SERVER, Sink

qh3_connection = pytest.importorskip("qh3.quic.connection")
qh3_configuration = pytest.importorskip("qh3.quic.configuration")
qh3_logger = pytest.importorskip("qh3.quic.logger")

TICK_S, DELAY_TICKS = 0.004, 3
KINDS = {
    "datagram",
    "datagrams",
    "ack+datagram",
    "ack+datagrams",
    "ack",
    "ack+ping",
    "stream",
    "streams",
    "ack+stream",
}
"""What the short way is made of; with each, both readers are tried."""


class Talk:
    """A server connection of ours and a client of qh3's, with a lossless link of fixed delay between them."""

    def __init__(self, identity: Identity, cipher: int) -> None:
        options, self.log, self.qlog = QuicOptions(), io.StringIO(), qh3_logger.QuicLogger()
        theirs = qh3_configuration.QuicConfiguration(
            is_client=True,
            alpn_protocols=["h3"],
            server_name="localhost",
            max_datagram_frame_size=65_535,
            quic_logger=self.qlog,
        )
        theirs.verify_mode = ssl.CERT_NONE
        suites = {"cipher_suites": [CipherSuite(cipher)], "secrets_log_file": self.log}
        self.now = 50.0
        self.foreign = qh3_connection.QuicConnection(configuration=theirs)
        self.ours = Connection(
            configuration=dataclasses.replace(identity.server().configuration(options), **suites),
            original_destination_connection_id=self.foreign.original_destination_connection_id,
        )
        self.foreign.connect(SERVER, now=self.now)
        self.cipher = cipher
        self.came_there: list[bytes] = []
        self.came_here: list[bytes] = []
        self.streams_there: dict[int, bytes] = {}
        self.ended: list[Any] = []
        self.sink = Sink()
        self.built: list[bytes] = []
        self.came: list[bytes] = []
        self.lose_each = self.lost_here = self._count_here = 0
        self._there: deque[list[bytes]] = deque([[] for _ in range(DELAY_TICKS)])
        self._here: deque[list[bytes]] = deque([[] for _ in range(DELAY_TICKS)])

    def tick(self) -> None:
        self.now += TICK_S
        ours, foreign, now = self.ours, self.foreign, self.now
        for data in self._there.popleft():
            foreign.receive_datagram(data, SERVER, now=now)
        for data in self._here.popleft():
            self._count_here += 1
            if self.lose_each and self._count_here % self.lose_each == 0:
                self.lost_here += 1
                continue
            self.came.append(data)
            ours.receive(data, CLIENT, now)
        for quic in (ours, foreign):
            timer = quic.get_timer()
            if timer is not None and timer <= now:
                quic.handle_timer(now)
        self._take_events()
        is_ours = ours.is_taken_over
        packets = ours.packets(now)
        packets = packets.split() if isinstance(packets, Run) else packets
        if is_ours:
            self.built += packets
        self._there.append(packets)
        self._here.append([data for data, _ in foreign.datagrams_to_send(now=now)])

    def _take_events(self) -> None:
        for quic, came in ((self.foreign, self.came_there), (self.ours, self.came_here)):
            while (event := quic.next_event()) is not None:
                name = type(event).__name__
                if name == "DatagramFrameReceived":
                    came.append(event.data)
                elif name == "StreamDataReceived" and quic is self.foreign:
                    known = self.streams_there.get(event.stream_id, b"")
                    self.streams_there[event.stream_id] = known + event.data
                elif name == "ConnectionTerminated":
                    self.ended.append(event)
        for sink, token, acked in self.ours.take_fates():
            sink.on_fate(token, acked)

    def ticks(self, count: int) -> None:
        for _ in range(count):
            self.tick()

    def until_settled(self) -> None:
        for _ in range(1_000):
            self.tick()
            if self.ours.is_established and self.ours.is_taken_over:
                break
        assert self.ours.is_taken_over
        self.ticks(100)
        self._dropped_before = self._dropped()

    def opened(self) -> tuple[Counter[str], int]:
        """How many packets of each kind were built, and the most ranges in an ACK."""
        opener = Opener(self.cipher, log_secret(self.log.getvalue(), "SERVER_TRAFFIC_SECRET_0"))
        kinds: Counter[str] = Counter()
        ranges = 0
        for packet in self.built:
            found = opener.open(packet)
            assert found is not None
            kinds[found.kind] += 1
            ranges = max(ranges, found.ack_ranges)
        return kinds, ranges

    def dropped_there(self) -> int:
        """Packets that qh3 could not read since the handshake was over (of which late ones are dropped)."""
        return self._dropped() - self._dropped_before

    def _dropped(self) -> int:
        traces = self.qlog.to_dict()["traces"]
        return sum(e["name"] == "transport:packet_dropped" for trace in traces for e in trace["events"])


@pytest.mark.parametrize("cipher", [AES_128, AES_256, CHACHA20], ids=["aes128", "aes256", "chacha20"])
def test_both_readers_take_every_kind_of_packet(identity: Identity, cipher: int) -> None:
    talk = Talk(identity, cipher)
    talk.until_settled()
    ours, foreign, token = talk.ours, talk.foreign, 0
    expected: list[bytes] = []
    streams = [ours.get_next_available_stream_id(is_unidirectional=True) + 4 * n for n in range(3)]
    text = dict.fromkeys(streams, b"")

    def datagrams(count: int, size: int) -> None:
        nonlocal token
        for _ in range(count):
            expected.append(token.to_bytes(4, "big") + bytes(size - 4))
            assert ours.queue_datagram(expected[-1], talk.sink, token) is None
            token += 1

    def burst(count: int, size: int) -> None:
        nonlocal token
        messages = [(token + n).to_bytes(4, "big") + bytes(size - 5) for n in range(count)]
        framing = Framing(Burst([(message, ()) for message in messages]), b"\x07", ours.content_bytes_max)
        assert ours.offer_burst(framing, talk.sink, token) is None
        expected.extend(framing.payloads())
        token += count

    def say(stream: int, data: bytes) -> None:
        text[stream] += data
        ours.send_stream_data(stream, data)

    for size in (4, 60, 63, 64, 700, ours.datagram_bytes_max()):
        datagrams(1, size)
        talk.ticks(10)
        datagrams(3, min(size, 90))
        talk.ticks(10)
        datagrams(4, size)
        talk.ticks(20)
        for count in (1, 2, 5):
            burst(count, max(size, 5))
            talk.ticks(20)
    back = 0
    for n in range(300):
        foreign.send_datagram_frame(b"back%d" % back)
        back += 1
        if n % 5 == 0:
            datagrams(1 + n % 3, 40)
        talk.ticks(3)
    talk.lose_each = 11
    for _ in range(200):
        foreign.send_datagram_frame(b"back%d" % back)
        back += 1
        talk.ticks(2)
    talk.lose_each = 0
    for _ in range(400):
        foreign.send_datagram_frame(b"back%d" % back)
        back += 1
        talk.ticks(8)
    talk.ticks(50)
    for n in range(60):
        if n % 2:
            foreign.send_datagram_frame(b"back%d" % back)
            back += 1
        for stream in streams[: 1 + n % 3]:
            say(stream, b"%d." % n * 20)
        if n % 7 == 0:
            datagrams(2, 100)
            say(streams[0], bytes(3_000))
        talk.ticks(6)
    talk.ticks(300)
    foreign.send_datagram_frame(b"back%d" % back)  # it is acknowledged, and all ACKs before it with it
    back += 1
    talk.ticks(100)
    assert talk.came_there == expected
    came = [b"back%d" % n for n in range(back)]
    assert [data for data in came if data in set(talk.came_here)] == talk.came_here
    assert back - talk.lost_here <= len(talk.came_here) < back
    assert (len(talk.sink.acked), talk.sink.lost) == (token, [])
    assert talk.streams_there == text
    assert not ours.has_unsent()
    assert not talk.ended
    assert talk.dropped_there() == 0
    # qh3 says so by this name alone.
    assert not foreign._core.outstanding_application_packets, "an ACK of ours did not reach its sender"
    kinds, ranges = talk.opened()
    assert ranges > 1
    assert set(kinds) >= KINDS, f"not built in this talk: {KINDS - set(kinds)}"
    assert not [kind for kind in kinds if "other" in kind], kinds


@pytest.mark.parametrize("who", ["ours", "foreign"])
@pytest.mark.parametrize("cipher", [AES_128, AES_256, CHACHA20], ids=["aes128", "aes256", "chacha20"])
def test_keys_are_updated_with_a_foreign_peer_in_mid_stream(
    identity: Identity, cipher: int, who: str
) -> None:
    talk = Talk(identity, cipher)
    talk.until_settled()
    for n in range(120):
        if n == 40:
            (talk.ours if who == "ours" else talk.foreign).request_key_update()
        one = Framing(Burst([(b"down%d" % n, ())]), b"", talk.ours.content_bytes_max)
        if n % 2 or talk.ours.offer_burst(one, talk.sink, n) is not None:
            assert talk.ours.queue_datagram(b"down%d" % n, talk.sink, n) is None
        talk.foreign.send_datagram_frame(b"up%d" % n)
        talk.ticks(3)
    talk.ticks(200)
    assert talk.came_there == [b"down%d" % n for n in range(120)]
    assert talk.came_here == [b"up%d" % n for n in range(120)]
    assert sorted(talk.sink.acked) == list(range(120))
    for packets, label in ((talk.built, "SERVER"), (talk.came, "CLIENT")):
        opener = Opener(cipher, log_secret(talk.log.getvalue(), f"{label}_TRAFFIC_SECRET_0"))
        phases = [found.phase for packet in packets if (found := opener.open(packet))]
        assert phases == sorted(phases)
        assert set(phases) == {0, 1}
