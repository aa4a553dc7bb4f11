"""What the TCP doors read before anything is served: heads, hellos, frames. Pure, and one byte at a time."""

from __future__ import annotations

import random
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import Opcode

from gateway import limits
from gateway.http.budget import Backlog, ByteBudget, Crowded
from gateway.http.tcp.clienthello import HelloVerdict, judge
from gateway.http.tcp.collector import Breach, Collector, ReceivedMessage
from gateway.http.tcp.frameguard import PREFACE, Flood, FrameGuard
from gateway.http.tcp.heads import BadHead, check_framing, check_lines, split_target, with_host
from gateway.http.tcp.rates import Bucket
from tests.abuse.attackers import (
    CONTINUATION,
    DATA,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    h2_frame,
    h2_request,
    h2_settings,
    ws_frame,
)

# -- heads --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\n\tfolded: x\r\n\r\n",
        b"GET / HTTP/1.1\rHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\r\nHost: x\r\n\r\n",
    ],
)
def test_line_ends_that_two_readers_may_take_differently_are_refused_whole_or_in_pieces(head: bytes) -> None:
    with pytest.raises(BadHead):
        check_lines(head)

    def in_pieces() -> None:
        for end in range(1, len(head) + 1):
            check_lines(head[:end], end - 1)

    with pytest.raises(BadHead):
        in_pieces()


def test_an_ordinary_head_passes_whole_and_in_pieces() -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\nA: b c\r\n\r\n"
    for end in range(1, len(head) + 1):
        check_lines(head[:end], end - 1)


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        (b"/a?b=c?d", (b"/a", b"b=c?d", None)),
        (b"//a/b", (b"//a/b", b"", None)),
        (b"http://game.example:80/a?b", (b"/a", b"b", b"game.example:80")),
        (b"HTTPS://[::1]:4433", (b"/", b"", b"[::1]:4433")),
        (b"http://h?q", (b"/", b"q", b"h")),
    ],
)
def test_a_target_is_a_path_or_a_whole_uri(target: bytes, parts: tuple[bytes, bytes, bytes | None]) -> None:
    assert split_target(target, b"GET") == parts


@pytest.mark.parametrize("target", [b"a", b"*", b"ftp://h/a", b"http:///a", b"h:443", b""])
def test_other_targets_are_refused(target: bytes) -> None:
    with pytest.raises(BadHead):
        split_target(target, b"GET")


def test_the_authority_of_a_whole_uri_takes_the_place_of_host() -> None:
    assert with_host([(b"host", b"a"), (b"x", b"y")], b"b") == [(b"host", b"b"), (b"x", b"y")]


def test_a_body_has_one_length() -> None:
    chunked = (b"transfer-encoding", b"chunked")
    check_framing([chunked], b"1.1")
    with pytest.raises(BadHead, match="not both"):
        check_framing([chunked, (b"content-length", b"0")], b"1.1")
    with pytest.raises(BadHead, match=r"HTTP/1\.0"):
        check_framing([chunked], b"1.0")


# -- hellos -------------------------------------------------------------------------------

SERVED = (b"h2", b"http/1.1")


