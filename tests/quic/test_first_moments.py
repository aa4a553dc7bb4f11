"""The parts of a connection at the beginning of their counts and clocks: packet 0, a clock that has just begun, a peer that let nothing
happen yet; and where two of their bounds meet."""

from __future__ import annotations

import dataclasses

import pytest

from gateway import limits
from gateway.core.ports import Refusal
from gateway.quic.connection.congestion import TURN_S, RealtimeCongestion
from gateway.quic.connection.connection import QUIET, TAKEN, Connection
from gateway.quic.connection.datagrams import Datagrams
from gateway.quic.connection.flight import sent_packet
from gateway.quic.connection.flow import PeerLimits
from gateway.quic.connection.framing import HEAD_BYTES_MAX
from gateway.quic.connection.minting import IdLayout, Mint
from gateway.quic.connection.pacing import Pacer
from gateway.quic.connection.pathmtu import PathMtu
from gateway.quic.connection.received import Received
from gateway.quic.connection.recovery import Recovery
from gateway.quic.connection.state import HANDSHAKE, State
from gateway.quic.options import QuicOptions
from tests.quic.conftest import Identity
from tests.quic.pair import CLIENT, Pair, Sink, make_pair
from tests.quic.test_congestion_alone import (
    FIRST,
    _after_slow_start,
    _away,
    _fresh,
    _grown,
    _limited,
    _queued,
)
from tests.quic.test_when_to_send import _at_once, _framed, _framing, _pacer

MTU = 1_200


# -- clocks --------------------------------------------------------------------------------------------


def test_on_a_clock_that_has_just_begun_goes_what_the_time_since_then_brought() -> None:
    """A machine that was just started: the bucket was empty at 0 s, and half a round trip fills half of it."""
    pacer = _pacer(10 * MTU, 0.1)
    assert _at_once(pacer, 0.05) in (5, 6)


@pytest.mark.parametrize("sent_at", [0.0, 0.05, 0.1, 0.2])
def test_a_flow_that_was_never_held_back_does_not_grow_at_whatever_time_it_began(sent_at: float) -> None:
    assert _grown(_fresh(), 100, sent_at) == 0


# -- growth --------------------------------------------------------------------------------------------


def test_what_does_not_make_a_whole_byte_is_kept_and_not_one_more() -> None:
    control = _after_slow_start(24_001)
    assert _grown(control, 10) == 0, "24,000 of 24,001 parts of a byte"
    assert _grown(control, 1) == 1


def test_where_nothing_got_through_nothing_that_a_queue_took_is_taken_back() -> None:
    control = _fresh()
    control.window = 60_000
    now = _queued(control, 0.18)
    assert control.window == 30_000
    control.on_lost(1_000, now, now + 0.1, persistent=True)
    for n in range(3):
        control.on_rtt(0.1, 0.1, 0.1, now + 0.5 + 0.4 * n)
    control.window = FIRST
    _limited(control, now + 2.0)
    assert _grown(control, MTU, now + 2.0) == 2 * MTU * MTU // FIRST


def test_what_arrives_just_within_a_turn_arrives_at_once() -> None:
    assert _away(30_000, after_s=TURN_S, second=24_601).window == 60_000


# -- just at a bound -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("acked", "window"), [(19_199, 8_400), (19_200, FIRST)])
def test_just_a_tenth_lost_is_not_heavy(acked: int, window: int) -> None:
    """4,800 bytes less their chance of 2,400 are a tenth of 24,000."""
    control = _fresh()
    control.on_acked(acked, 0.5, 0.6)
    control.on_lost(4_800, 0.5, 1.0)
    assert control.window == window


def test_the_smallest_round_trip_is_still_believed_after_just_ten_seconds() -> None:
    control = _fresh()
    control.window = 60_000
    control.on_rtt(0.1, 0.1, 0.1, 1.0)
    control.on_rtt(0.16, 0.16, 0.16, 11.0)
    assert control.window < 60_000


def test_a_window_that_was_reached_again_is_what_is_taken_back_the_next_time() -> None:
    control = _fresh()
    control.window = 60_000
    now = _queued(control, 0.18)
    for _ in range(2):
        for rtt in (0.1, 0.1):
            now += 0.4
            control.on_rtt(rtt, rtt, rtt, now)
        assert control.window == 30_000
        _limited(control, now)
        assert _grown(control, 3_000, now) == 30_000 // 4 // 10
        control.window = 60_000
        for _ in range(2):
            now += 0.4
            control.on_rtt(0.18, 0.18, 0.18, now)


