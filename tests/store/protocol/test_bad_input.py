"""What a store does with what it should not be sent: the page's status, and never a 5xx for what cannot succeed."""

from __future__ import annotations

import asyncio
import os

import msgpack
import pytest

from tests.patience import HANG_S
from tests.store.protocol.backends import Door, commit, digest, framed, page, part, read

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.parametrize(
        "door",
        ["store/h1", "embedded/h2", "embedded/h3", "before-gateway/h3", "before-standin/h1"],
        indirect=True,
        scope="module",
    ),
]

NOWHERE = "0" * 20


def named(key: str) -> dict[str, str]:
    return {"x-namespace-key": key}


async def a_page(door: Door) -> tuple[str, str]:
    """A namespace with page 1, and its head."""
    key = await door.namespace()
    version = (await door.ask("GET", "/stat", headers=named(key))).json()["version"]
    answer = await door.ask("POST", "/batch/commit", commit(part(key, version, {1: page(1)})))
    return key, answer.headers["x-committed-version"]


BAD_FRAMES = {
    "over the bound": (40_961).to_bytes(4, "big") + b"x" * 40_961,
    "a length of 4 GiB": b"\xff\xff\xff\xff",
    "not MessagePack": b"\0\0\0\1\xc1",
    "a number": framed(7),
    "an empty map": framed({}),
    "a version of the wrong shape": framed(read(1, "1234")),
    "a version of other letters": framed(read(1, "g" * 20)),
    "a hash of the wrong length": framed(read(1, NOWHERE, hash=b"short")),
    "a page number over u32": framed(read(2**32, NOWHERE)),
    "a negative page number": framed(read(-1, NOWHERE)),
    "a frame that breaks off": b"\0\0\0\x09abc",
    "a nest without a bottom": len(b"\x91" * 9_000).to_bytes(4, "big") + b"\x91" * 9_000,
}


@pytest.mark.parametrize("bad", BAD_FRAMES.values(), ids=BAD_FRAMES.keys())
async def test_a_bad_read_ends_the_body_after_the_good_ones(door: Door, bad: bytes) -> None:
    key, version = await a_page(door)
    answer = await door.ask("POST", "/batch/read", framed(read(1, version)) + bad, named(key))
    assert answer.status == 200
    assert [one["data"] for one in answer.frames()] == [page(1)]


@pytest.mark.parametrize("bad", BAD_FRAMES.values(), ids=BAD_FRAMES.keys())
async def test_a_bad_read_before_any_page_is_refused_for_good(door: Door, bad: bytes) -> None:
    """A short body would be asked for again for ever."""
    if "standin" in door.name.partition("/")[0] and not door.name.startswith("before"):
        pytest.skip("mvstore ends the body early")
    if bad is BAD_FRAMES["a frame that breaks off"]:
        pytest.skip("that is a body which breaks off, not a read")
    key, _ = await a_page(door)
    answer = await door.ask("POST", "/batch/read", bad, named(key))
    assert answer.status in (400, 413)
    assert answer.json()["detail"]


BAD_WRITES = {
    "over the bound": (40_961).to_bytes(4, "big") + b"x" * 40_961,
    "no data": framed({"delta_base": 1}, b""),
    "text as data": framed({"data": "text", "delta_base": None}, b""),
    "a page over 32768 bytes": framed({"data": b"x" * 32_769, "delta_base": None}, b""),
    "101 pages": framed(*[{"data": b"x", "delta_base": None}] * 101, b""),
    "no empty frame": framed({"data": b"x", "delta_base": None}),
    "broken off": framed({"data": b"x", "delta_base": None}) + b"\0\0",
}


@pytest.mark.parametrize("bad", BAD_WRITES.values(), ids=BAD_WRITES.keys())
async def test_a_bad_write_is_dropped_whole(door: Door, bad: bytes) -> None:
    key = await door.namespace()
    data = os.urandom(100)
    good = framed({"data": data, "delta_base": None})
    answer = await door.ask("POST", "/batch/write", good + bad, named(key))
    assert (answer.status, answer.body) == (200, b"")
    version = (await door.ask("GET", "/stat", headers=named(key))).json()["version"]
    unwritten = commit(part(key, version, {1: data}, inline=False))
    assert (await door.ask("POST", "/batch/commit", unwritten)).status == 410


