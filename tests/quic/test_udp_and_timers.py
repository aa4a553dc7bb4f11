"""The socket and the timer wheel of an endpoint."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from gateway import limits
from gateway.quic.timers import TimerWheel
from gateway.quic.udp import UdpSocket, bind


def test_packets_of_one_run_arrive_as_they_were_cut() -> None:
    sender = UdpSocket(bind("127.0.0.1", 0))
    with bind("127.0.0.1", 0) as receiver:
        receiver.settimeout(5)
        to = receiver.getsockname()
        packets = [bytes([n]) * size for n, size in enumerate([1200, 1200, 1200, 700, 1200, 30, 30, 31])]
        sender.send([(packet, to) for packet in packets])
        assert [receiver.recv(65_535) for _ in packets] == packets
        if sender.segmentation:
            assert sender.send_calls < len(packets)
    sender.close()


def test_without_segmentation_the_same_packets_go_one_by_one() -> None:
    sender = UdpSocket(bind("127.0.0.1", 0), segmentation=False)
    with bind("127.0.0.1", 0) as receiver:
        receiver.settimeout(5)
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


@dataclass(eq=False)
class Item:
    deadline: float
    wheel_slot: int = 0


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
