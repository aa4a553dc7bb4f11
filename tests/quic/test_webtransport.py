"""WebTransport sessions over real sockets: datagrams, streams, refusals, ends."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator

import pytest

from gateway import limits
from gateway.core.bundle import Burst
from gateway.core.ports import CloseCode, Refusal
from gateway.core.states import LinkState
from gateway.quic import SessionRefused
from tests.quic.conftest import Identity
from tests.quic.serving import Served, open_session, serving, until


@pytest.fixture
async def served(identity: Identity) -> AsyncIterator[Served]:
    async with serving(identity, echo=True) as served:
        yield served


async def test_a_session_reaches_the_doors_with_its_path_query_and_headers(served: Served) -> None:
    async with await served.connect() as client:
        await open_session(client, "/v1/worlds/a%20b/live?role=publish&epoch=3")
    path, query, headers = served.doors.asked[0]
    assert (path, query) == ("/v1/worlds/a b/live", "role=publish&epoch=3")
    assert "host" in headers


async def test_datagrams_go_both_ways_and_their_fate_comes_back(served: Served) -> None:
    async with await served.connect() as client:
        link, session = await open_session(client)
        for token in range(5):
            assert link.send(b"m%d" % token, token)
        await until(lambda: len(session.messages) == 5 and len(session.acked + session.lost) == 5)
        assert session.messages == [b"m%d" % n for n in range(5)]
        far = served.doors.sessions[0]
        for end, tokens in ((session, [0, 1, 2, 3, 4]), (far, [1, 2, 3, 4, 5])):
            await until(lambda e=end, t=tokens: sorted(e.acked + e.lost) == t)
        token = 5
        while not (session.acked and far.acked):  # an ACK later than the probe timeout counts as a loss
            assert link.send(b"m%d" % token, token)
            token += 1
            await until(lambda t=token: len(session.acked + session.lost) == t)


async def test_a_message_over_the_path_is_refused(served: Served) -> None:
    async with await served.connect() as client:
        link, _ = await open_session(client)
        assert link.message_bytes_max() >= limits.DATAGRAM_SAFE_BYTES
        assert link.send(bytes(link.message_bytes_max()), 1)
        assert not link.send(bytes(link.message_bytes_max() + 1), 2)


async def test_control_messages_come_in_order_on_one_stream(served: Served) -> None:
    async with await served.connect() as client:
        _, session = await open_session(client)
        far = served.doors.sessions[0].link
        for n in range(20):
            far.control(b"\x10%d" % n)
        expected = b"".join(struct.pack("<I", len(m)) + m for m in (b"\x10%d" % n for n in range(20)))
        await until(lambda: list(session.streams.values()) == [expected])


async def test_a_large_frame_has_a_stream_of_its_own_and_is_done_when_acknowledged(served: Served) -> None:
    async with await served.connect() as client:
        link, _ = await open_session(client)
        handle = link.send_stream([b"a" * 100_000, b"b"])
        assert not link.stream_done(handle)
        await until(lambda: link.stream_done(handle))
        far = served.doors.sessions[0]
        await until(lambda: len(far.ended) == 1)
        (data,) = far.streams.values()
        assert data == struct.pack("<I", 100_000) + b"a" * 100_000 + struct.pack("<I", 1) + b"b"


async def test_a_stream_that_was_overtaken_is_reset(served: Served) -> None:
    async with await served.connect() as client:
        link, _ = await open_session(client)
        handle = link.send_stream([bytes(4_000_000)])
        link.send_stream([b"newer"])
        await until(lambda: bool(served.doors.sessions[0].streams))
        link.reset_stream(handle)
        assert link.stream_done(handle)
        await until(lambda: len(served.doors.sessions[0].resets) == 1)
        link.reset_stream(handle)
        link.reset_stream(12345)


async def test_streams_beyond_the_bound_push_out_the_oldest(served: Served) -> None:
    async with await served.connect() as client:
        link, _ = await open_session(client)
        handles = [link.send_stream([bytes(300_000)]) for _ in range(limits.WT_STREAMS_PER_SESSION_MAX + 5)]
        assert [link.stream_done(h) for h in handles[:5]] == [True] * 5
        assert not link.stream_done(handles[-1])
        await until(lambda: link.stream_done(handles[-1]))


async def test_a_thousand_large_frames_one_after_another_all_arrive(served: Served) -> None:
    async with await served.connect() as client:
        link, _ = await open_session(client)
        for n in range(1000):
            handle = link.send_stream([b"%d" % n])
            if n % 16 == 0:
                await until(lambda h=handle: link.stream_done(h))
        await until(lambda: len(served.doors.sessions[0].ended) == 1000)


async def test_either_side_closes_with_code_and_reason(served: Served) -> None:
    async with await served.connect() as client:
        link, session = await open_session(client)
        far = served.doors.sessions[0]
        far.link.control(b"\x10bye")
        far.link.close(CloseCode.TAKEN_OVER, "another publisher came")
        await until(lambda: session.closed == 1 and far.closed == 1)
        assert (link.closed_code, link.closed_reason) == (3, "another publisher came")
        assert list(session.streams.values()) == [struct.pack("<I", 4) + b"\x10bye"]
        link2, session2 = await open_session(client)
        link2.close(CloseCode.OK, "done")
        link2.close(CloseCode.ERROR, "again")
        await until(lambda: session2.closed == 1 and served.doors.sessions[1].closed == 1)
        assert served.doors.sessions[1].link.closed_code == 0
        assert link2.send(b"late", 1) is Refusal.CLOSED
        assert link2.send_burst(Burst([(b"late", ())]), 1) is Refusal.CLOSED


async def test_a_datagram_that_is_refused_says_why(served: Served) -> None:
    async with await served.connect() as client:
        link, _ = await open_session(client)
        size = link.message_bytes_max()
        assert link.send(bytes(size + 1), 1) is Refusal.TOO_LARGE
        assert link.send_burst(Burst([(b"small", ()), (bytes(size + 1), ())]), 1) is Refusal.TOO_LARGE
        token = 1
        while (sent := link.send(bytes(1_000), token)) is True:
            token += 1
        assert sent is Refusal.BLOCKED
        assert link.send_burst(Burst([(bytes(1_000), ())]), token) is Refusal.BLOCKED


@pytest.mark.parametrize("reason", ["", "x", "x" * 1_024], ids=["none", "short", "longest"])
async def test_a_close_tells_its_code_whatever_the_length_of_its_reason(served: Served, reason: str) -> None:
    async with await served.connect() as client:
        link, session = await open_session(client)
        served.doors.sessions[0].link.close(CloseCode.TAKEN_OVER, reason)
        await until(lambda: session.closed == 1)
        assert (link.closed_code, link.closed_reason) == (CloseCode.TAKEN_OVER, reason)


async def test_a_refusal_before_the_session_is_a_problem_document(served: Served) -> None:
    async with await served.connect() as client:
        with pytest.raises(SessionRefused, match="nowhere") as caught:
            await open_session(client, "/v1/worlds/nowhere/live")
        assert caught.value.http_status == 404
        assert caught.value.document["code"] == "unknown_world"
        await open_session(client)


async def test_a_refusal_after_it_began_is_an_error_message_and_a_close(served: Served) -> None:
    async with await served.connect() as client:
        link, session = await open_session(client, "/v1/worlds/half/live")
        await until(lambda: session.closed == 1)
        assert link.closed_code == CloseCode.ERROR
        (control,) = session.streams.values()
        assert b'"error"' in control
        assert b"unknown_world" in control


async def test_the_end_of_the_connection_closes_its_sessions_once(served: Served) -> None:
    client = await served.connect()
    _, session = await open_session(client)
    await open_session(client, "/v1/worlds/b/live")
    client.close()
    assert session.closed == 1
    await until(lambda: [s.closed for s in served.doors.sessions] == [1, 1])


async def test_sessions_beyond_the_bound_are_refused(served: Served) -> None:
    async with await served.connect() as client:
        for _ in range(limits.WT_SESSIONS_PER_CONNECTION_MAX):
            await open_session(client)
        with pytest.raises(SessionRefused) as caught:
            await open_session(client)
        assert caught.value.http_status == 503


async def test_the_settings_are_those_that_browsers_take(served: Served) -> None:
    async with await served.connect() as client:
        await open_session(client)
        assert client.peer.h3 is not None
        settings = client.peer.h3.received_settings or {}
    assert settings[0x2B603742] == 1
    assert settings[0x14E9CD29] >= 1
    assert settings[0x2C7CF000] == 1
    assert settings[0x33] == 1
    assert settings[0x08] == 1
    assert 0xC671706A not in settings


async def test_room_runs_out_and_comes_back_with_a_call(served: Served) -> None:
    async with await served.connect() as client:
        link, session = await open_session(client)
        sent = 0
        while link.send(bytes(1000), sent):
            sent += 1
            assert sent < 10_000
        assert link.room_bytes() < 1200
        await until(lambda: session.writable >= 1)
        assert link.room_bytes() >= 1200


async def test_a_session_says_how_far_it_has_come(served: Served) -> None:
    async with await served.connect() as client:
        link, session = await open_session(client)
        far = served.doors.sessions[0].link
        assert (link.state, far.state) == (LinkState.OPEN, LinkState.OPEN)
        far.close(CloseCode.SHUTTING_DOWN, "later")
        assert far.state is LinkState.CLOSING
        await until(lambda: session.closed == 1)
        assert link.state is LinkState.CLOSED
        await until(lambda: far.state is LinkState.CLOSED)
        link.close(CloseCode.ERROR, "again")  # what is over stays as it ended
        assert link.state is LinkState.CLOSED
