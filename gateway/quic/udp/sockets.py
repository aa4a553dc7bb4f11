"""The UDP socket of an endpoint: batches in, batches out, never waiting. Room: quic.

What a flush queues leaves in one ``sendmmsg`` (:mod:`gateway.quic.udp.batch`), and ``UDP_SEGMENT`` makes
several packets for one peer one entry of it. Where the kernel has neither, packets go one by one.
A full socket buffer drops (QUIC recovers), it never blocks. Sources: sendmmsg(2), udp(7).
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import sys
from collections.abc import Callable, Sequence

from gateway import limits
from gateway.quic.connection.framing import Run
from gateway.quic.connection.paths import Address
from gateway.quic.udp.batch import (
    SOL_UDP,
    UDP_SEGMENT,
    PacketInfo,
    ReceiveBatch,
    SendBatch,
    pack_address,
    stamp,
    tell_local,
    unpack_address,
    usable,
)

Datagram = tuple[bytes, Address]

RECEIVE_BYTES = 65_535
EVERY_ADDRESS = frozenset(("0.0.0.0", "::"))
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE = 10, 23, 3
UDP_BYTES_MAX = 65_507
"""What an IPv4 datagram has room for besides its heads."""
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
"""Beyond ``net.core.wmem_max`` and ``rmem_max``, for whoever has CAP_NET_ADMIN (socket(7))."""
_SEGMENT = struct.Struct("@H")


def bind(host: str, port: int) -> socket.socket:
    """A bound, non-blocking UDP socket. ``port`` 0: any free one. Raises ``OSError``."""
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    sock = socket.socket(family, kind, proto)
    try:
        if family == socket.AF_INET6:
            # ``::`` is to take IPv4 as well, whatever net.ipv6.bindv6only says here (ipv6(7)).
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


class UdpSocket:
    """A bound UDP socket; takes it over and closes it. ``batches``: for a socket with many peers,
    several datagrams in one system call both ways, where they can be had. ``answers``: what goes to a peer leaves from
    the address of ours that it spoke to, also where the socket is bound to all: such a socket's addresses have it as
    their last item."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        segmentation: bool = True,
        batches: bool = False,
        answers: bool = False,
    ) -> None:
        sock.setblocking(False)
        for forced, option in ((SO_RCVBUFFORCE, socket.SO_RCVBUF), (SO_SNDBUFFORCE, socket.SO_SNDBUF)):
            _enlarge(sock, forced, option)
        self.sock = sock
        self.segmentation = segmentation and _kernel_segments(sock)
        self.bytes_max = datagram_bytes_max(sock)
        """The largest datagram that leaves in one piece or not at all; 0: the kernel may cut any."""
        self.sends_dropped = 0
        self.send_calls = 0
        self.datagrams_sent = 0
        self.bytes_sent = 0
        self.bytes_received = 0
        """Of UDP payloads; what a full socket buffer dropped counts as sent."""
        self._local = answers and sock.getsockname()[0] in EVERY_ADDRESS and tell_local(sock)
        self._info = PacketInfo(sock.family) if self._local else None
        self._outbox: SendBatch | None = None
        self._inbox: ReceiveBatch | None = None
        if batches and usable():
            self._outbox = SendBatch(sock.family, segmentation=self.segmentation, local=self._local)
            self._inbox = ReceiveBatch(sock.family, stamped=stamp(sock), local=self._local)
        self._names: dict[Address, bytes] = {}
        self._addresses: dict[bytes, Address] = {}

    @property
    def address(self) -> Address:
        address: Address = self.sock.getsockname()
        return address

    def fileno(self) -> int:
        return self.sock.fileno()

    # -- receiving ------------------------------------------------------------------------

    def receive(self) -> list[tuple[bytes, Address, float]]:
        """What has arrived, at most a batch, and how many seconds each has waited for that (0.0 where the kernel
        doesn't say). An ICMP error of an earlier send counts for nothing."""
        if self._inbox is None:
            return self._receive_one_by_one()
        batch = self._inbox.receive(self.sock.fileno())
        self.bytes_received += sum([len(data) for data, _, _ in batch])
        addresses = self._addresses
        try:
            # The usual batch has no stranger in it: one attempt for all is quicker than a look for each.
            return [(data, addresses[name], waited) for data, name, waited in batch]
        except KeyError:
            return [(data, self._address_of(name), waited) for data, name, waited in batch]

    def _address_of(self, name: bytes) -> Address:
        address = self._addresses.get(name)
        if address is None:
            if len(self._addresses) >= limits.QUIC_ADDRESSES_CACHED_MAX:
                # Emptied as a whole: whoever is still there is known again by its next packet, and no order of
                # use need be kept for each.
                self._addresses.clear()
            address = self._addresses[name] = unpack_address(self.sock.family, name)
        return address

    def _receive_one_by_one(self) -> list[tuple[bytes, Address, float]]:
        batch: list[tuple[bytes, Address, float]] = []
        receive: Callable[[int], tuple[bytes, Address]] = (
            self.sock.recvfrom if self._info is None else self._receive_with_local
        )
        for _ in range(limits.QUIC_RECEIVE_BATCH_MAX):
            try:
                batch.append((*receive(RECEIVE_BYTES), 0.0))
            except (BlockingIOError, InterruptedError):
                break
            except OSError as exc:
                # All else is an ICMP error of an earlier send, which the kernel tells with the next call and
                # then forgets (udp(7)): the socket is read on.
                if exc.errno == errno.EBADF:
                    break
        self.bytes_received += sum([len(data) for data, _, _ in batch])
        return batch

    def _receive_with_local(self, bytes_max: int) -> tuple[bytes, Address]:
        assert self._info is not None
        data, controls, _, address = self.sock.recvmsg(bytes_max, 2 * self._info.space)
        for level, kind, content in controls:
            if (level, kind) == (self._info.level, self._info.kind):
                ours = socket.inet_ntop(self.sock.family, self._info.address_in(content))
                return data, (*address, ours)
        return data, address

    # -- sending --------------------------------------------------------------------------

    def send_run(self, run: Run, address: Address) -> None:
        """Packets that are joined already; they leave with :meth:`push` at the latest."""
        data, segment_bytes, count = run
        name = self._names.get(address)
        outbox = self._outbox
        if outbox is None or name is None or not outbox.segmentation:
            self.send_packets(run.split(), address)
            return
        self.datagrams_sent += count
        # One packet is no run: without the control message the kernel need not look for segments.
        if count == 1:
            segment_bytes = 0
        if not outbox.add(data, name, segment_bytes):
            self.push()
            outbox.add(data, name, segment_bytes)

    def send_packets(self, packets: list[bytes], address: Address) -> None:
        """Packets to one address, in order; they leave with :meth:`push` at the latest."""
        name = self._names.get(address)
        outbox = self._outbox
        if outbox is None or (name is None and (name := self._name_of(address)) is None):
            self._send_now([(packet, address) for packet in packets])
            return
        if len(packets) == 1:
            self.datagrams_sent += 1
            if not outbox.add(packets[0], name):
                self.push()
                outbox.add(packets[0], name)
        elif outbox.segmentation and _is_run(packets):
            self.datagrams_sent += len(packets)
            data, segment_bytes = b"".join(packets), len(packets[0])
            if not outbox.add(data, name, segment_bytes):
                self.push()
                outbox.add(data, name, segment_bytes)
        else:
            self.send([(packet, address) for packet in packets])

    def send(self, datagrams: Sequence[Datagram]) -> None:
        """Datagrams in order; they leave with :meth:`push` at the latest. Runs of equal size for one
        address go as one entry."""
        outbox = self._outbox
        if outbox is None:
            self._send_now(datagrams)
            return
        start, count = 0, len(datagrams)
        while start < count:
            address = datagrams[start][1]
            name = self._names.get(address) or self._name_of(address)
            stop = _run_end(datagrams, start) if outbox.segmentation else start + 1
            if name is None:
                self._send_now(datagrams[start:stop])
            else:
                data = b"".join([data for data, _ in datagrams[start:stop]])
                segment_bytes = len(datagrams[start][0]) if stop - start > 1 else 0
                self.datagrams_sent += stop - start
                if not outbox.add(data, name, segment_bytes):
                    self.push()
                    outbox.add(data, name, segment_bytes)
            start = stop

    def push(self) -> None:
        """Send what is queued."""
        outbox = self._outbox
        if outbox is not None and outbox.count:
            self.bytes_sent += outbox.queued_bytes
            calls, dropped = outbox.send(self.sock.fileno())
            self.send_calls += calls
            self.sends_dropped += dropped
            self.segmentation = outbox.segmentation

    def _name_of(self, address: Address) -> bytes | None:
        if len(self._names) >= limits.QUIC_ADDRESSES_CACHED_MAX:
            self._names.clear()
        try:
            name = self._names[address] = pack_address(self.sock.family, address, local=self._local)
        except (OSError, ValueError):
            return None
        return name

    def _send_now(self, datagrams: Sequence[Datagram]) -> None:
        """Send them in order, after what is queued; runs of equal size for one address go out in one call."""
        self.push()
        count = len(datagrams)
        self.datagrams_sent += count
        self.bytes_sent += sum([len(data) for data, _ in datagrams])
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
                self._send_segments([data for data, _ in datagrams[start:stop]], datagrams[start][1])
            start = stop

    def _send_segments(self, packets: list[bytes], address: Address) -> None:
        """Send packets of one size (the last may be shorter) to one address in one call."""
        self.send_calls += 1
        address, ours = self._split(address)
        try:
            segment = (SOL_UDP, UDP_SEGMENT, _SEGMENT.pack(len(packets[0])))
            self.sock.sendmsg(packets, [segment, *ours], 0, address)
        except (BlockingIOError, InterruptedError):
            self.sends_dropped += len(packets)
        except OSError as exc:
            if exc.errno in (errno.EIO, errno.EINVAL, errno.ENOPROTOOPT, errno.EOPNOTSUPP):
                self.segmentation = False
                for packet in packets:
                    self._send_plain(packet, address, ours)
            else:
                self.sends_dropped += len(packets)

    def _send_one(self, data: bytes, address: Address) -> None:
        self._send_plain(data, *self._split(address))

    def _send_plain(self, data: bytes, address: Address, ours: list[tuple[int, int, bytes]]) -> None:
        self.send_calls += 1
        try:
            if ours:
                self.sock.sendmsg([data], ours, 0, address)
            else:
                self.sock.sendto(data, address)
        except OSError:
            self.sends_dropped += 1

    def _split(self, address: Address) -> tuple[Address, list[tuple[int, int, bytes]]]:
        """A peer's address, and the control message that has the packet leave from ours where that is known."""
        info, width = self._info, 2 if self.sock.family == socket.AF_INET else 4
        if info is None or len(address) <= width:
            return address, []
        ours = socket.inet_pton(self.sock.family, str(address[width]))
        return (address[0], address[1], *address[2:width]), [(info.level, info.kind, info.content(ours))]

    def close(self) -> None:
        self.sock.close()


