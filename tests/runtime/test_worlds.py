"""Worlds over HTTP: made, published to, asked, recovered; and every bad input's answer."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import websockets

from gateway.runtime.gateway import Gateway
from gateway.wire import Control, Frame, MessageStream, decode_control, decode_frame, decode_message
from tests.runtime.conftest import FRAMES, StartGateway, body, client_of, frame, until
from tests.store.standin.fixtures import EACH_STORE

OVER = EACH_STORE


async def publish(
    client: httpx.AsyncClient, world: str, *messages: bytes, durable: bool = True
) -> httpx.Response:
    return await client.post(
        f"/v1/worlds/{world}/frames", content=body(*messages), params={"durable": int(durable)}
    )


def messages_of(data: bytes) -> list[bytes]:
    stream = MessageStream()
    stream.feed(data)
    found = list(stream)
    stream.finish()
    return found


def records_of(data: bytes) -> dict[int, bytes | None]:
    return {
        record.key: record.data for message in messages_of(data) for record in decode_frame(message).records
    }


async def test_a_world_is_made_once_and_told_of(client: httpx.AsyncClient) -> None:
    made = await client.put("/v1/worlds/zone-1", json={"stride": 100})
    again = await client.put("/v1/worlds/zone-1")
    assert (made.status_code, again.status_code) == (201, 200)
    info = (await client.get("/v1/worlds/zone-1")).json()
    assert (info["world"], info["stride"], info["readers"], info["publisher"]) == ("zone-1", 100, 0, None)
    assert (info["retention"], info["ring_s"]) == ("ring", 60)
    listed = (await client.get("/v1/worlds")).json()["worlds"]
    assert [(w["world"], w["open"]) for w in listed] == [("zone-1", True)]


async def test_a_post_is_taken_without_waiting_and_with_waiting(client: httpx.AsyncClient) -> None:
    taken = await publish(client, "w", frame(1, {1: b"a"}), durable=False)
    down = await publish(client, "w", frame(2, {2: b"b"}))
    assert (taken.status_code, down.status_code) == (202, 200)
    assert down.json() == {"epoch": 1, "tick": 2, "frames": 1, "durable": {"epoch": 1, "tick": 2}}


async def test_the_last_synced_state_comes_as_a_keyframe_and_as_json(client: httpx.AsyncClient) -> None:
    await publish(
        client, "w", frame(1, {1: b"one", 2: b"two"}, keyframe=True), frame(2, {1: None, 3: b"three"})
    )
    answer = await client.get("/v1/worlds/w/frames/last")
    assert answer.headers["content-type"] == FRAMES
    assert (answer.headers["x-epoch"], answer.headers["x-tick"]) == ("1", "2")
    assert int(answer.headers["x-durable-at"]) > 1_600_000_000_000_000
    assert records_of(answer.content) == {2: b"two", 3: b"three"}
    assert all(decode_frame(message).keyframe for message in messages_of(answer.content))
    as_json = (await client.get("/v1/worlds/w/frames/last", headers={"accept": "application/json"})).json()
    assert (as_json["epoch"], as_json["tick"]) == (1, 2)
    assert as_json["records"] == {
        "2": base64.b64encode(b"two").decode(),
        "3": base64.b64encode(b"three").decode(),
    }


async def test_a_world_survives_a_restart_with_its_state_and_a_higher_epoch(
    start_gateway: StartGateway,
) -> None:
    first = await start_gateway()
    async with client_of(first) as client:
        await publish(client, "w", frame(1, {1: b"one"}), frame(2, {2: b"two"}))
    await first.drain(1.0)
    second = await start_gateway()
    async with client_of(second) as client:
        listed = (await client.get("/v1/worlds")).json()["worlds"]
        assert [w["world"] for w in listed] == ["w"]
        assert records_of((await client.get("/v1/worlds/w/frames/last")).content) == {1: b"one", 2: b"two"}
        after = await publish(client, "w", frame(1, {1: b"new"}))
        assert after.json()["epoch"] == 2


async def test_a_subscriber_after_a_restart_gets_the_last_synced_state(start_gateway: StartGateway) -> None:
    first = await start_gateway()
    async with client_of(first) as client:
        await publish(client, "w", frame(5, {1: b"one"}))
    await first.drain(1.0)
    second = await start_gateway()
    assert second.plain_server is not None
    async with websockets.connect(f"ws://127.0.0.1:{second.plain_server.port}/v1/worlds/w/live") as reader:
        welcome, resync, keyframe = [await receive(reader) for _ in range(3)]
    assert isinstance(welcome, Control)
    assert (welcome.type, welcome["epoch"], welcome["tick"]) == ("welcome", 1, 5)
    assert welcome["durable"] == {"epoch": 1, "tick": 5}
    assert isinstance(resync, Control)
    assert (resync.type, resync["reason"]) == ("resync", "joined")
    assert isinstance(keyframe, Frame)
    assert [record.data for record in keyframe.records] == [b"one"]


async def receive(socket: websockets.ClientConnection) -> Frame | Control:
    data = await socket.recv()
    assert isinstance(data, bytes)
    return decode_message(data)


async def test_frames_go_from_one_websocket_to_another(gateway: Gateway) -> None:
    assert gateway.plain_server is not None
    url = f"ws://127.0.0.1:{gateway.plain_server.port}/v1/worlds/w/live"
    async with websockets.connect(f"{url}?role=publish") as publisher:
        welcome = await receive(publisher)
        assert isinstance(welcome, Control)
        assert (welcome["role"], welcome["epoch"]) == ("publish", 1)
        async with websockets.connect(url) as reader:
            assert isinstance(await receive(reader), Control)
            await publisher.send(frame(1, {7: b"seven"}))
            got = await receive(reader)
            while not isinstance(got, Frame):
                got = await receive(reader)
            assert (got.epoch, got.tick, got.records[0].data) == (1, 1, b"seven")
        durable = await receive(publisher)
        assert isinstance(durable, Control)
        assert (durable.type, durable["tick"]) == ("durable", 1)


async def test_a_streamed_get_follows_a_world(client: httpx.AsyncClient) -> None:
    await publish(client, "w", frame(1, {1: b"one"}))
    async with client.stream("GET", "/v1/worlds/w/live") as answer:
        stream, found = MessageStream(), []
        async for piece in answer.aiter_bytes():
            stream.feed(piece)
            found += [decode_message(message) for message in stream]
            if any(isinstance(message, Frame) for message in found):
                break
    assert [m.type for m in found if isinstance(m, Control)] == ["welcome", "resync"]


async def test_an_event_stream_follows_a_world(client: httpx.AsyncClient) -> None:
    await publish(client, "w", frame(1, {1: b"one"}))
    async with client.stream("GET", "/v1/worlds/w/live", headers={"accept": "text/event-stream"}) as answer:
        events = []
        async for line in answer.aiter_lines():
            events += [line.removeprefix("event: ")] if line.startswith("event:") else []
            if line.startswith("data:") and events[-1] == "frame":
                frame_event = json.loads(line.removeprefix("data: "))
                break
    assert events == ["welcome", "resync", "frame"]
    assert frame_event["records"] == {"1": base64.b64encode(b"one").decode()}


async def test_history_gives_frames_in_order_and_states_of_the_past(client: httpx.AsyncClient) -> None:
    await publish(client, "w", *(frame(tick, {1: b"%d" % tick}) for tick in range(1, 11)))
    history = await client.get("/v1/worlds/w/frames", params={"epoch": 1, "from": 3, "to": 5})
    found = [decode_message(m) for m in messages_of(history.content)]
    assert [m.tick for m in found if isinstance(m, Frame) and not m.keyframe] == [3, 4, 5]
    then = await client.get("/v1/worlds/w/frames", params={"tick": 4})
    assert (then.headers["x-tick"], records_of(then.content)) == ("4", {1: b"4"})
    now = await client.get("/v1/worlds/w/frames", params={"at": "0s-ago"})
    assert records_of(now.content) == {1: b"10"}


@pytest.mark.parametrize("ticks", [(1, 5), (1, 2, 6)], ids=["the only two", "after others"])
async def test_a_hole_in_the_ticks_is_told_as_a_gap(
    client: httpx.AsyncClient, ticks: tuple[int, ...]
) -> None:
    await publish(client, "w", *(frame(tick, {1: b"%d" % tick}) for tick in ticks), durable=False)

    async def told() -> bool:
        history = await client.get("/v1/worlds/w/frames")
        controls = [m for m in map(decode_message, messages_of(history.content)) if isinstance(m, Control)]
        return [(c.type, c["from"], c["to"]) for c in controls] == [("gap", ticks[-2] + 1, ticks[-1] - 1)]

    await until(told)


async def test_retention_can_be_changed(client: httpx.AsyncClient) -> None:
    await client.put("/v1/worlds/w", json={"retention": "record"})
    changed = await client.patch("/v1/worlds/w", json={"retention": "ring", "ring_s": 5})
    assert (changed.json()["retention"], changed.json()["ring_s"]) == ("ring", 5)


async def test_a_deleted_world_is_gone_and_its_readers_hear_of_it(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    await publish(client, "w", frame(1, {1: b"1"}))
    assert gateway.plain_server is not None
    async with websockets.connect(f"ws://127.0.0.1:{gateway.plain_server.port}/v1/worlds/w/live") as reader:
        assert (await client.delete("/v1/worlds/w")).status_code == 200
        told = []
        with pytest.raises(websockets.ConnectionClosed) as closed:  # noqa: PT012
            while True:
                told.append(await receive(reader))
    assert isinstance(told[-1], Control)
    assert told[-1].type == "bye"
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4_002
    assert (await client.get("/v1/worlds/w")).status_code == 404


async def test_plain_udp_publishes_with_a_token(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(udp="127.0.0.1:0")
    async with client_of(gateway) as client:
        answer = await client.post("/v1/worlds/w/udp")
        assert answer.status_code == 201
        told = answer.json()
        token = bytes.fromhex(told["token"])
        assert len(token) == 8
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            for packet in (
                b"x",
                b"unknown!" + frame(1, {1: b"no"}),
                token,
                token + b"\x01",
                token + frame(1, {1: b"yes"}),
            ):
                udp.sendto(packet, (told["host"], told["port"]))

        async def arrived() -> bool:
            last = await client.get("/v1/worlds/w/frames/last")
            return last.status_code == 200 and records_of(last.content) == {1: b"yes"}

        await until(arrived)
        door = gateway.worlds.udp
        assert door is not None
        assert (door.packets_taken, door.packets_refused, door.packets_unknown) == (1, 2, 2)
        assert (await client.post("/v1/worlds/w/udp")).status_code == 409


async def test_the_udp_door_that_is_closed_says_which_flag_opens_it(client: httpx.AsyncClient) -> None:
    refused = await client.post("/v1/worlds/w/udp")
    assert refused.status_code == 404
    assert "--udp" in refused.json()["detail"]


BAD: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("GET", "/v1/worlds/nobody", {}, 404, "unknown_world"),
    ("GET", "/v1/worlds/nobody/live", {}, 404, "unknown_world"),
    ("GET", "/v1/worlds/nobody/frames/last", {}, 404, "unknown_world"),
    ("GET", "/v1/worlds/empty/frames/last", {}, 404, "nothing_recorded"),
    ("GET", "/v1/worlds/empty/frames?tick=5", {}, 404, "nothing_recorded"),
    ("GET", "/v1/worlds/-bad-", {}, 400, "bad_name"),
    ("PUT", "/v1/worlds/" + "a" * 64, {}, 400, "bad_name"),
    ("POST", "/v1/worlds/w", {}, 405, "method_not_allowed"),
    ("PUT", "/v1/worlds/w/frames", {}, 405, "method_not_allowed"),
    ("GET", "/v1/nothing", {}, 404, "not_found"),
    ("PUT", "/v1/worlds/w", {"content": b"{"}, 400, "bad_input"),
    ("PUT", "/v1/worlds/w", {"content": b"[]"}, 400, "bad_input"),
    ("PUT", "/v1/worlds/w", {"json": {"strid": 4}}, 422, "unprocessable"),
    ("PUT", "/v1/worlds/w", {"json": {"stride": 70_000}}, 422, "unprocessable"),
    ("PUT", "/v1/worlds/w", {"json": {"stride": 3}}, 422, "unprocessable"),
    ("PUT", "/v1/worlds/w", {"json": {"stride": True}}, 422, "unprocessable"),
    ("PUT", "/v1/worlds/w", {"json": {"retention": "forever"}}, 422, "unprocessable"),
    ("PUT", "/v1/worlds/empty", {"json": {"stride": 100}}, 422, "unprocessable"),
    ("PUT", "/v1/worlds/w", {"content": b"x" * 100_000}, 413, "too_large"),
    ("PUT", "/v1/worlds/w", {"content": b"x", "headers": {"content-type": "text/plain"}}, 415, "unsupported"),
    ("PATCH", "/v1/worlds/empty", {"json": {}}, 400, "bad_input"),
    ("PATCH", "/v1/worlds/empty", {"json": {"stride": 8}}, 422, "unprocessable"),
    ("POST", "/v1/worlds/w/frames", {"content": b"\x01\x00\x00"}, 400, "malformed"),
    ("POST", "/v1/worlds/w/frames", {"content": body(b"\x01")}, 400, "malformed"),
    ("POST", "/v1/worlds/w/frames", {"content": body(b"\x63" * 40)}, 400, "malformed"),
    ("POST", "/v1/worlds/w/frames", {"content": body(frame(1, {1: b"abc"})[:-1])}, 400, "malformed"),
    ("POST", "/v1/worlds/w/frames", {"content": (1 << 31).to_bytes(4, "little")}, 413, "too_large"),
    (
        "POST",
        "/v1/worlds/w/frames",
        {"content": b"x", "headers": {"content-type": "image/png"}},
        415,
        "unsupported",
    ),
    ("POST", "/v1/worlds/w/frames?durable=yes", {}, 400, "bad_input"),
    ("GET", "/v1/worlds/empty/frames?form=1", {}, 400, "bad_input"),
    ("GET", "/v1/worlds/empty/frames?from=-1", {}, 400, "bad_input"),
    ("GET", "/v1/worlds/empty/frames?at=yesterday", {}, 400, "bad_input"),
    ("GET", "/v1/worlds/empty/live?rol=publish", {}, 400, "bad_input"),
    ("DELETE", "/v1/worlds/nobody", {}, 404, "unknown_world"),
]


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "code"), BAD, ids=[f"{b[0]} {b[1]} {b[4]}"[:60] for b in BAD]
)
async def test_bad_input_gets_a_problem_document_and_costs_nobody_else(
    client: httpx.AsyncClient, method: str, path: str, more: dict[str, Any], status: int, code: str
) -> None:
    await client.put("/v1/worlds/empty")
    answer = await client.request(method, path, **more)
    document = answer.json()
    assert (answer.status_code, document["code"], document["status"]) == (status, code, status), document
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(document["detail"]) > 10
    assert (await client.get("/v1/worlds/empty")).status_code == 200
    counted = (await client.get("/metrics")).text
    assert f'mvgateway_http_answers_total{{status="{status}"}}' in counted


async def test_a_second_publisher_is_refused_unless_it_takes_over(gateway: Gateway) -> None:
    assert gateway.plain_server is not None
    url = f"ws://127.0.0.1:{gateway.plain_server.port}/v1/worlds/w/live?role=publish"
    async with websockets.connect(url) as first:
        await receive(first)
        async with websockets.connect(url) as second:
            refused = await receive(second)
            assert isinstance(refused, Control)
            assert (refused.type, refused["code"]) == ("error", "publisher_present")
        async with websockets.connect(f"{url}&takeover=1") as third:
            welcome = await receive(third)
            assert isinstance(welcome, Control)
            assert welcome["epoch"] == 2
            farewell = await receive(first)
            assert isinstance(farewell, Control)
            assert farewell.type == "bye"


async def test_a_malformed_message_ends_that_session_only(gateway: Gateway) -> None:
    assert gateway.plain_server is not None
    url = f"ws://127.0.0.1:{gateway.plain_server.port}/v1/worlds/w/live"
    async with websockets.connect(f"{url}?role=publish") as publisher, websockets.connect(url) as reader:
        await receive(publisher)
        await receive(reader)
        await publisher.send(b"\x01")
        data = await publisher.recv()
        assert isinstance(data, bytes)
        assert decode_control(data)["code"] == "malformed"
        with pytest.raises(websockets.ConnectionClosed):
            await publisher.recv()
        assert await (await reader.ping()) >= 0


async def test_a_stride_that_is_not_the_worlds_is_refused(client: httpx.AsyncClient) -> None:
    from gateway.wire import Record, encode_frame

    await client.put("/v1/worlds/w", json={"stride": 8})
    wrong = encode_frame(Frame(0, 1, [Record(1, (1).to_bytes(4, "little") + b"x" * 12)], stride=16))
    refused = await publish(client, "w", wrong)
    assert (refused.status_code, refused.json()["code"]) == (400, "malformed")


async def test_too_many_worlds_in_use_are_refused_and_quiet_ones_give_way(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway(worlds_max=2)
    assert gateway.plain_server is not None
    async with client_of(gateway) as client:
        for name in ("a", "b", "c"):
            assert (await client.put(f"/v1/worlds/{name}")).status_code == 201
        base = f"ws://127.0.0.1:{gateway.plain_server.port}/v1/worlds"
        async with websockets.connect(f"{base}/a/live"), websockets.connect(f"{base}/b/live"):
            hosts = gateway.worlds.hosts
            await until(lambda: {name for name, host in hosts.items() if not host.is_quiet} == {"a", "b"})
            refused = await client.get("/v1/worlds/c")
            assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
            assert "--worlds-max" in refused.json()["detail"]


async def test_a_post_that_goes_on_for_long_is_one_publisher_until_it_is_taken_over(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway(linger_ms=0)
    assert gateway.plain_server is not None
    more = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield body(frame(1, {1: b"one"}))
        await more.wait()
        yield body(frame(2, {1: b"two"}))

    async with client_of(gateway) as client:
        posting = asyncio.ensure_future(client.post("/v1/worlds/w/frames", content=pieces()))
        await until(lambda: "w" in gateway.worlds.hosts and gateway.worlds.hosts["w"].world.state.tick == 1)
        url = f"ws://127.0.0.1:{gateway.plain_server.port}/v1/worlds/w/live?role=publish"
        async with websockets.connect(f"{url}&takeover=1") as other:
            await receive(other)
            more.set()
            refused = await posting
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")


async def test_the_synced_state_in_memory_is_the_one_in_the_store(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    await publish(
        client,
        "w",
        frame(1, {1: b"one", 2: b"two"}),
        frame(2, {1: None, 3: b"three"}),
        frame(4, {4: b"four"}),
    )
    host = gateway.worlds.hosts["w"]
    await until(lambda: host.world.journal.empty)
    in_memory, in_store = await host.last_synced(), await host.database.last()
    for name in ("epoch", "tick", "durable_at_us", "stride", "records"):
        assert getattr(in_memory, name) == getattr(in_store, name), name
    assert [decode_frame(m).records for m in in_memory.messages] == [
        decode_frame(m).records for m in in_store.messages
    ]


async def test_the_last_synced_state_asked_for_during_a_commit_is_one_that_the_store_has(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    await publish(client, "w", frame(1, {1: b"one"}))
    host = gateway.worlds.hosts["w"]
    await until(lambda: host.world.journal.empty)
    for tick in range(2, 12):
        await publish(client, "w", frame(tick, {1: b"%d" % tick}))
        answer = await host.last_synced()
        recorded = await host.database.state_at(epoch=answer.epoch, tick=answer.tick, at_us=None)
        assert answer.records == recorded.records
