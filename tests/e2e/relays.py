"""What stands between a page and a gateway in these tests, and fails as networks do: silently."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self


class Path:
    """UDP and TCP at one port number of loopback, handed on to ``to``. An async context manager."""

    def __init__(self, to: int) -> None:
        self._to = to
        self.port = 0
        self.udp_is_cut = False
        """Drop every packet, both ways."""
        self.has_dropped = asyncio.Event()
        """A packet towards the gateway was."""
        self.tcp_connections = 0
        """How many were made so far."""
        self._silent: set[int] = set()
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._upstream: dict[Any, asyncio.DatagramTransport] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def silence_tcp(self) -> None:
        """The connections that stand are half-open from here on: nothing is handed on, and nobody is told."""
        self._silent.update(range(1, self.tcp_connections + 1))

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await asyncio.start_server(self._on_tcp, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: _Front(self), local_addr=("127.0.0.1", self.port)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._transport is not None
        assert self._server is not None
        self._transport.close()
        for upstream in self._upstream.values():
            upstream.close()
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- UDP --

    async def from_client(self, data: bytes, addr: Any) -> None:
        if addr not in self._upstream:
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_datagram_endpoint(
                lambda: _Back(self, addr), remote_addr=("127.0.0.1", self._to)
            )
            if addr in self._upstream:
                transport.close()
            else:
                self._upstream[addr] = transport
        self._upstream[addr].sendto(data)

    def to_client(self, data: bytes, addr: Any) -> None:
        if not self.udp_is_cut and self._transport is not None:
            self._transport.sendto(data, addr)

    def spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- TCP --

    async def _on_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tcp_connections += 1
        number = self.tcp_connections
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.close()
            return
        self.spawn(self._pump(reader, up_writer, number))
        self.spawn(self._pump(up_reader, writer, number))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        try:
            while data := await reader.read(65_536):
                if number not in self._silent:
                    writer.write(data)
                    await writer.drain()
        except ConnectionError:
            pass
        finally:
            if number not in self._silent:
                writer.close()


class _Front(asyncio.DatagramProtocol):
    def __init__(self, path: Path) -> None:
        self._path = path

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self._path.udp_is_cut:
            self._path.has_dropped.set()
        else:
            self._path.spawn(self._path.from_client(data, addr))


class _Back(asyncio.DatagramProtocol):
    def __init__(self, path: Path, client: Any) -> None:
        self._path = path
        self._client = client

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._path.to_client(data, self._client)

    def error_received(self, exc: Exception) -> None:
        """The gateway is away: a packet is lost."""
