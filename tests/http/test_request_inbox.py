"""A request's head is found in what has come, however it came in pieces, and refused as soon as it can be."""

from __future__ import annotations

import pytest

from gateway import limits
from gateway.http.tcp.heads import BadHead
from gateway.http.tcp.inbox import NotHttp, RequestInbox
from gateway.http.tcp.ordinary import Head, KnownHeads

ORDINARY = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
OTHER = b"GET /b HTTP/1.1\r\nHost: h\r\nUpgrade: x\r\n\r\n"


def heads_in(pieces: list[bytes]) -> list[bytes]:
    """All that are whole, as they came."""
    inbox, found = RequestInbox(KnownHeads()), []
    for piece in pieces:
        inbox.data += piece
        while inbox.has_begun() and (head := inbox.head()) is not None:
            found.append(head.data if isinstance(head, Head) else head)
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
def test_heads_are_the_same_in_pieces_of_any_size_with_empty_lines_before_and_something_behind(
    size: int,
) -> None:
    whole = b"\r\n\r\n" + ORDINARY + OTHER + b"\r\n" + ORDINARY + b"GET"
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    assert heads_in(pieces) == [ORDINARY, OTHER, ORDINARY]


def test_only_what_is_ordinary_is_read_here() -> None:
    inbox = RequestInbox(KnownHeads())
    inbox.data += ORDINARY + OTHER
    assert isinstance(inbox.head(), Head)
    assert inbox.head() == OTHER
    assert not inbox.has_begun()


@pytest.mark.parametrize(
    ("beginning", "status"),
    [
        (b"\x16\x03\x01", 400),
        (b"GET / HTTP/1.1\nHost", 400),
        (b"GET / HTTP/1.1\r\nA: b\r\n c", 400),
        (b"GET /" + b"a" * limits.HTTP_HEADER_BYTES_MAX, 431),
    ],
)
def test_what_will_be_no_head_is_refused_before_it_is_whole(beginning: bytes, status: int) -> None:
    with pytest.raises(BadHead) as refused:
        heads_in([beginning])
    assert refused.value.status == status


def test_a_head_may_be_as_long_as_the_bound() -> None:
    head = b"GET / HTTP/1.1\r\nA: "
    head += b"b" * (limits.HTTP_HEADER_BYTES_MAX - len(head) - 4) + b"\r\n\r\n"
    assert heads_in([head]) == [head]
    with pytest.raises(BadHead):
        heads_in([head.replace(b"A:", b"AA:")])


def test_a_first_line_without_a_version_is_no_http() -> None:
    with pytest.raises(NotHttp):
        heads_in([b"EHLO example.org\r\n\r\n"])
