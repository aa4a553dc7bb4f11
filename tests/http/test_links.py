"""Slow readers over TCP: nothing stale is queued for them, and they end up right."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop
import websockets

from gateway import limits
from gateway.core.ports import CloseCode
from gateway.core.state import WorldState
from gateway.http.links import TcpLink
from gateway.runtime.gateway import Gateway
from gateway.wire import Frame, Record, decode_message, encode_frame
from tests.patience import HANG_S
from tests.runtime.conftest import settings_in, until


class FakeWire:
    """A sink whose kernel takes bytes only when it is told to."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.taken_bytes = 0
        self.finished: tuple[CloseCode, str] | None = None

    def write(self, message: bytes) -> None:
        self.written.append(message)

    def pending_bytes(self) -> int:
        return sum(map(len, self.written)) - self.taken_bytes

    def take_all(self) -> None:
        self.taken_bytes = sum(map(len, self.written))

    def finish(self, code: CloseCode, reason: str) -> None:
        self.finished = (code, reason)


class Writable:
    """A session that only counts how often there was room again."""

    def __init__(self) -> None:
        self.times = 0
        self.again = asyncio.Event()

    def on_writable(self, mono: float) -> None:
        self.times += 1
        self.again.set()


def link_to(sink: FakeWire) -> TcpLink:
    return TcpLink("websocket", limits.WEBSOCKET_MESSAGE_BYTES_MAX, sink)


async def test_a_blocked_link_admits_a_window_that_shrinks_and_then_nothing() -> None:
    sink, now = FakeWire(), 0.0
    link = TcpLink("websocket", limits.WEBSOCKET_MESSAGE_BYTES_MAX, sink, clock=lambda: now)
    link._watch = lambda: None  # type: ignore[method-assign]  # it looks when it is told to: what goes by is this clock

    def admitted() -> int:
        before = len(sink.written)
        while link.send(b"x" * 1_000, 1):
            pass
        return (len(sink.written) - before) * 1_000

    assert 0 < admitted() < limits.LINK_WINDOW_BYTES_MAX + 1_000
    assert link.room_bytes() == 0
    for _ in range(12):
        await asyncio.sleep(0)
        now += limits.LINK_MEASURE_S
        link._look()
        assert admitted() == 0, "nothing has gone"
    now += 2 * limits.LINK_WINDOW_S
    sink.take_all()
    link._look()
    assert 0 < admitted() <= limits.LINK_WINDOW_BYTES_MIN + 1_000
    assert admitted() == 0
    link.gone()


async def test_the_session_hears_of_room_once_the_kernel_takes_again() -> None:
    sink, session = FakeWire(), Writable()
    link = link_to(sink)
    link.attach(session)  # type: ignore[arg-type]
    while link.send(b"x" * 1_000, 1):
        pass
    assert session.times == 0
    sink.take_all()
    await asyncio.wait_for(session.again.wait(), HANG_S)
    assert link.room_bytes() > 0
    link.gone()


async def test_a_keyframe_waits_in_the_link_and_can_be_given_up() -> None:
    sink, session = FakeWire(), Writable()
    link = link_to(sink)
    link.attach(session)  # type: ignore[arg-type]
    while link.send(b"x" * 1_000, 1):
        pass
    handle = link.send_stream([b"k" * 60_000] * 5)
    assert not link.stream_done(handle)
    assert b"k" * 60_000 not in sink.written
    link.reset_stream(handle)
    assert link.stream_done(handle)
    sink.take_all()
    await asyncio.wait_for(session.again.wait(), HANG_S)
    assert link.send(b"next", 1)
    assert sink.written[-1] == b"next"
    link.gone()


async def test_a_keyframe_goes_out_message_by_message_and_is_then_done() -> None:
    sink = FakeWire()
    link = link_to(sink)
    handle = link.send_stream([bytes([i]) * 60_000 for i in range(10)])
    while not link.stream_done(handle):
        sink.take_all()
        await asyncio.sleep(0)
    assert [message[0] for message in sink.written] == list(range(10))
    link.gone()


async def test_a_peer_that_reads_nothing_at_all_is_closed_before_control_messages_fill_the_memory() -> None:
    sink = FakeWire()
    link = link_to(sink)
    for _ in range(10_000):
        link.control(b"c" * 1_000)
    assert sink.finished is not None
    assert sink.finished[0] is CloseCode.TOO_SLOW
    assert sink.pending_bytes() < 1_000_000


