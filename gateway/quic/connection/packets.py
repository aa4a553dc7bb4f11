"""Packets with a short header, and the frames that nearly all of them carry: bytes <-> values.

Room: quic. Pure. Sources: RFC 9000 sections 16, 19 and appendix A; RFC 9001 section 5; RFC 9221.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aioquic.buffer import encode_uint_var
from aioquic.quic.packet import QuicPacketType, pull_quic_header

from gateway.quic.buffers import Buffer
from gateway.quic.connection.ids import CID_BYTES
from gateway.quic.connection.keys import Sealing

PACKET_NUMBER_BYTES = 2
"""Of the packets that are built here."""
AEAD_TAG_BYTES: Final = 16
HEAD_BYTES: Final = 1 + PACKET_NUMBER_BYTES + AEAD_TAG_BYTES
"""What a packet has besides its content and the connection ID."""
FRAME_HEAD_BYTES: Final = 3
"""Type and length of a DATAGRAM frame, which max_datagram_frame_size counts in (RFC 9221 section 3)."""
DATAGRAM_OVERHEAD_BYTES: Final = HEAD_BYTES + FRAME_HEAD_BYTES
ACKS_BETWEEN_PINGS: Final = 32
"""An ACK-only packet is never acknowledged itself: a PING now and then lets old ranges go (section 13.2.4)."""
SAMPLE_AT = 4 - PACKET_NUMBER_BYTES
SAMPLE_STOP = SAMPLE_AT + 16
"""Where header protection samples a sealed content (RFC 9001 section 5.4.2)."""
BYTES = [bytes((value,)) for value in range(256)]
"""Every single byte, to be joined without making it anew."""
# Every head that a packet within an Ethernet frame can have, made once.
_HEADS = [b"\x31" + encode_uint_var(length) for length in range(1_600)]

Ranges = list[tuple[int, int]]
"""Packet numbers as (first, one past the last), ascending."""
Frames = tuple[list[tuple[Ranges, int]], list[bytes], bool]
"""ACKs (ranges, encoded delay), contents of datagrams, and whether anything asks for an ACK."""


def sealed(contents: Sequence[bytes], number: int, first: int, cid: bytes, keys: Sealing) -> bytes:
    """Packets of these contents, numbered from ``number`` on, one behind the other. ``first``: their first byte,
    without protection (RFC 9001 sections 5.3 and 5.4)."""
    encrypt, iv, masks_of = keys
    prefix = BYTES[first] + cid
    if len(contents) == 1:
        # Two bytes always: enough for 2^15 packets in flight (RFC 9000 section 17.1), and readers that expect two
        # take the quick way.
        low = (number & 0xFFFF).to_bytes(2, "big")
        one = encrypt((iv ^ number).to_bytes(12, "big"), contents[0], prefix + low)
        mask = masks_of(one[SAMPLE_AT:SAMPLE_STOP])
        return b"".join(
            (BYTES[first ^ (mask[0] & 0x1F)], cid, BYTES[low[0] ^ mask[1]], BYTES[low[1] ^ mask[2]], one)
        )
    # Header protection of the whole burst by one call of the cipher: ECB takes the samples one after the other, and the call
    # costs more than the five bytes that each needs.
    low_bits = number & 0xFFFF
    sealed = []
    for content in contents:
        low = (number & 0xFFFF).to_bytes(2, "big")
        sealed.append(encrypt((iv ^ number).to_bytes(12, "big"), content, prefix + low))
        number += 1
    masks = masks_of(b"".join([one[SAMPLE_AT:SAMPLE_STOP] for one in sealed]))
    parts: list[bytes] = []
    at = 0
    for one in sealed:
        parts += (
            BYTES[first ^ (masks[at] & 0x1F)],
            cid,
            BYTES[low_bits >> 8 ^ masks[at + 1]],
            BYTES[low_bits & 0xFF ^ masks[at + 2]],
            one,
        )
        at += 16
        low_bits = low_bits + 1 & 0xFFFF
    return b"".join(parts)


def datagram_head(length: int) -> bytes:
    """Frame type and length of a DATAGRAM frame. RFC 9221 section 4."""
    return _HEADS[length] if length < len(_HEADS) else b"\x31" + encode_uint_var(length)


def full_number(truncated: int, bits: int, expected: int) -> int:
    """The packet number that a truncated one stands for (RFC 9000 appendix A.3)."""
    window = 1 << bits
    candidate = (expected & ~(window - 1)) | truncated
    if candidate <= expected - window // 2 and candidate < (1 << 62) - window:
        return candidate + window
    if candidate > expected + window // 2 and candidate >= window:
        return candidate - window
    return candidate


def encode_ack(ranges: Sequence[range], delay: int) -> bytes:
    """An ACK frame for ranges of packet numbers (ascending), with an encoded delay. RFC 9000 section 19.3."""
    last = ranges[-1]
    parts = [
        b"\x02",
        encode_uint_var(last.stop - 1),
        encode_uint_var(delay),
        encode_uint_var(len(ranges) - 1),
        encode_uint_var(last.stop - 1 - last.start),
    ]
    smallest = last.start
    for index in range(len(ranges) - 2, -1, -1):
        part = ranges[index]
        parts.append(encode_uint_var(smallest - part.stop - 1))
        parts.append(encode_uint_var(part.stop - 1 - part.start))
        smallest = part.start
    return b"".join(parts)


def parse(plain: bytes) -> Frames | None:
    """A packet's frames, if all are of the four kinds and well-formed; else None."""
    acks: list[tuple[Ranges, int]] = []
    payloads: list[bytes] = []
    eliciting = False
    at, end = 0, len(plain)
    try:
        while at < end:
            kind = plain[at]
            at += 1
            if kind == 0x31:
                length, at = varint(plain, at)
                if at + length > end:
                    return None
                payloads.append(plain[at : at + length])
                at += length
                eliciting = True
            elif kind == 0x02:
                ranges, delay, at = parse_ack(plain, at)
                acks.append((ranges, delay))
            # PADDING: all zeros at once, for a probe has thousands.
            elif kind == 0x00:
                at = end - len(plain[at:].lstrip(b"\x00"))
            elif kind == 0x30:
                payloads.append(plain[at:])
                at = end
                eliciting = True
            elif kind == 0x01:
                eliciting = True
            else:
                return None
    except (IndexError, ValueError):
        return None
    return (acks, payloads, eliciting) if end else None


