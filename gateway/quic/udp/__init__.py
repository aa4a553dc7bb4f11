"""The UDP socket below QUIC: batches both ways, segmentation, when to read, which address to try. Room: quic.

Nothing here knows what a packet says.
"""

from gateway.quic.udp.sockets import Address, Datagram, UdpSocket, bind

__all__ = ["Address", "Datagram", "UdpSocket", "bind"]
