"""What a peer may not say, and how much that ends: one request, or the connection. Named after h3spec's cases.

Sources: RFC 9114, RFC 9204, RFC 9297, RFC 9000, draft-ietf-webtrans-http3.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pylsqpack
import pytest
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import ErrorCode, encode_frame
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicErrorCode

from gateway import limits
from gateway.quic import Client, QuicTrust
from gateway.quic.connection import Connection, FateSink
from tests.held import count
from tests.patience import HANG_S
from tests.quic.conftest import Identity
from tests.quic.pair import make_pair
from tests.quic.serving import Served, open_session, serving, until
from tests.quic.stock import Stock

Fields = list[tuple[bytes, bytes]]
GOOD: Fields = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"localhost"),
    (b":path", b"/hello"),
]
DATA, HEADERS, CANCEL_PUSH, SETTINGS, GOAWAY, MAX_PUSH_ID, WT_STREAM = 0, 1, 3, 4, 7, 13, 0x41
PERMANENT = {"control": 2, "encoder": 6, "decoder": 10}
"""The client's own critical streams."""


class Nobody(FateSink):
    def on_fate(self, token: int, acked: bool) -> None: ...


@dataclass
class Raw:
    """A client that says what it is told, and keeps what comes back."""

    client: Client
    resets: dict[int, int] = field(default_factory=dict)
    answers: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        peer: Any = self.client.peer
        self.h3, peer.h3 = peer.h3, self

    def handle_event(self, event: events.QuicEvent) -> Any:
        """In the place of the client's own HTTP/3."""
        if isinstance(event, events.StreamReset):
            self.resets[event.stream_id] = event.error_code
        if isinstance(event, events.StreamDataReceived) and event.stream_id % 4 == 0:
            self.answers[event.stream_id] = self.answers.get(event.stream_id, b"") + event.data
            return []
        return self.h3.handle_event(event)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.h3, name)

    def say(self, data: bytes, *, one_way: bool = False, stream: int | None = None, end: bool = True) -> int:
        quic = self.client.peer.quic
        if stream is None:
            stream = quic.get_next_available_stream_id(is_unidirectional=one_way)
        quic.send_stream_data(stream, data, end_stream=end)
        self.client.peer.hub.mark(self.client.peer)
        return stream

    def ask(self, fields: Fields, *, end: bool = True) -> int:
        return self.say(encode_frame(HEADERS, section(fields)), end=end)

    def control(self, data: bytes) -> None:
        self.say(data, stream=PERMANENT["control"], end=False)

    def reset(self, stream: int) -> None:
        self.client.peer.quic.reset_stream(stream, 0)
        self.client.peer.hub.mark(self.client.peer)

    def datagram(self, data: bytes) -> None:
        self.client.peer.quic.queue_datagram(data, Nobody(), 1)
        self.client.peer.hub.mark(self.client.peer)


def section(fields: Fields) -> bytes:
    return bytes(pylsqpack.Encoder().encode(0, fields)[1])


def without(name: bytes) -> Fields:
    return [(key, value) for key, value in GOOD if key != name]


def changed(name: bytes, value: bytes) -> Fields:
    return [(key, value if key == name else old) for key, old in GOOD]


REQUESTS: dict[str, Fields] = {
    "a pseudo-header is duplicated [RFC 9114 4.1.2]": [*GOOD[:1], *GOOD],
    ":scheme is absent [RFC 9114 4.3.1]": without(b":scheme"),
    ":scheme is empty [RFC 9114 4.3.1]": changed(b":scheme", b""),
    ":path is absent [RFC 9114 4.3.1]": without(b":path"),
    ":path is empty [RFC 9114 4.3.1]": changed(b":path", b""),
    ":method is absent [RFC 9114 4.3.1]": without(b":method"),
    ":authority is absent [RFC 9114 4.3.1]": without(b":authority"),
    ":authority is absent and Host empty [RFC 9114 4.3.1]": [*without(b":authority"), (b"host", b"")],
    "a pseudo-header is prohibited [RFC 9114 4.3]": [*GOOD, (b":status", b"200")],
    "a pseudo-header is unknown [RFC 9114 4.3]": [*GOOD, (b":other", b"x")],
    "a pseudo-header stands after fields [RFC 9114 4.3]": [*GOOD[:3], (b"x", b"y"), GOOD[3]],
    "a name has upper case [RFC 9114 4.2]": [*GOOD, (b"X-One", b"y")],
    "a value has a line break [RFC 9114 10.3]": [*GOOD, (b"x", b"a\r\nb: c")],
    "a field belongs to a connection [RFC 9114 4.2]": [*GOOD, (b"transfer-encoding", b"chunked")],
    "an extended CONNECT has no :scheme [RFC 9220 3]": [
        (b":method", b"CONNECT"),
        (b":protocol", b"webtransport"),
        (b":authority", b"localhost"),
        (b":path", b"/v1/worlds/a/live"),
    ],
    "the field section is empty [RFC 9114 4.1.2]": [],
}


