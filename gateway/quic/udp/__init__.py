"""The UDP socket below QUIC: batches both ways, segmentation, when to read, which address to try. Room: quic.

Nothing here knows what a packet says.
"""

from gateway.quic.connection.paths import Address
from gateway.quic.udp.sockets import Datagram, UdpSocket, bind

__all__ = ["Address", "Datagram", "UdpSocket", "bind"]
