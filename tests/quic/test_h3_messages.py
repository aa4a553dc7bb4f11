"""HTTP/3's own readers, without a connection: messages, one-way streams, field sections, however their bytes are cut."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pylsqpack
import pytest
from aioquic.buffer import encode_uint_var
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import limits
from gateway.quic.connection.packets import varint
from gateway.quic.h3 import codes
from gateway.quic.h3.codes import ErrorCode, H3Error, MessageError
from gateway.quic.h3.fields import check_request, check_response, check_trailers
from gateway.quic.h3.http3 import frame
from gateway.quic.h3.messages import ExchangeStream
from gateway.quic.h3.oneway import OneWayStreams
from gateway.quic.h3.told import DataReceived, HeadersReceived, WebTransportStreamDataReceived
from tests.held import count, longest

Fields = list[tuple[bytes, bytes]]
GET: Fields = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"localhost"),
    (b":path", b"/"),
]
OK: Fields = [(b":status", b"200")]
MANY = settings(max_examples=200, deadline=None, derandomize=True)


def section(fields: Fields) -> bytes:
    return bytes(pylsqpack.Encoder().encode(0, fields)[1])


def head(fields: Fields) -> bytes:
    return frame(codes.HEADERS, section(fields))


def decode(number: int, content: bytes) -> Fields:
    try:
        headers: Fields = pylsqpack.Decoder(0, 0).feed_header(number, content)[1]
    except (pylsqpack.DecompressionFailed, pylsqpack.StreamBlocked):
        raise H3Error(ErrorCode.QPACK_DECOMPRESSION_FAILED, "broken") from None
    return headers


def cut(content: bytes, at: Iterable[int]) -> list[bytes]:
    """The bytes in pieces that end at these places."""
    ends = sorted({min(place, len(content)) for place in at} | {0, len(content)})
    return [content[start:stop] for start, stop in itertools.pairwise(ends)] or [b""]


def read(stream: ExchangeStream, pieces: list[bytes], *, ended: bool = True) -> list[Any]:
    """What is told of it, content and streams' bytes joined; the last is the code of the error, if it ended by one."""
    told: list[Any] = []
    for n, piece in enumerate(pieces):
        try:
            events = stream.receive(piece, ended and n == len(pieces) - 1, decode)
        except H3Error as error:
            return [*told, error.code]
        for event in events:
            last = told[-1] if told else None
            if type(last) is type(event) and not isinstance(event, HeadersReceived):
                last.data += event.data
                last.stream_ended = event.stream_ended
            else:
                told.append(event)
    return told


def response(*parts: bytes, bodiless: bool = False) -> list[Any]:
    stream = ExchangeStream(0, is_client=True)
    stream.is_bodiless = bodiless
    return read(stream, [b"".join(parts)])


# -- messages -------------------------------------------------------------------------------

PARTS = st.sampled_from(
    [
        head(GET),
        head([*GET, (b"content-length", b"3")]),
        head([(b"x-trailer", b"1")]),
        head([(b":path", b"/")]),
        frame(codes.DATA, b"abc"),
        frame(codes.DATA, b""),
        frame(codes.DATA, bytes(300)),
        frame(0x21, bytes(70)),
        frame(0x21, b""),
        frame(codes.SETTINGS, b""),
        frame(codes.PUSH_PROMISE, b"\0"),
        b"\x40\x41\x04stream",
        b"\x01\x20\x00",
    ]
)


@MANY
@given(st.lists(PARTS, max_size=6), st.booleans(), st.booleans(), st.lists(st.integers(0, 900), max_size=40))
def test_a_message_is_the_same_however_its_bytes_are_cut(
    parts: list[bytes], client: bool, ended: bool, places: list[int]
) -> None:
    content = b"".join(parts)
    whole = read(ExchangeStream(0, is_client=client), [content], ended=ended)
    in_pieces = read(ExchangeStream(0, is_client=client), cut(content, places), ended=ended)
    byte_by_byte = read(ExchangeStream(0, is_client=client), cut(content, range(len(content))), ended=ended)
    if not whole or not isinstance(whole[-1], ErrorCode):
        assert whole == in_pieces == byte_by_byte
    else:
        assert in_pieces[-1] == byte_by_byte[-1] == whole[-1], "the same rule, whatever was told before it"


def _broken(base: bytes, seed: int) -> bytes:
    rng = random.Random(seed)
    content = bytearray(base)
    for _ in range(rng.randrange(1, 6)):
        if content and rng.random() < 0.7:
            content[rng.randrange(len(content))] = rng.randrange(256)
        else:
            content[rng.randrange(len(content) + 1) : 0] = rng.randbytes(rng.randrange(9))
    return bytes(content)