@pytest.fixture
async def served(identity: Identity) -> AsyncIterator[Served]:
    async with serving(identity) as served:
        yield served
        async with await served.connect() as client:
            assert (await client.request("GET", "/hello")).status == 200
        assert served.endpoint.counters["faults"] == 0


async def _only_its_stream_ends(raw: Raw, stream: int, served: Served) -> None:
    await until(lambda: stream in raw.resets)
    assert raw.resets[stream] == ErrorCode.H3_MESSAGE_ERROR
    again = raw.ask(GOOD)
    await until(lambda: b"hello" in raw.answers.get(again, b""))
    assert [scope["path"] for scope in served.app.scopes if scope["path"] != "/wait"] == ["/hello"]
    assert raw.client.close_reason is None


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("name", REQUESTS)
async def test_a_malformed_request_ends_its_stream_with_h3_message_error(
    served: Served, name: str, ended: bool
) -> None:
    async with await served.connect() as client:
        raw = Raw(client)
        stream = raw.ask(REQUESTS[name], end=ended)
        await _only_its_stream_ends(raw, stream, served)


@pytest.mark.parametrize(
    "content",
    [
        section(GOOD) + b"\x20\x01y",
        section(GOOD) + b"\x28\x80",
        b"\x00\x00\xd1\x50\x01a\x20\x01y" + section(GOOD)[2:],
        b"\x00\x7f\x00",
        b"",
    ],
    ids=["the last", "with Huffman", "among others", "a base and nothing else", "no bytes at all"],
)
async def test_a_field_without_a_name_or_no_field_at_all_ends_its_stream_with_h3_message_error(
    served: Served, content: bytes
) -> None:
    """RFC 9114 4.1.2; RFC 9204 4.5.6."""
    async with await served.connect() as client:
        raw = Raw(client)
        stream = raw.say(encode_frame(HEADERS, content))
        await _only_its_stream_ends(raw, stream, served)


async def test_what_follows_a_malformed_request_on_its_stream_is_not_looked_at(served: Served) -> None:
    async with await served.connect() as client:
        raw = Raw(client)
        (peer,) = served.endpoint.peers
        await client.ping()

        def held() -> int:
            return count(peer.h3, peer.quic, served.endpoint.context.heads)

        before = held()
        stream = raw.ask(REQUESTS["a name has upper case [RFC 9114 4.2]"], end=False)
        for n in range(50):
            if client.peer.quic.streams.can_send_on(stream):
                raw.say(b"\x02\x00" * 200, stream=stream, end=n == 49)
                await asyncio.sleep(0)
        await _only_its_stream_ends(raw, stream, served)
        await until(lambda: held() <= before)
        assert served.endpoint.peers == {peer}


async def test_malformed_trailers_end_a_request_that_is_being_served(served: Served) -> None:
    async with await served.connect() as client:
        raw = Raw(client)
        stream = raw.ask(changed(b":path", b"/wait"), end=False)
        await until(lambda: len(served.app.scopes) == 1)
        raw.say(encode_frame(HEADERS, section([(b":path", b"/x")])), stream=stream)
        await _only_its_stream_ends(raw, stream, served)
        await until(lambda: served.app.disconnects == 1)


