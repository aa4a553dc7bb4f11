"""RESET_STREAM_AT: what was promised to come comes, then the stream is reset; in any order, over any link."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from aioquic.buffer import encode_uint_var
from aioquic.quic import events
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import ExtensionType

from gateway.quic.connection import Connection
from gateway.quic.connection.frames import RESET_STREAM_AT
from gateway.quic.connection.handover import PARTIAL_RESETS
from gateway.quic.connection.seam import Handshake
from gateway.quic.connection.sending import packet_of
from tests.quic.conftest import Identity
from tests.quic.pair import Pair, inject, make_pair
from tests.quic.serving import open_session, serving, until

ENDS = [Connection]
PARAMETERS = ExtensionType.QUIC_TRANSPORT_PARAMETERS
DATA = random.Random(4).randbytes(3_000)
PIECE = 500


def _settled(identity: Identity, server: type) -> Pair:
    pair = make_pair(identity, client=Connection, server=server, delay_s=0.001)
    pair.connect()
    pair.run_for(1)
    return pair


def _reset(final: int, reliable: int, *, stream: int = 2, code: int = 7) -> bytes:
    return b"".join(map(encode_uint_var, (RESET_STREAM_AT, stream, code, final, reliable)))


def _piece(at: int, *, end: bool = False) -> bytes:
    data = DATA[at : at + PIECE]
    return b"".join(map(encode_uint_var, (0x0E | end, 2, at, len(data)))) + data


def _came(pair: Pair) -> tuple[bytes, list[int], bool]:
    """The stream's bytes, the errors that it was reset with, and whether it is said to have ended."""
    data, errors, ended = b"", [], False
    for event in pair.server.events:
        if isinstance(event, events.StreamDataReceived) and event.stream_id == 2:
            assert not errors, "nothing comes after a reset"
            data, ended = data + event.data, ended or event.end_stream
        elif isinstance(event, events.StreamReset) and event.stream_id == 2:
            errors.append(event.error_code)
    return data, errors, ended


@pytest.mark.parametrize("server", ENDS)
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("reliable", [0, 1, 700, 1_500, 3_000])
def test_the_reliable_bytes_come_and_then_the_reset_whatever_the_order(
    identity: Identity, server: type, seed: int, reliable: int
) -> None:
    pair = _settled(identity, server)
    rng = random.Random(seed)
    frames = [_piece(at) for at in range(0, 3_000, PIECE)] + [_reset(3_000, reliable)] * 2
    rng.shuffle(frames)
    for frame in frames:
        inject(pair, pair.client, frame)
    data, errors, ended = _came(pair)
    assert data == DATA[: len(data)]
    assert len(data) >= reliable
    assert errors == ([7] if not ended else [])
    assert pair.server.quic.streams.data.used == 3_000
    assert pair.server.quic.close_event is None
    pair.run_for(0.1)
    assert 2 not in pair.server.quic.streams.by_number, "it is over, and another may be opened"


@pytest.mark.parametrize("server", ENDS)
def test_a_reset_waits_for_what_it_promised_and_a_later_one_may_promise_less(
    identity: Identity, server: type
) -> None:
    pair = _settled(identity, server)
    inject(pair, pair.client, _piece(500))
    inject(pair, pair.client, _reset(3_000, 2_000))
    assert _came(pair) == (b"", [], False)
    inject(pair, pair.client, _reset(3_000, 2_500))
    inject(pair, pair.client, _piece(0))
    assert _came(pair) == (DATA[:1_000], [], False)
    inject(pair, pair.client, _reset(3_000, 900))
    assert _came(pair) == (DATA[:1_000], [7], False)


@pytest.mark.parametrize("server", ENDS)
def test_a_plain_reset_ends_what_still_waits(identity: Identity, server: type) -> None:
    pair = _settled(identity, server)
    inject(pair, pair.client, _reset(3_000, 2_000))
    inject(pair, pair.client, b"\x04\x02\x07" + encode_uint_var(3_000))
    assert _came(pair) == (b"", [7], False)


