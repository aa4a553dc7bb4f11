"""Streams as a conversation with the peer: data in and out, limits, resets and stops, and what no peer may say."""

from __future__ import annotations

import pytest

from gateway import limits
from tests.quic.talks import StreamsTalk, content, hold, streams_talk

MOST = limits.QUIC_PEER_STREAMS_MAX


def _server() -> StreamsTalk:
    """A server whose client lets it do much."""
    talk = streams_talk()
    hold(talk, "-- peer 100000 10 10 50000")
    return talk


TAKEN = {
    "in order": """
        >> STREAM 2 0..300
        == data 2 0..300
        >> STREAM 2 300..400
        == data 2 300..400
        >> STREAM 2 400..500 end
        == data 2 400..500 end
    """,
    "behind a gap": """
        >> STREAM 2 300..400
        >> STREAM 2 100..200
        >> STREAM 2 0..100
        == data 2 0..200
        >> STREAM 2 200..300
        == data 2 200..400
        >> STREAM 2 400..400 end
        == data 2 400..400 end
    """,
    "partly again": """
        >> STREAM 2 0..300
        == data 2 0..300
        >> STREAM 2 100..400
        == data 2 300..400
        >> STREAM 2 0..200
        >> STREAM 2 0..400
        >> STREAM 2 399..401
        == data 2 400..401
    """,
    "partly again before a gap": """
        >> STREAM 2 0..300
        == data 2 0..300
        >> STREAM 2 500..600
        >> STREAM 2 100..400
        == data 2 300..400
        >> STREAM 2 0..100
        >> STREAM 2 350..550
        == data 2 400..600
    """,
    "the end before the rest": """
        >> STREAM 2 100..200 end
        >> STREAM 2 0..99
        == data 2 0..99
        >> STREAM 2 99..100
        == data 2 99..200 end
        >> STREAM 2 0..200 end
    """,
    "the end twice": """
        >> STREAM 2 0..100 end
        == data 2 0..100 end
        >> STREAM 2 0..100 end
        >> STREAM 2 50..100
    """,
    "nothing but an end": """
        >> STREAM 2 0..0 end
        == data 2 0..0 end
    """,
    "nothing at all": """
        >> STREAM 2 0..0
        >> STREAM 2 5..5
        >> STREAM 2 0..10
        == data 2 0..10
    """,
    "the end alone before the rest": """
        >> STREAM 2 10..10 end
        >> STREAM 2 0..10
        == data 2 0..10 end
    """,
    "on several streams": """
        >> STREAM 0 0..10
        == data 0 0..10
        >> STREAM 2 0..20
        == data 2 0..20
        >> STREAM 4 0..30 end
        == data 4 0..30 end
        >> STREAM 0 10..20
        == data 0 10..20
    """,
    "a stream opens those below it": """
        >> STREAM 10 0..1
        == data 10 0..1
        -- show 0
        == 0: may write sent; 0 of 0 waiting
        -- show 2
        == 2: open sent; 0 of 0 waiting
        -- show 6
        == 6: open sent; 0 of 0 waiting
        -- show 14
        == 14: may write sent; 0 of 0 waiting
    """,
    "to the bytes that a stream may have": """
        >> STREAM 2 999..1000
        >> STREAM 2 0..999
        == data 2 0..1000
    """,
    "in order to the bytes that a stream may have": """
        >> STREAM 2 0..1000
        == data 2 0..1000
    """,
    "what all streams may have, in order": """
        >> STREAM 2 0..1000
        == data 2 0..1000
        >> STREAM 6 0..1000
        == data 6 0..1000
        >> STREAM 10 0..1000
        == data 10 0..1000
        >> STREAM 14 0..0 end
        == data 14 0..0 end
    """,
    "what all streams may have, with gaps": """
        >> STREAM 2 999..1000
        >> STREAM 6 999..1000
        >> STREAM 10 999..1000
        >> STREAM 2 0..999
        == data 2 0..1000
        >> STREAM 6 0..1000
        == data 6 0..1000
    """,
    "on the last stream there may be": f"""
        >> STREAM {4 * MOST - 2} 0..1
        == data {4 * MOST - 2} 0..1
        >> STREAM {4 * MOST - 4} 0..1
        == data {4 * MOST - 4} 0..1
    """,
    "a reset": """
        >> STREAM 2 0..100
        == data 2 0..100
        >> RESET 2 7 300
        == reset 2 7
        >> RESET 2 7 300
        >> STREAM 2 100..300 end
        >> STREAM 2 100..200
    """,
    "a reset of what is there": """
        >> STREAM 2 0..100
        == data 2 0..100
        >> RESET 2 7 100
        == reset 2 7
    """,
    "a reset while bytes are missing": """
        >> STREAM 2 50..100
        >> RESET 2 7 100
        == reset 2 7
        >> STREAM 2 0..50
    """,
    "a reset once the end came": """
        >> STREAM 2 0..100 end
        == data 2 0..100 end
        >> RESET 2 7 100
    """,
    "a reset once the end is known": """
        >> STREAM 2 50..100 end
        >> RESET 2 7 100
        == reset 2 7
    """,
    "a reset of a new stream": """
        >> RESET 6 0 0
        == reset 6 0
        -- show 2
        == 2: open sent; 0 of 0 waiting
    """,
    "a reset that promises some": """
        >> RESET_AT 2 7 300 100
        >> STREAM 2 50..200
        >> STREAM 2 0..50
        == data 2 0..100
        == reset 2 7
        >> STREAM 2 200..300
    """,
    "a reset that promises what came": """
        >> STREAM 2 0..100
        == data 2 0..100
        >> RESET_AT 2 7 300 100
        == reset 2 7
        >> RESET_AT 2 7 300 100
    """,
    "a reset that promises one byte more": """
        >> STREAM 2 0..100
        == data 2 0..100
        >> RESET_AT 2 7 300 101
        >> STREAM 2 100..101
        == data 2 100..101
        == reset 2 7
    """,
    "a reset that promises all": """
        >> RESET_AT 2 7 100 100
        >> STREAM 2 0..100
        == data 2 0..100
        == reset 2 7
    """,
    "a reset that promises all, with the end": """
        >> RESET_AT 2 7 100 100
        >> STREAM 2 0..100 end
        == data 2 0..100
        == reset 2 7
    """,
    "a reset that promises less each time": """
        >> RESET_AT 2 7 300 200
        >> RESET_AT 2 7 300 250
        >> STREAM 2 0..100
        == data 2 0..100
        >> RESET_AT 2 7 300 150
        >> STREAM 2 100..150
        == data 2 100..150
        == reset 2 7
    """,
    "a reset that promises some, then none": """
        >> RESET_AT 2 7 300 200
        >> RESET 2 9 300
        == reset 2 9
    """,
    "a reset that promises some once all came": """
        >> STREAM 2 0..100 end
        == data 2 0..100 end
        >> RESET_AT 2 7 100 50
    """,
    "a reset that promises some while the end is known": """
        >> STREAM 2 200..300 end
        >> RESET_AT 2 7 300 100
        >> STREAM 2 0..300 end
        == data 2 0..100
        == reset 2 7
    """,
    "a reset that is said again counts its bytes once": """
        >> RESET 2 7 1000
        == reset 2 7
        >> RESET 2 7 1000
        >> RESET_AT 2 7 1000 0
        >> RESET_AT 6 7 1000 500
        >> RESET_AT 6 7 1000 500
        >> RESET_AT 6 7 1000 400
        >> STREAM 10 0..1000
        == data 10 0..1000
    """,
    "nothing beyond what was promised": """
        >> RESET_AT 2 7 300 100
        >> STREAM 2 100..200
        >> STREAM 2 99..200
        >> STREAM 2 0..99
        == data 2 0..100
        == reset 2 7
    """,
}


