"""Many UDP datagrams in one system call: Linux's ``sendmmsg`` and ``recvmmsg`` by ctypes. Room: quic.

The structures that the kernel reads (``mmsghdr``, ``iovec``, ``sockaddr``) are laid out once in memory
of ours, and each datagram only fills in its bytes, length and address. :func:`usable` tries both calls
before they are relied on; where they are not to be had, :mod:`gateway.quic.udp.sockets` asks for one at a time.
Sources: sendmmsg(2), recvmmsg(2), udp(7); the layout is that of all 64-bit Linux systems.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
import sys
import time
from collections.abc import Sequence
from functools import cache

from gateway import limits
from gateway.quic.connection.paths import Address

# Numbers of Linux (include/uapi/linux/udp.h, asm-generic/socket.h, linux/in.h): Python's socket module has no names
# for them.
SOL_UDP = 17
UDP_SEGMENT = 103
HEADER = struct.Struct("@PIxxxxPPPPixxxxIxxxx")
"""``struct mmsghdr``: name, its length, iovec, how many, control, its length, flags; then the length sent or read."""
HEADER_BYTES, HEADER_WORDS = 64, 8
IOVEC = struct.Struct("@PP")
SEGMENT_CONTROL = struct.Struct("@Pii")
SEGMENT_BYTES = 24
"""``CMSG_SPACE`` of the two bytes of a segment's size."""
CONTROL_BYTES = 64
"""Room for that and for an address of ours before it."""
SO_TIMESTAMPNS = 35
IP_PKTINFO, IPV6_RECVPKTINFO, IPV6_PKTINFO = 8, 49, 50
STAMP_BYTES = 32
"""``CMSG_SPACE`` of a timespec: its head in 16 bytes, then seconds and nanoseconds of the wall clock."""
WAITED_S_MAX = 1.0
"""Whatever seems to have waited longer is not believed, nor what seems not to have come yet."""
CLOCK_SET_S = 0.001
"""By so much the wall clock and the monotonic one drift apart in seconds; at once where the wall clock is set. What
is read next is then not measured by it, or every round trip of that moment would be wrong."""
NAME_BYTES_MAX = 32
NAME_BYTES = {int(socket.AF_INET): 16, int(socket.AF_INET6): 28, int(socket.AF_UNIX): 2}
LENGTH_AT = 56 // 4
CONTROL_LENGTH_AT = 40 // 8
# EIO: the route's device does no checksums; EINVAL: what is asked does not fit the route (Linux, udp_send_skb in net/ipv4/udp.c).
NOT_SEGMENTED = frozenset((errno.EIO, errno.EINVAL, errno.ENOPROTOOPT, errno.EOPNOTSUPP))
"""Errors of a route or device that takes no ``UDP_SEGMENT``."""


