"""Sessions under a grant: expiry, renewal and revocation at every streaming door."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from gateway.core.gate import Standing
from gateway.core.grants import Need, Scope
from gateway.runtime.access.sessions import AwaitedSession
from gateway.runtime.gateway import Gateway
from gateway.wire import Frame, MessageStream, Record, encode_control, encode_frame, prefix
from tests.patience import HANG_S
from tests.runtime.conftest import GatewayProcess

from .conftest import Maker, StartGated
from .knocking import (
    Session,
    bearer,
    by_websocket,
    http_of,
    open_websocket,
    open_webtransport,
    plain_of,
    token_message,
)
from .test_doors import publish_one

LIVE = "/v1/worlds/arena-1/live"
SUB = {"sub": ["arena-1"], "ent": ["arena-1"]}
PUB = {"pub": ["arena-1"]}
Opener = Callable[[Gateway, str, str | None], Awaitable[Any]]
MESSAGE_DOORS: dict[str, Opener] = {"WebSocket": open_websocket, "WebTransport": open_webtransport}


class StreamSession(Session):
    """A streamed answer's messages."""

    def __init__(self) -> None:
        super().__init__()
        self.status = 0

    async def read(self, client: httpx.AsyncClient, path: str, token: str, accept: str) -> None:
        async with client.stream("GET", path, headers={**bearer(token), "accept": accept}) as answer:
            self.status = answer.status_code
            stream = MessageStream()
            if "event-stream" in accept:
                kind = ""
                async for line in answer.aiter_lines():
                    if line.startswith("event: "):
                        kind = line.removeprefix("event: ")
                    elif line.startswith("data: ") and kind != "frame":
                        self._take_event(kind, json.loads(line.removeprefix("data: ")))
            else:
                async for piece in answer.aiter_bytes():
                    stream.feed(piece)
                    for message in stream:
                        if message[0] == 16:
                            self.on_message(message)
        self.on_closed()

    def _take_event(self, kind: str, fields: dict[str, Any]) -> None:
        from gateway.wire import Control

        self.controls.append(Control(kind, fields))
        self._news.set()


