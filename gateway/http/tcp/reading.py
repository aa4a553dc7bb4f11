"""What a socket has for a connection, taken in pieces of a bounded size. Room: http.

The event loop would hand over up to 256 KB at once, and a thousand connections of one address that send without end would
hold as much each. All connections of a door read into one buffer instead: what is read is taken from it before the next
one reads.
"""

from __future__ import annotations

import asyncio

from gateway.http.tcp.service import TcpService


class BoundedProtocol(asyncio.BufferedProtocol):
    """A protocol that is given bytes, as :class:`asyncio.Protocol` is, but never more than
    ``limits.TCP_READ_BYTES_MAX`` at once."""

    service: TcpService

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read to: until :meth:`buffer_updated`, which follows at once."""
        # One for the whole door: between this and buffer_updated the loop runs nothing else.
        return self.service.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self.service.read_buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """What has come."""
        raise NotImplementedError
