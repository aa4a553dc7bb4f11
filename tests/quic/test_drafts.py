"""The drafts of WebTransport side by side: what each client in use asks for before it opens a session.

What each wants was read in its own source, or is what ``docs/CLIENTS.md`` says of it; the clients themselves are run by
``tests/interop`` and ``tests/e2e``.
"""

from __future__ import annotations

import struct
from typing import Any

import pytest
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import encode_frame

from gateway import limits
from gateway.quic.h3.credit import MAX_DATA, MAX_STREAMS_UNI
from gateway.quic.h3.http3 import SETTINGS, WT_INITIAL_MAX_DATA, WT_INITIAL_MAX_STREAMS_UNI, Http3
from tests.held import longest
from tests.quic.conftest import Identity
from tests.quic.serving import Served, open_session, serving, until

CONNECT_PROTOCOL, DATAGRAM = 0x08, 0x33
DRAFT_02, DRAFT_07, DRAFT_13, DRAFT_16 = 0x2B603742, 0xC671706A, 0x14E9CD29, 0x2C7CF000
INITIAL_MAX = (0x2B61, 0x2B64, 0x2B65)
WANTED: dict[str, tuple[int, ...]] = {
    "Chromium": (CONNECT_PROTOCOL, DATAGRAM, DRAFT_02),
    "Firefox": (CONNECT_PROTOCOL, DATAGRAM, DRAFT_02),
    "Safari 26.4": (CONNECT_PROTOCOL, DATAGRAM, DRAFT_13, *INITIAL_MAX),
    "webtransport-go 0.10": (CONNECT_PROTOCOL, DATAGRAM, DRAFT_02),
    "webtransport-go 0.13": (CONNECT_PROTOCOL, DATAGRAM, DRAFT_16),
    "wtransport": (CONNECT_PROTOCOL, DATAGRAM, DRAFT_02),
    "web-transport-quinn": (CONNECT_PROTOCOL, DATAGRAM, DRAFT_02),
}


@pytest.mark.parametrize("client", WANTED)
async def test_the_settings_hold_what_a_client_asks_for(identity: Identity, client: str) -> None:
    async with serving(identity) as served, await served.connect() as ours:
        await open_session(ours)
        settings = ours.peer.h3.received_settings
        assert settings is not None
        assert all(settings.get(number, 0) > 0 for number in WANTED[client])
        assert DRAFT_07 not in settings, "Chromium would pick a draft that is not spoken"
        assert settings[DRAFT_13] == limits.WT_SESSIONS_PER_CONNECTION_MAX


@pytest.mark.parametrize("protocol", [b"webtransport", b"webtransport-h3"])
async def test_a_session_opens_under_either_name_of_the_protocol(identity: Identity, protocol: bytes) -> None:
    async with serving(identity) as served, await served.connect() as client:
        head = [
            (b":method", b"CONNECT"),
            (b":protocol", protocol),
            (b":scheme", b"https"),
            (b":authority", b"localhost"),
            (b":path", b"/v1/worlds/a/live"),
        ]
        client.peer.open_request(head, ended=False)
        await until(lambda: len(served.doors.sessions) == 1)
        assert served.doors.sessions[0].link.is_accepted


def _bounded(monkeypatch: pytest.MonkeyPatch, streams: int, data: int) -> None:
    """Clients from here on have a flow control of sessions of their own."""

    def settings(self: Http3) -> dict[int, int]:
        ours = {WT_INITIAL_MAX_STREAMS_UNI: streams, WT_INITIAL_MAX_DATA: data} if self._is_client else {}
        return SETTINGS | ours

    monkeypatch.setattr(Http3, "settings", settings)


def _raise(client: Any, session: int, capsule: int, limit: int) -> None:
    value = encode_uint_var(limit)
    content = encode_uint_var(capsule) + encode_uint_var(len(value)) + value
    for n in range(len(content)):
        client.peer.quic.send_stream_data(session, encode_frame(0, content[n : n + 1]))
    client.peer.hub.mark(client.peer)


async def _settled(served: Served, client: Any) -> None:
    await client.ping()
    await client.ping()


async def test_a_sessions_own_flow_control_is_kept_to(
    identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    _bounded(monkeypatch, streams=2, data=1_000)
    async with serving(identity) as served, await served.connect() as client:
        await client.ping()
        link, session = await open_session(client)
        far = served.doors.sessions[0].link
        far.control(b"\x10{}")
        first, second = far.send_stream([b"a" * 5_000]), far.send_stream([b"b" * 3_000])
        await until(lambda: sum(map(len, session.streams.values())) == 1_000)
        await _settled(served, client)
        assert len(session.streams) == 2
        assert sum(map(len, session.streams.values())) == 1_000
        assert not far.stream_done(first)
        for limit in (2_000, 1_500, 5_011):
            _raise(client, link.session_id, MAX_DATA, limit)
        await until(lambda: far.stream_done(first))
        await _settled(served, client)
        assert len(session.streams) == 2
        assert not far.stream_done(second)
        _raise(client, link.session_id, MAX_STREAMS_UNI, 9)
        _raise(client, link.session_id, MAX_DATA, 1 << 50)
        await until(lambda: far.stream_done(second))
        await until(lambda: len(session.ended) == 2)
        whole = {struct.pack("<I", len(m)) + m for m in (b"a" * 5_000, b"b" * 3_000, b"\x10{}")}
        assert set(session.streams.values()) == whole


async def test_a_session_without_any_stream_allowed_is_closed_with_the_reason(
    identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    _bounded(monkeypatch, streams=0, data=1_000)
    async with serving(identity) as served, await served.connect() as client:
        await client.ping()
        link, _ = await open_session(client)
        served.doors.sessions[0].link.control(b"\x10{}")
        await until(lambda: link.closed_code is not None)
        assert "stream" in link.closed_reason


async def test_what_waits_for_credit_goes_with_the_session_and_with_a_reset(
    identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    _bounded(monkeypatch, streams=5, data=1_000)
    async with serving(identity) as served, await served.connect() as client:
        await client.ping()
        _, session = await open_session(client)
        far: Any = served.doors.sessions[0].link
        handle = far.send_stream([b"a" * 50_000])
        await until(lambda: sum(map(len, session.streams.values())) == 1_000)
        assert longest(far, far.peer) > 40_000
        far.reset_stream(handle)
        await until(lambda: len(session.resets) == 1)
        assert longest(far, far.peer) < 2_000
        far.send_stream([b"b" * 50_000])
        assert longest(far, far.peer) > 40_000
        far.on_connection_over("enough")
        assert longest(far, far.peer) < 2_000
