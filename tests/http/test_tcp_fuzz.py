"""Whatever comes, one byte at a time or mangled: a TCP conversation ends in order and keeps nothing."""

from __future__ import annotations

import asyncio
import math
import os
import random
import re
import struct
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import limits
from gateway.http.budget import ByteBudget
from gateway.http.tcp.clienthello import HelloVerdict, judge
from gateway.http.tcp.collector import Breach, Collector
from gateway.http.tcp.conversation import Conversation
from gateway.http.tcp.http1 import Http1
from gateway.http.tcp.http2 import Http2
from gateway.http.tcp.service import TcpOptions, TcpService
from gateway.http.tcp.slots import Slot
from tests.abuse.attackers import (
    CONTINUATION,
    DATA,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    h2_frame,
    h2_request,
    h2_settings,
    ws_frame,
)
from tests.patience import HANG_S

ROUNDS = 100_000 if os.environ.get("MVGATEWAY_FUZZ") == "long" else 400


class Transport(asyncio.Transport):
    """Keeps what is written; at random it takes no more."""

    def __init__(self, dice: random.Random | None = None) -> None:
        super().__init__()
        self.written = bytearray()
        self.closing = False
        self.dice = dice
        self.conversation: Conversation | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closing
        self.written += data
        if self.dice is not None and self.conversation is not None and self.dice.random() < 0.1:
            self.conversation.pause_writing()
            asyncio.get_running_loop().call_soon(self._resume)

    def _resume(self) -> None:
        if self.conversation is not None and self.conversation.is_paused:
            self.conversation.resume_writing()

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.closing = True

    abort = close


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers a request with its body, a WebSocket message with itself."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "bytes": event.get("bytes") or b"", "text": None})
        return
    body, more = b"", True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        body += event["body"]
        more = event["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body or b"nothing"})


def talk(
    kind: type[Conversation], service: TcpService, dice: random.Random | None = None
) -> tuple[Conversation, Transport]:
    slot, transport = Slot("127.0.0.1", lambda slot: None), Transport(dice)
    slot.raw = transport
    conversation = kind(service, slot)
    transport.conversation = conversation
    conversation.connection_made(transport)
    return conversation, transport


async def settled() -> None:
    """Until nothing is left to run: whatever is not done waits for more from the peer, or for a time of day.

    Here no socket and no thread takes part, so that the loop's own queue is all there is to wait for.
    """
    ready = vars(asyncio.get_running_loop())["_ready"]
    async with asyncio.timeout(HANG_S):
        while ready:  # noqa: ASYNC110 (an empty queue is no event)
            await asyncio.sleep(0)


async def said_to(
    kind: type[Conversation],
    pieces: list[bytes],
    service: TcpService,
    dice: random.Random | None,
    *,
    settles: bool = False,
) -> bytes:
    """What the conversation answers to these pieces; then the peer is gone, and nothing may be left.

    ``settles``: the answers to each piece are out before the next one comes.
    """
    conversation, transport = talk(kind, service, dice)
    for piece in pieces:
        if transport.closing:
            break
        conversation.data_received(piece)
        if settles:
            await settled()
        elif dice is not None and dice.random() < 0.3:
            await asyncio.sleep(0)
    await settled()
    said = bytes(transport.written)
    transport.conversation = None
    transport.closing = True
    conversation.connection_lost(None)
    async with asyncio.timeout(HANG_S):
        while service.tasks:
            await asyncio.wait(list(service.tasks))
    assert service.options.unfinished.held == 0
    assert service.options.untaken.held == 0
    assert service.turns.held_bytes == 0
    assert not service.refused.get("failed")
    return said


def cut(data: bytes, dice: random.Random) -> list[bytes]:
    """The data in pieces of random sizes."""
    pieces, at = [], 0
    while at < len(data):
        size = dice.choice((1, 1, 2, 5, 9, 40, 300))
        pieces.append(data[at : at + size])
        at += size
    return pieces


def mangled(data: bytes, dice: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(dice.choice((0, 1, 1, 2, 5))):
        at = dice.randrange(len(out) + 1)
        match dice.randrange(4):
            case 0:
                out[at:at] = dice.randbytes(dice.randrange(1, 8))
            case 1:
                del out[at : at + dice.randrange(1, 8)]
            case 2 if at < len(out):
                out[at] = dice.randrange(256)
            case _:
                del out[at:]
    return bytes(out)


UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
HTTP1 = [
    b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n" * 3,
    b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello" * 2,
    b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nT: v\r\n\r\n"
    * 2,
    b"HEAD http://h/a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab",
    UPGRADE
    + ws_frame(2, b"abc")
    + ws_frame(9, b"p")
    + ws_frame(2, b"d", fin=False)
    + ws_frame(0, b"e")
    + ws_frame(8, b""),
]


def h2_tunnel() -> bytes:
    more = ((":protocol", "websocket"), ("sec-websocket-version", "13"))
    import hpack

    head = [(":method", "CONNECT"), (":scheme", "http"), (":path", "/ws"), (":authority", "h"), *more]
    block = hpack.Encoder().encode(head, huffman=False)
    frames = ws_frame(2, b"abc") + ws_frame(9, b"p") + ws_frame(8, b"")
    return h2_frame(HEADERS, 4, 1, block) + h2_frame(DATA, 0, 1, frames)


HTTP2 = [
    PREFACE + h2_settings({4: 100_000}) + b"".join(h2_request(n, "/a") for n in (1, 3, 5)),
    PREFACE
    + h2_settings()
    + h2_request(1, "/a", method="POST", end=False)
    + h2_frame(DATA, 0, 1, b"abc")
    + h2_frame(PING, 0, 0, bytes(8))
    + h2_frame(WINDOW_UPDATE, 0, 0, b"\0\0\1\0")
    + h2_frame(DATA, 9, 1, b"\x01de\x00"),
    PREFACE
    + h2_settings({4: 1})
    + h2_request(1, "/a")
    + h2_frame(RST_STREAM, 0, 1, bytes(4))
    + h2_request(3, "/a"),
    PREFACE
    + h2_settings({1: 0, 3: 5, 5: 20_000, 77: 7})
    + h2_frame(PRIORITY, 0, 9, bytes(5))
    + h2_frame(SETTINGS, 1, 0)
    + h2_frame(HEADERS, 1, 1, h2_request(1, "/a")[9:14])
    + h2_frame(CONTINUATION, 4, 1, h2_request(1, "/a")[14:])
    + h2_frame(GOAWAY, 0, 0, bytes(8)),
    PREFACE + h2_settings() + h2_tunnel() + h2_frame(DATA, 1, 1),
]


def service(app: ASGIApp = echo) -> TcpService:
    return TcpService(app, TcpOptions())


@pytest.mark.parametrize("data", [data for data in HTTP1 if b"100-continue" not in data])
async def test_http_1_says_the_same_one_byte_at_a_time(data: bytes) -> None:
    whole = await said_to(Http1, [data], service(), None)
    single = await said_to(Http1, [bytes([b]) for b in data], service(), None)
    assert undated(whole) == undated(single)
    assert whole.startswith(b"HTTP/1.1 ")


def undated(said: bytes) -> bytes:
    """Without the time of day, which may go on between two runs."""
    return re.sub(rb"(?m)^date: .*$", b"date:", said)


async def test_requests_that_keep_coming_while_others_are_answered_are_each_answered_once() -> None:
    ask = HTTP1[0][: len(HTTP1[0]) // 3]
    conversation, transport = talk(Http1, serving := service())
    for n in range(300):
        conversation.data_received(ask * (1 + n % 3))
        for _ in range(n % 7):
            await asyncio.sleep(0)
    async with asyncio.timeout(HANG_S):
        while transport.written.count(b"HTTP/1.1 200 ") < 600:  # noqa: ASYNC110 (what is written is no event)
            await asyncio.sleep(0)
    assert transport.written.count(b"HTTP/1.1 ") == 600
    assert not serving.refused
    conversation.connection_lost(None)


async def test_a_body_of_tiny_chunks_leaves_the_loop_to_others_after_a_few() -> None:
    taken = most = 0

    async def count(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal taken
        while (await receive())["type"] == "http.request":
            taken += 1

    conversation, _ = talk(Http1, serving := service(count))
    head = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    conversation.data_received(head + b"1\r\na\r\n" * 30_000)
    while taken < 30_000:
        before = taken
        await asyncio.sleep(0)
        most = max(most, taken - before)
    assert most <= 3 * limits.TCP_EVENTS_PER_TURN
    conversation.connection_lost(None)
    await asyncio.wait(list(serving.tasks))


@pytest.mark.parametrize("turn_s", [math.inf, limits.TCP_TURN_S, -1.0], ids=["unbounded", "real", "over"])
@pytest.mark.parametrize("data", HTTP2[:-1])
async def test_http_2_takes_one_byte_at_a_time(
    data: bytes, turn_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TCP_TURN_S", turn_s)
    whole = await said_to(Http2, [data], service(), None)
    single = await said_to(Http2, [bytes([b]) for b in data], service(), None)
    if turn_s == math.inf:  # the loop has no turn before all has come, in either way
        assert sorted(_frames(whole)) == sorted(_frames(single))
    _assert_same_answers(data, whole, single)


@pytest.mark.parametrize("data", HTTP2[:-1])
async def test_http_2_says_the_same_whatever_it_has_answered_before_the_next_byte_comes(data: bytes) -> None:
    whole = await said_to(Http2, [data], service(), None)
    slow = await said_to(Http2, [bytes([b]) for b in data], service(), None, settles=True)
    _assert_same_answers(data, whole, slow)
    for at in range(1, len(data)):
        halves = await said_to(Http2, [data[:at], data[at:]], service(), None, settles=True)
        _assert_same_answers(data, whole, halves)


def _assert_same_answers(data: bytes, *said: bytes) -> None:
    """The same frames on every stream, in the same order. Only what was said on a stream that the peer resets depends
    on when the reset is read (RFC 9113 section 5.4.2): nothing, or the begin of the answer it would have had, and the
    connection's own frames and other streams are as ever.
    """
    asked = _frames(data[len(PREFACE) :])
    reset = {stream for kind, _, stream in asked if kind == RST_STREAM}
    first, *others = (_by_stream(_frames(each)) for each in said)
    for other in others:
        for stream in (first.keys() | other.keys()) - reset:
            assert first.get(stream) == other.get(stream), f"stream {stream}"
    begun = [(HEADERS, 4), (DATA, 0)]  # with one byte of the window that these peers leave
    for each in (first, *others):
        for stream in reset:
            assert each.get(stream, []) in ([], begun), f"stream {stream}"


def _by_stream(frames: list[tuple[int, int, int]]) -> dict[int, list[tuple[int, int]]]:
    """(type, flags) of each stream's frames, in order."""
    by_stream: dict[int, list[tuple[int, int]]] = {}
    for kind, flags, stream in frames:
        by_stream.setdefault(stream, []).append((kind, flags))
    return by_stream


def _frames(data: bytes) -> list[tuple[int, int, int]]:
    """(type, flags, stream) of each frame."""
    frames, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 3], "big")
        frames.append((data[at + 3], data[at + 4], int.from_bytes(data[at + 5 : at + 9], "big")))
        at += 9 + size
    assert at == len(data), "only whole frames"
    return frames


@pytest.mark.parametrize("kind", [Http1, Http2])
async def test_fuzz_a_mangled_conversation_ends_in_order_and_keeps_nothing(kind: type[Conversation]) -> None:
    dice = random.Random(11)
    for _ in range(ROUNDS):
        data = mangled(dice.choice(HTTP1 if kind is Http1 else HTTP2), dice)
        if dice.random() < 0.2:
            data += dice.randbytes(dice.randrange(200))
        said = await said_to(kind, cut(data, dice), service(), dice)
        if kind is Http2:
            _frames(said)


async def test_fuzz_frames_of_every_kind_in_every_order(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(12)
    kinds = (
        DATA,
        HEADERS,
        PRIORITY,
        RST_STREAM,
        SETTINGS,
        5,
        PING,
        GOAWAY,
        WINDOW_UPDATE,
        CONTINUATION,
        10,
        200,
    )
    for _ in range(ROUNDS):
        frames = [
            h2_request(dice.choice((1, 3, 5, 7)), "/a", end=dice.random() < 0.5)
            if dice.random() < 0.4
            else h2_frame(
                dice.choice(kinds),
                dice.choice((0, 1, 4, 5, 8, 32, 255)),
                dice.choice((0, 1, 1, 2, 3, 5, 2**31 - 1)),
                dice.randbytes(dice.choice((0, 1, 4, 5, 6, 8, 12, 50))),
            )
            for _ in range(12)
        ]
        said = await said_to(Http2, cut(PREFACE + h2_settings() + b"".join(frames), dice), service(), dice)
        _frames(said)


def a_hello(dice: random.Random) -> bytes:
    """A ClientHello as clients say it: two cipher suites, a name, and what protocols it speaks; in records of any length."""
    names = b"".join(
        bytes([len(name)]) + name for name in dice.sample([b"h2", b"http/1.1", b"h3", b"x" * 40], 2)
    )
    alpn = struct.pack(">HHH", 16, len(names) + 2, len(names)) + names
    others = struct.pack(">HH", 10, 4) + b"\0\x02\0\x1d"
    extensions = b"".join(dice.sample([alpn, others], 2))
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\0\x04\x13\x01\x13\x02" + b"\x01\0"
    body += struct.pack(">H", len(extensions)) + extensions
    hello = b"\x01" + len(body).to_bytes(3, "big") + body
    size = dice.randrange(1, len(hello) + 1)
    pieces = [hello[at : at + size] for at in range(0, len(hello), size)]
    return b"".join(b"\x16\x03\x01" + struct.pack(">H", len(piece)) + piece for piece in pieces)


def test_fuzz_a_mangled_client_hello_is_judged_and_one_byte_at_a_time_as_well() -> None:
    dice = random.Random(13)
    served = (b"h2", b"http/1.1")
    for n in range(ROUNDS):
        data = a_hello(dice)
        assert judge(data, served) in (HelloVerdict.TLS, HelloVerdict.NO_PROTOCOL)
        if n % 2:
            data = mangled(data, dice) + dice.randbytes(dice.randrange(40))
        verdict = judge(data, served)
        steps = [judge(data[:end], served) for end in range(0, len(data) + 1, 1 + n % 5)]
        decided = next((step for step in steps if step is not HelloVerdict.MORE), verdict)
        assert decided is verdict, "what is decided stays so, however it came"


def test_fuzz_hostile_websocket_bytes_end_by_a_breach_or_whole_messages_and_hold_no_more_than_their_bound() -> (
    None
):
    dice = random.Random(14)
    budget, codes = ByteBudget(64 * 1024), set()
    for _ in range(ROUNDS):
        collector = Collector(2_000, budget)
        count = dice.randrange(1, 12)
        opcodes = [2, *[0] * count] if dice.random() < 0.5 else [dice.randrange(16) for _ in range(count)]
        data = b"".join(
            ws_frame(
                opcode,
                dice.randbytes(dice.choice((0, 1, 5, 125, 126, 700))),
                fin=opcode > 2 or dice.random() < 0.3,
                rsv1=dice.random() < 0.02,
            )
            for opcode in opcodes
        )
        if dice.random() < 0.5:
            data = mangled(data, dice)
        try:
            for piece in cut(data, dice):
                collector.feed(piece)
                while (message := collector.pull(0.0, 8)) is not None:
                    if not isinstance(message, bool) and message.control is None:
                        assert len(message.data) <= 2_000
                assert budget.held <= 2_000
        except Breach as breach:
            codes.add(breach.code)
        collector.release()
        assert budget.held == 0
    assert {1002, 1009} <= codes <= {1002, 1003, 1007, 1008, 1009, 1013}
