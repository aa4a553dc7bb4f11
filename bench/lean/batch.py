"""Many UDP messages in one system call: ``recvmmsg`` with ``UDP_GRO``. Room: bench/lean.

Sources: recvmmsg(2), udp(7), the kernel's ``udpgso`` documentation.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket

import numpy as np

SOL_UDP = 17
UDP_GRO = 104
SO_RCVBUFFORCE = 33
MESSAGES = 64
MESSAGE_BYTES = 65_536
CONTROL_BYTES = 32
"""One control message: 16 bytes of head, an int, padding (cmsg(3))."""
SEGMENT_AT = 16
SOCKET_BUFFER_BYTES = 16 * 1024 * 1024
"""A tick of 400 readers is 1,600 packets, each accounted with about 2.3 KB: the generator must not lose them."""

_MSGHDR = np.dtype(
    {
        "names": ["iov", "iovlen", "control", "controllen", "msg_len"],
        "formats": ["<u8", "<u8", "<u8", "<u8", "<u4"],
        "offsets": [16, 24, 32, 40, 56],
        "itemsize": 64,
    }
)
_IOVEC = np.dtype([("base", "<u8"), ("len", "<u8")])


def large_buffer(sock: socket.socket) -> None:
    """Room for a whole tick of many readers, as far as the kernel lets us."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER_BYTES)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)


class Batch:
    """The buffers of ``recvmmsg`` for one socket at a time; one may serve many sockets in turn. 64-bit only."""

    def __init__(self) -> None:
        if ctypes.sizeof(ctypes.c_void_p) != 8:
            raise OSError("the layout of mmsghdr is that of 64-bit systems")
        self._data = bytearray(MESSAGES * MESSAGE_BYTES)
        self._view = memoryview(self._data)
        self._control = np.zeros((MESSAGES, CONTROL_BYTES), dtype=np.uint8)
        self._segments = self._control[:, SEGMENT_AT : SEGMENT_AT + 4].view("<i4")[:, 0]
        self._heads = np.zeros(MESSAGES, dtype=_MSGHDR)
        self._vectors = np.zeros(MESSAGES, dtype=_IOVEC)
        steps = np.arange(MESSAGES, dtype=np.uint64)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._data))
        self._vectors["base"] = base + steps * MESSAGE_BYTES
        self._vectors["len"] = MESSAGE_BYTES
        self._heads["iov"] = self._vectors.ctypes.data + steps * _IOVEC.itemsize
        self._heads["iovlen"] = 1
        self._heads["control"] = self._control.ctypes.data + steps * CONTROL_BYTES
        self._call = ctypes.CDLL(None, use_errno=True).recvmmsg
        self._address = ctypes.c_void_p(self._heads.ctypes.data)

    def receive(self, sock: socket.socket) -> list[tuple[bytes, int]]:
        """What has come, at most :data:`MESSAGES`: (bytes, size of each packet in it; 0: it is one packet)."""
        heads = self._heads
        heads["controllen"] = CONTROL_BYTES
        count = self._call(sock.fileno(), self._address, MESSAGES, socket.MSG_DONTWAIT, None)
        if count < 0:
            code = ctypes.get_errno()
            if code in (errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED):
                return []
            raise OSError(code, os.strerror(code))
        view = self._view
        sizes = heads["msg_len"][:count].tolist()
        segments = np.where(heads["controllen"][:count] > SEGMENT_AT, self._segments[:count], 0).tolist()
        starts = range(0, count * MESSAGE_BYTES, MESSAGE_BYTES)
        return [
            (bytes(view[start : start + size]), segment)
            for start, size, segment in zip(starts, sizes, segments, strict=True)
        ]
