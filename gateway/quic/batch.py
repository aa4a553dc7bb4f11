"""Many UDP datagrams in one system call: Linux's ``sendmmsg`` and ``recvmmsg`` by ctypes. Room: quic.

The structures that the kernel reads (``mmsghdr``, ``iovec``, ``sockaddr``) are laid out once in memory
of ours, and each datagram only fills in its bytes, length and address. :func:`usable` tries both calls
before they are relied on; where they are not to be had, :mod:`gateway.quic.udp` asks for one at a time.
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
from typing import Any

from gateway import limits

SOL_UDP = 17
UDP_SEGMENT = 103
HEADER = struct.Struct("@PIxxxxPPPPixxxxIxxxx")
"""``struct mmsghdr``: name, its length, iovec, how many, control, its length, flags; then the length sent or read."""
HEADER_BYTES, HEADER_WORDS = 64, 8
IOVEC = struct.Struct("@PP")
SEGMENT_CONTROL = struct.Struct("@Pii")
CONTROL_BYTES = 24
"""``CMSG_SPACE`` of the two bytes of a segment's size."""
SO_TIMESTAMPNS = 35
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
NOT_SEGMENTED = frozenset((errno.EIO, errno.EINVAL, errno.ENOPROTOOPT, errno.EOPNOTSUPP))
"""Errors of a route or device that takes no ``UDP_SEGMENT``."""