GOOD_HEAD = {"idempotency_key": bytes(16), "allow_skip_idempotency_check": True, "num_namespaces": 1}
BAD_COMMITS = {
    "nothing": (b"", 400),
    "not MessagePack": (b"\0\0\0\1\xc1", 400),
    "an over-long frame": ((40_961).to_bytes(4, "big"), 413),
    "a short idempotency key": (framed({**GOOD_HEAD, "idempotency_key": bytes(15)}), 400),
    "a head and no namespace": (framed(GOOD_HEAD), 400),
    "a number of namespaces as text": (framed({**GOOD_HEAD, "num_namespaces": "1"}), 400),
    "a negative number of namespaces": (framed({**GOOD_HEAD, "num_namespaces": -1}), 400),
    "a version of the wrong shape": (framed(GOOD_HEAD, part("K", "12", {})[0]), 400),
    "a read set of text": (framed(GOOD_HEAD, part("K", NOWHERE, {}, read_set=["1"])[0]), 400),
    "fewer pages than said": (framed(GOOD_HEAD, part("K", NOWHERE, {}, num_pages=2)[0]), 400),
    "a bad hash": (
        framed(
            GOOD_HEAD,
            part("K", NOWHERE, {}, num_pages=1)[0],
            {"page_index": 0, "hash": b"short", "data": None},
        ),
        400,
    ),
}


@pytest.mark.parametrize(("body", "status"), BAD_COMMITS.values(), ids=BAD_COMMITS.keys())
async def test_a_bad_commit_is_refused_for_good(door: Door, body: bytes, status: int) -> None:
    answer = await door.ask("POST", "/batch/commit", body)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["retry"] is False
    assert "Traceback" not in answer.body.decode()


async def test_a_page_whose_hash_is_not_its_content_s_is_refused(door: Door) -> None:
    key, version = await a_page(door)
    head, _ = part(key, version, {2: b"x"})
    lie = [{"page_index": 2, "hash": digest(b"another"), "data": b"x"}]
    assert (await door.ask("POST", "/batch/commit", commit((head, lie)))).status in (400, 410)


@pytest.mark.parametrize("path", ["/batch/read", "/batch/write", "/stat"])
async def test_an_unknown_namespace_is_not_found_unless_use_makes_it(door: Door, path: str) -> None:
    method = "GET" if path == "/stat" else "POST"
    body = {"/batch/read": framed(read(1, NOWHERE)), "/batch/write": framed(b""), "/stat": b""}[path]
    answer = await door.ask(method, path, body, named("nobody:" + "0" * 64))
    assert answer.status == 404
    answer = await door.ask(method, path, body, named(f"unmade-{os.urandom(4).hex()}"))
    assert answer.status == (404 if door.name.startswith("store") else 200)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 5_000])
async def test_a_lock_asked_for_in_other_than_an_object_is_refused(door: Door, body: bytes) -> None:
    key = await door.namespace()
    assert (await door.ask("POST", "/nslock/acquire", body, named(key))).status == 400
    assert (await door.ask("POST", "/nslock/release", body, named(key))).status == 400


@pytest.mark.parametrize("version", ["12", "x" * 20, "0" * 21])
async def test_a_version_elsewhere_must_have_its_shape_too(door: Door, version: str) -> None:
    key = await door.namespace()
    assert (await door.ask("GET", "/stat", headers=named(key), from_version=version)).status == 400


async def test_a_read_below_the_truncation_mark_ends_the_body_early(door: Door) -> None:
    if door.name.startswith("before"):
        pytest.skip("a page at a version never changes: a cache that has it need not ask for the mark")
    key, first = await a_page(door)
    answer = await door.ask("POST", "/batch/commit", commit(part(key, first, {1: page(2)})))
    second = answer.headers["x-committed-version"]
    done = await door.admin("truncate_namespace", key=key, before_version=second, apply=True)
    assert done.text.splitlines()[-1] == "DONE"
    body = framed(read(1, second), read(1, first), read(1, second))
    frames = (await door.ask("POST", "/batch/read", body, named(key))).frames()
    assert [one["data"] for one in frames] == [page(2)]


