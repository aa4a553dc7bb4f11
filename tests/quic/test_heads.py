"""Header sections that come again: what is remembered, and that nobody can change it for others."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aioquic.buffer import encode_uint_var

from gateway import limits
from gateway.quic import RequestFailed
from gateway.quic.h3.heads import Heads
from tests.held import longest
from tests.quic.conftest import Identity
from tests.quic.serving import Served, serving

QPACK_SET_CAPACITY_4096 = b"\x3f\xe1\x1f"
ENCODER_STREAM = 6
"""A client's one-way streams are 2 and on by fours: control, QPACK's encoder, QPACK's decoder."""


@pytest.fixture
async def served(identity: Identity) -> AsyncIterator[Served]:
    async with serving(identity) as served:
        yield served


async def test_a_request_that_comes_again_is_described_afresh(served: Served) -> None:
    described, ports = [], []
    for _ in range(3):
        async with await served.connect() as client:
            ports.append(client.endpoint.port)
            assert await (await client.request("GET", "/hello?q", [(b"x-one", b"1")])).read() == b"hello"
        scope = served.app.scopes.pop()
        described.append({key: repr(value) for key, value in scope.items() if key != "client"})
        assert scope["client"][1] == ports[-1]
        scope["headers"].append((b"x-added", b"by the application"))
        scope["extensions"]["added"] = scope["asgi"]["added"] = {}
    assert described[0] == described[1] == described[2]
    assert len(set(ports)) == 3


async def test_requests_that_differ_in_one_field_are_kept_apart(served: Served) -> None:
    async with await served.connect() as client:
        for n in (1, 2, 1, 2):
            await (await client.request("GET", "/hello", [(b"x-n", b"%d" % n)])).read()
    assert [dict(scope["headers"])[b"x-n"] for scope in served.app.scopes] == [b"1", b"2", b"1", b"2"]


async def test_a_head_that_promises_content_and_brings_none_fails_every_time(served: Served) -> None:
    for _ in range(3):
        async with await served.connect() as client:
            with pytest.raises(RequestFailed):
                await client.request("GET", "/hello", [(b"content-length", b"5")])
    assert served.app.scopes == []


async def test_a_peer_that_fills_a_dynamic_table_we_did_not_offer_is_cut_off(served: Served) -> None:
    async with await served.connect() as client:
        assert (await client.request("GET", "/hello")).status == 200
        client.peer.quic.send_stream_data(ENCODER_STREAM, QPACK_SET_CAPACITY_4096)
        client.endpoint.mark(client.peer)
        await client.wait_closed()
        assert client.close_reason is not None


def test_what_is_remembered_is_bounded_in_number_and_size() -> None:
    heads = Heads()
    for n in range(3 * limits.H3_KNOWN_HEADS_MAX):
        heads.know_request(b"%d" % n, [(b":path", b"/%d" % n)])
        heads.know_section(((b":status", b"%d" % n),), encode_uint_var(n))
        assert heads.request(b"%d" % n) is not None
        assert heads.section(((b":status", b"%d" % n),)) is not None
    assert longest(heads) <= limits.H3_KNOWN_HEADS_MAX
    long = bytes(limits.H3_KNOWN_HEAD_BYTES_MAX + 1)
    fields = [(b"x", b"%d" % n) for n in range(limits.H3_KNOWN_HEAD_FIELDS_MAX + 1)]
    heads.know_request(long, [])
    heads.know_request(b"many", fields)
    heads.know_section(tuple(fields), b"many")
    assert heads.request(long) is None
    assert heads.request(b"many") is None
    assert heads.section(tuple(fields)) is None
