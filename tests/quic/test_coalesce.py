"""A busy socket is read by the clock, a calm one as soon as something is there."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

import pytest

from gateway.limits import (
    QUIC_BY_CLOCK_PACKETS_MIN,
    QUIC_BY_CLOCK_READS_MIN,
    QUIC_BY_CLOCK_S,
    QUIC_RECEIVE_TURN_MAX,
)
from gateway.quic.udp.coalesce import WINDOW_S, ReadPace, Watch
from tests.patience import HANG_S


def counted(
    pace: ReadPace, reads_per_s: float, packets: int = 1, answered: int = 0, *, began: float = 0.0
) -> ReadPace:
    """After a fifth of a second of that."""
    for n in range(int(reads_per_s / 5)):
        pace.note(packets, answered, began + n / reads_per_s)
    return pace


def test_many_lone_packets_are_read_by_the_clock_and_few_are_not() -> None:
    assert counted(ReadPace(), 1.1 * QUIC_BY_CLOCK_READS_MIN).by_clock
    assert not counted(ReadPace(), 0.9 * QUIC_BY_CLOCK_READS_MIN).by_clock
    assert not counted(ReadPace(), 500, packets=20).by_clock


def test_where_peers_get_answers_the_socket_is_watched() -> None:
    assert not counted(ReadPace(), 5_000, packets=2, answered=1).by_clock
    pace = counted(ReadPace(), 5_000)
    assert pace.by_clock
    assert not counted(pace, 1_000, packets=4, answered=2, began=0.2).by_clock


def test_it_goes_on_by_the_clock_while_packets_come_and_not_for_long_without() -> None:
    pace = counted(ReadPace(), 5_000)
    looks = 1 / QUIC_BY_CLOCK_S
    assert counted(pace, looks, packets=int(1.5 * QUIC_BY_CLOCK_PACKETS_MIN / looks), began=0.2).by_clock
    for n in range(3 * int(WINDOW_S / QUIC_BY_CLOCK_S)):
        pace.note(n % 2, 0, 0.4 + n * QUIC_BY_CLOCK_S)
    assert not pace.by_clock


def test_one_burst_after_a_silence_is_no_busy_socket() -> None:
    pace = ReadPace()
    for second in range(3):
        pace.note(1, 0, float(second))
        pace.note(64, 0, second + 0.001)
    assert not pace.by_clock


class Loop:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.watched: dict[int, Callable[[], None]] = {}
        self.calls: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def add_reader(self, fd: int, call: Callable[[], None]) -> None:
        self.watched[fd] = call

    def remove_reader(self, fd: int) -> None:
        self.watched.pop(fd, None)

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Any:
        self.calls.append((delay_s, call))
        return self

    def call_soon(self, call: Callable[[], None]) -> Any:
        return self.call_later(0.0, call)

    def cancel(self) -> None:
        self.calls.clear()

    def step(self, seconds: float) -> float | None:
        """What is due next, so much later; after which delay it was wanted, None: the socket told of itself."""
        self.now += seconds
        if self.calls:
            delay_s, call = self.calls.pop()
            call()
            return delay_s
        self.watched[5]()
        return None


@pytest.fixture
def loop() -> Any:
    return Loop()


def busy(loop: Any, read: Callable[[], tuple[int, int]]) -> Watch:
    watch = Watch(loop, 5, read)
    for _ in range(200):
        loop.step(0.0002)
    return watch


def test_a_busy_socket_is_let_go_and_watched_again_when_it_is_calm(loop: Any) -> None:
    packets = 5
    busy(loop, lambda: (packets, 0))
    assert not loop.watched
    assert loop.step(0.001) == QUIC_BY_CLOCK_S
    packets = 0
    for _ in range(40):
        loop.step(0.001)
    assert loop.watched
    assert not loop.calls


def test_a_full_turn_is_followed_by_the_next_without_a_pause(loop: Any) -> None:
    busy(loop, lambda: (QUIC_RECEIVE_TURN_MAX, 0))
    assert loop.step(0.001) == 0.0


def test_a_read_that_fails_does_not_end_the_reading(loop: Any) -> None:
    fails = False

    def read() -> tuple[int, int]:
        if fails:
            raise OSError("for once")
        return 5, 0

    busy(loop, read)
    fails = True
    with pytest.raises(OSError, match="for once"):
        loop.step(0.001)
    fails = False
    assert loop.step(0.001) == QUIC_BY_CLOCK_S


@pytest.mark.parametrize("calm", [True, False])
def test_at_the_end_nothing_is_read_any_more(loop: Any, calm: bool) -> None:
    watch = Watch(loop, 5, lambda: (1, 0)) if calm else busy(loop, lambda: (5, 0))
    watch.end()
    watch.end()
    assert not loop.watched
    assert not loop.calls


async def test_on_a_real_loop_everything_is_read_busy_or_not() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    there.setblocking(False)
    came, total, all_came = [], 603, asyncio.Event()

    def read() -> tuple[int, int]:
        before = len(came)
        with contextlib.suppress(BlockingIOError):
            while len(came) - before < 64:
                came.append(there.recv(10))
        if len(came) == total:
            all_came.set()
        return len(came) - before, 0

    watch = Watch(asyncio.get_running_loop(), there.fileno(), read)
    for n in range(total):
        here.send(b"%d" % n)
        await asyncio.sleep(0.03 if n >= total - 3 else 0.0002)
    await asyncio.wait_for(all_came.wait(), HANG_S)
    assert came == [b"%d" % n for n in range(total)]
    watch.end()
    here.close()
    there.close()