class Outbox:
    """Datagrams that leave together. ``family``: of the socket. ``segmentation`` goes False when a
    route turns out not to take it."""

    def __init__(self, family: int, *, segmentation: bool) -> None:
        self.segmentation = segmentation
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
            HEADER.pack_into(headers, n * HEADER_BYTES, name, NAME_BYTES[family], vector, 1, control, 0, 0, 0)
            SEGMENT_CONTROL.pack_into(self._controls, n * CONTROL_BYTES, 18, SOL_UDP, UDP_SEGMENT)
        self._vectors = vectors.cast("P")
        self._headers = headers.cast("P")
        self._sizes = self._controls.cast("H")
        self._send = _libc().sendmmsg

    def add(self, data: bytes, name: bytes, segment_bytes: int = 0) -> bool:
        """One datagram, or with ``segment_bytes`` several of that size (the last may be shorter), to
        the packed address ``name``. False: there is no room; :meth:`send` first."""
        n, at = self.count, self._used
        size = len(data)
        stop = at + size
        if n == limits.QUIC_SEND_BATCH_MAX or stop > limits.QUIC_SEND_BATCH_BYTES:
            return False
        self._data[at:stop] = data
        self._names[n * NAME_BYTES_MAX : n * NAME_BYTES_MAX + len(name)] = name
        self._vectors[2 * n] = self._base + at
        self._vectors[2 * n + 1] = size
        if segment_bytes:
            self._runs.append(n)
            self._headers[n * HEADER_WORDS + CONTROL_LENGTH_AT] = CONTROL_BYTES
            self._sizes[n * (CONTROL_BYTES // 2) + 8] = segment_bytes
        self.count = n + 1
        self._used = stop
        return True

    def send(self, fd: int) -> tuple[int, int]:
        """Send all in order and be empty. Answers how many system calls it took, and how many
        datagrams a full socket or a dead route dropped."""
        at = calls = dropped = 0
        while at < self.count:
            where = self._headers_at + at * HEADER_BYTES
            sent = self._send(fd, where, self.count - at, socket.MSG_DONTWAIT)
            calls += 1
            if sent > 0:
                at += sent
                continue
            code = ctypes.get_errno()
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
            self._headers[n * HEADER_WORDS + CONTROL_LENGTH_AT] = 0
        self._runs.clear()
        self.count = self._used = 0
        return calls, dropped

    def _segments(self, n: int) -> int:
        """How many datagrams the ``n``-th entry is."""
        if not self._headers[n * HEADER_WORDS + CONTROL_LENGTH_AT]:
            return 1
        return -(-self._vectors[2 * n + 1] // self._sizes[n * (CONTROL_BYTES // 2) + 8])

    def _send_one_by_one(self, fd: int, n: int) -> int:
        """The segments of an entry as datagrams of their own; how many were dropped."""
        self._headers[n * HEADER_WORDS + CONTROL_LENGTH_AT] = 0
        segment = self._sizes[n * (CONTROL_BYTES // 2) + 8]
        dropped = 0
        at, left = self._vectors[2 * n], self._vectors[2 * n + 1]
        while left > 0:
            self._vectors[2 * n], self._vectors[2 * n + 1] = at, min(segment, left)
            if self._send(fd, self._headers_at + n * HEADER_BYTES, 1, socket.MSG_DONTWAIT) != 1:
                dropped += 1
            at, left = at + segment, left - segment
        return dropped


class Inbox:
    """Datagrams that are read together from a socket of this family, on which :func:`stamp` was called if
    ``stamped``: then how long each has waited is known."""

    def __init__(self, family: int, *, stamped: bool = False) -> None:
        self._name_bytes = NAME_BYTES[family]
        count, slot = limits.QUIC_RECEIVE_BATCH_MAX, limits.QUIC_RECEIVE_SLOT_BYTES
        self._data, data = _memory(count * slot)
        self._names, names = _memory(count * NAME_BYTES_MAX)
        vectors, vectors_at = _memory(count * IOVEC.size)
        stamps, stamps_at = _memory(count * STAMP_BYTES)
        self._headers, self._headers_at = _memory(count * HEADER_BYTES)
        for n in range(count):
            vector, name = vectors_at + n * IOVEC.size, names + n * NAME_BYTES_MAX
            stamp_at, stamp_bytes = (stamps_at + n * STAMP_BYTES, STAMP_BYTES) if stamped else (0, 0)
            IOVEC.pack_into(vectors, n * IOVEC.size, data + n * slot, slot)
            at = n * HEADER_BYTES
            HEADER.pack_into(self._headers, at, name, NAME_BYTES_MAX, vector, 1, stamp_at, stamp_bytes, 0, 0)
        self._fresh = self._headers.tobytes()
        self._kept = vectors
        self._lengths = self._headers.cast("I")
        self._stamps = stamps.cast("q")
        self._stamped = stamped
        self._offset = 0.0
        self._receive = _libc().recvmmsg

    def receive(self, fd: int) -> list[tuple[bytes, bytes, float]]:
        """What is there, at most a batch: datagrams, packed addresses, and how many seconds each has waited
        to be read (0.0 where nobody knows)."""
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
        used = count * HEADER_BYTES
        self._headers[:used] = self._fresh[:used]
        return batch

    def _waited(self, count: int) -> Sequence[float]:
        """How many seconds each of the first ``count`` has waited."""
        now = time.time()
        offset = now - time.monotonic()
        if abs(offset - self._offset) > CLOCK_SET_S:
            self._offset = offset
            return (0.0,) * count
        if not self._stamped:
            return (0.0,) * count
        stamps = self._stamps[: 4 * count].tolist()
        waited = [now - whole - nano * 1e-9 for whole, nano in zip(stamps[2::4], stamps[3::4], strict=True)]
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


def pack_address(family: int, address: Any) -> bytes:
    """A ``sockaddr`` of a numeric address. Raises ``OSError`` or ``ValueError`` if it is none."""
    host, port = address[0], address[1]
    kind = struct.pack("=H", family)
    if family == socket.AF_INET:
        return kind + struct.pack("!H4s8x", port, socket.inet_pton(family, host))
    flow, scope = address[2:4] if len(address) == 4 else (0, 0)
    raw = socket.inet_pton(family, host.partition("%")[0])
    return kind + struct.pack("!HI16s", port, flow, raw) + struct.pack("=I", scope)


def unpack_address(family: int, name: bytes) -> Any:
    """The address of a ``sockaddr``, as ``socket.recvfrom`` says it."""
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
            outbox, inbox = Outbox(socket.AF_INET, segmentation=False), Inbox(socket.AF_INET, stamped=stamped)
            sent = [b"one", b"", os.urandom(700)]
            for data in sent:
                outbox.add(data, name)
            outbox.send(here.fileno())
            there.settimeout(1.0)
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
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
    libc.recvmmsg.argtypes = (*libc.sendmmsg.argtypes, ctypes.c_void_p)
    return libc


def _memory(size: int) -> tuple[memoryview, int]:
    """Zeroed memory of the kernel's that stays where it is, and where that is; a page costs when it is touched."""
    block = mmap.mmap(-1, size)
    return memoryview(block), ctypes.addressof(ctypes.c_char.from_buffer(block))
