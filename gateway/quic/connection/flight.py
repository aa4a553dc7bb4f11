"""Packets in flight as they are kept: one by one, or a burst as one entry. Room: quic. Pure: no clock.

Whoever sent is told by what went with the packet: datagrams by their sinks' tokens, frames by their handlers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from gateway.limits import QUIC_LOOKED_UP_MAX

AckRanges = list[tuple[int, int]]
"""Packet numbers as (first, one past the last), ascending."""


class FateSink(Protocol):
    """Whoever sent a datagram and wants to know what became of it."""

    def on_fate(self, token: int, acked: bool) -> None: ...

    def on_acked(self, token: int, count: int) -> None:
        """So many datagrams from ``token`` on arrived."""
        for one in range(token, token + count):
            self.on_fate(one, True)


Fates = tuple[tuple[FateSink, int, int], ...]
"""Datagrams of a packet: sink, first token, how many."""
Handler = tuple[Callable[..., None], tuple[object, ...]]
"""Called with whether the packet arrived, and what stands behind."""
Handlers = Sequence[Handler]
Shape = tuple[tuple[int, int], ...]
"""Of each packet of a burst: its content's length in bytes, and how many messages it holds."""


PacketFields = tuple[int, int, float, Fates, Handlers]
BurstFields = tuple[int, int, float, FateSink, int, Shape, int, int]


class _Sent(NamedTuple):
    number: int
    size: int
    sent_at: float
    fates: Fates
    handlers: Handlers


class SentPacket(_Sent):
    """A packet in flight. A tuple, because one is made for every packet: :data:`sent_packet` makes it in a third of the
    time of a class with ``__init__``. RFC 9002 appendix A.1.1."""

    __slots__ = ()

    def singles(self) -> Sequence[SentPacket]:
        """The packets that this entry stands for."""
        return (self,)


sent_packet: Callable[[PacketFields], SentPacket] = partial(tuple.__new__, SentPacket)
"""``SentPacket`` of a tuple of its fields, in their order."""


class _Burst(NamedTuple):
    number: int
    size: int
    sent_at: float
    sink: FateSink
    token: int
    shape: Shape
    messages: int
    last: int


class SentBurst(_Burst):
    """The packets of a burst in flight, ``number`` to ``last``; ``size``: bytes of all together."""

    __slots__ = ()
    fates: Fates = ()
    handlers: Handlers = ()
    """None but its sink, which is told of all at once."""

    def singles(self) -> Sequence[SentPacket]:
        """The same packets one by one."""
        number, token = self.number, self.token
        head = (self.size - sum([size for size, _ in self.shape])) // len(self.shape)
        packets = []
        for size, count in self.shape:
            # Each has the same head, so what the burst is larger than its contents is shared evenly.
            packets.append(sent_packet((number, size + head, self.sent_at, ((self.sink, token, count),), ())))
            number, token = number + 1, token + count
        return packets

    def split(self, last: int) -> tuple[SentBurst, SentBurst]:
        """In two: up to ``last``, and behind it."""
        count = last + 1 - self.number
        shape, rest = self.shape[:count], self.shape[count:]
        head = (self.size - sum([size for size, _ in self.shape])) // len(self.shape)
        size = sum([size + head for size, _ in shape])
        messages = sum([held for _, held in shape])
        front = self._replace(size=size, shape=shape, messages=messages, last=last)
        behind = self._replace(
            number=last + 1,
            size=self.size - size,
            token=self.token + messages,
            shape=rest,
            messages=self.messages - messages,
        )
        return front, behind


sent_burst: Callable[[BurstFields], SentBurst] = partial(tuple.__new__, SentBurst)
InFlight = SentPacket | SentBurst
"""An entry of what is in flight."""


def among(sent: dict[int, SentPacket], ranges: AckRanges) -> list[int]:
    """The numbers of packets in flight within ranges (ascending): short ones are looked up one by one, so that an ACK of
    few packets costs little however many are in flight."""
    if not sent:
        return []
    oldest, end = next(iter(sent)), next(reversed(sent)) + 1
    found: list[int] = []
    numbers: Sequence[int] = ()
    for start, stop in ranges:
        if start < oldest:
            start = oldest
        if stop > end:
            stop = end
        if stop - start <= QUIC_LOOKED_UP_MAX:
            found += [number for number in range(start, stop) if number in sent]
        else:
            # Only now, for a long range: a copy of all numbers to bisect, once for all ranges of the ACK.
            numbers = numbers or tuple(sent)
            low = bisect_left(numbers, start)
            found += numbers[low : bisect_left(numbers, stop, low)]
    return found


def oldest_alone(sent: Mapping[int, InFlight], start: int, largest: int) -> list[InFlight]:
    """The packets and bursts up to ``largest`` if all are acknowledged, from ``start`` on, the newest is ``largest``, and
    all are of datagrams alone; else none."""
    packets: list[InFlight] = []
    last = -1
    for number, packet in sent.items():
        if number > largest:
            break
        if number < start:
            return []
        # By its class and not by isinstance: no subclasses, and asked for each packet that is acknowledged.
        if packet.__class__ is SentBurst:
            last = packet.last
        elif not packet.handlers:
            last = number
        else:
            return []
        packets.append(packet)
    return packets if last == largest else []
