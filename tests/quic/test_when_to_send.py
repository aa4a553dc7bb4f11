"""When packets may leave, when an ACK is due, what waits, and how long silence may last: the small parts by their clocks."""

from __future__ import annotations

from typing import Any

import pytest
from aioquic.quic.events import ConnectionTerminated

from gateway import limits
from gateway.core.bundle import Burst
from gateway.core.ports import Refusal
from gateway.quic.connection.congestion import RealtimeCongestion
from gateway.quic.connection.datagrams import Datagrams
from gateway.quic.connection.framing import Framing, Run, framing_of
from gateway.quic.connection.pacing import Pacer
from gateway.quic.connection.packets import parse
from gateway.quic.connection.received import ACK_EVERY, ALL, SPAN, Received
from gateway.quic.connection.recovery import Recovery
from gateway.quic.connection.state import ASKED, CLOSING, DRAINING, ENDED, HANDSHAKE, OPEN, State
from tests.quic.conftest import Identity
from tests.quic.pair import Sink, make_pair

MTU = 1_200
ACK_DELAY_S = 0.024

# -- the pacer, RFC 9002 section 7.7 ------------------------------------------------------------


def _pacer(window: int, rtt_s: float) -> Pacer:
    """One that has measured, and whose burst is spent at 10 s."""
    pacer = Pacer(MTU)
    pacer.window, pacer.rtt_s, pacer.rate_due = window, rtt_s, True
    return pacer


def _at_once(pacer: Pacer, now: float, *, size: int = 0) -> int:
    """How many packets go now."""
    count = 0
    while pacer.admit(now, size) is None:
        count += 1
        assert count < 1_000
    return count


@pytest.mark.parametrize(
    ("window", "burst", "more"),
    [
        (MTU - 1, 1, 0),
        (MTU, 1, 0),
        (3 * MTU, 3, 0),
        (10 * MTU, 10, 0),
        (11 * MTU, 10, 0),
        (400 * MTU, 10, 6),
    ],
)
def test_after_a_round_trip_of_silence_a_burst_goes_and_then_what_the_rate_says(
    window: int, burst: int, more: int
) -> None:
    pacer = _pacer(window, 0.1)
    assert abs(_at_once(pacer, 10.0) - burst - more) <= 1
    packet_s = 0.1 * MTU / window
    again = pacer.admit(10.0)
    assert again is not None
    assert 10.0 < again <= 10.0 + packet_s + 1e-9
    assert 1 <= _at_once(pacer, again) <= 2


def test_the_rate_is_a_window_a_round_trip() -> None:
    pacer = _pacer(40 * MTU, 0.1)
    _at_once(pacer, 10.0)
    gone, now = 0, 10.0
    while now < 10.1:
        again = pacer.admit(now)
        gone, now = (gone + 1, now) if again is None else (gone, again)
    assert 38 <= gone <= 42


def test_until_a_round_trip_was_measured_everything_may_go() -> None:
    pacer = Pacer(MTU)
    assert [pacer.admit(10.0) for _ in range(50)] == [None] * 50
    assert pacer.admit_burst(10, 10.0)
    assert not pacer.admit_burst(11, 10.0)
    assert pacer.admit_burst(1, 10.0)


@pytest.mark.parametrize(("window", "allowed"), [(100 * MTU, 10), (4 * MTU, 4), (10, 1)])
def test_a_burst_goes_whole_or_not(window: int, allowed: int) -> None:
    pacer = _pacer(window, 0.1)
    assert not pacer.admit_burst(allowed + 1, 10.0)
    assert pacer.admit_burst(allowed, 10.0)
    assert pacer.burst_left == 0
    assert not pacer.admit_burst(allowed + 1, 10.0001)


def test_two_bursts_share_what_goes_at_once() -> None:
    pacer = _pacer(10 * MTU, 0.1)
    assert pacer.admit_burst(6, 10.0)
    assert not pacer.admit_burst(5, 10.0)
    pacer = _pacer(10 * MTU, 0.1)
    assert pacer.admit_burst(6, 10.0)
    assert pacer.admit_burst(4, 10.0)
    assert not pacer.admit_burst(1, 10.0)
    assert pacer.admit_burst(1, 10.011), "a packet takes ten milliseconds"
    assert not pacer.admit_burst(1, 10.011)
    assert pacer.admit_burst(3, 10.042)


