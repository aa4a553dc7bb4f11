"""Requests read without h11 mean what h11 takes them for, are answered byte for byte the same, and all else is h11's."""

from __future__ import annotations

import asyncio
import random
import re
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from gateway import limits
from gateway.http.exchanges import BODY_IS_HERE
from gateway.http.tcp.framing import BadAnswer, ByH11
from gateway.http.tcp.heads import BadHead, Headers, check_lines
from gateway.http.tcp.http1 import Http1
from gateway.http.tcp.ordinary import KnownHeads, Ordinary, read_head
from gateway.http.tcp.service import TcpOptions, TcpService
from tests.held import count, longest
from tests.http.test_tcp_fuzz import said_to, talk

ROUNDS = 3_000

METHODS = [b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"get", b"CONNECT", b"G(T"]
TARGETS = [b"/", b"/a?b=c#d", b"/%41%zz", b"//x", b"http://h/a", b"*", b"/a b", b"/\x7f", b"/\xe9", b""]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"http/1.1", b"HTTP/1.10"]
FIELDS = [
    b"Host: h",
    b"host:h:1",
    b"HOST: ",
    b"X-A: b",
    b"X-A:  b\tc ",
    b"x: \x01",
    b"x: \x00",
    b"x: \x7f",
    b"x: \xe9\xff",
    b"x : y",
    b": y",
    b"noline",
    b" folded: x",
    b"Content-Length: 3",
    b"Content-Length: 3, 3",
    b"Content-Length: +3",
    b"Content-Length: 0x3",
    b"Content-Length: 3 ",
    b"Content-Length: 03",
    b"Content-Length: 99999999999999999999999",
    b"Content-Length:",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip",
    b"transfer-encoding : chunked",
    b"Connection: close",
    b"Connection: Keep-Alive",
    b"Connection: keep-alive, close",
    b"Expect: 100-continue",
    b"Upgrade: h2c",
    b"Upgrade: websocket",
    b"Connection: upgrade",
    b"Cookie: a=b",
    b"X\x0bY: z",
    b"X: a\x0bb",
]
ENDS = [b"\r\n"] * 20 + [b"\n", b"\r", b"\r\r\n"]
BODIES = [b"", b"abc", b"abcdef", b"3\r\nabc\r\n0\r\n\r\n", b"ab"]

ANSWERS: list[tuple[int, Headers, list[bytes]]] = [
    (200, [(b"content-length", b"4")], [b"done"]),
    (200, [(b"content-length", b"4")], [b"do", b"", b"ne"]),
    (200, [], [b"some", b"more"]),
    (200, [], [b""]),
    (204, [], [b""]),
    (204, [(b"content-length", b"0")], [b""]),
    (304, [(b"etag", b'"x"'), (b"content-length", b"9")], [b""]),
    (404, [(b"Content-Length", b"4"), (b"x-a", b"")], [b"none"]),
    (200, [(b"content-length", b"3")], [b"more than that"]),
    (200, [(b"content-length", b"30")], [b"less"]),
    (200, [(b"content-length", b"4"), (b"content-length", b"4")], [b"done"]),
    (200, [(b"content-length", b"4"), (b"content-length", b"5")], [b"done"]),
    (200, [(b"content-length", b"-4")], [b"done"]),
    (200, [(b"transfer-encoding", b"chunked")], [b"done"]),
    (200, [(b"transfer-encoding", b"chunked"), (b"content-length", b"4")], [b"done"]),
    (200, [(b"connection", b"close"), (b"content-length", b"4")], [b"done"]),
    (200, [(b"x", b"a\r\nb: c")], [b"done"]),
    (200, [(b"x", b" a")], [b"done"]),
    (200, [(b"x", b"a\x00")], [b"done"]),
    (200, [(b"x y", b"a")], [b"done"]),
    (200, [(b"x", b"a\tb \xe9 \x01")], [b"done"]),
    (200, [(b"host", b"h"), (b"x", b"y")], [b"done"]),
    (99, [], [b"done"]),
    (1000, [], [b"done"]),
]


def request(dice: random.Random) -> bytes:
    """Often one that is fine, often one that is nearly so."""
    if dice.random() < 0.4:
        lines = [dice.choice(METHODS[:6]) + b" " + dice.choice(TARGETS[:3]) + b" HTTP/1.1", b"Host: h"]
        lines += dice.sample(FIELDS, dice.choice([0, 0, 1, 2]))
    else:
        lines = [b" ".join((dice.choice(METHODS), dice.choice(TARGETS), dice.choice(VERSIONS)))]
        lines += [b"Host: h"] * (dice.random() < 0.8) + dice.sample(FIELDS, dice.randrange(4))
    if dice.random() < 0.1:
        lines[0] = dice.choice([b"", b" ", b"x", lines[0] + b" "])
    return b"".join(line + dice.choice(ENDS) for line in (*lines, b""))


class Answering:
    """An app that reads the body, or does not, and answers as it is told; ``seen``: what it was asked."""

    def __init__(self, answer: tuple[int, Headers, list[bytes]], *, reads: bool) -> None:
        self.answer, self.reads = answer, reads
        self.seen: list[Any] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.seen.append(
            {name: value for name, value in scope.items() if name not in ("state", BODY_IS_HERE)}
        )
        body, more = b"", self.reads
        while more:
            event = await receive()
            body, more = body + event.get("body", b""), event.get("more_body", False)
        self.seen.append(body)
        status, headers, pieces = self.answer
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for n, piece in enumerate(pieces):
            last = n == len(pieces) - 1
            await send({"type": "http.response.body", "body": piece, "more_body": not last})