@pytest.mark.parametrize("script", TAKEN.values(), ids=TAKEN)
def test_what_a_peer_sends_comes_once_and_in_order(script: str) -> None:
    hold(_server(), script)


REFUSED = {
    "a byte beyond a stream's limit": """
        >> STREAM 2 0..1001
        !! FLOW_CONTROL_ERROR of STREAM: Over stream data limit
    """,
    "a byte beyond a stream's limit in a later frame": """
        >> STREAM 2 0..1000
        == data 2 0..1000
        >> STREAM 2 1000..1001
        !! FLOW_CONTROL_ERROR of STREAM: Over stream data limit
    """,
    "a byte beyond all streams' limit": """
        >> STREAM 2 0..1000
        == data 2 0..1000
        >> STREAM 6 0..1000
        == data 6 0..1000
        >> STREAM 10 0..999
        == data 10 0..999
        >> STREAM 14 0..2
        !! FLOW_CONTROL_ERROR of STREAM: Over connection data limit
    """,
    "a byte beyond all streams' limit, in order": """
        >> STREAM 2 0..1
        == data 2 0..1
        >> STREAM 2 1..1000
        == data 2 1..1000
        >> STREAM 6 0..1
        == data 6 0..1
        >> STREAM 6 1..1000
        == data 6 1..1000
        >> STREAM 10 0..1
        == data 10 0..1
        >> STREAM 10 1..999
        == data 10 1..999
        >> STREAM 14 0..1
        == data 14 0..1
        >> STREAM 14 1..2
        !! FLOW_CONTROL_ERROR of STREAM: Over connection data limit
        >> STREAM 10 999..1000
        !! FLOW_CONTROL_ERROR of STREAM: Over connection data limit
        >> STREAM 2 1000..1001
        !! FLOW_CONTROL_ERROR of STREAM: Over stream data limit
    """,
    "a gap beyond all streams' limit": """
        >> STREAM 2 500..1000
        >> STREAM 6 500..1000
        >> STREAM 10 500..1000
        >> STREAM 14 1..1
        !! FLOW_CONTROL_ERROR of STREAM: Over connection data limit
    """,
    "a reset beyond a stream's limit": """
        >> RESET 2 0 1001
        !! FLOW_CONTROL_ERROR of RESET: Over stream data limit
    """,
    "resets beyond all streams' limit": """
        >> RESET 2 0 1000
        == reset 2 0
        >> RESET 6 0 1000
        == reset 6 0
        >> RESET_AT 10 0 1000 0
        == reset 10 0
        >> RESET 14 0 1
        !! FLOW_CONTROL_ERROR of RESET: Over connection data limit
    """,
    "a stream beyond their count": f"""
        >> STREAM {4 * MOST + 2} 0..1
        !! STREAM_LIMIT_ERROR of STREAM: Too many streams open
    """,
    "a two-way stream beyond their count": f"""
        >> STREAM {4 * MOST} 0..1
        !! STREAM_LIMIT_ERROR of STREAM: Too many streams open
    """,
    "on a stream that only we send on": """
        >> STREAM 3 0..1
        !! STREAM_STATE_ERROR of STREAM: Stream is send-only
        >> RESET 3 0 1
        !! STREAM_STATE_ERROR of RESET: Stream is send-only
        >> STREAM_DATA_BLOCKED 3 1
        !! STREAM_STATE_ERROR of STREAM_DATA_BLOCKED: Stream is send-only
    """,
    "of a stream that only the peer sends on": """
        >> STOP 2 0
        !! STREAM_STATE_ERROR of STOP: Stream is receive-only
        >> MAX_STREAM_DATA 2 1
        !! STREAM_STATE_ERROR of MAX_STREAM_DATA: Stream is receive-only
    """,
    "of a stream of ours that we never opened": """
        >> STREAM 1 0..1
        !! STREAM_STATE_ERROR of STREAM: Wrong stream initiator
        >> STOP 3 0
        !! STREAM_STATE_ERROR of STOP: Wrong stream initiator
        >> MAX_STREAM_DATA 1 1
        !! STREAM_STATE_ERROR of MAX_STREAM_DATA: Wrong stream initiator
    """,
    "a byte beyond the end": """
        >> STREAM 2 0..100 end
        == data 2 0..100 end
        >> STREAM 2 100..101
        !! FINAL_SIZE_ERROR of STREAM: data beyond the final size, or another one
    """,
    "another end": """
        >> STREAM 2 50..100 end
        >> STREAM 2 50..99 end
        !! FINAL_SIZE_ERROR of STREAM: data beyond the final size, or another one
        >> STREAM 2 50..101 end
        !! FINAL_SIZE_ERROR of STREAM: data beyond the final size, or another one
    """,
    "an end before what came": """
        >> STREAM 2 50..100
        >> STREAM 2 0..99 end
        !! FINAL_SIZE_ERROR of STREAM: data beyond the final size came before
        >> STREAM 2 0..100 end
        == data 2 0..100 end
    """,
    "a reset before what came": """
        >> STREAM 2 50..100
        >> RESET 2 0 99
        !! FINAL_SIZE_ERROR of RESET: another final size, or data beyond it came
        >> RESET_AT 2 0 99 0
        !! FINAL_SIZE_ERROR of RESET_AT: another final size, or data beyond it came
    """,
    "a reset elsewhere than the end": """
        >> STREAM 2 50..100 end
        >> RESET 2 0 101
        !! FINAL_SIZE_ERROR of RESET: another final size, or data beyond it came
        >> RESET_AT 2 0 101 0
        !! FINAL_SIZE_ERROR of RESET_AT: another final size, or data beyond it came
    """,
    "a promise of more than there is": """
        >> RESET_AT 2 0 99 100
        !! FRAME_ENCODING_ERROR of RESET_AT: 100 reliable bytes of a stream of 99
    """,
    "a promise under another error": """
        >> RESET_AT 2 7 300 200
        >> RESET_AT 2 8 300 200
        !! STREAM_STATE_ERROR of RESET_AT: another error code for the same reset
    """,
    "a byte beyond a promise's size, whatever came before": """
        >> RESET_AT 2 7 300 200
        >> STREAM 2 0..50
        == data 2 0..50
        >> STREAM 2 300..301
        !! FINAL_SIZE_ERROR of STREAM: data beyond the final size, or another one
        >> STREAM 2 250..299 end
        !! FINAL_SIZE_ERROR of STREAM: data beyond the final size, or another one
    """,
    "a promise of another size": """
        >> RESET_AT 2 7 300 200
        >> RESET_AT 2 7 301 200
        !! FINAL_SIZE_ERROR of RESET_AT: another final size, or data beyond it came
        >> RESET 2 7 299
        !! FINAL_SIZE_ERROR of RESET: another final size, or data beyond it came
    """,
    "more streams than there can be": f"""
        >> MAX_STREAMS_BIDI {(1 << 60) + 1}
        !! FRAME_ENCODING_ERROR of MAX_STREAMS_BIDI: Maximum Streams cannot exceed 2^60
        >> MAX_STREAMS_UNI {(1 << 60) + 1}
        !! FRAME_ENCODING_ERROR of MAX_STREAMS_UNI: Maximum Streams cannot exceed 2^60
        >> STREAMS_BLOCKED_BIDI {(1 << 60) + 1}
        !! FRAME_ENCODING_ERROR of STREAMS_BLOCKED_BIDI: Maximum Streams cannot exceed 2^60
        >> STREAMS_BLOCKED_UNI {(1 << 60) + 1}
        !! FRAME_ENCODING_ERROR of STREAMS_BLOCKED_UNI: Maximum Streams cannot exceed 2^60
    """,
}