def test_what_is_left_of_a_burst_goes_within_a_round_trip_and_is_forgotten_after_it() -> None:
    pacer = _pacer(10 * MTU, 0.1)
    assert pacer.admit_burst(4, 10.0)
    pacer.forget_old(10.09)
    assert pacer.burst_left == 6
    assert pacer.admit(10.09) is None
    assert pacer.burst_left == 5
    pacer.forget_old(10.1001)
    assert pacer.burst_left == 0


@pytest.mark.parametrize(("size", "packets"), [(0, 1), (MTU, 1), (MTU + 1, 2), (2 * MTU, 2), (8_952, 8)])
def test_a_larger_packet_counts_as_several(size: int, packets: int) -> None:
    pacer = _pacer(10 * MTU, 0.1)
    assert pacer.admit(10.0, size) is None
    assert pacer.burst_left == 10 - packets
    if packets > 1:
        again = _pacer(10 * MTU, 0.1)
        assert _at_once(again, 10.0) == 10
        at = again.admit(10.0)
        assert at is not None
        assert again.admit(at + 1e-6, size) is None
        later = again.admit(at + 1e-6)
        assert later is not None
        assert later - at == pytest.approx(0.01 * packets, abs=0.001)


def test_a_packet_larger_than_a_burst_goes_alone() -> None:
    pacer = _pacer(10 * MTU, 0.1)
    assert pacer.admit(10.0, 65_000) is None
    assert pacer.burst_left == 0


# -- when an ACK is due, RFC 9000 section 13.2 ---------------------------------------------------


def _received(*numbers: int, now: float = 1.0) -> Received:
    received = Received()
    for number in numbers:
        received.add(number, now)
    return received


@pytest.mark.parametrize(
    ("ahead", "known"),
    [(1, False), (0, True), (-1, True), (-2, False), (-3, False), (-SPAN + 1, False), (-SPAN, True)],
)
def test_what_came_is_known_and_so_is_what_is_too_old_to_tell(ahead: int, known: bool) -> None:
    received = _received(999, 1_000)
    assert received.is_known(1_000 + ahead) == known


@pytest.mark.parametrize("jump", [1, 2, SPAN - 1, SPAN, SPAN + 1, 1 << 40])
def test_a_jump_forgets_what_is_then_too_old(jump: int) -> None:
    received = _received(*range(10))
    assert received.add(9 + jump, 2.0) == (jump == 1)
    for number in range(10):
        assert received.is_known(number)
    assert received.is_known(10) == (jump == 1 or 9 + jump - 10 >= SPAN)
    assert (received.largest, received.largest_at) == (9 + jump, 2.0)


def test_an_older_one_is_out_of_order_and_no_newer_largest() -> None:
    received = _received(5, now=1.0)
    assert not received.add(3, 2.0)
    assert (received.largest, received.largest_at) == (5, 1.0)
    assert received.ranges == [range(3, 4), range(5, 6)]
    assert not received.add(4, 2.0)
    assert received.ranges == [range(3, 6)]
    assert received.add(6, 3.0)
    assert received.ranges == [range(3, 7)]
    assert (received.largest, received.largest_at) == (6, 3.0)


def test_where_nothing_is_missing_it_stays_so_and_a_gap_shows() -> None:
    received = _received(*range(SPAN + 5))
    assert received.bits == ALL
    assert received.add(SPAN + 5, 2.0)
    assert (received.bits, received.largest, received.largest_at) == (ALL, SPAN + 5, 2.0)
    received.add(SPAN + 7, 3.0)
    assert not received.is_known(SPAN + 6)
    assert received.is_known(SPAN + 5)
    received.add(SPAN + 6, 3.0)
    assert received.bits == ALL


def test_so_many_ranges_are_kept_and_the_oldest_go() -> None:
    most = limits.QUIC_ACK_RANGES_MAX
    received = _received(*range(0, 2 * most, 2))
    assert len(received.ranges) == most
    received.add(2 * most, 1.0)
    assert (len(received.ranges), received.ranges[0]) == (most, range(2, 3))