async def outcome(
    pieces: list[bytes], app: Answering, *, ordinary: bool
) -> tuple[bytes, list[Any], dict[str, int]]:
    """What is said, what the app saw, and what was counted."""
    service = TcpService(app, TcpOptions())
    if not ordinary:
        service.heads = NoHeads()
    said = await said_to(Http1, pieces, service, None)
    return re.sub(rb"date: [^\r]*", b"date:", said), app.seen, service.refused


class NoHeads(KnownHeads):
    """Nothing is ordinary: h11 reads it all."""

    def read(self, data: bytes) -> None:
        return None


async def test_what_is_said_and_what_the_application_sees_is_the_same_as_with_h11_whatever_comes() -> None:
    dice = random.Random(1)
    for _ in range(ROUNDS):
        data = b"".join(request(dice) + dice.choice(BODIES) for _ in range(dice.choice([1, 1, 2, 3])))
        cuts = sorted(dice.sample(range(len(data) + 1), dice.choice([0, 0, 1, 3]) if len(data) > 3 else 0))
        pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        answer, reads = dice.choice(ANSWERS), dice.random() < 0.8
        by_h11 = await outcome(pieces, Answering(answer, reads=reads), ordinary=False)
        ours = await outcome(pieces, Answering(answer, reads=reads), ordinary=True)
        assert ours == by_h11, (pieces, answer)


@pytest.mark.parametrize("answer", ANSWERS)
async def test_every_answer_is_framed_as_by_h11(answer: tuple[int, Headers, list[bytes]]) -> None:
    for method in (b"GET", b"HEAD", b"POST"):
        twice = (method + b" /a HTTP/1.1\r\nhost: h\r\n\r\n") * 2
        by_h11 = await outcome([twice], Answering(answer, reads=True), ordinary=False)
        assert await outcome([twice], Answering(answer, reads=True), ordinary=True) == by_h11


def test_a_head_that_is_taken_is_one_that_h11_takes_and_means_the_same() -> None:
    dice, taken = random.Random(2), 0
    for _ in range(30 * ROUNDS):
        data = request(dice)
        end = data.find(b"\r\n\r\n")
        head = read_head(data[: end + 4]) if end > 0 else None
        if head is None:
            continue
        taken += 1
        check_lines(head.data)
        assert ByH11(head.data).asked == head.asked
    assert taken > ROUNDS


def test_a_usual_request_is_read_without_h11_and_an_unusual_one_is_not() -> None:
    usual = b"POST /batch/read HTTP/1.1\r\nhost: h\r\nx-namespace-key: a\r\ncontent-length: 3\r\n\r\n"
    assert read_head(usual) is not None
    for more in (
        b"connection: close",
        b"expect: 100-continue",
        b"transfer-encoding: chunked",
        b"content-length: 3",
    ):
        assert read_head(usual[:-2] + more + b"\r\n\r\n") is None
    with pytest.raises(BadHead):
        ByH11(usual.replace(b"host: h\r\n", b""))


def test_heads_are_kept_within_a_bound_and_none_that_has_a_credential() -> None:
    heads = KnownHeads()
    for n in range(3 * limits.HTTP_HEADS_KEPT_MAX):
        heads.read(b"GET /%d HTTP/1.1\r\nhost: h\r\n\r\n" % n)
    assert longest(heads, kind=dict) == limits.HTTP_HEADS_KEPT_MAX
    kept = count(heads)
    for secret in (b"authorization: Bearer x", b"cookie: a=b", b"x-namespace-hashproof: ab"):
        assert heads.read(b"GET / HTTP/1.1\r\nhost: h\r\n" + secret + b"\r\n\r\n") is not None
    assert heads.read(b"GET /?token=x HTTP/1.1\r\nhost: h\r\n\r\n") is not None
    assert heads.read(
        b"GET / HTTP/1.1\r\nhost: h\r\nx: " + b"y" * limits.HTTP_HEAD_KEPT_BYTES_MAX + b"\r\n\r\n"
    )
    assert count(heads) == kept


def test_a_body_is_never_read_beyond_its_length_and_never_in_pieces_over_the_bound() -> None:
    size = 3 * limits.HTTP_PIECE_BYTES_MAX + 5
    head = read_head(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n" % size)
    assert head is not None
    framing, inbox, pieces = Ordinary(head), bytearray(size + 7), []
    while piece := framing.piece(inbox):
        pieces.append(len(piece))
    assert sum(pieces) == size
    assert max(pieces) <= limits.HTTP_PIECE_BYTES_MAX
    assert framing.has_ended
    assert len(inbox) == 7


def test_an_answer_that_would_split_is_refused() -> None:
    head = read_head(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
    assert head is not None
    for headers in ([(b"x", b"a\r\nb: c")], [(b"x: y\r\nz", b"a")], [(b"x", b"a\n")]):
        with pytest.raises(BadAnswer):
            Ordinary(head).head(200, headers)


async def test_requests_that_come_at_one_moment_are_begun_in_several_turns_of_the_loop() -> None:
    app = Answering((200, [(b"content-length", b"4")], [b"done"]), reads=True)
    service = TcpService(app, TcpOptions())
    conversations = [talk(Http1, service)[0] for _ in range(100)]
    most, before = 0, 0
    for conversation in conversations:
        conversation.data_received(b"GET /a HTTP/1.1\r\nhost: h\r\n\r\n")
    while len(app.seen) < 2 * len(conversations):
        await asyncio.sleep(0)
        most, before = max(most, len(app.seen) - before), len(app.seen)
    assert most <= 2 * (limits.TCP_TURN_S / limits.TCP_REQUEST_S + 1)
    for conversation in conversations:
        conversation.connection_lost(None)
