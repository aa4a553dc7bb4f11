"""Length-prefixed messages, control messages and names."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadName, MalformedMessage, TooLarge
from gateway.limits import CONTROL_MESSAGE_BYTES_MAX
from gateway.wire import (
    MessageStream,
    decode_control,
    decode_message,
    encode_control,
    is_world_name,
    prefix,
    world_name,
)
from gateway.wire.control import encode_durable
from tests.held import longest

bodies = st.lists(st.binary(min_size=1, max_size=50), max_size=10)


@given(bodies, st.data())
def test_messages_come_out_whole_however_the_stream_is_cut(
    messages: list[bytes], data: st.DataObject
) -> None:
    wire = b"".join(map(prefix, messages))
    stream, found = MessageStream(), []
    while wire:
        cut = data.draw(st.integers(1, len(wire)))
        stream.feed(wire[:cut])
        found += list(stream)
        wire = wire[cut:]
    stream.finish()
    assert found == messages


@given(bodies)
def test_messages_come_out_one_byte_at_a_time(messages: list[bytes]) -> None:
    stream, found = MessageStream(), []
    for byte in b"".join(map(prefix, messages)):
        stream.feed(bytes([byte]))
        found += list(stream)
    assert found == messages
    assert stream.buffered_bytes == 0


@given(bodies, st.binary(min_size=1, max_size=3))
def test_garbage_behind_the_last_message_is_an_unfinished_message(messages: list[bytes], tail: bytes) -> None:
    stream = MessageStream()
    stream.feed(b"".join(map(prefix, messages)) + tail)
    assert list(stream) == messages
    with pytest.raises(MalformedMessage, match=f"{len(tail)} bytes"):
        stream.finish()


def test_a_length_over_the_bound_is_refused_before_its_bytes_come() -> None:
    stream = MessageStream(100)
    stream.feed((101).to_bytes(4, "little"))
    with pytest.raises(TooLarge, match="101 bytes"):
        stream.pull()


@pytest.mark.parametrize(
    ("bound", "way_out"), [("--message-bytes-max", ", or raise --message-bytes-max"), ("control message", "")]
)
def test_a_length_over_the_bound_is_refused_with_the_way_out_that_there_is(bound: str, way_out: str) -> None:
    stream = MessageStream(100, bound)
    stream.feed(prefix(bytes(101)))
    with pytest.raises(TooLarge) as refused:
        stream.pull()
    assert refused.value.message.endswith(f"(whole records, parts counted){way_out}")


def test_a_message_of_exactly_the_bound_is_taken() -> None:
    stream = MessageStream(100)
    stream.feed(prefix(bytes(100)) + prefix(b"x"))
    assert list(stream) == [bytes(100), b"x"]


def test_a_control_message_of_exactly_the_bound_is_taken_and_one_byte_more_is_refused() -> None:
    empty = len(encode_control("x", fill=""))
    message = encode_control("x", fill="." * (CONTROL_MESSAGE_BYTES_MAX - empty))
    assert len(message) == CONTROL_MESSAGE_BYTES_MAX
    assert decode_control(message).type == "x"
    with pytest.raises(MalformedMessage, match=f"{CONTROL_MESSAGE_BYTES_MAX + 1} bytes") as refused:
        decode_control(encode_control("x", fill="." * (CONTROL_MESSAGE_BYTES_MAX - empty + 1)))
    assert refused.value.facts["limit"] == CONTROL_MESSAGE_BYTES_MAX


def test_a_message_of_no_bytes_is_refused() -> None:
    stream = MessageStream()
    stream.feed(bytes(4))
    with pytest.raises(MalformedMessage, match="length 0"):
        stream.pull()


def test_a_long_stream_keeps_no_more_than_what_is_not_whole() -> None:
    stream = MessageStream()
    for _ in range(1_000):
        stream.feed(prefix(bytes(1_000)) + b"\x05")
        stream.feed(b"\0\0\0hello")
        assert len(list(stream)) == 2
    assert longest(stream) < 100_000


def test_a_stream_that_was_given_up_holds_nothing_and_what_is_fed_after_is_read_from_its_beginning() -> None:
    stream = MessageStream()
    stream.feed(prefix(b"read") + prefix(b"not read")[:-1])
    assert list(stream) == [b"read"]
    stream.clear()
    assert stream.buffered_bytes == 0
    stream.finish()
    stream.feed(prefix(b"next"))
    assert list(stream) == [b"next"]


def test_a_control_message_is_its_type_byte_and_a_json_object() -> None:
    message = encode_control("bye", reason="überlastet", reconnect_after_ms=5)
    assert message[0] == 16
    assert json.loads(message[1:]) == {"type": "bye", "reason": "überlastet", "reconnect_after_ms": 5}
    control = decode_message(message)
    assert control == decode_control(message)
    assert control["reason"] == "überlastet"  # type: ignore[index]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "JSON"),
        (b"[]", "object"),
        (b"{}", '"type"'),
        (b'{"type":1}', '"type"'),
        (b'{"type":"x"', "JSON"),
        (b'{"type":"x"} x', "JSON"),
        (b"\xff", "JSON"),
        (b'{"type":"x","v":NaN}', "NaN"),
        (b"[" * 60_000, "JSON"),
        (b'{"type":"x","v":' + b"9" * 10_000 + b"}", "JSON"),
        (b'{"type":"' + b"x" * CONTROL_MESSAGE_BYTES_MAX, "bound"),
    ],
)
def test_malformed_control_messages_are_refused(body: bytes, says: str) -> None:
    with pytest.raises(MalformedMessage, match=says):
        decode_message(b"\x10" + body)


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), st.lists))
def test_control_fields_round_trip(value: object) -> None:
    assert decode_control(encode_control("any", value=value)).get("value") == value


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True))
def test_names_within_the_rule_are_taken(name: str) -> None:
    assert world_name(name) == name


@pytest.mark.parametrize("name", ["", ".x", "-x", "_x", "a" * 64, "a:b", "a/b", "ä", "a\n", "a b", "a\0"])
def test_names_outside_the_rule_are_refused(name: str) -> None:
    assert not is_world_name(name)
    with pytest.raises(BadName, match="choose another"):
        world_name(name)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_the_durable_message_is_what_any_control_message_would_be(epoch: int, tick: int) -> None:
    assert encode_durable(epoch, tick) == encode_control("durable", epoch=epoch, tick=tick)