class SendBatch:
    """Datagrams that leave together. ``family``: of the socket. ``local``: each from an address of ours that stands
    behind the peer's in its ``name`` (see :func:`pack_address`). ``segmentation`` goes False when a route turns out not to
    take it."""

    def __init__(self, family: int, *, segmentation: bool, local: bool = False) -> None:
        self.segmentation = segmentation
        info = PacketInfo(family) if local else None
        self._name_bytes = NAME_BYTES[family]
        self._local_bytes = info.address_bytes if info else 0
        self._local_at = info.address_at if info else 0
        self._plain_bytes = info.space if info else 0
        self.count = 0
        self._used = 0
        self._runs: list[int] = []
        count = limits.QUIC_SEND_BATCH_MAX
        self._data, self._base = _memory(limits.QUIC_SEND_BATCH_BYTES)
        self._names, names = _memory(count * NAME_BYTES_MAX)
        vectors, vectors_at = _memory(count * IOVEC.size)
        self._controls, controls = _memory(count * CONTROL_BYTES)
        headers, self._headers_at = _memory(count * HEADER_BYTES)
        for n in range(count):
            vector, control = vectors_at + n * IOVEC.size, controls + n * CONTROL_BYTES
            name = names + n * NAME_BYTES_MAX
            plain = self._plain_bytes
            HEADER.pack_into(
                headers, n * HEADER_BYTES, name, NAME_BYTES[family], vector, 1, control, plain, 0, 0
            )
            if info:
                info.put_head(self._controls, n * CONTROL_BYTES)
            SEGMENT_CONTROL.pack_into(self._controls, n * CONTROL_BYTES + plain, 18, SOL_UDP, UDP_SEGMENT)
        self._vectors = vectors.cast("P")
        self._headers = headers.cast("P")
        self._sizes = self._controls.cast("H")
        self._size_at = self._plain_bytes // 2 + 8
        self._send = _libc().sendmmsg

    @property
    def queued_bytes(self) -> int:
        """What waits for :meth:`send`."""
        return self._used

    def add(self, data: bytes, name: bytes, segment_bytes: int = 0) -> bool:
        """One datagram, or with ``segment_bytes`` several of that size (the last may be shorter), to
        the packed address ``name``. False: there is no room; :meth:`send` first."""
        n, at = self.count, self._used
        size = len(data)
        stop = at + size
        if n == limits.QUIC_SEND_BATCH_MAX or stop > limits.QUIC_SEND_BATCH_BYTES:
            return False
        # Copied into memory that stays where it is: the kernel is given addresses, and of ``bytes`` there is none
        # that ctypes could take without an object for each.
        self._data[at:stop] = data
        if self._local_bytes:
            where = n * CONTROL_BYTES + self._local_at
            self._controls[where : where + self._local_bytes] = name[self._name_bytes :]
            name = name[: self._name_bytes]
        self._names[n * NAME_BYTES_MAX : n * NAME_BYTES_MAX + len(name)] = name
        self._vectors[2 * n] = self._base + at
        self._vectors[2 * n + 1] = size
        if segment_bytes:
            self._runs.append(n)
            # The control message itself was written once; how long the control data is says whether the kernel
            # reads it.
            self._headers[n * HEADER_WORDS + CONTROL_LENGTH_AT] = self._plain_bytes + SEGMENT_BYTES
            self._sizes[n * (CONTROL_BYTES // 2) + self._size_at] = segment_bytes
        self.count = n + 1
        self._used = stop
        return True

    def send(self, fd: int) -> tuple[int, int]:
        """Send all in order and be empty. Answers how many system calls it took, and how many
        datagrams a full socket or a dead route dropped. sendmmsg(2)."""
        at = calls = dropped = 0
        while at < self.count:
            where = self._headers_at + at * HEADER_BYTES
            sent = self._send(fd, where, self.count - at, socket.MSG_DONTWAIT)
            calls += 1
            # Fewer than asked: the next one failed, and says why only when it is tried as the first (sendmmsg(2), "BUGS").
            if sent > 0:
                at += sent
                continue
            code = ctypes.get_errno()
            # Dropped, not kept: a tick later there is newer state, and recovery finds the loss as any other.
            if code in (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS):
                dropped += sum(self._segments(n) for n in range(at, self.count))
                break
            if code == errno.EINTR:
                continue
            if code in NOT_SEGMENTED and self._segments(at) > 1:
                alone = self._send_one_by_one(fd, at)
                self.segmentation = self.segmentation and alone > 0
                dropped += alone
            else:
                dropped += self._segments(at)
            at += 1
        for n in self._runs:
            self._headers[n * HEADER_WORDS + CONTROL_LENGTH_AT] = self._plain_bytes
        self._runs.clear()
        self.count = self._used = 0
        return calls, dropped

    def _segments(self, n: int) -> int:
        """How many datagrams the ``n``-th entry is."""
        if self._headers[n * HEADER_WORDS + CONTROL_LENGTH_AT] == self._plain_bytes:
            return 1
        return -(-self._vectors[2 * n + 1] // self._sizes[n * (CONTROL_BYTES // 2) + self._size_at])

    def _send_one_by_one(self, fd: int, n: int) -> int:
        """The segments of an entry as datagrams of their own; how many were dropped."""
        self._headers[n * HEADER_WORDS + CONTROL_LENGTH_AT] = self._plain_bytes
        segment = self._sizes[n * (CONTROL_BYTES // 2) + self._size_at]
        dropped = 0
        at, left = self._vectors[2 * n], self._vectors[2 * n + 1]
        while left > 0:
            self._vectors[2 * n], self._vectors[2 * n + 1] = at, min(segment, left)
            if self._send(fd, self._headers_at + n * HEADER_BYTES, 1, socket.MSG_DONTWAIT) != 1:
                dropped += 1
            at, left = at + segment, left - segment
        return dropped


class ReceiveBatch:
    """Datagrams that are read together from a socket of this family, on which :func:`stamp` was called if
    ``stamped``: then how long each has waited is known; and :func:`tell_local` if ``local``: then the address of ours
    that it came to stands behind the peer's."""

    def __init__(self, family: int, *, stamped: bool = False, local: bool = False) -> None:
        self._name_bytes = NAME_BYTES[family]
        info = PacketInfo(family) if local else None
        self._local_bytes = info.address_bytes if info else 0
        self._local_at = (STAMP_BYTES if stamped else 0) + (info.address_at if info else 0)
        self._control_bytes = (STAMP_BYTES if stamped else 0) + (info.space if info else 0)
        count, slot = limits.QUIC_RECEIVE_BATCH_MAX, limits.QUIC_RECEIVE_SLOT_BYTES
        self._data, data = _memory(count * slot)
        self._names, names = _memory(count * NAME_BYTES_MAX)
        vectors, vectors_at = _memory(count * IOVEC.size)
        slot_bytes = self._slot_bytes = STAMP_BYTES + (CONTROL_BYTES if local else 0)
        self._controls, controls_at = _memory(count * slot_bytes)
        self._headers, self._headers_at = _memory(count * HEADER_BYTES)
        for n in range(count):
            vector, name = vectors_at + n * IOVEC.size, names + n * NAME_BYTES_MAX
            control_bytes = self._control_bytes
            control_at = controls_at + n * slot_bytes if control_bytes else 0
            IOVEC.pack_into(vectors, n * IOVEC.size, data + n * slot, slot)
            at = n * HEADER_BYTES
            HEADER.pack_into(
                self._headers, at, name, NAME_BYTES_MAX, vector, 1, control_at, control_bytes, 0, 0
            )
        self._fresh = self._headers.tobytes()
        self._kept = vectors
        self._lengths = self._headers.cast("I")
        self._stamps = self._controls.cast("q")
        self._stamped = stamped
        self._offset = 0.0
        self._receive = _libc().recvmmsg

    def receive(self, fd: int) -> list[tuple[bytes, bytes, float]]:
        """What is there, at most a batch: datagrams, packed addresses, and how many seconds each has waited
        to be read (0.0 where nobody knows). recvmmsg(2)."""
        count = self._receive(fd, self._headers_at, limits.QUIC_RECEIVE_BATCH_MAX, socket.MSG_DONTWAIT, None)
        if count <= 0:
            return []
        data, names, lengths = self._data, self._names, self._lengths
        slot, name_bytes = limits.QUIC_RECEIVE_SLOT_BYTES, self._name_bytes
        batch = []
        at = name_at = 0
        for n, waited in enumerate(self._waited(count)):
            batch.append(
                (
                    data[at : at + lengths[16 * n + LENGTH_AT]].tobytes(),
                    names[name_at : name_at + name_bytes].tobytes(),
                    waited,
                )
            )
            at += slot
            name_at += NAME_BYTES_MAX
        if self._local_bytes:
            batch = [(data, name + self._local(n), waited) for n, (data, name, waited) in enumerate(batch)]
        used = count * HEADER_BYTES
        # The kernel has written how long names and control data were into the headers; the next call would take that for
        # the room there is (recvmsg(2)).
        self._headers[:used] = self._fresh[:used]
        return batch

    def _local(self, n: int) -> bytes:
        """The address of ours that the ``n``-th came to; zeros, which leave it to the kernel, where it does not say."""
        if self._lengths[16 * n + 2 * CONTROL_LENGTH_AT] < self._control_bytes:
            return bytes(self._local_bytes)
        at = n * self._slot_bytes + self._local_at
        return self._controls[at : at + self._local_bytes].tobytes()

    def _waited(self, count: int) -> Sequence[float]:
        """How many seconds each of the first ``count`` has waited."""
        now = time.time()
        # Stamps are of the wall clock (SO_TIMESTAMPNS, socket(7)), which somebody may set: its distance to the
        # clock that nobody sets tells.
        offset = now - time.monotonic()
        if abs(offset - self._offset) > CLOCK_SET_S:
            self._offset = offset
            return (0.0,) * count
        if not self._stamped:
            return (0.0,) * count
        words = self._slot_bytes // 8
        stamps = self._stamps[: words * count].tolist()
        waited = [
            now - whole - nano * 1e-9 for whole, nano in zip(stamps[2::words], stamps[3::words], strict=True)
        ]
        if min(waited) < 0.0 or max(waited) > WAITED_S_MAX:
            return [one if 0.0 <= one <= WAITED_S_MAX else 0.0 for one in waited]
        return waited


def stamp(sock: socket.socket) -> bool:
    """Have the kernel note when each datagram arrives. False: this one does not."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


def tell_local(sock: socket.socket) -> bool:
    """Have the kernel say which address of ours each datagram came to. False: this one does not.

    Bound to all addresses, a machine with several would else answer from the one that its routes prefer, which
    the peer has never heard of. On an IPv6 socket IPv4 comes as mapped addresses (ip(7), ipv6(7))."""
    six = sock.family == socket.AF_INET6
    try:
        sock.setsockopt(
            socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP, IPV6_RECVPKTINFO if six else IP_PKTINFO, 1
        )
    except OSError:
        return False
    return True


class PacketInfo:
    """The control message that says which address of ours a datagram came to, or is to leave from: ``in_pktinfo`` or
    ``in6_pktinfo``. ``space``: its bytes with the head; ``address_at``: where the address begins in it. ip(7), ipv6(7)."""

    def __init__(self, family: int) -> None:
        six = family == socket.AF_INET6
        self.level, self.kind = (41, IPV6_PKTINFO) if six else (0, IP_PKTINFO)
        self.address_bytes = 16 if six else 4
        self._bytes = 20 if six else 12
        self._before = 0 if six else 4
        self.space = 40 if six else 32
        self.address_at = 16 + self._before

    def put_head(self, controls: memoryview, at: int) -> None:
        """Write the head of one, the interface left to the kernel."""
        SEGMENT_CONTROL.pack_into(controls, at, 16 + self._bytes, self.level, self.kind)

    def address_in(self, data: bytes) -> bytes:
        """The address in the content of one."""
        return data[self._before : self._before + self.address_bytes]

    def content(self, address: bytes) -> bytes:
        """The content of one with this address."""
        return (bytes(self._before) + address).ljust(self._bytes, b"\0")


def pack_address(family: int, address: Address, *, local: bool = False) -> bytes:
    """A ``sockaddr`` of a numeric address; with ``local`` the address of ours behind it that the last item says.
    Raises ``OSError`` or ``ValueError`` if it is none."""
    ours = b""
    if local:
        width = 2 if family == socket.AF_INET else 4
        ours = (
            socket.inet_pton(family, str(address[width]))
            if len(address) > width
            else bytes(4 if width == 2 else 16)
        )
        address = (address[0], address[1], *address[2:width])
    host, port = address[0], address[1]
    kind = struct.pack("=H", family)
    if family == socket.AF_INET:
        return kind + struct.pack("!H4s8x", port, socket.inet_pton(family, host)) + ours
    flow, scope = address[2:4] if len(address) == 4 else (0, 0)
    raw = socket.inet_pton(family, host.partition("%")[0])
    return kind + struct.pack("!HI16s", port, flow, raw) + struct.pack("=I", scope) + ours


def unpack_address(family: int, name: bytes) -> Address:
    """The address of a ``sockaddr``, as ``socket.recvfrom`` says it; one of ours behind it is a further item."""
    size = NAME_BYTES[family]
    if len(name) > size:
        return (*unpack_address(family, name[:size]), socket.inet_ntop(family, name[size:]))
    if family == socket.AF_INET:
        port, raw = struct.unpack_from("!H4s", name, 2)
        return socket.inet_ntop(family, raw), port
    port, flow, raw = struct.unpack_from("!HI16s", name, 2)
    (scope,) = struct.unpack_from("=I", name, 24)
    host = socket.inet_ntop(family, raw)
    if scope and host.startswith("fe80:"):
        host += "%" + socket.if_indextoname(scope)
    return host, port, flow, scope


@cache
def usable() -> bool:
    """Whether both calls do here what they should: tried once a process, between two sockets of ours."""
    if not sys.platform.startswith("linux") or struct.calcsize("P") != 8 or HEADER.size != HEADER_BYTES:
        return False
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there, _sender() as here:
            there.bind(("127.0.0.1", 0))
            stamped = stamp(there)
            name = pack_address(socket.AF_INET, there.getsockname())
            outbox, inbox = (
                SendBatch(socket.AF_INET, segmentation=False),
                ReceiveBatch(socket.AF_INET, stamped=stamped),
            )
            sent = [b"one", b"", os.urandom(700)]
            for data in sent:
                outbox.add(data, name)
            outbox.send(here.fileno())
            there.settimeout(limits.UDP_TRIAL_S_MAX)
            # Waits until the first has come, and leaves it: recvmmsg is called without waiting.
            there.recv(1, socket.MSG_PEEK)
            came = [(data, name) for data, name, _ in inbox.receive(there.fileno())]
            return came == [(data, pack_address(socket.AF_INET, here.getsockname())) for data in sent]
    except (OSError, AttributeError):
        return False


def _sender() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


@cache
def _libc() -> ctypes.CDLL:
    # Its own copy of errno (ctypes.get_errno): Python's own calls in between would overwrite the thread's.
    libc = ctypes.CDLL(None, use_errno=True)
    # Stated, or ctypes would pass Python's integers as C's int, and cut an address to 32 bits.
    libc.sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
    libc.recvmmsg.argtypes = (*libc.sendmmsg.argtypes, ctypes.c_void_p)
    return libc


def _memory(size: int) -> tuple[memoryview, int]:
    """Zeroed memory of the kernel's that stays where it is, and where that is; a page costs when it is touched."""
    # Not a bytearray: its memory moves when it grows, and is written when it is made; pages of a mapping are there
    # when they are touched.
    block = mmap.mmap(-1, size)
    return memoryview(block), ctypes.addressof(ctypes.c_char.from_buffer(block))