@pytest.mark.parametrize("hosts", [[b"elsewhere"], [b"localhost", b"elsewhere"], [b""]])
async def test_a_request_whose_host_differs_from_its_authority_is_not_served(
    served: Served, hosts: list[bytes]
) -> None:
    """RFC 9114 4.3.1: it is malformed, and 4.1.2 lets it be answered; here by 421, as a foreign name is."""
    async with await served.connect() as client:
        response = await client.request("GET", "/hello", [(b"host", host) for host in hosts])
        assert response.status == 421
        assert (await client.request("GET", "/hello")).status == 200
    assert len(served.app.scopes) == 1


@pytest.mark.parametrize(
    "fields",
    [
        [*GOOD, (b"host", b"localhost")],
        [*GOOD, (b"host", b"LOCALHOST")],
        [*without(b":authority"), (b"host", b"localhost")],
        changed(b":scheme", b"http"),
        changed(b":scheme", b"other"),
    ],
)
async def test_sound_requests_are_served_and_the_scheme_is_the_connections(
    served: Served, fields: Fields
) -> None:
    async with await served.connect() as client:
        raw = Raw(client)
        stream = raw.ask(fields)
        await until(lambda: b"hello" in raw.answers.get(stream, b""))
        assert served.app.scopes[0]["scheme"] == "https"