@pytest.mark.parametrize("script", REFUSED.values(), ids=REFUSED)
def test_what_a_peer_must_not_say_is_refused_by_name(script: str) -> None:
    hold(_server(), script)


@pytest.mark.parametrize("start", [(1 << 62) - 1, (1 << 62) - 2])
def test_no_offset_is_beyond_the_largest_that_can_be_said(start: int) -> None:
    reason = (
        "FRAME_ENCODING_ERROR of STREAM: offset + length cannot exceed 2^62 - 1"
        if start == (1 << 62) - 1
        else "FLOW_CONTROL_ERROR of STREAM: Over stream data limit"
    )
    hold(
        _server(),
        f"""
        >> STREAM 2 {start}..{start + 1}
        !! {reason}
        """,
    )


def test_as_many_pieces_with_gaps_are_kept_as_the_bound_says_and_no_more() -> None:
    most = limits.QUIC_RECEIVED_PIECES_MAX
    talk = _server()
    for n in range(most):
        hold(talk, f">> STREAM 2 {2 * n + 1}..{2 * n + 2}")
    hold(
        talk,
        f"""
        >> STREAM 2 {2 * most + 1}..{2 * most + 2}
        !! PROTOCOL_VIOLATION of a frame: data with gaps in more than {most} pieces
        """,
    )