async def test_a_link_that_never_blocks_keeps_a_wide_window_and_one_that_did_gets_it_back() -> None:
    sink = FakeWire()
    link = link_to(sink)
    link.send(b"x" * 10_000, 1)
    await asyncio.sleep(0)  # nothing was taken in this turn: it blocks
    narrow = link.room_bytes() + 10_000
    assert narrow < limits.LINK_WINDOW_BYTES_MAX
    for _ in range(100):
        sink.take_all()
        link.send(b"x" * 10_000, 1)
        sink.take_all()
        await asyncio.sleep(0)
    assert link.room_bytes() > limits.LINK_WINDOW_BYTES_MAX // 2
    link.gone()


@pytest.mark.parametrize("tls", [False, True])
def test_a_fast_reader_on_uvloop_is_not_taken_for_a_slow_one(tmp_path: Path, tls: bool) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(publish_to_a_fast_reader(tmp_path, tls))


async def publish_to_a_fast_reader(folder: Path, tls: bool) -> None:
    """Frames of 10 KB, one after the other, to a reader that reads: every one arrives whole, none is withheld."""
    gateway = await Gateway.start(settings_in(folder))
    try:
        plain = gateway.plain_server
        assert plain is not None
        context = ssl.create_default_context(cafile=str(gateway.certificates.ca_path)) if tls else None
        url = f"ws{'s' if tls else ''}://127.0.0.1:{gateway.port if tls else plain.port}/v1/worlds/w/live"
        async with (
            websockets.connect(
                f"ws://127.0.0.1:{plain.port}/v1/worlds/w/live?role=publish", compression=None
            ) as out,
            websockets.connect(url, ssl=context, compression=None) as reader,
        ):
            whole = 0
            for tick in range(1, 51):
                records = [Record(key, b"%06d" % tick * 16) for key in range(100)]
                await out.send(encode_frame(Frame(0, tick, records)))
                while True:
                    message = decode_message(await asyncio.wait_for(reader.recv(decode=False), HANG_S))
                    if isinstance(message, Frame) and message.tick == tick:
                        break
                whole += not message.repair and len(message.records) == 100
            assert whole >= 49, "the first may come as the keyframe"
            (session,) = gateway.worlds.hosts["w"].world.subscribers
            await until(lambda: session.link.room_bytes() > limits.LINK_WINDOW_BYTES_MAX // 4)
    finally:
        await gateway.drain(0.5)


@pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_reader_that_stops_reading_costs_little_and_ends_up_right(
    tmp_path: Path, tls: bool, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run_past_a_stuck_reader(tmp_path, tls))


async def run_past_a_stuck_reader(folder: Path, tls: bool) -> None:
    gateway = await Gateway.start(settings_in(folder))
    try:
        await publish_past_a_stuck_reader(gateway, tls)
    finally:
        await gateway.drain(0.5)


async def publish_past_a_stuck_reader(gateway: Gateway, tls: bool) -> None:
    """40 MB of frames to a reader that does not read; then it reads, and must come out with the newest."""
    assert gateway.plain_server is not None
    plain = f"ws://127.0.0.1:{gateway.plain_server.port}/v1/worlds/w/live"
    context = ssl.create_default_context(cafile=str(gateway.certificates.ca_path)) if tls else None
    port = gateway.port if tls else gateway.plain_server.port
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
    slow.connect(("127.0.0.1", port))
    slow.setblocking(False)
    url = f"ws{'s' if tls else ''}://127.0.0.1:{port}/v1/worlds/w/live"
    truth, seen = WorldState(), WorldState()
    async with (
        websockets.connect(f"{plain}?role=publish", compression=None) as publisher,
        websockets.connect(url, ssl=context, sock=slow, compression=None, max_queue=1) as reader,
    ):
        for tick in range(1, 801):
            frame = Frame(1, tick, [Record(k, b"%06d:%03d" % (tick, k) * 100) for k in range(50)])
            truth.apply(frame)
            await publisher.send(encode_frame(frame))
        await until(lambda: gateway.worlds.hosts["w"].world.state.tick == 800)
        assert waiting_bytes(gateway) < 400_000, "newest state, not a queue"
        received = 0
        while seen.snapshot() != truth.snapshot():
            data = await asyncio.wait_for(reader.recv(), HANG_S)
            assert isinstance(data, bytes)
            received += len(data)
            message = decode_message(data)
            if isinstance(message, Frame):
                seen.apply(message)
        assert received < 10_000_000, "what is overtaken is never sent"


def waiting_bytes(gateway: Gateway) -> int:
    """What all TCP transports of the gateway hold that has not gone to the kernel."""
    servers = [server for server in (gateway.tls_server, gateway.plain_server) if server is not None]
    return sum(raw.get_write_buffer_size() for server in servers for raw in server.transports())
