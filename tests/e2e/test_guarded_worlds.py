"""Two game servers, two worlds, four kinds of watchers, by the clients that people use: one is revoked, one expires, one
renews, one is held back; at 60 Hz, over a path that loses packets, and the gateway is killed in between. Only who should
sees and writes what it should, also by the journal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.client import HttpClient, Publisher, ReceivedFrame, Subscriber, Trust
from gateway.client.fetch import read_messages
from gateway.core.grants import GrantRefused
from gateway.errors import GatewayError, Unauthorized
from gateway.wire import Frame, decode_message
from tests.access.conftest import Maker
from tests.access.test_scenario import LossyPath
from tests.client.conftest import until
from tests.patience import HANG_S
from tests.ports import free_port
from tests.runtime.conftest import GatewayProcess

PLAZA, ARENA = "plaza-1", "arena-1"
DELAY_S = 2.0
TOKEN_S = 10
TICK_S = 1 / 60

Place = tuple[int, int]
"""(epoch, tick)."""


class Studio(Maker):
    """A backend that signs a fresh token whenever it is asked."""

    def fresh(self, subject: str, mv: dict[str, Any], for_s: float = TOKEN_S) -> Callable[[], Any]:
        async def make() -> str:
            return self.token(mv, for_s=for_s, sub=subject, iat=int(time.time()))

        return make


class Server:
    """A game server: what it sent at which tick, and when."""

    def __init__(self, name: str, publisher: Publisher) -> None:
        self.name = name
        self.publisher = publisher
        self.sent: dict[Place, dict[int, bytes]] = {}
        self.sent_at: dict[Place, float] = {}

    async def play(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            number = len(self.sent)
            records = {key: f"{self.name} {number} {key}".encode() for key in (number % 7, 50)}
            at, epoch = time.monotonic(), self.publisher.epoch
            place = (epoch, self.publisher.send(records))
            self.sent[place], self.sent_at[place] = records, at
            await asyncio.sleep(TICK_S)


class Watcher:
    """A reader: whose bytes it saw, and how old each was."""

    def __init__(self, world: str, server: Server, url: str, ca: Path, token: Any, **more: Any) -> None:
        self.server = server
        self.writers: set[bytes] = set()
        self.youngest_s = float("inf")
        self.newest = (0, 0)
        self.reader = Subscriber(
            url, world, ca=ca, token=token, on_message=self._got, connect_timeout_s=HANG_S, **more
        )

    def _got(self, frame: ReceivedFrame) -> None:
        self.writers |= {data.split(b" ")[0] for data in frame.records.values() if data is not None}
        place = (frame.epoch, frame.tick)
        self.newest = max(self.newest, place)
        if place in self.server.sent_at:
            self.youngest_s = min(self.youngest_s, time.monotonic() - self.server.sent_at[place])


async def test_clients_keep_to_their_grants_through_loss_and_a_killed_gateway(tmp_path: Path) -> None:
    studio, port, path = Studio(tmp_path / "keys"), free_port(), LossyPath(11)
    path.to = port
    lossy = f"https://127.0.0.1:{await path.begin()}"
    url, ca = f"https://127.0.0.1:{port}", tmp_path / "certs" / "ca.pem"
    processes: list[GatewayProcess] = []

    async def start() -> None:
        def run() -> GatewayProcess:
            flags = ("--port", str(port), "--auth-keys", str(studio.folder), "--retention", "record")
            return GatewayProcess(tmp_path, *flags, log=tmp_path / f"log{len(processes)}").wait_ready()

        processes.append(await asyncio.to_thread(run))

    def publisher(world: str, subject: str, where: str, transport: Any) -> Publisher:
        token = studio.fresh(subject, {"pub": [world]})
        return Publisher(where, world, ca=ca, token=token, transport=transport, connect_timeout_s=HANG_S)

    await start()
    opened: list[Any] = []
    try:
        one = Server("server-1", publisher(PLAZA, "server-1", lossy, "webtransport"))
        two = Server("server-2", publisher(ARENA, "server-2", url, "websocket"))
        for server in (one, two):
            await server.publisher.start()
            opened.append(server.publisher)
        sub = {"sub": ["plaza-*"]}
        goes_by = studio.token(sub, sub="goes")
        renews = Watcher(PLAZA, one, lossy, ca, studio.fresh("renews", sub), transport="webtransport")
        expires = Watcher(
            PLAZA, one, url, ca, studio.token(sub, for_s=TOKEN_S, sub="expires"), transport="websocket"
        )
        goes = Watcher(PLAZA, one, url, ca, goes_by, transport="websocket")
        held_by = studio.fresh("held-back", {**sub, "delay_s": DELAY_S})
        held = Watcher(PLAZA, one, lossy, ca, held_by, transport="webtransport")
        across = Watcher(
            ARENA, two, url, ca, studio.fresh("across", {"sub": ["arena-1"]}), transport="websocket"
        )
        watchers = (renews, expires, goes, held, across)
        for watcher in watchers:
            await watcher.reader.start()
            opened.append(watcher.reader)
        assert held.reader.delay_s == DELAY_S

        playing = asyncio.gather(one.play(TOKEN_S + 3), two.play(TOKEN_S + 3))
        await until(lambda: goes.newest[1] > 60, HANG_S)
        admin = studio.token({"admin": ["*", ":grants"], "sub": ["*"]}, sub="operator")
        async with HttpClient(url, trust=Trust.of(ca=ca), token=admin) as client:
            await client.request("DELETE", "/v1/grants/goes")
        await until(lambda: goes.reader.error is not None, HANG_S)
        for world in (PLAZA, ARENA):
            wrong = {PLAZA: ARENA, ARENA: PLAZA}[world]
            with pytest.raises(GrantRefused):
                await publisher_of(url, ca, wrong, studio.fresh("server-x", {"pub": [world]}), takeover=True)
        await playing
        await until(lambda: expires.reader.error is not None, HANG_S)
        assert "expired" in str(expires.reader.error)
        assert [one.publisher.connects, two.publisher.connects, renews.reader.connects] == [1, 1, 1]
        marks = {server.name: server.publisher.durable for server in (one, two)}
        await asyncio.to_thread(processes[-1].kill)

        path.forget()
        await start()
        await until(lambda: min(one.publisher.connects, two.publisher.connects) > 1, HANG_S)
        with pytest.raises(Unauthorized):
            await Watcher(PLAZA, one, url, ca, goes_by, transport="websocket").reader.start()
        await asyncio.gather(one.play(3), two.play(3))
        for watcher, server in ((renews, one), (held, one), (across, two)):
            await until(lambda: watcher.reader.records() == server.publisher.records(), HANG_S)  # noqa: B023

        assert path.lost > 10
        assert held.youngest_s >= DELAY_S
        assert renews.youngest_s < DELAY_S
        for watcher in watchers:
            assert watcher.writers == {watcher.server.name.encode()}
        assert max(goes.newest, expires.newest) < max(one.sent)
        async with HttpClient(url, trust=Trust.of(ca=ca), token=admin) as client:
            for server, world in ((one, PLAZA), (two, ARENA)):
                mark = marks[server.name]
                assert mark is not None
                await judge(client, world, server, (mark.epoch, mark.tick))
    finally:
        await asyncio.gather(*(one.aclose() for one in opened), return_exceptions=True)
        for process in processes:
            process.kill()
        path.end()


async def publisher_of(url: str, ca: Path, world: str, token: Any, **more: Any) -> None:
    """Try to publish; raises the refusal."""
    async with Publisher(url, world, ca=ca, token=token, **more):
        raise GatewayError(f"{world} took a publisher that holds no grant for it")


async def judge(client: HttpClient, world: str, server: Server, promised: Place) -> None:
    """The journal holds what this server sent and nothing else, and all of what was promised before the kill."""
    found: dict[Place, dict[int, bytes]] = {}
    answer = await client.request("GET", f"/v1/worlds/{world}/frames")
    for message in read_messages(answer.body):
        frame = decode_message(message)
        if isinstance(frame, Frame):
            for record in frame.records:
                assert record.data is not None
                assert record.data.startswith(server.name.encode() + b" ")
                found.setdefault((frame.epoch, frame.tick), {})[record.key] = record.data
    sent = [place for place in server.sent if place <= promised]
    assert len(sent) > 100
    known = {data for records in server.sent.values() for data in records.values()}
    assert {data for records in found.values() for data in records.values()} <= known
    # a datagram that was lost is made up for by newest values in a later tick, and the journal names its tick as missing
    gaps = (await client.get_json(f"/v1/worlds/{world}/gaps"))["gaps"]
    named = {(gap["epoch"], tick) for gap in gaps for tick in range(gap["from"], gap["to"] + 1)}
    assert {place for place in sent if place not in found} <= named
    assert len(named & set(sent)) < len(sent) * 0.25
    for place in sent:
        if place in found:
            assert set(server.sent[place].items()) & set(found[place].items())
