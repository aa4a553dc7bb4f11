"""The stock aioquic relay: raw QUIC datagrams. Room: bench/doors."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, cast

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import DatagramFrameReceived, QuicEvent

from bench.doors import Close, Send, Take, TakeAt
from bench.lean import LeanPool
from bench.peers.stock_relay import PUBLISH, SUBSCRIBE


class Reader(QuicConnectionProtocol):
    """Hands every datagram on."""

    take: Callable[[bytes], None] | None = None

    def quic_event_received(self, event: QuicEvent) -> None:
        """Datagrams only."""
        if self.take is not None and isinstance(event, DatagramFrameReceived):
            self.take(event.data)


async def _connected(target: Mapping[str, Any], alpn: str) -> tuple[Reader, Close]:
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=[alpn], verify_mode=ssl.CERT_NONE, max_datagram_frame_size=65_536
    )
    stack = AsyncExitStack()
    opened = connect(target["host"], target["port"], configuration=configuration, create_protocol=Reader)
    protocol = await stack.enter_async_context(opened)
    return cast(Reader, protocol), stack.aclose


async def subscribe(target: Mapping[str, Any], take: Take) -> Close:
    """One connection that gets every datagram."""
    reader, close = await _connected(target, SUBSCRIBE)
    reader.take = take
    return close


async def subscribe_lean(pool: LeanPool, target: Mapping[str, Any], take: TakeAt) -> None:
    """One connection that gets every datagram, by the short way."""
    await pool.raw(target["host"], target["port"], SUBSCRIBE, take=take)


async def publisher(target: Mapping[str, Any], take: Take | None = None) -> tuple[Send, Close]:
    """One connection that sends datagrams."""
    sender, close = await _connected(target, PUBLISH)

    def send(messages: Sequence[bytes]) -> None:
        for message in messages:
            sender._quic.send_datagram_frame(message)
        sender.transmit()

    return send, close