SENT = {
    "as there is room": """
        -- write 3 0..100
        -- ask 60
        << STREAM 3 0..55
        -- ask
        << STREAM 3 55..100
        -- ask
        << nothing
        -- write 3 100..150 end
        -- ask
        << STREAM 3 100..150 end
        -- ask
        << nothing
    """,
    "on after what was acknowledged": """
        -- write 3 0..100
        -- ask
        << STREAM 3 0..100
        -- acked
        -- write 3 100..300
        -- ask 62
        << STREAM 3 100..156
        -- ask 62
        << STREAM 3 156..212
        -- ask
        << STREAM 3 212..300
        -- acked 1
        -- acked 0
        -- show 3
        == 3: open may write; 88 of 88 waiting
        -- lost
        -- write 3 300..310 end
        -- ask
        << STREAM 3 212..300
        -- ask
        << STREAM 3 300..310 end
        -- acked
        -- ask
        << nothing
        -- show 3
        == 3: sent; 0 of 0 waiting
    """,
    "an end alone": """
        -- write 3 0..10
        -- ask
        << STREAM 3 0..10
        -- write 3 10..10 end
        -- ask
        << STREAM 3 10..10 end
        -- show 3
        == 3: open; 10 of 10 waiting
        -- acked
        -- show 3
        == 3: open sent; 0 of 0 waiting
        -- ask
        << nothing
        -- show 3
        == 3: sent; 0 of 0 waiting
    """,
    "nothing in less room than a frame is worth": """
        -- write 3 0..100
        -- ask 39
        << nothing although there is
        -- ask 40
        << STREAM 3 0..35
    """,
    "what was lost first": """
        -- write 3 0..100
        -- ask 60
        << STREAM 3 0..55
        -- lost
        -- ask 60
        << STREAM 3 0..55
        -- ask
        << STREAM 3 55..100
    """,
    "what was lost in pieces, each once": """
        -- write 3 0..300 end
        -- ask 106
        << STREAM 3 0..101
        -- ask 106
        << STREAM 3 101..201
        -- ask
        << STREAM 3 201..300 end
        -- acked 1
        -- lost
        -- ask 66
        << STREAM 3 0..61
        -- ask
        << STREAM 3 61..101
        -- ask
        << STREAM 3 201..300 end
        -- ask
        << nothing
        -- acked
        -- show 3
        == 3: open sent; 0 of 0 waiting
    """,
    "a lost end again, with its bytes or without": """
        -- write 3 0..10
        -- ask
        << STREAM 3 0..10
        -- write 3 10..10 end
        -- ask
        << STREAM 3 10..10 end
        -- lost 1
        -- ask
        << STREAM 3 10..10 end
        -- lost 0
        -- ask
        << STREAM 3 0..10 end
        -- acked
        -- show 3
        == 3: open sent; 0 of 0 waiting
    """,
    "acknowledged out of order": """
        -- write 3 0..300
        -- ask 106
        << STREAM 3 0..101
        -- ask 106
        << STREAM 3 101..201
        -- ask
        << STREAM 3 201..300
        -- acked 2
        -- show 3
        == 3: open may write; 300 of 300 waiting
        -- acked 0
        -- show 3
        == 3: open may write; 199 of 199 waiting
        -- acked 0
        -- show 3
        == 3: open may write; 0 of 0 waiting
        -- write 3 300..310
        -- ask
        << STREAM 3 300..310
    """,
    "the end acknowledged before the rest": """
        -- write 3 0..50
        -- ask
        << STREAM 3 0..50
        -- write 3 50..60 end
        -- ask
        << STREAM 3 50..60 end
        -- acked 1
        -- show 3
        == 3: open; 60 of 60 waiting
        -- acked 0
        -- show 3
        == 3: open sent; 0 of 0 waiting
    """,
    "in turn": """
        -- write 3 0..100
        -- write 7 0..100
        -- write 11 0..100
        -- ask 60
        << STREAM 3 0..55
        -- ask 60
        << STREAM 7 0..55
        -- ask 120
        << STREAM 11 0..100
        -- ask 120
        << STREAM 3 55..100
        << STREAM 7 55..100
    """,
    "not beyond what the peer lets a stream have": """
        -- peer 100000 10 10 50
        -- write 3 0..100
        -- ask
        << STREAM 3 0..50
        -- ask
        << nothing although there is
        >> MAX_STREAM_DATA 3 40
        -- ask
        << nothing although there is
        >> MAX_STREAM_DATA 3 60
        -- ask
        << STREAM 3 50..60
        -- lost
        -- ask
        << STREAM 3 0..60
    """,
    "not beyond what the peer lets all have": """
        -- peer 50 10 10 1000
        -- write 3 0..40
        -- write 7 0..40 end
        -- ask
        << STREAM 3 0..40
        << STREAM 7 0..10
        -- lost
        -- ask
        << STREAM 3 0..40
        << STREAM 7 0..10
        -- ask
        << nothing although there is
        >> MAX_DATA 60
        -- ask
        << STREAM 7 10..20
        >> MAX_DATA 50
        >> MAX_DATA 80
        -- ask
        << STREAM 7 20..40 end
    """,
    "an end where no byte may go": """
        -- peer 10 10 10 10
        -- write 3 0..10 end
        -- write 7 0..0 end
        -- ask
        << STREAM 3 0..10 end
        << STREAM 7 0..0 end
    """,
    "a large frame": """
        -- write 3 0..20000
        -- ask 17000
        << STREAM 3 0..16993
        -- ask 17000
        << STREAM 3 16993..20000
    """,
    "frames whose length takes four bytes": """
        -- write 3 0..49999
        -- ask 16383
        << STREAM 3 0..16378
        -- ask 16384
        << STREAM 3 16378..32754
        -- ask 16394
        << STREAM 3 32754..49138
    """,
    "two streams in turn": """
        -- write 3 0..100
        -- write 7 0..100
        -- ask 60
        << STREAM 3 0..55
        -- ask 60
        << STREAM 7 0..55
        -- ask 60
        << STREAM 3 55..100
        -- ask 60
        << STREAM 7 55..100
    """,
    "both ways on the peer's stream": """
        >> STREAM 0 0..10 end
        == data 0 0..10 end
        -- write 0 0..20 end
        -- ask
        << STREAM 0 0..20 end
        -- acked
        -- ask
        << nothing
        -- show 0
        == 0: sent; 0 of 0 waiting
    """,
}