@pytest.mark.parametrize(("more", "is_run"), [(-1, True), (0, True), (1, False)])
def test_a_run_is_as_long_as_one_call_takes_to_the_byte(more: int, is_run: bool) -> None:
    most, content, head = limits.QUIC_SEGMENT_BYTES_MAX, 1_090, 3
    count = most // (content + HEAD_BYTES_MAX)
    last = most - count * (content + HEAD_BYTES_MAX) - HEAD_BYTES_MAX
    framing = _framed(*[content - head] * count, last - head + more, room=content)
    assert (framing.packets, framing.wire_bytes_max) == (count + 1, most + more)
    assert framing.is_run == is_run


# -- numbers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("knows", [{1, 2, 3}, {0, 1, 3}, {0, 1, 2, 3}, {3}])
def test_of_what_another_kept_the_first_packets_are_known_if_they_came(knows: set[int]) -> None:
    received = Received()
    received.adopt([range(3, 4)], 3, knows, 1.0)
    assert {number for number in range(4) if received.is_known(number)} == knows
    assert received.is_known(-1)


@pytest.mark.parametrize("number", [0, 1, 9])
def test_a_large_packet_that_arrives_clears_its_size_of_what_was_given_up_whatever_its_number(
    number: int,
) -> None:
    """As many as make a hole were given up at probes; the next large one arrives: the peer was slow, the path is as wide."""
    mtu = PathMtu(MTU)
    mtu.allow(65_507)
    mtu.learn(65_527)
    mtu.on_probe_sent(number - 1, 0.0)
    mtu.on_probe_fate(acked=True)
    wide = mtu.confirmed
    recovery = Recovery(RealtimeCongestion(MTU), Pacer(MTU), mtu)
    recovery.add(sent_packet((number, wide, 1.0, (), ())))
    mtu.unanswered = limits.QUIC_MTU_HOLE_PACKETS
    recovery.on_ack([(number, number + 1)], 0.0, 1.1, number + 1)
    assert (mtu.confirmed, mtu.unanswered, mtu.holes) == (wide, 0, 0)


@pytest.mark.parametrize(("count", "told"), [(0, []), (1, [5]), (3, [5, 6, 7])])
def test_who_is_told_of_each_datagram_is_told_of_each_of_many_that_arrived(
    count: int, told: list[int]
) -> None:
    sink = Sink()
    sink.on_acked(5, count)
    assert (sink.acked, sink.lost) == (told, [])


# -- before the peer has said anything -------------------------------------------------------------------


def test_before_the_handshake_says_how_large_they_may_be_no_datagram_is_taken() -> None:
    state = State(30.0)
    assert state.phase == HANDSHAKE
    datagrams = Datagrams(state, Recovery(RealtimeCongestion(MTU), Pacer(MTU)))
    assert datagrams.offer(b"x", Sink(), 0) is Refusal.BLOCKED
    assert datagrams.push(b"x", Sink(), 0) is Refusal.BLOCKED
    assert datagrams.offer_burst(_framing(1), Sink(), 0) is Refusal.UNSUPPORTED


def test_until_a_peer_says_otherwise_it_lets_us_do_nothing() -> None:
    """RFC 9000 section 18.2: each of these limits is 0 where it isn't announced."""
    peer = PeerLimits()
    assert (peer.data, peer.data_used, peer.streams_bidi, peer.streams_uni) == (0, 0, 0, 0)
    assert (peer.stream_bidi_ours, peer.stream_bidi_theirs, peer.stream_uni) == (0, 0, 0)


# -- connection IDs that say whose they are --------------------------------------------------------------


@pytest.mark.parametrize("workers", [2, 3, 7, 128, 255, 256])
@pytest.mark.parametrize("layout", [IdLayout(), IdLayout(b"\x12\x34", 5)])
def test_an_id_names_its_worker_and_begins_as_the_balancer_wants_it(workers: int, layout: IdLayout) -> None:
    for number in {0, 1, workers - 1}:
        mint = Mint(number, workers, layout)
        ids = {mint() for _ in range(40)}
        assert len(ids) == 40
        assert {len(cid) for cid in ids} == {8}
        assert {mint.worker_of(cid) for cid in ids} == {number}
        if layout.server_id:
            assert {(cid[0] >> 5, cid[1:3]) for cid in ids} == {(5, b"\x12\x34")}
            assert len({cid[0] & 0x1F for cid in ids}) > 1, "five bits are left to chance"