async def test_a_read_below_the_truncation_mark_is_gone_where_no_page_went_before_it(door: Door) -> None:
    if door.name.startswith("standin"):
        pytest.skip("mvstore ends the body early")
    key, first = await a_page(door)
    answer = await door.ask("POST", "/batch/commit", commit(part(key, first, {1: page(2)})))
    second = answer.headers["x-committed-version"]
    done = await door.admin("truncate_namespace", key=key, before_version=second, apply=True)
    assert done.text.splitlines()[-1] == "DONE"
    if door.standin is not None:
        await door.standin.advance(2.0)
    for body in (framed(read(9, first)), framed(read(9, first), read(1, second))):
        answer = await door.ask("POST", "/batch/read", body, named(key))
        assert answer.status == 410
        assert "truncation mark" in answer.json()["detail"]


# --- clients that stop in the middle, and frames that come one at a time -----------------------


def head_of(path: str, key: str, more: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: localhost\r\nx-namespace-key: {key}\r\n{more}\r\n\r\n".encode()


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def test_a_client_that_leaves_inside_a_body_costs_nobody_anything(door: Door) -> None:
    if door.plain_port is None:
        pytest.skip("no clear-text listener to break off at")
    key, version = await a_page(door)
    for path in ("/batch/read", "/batch/write", "/batch/commit", "/nslock/acquire"):
        _, writer = await asyncio.open_connection("127.0.0.1", door.plain_port)
        writer.write(head_of(path, key, "content-length: 1000") + framed(read(1, version))[:20])
        await writer.drain()
        writer.transport.abort()
    answer = await door.ask("POST", "/batch/read", framed(read(1, version)), named(key))
    assert len(answer.frames()) == 1


@pytest.mark.parametrize("sent", ["transfer-encoding: chunked", "content-length: 100000"])
async def test_a_frame_is_served_when_it_is_there(door: Door, sent: str) -> None:
    if door.plain_port is None:
        pytest.skip("no clear-text listener to trickle into")
    key, version = await a_page(door)
    reader, writer = await asyncio.open_connection("127.0.0.1", door.plain_port)
    writer.write(head_of("/batch/read", key, sent))
    for _ in range(3):
        one = framed(read(1, version))
        writer.write(chunk(one) if "chunked" in sent else one)
        async with asyncio.timeout(HANG_S):
            await reader.readuntil(page(1))
    writer.transport.abort()


async def test_what_follows_the_200th_read_is_not_waited_for(door: Door) -> None:
    if door.plain_port is None:
        pytest.skip("no clear-text listener to keep open")
    key, version = await a_page(door)
    reader, writer = await asyncio.open_connection("127.0.0.1", door.plain_port)
    writer.write(head_of("/batch/read", key, "transfer-encoding: chunked"))
    writer.write(chunk(framed(*[read(9, version)] * 201)))
    async with asyncio.timeout(HANG_S):
        await reader.readuntil(b"\r\n0\r\n\r\n")
    writer.transport.abort()


async def test_a_refusal_reaches_a_client_that_is_still_sending(door: Door) -> None:
    key, version = await a_page(door)
    init, pages = part(key, version, {n: page(n, 30_000) for n in range(101)})
    answer = await door.ask("POST", "/batch/commit", commit((init, pages)))
    assert answer.status == 413


async def test_unknown_fields_are_ignored_everywhere(door: Door) -> None:
    key, version = await a_page(door)
    init, pages = part(key, version, {3: page(3)}, tomorrow={"x": [1]})
    pages = [{**one, "tomorrow": None} for one in pages]
    answer = await door.ask("POST", "/batch/commit", commit((init, pages), tomorrow=1))
    assert answer.status == 200
    assert msgpack.unpackb(answer.body) == {"changelog": {key: []}}