@pytest.mark.parametrize("script", SENT.values(), ids=SENT)
def test_what_is_written_goes_out_in_turn_as_room_and_limits_allow(script: str) -> None:
    hold(_server(), script)


GIVEN_UP = {
    "a reset says how far it had come, once": """
        -- write 3 0..100
        -- ask 60
        << STREAM 3 0..55
        -- reset 3 7
        -- show 3
        == 3: open sent; 0 of 0 waiting
        -- ask
        << RESET 3 7 55
        -- ask
        << nothing
        -- reset 3 8
        -- ask
        << nothing
        -- write 3 100..200
        !! RuntimeError
    """,
    "a lost reset is said again": """
        -- write 3 0..10
        -- reset 3 7
        -- ask
        << RESET 3 7 0
        -- lost
        -- ask
        << RESET 3 7 0
        -- acked
        -- ask
        << nothing
        -- show 3
        == 3: sent; 0 of 0 waiting
    """,
    "what was lost before a reset is not sent again, nor is an end": """
        -- write 3 0..10 end
        -- ask
        << STREAM 3 0..10 end
        -- reset 3 7
        -- lost
        -- ask
        << RESET 3 7 10
    """,
    "what is acknowledged after a reset ends nothing": """
        -- write 3 0..10 end
        -- ask
        << STREAM 3 0..10 end
        -- reset 3 7
        -- acked
        -- ask
        << RESET 3 7 10
        -- show 3
        == 3: open sent; 0 of 0 waiting
        -- acked
        -- ask
        << nothing
        -- show 3
        == 3: sent; 0 of 0 waiting
    """,
    "an end that waits is not said once it was reset": """
        -- write 3 0..0 end
        -- reset 3 7
        -- ask
        << RESET 3 7 0
    """,
    "a stream that is done is not reset": """
        -- write 3 0..10 end
        -- ask
        << STREAM 3 0..10 end
        -- acked
        -- reset 3 7
        -- ask
        << nothing
        -- reset 3 7
        -- ask
        << nothing
    """,
    "a stream that was never opened is, by its reset": """
        -- reset 3 0
        -- ask
        << RESET 3 0 0
        -- next
        == next 1 7 may
    """,
    "the peer asks to stop": """
        -- write 3 0..10
        -- ask
        << STREAM 3 0..10
        >> STOP 3 9
        == stopped 3 9
        -- ask
        << RESET 3 9 10
        -- acked
        -- ask
        << nothing
        >> STOP 3 9
        >> MAX_STREAM_DATA 3 100000
    """,
    "the peer asks to stop on a stream of its own that is new": """
        >> STOP 4 9
        == stopped 4 9
        -- ask
        << RESET 4 9 0
        -- show 0
        == 0: open may write; 0 of 0 waiting
    """,
    "we ask to stop, until that arrives": """
        >> STREAM 2 0..10
        == data 2 0..10
        -- stop 2 5
        -- ask
        << STOP 2 5
        -- ask
        << nothing
        -- lost
        -- ask
        << STOP 2 5
        -- acked
        -- ask
        << nothing
    """,
    "what is to be stopped is known, and the peer's": """
        -- stop 2 5
        !! ValueError
        -- write 3 0..1
        -- stop 3 5
        !! ValueError
        -- write 2 0..1
        !! ValueError
        -- reset 2 7
        !! ValueError
        -- write 0 0..1
        !! ValueError
        -- write 6 0..1
        !! ValueError
    """,
    "what is abandoned is what still comes": """
        -- abandon 2 5
        == over
        >> STREAM 2 0..10 end
        == data 2 0..10 end
        -- abandon 2 5
        == over
        >> STREAM 6 0..10
        == data 6 0..10
        -- abandon 6 0
        == abandoned
        -- ask
        << STOP 6 0
    """,
    "several things of one stream at once": """
        >> STREAM 0 0..600
        == data 0 0..600
        -- write 0 0..10
        -- stop 0 5
        -- reset 0 6
        -- ask
        << MAX_STREAM_DATA 0 1600
        << STOP 0 5
        << RESET 0 6 0
        -- ask
        << nothing
        -- lost 1
        -- ask
        << STOP 0 5
        -- lost 1
        -- ask
        << RESET 0 6 0
    """,
    "several things of one stream in what room there is": """
        >> STREAM 0 0..600
        == data 0 0..600
        >> STREAM 4 0..600
        == data 4 0..600
        -- ask 58
        << nothing although there is
        -- ask 62
        << MAX_STREAM_DATA 0 1600
        -- ask 59
        << MAX_STREAM_DATA 4 1600
        -- ask 59
        << nothing
    """,
    "nothing is written behind an end": """
        -- write 3 0..10 end
        -- write 3 10..20
        !! RuntimeError
        -- write 3 10..10 end
        !! RuntimeError
        -- show 3
        == 3: open; 10 of 10 waiting
    """,
}


