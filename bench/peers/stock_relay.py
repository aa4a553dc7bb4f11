"""The peer "stock aioquic": a relay that sends one ``send_datagram_frame`` per reader. Room: bench/peers.

``python -m bench.peers.stock_relay HOST PORT CERT KEY``. A connection with the ALPN ``relay-publish``
sends datagrams, every connection with ``relay-subscribe`` gets them. Nothing else is done, so its cost
is the floor of what a relay on unmodified aioquic pays.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, DatagramFrameReceived, HandshakeCompleted, QuicEvent

PUBLISH = "relay-publish"
SUBSCRIBE = "relay-subscribe"


class Relay(QuicConnectionProtocol):
    """One connection; ``readers`` is shared by all of a server's."""

    readers: set[Relay] = set()  # noqa: RUF012

    def quic_event_received(self, event: QuicEvent) -> None:
        """Keep the list of readers, and forward."""
        if isinstance(event, HandshakeCompleted) and event.alpn_protocol == SUBSCRIBE:
            self.readers.add(self)
        elif isinstance(event, ConnectionTerminated):
            self.readers.discard(self)
        elif isinstance(event, DatagramFrameReceived):
            for reader in self.readers:
                reader._quic.send_datagram_frame(event.data)
                reader.transmit()


async def main(host: str, port: int, cert: str, key: str) -> None:
    """Serve until killed."""
    configuration = QuicConfiguration(
        is_client=False, alpn_protocols=[PUBLISH, SUBSCRIBE], max_datagram_frame_size=65_536
    )
    configuration.load_cert_chain(cert, key)
    await serve(host, port, configuration=configuration, create_protocol=Relay)
    print("ready", flush=True)
    await asyncio.Future()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]))
