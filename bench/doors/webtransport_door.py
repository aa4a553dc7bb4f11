"""The gateway by WebTransport: datagrams, and streams for what is too large. Room: bench/doors."""

from __future__ import annotations

import socket
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from bench.doors import Close, Send, Take, TakeAt, raw_credentials, trust
from bench.lean import LeanPool
from gateway.core.ports import Link
from gateway.limits import STREAM_MESSAGE_BYTES_MAX
from gateway.quic.client import Client, connect
from gateway.wire import MessageStream
from gateway.wire.parity import Rebuilder

DATAGRAMS_A_FRAME_MAX = 32
"""A larger frame goes by a stream of its own, as the protocol has it."""


def live_path(target: Mapping[str, Any], role: str) -> str:
    """The path and query of a live session on the target's world."""
    query = {"role": role}
    if role == "subscribe":
        if "budget_kbps" in target:
            query["budget_kbps"] = str(target["budget_kbps"])
        if not target.get("conflate", True):
            query["conflate"] = "0"
        query |= {name: target[name] for name in ("redundancy", "parity") if name in target}
        if "delay_s" in target:
            query["delay_s"] = str(target["delay_s"])
    return f"/v1/worlds/{target['world']}/live?{urllib.parse.urlencode(query)}"


class Reader:
    """A session's end that hands every message on, however it came."""

    def __init__(self, take: Take, rebuilder: Rebuilder | None = None) -> None:
        self._take = take
        self._rebuilder = rebuilder
        self._streams: dict[int, MessageStream] = {}

    def on_message(self, data: bytes, mono: float) -> None:
        """A datagram."""
        self._take(data)
        if self._rebuilder is not None and (lost := self._rebuilder.receive(data)) is not None:
            self._take(lost)

    def on_stream_data(self, stream_id: int, data: bytes, fin: bool, mono: float) -> None:
        """A piece of a stream."""
        stream = self._streams.setdefault(stream_id, MessageStream(STREAM_MESSAGE_BYTES_MAX))
        stream.feed(data)
        for message in stream:
            self._take(message)
        if fin:
            del self._streams[stream_id]

    def on_stream_reset(self, stream_id: int) -> None:
        """Newer state has overtaken it."""
        self._streams.pop(stream_id, None)

    def on_acked(self, token: int, count: int = 1) -> None:
        """Not of interest."""

    def on_lost(self, token: int) -> None:
        """Every record moves in every frame: the next one repairs."""

    def on_writable(self, mono: float) -> None:
        """Not of interest."""

    def on_closed(self, mono: float) -> None:
        """The run ends by itself."""


async def _connected(target: Mapping[str, Any]) -> Client:
    sock = None
    if "local" in target:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((target["local"], 0))
    return await connect(
        target["host"], target["port"], trust=trust(target).for_quic(), timeout_s=10.0, sock=sock
    )


def _ignore(message: bytes) -> None:
    pass


def _closer(client: Client) -> Close:
    async def close() -> None:
        client.close()
        await client.wait_closed()

    return close


async def subscribe(target: Mapping[str, Any], take: Take) -> Close:
    """One connection with one session."""
    client = await _connected(target)
    rebuilder = Rebuilder() if "parity" in target else None
    path = live_path(target, "subscribe")
    await client.webtransport(path, lambda link: Reader(take, rebuilder), raw_credentials(target))
    return _closer(client)


async def subscribe_lean(pool: LeanPool, target: Mapping[str, Any], take: TakeAt) -> None:
    """One connection with one session, its datagrams by the short way."""

    def whole(message: bytes) -> None:
        take(message, 0, len(message), time.time_ns() // 1000)

    await pool.webtransport(
        target["host"],
        target["port"],
        live_path(target, "subscribe"),
        trust=trust(target).for_quic(),
        headers=raw_credentials(target),
        take=take,
        make_session=lambda link: Reader(whole),
        local=target.get("local"),
    )


async def publisher(target: Mapping[str, Any], take: Take | None = None) -> tuple[Send, Close]:
    """One connection that publishes by datagrams, and by a stream what is large or what the window refuses."""
    client = await _connected(target)
    link: Link = await client.webtransport(
        live_path(target, "publish"), lambda link: Reader(take or _ignore), raw_credentials(target)
    )

    def send(messages: Sequence[bytes]) -> None:
        if len(messages) > DATAGRAMS_A_FRAME_MAX:
            link.send_stream(messages)
            return
        refused = [message for message in messages if not link.send(message, 0)]
        if refused:
            link.send_stream(refused)

    return send, _closer(client)