QUIET = {
    "a reset of the peer's": """
        >> STREAM 2 0..10
        == data 2 0..10
        -- ask
        << nothing
        >> RESET 2 1 10
        == reset 2 1
        -- ask
        << nothing
        -- show 2
        == 2: sent; 0 of 0 waiting
    """,
    "the end of the peer's": """
        >> STREAM 2 0..10
        == data 2 0..10
        -- ask
        << nothing
        >> STREAM 2 10..10 end
        == data 2 10..10 end
        -- ask
        << nothing
        -- show 2
        == 2: sent; 0 of 0 waiting
    """,
    "its window": """
        >> STREAM 2 0..1
        == data 2 0..1
        -- ask
        << nothing
        >> STREAM 2 1..600
        == data 2 1..600
        -- ask
        << MAX_STREAM_DATA 2 1600
    """,
    "what is written, reset, stopped": """
        >> STREAM 0 0..1
        == data 0 0..1
        -- ask
        << nothing
        -- write 0 0..1
        -- ask
        << STREAM 0 0..1
        -- ask
        << nothing
        -- stop 0 1
        -- ask
        << STOP 0 1
        -- ask
        << nothing
        -- reset 0 1
        -- ask
        << RESET 0 1 1
        -- ask
        << nothing
        -- abandon 0 2
        == abandoned
        -- ask
        << STOP 0 2
    """,
    "what the peer asks to stop": """
        -- write 3 0..1
        -- ask
        << STREAM 3 0..1
        -- ask
        << nothing
        >> STOP 3 1
        == stopped 3 1
        -- ask
        << RESET 3 1 1
    """,
    "its window that was lost": """
        >> STREAM 2 0..600
        == data 2 0..600
        -- ask
        << MAX_STREAM_DATA 2 1600
        -- ask
        << nothing
        -- lost
        -- ask
        << MAX_STREAM_DATA 2 1600
    """,
    "its reset that arrived, or was lost": """
        -- write 3 0..1
        -- reset 3 1
        -- ask
        << RESET 3 1 0
        -- ask
        << nothing
        -- lost
        -- ask
        << RESET 3 1 0
        -- ask
        << nothing
        -- acked
        -- ask
        << nothing
        -- show 3
        == 3: sent; 0 of 0 waiting
    """,
    "its end that arrived": """
        -- write 3 0..1 end
        -- ask
        << STREAM 3 0..1 end
        -- ask
        << nothing
        -- acked
        -- ask
        << nothing
        -- show 3
        == 3: sent; 0 of 0 waiting
    """,
    "what was lost": """
        -- write 3 0..1
        -- ask
        << STREAM 3 0..1
        -- ask
        << nothing
        -- lost
        -- ask
        << STREAM 3 0..1
    """,
}


@pytest.mark.parametrize("script", QUIET.values(), ids=QUIET)
def test_a_stream_of_which_nothing_was_to_be_said_is_looked_at_again_when_something_happens(
    script: str,
) -> None:
    talk = _server()
    hold(talk, script)
    hold(talk, "-- ask\n<< nothing")
    assert talk.streams.table.queue == {}


@pytest.mark.parametrize("kind", range(0x08, 0x10))
def test_a_stream_frame_says_its_offset_and_its_length_and_the_end_or_not(kind: int) -> None:
    """RFC 9000 section 19.8: the three low bits of its type."""
    for before in (0, 1):
        start, size = (5 if kind & 4 else 0), 20
        talk = _server()
        talk.came[2] = 0
        if start:
            hold(talk, ">> STREAM 2 0..5\n== data 2 0..5")
        if before and not start:
            hold(talk, ">> STREAM 2 0..0")
        plain = b"".join(
            (
                bytes((kind, 2)),
                bytes((start,)) if kind & 4 else b"",
                bytes((size,)) if kind & 2 else b"",
                content(start, start + size),
            )
        )
        if kind & 2:
            for cut in (plain[:-1], plain[:2]):
                with pytest.raises(IndexError):
                    talk.hear_bytes(cut, len(cut))
        talk.hear_bytes(plain + b"\x01" * bool(before and kind & 2), len(plain))
        assert talk.said == [f"== data 2 {start}..{start + size}" + " end" * (kind & 1)]


@pytest.mark.parametrize("script", GIVEN_UP.values(), ids=GIVEN_UP)
def test_what_is_given_up_is_said_until_that_arrives(script: str) -> None:
    hold(_server(), script)


