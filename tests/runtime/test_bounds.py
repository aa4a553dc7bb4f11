"""Every bound that an operator meets: at it all is well, one over is refused by the name of its setting, and counted."""

from __future__ import annotations

import ast
import asyncio
import base64
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from gateway import limits
from gateway.config import SETTINGS
from gateway.errors import Overloaded
from gateway.runtime.gateway import Gateway
from gateway.wire import Control, decode_message
from tests.abuse.attackers import dial
from tests.patience import HANG_S
from tests.runtime.conftest import StartGateway, body, client_of, frame

ROOT = Path(__file__).parents[2]
Work = Callable[[Gateway, AsyncExitStack, int], Awaitable[str]]
"""Does the n-th thing that a bound is on; what a refusal said, "" where it was let in."""


async def first_words(gateway: Gateway, stack: AsyncExitStack, path: str) -> str:
    assert gateway.plain_server is not None
    url = f"ws://127.0.0.1:{gateway.plain_server.port}{path}"
    try:
        socket = await stack.enter_async_context(websockets.connect(url))
    except websockets.InvalidStatus as refused:
        return refused.response.body.decode()
    message = await asyncio.wait_for(socket.recv(), HANG_S)
    assert isinstance(message, bytes)
    told = decode_message(message)
    assert isinstance(told, Control)
    return "" if told.type == "welcome" else str(told["message"])


async def answered(gateway: Gateway, method: str, path: str, **more: Any) -> str:
    async with client_of(gateway) as client:
        answer = await client.request(method, path, **more)
    return answer.text if answer.status_code >= 400 else ""


