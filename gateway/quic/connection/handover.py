"""What goes from the handshake to the connection that takes over, and how transport parameters are read. Room: quic.

Sources: RFC 9000 sections 7.4 and 18; draft-ietf-quic-reliable-stream-reset-09 section 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from aioquic import tls
from aioquic.buffer import encode_uint_var
from aioquic.quic.packet import QuicTransportParameters, pull_quic_transport_parameters

from gateway.quic.buffers import Buffer, BufferReadError
from gateway.quic.connection.keys import Secret
from gateway.quic.connection.packets import varint
from gateway.quic.connection.recvhalf import RecvHalf

PARTIAL_RESETS: Final = (0x1D, 0x17F7586D2CB571)
"""Transport parameters that say that RESET_STREAM_AT is understood: of the draft, and of the one before."""
ANNOUNCED: Final = b"".join(encode_uint_var(number) + b"\0" for number in PARTIAL_RESETS)


def parameters_of(extensions: Iterable[tuple[int, bytes]] | None) -> QuicTransportParameters | None:
    """The peer's transport parameters among the extensions of its TLS message. RFC 9001 section 8.2."""
    for kind, data in extensions or ():
        if kind == tls.ExtensionType.QUIC_TRANSPORT_PARAMETERS:
            return pull_quic_transport_parameters(Buffer(data=data))
    return None


def replaced(parameters: bytes, ours: dict[int, bytes]) -> bytes:
    """The same transport parameters with these values in place of what they said of them, and behind the others."""
    parts: list[bytes] = []
    at = 0
    while at < len(parameters):
        start = at
        number, at = varint(parameters, at)
        size, at = varint(parameters, at)
        at += size
        # aioquic writes limits of its own, and a parameter that is there twice is an error (RFC 9000 section 7.4).
        if number not in ours:
            parts.append(parameters[start:at])
    for number, value in ours.items():
        parts += (encode_uint_var(number), encode_uint_var(len(value)), value)
    return b"".join(parts)


def says_twice(parameters: bytes) -> bool:
    """Whether one of them is there twice (section 7.4). What cannot be read is for aioquic to refuse."""
    buf, seen = Buffer(data=parameters), set()
    try:
        while not buf.eof():
            number = buf.pull_uint_var()
            if number in seen:
                return True
            seen.add(number)
            buf.pull_bytes(buf.pull_uint_var())
    except BufferReadError:
        pass
    return False


class Flying(NamedTuple):
    """A 1-RTT packet that aioquic sent and that is neither acknowledged nor lost. ``pieces``: of streams, their number,
    start, stop, and whether they are the end."""

    number: int
    size: int
    sent_at: float
    pieces: tuple[tuple[int, int, int, bool], ...]


class PacketNumbers(Protocol):
    """A set of packet numbers."""

    def __contains__(self, number: int, /) -> bool: ...


@dataclass(slots=True)
class HandOver:
    """All that goes from the handshake to the connection. ``carried``: of streams that aioquic began to send, the offset
    before which all is acknowledged and the largest sent; ``rtt``: latest, least, smoothed, variance; ``crypto``: what TLS
    still has to say, with its offset; ``heard``: its messages in 1-RTT packets so far."""

    receiving: Secret
    sending: Secret
    phase: int
    next_number: int
    received: tuple[list[range], int, PacketNumbers]
    flying: list[Flying]
    carried: dict[int, tuple[int, int]]
    rtt: tuple[float, float, float, float]
    crypto: list[tuple[int, bytes]]
    heard: RecvHalf