CONNECTION_ERRORS: dict[str, tuple[int, Callable[[Raw], object]]] = {
    "DATA comes before HEADERS [RFC 9114 4.1]": (
        ErrorCode.H3_FRAME_UNEXPECTED,
        lambda raw: raw.say(b"\x00\x01x"),
    ),
    "a frame is cut short by the end [RFC 9114 7.1]": (
        ErrorCode.H3_FRAME_ERROR,
        lambda raw: raw.say(b"\x01\x20\x00"),
    ),
    "SETTINGS comes on a request stream [RFC 9114 7.2.4]": (
        ErrorCode.H3_FRAME_UNEXPECTED,
        lambda raw: raw.say(b"\x04\x00"),
    ),
    "DATA comes on the control stream [RFC 9114 7.2.1]": (
        ErrorCode.H3_FRAME_UNEXPECTED,
        lambda raw: raw.control(b"\x00\x01x"),
    ),
    "HEADERS comes on the control stream [RFC 9114 7.2.2]": (
        ErrorCode.H3_FRAME_UNEXPECTED,
        lambda raw: raw.control(b"\x01\x01x"),
    ),
    "a second SETTINGS [RFC 9114 7.2.4]": (
        ErrorCode.H3_FRAME_UNEXPECTED,
        lambda raw: raw.control(b"\x04\x00"),
    ),
    "a frame of HTTP/2 [RFC 9114 7.2.8]": (
        ErrorCode.H3_FRAME_UNEXPECTED,
        lambda raw: raw.control(b"\x06\x00"),
    ),
    "CANCEL_PUSH of an unknown push [RFC 9114 7.2.3]": (
        ErrorCode.H3_ID_ERROR,
        lambda raw: raw.control(encode_frame(CANCEL_PUSH, b"\x00")),
    ),
    "CANCEL_PUSH with trailing bytes [RFC 9114 7.1]": (
        ErrorCode.H3_FRAME_ERROR,
        lambda raw: raw.control(encode_frame(CANCEL_PUSH, b"\x00\x00")),
    ),
    "GOAWAY rises [RFC 9114 5.2]": (
        ErrorCode.H3_ID_ERROR,
        lambda raw: raw.control(encode_frame(GOAWAY, b"\x04") + encode_frame(GOAWAY, b"\x05")),
    ),
    "GOAWAY with trailing bytes [RFC 9114 7.1]": (
        ErrorCode.H3_FRAME_ERROR,
        lambda raw: raw.control(encode_frame(GOAWAY, b"\x04\x00")),
    ),
    "GOAWAY without a number [RFC 9114 7.1]": (
        ErrorCode.H3_FRAME_ERROR,
        lambda raw: raw.control(encode_frame(GOAWAY, b"")),
    ),
    "MAX_PUSH_ID falls [RFC 9114 7.2.7]": (
        ErrorCode.H3_ID_ERROR,
        lambda raw: raw.control(encode_frame(MAX_PUSH_ID, b"\x08") + encode_frame(MAX_PUSH_ID, b"\x01")),
    ),
    "MAX_PUSH_ID with trailing bytes [RFC 9114 7.1]": (
        ErrorCode.H3_FRAME_ERROR,
        lambda raw: raw.control(encode_frame(MAX_PUSH_ID, b"\x20\x00")),
    ),
    "a control frame beyond all reason [RFC 9114 10.5]": (
        ErrorCode.H3_EXCESSIVE_LOAD,
        lambda raw: raw.control(b"\x07\x80\x10\x00\x00"),
    ),
    "a second control stream [RFC 9114 6.2.1]": (
        ErrorCode.H3_STREAM_CREATION_ERROR,
        lambda raw: raw.say(b"\x00\x04\x00", one_way=True, end=False),
    ),
    "a push stream of a client [RFC 9114 6.2.2]": (
        ErrorCode.H3_STREAM_CREATION_ERROR,
        lambda raw: raw.say(b"\x01\x00", one_way=True, end=False),
    ),
    **{
        f"the {name} stream ends [RFC 9114 6.2.1, RFC 9204 4.2]": (
            ErrorCode.H3_CLOSED_CRITICAL_STREAM,
            lambda raw, number=number: raw.say(b"", stream=number),
        )
        for name, number in PERMANENT.items()
    },
    **{
        f"the {name} stream is reset [RFC 9114 6.2.1, RFC 9204 4.2]": (
            ErrorCode.H3_CLOSED_CRITICAL_STREAM,
            lambda raw, number=number: raw.reset(number),
        )
        for name, number in PERMANENT.items()
    },
    "a reference beyond the static table [RFC 9204 3.1]": (
        ErrorCode.QPACK_DECOMPRESSION_FAILED,
        lambda raw: raw.say(encode_frame(HEADERS, b"\x00\x00\xff\x80\x01")),
    ),
    "a length beyond the section [RFC 9204 4.5.6]": (
        ErrorCode.QPACK_DECOMPRESSION_FAILED,
        lambda raw: raw.say(encode_frame(HEADERS, b"\x00\x00\x20\x7f\x7f")),
    ),
    "an empty name among dynamic references [RFC 9204 2.2.3]": (
        ErrorCode.QPACK_DECOMPRESSION_FAILED,
        lambda raw: raw.say(encode_frame(HEADERS, b"\x00\x00\x80\x20\x01y")),
    ),
    "a reference to the dynamic table [RFC 9204 2.2.3]": (
        ErrorCode.QPACK_DECOMPRESSION_FAILED,
        lambda raw: raw.say(encode_frame(HEADERS, b"\x00\x00\x80")),
    ),
    "a capacity beyond the setting [RFC 9204 4.1.3]": (
        ErrorCode.QPACK_ENCODER_STREAM_ERROR,
        lambda raw: raw.say(b"\x3f\xe1\x1f", stream=PERMANENT["encoder"], end=False),
    ),
    "an insert count increment of nothing [RFC 9204 4.4.3]": (
        ErrorCode.QPACK_DECODER_STREAM_ERROR,
        lambda raw: raw.say(b"\x00", stream=PERMANENT["decoder"], end=False),
    ),
    "0x41 in the middle of a request [draft-ietf-webtrans-http3 4.3]": (
        ErrorCode.H3_FRAME_ERROR,
        lambda raw: raw.say(encode_frame(HEADERS, section(GOOD)) + b"\x40\x41\x00xyz", end=False),
    ),
    "0x41 after a frame that is ignored [draft-ietf-webtrans-http3 4.3]": (
        ErrorCode.H3_FRAME_ERROR,
        lambda raw: raw.say(b"\x21\x00" + b"\x40\x41\x00xyz", end=False),
    ),
    **{
        f"a one-way stream of session {number} [draft-ietf-webtrans-http3 4.1]": (
            ErrorCode.H3_ID_ERROR,
            lambda raw, number=number: raw.say(b"\x40\x54" + bytes([number]), one_way=True, end=False),
        )
        for number in (1, 2, 3)
    },
    "a two-way stream of session 2 [draft-ietf-webtrans-http3 4.2]": (
        ErrorCode.H3_ID_ERROR,
        lambda raw: raw.say(b"\x40\x41\x02", end=False),
    ),
    "a quarter stream ID beyond the limit [RFC 9297 2.1]": (
        ErrorCode.H3_ID_ERROR,
        lambda raw: raw.datagram(encode_uint_var(limits.QUIC_PEER_STREAMS_MAX + 1) + b"x"),
    ),
    "a quarter stream ID that no stream has [RFC 9297 2.1]": (
        ErrorCode.H3_DATAGRAM_ERROR,
        lambda raw: raw.datagram(encode_uint_var(1 << 60) + b"x"),
    ),
    "a datagram without a quarter stream ID [RFC 9297 2.1]": (
        ErrorCode.H3_DATAGRAM_ERROR,
        lambda raw: raw.datagram(b"\xc0"),
    ),
}