def hello(*protocols: str) -> bytes:
    """A real ClientHello."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="game.example").do_handshake()
    return outgoing.read()


@pytest.mark.parametrize(
    ("asked", "verdict"),
    [
        ((), HelloVerdict.TLS),
        (("h2",), HelloVerdict.TLS),
        (("spdy/3", "http/1.1"), HelloVerdict.TLS),
        (("spdy/3", "acme-tls/1"), HelloVerdict.NO_PROTOCOL),
    ],
)
def test_a_hello_is_judged_by_its_protocols_once_it_is_whole(
    asked: tuple[str, ...], verdict: HelloVerdict
) -> None:
    data = hello(*asked)
    assert judge(data, SERVED) is verdict
    for end in range(len(data)):
        assert judge(data[:end], SERVED) is HelloVerdict.MORE


def test_a_hello_may_come_in_several_records() -> None:
    data = hello("spdy/3")
    body = data[5:]
    pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
    cut = b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)
    assert judge(cut, SERVED) is HelloVerdict.NO_PROTOCOL
    for end in range(len(cut)):
        assert judge(cut[:end], SERVED) is HelloVerdict.MORE


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x02\x00",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x16\x03\x01\x40\x00\x01\xff\xff\xff",
        b"\x16\x03\x01\x00\x00",
    ],
)
def test_what_is_no_hello_is_told_at_once(data: bytes) -> None:
    assert judge(data, SERVED) is HelloVerdict.FOREIGN


def test_fuzz_a_broken_hello_is_never_more_than_a_verdict() -> None:
    dice, whole = random.Random(3), hello("h2", "spdy/3")
    for _ in range(3_000):
        data = bytearray(whole[: dice.randrange(len(whole) + 1)])
        for _ in range(dice.randrange(6)):
            if data:
                data[dice.randrange(len(data))] = dice.randrange(256)
        assert judge(data, SERVED) in HelloVerdict


# -- HTTP/2 frames ------------------------------------------------------------------------


def pulled(guard: FrameGuard, now: float = 0.0) -> bytes:
    """All that the guard gives."""
    out = b""
    while piece := guard.pull(now):
        out += piece
    return out


def test_frames_come_out_whole_and_unchanged_one_byte_at_a_time() -> None:
    data = PREFACE + h2_settings({4: 9}) + h2_request(1, "/a") + h2_frame(DATA, 1, 1, b"xyz")
    guard, out = FrameGuard(), b""
    for byte in data:
        guard.feed(bytes([byte]))
        out += pulled(guard)
    assert out == data
    assert guard.is_between_frames


@pytest.mark.parametrize(
    ("frame", "what"),
    [
        (h2_frame(PING, 0, 0, bytes(8)), "control_frames"),
        (h2_frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"), "control_frames"),
        (h2_frame(0x42, 0, 0), "control_frames"),
        (h2_settings(), "settings"),
        (h2_frame(SETTINGS, 1, 0), "settings"),
        (h2_frame(DATA, 0, 1), "empty_frames"),
        (h2_frame(RST_STREAM, 0, 1, bytes(4)), "resets"),
    ],
)
def test_frames_that_carry_nothing_are_few_at_once_and_few_a_second(frame: bytes, what: str) -> None:
    guard = FrameGuard()
    guard.feed(PREFACE + frame * 1_000)
    with pytest.raises(Flood) as flood:
        pulled(guard)
    assert flood.value.what == what
    calm = FrameGuard()
    calm.feed(PREFACE)
    for second in range(300):
        calm.feed(frame * 10)
        pulled(calm, float(second))


def test_data_that_flows_earns_the_frames_that_it_needs() -> None:
    guard = FrameGuard()
    guard.feed(PREFACE)
    for _ in range(5_000):
        guard.flowed()
        guard.feed(h2_frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1") + h2_frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"))
        pulled(guard)


def test_a_header_block_is_bounded_in_bytes_and_in_frames() -> None:
    wide = h2_frame(HEADERS, 0, 1, bytes(16_000)) + h2_frame(CONTINUATION, 0, 1, bytes(16_000)) * 2
    long = h2_frame(HEADERS, 0, 1, b"a") + h2_frame(CONTINUATION, 0, 1, b"a") * 100
    for data in (wide, long):
        guard = FrameGuard()
        guard.feed(PREFACE + data)
        with pytest.raises(Flood, match="header_block"):
            pulled(guard)


def test_a_goaway_is_noted_and_not_handed_on() -> None:
    ping = h2_frame(PING, 0, 0, bytes(8))
    guard = FrameGuard()
    guard.feed(PREFACE + ping + h2_frame(7, 0, 0, bytes(8)) + ping)
    assert pulled(guard) == PREFACE + ping + ping
    assert guard.is_peer_leaving


def test_a_frame_that_is_too_long_is_refused_by_its_head() -> None:
    guard = FrameGuard()
    guard.feed(PREFACE + h2_frame(DATA, 0, 1, bytes(16_385))[:9])
    with pytest.raises(Flood, match="frame_size"):
        pulled(guard)


@given(st.binary(max_size=400), st.integers(1, 50))
def test_fuzz_any_bytes_come_out_as_they_were_or_are_a_flood(data: bytes, step: int) -> None:
    guard, out, fed = FrameGuard(), b"", PREFACE + data
    try:
        for at in range(0, len(fed), step):
            guard.feed(fed[at : at + step])
            out += pulled(guard)
    except Flood:
        return
    if guard.is_peer_leaving:
        return
    assert fed.startswith(out)
    assert len(out) + len(guard) == len(fed)


# -- WebSocket messages -------------------------------------------------------------------


def collector(bytes_max: int = 1_000, budget: ByteBudget | None = None) -> Collector:
    return Collector(bytes_max, budget or ByteBudget())


def collected(what: Collector, data: bytes, step: int = 1, now: float = 0.0) -> list[ReceivedMessage]:
    got: list[ReceivedMessage] = []
    for at in range(0, len(data), step):
        what.feed(data[at : at + step])
        while (event := what.pull(now, 8)) is not None:
            if isinstance(event, ReceivedMessage):
                got.append(event)
    return got


@pytest.mark.parametrize("step", [1, 3, 1_000])
def test_messages_are_collected_from_pieces_and_fragments_with_pings_between(step: int) -> None:
    data = (
        ws_frame(2, b"ab", fin=False)
        + ws_frame(9, b"hey")
        + ws_frame(0, b"", fin=False)
        + ws_frame(0, b"cd")
        + ws_frame(1, "grüß".encode())
        + ws_frame(2, b"")
        + ws_frame(8, (1000).to_bytes(2, "big") + b"bye")
    )
    assert collected(collector(), data, step) == [
        ReceivedMessage(b"hey", Opcode.PING),
        ReceivedMessage(b"abcd"),
        ReceivedMessage("grüß"),
        ReceivedMessage(b""),
        ReceivedMessage("bye", Opcode.CLOSE, 1000),
    ]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (ws_frame(2, bytes(1_001)), 1009),
        (ws_frame(2, bytes(600), fin=False) + ws_frame(0, bytes(600), fin=False), 1009),
        (ws_frame(2, b"", fin=False) + ws_frame(0, b"", fin=False) * 1_100, 1008),
        (ws_frame(9, b"") * 200, 1008),
        (ws_frame(1, b"\xff\xfe"), 1007),
        (ws_frame(2, b"x", rsv1=True), 1002),
        (ws_frame(3, b"x"), 1002),
        (ws_frame(0, b"x"), 1002),
        (ws_frame(9, b"x", fin=False), 1002),
        (b"\x82\x01x", 1002),
        (ws_frame(8, b"x"), 1002),
        (ws_frame(8, (1005).to_bytes(2, "big")), 1002),
        (ws_frame(8, (1000).to_bytes(2, "big") + b"\xff"), 1007),
    ],
)
@pytest.mark.parametrize("step", [1, 100_000])
def test_every_breach_has_its_code(data: bytes, code: int, step: int) -> None:
    with pytest.raises(Breach) as breach:
        collected(collector(), data, step)
    assert breach.value.code == code


def test_unfinished_messages_share_one_budget_and_give_it_back() -> None:
    budget = ByteBudget(100_000)
    first, second = collector(90_000, budget), collector(90_000, budget)
    collected(first, ws_frame(2, bytes(80_000), fin=False), 100_000)
    with pytest.raises(Breach) as breach:
        collected(second, ws_frame(2, bytes(80_000), fin=False), 100_000)
    assert breach.value.code == 1013
    second.release()
    assert budget.held == 80_000
    assert collected(first, ws_frame(0, b"!"), 100_000)[0].data == bytes(80_000) + b"!"
    assert budget.held == 0


def test_fuzz_any_frames_are_messages_or_a_breach() -> None:
    dice = random.Random(4)
    for _ in range(2_000):
        budget = ByteBudget()
        what = collector(200, budget)
        data = b"".join(
            ws_frame(
                dice.choice((0, 0, 1, 2, 8, 9, 10)),
                dice.randbytes(dice.randrange(90)),
                fin=dice.random() < 0.6,
            )
            if dice.random() < 0.9
            else dice.randbytes(5)
            for _ in range(6)
        )
        code = 1002
        try:
            collected(what, data, dice.randrange(1, 40))
        except Breach as breach:
            code = breach.code
        assert code in (1002, 1007, 1008, 1009)
        what.release()
        assert budget.held == 0


# -- budgets ------------------------------------------------------------------------------


def test_small_bodies_find_room_when_large_ones_do_not() -> None:
    budget = ByteBudget(100_000)
    large, small = budget.lease(), budget.lease()
    large.hold(100_000)
    small.hold(limits.HTTP_UNFINISHED_SMALL_BYTES)
    with pytest.raises(Crowded):
        small.hold(limits.HTTP_UNFINISHED_SMALL_BYTES + 1)
    large.release()
    small.hold(90_000)
    small.release()
    assert budget.held == 0


def test_of_answers_that_are_not_taken_the_one_that_has_rested_longest_is_given_up() -> None:
    now = [0.0]
    backlog = Backlog(100, lambda: now[0])
    shed: list[str] = []

    class Answer:
        def __init__(self, name: str) -> None:
            self.name = name

        def shed(self) -> None:
            shed.append(self.name)

    a, b, c = Answer("a"), Answer("b"), Answer("c")
    backlog.set(a, 40)
    backlog.set(b, 40)
    backlog.set(a, 30)  # it has moved
    backlog.set(c, 40)
    assert not shed, "all of them are on their way"
    now[0] = limits.HTTP_UNTAKEN_S_MIN / 2
    backlog.set(a, 30)
    now[0] = limits.HTTP_UNTAKEN_S_MIN
    backlog.set(c, 40)
    assert shed == ["b"]
    assert backlog.held == 70
    backlog.set(a, 0)
    backlog.set(c, 400)
    assert shed == ["b"], "one alone may be larger"
    backlog.set(a, 40)
    backlog.set(b, 40)
    assert shed == ["b", "c"], "over twice the bound, however fast it moves"


def test_a_bucket_fills_again_with_time_and_with_what_is_earned() -> None:
    bucket = Bucket(2, 1)
    assert [bucket.spend(1, 0.0) for _ in range(3)] == [True, True, False]
    assert bucket.spend(1, 2.0)
    bucket.earn(10)
    assert bucket.spend(2, 2.0)
    assert not bucket.spend(1, 2.0)