@pytest.mark.parametrize("is_client", [True, False])
def test_broken_bytes_break_a_rule_and_nothing_else_and_what_is_held_is_bounded(is_client: bool) -> None:
    base = (
        head(OK if is_client else GET)
        + frame(codes.DATA, bytes(40))
        + frame(0x21, b"xy")
        + head([(b"x", b"y")])
    )
    for seed in range(3_000):
        stream = ExchangeStream(0, is_client=is_client)
        content = _broken(base, seed)
        with suppress(H3Error):
            for piece in cut(content, random.Random(seed).sample(range(200), 5)):
                stream.receive(piece, False, decode)
                assert longest(stream) <= limits.H3_HEADER_BYTES_MAX + 16
            stream.receive(b"", True, decode)


def test_a_field_section_beyond_the_bound_is_refused_before_it_has_come() -> None:
    stream = ExchangeStream(0, is_client=False)
    size = encode_uint_var(limits.H3_HEADER_BYTES_MAX + 1)
    with pytest.raises(MessageError, match="at most"):
        stream.receive(b"\x01" + size, False, decode)


def test_frames_that_mean_nothing_are_thrown_away_as_they_come() -> None:
    stream = ExchangeStream(0, is_client=False)
    stream.receive(head(GET) + b"\x21" + encode_uint_var(1 << 40), False, decode)
    for _ in range(100):
        assert stream.receive(bytes(10_000), False, decode) == []
        assert longest(stream) < 100


def test_interim_responses_come_before_the_response() -> None:
    told = response(head([(b":status", b"103")]), head(OK), frame(codes.DATA, b"hello"))
    assert [event.headers[0][1] for event in told[:2]] == [b"103", b"200"]
    assert told[2] == DataReceived(b"hello", 0, True)


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [head([(b":status", b"103")])],
        [frame(0x21, b"x")],
        [head([(b":status", b"101")])],
        [head([(b":status", b"20")])],
        [head([(b"x", b"y")])],
        [head([*OK, (b"te", b"trailers")])],
        [head([*OK, (b"content-length", b"4")]), frame(codes.DATA, b"abc")],
        [head([*OK, (b"content-length", b"4"), (b"content-length", b"5")]), frame(codes.DATA, b"abcd")],
        [head([*OK, (b"content-length", b"+4")]), frame(codes.DATA, b"abcd")],
    ],
)
def test_a_response_that_is_not_sound_ends_its_stream_alone(parts: list[bytes]) -> None:
    assert response(*parts)[-1] is ErrorCode.H3_MESSAGE_ERROR


@pytest.mark.parametrize("fields", [[(b":status", b"304")], [(b":status", b"204")], OK])
def test_a_response_that_has_no_content_may_name_its_length(fields: Fields) -> None:
    told = response(head([*fields, (b"content-length", b"4")]), bodiless=fields is OK)
    assert told[0].stream_ended


@pytest.mark.parametrize(
    ("number", "content", "code"),
    [
        (0, frame(codes.PUSH_PROMISE, b"\0" + section(GET)), ErrorCode.H3_ID_ERROR),
        (0, b"\x40\x41\x00x", ErrorCode.H3_FRAME_ERROR),
        (1, head(OK), ErrorCode.H3_STREAM_CREATION_ERROR),
    ],
)
def test_a_server_may_neither_push_nor_ask(number: int, content: bytes, code: ErrorCode) -> None:
    assert read(ExchangeStream(number, is_client=True), [content])[-1] is code


def test_a_server_may_open_a_two_way_stream_of_a_session() -> None:
    told = read(ExchangeStream(1, is_client=True), cut(b"\x40\x41\x04" + b"bytes", range(9)))
    assert told == [WebTransportStreamDataReceived(b"bytes", 1, True, 4)]


# -- field sections -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [b"", b"a b", b"a:b", b"A", b"a\x7f", b"a\x80", b"connection", b"upgrade", b":other"]
)
def test_a_name_that_no_field_has_is_refused_everywhere(name: bytes) -> None:
    for check in (check_request, check_response, check_trailers):
        with pytest.raises(MessageError):
            check([*(GET if check is check_request else OK if check is check_response else []), (name, b"x")])


@pytest.mark.parametrize("value", [b"a\0b", b"a\nb", b"a\r", b"\n", b" a", b"a ", b"\ta", b"a\t", b" "])
def test_a_value_that_no_field_has_is_refused_everywhere(value: bytes) -> None:
    for check in (check_request, check_response, check_trailers):
        with pytest.raises(MessageError):
            check(
                [*(GET if check is check_request else OK if check is check_response else []), (b"x", value)]
            )


