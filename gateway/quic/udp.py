"""The UDP socket of an endpoint: batches in, batches out, never waiting. Room: quic.

Where the kernel has them, ``UDP_SEGMENT`` sends several packets for one peer in one system call.
A full socket buffer drops (QUIC recovers), it never blocks.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Sequence
from typing import Any

from gateway import limits

Address = Any
Datagram = tuple[bytes, Address]

SOL_UDP = 17
UDP_SEGMENT = 103
RECEIVE_BYTES = 65_535
_SEGMENT = struct.Struct("@H")


def bind(host: str, port: int) -> socket.socket:
    """A bound, non-blocking UDP socket. ``port`` 0: any free one. Raises ``OSError``."""
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    sock = socket.socket(family, kind, proto)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


class UdpSocket:
    """A bound UDP socket; takes it over and closes it."""

    def __init__(self, sock: socket.socket, *, segmentation: bool = True) -> None:
        sock.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, option, limits.QUIC_SOCKET_BUFFER_BYTES)
        self.sock = sock
        self.segmentation = segmentation and _kernel_segments(sock)
        self.sends_dropped = 0
        self.send_calls = 0
        self.datagrams_sent = 0

    @property
    def address(self) -> Address:
        return self.sock.getsockname()

    def fileno(self) -> int:
        return self.sock.fileno()

    def receive(self) -> list[Datagram]:
        """What has arrived, at most a batch. An ICMP error of an earlier send counts for nothing."""
        batch: list[Datagram] = []
        receive = self.sock.recvfrom
        for _ in range(limits.QUIC_RECEIVE_BATCH_MAX):
            try:
                batch.append(receive(RECEIVE_BYTES))
            except (BlockingIOError, InterruptedError):
                break
            except OSError as exc:
                if exc.errno == errno.EBADF:
                    break
        return batch

    def send(self, datagrams: Sequence[Datagram]) -> None:
        """Send them in order; runs of equal size for one address go out in one call."""
        count = len(datagrams)
        self.datagrams_sent += count
        if count == 1 or not self.segmentation:
            for data, address in datagrams:
                self._send_one(data, address)
            return
        start = 0
        while start < count:
            stop = _run_end(datagrams, start)
            if stop - start == 1:
                self._send_one(*datagrams[start])
            else:
                self.send_run([data for data, _ in datagrams[start:stop]], datagrams[start][1])
            start = stop

    def send_packets(self, packets: list[bytes], address: Address) -> None:
        """Send packets to one address, in order."""
        if len(packets) == 1:
            self.datagrams_sent += 1
            self.send_calls += 1
            try:
                self.sock.sendto(packets[0], address)
            except OSError:
                self.sends_dropped += 1
        else:
            self.send([(packet, address) for packet in packets])

    def send_run(self, packets: list[bytes], address: Address) -> None:
        """Send packets of one size (the last may be shorter) to one address in one call."""
        self.send_calls += 1
        try:
            self.sock.sendmsg(packets, [(SOL_UDP, UDP_SEGMENT, _SEGMENT.pack(len(packets[0])))], 0, address)
        except (BlockingIOError, InterruptedError):
            self.sends_dropped += len(packets)
        except OSError as exc:
            if exc.errno in (errno.EIO, errno.EINVAL, errno.ENOPROTOOPT, errno.EOPNOTSUPP):
                self.segmentation = False
                for packet in packets:
                    self._send_one(packet, address)
            else:
                self.sends_dropped += len(packets)

    def _send_one(self, data: bytes, address: Address) -> None:
        self.send_calls += 1
        try:
            self.sock.sendto(data, address)
        except OSError:
            self.sends_dropped += 1

    def close(self) -> None:
        self.sock.close()


def _run_end(datagrams: Sequence[Datagram], start: int) -> int:
    """Where the run that begins at ``start`` ends: same address, same size, the last may be shorter."""
    first, address = datagrams[start]
    size = len(first)
    room = min(limits.QUIC_SEGMENTS_MAX, limits.QUIC_SEGMENT_BYTES_MAX // max(size, 1))
    stop = start + 1
    end = min(len(datagrams), start + room)
    while stop < end:
        data, to = datagrams[stop]
        if len(data) > size or to != address:
            break
        stop += 1
        if len(data) < size:
            break
    return stop


def _kernel_segments(sock: socket.socket) -> bool:
    try:
        sock.getsockopt(SOL_UDP, UDP_SEGMENT)
    except OSError:
        return False
    return True
