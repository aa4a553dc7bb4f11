"""The socket and the timer wheel of an endpoint."""

from __future__ import annotations

import select
import socket
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from gateway import limits
from gateway.quic.endpoint import Endpoint
from gateway.quic.timers import TimerWheel
from gateway.quic.udp import UdpSocket, batch, bind
from gateway.quic.udp.batch import usable
from tests.patience import HANG_S

SO_NO_CHECK = 11


class Anything:
    """A socket, a loop or a connection of which nothing is wanted. A loop keeps what is to be called when there is something to
    read, as ``on_readable``."""

    def add_reader(self, number: object, call: Callable[[], None]) -> None:
        self.on_readable = call

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: self


def test_packets_of_one_run_arrive_as_they_were_cut() -> None:
    sender = UdpSocket(bind("127.0.0.1", 0))
    with bind("127.0.0.1", 0) as receiver:
        receiver.settimeout(HANG_S)
        to = receiver.getsockname()
        packets = [bytes([n]) * size for n, size in enumerate([1200, 1200, 1200, 700, 1200, 30, 30, 31])]
        sender.send([(packet, to) for packet in packets])
        assert [receiver.recv(65_535) for _ in packets] == packets
        if sender.segmentation:
            assert sender.send_calls < len(packets)
    sender.close()


@pytest.mark.parametrize("sizes", [(900, 500, 900), (500, 900), (900, 900, 500), (900, 900, 901), (7, 7, 7)])
def test_packets_for_one_peer_arrive_as_they_were_cut_whatever_their_sizes(sizes: tuple[int, ...]) -> None:
    sender = UdpSocket(bind("127.0.0.1", 0), batches=True)
    packets = [bytes([n]) * size for n, size in enumerate(sizes)]
    with bind("127.0.0.1", 0) as receiver:
        receiver.settimeout(HANG_S)
        sender.send_packets(packets, receiver.getsockname())
        sender.push()
        assert [receiver.recv(65_535) for _ in packets] == packets
    assert sender.datagrams_sent == len(packets)
    sender.close()


def test_without_segmentation_the_same_packets_go_one_by_one() -> None:
    sender = UdpSocket(bind("127.0.0.1", 0), segmentation=False)
    with bind("127.0.0.1", 0) as receiver:
        receiver.settimeout(HANG_S)
        sender.send([(b"a" * 9, receiver.getsockname()), (b"b" * 9, receiver.getsockname())])
        assert [receiver.recv(99), receiver.recv(99)] == [b"a" * 9, b"b" * 9]
    assert sender.send_calls == 2
    sender.close()


def test_a_full_socket_drops_and_never_blocks() -> None:
    sock = bind("127.0.0.1", 0)
    sender = UdpSocket(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    with bind("127.0.0.1", 0) as receiver:
        run = [(bytes(1_200), receiver.getsockname())] * limits.QUIC_SEGMENTS_MAX
        for _ in range(20):
            sender.send(run)
    assert sender.datagrams_sent == 20 * limits.QUIC_SEGMENTS_MAX
    sender.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("segmentation", [True, False])
def test_what_is_queued_for_many_leaves_at_once_and_in_order(host: str, segmentation: bool) -> None:
    sender = UdpSocket(bind(host, 0), batches=True, segmentation=segmentation)
    with bind(host, 0) as one, bind(host, 0) as other:
        runs = {
            one: [b"a" * 1200, b"b" * 1200, b"c" * 1200, b"d" * 700, b"e" * 900],
            other: [b"", b"x", b"y" * 1300],
        }
        for sock, packets in runs.items():
            sock.settimeout(HANG_S)
            sender.send_packets(packets[:1], sock.getsockname())
            sender.send_packets(packets[1:], sock.getsockname())
        sender.push()
        for sock, packets in runs.items():
            assert [sock.recv(65_535) for _ in packets] == packets
    if usable():
        assert sender.send_calls == 1
    assert sender.datagrams_sent == 8
    assert sender.sends_dropped == 0
    sender.close()


def test_more_than_a_batch_leaves_as_several() -> None:
    sender = UdpSocket(bind("127.0.0.1", 0), batches=True)
    with bind("127.0.0.1", 0) as receiver:
        receiver.settimeout(HANG_S)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limits.QUIC_SOCKET_BUFFER_BYTES)
        packets = [n.to_bytes(2, "big") * 600 for n in range(60)]
        for _ in range(4):
            for packet in packets:
                sender.send_packets([packet], receiver.getsockname())
            sender.push()
            assert [receiver.recv(65_535) for _ in packets] == packets
        many = limits.QUIC_SEND_BATCH_BYTES // limits.QUIC_SEGMENT_BYTES_MAX + 2
        for _ in range(many):
            sender.send_packets([b"z" * 1_200] * limits.QUIC_SEGMENTS_MAX, receiver.getsockname())
        sender.push()
    assert sender.datagrams_sent == 240 + many * limits.QUIC_SEGMENTS_MAX
    sender.close()