def test_what_requests_may_say_is_taken() -> None:
    sound: Fields = [(b"te", b"Trailers"), (b"x-a!#$%&'*+.^_`|~9", b"\x80 in \t between"), (b"cookie", b"")]
    assert check_request([*GET, *sound, (b"content-length", b"12")]) == 12
    assert check_request([(b":method", b"CONNECT"), (b":authority", b"a:1")]) is None
    with pytest.raises(MessageError):
        check_request([*GET, (b"te", b"gzip")])


# -- one-way streams ------------------------------------------------------------------------


def one_way(is_client: bool = False) -> OneWayStreams:
    encoder = pylsqpack.Encoder()
    encoder.apply_settings(max_table_capacity=0, blocked_streams=0)
    return OneWayStreams(is_client, encoder, pylsqpack.Decoder(0, 0))


def feed(streams: OneWayStreams, number: int, pieces: list[bytes], *, ended: bool = False) -> list[Any]:
    told: list[Any] = []
    for n, piece in enumerate(pieces):
        told += streams.receive(number, piece, ended and n == len(pieces) - 1)
    return told


SAID = encode_uint_var(0x33) + b"\x01" + encode_uint_var(0x2B603742) + b"\x01" + b"\x21\x05"


def test_settings_and_a_sessions_stream_are_the_same_byte_by_byte() -> None:
    streams = one_way()
    control = b"\0" + frame(codes.SETTINGS, SAID) + frame(0x21, bytes(99)) + frame(codes.MAX_PUSH_ID, b"\x03")
    feed(streams, 2, cut(control, range(len(control))))
    assert streams.control.settings == {0x33: 1, 0x2B603742: 1, 0x21: 5}
    told = feed(streams, 6, cut(b"\x40\x54\x04abc", range(9)), ended=True)
    assert b"".join(event.data for event in told) == b"abc"
    assert told[-1].stream_ended
    assert {event.session_id for event in told} == {4}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\x07\x01\x00", ErrorCode.H3_MISSING_SETTINGS),
        (b"\x21\x00", ErrorCode.H3_MISSING_SETTINGS),
        (frame(codes.SETTINGS, b"\x02\x00"), ErrorCode.H3_SETTINGS_ERROR),
        (frame(codes.SETTINGS, b"\x06\x01\x06\x01"), ErrorCode.H3_SETTINGS_ERROR),
        (frame(codes.SETTINGS, b"\x33\x02"), ErrorCode.H3_SETTINGS_ERROR),
        (frame(codes.SETTINGS, encode_uint_var(0x2B603742) + b"\x01"), ErrorCode.H3_SETTINGS_ERROR),
        (frame(codes.SETTINGS, b"\x33"), ErrorCode.H3_FRAME_ERROR),
    ],
)
def test_settings_that_may_not_be_end_the_connection(content: bytes, code: ErrorCode) -> None:
    with pytest.raises(H3Error) as caught:
        feed(one_way(), 2, [b"\0" + content])
    assert caught.value.code is code


def test_a_server_may_send_neither_a_push_stream_nor_max_push_id() -> None:
    with pytest.raises(H3Error) as caught:
        feed(one_way(is_client=True), 3, [b"\x01\x00"])
    assert caught.value.code is ErrorCode.H3_ID_ERROR
    with pytest.raises(H3Error) as caught:
        feed(one_way(is_client=True), 3, [b"\0\x04\0" + frame(codes.MAX_PUSH_ID, b"\x03")])
    assert caught.value.code is ErrorCode.H3_FRAME_UNEXPECTED


@MANY
@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=12), st.booleans())
def test_any_one_way_stream_is_read_or_breaks_a_rule(
    content: bytes, places: list[int], is_client: bool
) -> None:
    streams = one_way(is_client)
    before = count(streams)
    try:
        feed(streams, 2, cut(content, places), ended=True)
    except H3Error:
        return
    assert count(streams) == before, "nothing is held of a stream that has ended"


def test_streams_of_an_unknown_type_hold_nothing() -> None:
    streams = one_way()
    before = count(streams)
    for number in range(2, 2_000, 4):
        feed(streams, number, [encode_uint_var(0x21) + bytes(2_000)] * 3, ended=True)
    assert count(streams) == before


def test_variable_length_integers_are_read_as_they_are_written() -> None:
    for number in (0, 63, 64, 16_383, 16_384, (1 << 30) - 1, 1 << 30, (1 << 62) - 1):
        assert varint(encode_uint_var(number), 0) == (number, len(encode_uint_var(number)))