async def publish_another(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    return await first_words(gateway, stack, f"/v1/worlds/w{n}/live?role=publish")


async def read(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    await answered(gateway, "PUT", "/v1/worlds/w")
    return await first_words(gateway, stack, "/v1/worlds/w/live")


async def replay(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    await answered(gateway, "PUT", "/v1/worlds/w")
    return await first_words(gateway, stack, "/v1/worlds/w/replay")


async def make(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    return await answered(gateway, "PUT", f"/v1/worlds/w{n}")


async def mark(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    if not n:
        await answered(gateway, "POST", "/v1/worlds/w/frames?durable=1", content=body(frame(1, {1: b"x"})))
    return await answered(gateway, "POST", "/v1/worlds/w/marks", json={"name": f"m{n}"})


async def ask(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    told = ""
    async with client_of(gateway) as client:
        for _ in range(1 if n < 10 else 40):  # what comes back meanwhile is one a second
            answer = await client.get("/healthz")
            told = told or (answer.text if answer.status_code == 429 else "")
    return told


async def put_entity(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    if n:  # to replace what is there is no more of it
        assert await answered(gateway, "PUT", "/v1/inventories/ann/items/e0", content=b"y") == ""
    return await answered(gateway, "PUT", f"/v1/inventories/ann/items/e{n}", content=b"x")


async def put_record(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    return await answered(
        gateway, "POST", "/v1/worlds/w/frames", content=body(frame(n + 1, {n: os.urandom(500)}))
    )


async def put_bytes(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    return await answered(
        gateway, "POST", "/v1/worlds/w/frames", content=body(frame(n + 1, {n: bytes(1_088)}))
    )


async def send_message(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    size = 2_000 + n - len(frame(1, {1: b""}))
    return await answered(
        gateway, "POST", "/v1/worlds/w/frames", content=body(frame(n + 1, {1: bytes(size)}))
    )


async def branch(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    if not n:
        await answered(gateway, "POST", "/v1/worlds/w/frames?durable=1", content=body(frame(1, {1: b"x"})))
    return await answered(gateway, "POST", "/v1/worlds/w/branch", json={"name": f"b{n}"})


async def watch(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    await answered(gateway, "PUT", "/v1/worlds/w")
    return await first_words(gateway, stack, "/v1/worlds/w/entities/live")


async def put_json(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    """1,024 bytes, and then one more."""
    text = '{"retention": "ring"' + " " * (1_024 + n - 21) + "}"
    return await answered(gateway, "PUT", "/v1/worlds/w", content=text)


async def put_state(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    told = await answered(gateway, "PUT", f"{ITEMS}/e", content=bytes(500 + n))
    if n:  # in a batch as well, and in a body that does not say its length
        state = base64.b64encode(bytes(500 + n)).decode()
        told_too = [
            await batch_of(gateway, [{"op": "put", "id": "e", "kind": "bytes", "state_base64": state}]),
            await answered(gateway, "PUT", f"{ITEMS}/e", content=in_pieces(bytes(500 + n))),
        ]
        assert all("--entity-bytes-max" in text for text in told_too)
        assert gateway.refusals.counts["entity_bytes_max"] == 3
    return told


ITEMS = "/v1/inventories/ann/items"


async def in_pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data[:100]
    yield data[100:]


async def batch_of(gateway: Gateway, operations: list[dict[str, Any]], size: int = 0) -> str:
    text = json.dumps({"operations": operations})
    return await answered(gateway, "POST", f"{ITEMS}:batch", content=text + " " * (size - len(text)))


async def batch_operations(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    return await batch_of(gateway, [{"op": "get", "id": f"e{k}"} for k in range(3 + n)])


async def batch_bytes(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    return await batch_of(gateway, [{"op": "get", "id": "e"}], 2_000 + n)


async def unfinished(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    """A body that is not whole: 16 KiB is a small one, which finds room in twice the bound."""
    assert gateway.plain_server is not None
    pair = reader, writer = await dial(gateway.plain_server.port)
    stack.callback(lambda: pair[1].transport.abort())
    size = 65_536
    writer.write(
        b"POST /v1/worlds/w/frames HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
        + (99_000).to_bytes(4, "little")
        + bytes(size - 4)
    )
    held = gateway.app.unfinished
    async with asyncio.timeout(HANG_S):
        while held.held < (n + 1) * size and not held.refused:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return (await reader.read(4_096)).decode() if held.refused else ""


async def verify(gateway: Gateway, stack: AsyncExitStack, n: int) -> str:
    """A turn is waited for, and another address has it."""
    if n:
        await stack.enter_async_context(gateway.works.turn("198.51.100.7"))
    await answered(gateway, "POST", "/v1/worlds/w/frames?durable=1", content=body(frame(1, {1: b"x"})))
    return await answered(gateway, "GET", "/v1/worlds/w/verify")


BOUNDS: list[tuple[str, dict[str, int], int, Work]] = [
    ("worlds_max", {"worlds_max": 2}, 2, publish_another),
    ("worlds_per_address_max", {"worlds_per_address_max": 2}, 2, publish_another),
    ("worlds_made_per_address_per_min", {"worlds_made_per_address_per_min": 3}, 3, make),
    ("readers_per_world_max", {"readers_per_world_max": 3}, 3, read),
    ("replays_max", {"replays_max": 4}, 1, replay),
    ("marks_per_world_max", {"marks_per_world_max": 2}, 2, mark),
    ("entities_per_world_max", {"entities_per_world_max": 3}, 3, put_entity),
    ("requests_per_address_per_s", {"requests_per_address_per_s": 1}, 10, ask),
    ("records_per_world_max", {"records_per_world_max": 4}, 4, put_record),
    ("world_bytes_max", {"world_bytes_max": 3_300}, 3, put_bytes),
    ("max_message_bytes", {"max_message_bytes": 2_000}, 1, send_message),
    ("branches_per_world_max", {"branches_per_world_max": 2}, 2, branch),
    ("watchers_per_world_max", {"watchers_per_world_max": 2}, 2, watch),
    ("json_body_bytes_max", {"json_body_bytes_max": 1_024}, 1, put_json),
    ("entity_bytes_max", {"entity_bytes_max": 500}, 1, put_state),
    ("batch_operations_max", {"batch_operations_max": 3}, 1, batch_operations),
    ("batch_bytes_max", {"batch_bytes_max": 2_000}, 1, batch_bytes),
    ("unfinished_bytes_max", {"unfinished_bytes_max": 131_072, "max_message_bytes": 99_000}, 2, unfinished),
    ("works_at_once_max", {"works_at_once_max": 1}, 1, verify),
]


@pytest.mark.parametrize(("bound", "settings", "at", "work"), BOUNDS, ids=[row[0] for row in BOUNDS])
async def test_at_the_bound_all_is_well_and_one_over_is_refused_by_name(
    start_gateway: StartGateway,
    monkeypatch: pytest.MonkeyPatch,
    bound: str,
    settings: dict[str, int],
    at: int,
    work: Work,
) -> None:
    monkeypatch.setattr(limits, "ANSWERS_PATIENCE_S", 0.2)
    gateway = await start_gateway(**settings)
    async with AsyncExitStack() as stack:
        for n in range(at):
            assert await work(gateway, stack, n) == "", f"{n + 1} of {at}"
        refusal = await work(gateway, stack, at)
        assert "--" + bound.replace("_", "-") in refusal
        assert gateway.refusals.counts[bound] >= 1
        async with client_of(gateway) as client:
            told = (await client.get("/metrics")).text
        assert bound == "requests_per_address_per_s" or f'mvgateway_refusals_total{{bound="{bound}"}}' in told


async def test_what_was_left_is_there_again(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(worlds_per_address_max=1, readers_per_world_max=1, replays_max=4)
    for _ in range(3):
        async with AsyncExitStack() as stack:
            assert await publish_another(gateway, stack, 0) == ""
            assert await first_words(gateway, stack, "/v1/worlds/w0/live") == ""
            assert await first_words(gateway, stack, "/v1/worlds/w0/replay") == ""
        async with asyncio.timeout(HANG_S):
            while gateway.worlds.sessions or gateway.recordings._replays:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert not gateway.worlds.shares.addresses


async def test_a_branch_that_was_deleted_leaves_its_place(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(branches_per_world_max=1)
    async with AsyncExitStack() as stack:
        assert await branch(gateway, stack, 0) == ""
        assert "--branches-per-world-max" in await branch(gateway, stack, 1)
        of_the_branch = await answered(gateway, "POST", "/v1/worlds/b0/branch", json={"name": "c"})
        assert of_the_branch == "", "it is another world, with a bound of its own"
        assert await answered(gateway, "DELETE", "/v1/worlds/c") == ""
        assert await answered(gateway, "DELETE", "/v1/worlds/b0") == ""
        assert await branch(gateway, stack, 1) == ""


async def test_branches_count_among_the_worlds_that_an_address_makes(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(worlds_made_per_address_per_min=2)
    async with AsyncExitStack() as stack:
        assert await branch(gateway, stack, 0) == ""
        assert "--worlds-made-per-address-per-min" in await branch(gateway, stack, 1)


async def test_a_mark_is_moved_where_there_are_as_many_as_there_may_be(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(marks_per_world_max=1)
    async with AsyncExitStack() as stack:
        assert await mark(gateway, stack, 0) == ""
        assert await answered(gateway, "POST", "/v1/worlds/w/marks", json={"name": "m0", "tick": 1}) == ""
        assert "--marks-per-world-max" in await mark(gateway, stack, 1)


async def test_the_data_of_all_marks_of_a_world_is_bounded_and_a_mark_may_be_moved(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MARKS_BYTES_MAX", 3_000)
    gateway = await start_gateway()
    path = "/v1/worlds/w/marks"
    assert await answered(gateway, "PUT", "/v1/worlds/w") == ""
    assert await answered(gateway, "POST", path, json={"name": "a", "data": "x" * 2_000}) == ""
    refusal = await answered(gateway, "POST", path, json={"name": "b", "data": "x" * 2_000})
    assert "the bound is 3000" in refusal
    assert "would be 4004 bytes" in refusal
    assert await answered(gateway, "POST", path, json={"name": "a", "data": "y" * 2_900}) == "", (
        "in its own place"
    )
    assert await answered(gateway, "POST", path, json={"name": "b"}) == "", "one without data finds room"


async def test_hibernating_keeps_to_the_bounds_of_entities(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(entities_per_world_max=1, entity_bytes_max=500)
    frames = body(frame(1, {1: bytes(500), 2: b"x", 3: bytes(501)}))
    assert await answered(gateway, "POST", "/v1/worlds/w/frames?durable=1", content=frames) == ""
    path = "/v1/worlds/w/entities"
    assert "--entity-bytes-max" in await answered(gateway, "POST", f"{path}/c:hibernate", json={"key": 3})
    assert await answered(gateway, "POST", f"{path}/a:hibernate", json={"key": 1}) == ""
    assert "--entities-per-world-max" in await answered(
        gateway, "POST", f"{path}/b:hibernate", json={"key": 2}
    )


async def test_a_message_over_its_bound_is_counted_at_the_doors_of_sessions_too(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway(max_message_bytes=2_000)
    assert gateway.plain_server is not None
    url = f"ws://127.0.0.1:{gateway.plain_server.port}/v1/worlds/w/live?role=publish"
    async with websockets.connect(url) as publisher:
        await publisher.recv()
        await publisher.send(bytes(2_001))
        await asyncio.wait_for(publisher.wait_closed(), HANG_S)
    assert publisher.close_code == 1009
    assert "--max-message-bytes" in str(publisher.close_reason)
    async with client_of(gateway) as client:
        assert 'bound="max_message_bytes"} 1' in (await client.get("/metrics")).text


async def test_worlds_held_by_one_address_leave_room_for_another(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(worlds_max=4, worlds_per_address_max=2, host="127.0.0.1")
    assert gateway.plain_server is not None
    async with AsyncExitStack() as stack:
        for n in range(6):
            await publish_another(gateway, stack, n)
        transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
        async with httpx.AsyncClient(transport=transport) as other:
            url = f"http://127.0.0.1:{gateway.plain_server.port}/v1/worlds/theirs/frames"
            assert (await other.post(url, content=body(frame(1, {1: b"x"})))).status_code == 202


def test_every_bound_has_a_range_and_a_test() -> None:
    at_the_bound = "test_at_the_bound_connects_and_one_over_is_refused_by_name_until_one_leaves"
    so_many = "test_as_many_datagrams_as_a_readers_queue_holds_go_in_a_row_and_the_bound_can_be_set"
    delays = "test_the_number_of_delays_is_bounded_and_the_refusal_names_the_bound"
    elsewhere = {
        "quic_connections_max": ("tests/quic/test_admission.py", at_the_bound),
        "connections_per_address_max": ("tests/quic/test_admission.py", at_the_bound),
        "handshakes_per_address_per_s": (
            "tests/quic/test_admission.py",
            "test_one_address_opens_so_many_connections_a_second_and_no_more",
        ),
        "tcp_connections_max": ("tests/abuse/test_tcp.py", "test_one_address_cannot_hold_all_connections"),
        "reader_datagrams_max": ("tests/core/test_reader.py", so_many),
        "delayed_feeds_max": ("tests/runtime/test_delayed.py", delays),
        "delayed_feeds_per_world_max": ("tests/runtime/test_delayed.py", delays),
    }
    bounds = {s.name for s in SETTINGS if s.name.endswith(("_max", "_per_s", "_per_min")) or "max_" in s.name}
    assert bounds == {row[0] for row in BOUNDS} | set(elsewhere)
    for bound, (path, test) in elsewhere.items():
        words = of_test(path, test)
        assert {bound, bound.removeprefix("reader_"), "--" + bound.replace("_", "-")} & words, (
            f"{test}: {bound}"
        )
    assert all(s.metadata["low"] and s.metadata["high"] for s in SETTINGS if s.name in bounds)


def of_test(path: str, name: str) -> set[str]:
    """Every word of a test, its parameters' among them."""
    tree = ast.parse((ROOT / path).read_text())
    test = next(node for node in tree.body if getattr(node, "name", "") == name)
    return set(re.findall(r"[-\w]+", ast.unparse(test)))


async def test_so_many_publishers_register_by_udp_and_one_more_is_refused(
    start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UDP_TOKENS_MAX", 2)
    gateway = await start_gateway(udp="127.0.0.1:0")
    for world in ("a", "b"):
        assert (await gateway.worlds.udp_token(world)).token
    with pytest.raises(Overloaded, match="2 publishers are registered by UDP"):
        await gateway.worlds.udp_token("c")