def test_the_byte_that_names_a_worker_is_any_that_does() -> None:
    mint = Mint(1, 64)
    assert {mint()[1] for _ in range(400)} == {1, 65, 129, 193}
    assert len({Mint()()[1] for _ in range(200)}) > 50, "of one alone it is any"
    assert len({mint()[0] for _ in range(200)}) > 50


def test_an_id_of_the_clients_own_is_anybodys_and_one_too_short_the_firsts() -> None:
    mint = Mint(1, 4, IdLayout.of("0a0b", 3))
    assert mint.layout == IdLayout(b"\x0a\x0b", 3)
    assert mint.worker_of(bytes((9, 9, 9, 7))) == 3
    assert mint.worker_of(bytes(3)) == 0
    assert Mint().worker_of(b"") == 0
    assert Mint(0, 2).worker_of(b"\x00\x05") == 1


@pytest.mark.parametrize("who", ["server", "client"])
def test_an_end_of_several_workers_is_named_as_its_workers_own_from_its_first_packet_to_its_last(
    identity: Identity, who: str
) -> None:
    """RFC 9000 section 7.3: the ID is in the handshake's parameters, too, or the peer ends it."""
    mint, options = Mint(3, 8, IdLayout(b"\x12\x34", 2)), QuicOptions()
    near = {who: {"mint": mint}}
    pair = Pair(
        Connection(
            configuration=identity.trust().configuration("localhost", options, None), **near.get("client", {})
        ),
        lambda cid: Connection(
            configuration=identity.server().configuration(options),
            original_destination_connection_id=cid,
            **near.get("server", {}),
        ),
    )
    pair.connect()
    for uid in range(3):
        pair.client.quic.send_ping(uid)
        pair.run_for(1.0)
        pair.client.quic.change_connection_id()
    assert pair.client.terminated() is pair.server.terminated() is None
    sends = pair.client if who == "server" else pair.server
    ids = {packet[1:9] for packet in sends.packets if not packet[0] & 0x80}
    assert {(cid[0] >> 5, cid[1:3], mint.worker_of(cid)) for cid in ids} == {(2, b"\x12\x34", 3)}
    long_ids = {packet[6:14] for packet in sends.packets if packet[0] & 0x80}
    assert {mint.worker_of(cid) for cid in long_ids if cid[1:3] == b"\x12\x34"} == {3}


# -- silence, and what an endpoint has to see to -----------------------------------------------------------


def test_a_path_that_became_longer_may_be_silent_for_three_of_its_probes(identity: Identity) -> None:
    """RFC 9000 section 10.1: the time that was agreed on, and three times the probe timeout of now at least."""
    options = QuicOptions()
    far = dataclasses.replace(identity.trust().configuration("localhost", options, None), idle_timeout=1.0)
    near = identity.server().configuration(options)
    pair = Pair(
        Connection(configuration=far),
        lambda cid: Connection(configuration=near, original_destination_connection_id=cid),
    )
    pair.connect()
    pair.run_for(0.5)
    pair.delay_s = 0.4
    for uid in range(12):
        for end in (pair.client, pair.server):
            end.quic.send_ping(uid)
        pair.run_for(0.5)
    pair.run_for(2.0)
    assert pair.client.terminated() is pair.server.terminated() is None
    pair.run_for(30.0)
    assert pair.client.terminated() is not None
    assert pair.server.terminated() is not None


@pytest.mark.parametrize("about_to_be_lost", [False, True])
def test_a_datagram_that_came_leaves_nothing_to_see_to_unless_a_packet_of_ours_is_about_to_be_lost(
    identity: Identity, about_to_be_lost: bool
) -> None:
    """Then there is a time to wake at, which whoever drives the connection asks for."""
    pair = make_pair(identity)
    pair.connect()
    pair.run_for(1.0)
    server, client = pair.server.quic, pair.client.quic
    server.listen(on_payload=lambda payload: None, on_ack=lambda at: None)
    if about_to_be_lost:
        server.recovery.loss_at = pair.now + 1.0
    packet = client.sending.seal(b"\x31\x40\x05heard", client.peer_ids.cid)
    assert server.receive(packet, CLIENT, pair.now) == (TAKEN if about_to_be_lost else QUIET)