@pytest.mark.parametrize("name", CONNECTION_ERRORS)
async def test_a_broken_rule_ends_the_connection_with_its_error(served: Served, name: str) -> None:
    code, action = CONNECTION_ERRORS[name]
    async with await served.connect() as client:
        raw = Raw(client)
        await client.ping()
        action(raw)
        async with asyncio.timeout(HANG_S):
            await client.wait_closed()
        ended = client.peer.ended
        assert ended is not None
        assert (ended.error_code, ended.frame_type) == (code, None)


@pytest.mark.parametrize(
    "said",
    [
        encode_frame(GOAWAY, b"\x05") + encode_frame(GOAWAY, b"\x05") + encode_frame(GOAWAY, b"\x00"),
        encode_frame(0x21, bytes(5_000)),
        encode_frame(0x40 + 0x1F * 9, b""),
        encode_frame(MAX_PUSH_ID, b"\x20"),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
async def test_what_is_allowed_on_the_control_stream_ends_nothing(
    served: Served, said: bytes, at_once: bool
) -> None:
    async with await served.connect() as client:
        raw = Raw(client)
        for byte in [said] if at_once else [said[n : n + 1] for n in range(len(said))]:
            raw.control(byte)
        await client.ping()
        stream = raw.ask(GOOD)
        await until(lambda: b"hello" in raw.answers.get(stream, b""))


async def test_a_session_whose_stream_has_malformed_trailers_ends_alone(served: Served) -> None:
    async with await served.connect() as client:
        _, kept = await open_session(client)
        link, _ = await open_session(client, "/v1/worlds/b/live")
        peer: Any = client.peer
        peer.quic.send_stream_data(link.session_id, encode_frame(HEADERS, section([(b"X", b"y")])))
        peer.hub.mark(peer)
        await until(lambda: served.doors.sessions[1].closed == 1)
        assert served.doors.sessions[0].closed == kept.closed == 0


# -- below HTTP/3 ----------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, -1])
def test_a_transport_parameter_that_is_there_twice_is_refused(identity: Identity, which: int) -> None:
    """RFC 9000 section 7.4."""

    class Twice(Stock):
        def _serialize_transport_parameters(self) -> bytes:
            # No peer that keeps to the rules would offer this by a public name.
            said = super()._serialize_transport_parameters()
            return said + (b"\x04\x04\x80\x10\x00\x00" if which == 0 else b"\x1d\x00" * 2)

    pair = make_pair(identity, client=Twice, server=Connection)
    pair.run(lambda: pair.client.terminated() is not None)
    ended = pair.client.terminated()
    assert ended is not None
    assert ended.error_code == QuicErrorCode.TRANSPORT_PARAMETER_ERROR


class TokenTrust(QuicTrust):
    """Begins with a token that no server here has given."""

    def configuration(self, *args: Any) -> QuicConfiguration:
        configuration = super().configuration(*args)
        configuration.token = self.token
        return configuration

    token = b""


@pytest.mark.parametrize("token", [b"x", b"y" * 64, bytes(300)])
@pytest.mark.parametrize("retry", [True, False])
async def test_an_unknown_token_counts_for_nothing(identity: Identity, token: bytes, retry: bool) -> None:
    """RFC 9000 section 8.1.3: it is answered by a Retry where no token would be."""
    trust = type("GivenToken", (TokenTrust,), {"token": token})(ca_pem=identity.cert_pem)
    async with serving(identity, retry=retry) as served, await served.connect(trust=trust) as client:
        assert (await client.request("GET", "/hello")).status == 200
        assert served.endpoint.counters["retries"] == retry