def _is_run(packets: list[bytes]) -> bool:
    """Whether they can go as one entry: one size, the last may be shorter, within the bounds."""
    size = len(packets[0])
    if len(packets) * size > limits.QUIC_SEGMENT_BYTES_MAX or len(packets) > limits.QUIC_SEGMENTS_MAX:
        return False
    return len(packets[-1]) <= size and list(map(len, packets[:-1])).count(size) == len(packets) - 1


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


def _enlarge(sock: socket.socket, forced: int, option: int) -> None:
    """As large a buffer as is wanted where the process may ask for it, else as the system's bound allows."""
    size = limits.QUIC_SOCKET_BUFFER_BYTES
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):
            # The kernel doubles what is asked, and cuts it to net.core.rmem_max and wmem_max but for this option
            # (socket(7)).
            sock.setsockopt(socket.SOL_SOCKET, forced, size)
            return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, option, size)


def datagram_bytes_max(sock: socket.socket) -> int:
    """Have the kernel send datagrams in one piece, whatever it believes of their way, and refuse what the interface is too narrow
    for. Answers the largest that there may be; 0: it does not do so here (ip(7) and ipv6(7), RFC 8899 section 3)."""
    if not sys.platform.startswith("linux"):
        return 0
    six = sock.family == socket.AF_INET6
    try:
        if six:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
        # On an IPv6 socket as well: to mapped addresses it sends by IPv4's options. PROBE rather than DO: a
        # router's claim in an ICMP message must not shrink packets, for anybody can forge one (RFC 9000 section
        # 14.2.1).
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
    except OSError:
        return 0
    return UDP_BYTES_MAX


def _kernel_segments(sock: socket.socket) -> bool:
    try:
        sock.getsockopt(SOL_UDP, UDP_SEGMENT)
    except OSError:
        return False
    return True