def leading_ack(plain: bytes) -> tuple[int, int, int, int] | None:
    """The ACK frame of one range that a packet begins with: (first, one past the last, encoded delay, where the
    frame ends); else None.

    What a reader sends all day, so its variable-length integers are read in line. RFC 9000 section 19.3.
    """
    if len(plain) < 5 or plain[0] != 0x02 or plain[1] >= 0xC0:
        return None
    try:
        byte = plain[1]
        if byte < 0x40:
            largest, at = byte, 2
        elif byte < 0x80:
            largest, at = (byte & 0x3F) << 8 | plain[2], 3
        else:
            largest, at = int.from_bytes(plain[1:5], "big") & 0x3FFFFFFF, 5
        delay = plain[at]
        if delay < 0x40:
            at += 1
        elif delay < 0x80:
            delay, at = (delay & 0x3F) << 8 | plain[at + 1], at + 2
        elif delay < 0xC0:
            delay, at = int.from_bytes(plain[at : at + 4], "big") & 0x3FFFFFFF, at + 4
        else:
            return None
        # Further ranges: read the long way.
        if plain[at]:
            return None
        first = plain[at + 1]
        if first < 0x40:
            at += 2
        elif first < 0x80:
            first, at = (first & 0x3F) << 8 | plain[at + 2], at + 3
        else:
            return None
    except IndexError:
        return None
    return (largest - first, largest + 1, delay, at) if at <= len(plain) and first <= largest else None


def last_datagram(plain: bytes, at: int = 0) -> bytes | None:
    """The content of the DATAGRAM frame that a packet is from ``at`` to its end, with its length, of two bytes as a
    frame of the world has it; else None. RFC 9221 section 4."""
    rest = len(plain) - at
    if rest < 3 or plain[at] != 0x31 or (plain[at + 1] << 8 | plain[at + 2]) != 0x4000 + rest - 3:
        return None
    return plain[at + 3 :]


def parse_ack(plain: bytes, at: int) -> tuple[Ranges, int, int]:
    """An ACK frame after its type: ranges, encoded delay, where it ends (RFC 9000 section 19.3).

    Raises ``IndexError`` if it is cut short, ``ValueError`` if its numbers make no sense.
    """
    largest, at = varint(plain, at)
    delay, at = varint(plain, at)
    count, at = varint(plain, at)
    first, at = varint(plain, at)
    start = largest - first
    ranges = [(start, largest + 1)]
    for _ in range(count):
        gap, at = varint(plain, at)
        length, at = varint(plain, at)
        stop = start - gap - 1
        start = stop - 1 - length
        ranges.append((start, stop))
    # One look behind the loop is enough: each range lies below the one before, so a number below zero leaves the
    # last start there.
    if start < 0:
        raise ValueError("negative packet number")
    # The frame goes from the largest down; everything here wants ascending ranges.
    if count:
        ranges.reverse()
    return ranges, delay, at


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer and where it ends (RFC 9000 section 16). Raises ``IndexError``."""
    first = data[at]
    if first < 0x40:
        return first, at + 1
    if first < 0x80:
        return (first & 0x3F) << 8 | data[at + 1], at + 2
    # One and two bytes are read above, for nearly all integers of a packet are that short.
    size = 1 << (first >> 6)
    if at + size > len(data):
        raise IndexError
    return int.from_bytes(data[at : at + size], "big") & ((1 << (8 * size - 2)) - 1), at + size


def short_part(data: bytes) -> int:
    """Where in a datagram the packet with a short header begins, behind those of the handshake; its length: there is none.
    RFC 9000 section 12.2."""
    buf = Buffer(data=data)
    at = 0
    try:
        while at < len(data) and data[at] & 0x80:
            header = pull_quic_header(buf, host_cid_length=CID_BYTES)
            # Neither has a length: they are the whole datagram (RFC 9000 section 17.2).
            if header.packet_type in (QuicPacketType.RETRY, QuicPacketType.VERSION_NEGOTIATION):
                return len(data)
            at += header.packet_length
            buf.seek(at)
    except ValueError:
        return len(data)
    return at if at < len(data) and data[at] & 0x40 else len(data)