BROKEN = {
    "more reliable than final": ([_reset(10, 11)], QuicErrorCode.FRAME_ENCODING_ERROR),
    "another final size": ([_reset(3_000, 10), _reset(2_000, 10)], QuicErrorCode.FINAL_SIZE_ERROR),
    "another error": ([_reset(3_000, 10), _reset(3_000, 10, code=8)], QuicErrorCode.STREAM_STATE_ERROR),
    "less than came": ([_piece(500), _reset(600, 0)], QuicErrorCode.FINAL_SIZE_ERROR),
    "data beyond": ([_reset(700, 600), _piece(500)], QuicErrorCode.FINAL_SIZE_ERROR),
    "an end elsewhere": ([_reset(3_000, 600), _piece(500, end=True)], QuicErrorCode.FINAL_SIZE_ERROR),
    "beyond the window": ([_reset(1 << 40, 0)], QuicErrorCode.FLOW_CONTROL_ERROR),
    "of the receiver's own stream": ([_reset(0, 0, stream=3)], QuicErrorCode.STREAM_STATE_ERROR),
    "of a stream beyond the limit": ([_reset(0, 0, stream=4_002)], QuicErrorCode.STREAM_LIMIT_ERROR),
    "cut short": ([b"\x24\x02\x07"], QuicErrorCode.FRAME_ENCODING_ERROR),
}


@pytest.mark.parametrize(("server", "name"), list(itertools.product(ENDS, BROKEN)))
def test_a_reset_that_makes_no_sense_ends_the_connection(identity: Identity, server: type, name: str) -> None:
    pair = _settled(identity, server)
    frames, code = BROKEN[name]
    for frame in frames:
        inject(pair, pair.client, frame)
    event = pair.server.quic.close_event
    assert event is not None
    assert event.error_code == code


@pytest.mark.parametrize("server", ENDS)
def test_a_reset_of_a_stream_that_is_over_changes_nothing(identity: Identity, server: type) -> None:
    pair = _settled(identity, server)
    for at in range(0, 3_000, PIECE):
        inject(pair, pair.client, _piece(at, end=at == 3_000 - PIECE))
    inject(pair, pair.client, _reset(3_000, 100))
    pair.run_for(0.1)
    inject(pair, pair.client, _reset(3_000, 50))
    assert _came(pair) == (DATA, [], True)
    assert pair.server.quic.close_event is None


def test_both_ends_say_that_they_understand_it(identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []
    read = Handshake.peer_parameters

    def hear(handshake: Any) -> Any:
        heard.extend(data for kind, data in handshake.tls.received_extensions if kind == PARAMETERS)
        return read(handshake)

    monkeypatch.setattr(Handshake, "peer_parameters", hear)
    pair = make_pair(identity)
    pair.connect()
    assert len(heard) >= 2
    for data in heard:
        for number in PARTIAL_RESETS:
            assert encode_uint_var(number) + b"\0" in data


async def test_a_sessions_stream_that_is_given_up_but_for_its_head_is_told_of(identity: Identity) -> None:
    async with serving(identity) as served, await served.connect() as client:
        link, _ = await open_session(client)
        quic: Any = client.peer.quic
        far = served.doors.sessions[0]
        stream = quic.get_next_available_stream_id(is_unidirectional=True)
        head = b"\x40\x54" + encode_uint_var(link.session_id) + b"abc"
        await client.ping()
        for frame in (
            _reset(5_000, len(head), stream=stream),
            b"".join(map(encode_uint_var, (0x0A, stream, len(head)))) + head,
        ):
            client.endpoint.udp.send([(packet_of(quic, frame), quic.address)])
        await until(lambda: far.resets == [stream])
        assert far.streams == {stream: b"abc"}
        assert far.closed == 0