@asynccontextmanager
async def streaming(
    gateway: Gateway, path: str, token: str, accept: str = "*/*"
) -> AsyncIterator[StreamSession]:
    session = StreamSession()
    async with http_of(gateway) as client:
        task = asyncio.create_task(session.read(client, path, token, accept))
        try:
            yield session
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def revoke(gateway: Gateway, maker: Maker, name: str) -> dict[str, Any]:
    async with http_of(gateway) as client:
        answer = await client.delete(
            f"/v1/grants/{name}", headers=bearer(maker.token({"admin": [":grants"]}))
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


# -- the end of its time ------------------------------------------------------------------------


@pytest.mark.parametrize("door", MESSAGE_DOORS)
@pytest.mark.parametrize(
    ("path", "mv"),
    [
        (LIVE, SUB),
        (LIVE + "?role=publish", PUB),
        ("/v1/worlds/arena-1/replay", SUB),
        ("/v1/worlds/arena-1/entities/live", SUB),
    ],
)
async def test_at_its_end_a_session_is_told_bye_expired(
    gated: Gateway, maker: Maker, door: str, path: str, mv: dict[str, Any]
) -> None:
    if mv is SUB:
        await publish_one(gated, maker)
    session = await MESSAGE_DOORS[door](gated, path, maker.token(mv, for_s=2))
    await session.until("welcome")
    bye = await session.until("bye")
    assert bye["reason"] == "expired"
    assert await session.code() == 4008
    await session.close()
    assert gated.gate is not None
    assert gated.gate.sessions == 0


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
@pytest.mark.parametrize("path", [LIVE, "/v1/worlds/arena-1/replay", "/v1/worlds/arena-1/entities/live"])
async def test_at_its_end_a_stream_is_told_bye_expired(
    gated: Gateway, maker: Maker, path: str, accept: str
) -> None:
    await publish_one(gated, maker)
    async with streaming(gated, path, maker.token(SUB, for_s=2), accept) as session:
        bye = await session.until("bye")
        assert bye["reason"] == "expired"
        await session.until_true(session.closed.is_set)
    assert gated.gate is not None
    assert gated.gate.sessions == 0


async def test_at_its_end_an_upload_is_cut_off(gated: Gateway, maker: Maker) -> None:
    assert gated.plain_server is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", gated.plain_server.port)
    head = (
        f"POST /v1/worlds/arena-1/frames HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer "
        f"{maker.token(PUB, for_s=2)}\r\ntransfer-encoding: chunked\r\n\r\n4\r\n\x05\x00\x00\x00\r\n"
    )
    writer.write(head.encode())
    async with asyncio.timeout(HANG_S):
        answer = await reader.readuntil(b"}")
    assert answer.startswith(b"HTTP/1.1 401")
    assert b'"rule": "expired"' in answer
    writer.close()


async def test_plain_udp_dies_with_its_grant(gated: Gateway, maker: Maker) -> None:
    async with plain_of(gated) as client:
        given = await client.post("/v1/worlds/arena-1/udp", headers=bearer(maker.token(PUB, sub="ann")))
        assert given.status_code == 201
    udp = gated.worlds.udp
    assert udp is not None
    assert gated.gate is not None
    assert gated.gate.sessions == 1
    token = bytes.fromhex(given.json()["token"])
    udp.datagram_received(token + b"\x10{}", None)
    unknown = udp.packets_unknown
    assert (await revoke(gated, maker, "ann"))["ended"] == 1
    udp.datagram_received(token + b"\x10{}", None)
    assert udp.packets_unknown == unknown + 1
    assert gated.gate.sessions == 0


async def test_whoever_sends_a_token_and_closes_at_once_gives_his_place_back() -> None:
    """Both come in one turn of the loop, so that what opens his session is cancelled before its first step."""
    over = asyncio.Event()
    grant = Scope.of(SUB).grant(None, subject="ann", jti="", kid="k", expires_s=time.time() + 60)
    standing = Standing(grant, Need("sub", ("arena-1",)), lambda standing: over.set())

    async def open_session(standing: Standing) -> Any:
        raise AssertionError("nobody is there any more")

    session = AwaitedSession(cast(Any, object()), lambda token: standing, open_session)
    session.on_message(token_message("a token"), 0.0)
    session.on_closed(0.0)
    async with asyncio.timeout(HANG_S):
        await over.wait()


# -- renewal ------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", MESSAGE_DOORS)
@pytest.mark.parametrize(
    ("path", "mv"),
    [
        (LIVE, SUB),
        (LIVE + "?role=publish", PUB),
        ("/v1/worlds/arena-1/replay", SUB),
        ("/v1/worlds/arena-1/entities/live", SUB),
    ],
)
async def test_a_fresh_token_goes_on_in_place(
    gated: Gateway, maker: Maker, door: str, path: str, mv: dict[str, Any]
) -> None:
    if mv is SUB:
        await publish_one(gated, maker)
    session = await MESSAGE_DOORS[door](gated, path, maker.token(mv, for_s=2, sub="ann"))
    await session.until("welcome")
    fresh = maker.token(mv, for_s=4, sub="ann")
    await session.send(token_message(fresh))
    told = await session.until("granted")
    expires = told["expires"]
    bye = await session.until("bye")
    assert bye["reason"] == "expired"
    assert time.time() >= expires - 0.5
    await session.close()


@pytest.mark.parametrize("door", MESSAGE_DOORS)
async def test_a_first_message_with_a_token_opens_the_session(
    gated: Gateway, maker: Maker, door: str
) -> None:
    await publish_one(gated, maker)
    session = await MESSAGE_DOORS[door](gated, LIVE, None)
    await session.send(token_message(maker.token(SUB)))
    await session.until("welcome")
    assert session.types[0] == "granted"
    await session.until_true(lambda: session.frames > 0)
    await session.close()


@pytest.mark.parametrize("door", MESSAGE_DOORS)
@pytest.mark.parametrize(
    ("mv", "subject", "rule"),
    [({"sub": ["plaza"]}, "ann", "grant_refused"), (SUB, "bob", "unauthorized"), (None, "", "unauthorized")],
)
async def test_a_token_that_does_not_count_ends_the_session(
    gated: Gateway, maker: Maker, door: str, mv: Any, subject: str, rule: str
) -> None:
    await publish_one(gated, maker)
    session = await MESSAGE_DOORS[door](gated, LIVE, maker.token(SUB, sub="ann"))
    await session.until("welcome")
    await session.send(token_message("abc" if mv is None else maker.token(mv, sub=subject)))
    error = await session.until("error")
    assert error["code"] == rule
    assert await session.code() == 4009
    await session.close()


# -- revocation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["sub", "jti"])
async def test_what_is_revoked_ends_within_a_second_at_every_door(
    gated: Gateway, maker: Maker, by: str
) -> None:
    await publish_one(gated, maker)
    token = maker.token(SUB, sub="ann", jti="t-1", iat=int(time.time()))
    other = maker.token(SUB, sub="bob", jti="t-2")
    sessions = [await opener(gated, LIVE, token) for opener in MESSAGE_DOORS.values()]
    stays = await open_websocket(gated, LIVE, other)
    async with (
        streaming(gated, LIVE, token) as stream,
        streaming(gated, LIVE, token, "text/event-stream") as events,
    ):
        everybody = [*sessions, stream, events]
        for session in (*everybody, stays):
            await session.until("welcome")
        assert (await revoke(gated, maker, "ann" if by == "sub" else "t-1"))["ended"] == 4
        for session in everybody:
            assert (await session.until("bye"))["reason"] == "revoked"
        for session in sessions:
            assert await session.code() == 4009
    async with http_of(gated) as client:
        answer = await client.get("/v1/worlds/arena-1", headers=bearer(token))
        assert (answer.status_code, answer.json()["rule"]) == (401, "revoked")
        assert (await client.get("/v1/worlds/arena-1", headers=bearer(other))).status_code == 200
        later = maker.token(SUB, sub="ann", jti="t-3", iat=int(time.time()) + 60)
        assert (await client.get("/v1/worlds/arena-1", headers=bearer(later))).status_code == 200
    assert not stays.closed.is_set()
    for session in (*sessions, stays):
        await session.close()


def test_what_was_revoked_stays_so_over_kill_9(tmp_path: Path, maker: Maker) -> None:
    token, admin = maker.token(SUB, sub="ann"), maker.token({"admin": ["*"]})
    gateway = GatewayProcess(tmp_path, "--auth-keys", str(maker.folder)).wait_ready()
    try:
        assert httpx.get(gateway.base_url + "/v1/worlds", headers=bearer(token)).status_code == 200
        assert httpx.delete(gateway.base_url + "/v1/grants/ann", headers=bearer(admin)).status_code == 200
    finally:
        gateway.kill()
    gateway = GatewayProcess(tmp_path, "--auth-keys", str(maker.folder)).wait_ready()
    try:
        answer = httpx.get(gateway.base_url + "/v1/worlds", headers=bearer(token))
        assert (answer.status_code, answer.json()["rule"]) == (401, "revoked")
    finally:
        gateway.kill()


def test_keys_are_read_anew_at_sighup_and_a_broken_set_changes_nothing(tmp_path: Path, maker: Maker) -> None:
    second = maker.another("second")
    log = tmp_path / "log"
    gateway = GatewayProcess(tmp_path, "--auth-keys", str(maker.folder), log=log)
    gateway.wait_ready()
    try:

        def status(token: str) -> int:
            return httpx.get(gateway.base_url + "/v1/worlds", headers=bearer(token)).status_code

        def reload(event: str) -> None:
            had = log.read_text().count(event)
            gateway.process.send_signal(signal.SIGHUP)
            end = time.monotonic() + HANG_S
            while log.read_text().count(event) == had and time.monotonic() < end:
                status(maker.token(SUB))

        assert status(maker.token(SUB)) == status(maker.token(SUB, key=second)) == 200
        (maker.folder / "broken.json").write_text("{")
        reload("the keys in use stay")
        assert status(maker.token(SUB)) == 200
        (maker.folder / "broken.json").unlink()
        (maker.folder / "second.public.json").unlink()
        reload("settings reloaded")
        assert status(maker.token(SUB)) == 200
        assert status(maker.token(SUB, key=second)) == 401
    finally:
        gateway.kill()


async def test_taking_a_key_away_ends_all_that_stands_on_it(gated: Gateway, maker: Maker) -> None:
    second = maker.another("second")
    gated.reload(gated.settings)
    await publish_one(gated, maker)
    goes = await open_websocket(gated, LIVE, maker.token(SUB, key=second))
    stays = await open_websocket(gated, LIVE, maker.token(SUB))
    await goes.until("welcome")
    await stays.until("welcome")
    (maker.folder / "second.public.json").unlink()
    gated.reload(gated.settings)
    assert (await goes.until("bye"))["reason"] == "revoked"
    assert not stays.closed.is_set()
    await goes.close()
    await stays.close()


# -- so much at once ----------------------------------------------------------------------------


async def test_sessions_at_once_are_counted_by_subject(gated: Gateway, maker: Maker) -> None:
    await publish_one(gated, maker)
    mv = {**SUB, "sessions": 2}
    first = await open_websocket(gated, LIVE, maker.token(mv, sub="ann"))
    second = await open_webtransport(gated, LIVE, maker.token(mv, sub="ann", jti="another"))
    await first.until("welcome")
    await second.until("welcome")
    answer = await by_websocket(LIVE)(gated, maker.token(mv, sub="ann"))
    assert answer.status == 4001
    assert "sessions at once" in answer.said
    assert (await by_websocket(LIVE)(gated, maker.token(mv, sub="bob"))).status == 200
    await first.close()
    assert gated.gate is not None
    async with asyncio.timeout(HANG_S):
        while gated.gate.sessions > 1:  # noqa: ASYNC110 - the gateway hears of it in its own time
            await asyncio.sleep(0.01)
    assert (await by_websocket(LIVE)(gated, maker.token(mv, sub="ann"))).status == 200
    await second.close()


async def test_requests_a_second_are_counted_by_subject(gated: Gateway, maker: Maker) -> None:
    async with http_of(gated) as client:

        async def one(subject: str, jti: str) -> httpx.Response:
            token = maker.token({"sub": ["*"], "rps": 2}, sub=subject, jti=jti)
            return await client.get("/v1/worlds", headers=bearer(token))

        answers = await asyncio.gather(*(one("ann", str(n % 3)) for n in range(60)))
        assert {answer.status_code for answer in answers} == {200, 429}
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["bound"] == "grant_rps"
        assert "retry-after" in refused.headers
        assert (await one("bob", "1")).status_code == 200


async def test_bytes_a_second_hold_answers_back(start_gated: StartGated, maker: Maker) -> None:
    gated = await start_gated()
    await publish_one(gated, maker)
    token = maker.token({"sub": ["arena-1"], "kbps": 1}, sub="ann")
    async with http_of(gated) as client:
        began = time.monotonic()
        for _ in range(3):  # some 300 bytes each, at 125 bytes a second
            answer = await client.get("/v1/worlds/arena-1", headers=bearer(token))
            assert answer.status_code == 200
        assert time.monotonic() - began > 1.0


# -- behind live --------------------------------------------------------------------------------


async def test_a_grant_that_follows_behind_live_sees_nothing_newer_by_any_route(
    gated: Gateway, maker: Maker
) -> None:
    await publish_one(gated, maker)
    behind = bearer(maker.token({"sub": ["arena-1"], "delay_s": 60}))
    async with http_of(gated) as client:
        for path in ("frames/last", "frames?tick=1", "frames/last?delay_s=1"):
            answer = await client.get(f"/v1/worlds/arena-1/{path}", headers=behind)
            assert answer.status_code in (404, 422), (path, answer.text)
        assert (await client.get("/v1/worlds/arena-1/frames", headers=behind)).content == b""
        shown = await client.get("/v1/worlds/arena-1", headers=behind)
        assert shown.json()["tick"] == 0
        assert "tick" not in (await client.get("/v1/worlds", headers=behind)).json()["worlds"][0]
    session = await open_websocket(gated, LIVE, maker.token({"sub": ["arena-1"], "delay_s": 60}, sub="ann"))
    await session.until_true(lambda: bool({"welcome", "error"} & set(session.types)))
    assert session.frames == 0
    await session.close()


@pytest.mark.parametrize("narrower", [{"delay_s": 60}, {"kbps": 10}])
async def test_a_token_that_allows_less_than_the_session_shows_ends_it(
    gated: Gateway, maker: Maker, narrower: dict[str, Any]
) -> None:
    await publish_one(gated, maker)
    session = await open_websocket(gated, LIVE, maker.token(SUB, sub="ann"))
    await session.until("welcome")
    await session.send(token_message(maker.token({**SUB, **narrower}, sub="ann")))
    assert (await session.until("error"))["code"] == "grant_refused"
    await session.close()


async def test_a_replay_goes_no_faster_than_its_grant(gated: Gateway, maker: Maker) -> None:
    body = prefix(encode_frame(Frame(0, 1, [Record(n, b"x" * 100) for n in range(20)], keyframe=True)))
    async with http_of(gated) as client:
        headers = {**bearer(maker.token(PUB)), "content-type": "application/octet-stream"}
        posted = await client.post("/v1/worlds/arena-1/frames?durable=1", headers=headers, content=body)
        assert posted.status_code == 200
    token = maker.token({"sub": ["arena-1"], "kbps": 10}, sub="ann")  # 1,250 bytes a second
    began = time.monotonic()
    session = await open_webtransport(gated, "/v1/worlds/arena-1/replay?tick=1", token)
    for n in range(1, 3):
        await session.send(encode_control("seek", tick=1))
        await session.until_true(lambda n=n: session.frames >= n)
    assert time.monotonic() - began > 1.0
    await session.close()