def test_what_another_kept_is_gone_on_from() -> None:
    most = limits.QUIC_ACK_RANGES_MAX
    ranges = [range(3 * n, 3 * n + 2) for n in range(most + 2)]
    held = {number for one in ranges for number in one}
    received = Received()
    received.adopt(ranges, max(held), held, 4.0)
    assert received.ranges == ranges[2:]
    assert (received.largest, received.largest_at) == (max(held), 4.0)
    for number in range(max(held) - SPAN + 1, max(held) + 1):
        assert received.is_known(number) == (number in held)
    early = Received()
    early.adopt([range(3)], 2, {0, 1, 2}, 4.0)
    assert early.bits == ALL
    assert early.add(3, 5.0)


def test_what_another_took_is_noted_with_what_it_was_before() -> None:
    received = _received(0, 1, now=1.0)
    received.took(0, 5)
    assert received.ranges == [range(5)]
    assert (received.largest, received.largest_at) == (4, 1.0)
    received.took(8, 10)
    assert received.ranges == [range(5), range(8, 10)]
    received.took(3, 3)
    assert received.ranges == [range(5), range(8, 10)]


def test_an_ack_waits_for_its_time_for_eight_packets_or_for_one_out_of_order() -> None:
    received = Received()
    assert received.want_ack(1.0, at_once=False) == pytest.approx(1.0 + ACK_DELAY_S)
    for n in range(1, ACK_EVERY - 1):
        assert received.want_ack(1.0 + n * 0.001, at_once=False) is None
    assert received.ack_at == pytest.approx(1.0 + ACK_DELAY_S)
    assert received.want_ack(1.008, at_once=False) == 1.008
    received.acknowledged()
    assert received.ack_at is None
    assert received.want_ack(1.009, at_once=False) == pytest.approx(1.009 + ACK_DELAY_S)
    assert received.want_ack(1.010, at_once=True) == 1.010


def test_where_the_next_packet_would_come_too_late_the_ack_goes_with_this_one() -> None:
    for gap, at_once in ((0.0119, False), (0.0121, True)):
        received = Received()
        received.want_ack(1.0, at_once=False)
        assert received.want_ack(1.0 + gap, at_once=False) == (1.0 + gap if at_once else None)


@pytest.mark.parametrize(
    ("first", "count", "waited"),
    [(0, 1, 0.0), (5, 3, 0.0125), (0, 1 << 14, 0.1), (0, (1 << 14) + 1, 0.1), ((1 << 30) - 2, 2, 0.0),
     ((1 << 30) - 1, 2, 0.0), (1 << 31, 1, 0.0), (7, 1, 9_000.0), (7, 1, -1.0)],
)  # fmt: skip
def test_an_ack_says_what_came_and_how_long_it_waited(first: int, count: int, waited: float) -> None:
    received = Received()
    received.adopt([range(first, first + count)], first + count - 1, set(), 10_000.0)
    said = received.ack_frame(10_000.0 + waited)
    read = parse(said)
    assert read is not None
    ((ranges, delay),) = read[0]
    assert ranges == [(first, first + count)]
    assert delay == int(max(0.0, waited) * 1_000_000) >> 3
    assert Received().ack_frame(1.0) == b""


def test_an_ack_of_several_ranges_says_them_all() -> None:
    received = _received(0, 1, 5, 9)
    assert parse(received.ack_frame(1.0)) == ([([(0, 2), (5, 6), (9, 10)], 0)], [], False)
    assert received.acknowledged() == 9


@pytest.mark.parametrize(
    ("largest", "left"),
    [(0, [(1, 2), (5, 8)]), (1, [(5, 8)]), (4, [(5, 8)]), (5, [(6, 8)]), (6, [(7, 8)]), (7, []), (90, [])],
)
def test_what_the_peer_knows_to_be_acknowledged_is_said_no_more(
    largest: int, left: list[tuple[int, int]]
) -> None:
    received = _received(0, 1, 5, 6, 7)
    received.on_ack_fate(False, largest)
    assert len(received.ranges) == 2
    received.on_ack_fate(True, largest)
    assert received.ranges == [range(*one) for one in left]


# -- states ------------------------------------------------------------------------------------

GONE = ConnectionTerminated(7, None, "gone")
OTHER = ConnectionTerminated(8, None, "other")


