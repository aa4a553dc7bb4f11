"""A peer's streams as messages: whole ones at once, and no more of unfinished ones than the bounds say."""

from __future__ import annotations

import pytest

from gateway.core.inbox import Inbox
from gateway.errors import MalformedMessage, TooLarge
from gateway.limits import SESSION_STREAM_BYTES_MAX, SESSION_STREAMS_MAX
from gateway.wire import prefix

HALF = prefix(b"whole")[:-1]


def inbox(message_bytes_max: int = 1 << 20) -> Inbox:
    return Inbox(message_bytes_max)


def test_messages_come_out_whole_and_in_the_order_of_their_stream() -> None:
    box, data = inbox(), prefix(b"one") + prefix(b"two")
    assert list(box.feed(3, data[:5], False)) == []
    assert box.buffered_bytes == 5
    assert list(box.feed(7, prefix(b"other"), True)) == [b"other"]
    assert list(box.feed(3, data[5:], True)) == [b"one", b"two"]
    assert box.buffered_bytes == 0


def test_so_many_streams_may_be_inside_a_message_and_one_more_is_refused_by_name() -> None:
    box = inbox()
    for stream in range(SESSION_STREAMS_MAX):
        assert list(box.feed(stream, HALF[:-1], False)) == []
    assert list(box.feed(0, HALF[-1:], False)) == []  # one that is inside a message takes no further place
    with pytest.raises(
        TooLarge, match=f"^{SESSION_STREAMS_MAX + 1} streams .* {SESSION_STREAMS_MAX};"
    ) as refused:
        list(box.feed(SESSION_STREAMS_MAX, HALF, False))
    assert (refused.value.facts["bound"], refused.value.facts["limit"]) == (
        "session streams",
        SESSION_STREAMS_MAX,
    )


def test_so_many_bytes_may_wait_in_unfinished_messages_and_one_more_is_refused_by_name() -> None:
    box = Inbox(SESSION_STREAM_BYTES_MAX + 100)
    began = prefix(bytes(SESSION_STREAM_BYTES_MAX + 50))
    assert list(box.feed(1, began[: SESSION_STREAM_BYTES_MAX - 1], False)) == []
    assert list(box.feed(2, b"\x05", False)) == []
    assert box.buffered_bytes == SESSION_STREAM_BYTES_MAX
    with pytest.raises(TooLarge, match=f"hold {SESSION_STREAM_BYTES_MAX + 1} bytes") as refused:
        list(box.feed(2, b"\x00", False))
    assert (refused.value.facts["bound"], refused.value.facts["limit"]) == (
        "session stream bytes",
        SESSION_STREAM_BYTES_MAX,
    )


def test_a_stream_that_was_reset_leaves_nothing_and_one_that_ends_inside_a_message_is_malformed() -> None:
    box = inbox()
    list(box.feed(1, HALF, False))
    box.reset(1)
    box.reset(1)  # nothing is left to give up
    assert box.buffered_bytes == 0
    assert list(box.feed(1, prefix(b"new"), False)) == [b"new"]
    with pytest.raises(MalformedMessage):
        list(box.feed(1, HALF, True))
    list(box.feed(2, HALF, False))
    box.clear()
    assert box.buffered_bytes == 0