def test_a_route_that_takes_no_segments_gets_datagrams() -> None:
    sender = UdpSocket(bind("127.0.0.1", 0), batches=True)
    if not usable() or not sender.segmentation:
        pytest.skip("this system has no UDP_SEGMENT")
    sender.sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)  # without checksums the kernel refuses segments
    with bind("127.0.0.1", 0) as receiver:
        receiver.settimeout(HANG_S)
        packets = [b"a" * 1200, b"b" * 1200, b"c" * 5]
        for _ in range(2):
            sender.send_packets(packets, receiver.getsockname())
            sender.send_packets([b"single"], receiver.getsockname())
            sender.push()
            assert [receiver.recv(65_535) for _ in range(4)] == [*packets, b"single"]
    assert not sender.segmentation
    assert sender.sends_dropped == 0
    sender.close()


def test_one_address_that_cannot_be_reached_costs_the_others_nothing() -> None:
    sender = UdpSocket(bind("127.0.0.1", 0), batches=True)
    with bind("127.0.0.1", 0) as receiver:
        receiver.settimeout(HANG_S)
        to = receiver.getsockname()
        for packet, address in (
            (b"1", to),
            (b"2", ("127.0.0.1", 0)),
            (b"3", to),
            (b"4", ("no address", 9)),
            (b"5", to),
        ):
            sender.send_packets([packet], address)
        sender.push()
        assert [receiver.recv(99) for _ in range(3)] == [b"1", b"3", b"5"]
    assert sender.sends_dropped == 2
    sender.close()


@pytest.mark.parametrize("batches", [True, False])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::"])
def test_what_arrived_is_read_with_the_address_that_the_socket_module_says(host: str, batches: bool) -> None:
    receiver = UdpSocket(bind(host, 0), batches=batches)
    target = ("127.0.0.1", receiver.address[1]) if host == "::" else receiver.address
    with bind(target[0], 0) as one, bind(target[0], 0) as other:
        sent = [(b"hello", one), (b"", other), (b"x" * 60_000, one), (b"y" * 1_200, other)]
        for data, sock in sent:
            sock.sendto(data, target)
        want = [(data, sock.getsockname()) for data, sock in sent]
        if host == "::":
            want = [(data, (f"::ffff:{address[0]}", address[1], 0, 0)) for data, address in want]
        came = receiver.receive()
        assert [(data, address) for data, address, _ in came] == want
        assert all(0.0 <= waited < 1.0 for _, _, waited in came)
        assert receiver.receive() == []
    receiver.close()


@dataclass(eq=False)
class Item:
    deadline: float
    wheel_slot: int = 0

    def __post_init__(self) -> None:
        self.wheel_entry: list[Any] = [self]


def test_the_wheel_looks_at_each_item_once_and_not_before_its_time() -> None:
    wheel, looked = TimerWheel(), []
    items = [Item(10.0 + n * 0.0104) for n in range(50)]
    for item in items:
        wheel.add(item, item.deadline)
    now = 10.0
    while (deadline := wheel.next_deadline()) is not None:
        assert deadline >= now
        now = deadline
        wheel.expire(now, lambda item, now=now: looked.append((item, now)))
    assert [item for item, _ in looked] == items
    assert all(item.deadline - 1e-6 <= at <= item.deadline + 0.0011 for item, at in looked)


def test_an_item_that_moved_nearer_is_looked_at_early_and_only_once() -> None:
    wheel, looked = TimerWheel(), []
    item = Item(0.0)
    assert wheel.add(item, 20.0)
    assert wheel.add(item, 10.0)
    assert not wheel.add(item, 15.0)
    wheel.expire(30.0, looked.append)
    assert looked == [item]
    assert wheel.next_deadline() is None


def test_a_removed_item_is_not_looked_at() -> None:
    wheel, looked = TimerWheel(), []
    item = Item(0.0)
    wheel.add(item, 1.0)
    wheel.remove(item)
    wheel.expire(2.0, looked.append)
    assert looked == []


def test_a_removed_item_is_not_held_until_its_slot_comes_up() -> None:
    wheel, item = TimerWheel(), Item(0.0)
    wheel.add(item, 30.0)
    wheel.add(item, 1.0)
    gone = weakref.ref(item)
    wheel.remove(item)
    del item
    assert gone() is None
    assert wheel.next_deadline() is not None