@pytest.mark.parametrize(
    ("own", "peers", "pto", "seconds"),
    [(30.0, None, 0.1, 30.0), (30.0, 20.0, 0.1, 20.0), (20.0, 30.0, 0.1, 20.0), (1.0, 2.0, 0.5, 1.5)],
)
def test_silence_lasts_as_long_as_the_shorter_of_both_and_three_probes_at_least(
    own: float, peers: float | None, pto: float, seconds: float
) -> None:
    state = State(own)
    state.peer_idle_s = peers
    assert state.idle_timeout_s(pto) == seconds
    state.begin(100.0, pto)
    assert (state.phase, state.idle_s, state.close_at) == (OPEN, seconds, 100.0 + seconds)
    assert state.silent_s(100.5) == pytest.approx(0.5)


def test_the_first_packet_since_one_came_begins_the_silence_anew_and_the_second_does_not() -> None:
    state = State(30.0)
    assert state.silent_s(5.0) == 0.0
    state.begin(100.0, 0.1)
    state.on_eliciting_sent(110.0)
    state.on_eliciting_sent(120.0)
    assert (state.close_at, state.eliciting_sent) == (140.0, True)


def test_a_connection_is_asked_to_close_once_closes_and_ends_once() -> None:
    state = State(30.0)
    state.begin(100.0, 0.1)
    assert not state.is_ended
    assert not state.is_closing
    assert state.ask(GONE)
    assert not state.ask(OTHER)
    assert (state.phase, state.is_closing, state.is_ended, state.close_event) == (ASKED, True, False, GONE)
    state.control_due = state.doubt = state.stream_due = True
    state.begin_end(CLOSING, 101.0, 0.1)
    assert (state.phase, state.close_at) == (CLOSING, pytest.approx(101.3))
    assert (state.is_ended, state.is_closing) == (True, True)
    assert (state.control_due, state.doubt, state.stream_due) == (False, False, False)
    assert not state.ask(OTHER)
    assert state.end(OTHER)
    assert not state.end(OTHER)
    assert (state.phase, state.close_at, state.close_event) == (ENDED, None, GONE)


def test_in_a_handshake_asking_is_enough_to_be_over() -> None:
    state = State(30.0)
    assert (state.phase, state.is_ended) == (HANDSHAKE, False)
    assert state.ask(GONE)
    assert (state.phase, state.is_ended, state.is_closing) == (HANDSHAKE, True, True)
    assert not state.ask(OTHER)


def test_what_ends_without_being_asked_says_why() -> None:
    state = State(30.0)
    state.begin(1.0, 0.1)
    state.begin_end(DRAINING, 1.0, 0.1)
    assert not state.ask(GONE)
    assert state.end(OTHER)
    assert state.close_event == OTHER


def test_a_handshake_done_that_was_lost_is_due_again() -> None:
    state = State(30.0)
    state.on_handshake_done_fate(True)
    assert not state.handshake_done_due
    state.on_handshake_done_fate(False)
    state.on_handshake_done_fate(True)
    assert state.handshake_done_due


# -- datagrams that wait ------------------------------------------------------------------------

ROOM = limits.QUIC_DATAGRAM_QUEUE_BYTES_MAX


def _datagrams(window: int = 1 << 30) -> tuple[Datagrams, State, Recovery]:
    state, control = State(30.0), RealtimeCongestion(MTU)
    recovery = Recovery(control, Pacer(MTU))
    control.window = window
    datagrams = Datagrams(state, recovery)
    datagrams.payload_bytes_max, datagrams.content_bytes_max = 1_100, 1_103
    state.is_complete = True
    state.phase = OPEN
    return datagrams, state, recovery


def _framing(size: int, count: int = 1) -> Framing:
    return Framing(Burst([(bytes(size), ())] * count), b"", 1_103)


@pytest.mark.parametrize(("size", "refusal"), [(0, None), (1_100, None), (1_101, Refusal.TOO_LARGE)])
def test_a_datagram_is_as_large_as_a_packet_holds(size: int, refusal: Refusal | None) -> None:
    for way in ("offer", "push"):
        datagrams, _, _ = _datagrams()
        assert getattr(datagrams, way)(bytes(size), Sink(), 0) is refusal
        assert (len(datagrams.queue), datagrams.size) == ((1, size) if refusal is None else (0, 0))


def test_a_burst_is_as_large_as_its_packets_hold() -> None:
    datagrams, _, _ = _datagrams()
    assert datagrams.offer_burst(_framing(1_101), Sink(), 0) is Refusal.TOO_LARGE
    assert datagrams.offer_burst(_framing(1_100, 2), Sink(), 0) is None
    assert datagrams.size == 2_200
    assert datagrams.offer_burst(_framing(1), Sink(), 2) is Refusal.BLOCKED
    datagrams.spill()
    assert datagrams.offer_burst(_framing(1), Sink(), 2) is Refusal.BLOCKED
    assert (len(datagrams.queue), datagrams.size) == (2, 2_200)