WINDOWS = {
    "a stream's opens once half of it was consumed": """
        >> STREAM 2 0..499
        == data 2 0..499
        -- ask
        << nothing
        >> STREAM 2 499..500
        == data 2 499..500
        -- ask
        << MAX_STREAM_DATA 2 1500
        -- ask
        << nothing
        >> STREAM 2 500..1500
        == data 2 500..1500
    """,
    "it opens by what was consumed": """
        >> STREAM 2 0..700
        == data 2 0..700
        -- hold 2 300
        -- ask
        << nothing
        -- release 2 99
        -- ask
        << nothing
        -- release 2 1
        -- ask
        << MAX_STREAM_DATA 2 1500
        -- release 2 100
        -- release 2 100
        -- ask
        << nothing
    """,
    "what came behind a gap is not consumed": """
        >> STREAM 2 1..800
        -- ask
        << nothing
        >> STREAM 2 0..1
        == data 2 0..800
        -- ask
        << MAX_STREAM_DATA 2 1800
    """,
    "a lost one is said again, as it is now": """
        >> STREAM 2 0..600
        == data 2 0..600
        -- ask
        << MAX_STREAM_DATA 2 1600
        -- lost
        -- ask
        << MAX_STREAM_DATA 2 1600
        >> STREAM 2 600..1200
        == data 2 600..1200
        -- lost
        -- ask
        << MAX_STREAM_DATA 2 2200
        -- acked
        -- ask
        << nothing
    """,
    "a lost one is said again as it was while less than half was consumed since": """
        >> STREAM 2 0..600
        == data 2 0..600
        -- ask
        << MAX_STREAM_DATA 2 1600
        >> STREAM 2 600..1000
        == data 2 600..1000
        -- lost
        -- ask
        << MAX_STREAM_DATA 2 1600
    """,
    "one that waits for half of it to be consumed is not due": """
        >> STREAM 2 0..900
        == data 2 0..900
        -- hold 2 401
        -- ask
        << nothing
    """,
    "that of all waits while half of it is left, whatever else is said": """
        >> STREAM 2 0..1000 end
        == data 2 0..1000 end
        >> STREAM 6 0..499
        == data 6 0..499
        >> STREAM 10 0..1
        == data 10 0..1
        -- stop 10 0
        -- ask
        << STOP 10 0
        >> STREAM 10 1..2
        == data 10 1..2
        -- stop 10 0
        -- ask 61
        << MAX_DATA 4501
        -- ask 61
        << STOP 10 0
    """,
    "what came behind a gap further on is not consumed": """
        >> STREAM 2 0..1000 end
        == data 2 0..1000 end
        >> STREAM 6 0..100
        == data 6 0..100
        >> STREAM 6 200..700
        -- ask
        << MAX_DATA 4100
    """,
    "a lost one of a stream that ended is not": """
        >> STREAM 0 0..600
        == data 0 0..600
        -- ask
        << MAX_STREAM_DATA 0 1600
        >> STREAM 0 600..700 end
        == data 0 600..700 end
        -- lost
        -- ask
        << nothing
    """,
    "none opens for a stream that ended": """
        >> STREAM 2 0..900 end
        == data 2 0..900 end
        -- ask
        << nothing
        >> STREAM 6 0..900
        == data 6 0..900
        >> RESET 6 0 900
        == reset 6 0
        -- ask
        << MAX_DATA 4800
    """,
    "that of all opens while less than half of it is left": """
        >> STREAM 2 0..1000 end
        == data 2 0..1000 end
        >> STREAM 6 0..500 end
        == data 6 0..500 end
        -- ask
        << nothing
        >> STREAM 10 0..1 end
        == data 10 0..1 end
        -- ask
        << MAX_DATA 4501
        -- ask
        << nothing
        -- lost
        -- ask
        << MAX_DATA 4501
        -- acked
        -- ask
        << nothing
    """,
    "that of all opens by what was consumed in order": """
        >> STREAM 2 0..1000
        == data 2 0..1000
        -- hold 2 1000
        >> STREAM 6 100..900
        >> STREAM 10 0..1
        == data 10 0..1
        -- ask
        << MAX_DATA 3001
        >> STREAM 6 0..100
        == data 6 0..900
        -- ask
        << MAX_DATA 3901
        << MAX_STREAM_DATA 6 1900
    """,
    "that of all does not wait for what was reset": """
        >> STREAM 2 999..1000
        >> RESET 2 0 1000
        == reset 2 0
        >> STREAM 6 0..501
        == data 6 0..501
        -- ask
        << MAX_DATA 4501
        << MAX_STREAM_DATA 6 1501
    """,
    "that of all never shrinks": """
        >> STREAM 2 0..1000
        == data 2 0..1000
        -- hold 2 1000
        >> STREAM 6 1..1000
        -- ask
        << nothing although there is
        >> STREAM 6 0..1
        == data 6 0..1000
        -- ask
        << MAX_DATA 4000
        << MAX_STREAM_DATA 6 2000
    """,
}


@pytest.mark.parametrize("script", WINDOWS.values(), ids=WINDOWS)
def test_windows_open_as_the_application_consumes(script: str) -> None:
    hold(_server(), script)


def _over(talk: StreamsTalk, first: int, count: int, *, step: int = 4) -> None:
    """So many one-way streams of the peer come and end."""
    for number in range(first, first + step * count, step):
        hold(
            talk,
            f"""
            >> STREAM {number} 0..0 end
            == data {number} 0..0 end
            """,
        )


def test_streams_that_are_over_let_the_peer_open_as_many_before_it_has_to_wait() -> None:
    """It is told when what it may still open is less than what is to be added."""
    talk, half = _server(), MOST // 2
    _over(talk, 2, half)
    hold(talk, "-- ask\n<< nothing")
    hold(talk, f"-- show {2 + 4 * half}\n== {2 + 4 * half}: may write sent; 0 of 0 waiting")
    _over(talk, 2 + 4 * half, 1)
    hold(talk, f"-- ask\n<< MAX_STREAMS_UNI {MOST + half + 1}\n-- ask\n<< nothing")
    hold(talk, f"-- lost\n-- ask\n<< MAX_STREAMS_UNI {MOST + half + 1}\n-- acked\n-- ask\n<< nothing")
    last = 4 * (MOST + half) + 2
    hold(talk, f">> STREAM {last} 0..1\n== data {last} 0..1")
    hold(
        talk,
        f"""
        >> STREAM {last + 4} 0..1
        !! STREAM_LIMIT_ERROR of STREAM: Too many streams open
        """,
    )


def test_two_way_streams_are_counted_alone() -> None:
    talk, half = _server(), MOST // 2
    for number in range(0, 4 * half, 4):
        hold(
            talk,
            f"""
            >> RESET {number} 0 0
            == reset {number} 0
            -- reset {number} 0
            -- ask
            << RESET {number} 0 0
            -- acked
            """,
        )
    hold(talk, "-- ask\n<< nothing")
    number = 4 * half
    hold(talk, f">> STREAM {number} 0..1\n== data {number} 0..1\n-- ask\n<< MAX_STREAMS_BIDI {MOST + half}")


