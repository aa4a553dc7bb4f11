"""How much may wait in a TCP connection: little on a narrow link, whole frames on one that keeps up."""

from __future__ import annotations

import asyncio
import socket

from gateway import limits
from gateway.http.linkwindow import LinkWindow
from gateway.http.server import TcpOptions, TcpServer, Wire, bind_tcp, kernel_unsent_bytes
from tests.patience import HANG_S


class Pipe:
    """A connection that drains at ``bytes_per_s``, and a source that fills its window every ``step_s``."""

    def __init__(self, bytes_per_s: float) -> None:
        self.window = LinkWindow()
        self.rate = bytes_per_s
        self.now = 100.0
        self.waiting = 0.0
        self.window.measure_from(self.now)

    def run(self, seconds: float, step_s: float = 0.005) -> int:
        """Answers the most that ever waited."""
        most = 0
        for _ in range(round(seconds / step_s)):
            room = self.window.room
            self.window.written += room
            self.waiting += room
            most = max(most, int(self.waiting))
            self.now += step_s
            self.waiting = max(0.0, self.waiting - self.rate * step_s)
            self.window.saw(int(self.waiting), self.now)
        return most


def test_a_narrow_link_soon_holds_a_tick_or_two_of_what_it_drains() -> None:
    pipe = Pipe(32_000)
    assert pipe.run(2.0) <= limits.LINK_WINDOW_BYTES_FIRST
    assert pipe.run(5.0) <= max(limits.LINK_WINDOW_BYTES_MIN, 1.5 * 32_000 * limits.LINK_WINDOW_S)
    assert pipe.window.bytes_per_s is not None
    assert 0.8 * 32_000 < pipe.window.bytes_per_s < 1.2 * 32_000


def test_a_link_that_keeps_up_gets_room_for_whole_frames() -> None:
    pipe = Pipe(1e9)
    pipe.run(0.1)
    assert pipe.window.size == limits.LINK_WINDOW_BYTES_MAX


def test_a_link_that_grows_narrow_is_noticed_and_one_that_grows_wide_again_too() -> None:
    pipe = Pipe(1e9)
    pipe.run(0.1)
    pipe.rate = 32_000
    pipe.run(20.0)
    assert pipe.run(1.0) <= 2 * limits.LINK_WINDOW_BYTES_MIN
    pipe.rate = 1e9
    pipe.run(0.2)
    assert pipe.window.size == limits.LINK_WINDOW_BYTES_MAX


def test_a_link_that_stands_still_keeps_no_more_than_the_least() -> None:
    pipe = Pipe(0.0)
    pipe.run(1.0)
    assert pipe.window.size == limits.LINK_WINDOW_BYTES_MIN
    assert limits.LINK_POLL_S <= pipe.window.drained_in() <= limits.LINK_POLL_S_MAX


def test_the_kernel_tells_what_it_has_not_sent_to_a_peer_that_does_not_read() -> None:
    listening = bind_tcp("127.0.0.1", 0)
    with listening, socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        reader.connect(listening.getsockname())
        listening.setblocking(True)
        sender, _ = listening.accept()
        with sender:
            assert kernel_unsent_bytes(sender) == 0
            sender.setblocking(False)
            taken = 0
            try:
                while True:
                    taken += sender.send(bytes(1_000))
            except BlockingIOError:
                pass
            assert 0 < kernel_unsent_bytes(sender) <= taken
        assert kernel_unsent_bytes(sender) == 0, "closed: nothing waits any more"
    assert kernel_unsent_bytes(None) == 0


async def test_what_waits_in_a_connection_counts_the_kernels_part() -> None:
    wires: list[Wire] = []
    asked, over = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        wires.append(scope["state"]["wire"])
        asked.set()
        await over.wait()

    server = TcpServer(app, TcpOptions(message_bytes_max=1 << 20))  # type: ignore[arg-type]
    sock = bind_tcp("127.0.0.1", 0)
    await server.listen(sock)
    try:
        with socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            peer.connect(("127.0.0.1", server.port))
            peer.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await asyncio.wait_for(asked.wait(), HANG_S)
            wire = wires[0]
            assert wire.unsent_bytes() == 0
            while not wire.pending_bytes():
                wire.app.write(bytes(40_000))
            assert wire.unsent_bytes() > wire.pending_bytes() > 0
    finally:
        over.set()
        await server.aclose(0.1)