@pytest.mark.parametrize(
    ("phase", "complete", "largest", "one", "burst"),
    [
        (HANDSHAKE, False, 0, Refusal.BLOCKED, Refusal.UNSUPPORTED),
        (HANDSHAKE, True, 0, Refusal.UNSUPPORTED, Refusal.UNSUPPORTED),
        (HANDSHAKE, True, 1_100, None, Refusal.UNSUPPORTED),
        (OPEN, True, 0, Refusal.UNSUPPORTED, Refusal.UNSUPPORTED),
        (ASKED, True, 1_100, Refusal.CLOSED, Refusal.CLOSED),
        (CLOSING, True, 1_100, Refusal.CLOSED, Refusal.CLOSED),
        (ENDED, True, 1_100, Refusal.CLOSED, Refusal.CLOSED),
    ],
)
def test_a_refusal_says_what_is_in_the_way(
    phase: int, complete: bool, largest: int, one: Refusal | None, burst: Refusal
) -> None:
    for way in ("offer", "push"):
        datagrams, state, _ = _datagrams()
        state.phase, state.is_complete, datagrams.payload_bytes_max = phase, complete, largest
        datagrams.content_bytes_max = largest
        assert getattr(datagrams, way)(bytes(10), Sink(), 0) is one
        if datagrams.queue:
            datagrams.drop_all([])
        assert datagrams.offer_burst(_framing(10), Sink(), 0) is burst


@pytest.mark.parametrize(("in_flight", "refusal"), [(0, None), (1_000, None), (1_001, Refusal.BLOCKED)])
def test_what_is_offered_fits_the_window_with_all_that_waits(in_flight: int, refusal: Refusal | None) -> None:
    datagrams, _, recovery = _datagrams(2_000)
    recovery.control.in_flight = in_flight
    assert datagrams.offer(bytes(400), Sink(), 0) is None
    assert datagrams.offer(bytes(600), Sink(), 1) is refusal
    assert datagrams.push(bytes(600), Sink(), 2) is None
    datagrams, _, recovery = _datagrams(2_000)
    recovery.control.in_flight = in_flight
    framing = _framing(1_000 - 39 - 3)
    assert framing.wire_bytes_max == 1_000
    assert datagrams.offer_burst(framing, Sink(), 0) is refusal


def test_so_much_waits_and_no_more_and_the_oldest_make_room_for_what_is_pushed() -> None:
    datagrams, _, recovery = _datagrams()
    sink, count = Sink(), ROOM // 1_024
    for token in range(count):
        assert datagrams.offer(bytes(1_024), sink, token) is None
    assert datagrams.size == ROOM
    assert datagrams.offer(b"1", sink, count) is Refusal.BLOCKED
    assert datagrams.push(b"1", sink, count) is None
    assert recovery.fates == [(sink, 0, False)]
    assert (datagrams.size, datagrams.dropped, len(datagrams.queue)) == (ROOM - 1_023, 1, count)
    datagrams.drop_all(recovery.fates)
    assert [token for _, token, _ in recovery.fates] == list(range(count + 1))
    assert (datagrams.size, datagrams.dropped) == (0, count + 1)


def test_a_burst_that_is_larger_than_what_may_wait_is_offered_one_by_one() -> None:
    datagrams, _, _ = _datagrams()
    count = ROOM // 1_142
    assert datagrams.offer_burst(_framing(1_100, count + 1), Sink(), 0) is Refusal.BLOCKED
    assert datagrams.offer_burst(_framing(1_100, count), Sink(), 0) is None


def test_a_burst_that_cannot_go_as_one_goes_first_and_in_order() -> None:
    datagrams, _, _ = _datagrams()
    sink = Sink()
    framing = Framing(Burst([(b"a", ()), (b"bb", ()), (b"c", ())]), b"p", 1_103)
    assert datagrams.offer_burst(framing, sink, 5) is None
    assert datagrams.offer(b"last", sink, 9) is None
    assert list(datagrams.queue) == [
        (b"pa", sink, 5),
        (b"pbb", sink, 6),
        (b"pc", sink, 7),
        (b"last", sink, 9),
    ]
    assert (datagrams.burst, datagrams.size) == (None, 11)