BLOCKED = {
    "it is said once where the peer lets us open no more": """
        -- peer 1000 1 1 1000
        -- next
        == next 1 3 may
        -- write 3 0..1
        -- write 1 0..1
        -- next
        == next 5 7
        -- write 7 0..1
        -- ask
        << STREAMS_BLOCKED_UNI 1
        << STREAM 3 0..1
        << STREAM 1 0..1
        -- ask
        << nothing
        -- write 5 0..1
        -- ask
        << STREAMS_BLOCKED_BIDI 1
        << STREAMS_BLOCKED_UNI 1
        >> MAX_STREAMS_UNI 2
        >> MAX_STREAMS_BIDI 1
        -- ask
        << STREAM 7 0..1
        >> MAX_STREAMS_BIDI 2
        >> MAX_STREAMS_BIDI 1
        -- ask
        << STREAM 5 0..1
    """,
    "it is not said once the peer has let us": """
        -- peer 1000 0 0 1000
        -- write 3 0..1
        -- write 1 0..1
        >> MAX_STREAMS_UNI 1
        -- ask
        << STREAMS_BLOCKED_BIDI 0
        << STREAM 3 0..1
        -- write 7 0..1
        >> MAX_STREAMS_UNI 3
        >> MAX_STREAMS_BIDI 1
        -- ask
        << STREAM 1 0..1
        << STREAM 7 0..1
        -- next
        == next 5 11 may
    """,
    "the peer's limits come after streams were begun": """
        -- write 3 0..100
        -- write 1 0..100
        >> STREAM 0 0..1
        == data 0 0..1
        -- write 0 0..100
        -- peer 1000 1 1 20
        -- ask
        << STREAM 3 0..20
        << STREAM 1 0..20
        << STREAM 0 0..20
        -- peer 1000 1 1 10
        >> MAX_STREAM_DATA 1 30
        -- ask
        << STREAM 1 20..30
    """,
    "what the peer says it waits for opens its stream, and nothing else": """
        >> STREAM_DATA_BLOCKED 6 1000
        >> DATA_BLOCKED 1
        >> STREAMS_BLOCKED_BIDI 1
        >> STREAMS_BLOCKED_UNI 1
        -- show 2
        == 2: open sent; 0 of 0 waiting
        -- show 10
        == 10: may write sent; 0 of 0 waiting
        -- ask
        << nothing
    """,
    "the streams that we open come in order, or leave out some": """
        -- peer 1000 9 9 1000
        -- write 11 0..1
        -- next
        == next 1 15 may
        -- write 3 0..1
        !! ValueError
        -- write 5 0..1
        -- next
        == next 9 15 may
        -- write 1 0..1
        !! ValueError
    """,
}


@pytest.mark.parametrize("script", BLOCKED.values(), ids=BLOCKED)
def test_no_more_streams_are_opened_than_the_peer_lets_us(script: str) -> None:
    hold(streams_talk(), script)


def test_a_client_opens_the_even_ones() -> None:
    hold(
        streams_talk(is_client=True),
        """
        -- peer 1000 1 1 1000
        -- next
        == next 0 2 may
        -- write 0 0..10 end
        -- write 2 0..10 end
        -- write 4 0..10
        -- ask
        << STREAMS_BLOCKED_BIDI 1
        << STREAM 0 0..10 end
        << STREAM 2 0..10 end
        >> STREAM 0 0..10 end
        == data 0 0..10 end
        >> STREAM 3 0..10
        == data 3 0..10
        >> STREAM 1 0..10
        == data 1 0..10
        -- write 1 0..5
        -- ask
        << STREAM 1 0..5
        >> STREAM 2 0..1
        !! STREAM_STATE_ERROR of STREAM: Stream is send-only
        >> STOP 3 1
        !! STREAM_STATE_ERROR of STOP: Stream is receive-only
        >> STREAM 8 0..1
        !! STREAM_STATE_ERROR of STREAM: Wrong stream initiator
        -- acked
        -- ask
        << nothing
        -- next
        == next 8 6
        """,
    )


def test_what_ends_a_stream_of_ours_lets_the_peer_open_none() -> None:
    talk = _server()
    for number in range(3, 3 + 4 * 9, 4):
        hold(talk, f"-- write {number} 0..0 end\n-- ask\n<< STREAM {number} 0..0 end\n-- acked")
    hold(talk, "-- ask\n<< nothing")
    assert talk.streams.by_number == {}
    assert talk.streams.table.theirs_uni.value == talk.streams.table.theirs_bidi.value == MOST


def test_what_was_never_sent_is_bulk_from_the_bound_on() -> None:
    talk = streams_talk()
    most = limits.QUIC_BULK_BYTES_MIN
    hold(talk, "-- peer 100000 10 10 50000")
    hold(talk, f"-- write 3 0..{most - 1}")
    assert not talk.streams.outgoing.has_bulk()
    hold(talk, "-- write 7 0..1")
    assert talk.streams.outgoing.has_bulk()
    hold(talk, "-- reset 7 0")
    assert not talk.streams.outgoing.has_bulk()
    hold(talk, f"-- write 3 {most - 1}..{most}")
    assert talk.streams.outgoing.has_bulk()
    hold(talk, "-- ask 64\n<< RESET 7 0 0\n<< STREAM 3 0..55")
    assert not talk.streams.outgoing.has_bulk()


def test_whoever_lets_go_of_the_streams_is_told_nothing_any_more() -> None:
    talk = _server()
    hold(talk, ">> STREAM 2 5..10\n-- write 3 0..10")
    table = talk.streams.table
    talk.streams.let_go()
    assert (table.by_number, table.queue, table.gappy) == ({}, {}, {})
    hold(talk, ">> STREAM 6 0..10\n-- ask\n<< nothing")


def test_what_the_application_holds_is_counted_by_stream_and_in_all() -> None:
    talk = _server()
    assert talk.streams.held_bytes == 0
    hold(talk, "-- hold 2 300\n-- hold 6 50\n-- hold 2 10\n-- release 2 300")
    assert talk.streams.held_bytes == 60
    hold(talk, "-- release 6 50\n-- release 2 10")
    assert talk.streams.held_bytes == 0
    hold(
        talk,
        """
        >> STREAM 2 0..500
        == data 2 0..500
        -- ask
        << MAX_STREAM_DATA 2 1500
        """,
    )
