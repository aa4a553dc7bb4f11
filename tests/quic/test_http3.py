"""HTTP/3 requests over real sockets, as an ASGI application sees them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime

import pytest

from gateway import limits
from gateway.quic import ConnectFailed, QuicTrust, RequestFailed
from tests.held import count
from tests.patience import HANG_S
from tests.quic.conftest import Identity, make_identity
from tests.quic.serving import Served, kill, open_session, serving, until


@pytest.fixture
async def served(identity: Identity) -> AsyncIterator[Served]:
    async with serving(identity) as served:
        yield served


async def test_a_request_is_answered_and_described_as_http_3(served: Served) -> None:
    async with await served.connect() as client:
        response = await client.request("GET", "/hello?a=%20b", [(b"x-one", b"1")])
        assert (response.status, await response.read()) == (200, b"hello")
        assert response.header(b"content-length") == b"5"
    scope = served.app.scopes[0]
    assert (scope["http_version"], scope["scheme"], scope["path"]) == ("3", "https", "/hello")
    assert scope["query_string"] == b"a=%20b"
    assert (b"x-one", b"1") in scope["headers"]
    assert dict(scope["headers"])[b"host"].endswith(str(served.endpoint.port).encode())
    assert scope["client"][0] == "127.0.0.1"


async def test_bodies_stream_both_ways_at_once(served: Served) -> None:
    async def body() -> AsyncIterator[bytes]:
        for n in range(60):
            yield bytes([n]) * 50_000

    async with await served.connect() as client:
        response = await client.request("POST", "/echo", body=body())
        got = await response.read()
    assert got == b"".join(bytes([n]) * 50_000 for n in range(60))


async def test_many_requests_share_a_connection(served: Served) -> None:
    async with await served.connect() as client:

        async def one(n: int) -> bytes:
            response = await client.request("POST", "/echo", body=b"%d" % n)
            return await response.read()

        assert await asyncio.gather(*(one(n) for n in range(100))) == [b"%d" % n for n in range(100)]
    assert served.endpoint.counters["connections"] == 1


async def test_an_upload_that_is_not_read_is_held_at_the_stream_window(served: Served) -> None:
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65536
            yield bytes(65536)

    async with await served.connect() as client:
        unread = asyncio.create_task(client.request("POST", "/unread", body=body(), timeout_s=HANG_S))
        await until(
            lambda: any(peer.quic.streams.held_bytes > 0 for peer in served.endpoint.peers) or unread.done()
        )
        assert (await unread).status == 404
        reading = asyncio.create_task(client.request("POST", "/slow", body=body(), timeout_s=HANG_S))
        await reading
    bound = limits.QUIC_CONNECTION_WINDOW_BYTES + 4 * limits.H3_SEND_BUFFER_BYTES_MAX
    assert sent < 2 * bound


async def test_a_response_waits_for_a_reader_that_does_not_read(served: Served) -> None:
    window, piece = limits.QUIC_CLIENT_STREAM_WINDOW_BYTES, 65536
    async with await served.connect() as client:
        response = await client.request("GET", "/big?400")
        await until(lambda: served.app.read >= window // 2)
        for _ in range(20):
            await client.ping()
        assert client.peer.quic.streams.held_bytes <= window
        assert served.app.read <= window + limits.H3_SEND_BUFFER_BYTES_MAX + 2 * piece
        assert len(await response.read()) == 400 * 65536
        again = await client.request("GET", "/hello")
        assert await again.read() == b"hello"


async def test_a_client_that_gives_up_disconnects_the_application(served: Served) -> None:
    async with await served.connect() as client:
        waiting = asyncio.create_task(client.request("GET", "/wait"))
        await until(lambda: len(served.app.scopes) == 1)
        waiting.cancel()
        await until(lambda: served.app.disconnects == 1)
        assert (await client.request("GET", "/hello")).status == 200


async def test_the_end_of_a_connection_disconnects_its_requests(served: Served) -> None:
    client = await served.connect()
    waiting = asyncio.create_task(client.request("GET", "/wait"))
    await until(lambda: len(served.app.scopes) == 1)
    client.close()
    with pytest.raises(RequestFailed, match="ended"):
        await waiting
    await until(lambda: served.app.disconnects == 1)


async def test_a_failing_application_answers_500_with_a_problem_document(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async with await served.connect() as client:
        response = await client.request("GET", "/break")
        assert response.status == 500
        assert response.header(b"content-type") == b"application/problem+json"
        assert b"on purpose" not in await response.read()
    assert "on purpose" in caplog.text


async def test_a_connect_for_another_protocol_is_refused(served: Served) -> None:
    async with await served.connect() as client:
        response = await client.request("CONNECT", "/x", [])
        assert response.status == 501


@pytest.mark.parametrize(
    "value",
    [b"v" * 2 * limits.H3_HEADER_BYTES_MAX, b"x" * limits.H3_HEADER_BYTES_MAX, bytes(range(32, 127)) * 200],
)
async def test_an_oversized_field_section_is_answered_431_and_the_connection_goes_on(
    served: Served, value: bytes
) -> None:
    async with await served.connect() as client:
        await open_session(client)
        waiting = asyncio.create_task(client.request("GET", "/wait"))
        await until(lambda: len(served.app.scopes) == 1)
        (peer,) = served.endpoint.peers
        first = 0
        for _ in range(4):
            for body in (b"", b"x" * 300_000):
                response = await client.request("POST", "/hello", [(b"x-large", value)], body)
                assert response.status == 431
                assert b"headers_too_large" in await response.read()
            first = first or count(peer.h3, peer.quic, served.endpoint.context.heads)
        # What was refused is forgotten, once its last packets are acknowledged.
        await until(lambda: count(peer.h3, peer.quic, served.endpoint.context.heads) <= first)
        just = limits.H3_HEADER_BYTES_MAX - 400
        response = await client.request("GET", "/hello", [(b"x-large", b"v" * just)])
        assert response.status == 200
        await until(lambda: len(peer.quic.streams.by_number) < 14)
        assert not waiting.done()
        assert served.doors.sessions[0].closed == 0
        waiting.cancel()


async def test_what_is_taken_is_announced(served: Served) -> None:
    async with await served.connect() as client:
        await client.request("GET", "/hello")
        settings = client.peer.h3.received_settings
        assert settings is not None
        assert settings[0x06] == limits.H3_HEADER_BYTES_MAX


async def test_every_response_has_a_date(served: Served) -> None:
    async with await served.connect() as client:
        for method, path in (("GET", "/hello"), ("GET", "/none"), ("GET", "/break"), ("CONNECT", "/x")):
            for _ in range(2):
                response = await client.request(method, path)
                (date,) = [value for name, value in response.headers if name == b"date"]
                assert abs(parsedate_to_datetime(date.decode()).timestamp() - time.time()) < 3
                assert len(date) == 29
                assert date.endswith(b" GMT")


async def test_a_session_is_resumed_and_safe_requests_go_in_0_rtt(served: Served) -> None:
    async with await served.connect() as first:
        await (await first.request("GET", "/hello")).read()
        await until(lambda: first.ticket is not None)
        ticket = first.ticket
    async with await served.connect(ticket=ticket, early_data=True) as client:
        assert client.is_early
        safe = asyncio.create_task(client.request("GET", "/hello"))
        listed = asyncio.create_task(client.request("POST", "/stat", body=b"x"))
        unsafe = asyncio.create_task(client.request("POST", "/echo", body=b"x"))
        assert (await safe).status == 200
        assert (await listed).status == 200
        refused = await unsafe
        assert client.was_resumed
        assert client.peer.early_data_accepted
        assert refused.status == 425
        assert b"too_early" in await refused.read()
        assert (await client.request("POST", "/echo", body=b"x")).status == 200


async def test_a_ticket_is_good_for_one_resumption(served: Served) -> None:
    async with await served.connect() as first:
        await until(lambda: first.ticket is not None)
        ticket = first.ticket
    async with await served.connect(ticket=ticket) as second:
        assert second.was_resumed
    async with await served.connect(ticket=ticket) as third:
        assert not third.was_resumed


async def test_an_untrusted_certificate_is_refused_by_the_client(served: Served) -> None:
    for trust in (make_identity().trust(), QuicTrust(certificate_hashes=frozenset({bytes(32)}))):
        with pytest.raises(ConnectFailed):
            await served.connect(trust=trust)
    pinned = QuicTrust(certificate_hashes=frozenset({served.identity.leaf_hash}))
    async with await served.connect(trust=pinned) as client:
        assert (await client.request("GET", "/hello")).status == 200


async def test_silence_is_reported_within_the_time_given(identity: Identity) -> None:
    from gateway.quic import connect
    from gateway.quic.udp import bind

    silent = bind("127.0.0.1", 0)
    with pytest.raises(ConnectFailed, match="does not answer"):
        await connect("127.0.0.1", silent.getsockname()[1], trust=identity.trust(), timeout_s=0.1)
    silent.close()


async def test_a_certificate_is_replaced_while_serving(served: Served) -> None:
    other = make_identity()
    async with await served.connect() as old:
        served.endpoint.context.tls.replace(other.cert_pem, other.key_pem)
        async with await served.connect(trust=other.trust()) as new:
            assert (await new.request("GET", "/hello")).status == 200
        assert (await old.request("GET", "/hello")).status == 200


async def test_retry_proves_the_address_before_any_state_is_kept(identity: Identity) -> None:
    async with serving(identity, retry=True) as served, await served.connect() as client:
        assert (await client.request("GET", "/hello")).status == 200
        assert served.endpoint.counters["retries"] == 1


async def test_connections_beyond_the_bound_are_refused_at_once(identity: Identity) -> None:
    async with serving(identity, connections_max=1) as served, await served.connect():
        with pytest.raises(ConnectFailed, match="ended"):
            await served.connect()


async def test_a_client_moves_to_another_address_and_goes_on(served: Served) -> None:
    async with await served.connect() as client:
        before = await client.request("GET", "/hello")
        client.rebind()
        await client.ping()
        after = await client.request("GET", "/hello")
        assert (before.status, after.status) == (200, 200)
    ports = [scope["client"][1] for scope in served.app.scopes]
    assert ports[0] != ports[1]


async def test_draining_lets_a_request_finish_and_takes_no_new_one(served: Served) -> None:
    pieces = 2 * limits.QUIC_CLIENT_STREAM_WINDOW_BYTES // 65_536
    client = await served.connect()
    response = await client.request(
        "GET", f"/big?{pieces}"
    )  # more than goes out before it is read: it is under way
    draining = asyncio.create_task(served.endpoint.drain(60))
    await until(lambda: served.endpoint.is_draining)
    refused = await client.request("GET", "/hello")
    assert refused.status == 503
    assert len(await response.read()) == pieces * 65_536
    assert await draining
    await asyncio.wait_for(client.wait_closed(), HANG_S)
    client.close()


@pytest.mark.parametrize("said", ["request", "ping"])
async def test_a_client_of_a_killed_server_learns_at_once_that_it_is_gone(
    identity: Identity, said: str
) -> None:
    """Also by the shortest packet that it sends: the answer is shorter still."""
    from gateway.quic import QuicOptions, listen
    from gateway.quic.udp import bind
    from tests.quic.conftest import App, RecordingDoors

    options = QuicOptions(reset_key=b"k" * 32)
    port = 0
    first = await listen(
        "127.0.0.1", 0, tls=identity.server(), asgi_app=App(), doors=RecordingDoors(), options=options
    )
    port = first.port
    client = await Served(first, App(), RecordingDoors(), identity).connect()
    await until(lambda: client.peer.quic.is_taken_over)  # before it, only long headers would be sent again
    kill(first)
    second = await listen(
        "127.0.0.1",
        0,
        tls=identity.server(),
        asgi_app=App(),
        doors=RecordingDoors(),
        options=options,
        sock=bind("127.0.0.1", port),
    )
    with pytest.raises(RequestFailed, match="stateless reset"):
        await asyncio.wait_for(
            client.request("GET", "/hello") if said == "request" else client.ping(), HANG_S
        )
    assert second.counters["stateless_resets"] >= 1
    client.close()
    first.close()
    second.close()
