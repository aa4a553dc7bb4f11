"""Packets of everything together: what shares one, what waits until there is room for all of it, and what is forgotten at the end."""

from __future__ import annotations

import gc
import weakref

import pytest
from aioquic.quic.events import PingAcknowledged, StreamDataReceived
from aioquic.tls import SessionTicket

from gateway import limits
from gateway.quic.connection import Connection
from gateway.quic.connection.congestion import RealtimeCongestion
from gateway.quic.connection.faults import never_sent
from gateway.quic.connection.packets import HEAD_BYTES
from gateway.quic.connection.streamsout import FRAME_BYTES_MIN
from gateway.quic.options import QuicOptions
from tests.quic.conftest import Identity
from tests.quic.pair import Pair, Sink, make_pair

STEPS = limits.QUIC_PACKET_BYTES_STEPS
OVERHEAD = HEAD_BYTES + 8
BULK_BYTES = 3_000_000


def _opened(identity: Identity, *, bulk: int = 0) -> Pair:
    """A connected pair at rest, whose server has sent so many bytes on a stream in the largest packets that pass."""
    pair = make_pair(identity)
    pair.server.quic.send_unfragmented(65_507)
    pair.connect()
    pair.run_for(1.0)
    if bulk:
        _send(pair, bulk)
        pair.run(lambda: not pair.server.quic.has_unsent(), within_s=60)
        pair.run_for(1.0)
    return pair


def _send(pair: Pair, size: int) -> int:
    quic: Connection = pair.server.quic
    stream = quic.get_next_available_stream_id(is_unidirectional=True)
    quic.send_stream_data(stream, bytes(size), end_stream=True)
    return stream


def _sent(pair: Pair) -> list[int]:
    """The sizes of what the server sends now."""
    before = len(pair.server.packets)
    pair.pump()
    return [len(packet) for packet in pair.server.packets[before:]]


def _leave_room(pair: Pair, window: int, room: int) -> RealtimeCongestion:
    control: RealtimeCongestion = pair.server.quic.recovery.control
    control.window, control.in_flight = window, window - room
    return control


# -- large packets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_large_packet_waits_for_room_for_all_of_it_rather_than_be_cut(
    identity: Identity, step: int
) -> None:
    pair = _opened(identity, bulk=BULK_BYTES)
    size = STEPS[step]
    window = 4 * size
    _leave_room(pair, window, size - 1)
    _send(pair, 4 * size)
    assert _sent(pair) == []
    _leave_room(pair, window, size)
    assert _sent(pair) == [size]
    _leave_room(pair, window, 2 * size + 1)
    assert _sent(pair) == [size, size]


def test_what_must_be_said_besides_does_not_wait_with_it(identity: Identity) -> None:
    pair = _opened(identity, bulk=BULK_BYTES)
    size = STEPS[1]
    _leave_room(pair, 4 * size, size - 1)
    _send(pair, 4 * size)
    assert _sent(pair) == []
    pair.server.quic.send_ping(7)
    (said,) = _sent(pair)
    assert said < size


@pytest.mark.parametrize(
    "room", [OVERHEAD + FRAME_BYTES_MIN - 1, OVERHEAD + FRAME_BYTES_MIN, 600, 1_199, 1_200]
)
def test_a_packet_of_the_usual_size_is_cut_to_the_room_that_there_is(identity: Identity, room: int) -> None:
    """A window that is not a multiple of it would else never be filled."""
    pair = _opened(identity)
    _leave_room(pair, 12_000, room)
    _send(pair, 5_000)
    assert _sent(pair) == ([room] if room >= OVERHEAD + FRAME_BYTES_MIN else [])


# -- what shares a packet -----------------------------------------------------------------------------


@pytest.mark.parametrize("spare", [0, 1, FRAME_BYTES_MIN - 1, FRAME_BYTES_MIN, 200])
def test_a_stream_goes_at_once_behind_a_datagram_that_leaves_it_no_room(
    identity: Identity, spare: int
) -> None:
    """In the same packet, where there is room for a frame, and else in the next."""
    pair = _opened(identity)
    quic: Connection = pair.server.quic
    assert quic.queue_datagram(bytes(quic.datagram_bytes_max() - spare), Sink(), 0) is None
    stream = _send(pair, 30)
    assert len(_sent(pair)) == (1 if spare >= FRAME_BYTES_MIN else 2)
    pair.run_for(0.1)
    assert len(pair.client.datagrams()) == 1
    assert any(isinstance(e, StreamDataReceived) and e.stream_id == stream for e in pair.client.events)


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_ping_goes_where_the_window_has_room_for_the_smallest_packet_of_frames(
    identity: Identity, more: int
) -> None:
    pair = _opened(identity)
    control = _leave_room(pair, 12_000, OVERHEAD + FRAME_BYTES_MIN + more)
    pair.server.quic.send_ping(3)
    assert len(_sent(pair)) == (more >= 0)
    control.in_flight = 0
    pair.run_for(1.0)
    assert [e.uid for e in pair.server.events if isinstance(e, PingAcknowledged)] == [3]


# -- the end ------------------------------------------------------------------------------------------


class _Owner:
    """Listens, as an endpoint's peer does."""

    def __init__(self, quic: Connection) -> None:
        self.quic = quic
        quic.listen(on_payload=self.hear, on_ack=self.want)

    def hear(self, payload: bytes) -> None:
        """A datagram."""

    def want(self, at: float) -> None:
        """An ACK is due then."""


def test_a_connection_that_has_let_go_holds_neither_whoever_listened_nor_what_was_to_be_sent(
    identity: Identity,
) -> None:
    """Each would be a cycle, and memory until somebody collects garbage."""
    pair = _opened(identity)
    quic: Connection = pair.server.quic
    owner = _Owner(quic)
    _send(pair, BULK_BYTES)
    pair.pump()
    quic.close()
    pair.run(lambda: pair.client.terminated() is not None)
    gone = weakref.ref(owner)
    gc.disable()
    try:
        quic.let_go()
        del owner
        assert gone() is None
    finally:
        gc.enable()
    assert not quic.has_unsent()
    quic.let_go()


def test_the_words_of_a_fault_are_what_is_logged_of_it() -> None:
    assert str(never_sent(7)) == "packet 7 was never sent"


@pytest.mark.parametrize("lost", range(6))
def test_a_ticket_that_was_lost_is_sent_again_though_nothing_else_is_to_be_said(
    identity: Identity, lost: int
) -> None:
    """Its TLS message came after the handshake: whoever carries it on sends it until it has arrived."""
    found = list[SessionTicket]()
    options, tls = QuicOptions(), identity.server()
    pair = Pair(
        Connection(
            configuration=identity.trust().configuration("localhost", options, None),
            session_ticket_handler=found.append,
        ),
        lambda cid: Connection(
            configuration=tls.configuration(options),
            original_destination_connection_id=cid,
            session_ticket_handler=lambda ticket: None,
        ),
    )
    left = lost

    def drops(packet: bytes) -> bool:
        """The first short packets, all of the server's: a client's first has the end of its handshake before it."""
        nonlocal left
        if packet[0] & 0x80 or packet not in pair.server.packets:
            return False
        left -= 1
        return left >= 0

    pair.drop_next = drops
    pair.run(lambda: bool(found), within_s=20)
    pair.run(lambda: pair.client.is_up() and pair.server.is_up())
    assert len(found) == 1