@pytest.mark.parametrize(("room", "count"), [(0, 0), (12, 0), (13, 1), (25, 1), (26, 2), (39, 3), (90, 3)])
def test_a_packet_is_filled_with_what_fits_whole(room: int, count: int) -> None:
    datagrams, _, _ = _datagrams()
    sink = Sink()
    for token in range(3):
        datagrams.offer(bytes([token]) * 10, sink, token)
    assert datagrams.fits_first(room) == (room >= 13)
    content, fates = datagrams.fill(b"", (), room)
    assert content == b"".join(
        b"\x31\x0a" + bytes([token]) * 10 for token in range(min(3, (room - 1) // 12 if room else 0))
    )
    assert fates == tuple((sink, token, 1) for token in range(len(fates)))
    assert (len(datagrams.queue), datagrams.size) == (3 - len(fates), 30 - 10 * len(fates))
    assert len(fates) >= count


# -- framings -----------------------------------------------------------------------------------


def _framed(*sizes: int, prefix: bytes = b"", room: int = 100) -> Framing:
    return Framing(Burst([(bytes(size), ()) for size in sizes]), prefix, room)


def test_messages_share_a_packet_as_far_as_it_holds_them() -> None:
    framing = _framed(46, 46, 1, prefix=b"pp")
    assert framing.contents[0] == (b"\x31\x30pp" + bytes(46)) * 2
    assert framing.contents[1] == b"\x31\x03pp\x00"
    assert (framing.shape, framing.packets, framing.count) == (((100, 2), (5, 1)), 2, 3)
    assert (framing.content_bytes, framing.largest, framing.payload_bytes) == (105, 100, 99)
    assert framing.wire_bytes_max == 105 + 2 * 39
    assert framing.payloads() == [b"pp" + bytes(46)] * 2 + [b"pp\x00"]
    assert _framed(46, 47, prefix=b"pp").packets == 2


@pytest.mark.parametrize(
    ("sizes", "is_run"),
    [((90,), True), ((90, 90), True), ((90, 80), True), ((80, 90), False), ((90, 80, 90), False), ((90, 90, 60), True),
     ((90, 80, 80), False), ((90,) * limits.QUIC_SEGMENTS_MAX, True), ((90,) * (limits.QUIC_SEGMENTS_MAX + 1), False)],
)  # fmt: skip
def test_packets_of_one_length_but_for_a_shorter_last_are_a_run(sizes: tuple[int, ...], is_run: bool) -> None:
    assert _framed(*sizes).is_run == is_run


def test_a_burst_with_a_shorter_packet_in_its_middle_arrives_whole(identity: Identity) -> None:
    """Cut as a run it would be cut in the wrong places, and what is behind the short one would arrive as damaged."""
    pair = make_pair(identity)
    pair.connect()
    pair.run_for(1.0)
    sink, quic = Sink(), pair.server.quic
    messages = [bytes([n]) * size for n, size in enumerate((1_000, 700, 1_000))]
    burst = Burst([(message, ()) for message in messages])
    assert quic.offer_burst(Framing(burst, b"", quic.content_bytes_max), sink, 0) is None
    pair.run_for(0.5)
    assert pair.client.datagrams() == messages
    assert sink.acked == list(range(3))


def test_a_run_is_no_longer_than_a_system_call_takes() -> None:
    most = limits.QUIC_SEGMENT_BYTES_MAX
    count = 50
    size = most // count - 39 - 4
    assert _framed(*[size] * count, room=size + 4).is_run
    assert not _framed(*[size + 3] * count, room=size + 7).is_run
    assert Run(b"aabbc", 2, 3).split() == [b"aa", b"bb", b"c"]


def test_a_framing_is_made_once_for_each_prefix_and_so_many_are_kept() -> None:
    burst: Any = Burst([(b"abc", ())])
    one = framing_of(burst, b"1", 100)
    assert framing_of(burst, b"1", 100) is one
    for n in range(limits.FRAMINGS_CACHED_MAX - 1):
        framing_of(burst, b"other %d" % n, 100)
    assert framing_of(burst, b"1", 100) is one
    framing_of(burst, b"one more", 100)
    assert len(burst.framings) == 1