def test_an_item_whose_time_has_not_quite_come_is_not_looked_at_for_ever() -> None:
    wheel, item, looked = TimerWheel(), Item(0.0), []

    def look(one: Any) -> None:
        looked.append(one)
        wheel.add(one, 1.0004)

    wheel.add(item, 1.0)
    wheel.expire(1.01, look)
    assert looked == [item]
    wheel.expire(1.01, look)
    assert looked == [item, item]


def test_what_is_read_together_is_handed_on_together_and_a_fault_in_it_ends_one_connection() -> None:
    class Quiet(Anything):
        came: Sequence[tuple[bytes, Any, float]] = ()

        def receive(self) -> Any:
            return self.came

    class Faulty:
        is_marked, quic = False, Anything()

        def __init__(self) -> None:
            self.faults: list[str] = []

        def receive(self, data: bytes, addr: Any, now: float) -> None:
            order.append(data[9:])
            endpoint.after_input(self, lambda: order.append(b"after"))  # type: ignore[arg-type]
            endpoint.after_input(self, lambda: 1 // 0)  # type: ignore[arg-type,return-value]

        def fault(self, doing: str) -> None:
            self.faults.append(doing)

    order: list[bytes] = []
    socket_and_loop: Any = Quiet()
    endpoint, peer = Endpoint(socket_and_loop, socket_and_loop), Faulty()
    endpoint.add_peer(peer, b"A" * 8)  # type: ignore[arg-type]
    socket_and_loop.came = [(b"\x40" + b"A" * 8 + b"%d" % n, ("there", 1), 0.0) for n in range(2)]
    socket_and_loop.on_readable()
    assert order == [b"0", b"1", b"after", b"after"]
    assert len(peer.faults) == 2
    endpoint.after_input(peer, lambda: order.append(b"at once"))  # type: ignore[arg-type]
    assert order[-1] == b"at once"


@pytest.mark.skipif(not usable(), reason="without recvmmsg nobody tells")
def test_how_long_a_datagram_waited_is_told_unless_the_clock_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        wall, mono = time.time(), 100.0

        def read(self, sender: socket.socket, later_s: float, set_s: float = 0.0) -> float:
            """How long a datagram waited that is read so much later, the wall clock having been set meanwhile."""
            sender.sendto(b"x", receiver.address)
            select.select([receiver.sock], [], [], 1.0)
            passed = time.time() + later_s - self.wall
            self.wall, self.mono = self.wall + passed + set_s, self.mono + passed
            ((_, _, waited),) = receiver.receive()
            self.wall -= set_s
            return waited

    clock = Clock()
    with bind("127.0.0.1", 0) as sender:
        receiver = UdpSocket(bind("127.0.0.1", 0), batches=True)
        fake = SimpleNamespace(time=lambda: clock.wall, monotonic=lambda: clock.mono)
        monkeypatch.setattr(batch, "time", fake)
        assert clock.read(sender, 0.25) == 0.0, "nothing is believed of a clock before it was looked at twice"
        assert 0.25 <= clock.read(sender, 0.25) < 0.75
        assert clock.read(sender, 0.25, set_s=0.3) == 0.0
        assert clock.read(sender, 0.25, set_s=-0.3) == 0.0
    receiver.close()


def test_reading_ends_where_nothing_is_left_at_its_bound_and_where_packets_take_long() -> None:
    class Queue(Anything):
        left = 10 * limits.QUIC_RECEIVE_TURN_MAX

        def receive(self) -> Any:
            count = min(self.left, limits.QUIC_RECEIVE_BATCH_MAX)
            self.left -= count
            return [(b"\x40" + b"A" * 8, ("there", 1), 0.0)] * count

    class Slow:
        takes_s = 0.0
        is_marked, quic = False, Anything()

        def receive(self, data: bytes, addr: Any, now: float) -> None:
            clock[0] += self.takes_s

    clock = [100.0]
    queue: Any = Queue()
    endpoint, peer = Endpoint(queue, queue), Slow()
    endpoint.time = lambda: clock[0]
    endpoint.add_peer(peer, b"A" * 8)  # type: ignore[arg-type]

    def read() -> int:
        before = endpoint.counters["datagrams_received"]
        queue.on_readable()
        return endpoint.counters["datagrams_received"] - before

    assert read() == limits.QUIC_RECEIVE_TURN_MAX
    peer.takes_s = 0.002
    assert read() == limits.QUIC_RECEIVE_BATCH_MAX
    peer.takes_s, queue.left = 0.0, 70
    assert read() == 70
