"""Sessions of the Godot kit in the real engine: what it hears, when it comes back, and when it stays away."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.client import Entities, Publisher, Subscriber
from gateway.runtime.gateway import Gateway
from tests.client.conftest import Served, settings_in, until
from tests.client.test_tokens import Studio, guarded
from tests.kits.abilities import proves
from tests.kits.godot.engine import running

NODE = """
var arena: MVGateway


func node(role: String, world: String = "arena") -> MVGateway:
	var made: MVGateway = MVGateway.new()
	made.url = "{url}"
	made.world = world
	made.role = role
	made.ca_file = "{ca}"
	var _told: int = made.refused.connect(func(code: String, detail: String) -> void: say("refused", [code, detail]))
	_told = made.disconnected.connect(func(reason: String) -> void: say("disconnected", reason))
	_told = made.welcomed.connect(func() -> void: say("welcomed", made.epoch))
	_told = made.moved.connect(func(to: String) -> void: say("moved", to))
	return made


func enter(made: MVGateway) -> MVGateway:
	root.add_child(made)
	return made

"""


def script(served: Any, body: str) -> str:
    return (
        NODE.replace("{url}", str(served.url).replace("https", "wss")).replace("{ca}", str(served.ca)) + body
    )


@proves("godot", "refusals")
async def test_who_is_refused_hears_why_once_and_asks_no_more(project: Path, served: Served) -> None:
    body = """
func run() -> void:
	arena = enter(node("publish"))
	var _there: bool = await until(func() -> bool: return arena.status == MVGateway.Status.REFUSED)
	await wait(1.0)
	say("state", [arena.status_text(), arena.refusal])
"""
    async with Publisher(served.url, "arena", ca=served.ca), running(project, script(served, body)) as engine:
        code, detail = await engine.said("refused")
        assert code == "publisher_present"
        assert "publish" in detail
        assert (await engine.said("state"))[0] == "refused"
        assert "disconnected" not in [name for name, _ in engine.unread()][1:]
        assert engine.faults() == []


async def test_a_world_that_is_not_there_is_a_refusal_for_a_reader(project: Path, served: Served) -> None:
    body = """
func run() -> void:
	arena = enter(node("subscribe", "nowhere"))
	var _there: bool = await told("on")
"""
    async with running(project, script(served, body)) as engine:
        assert (await engine.said("refused"))[0] == "unknown_world"


@proves("godot", "takeover")
async def test_a_replaced_publisher_stays_away_also_when_its_successor_leaves(
    project: Path, served: Served
) -> None:
    body = """
func run() -> void:
	arena = enter(node("publish"))
	var _there: bool = await until(func() -> bool: return arena.epoch > 0)
	var _sent: int = arena.send({1: "mine".to_utf8_buffer()})
	say("ready")
	_there = await told("left")
	await wait(1.5)
	say("state", arena.status_text())
"""
    async with running(project, script(served, body)) as engine:
        await engine.said("ready")
        async with Publisher(served.url, "arena", ca=served.ca, takeover=True):
            assert (await engine.said("refused"))[0] == "taken_over"
        engine.tell("left")
        assert await engine.said("state") == "refused"
        host = await served.gateway.worlds.host("arena")
        assert host.world.publisher is None


@proves("godot", "comes_back", "repair")
async def test_publisher_and_reader_come_back_to_a_gateway_that_was_started_again(
    project: Path, tmp_path: Path
) -> None:
    gateway = await Gateway.start(settings_in(tmp_path))
    served, port = Served(gateway, tmp_path / "certs"), gateway.port
    body = """
func run() -> void:
	var server: MVGateway = enter(node("publish"))
	var _there: bool = await until(func() -> bool: return server.epoch > 0)
	var first: int = server.epoch
	var _sent: int = server.send({1: "one".to_utf8_buffer(), 2: "two".to_utf8_buffer()})
	_there = await server.wait_durable()
	arena = enter(node("subscribe"))
	_there = await until(func() -> bool: return arena.records.size() == 2)
	say("ready", hex(arena.records))
	_there = await told("down")
	_sent = server.send({1: null, 3: "while away".to_utf8_buffer()})
	say("sent")
	_there = await until(func() -> bool: return arena.records.has(3) and not arena.records.has(1))
	_sent = server.send({2: "after".to_utf8_buffer()})
	_there = await until(func() -> bool: return arena.records[2] == "after".to_utf8_buffer())
	say("again", [hex(arena.records), server.epoch == first, arena.tick == server.tick, arena.epoch == server.epoch])
"""
    async with running(project, script(served, body)) as engine:
        assert await engine.said("ready") == {"1": b"one".hex(), "2": b"two".hex()}
        await gateway.drain(0.5)
        engine.tell("down")
        await engine.said("sent")
        gateway = await Gateway.start(dataclasses.replace(settings_in(tmp_path), port=port))
        try:
            records, same_epoch, same_tick, epochs = await engine.said("again")
            assert records == {"2": b"after".hex(), "3": b"while away".hex()}
            assert (same_epoch, same_tick, epochs) == (True, True, True)
            assert engine.faults() == []
        finally:
            await gateway.drain(0.5)


class Wire:
    """A relay to a port, whose path can be made to carry nothing more while both its ends stay open."""

    def __init__(self) -> None:
        self.frozen = False
        self.connections = 0
        self.port = 0
        self._to = 0

    async def pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, number: int) -> None:
        while data := await source.read(65_536):
            if not self.frozen:
                sink.write(data)
        if not self.frozen:
            sink.close()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        try:
            await asyncio.gather(
                self.pump(reader, back, self.connections), self.pump(there, writer, self.connections)
            )
        except OSError:
            pass
        finally:
            writer.close()
            back.close()

    @asynccontextmanager
    async def between(self, port: int) -> AsyncIterator[Wire]:
        self._to = port
        server = await asyncio.start_server(self.carry, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()


@proves("godot", "dead_path")
async def test_a_path_that_went_dead_is_noticed_by_its_unanswered_pings(
    project: Path, served: Served
) -> None:
    body = """
func run() -> void:
	arena = enter(node("subscribe"))
	var _there: bool = await until(func() -> bool: return arena.records.size() == 1)
	say("ready")
	_there = await told("frozen")
	var awake: float = 0.0  # seconds in which this machine did not stand still
	var before: int = Time.get_ticks_usec()
	while arena.status == MVGateway.Status.CONNECTED:
		await process_frame
		var now: int = Time.get_ticks_usec()
		awake += minf((now - before) / 1e6, 0.1)
		before = now
	say("noticed", awake)
	_there = await until(func() -> bool: return arena.records.has(2))
	say("back")
"""
    async with (
        Publisher(served.url, "arena", ca=served.ca) as publisher,
        Wire().between(served.gateway.port) as wire,
    ):
        publisher.send({1: b"one"})
        through = Served(served.gateway, served.ca.parent)
        through.url = f"https://127.0.0.1:{wire.port}"
        async with running(project, script(through, body)) as engine:
            await engine.said("ready")
            wire.frozen = True
            engine.tell("frozen")
            assert await engine.said("noticed") < 15.0
            publisher.send({2: b"two"})
            wire.frozen = False
            await engine.said("back")


@proves("godot", "sleep")
async def test_a_record_that_went_to_sleep_does_not_rise_with_the_publishers_next_keyframe(
    project: Path, served: Served
) -> None:
    body = """
func run() -> void:
	arena = enter(node("publish"))
	var _there: bool = await until(func() -> bool: return arena.epoch > 0)
	var _connected: int = arena.changed.connect(func(keys: Array[int]) -> void: say("changed", keys))
	var _sent: int = arena.send({7: "seven".to_utf8_buffer(), 8: "eight".to_utf8_buffer()})
	say("ready")
	_there = await told("asleep")
	_there = await until(func() -> bool: return not arena.records.has(7))
	_sent = arena.send(arena.records, true)
	say("keyframe", hex(arena.records))
	_there = await told("awake")
	_there = await until(func() -> bool: return arena.records.has(7))
	_sent = arena.send({8: "after".to_utf8_buffer()})
	say("woken", arena.tick)
	_there = await told("on")
"""
    async with (
        running(project, script(served, body)) as engine,
        Entities(served.url, "arena", ca=served.ca) as entities,
    ):
        await engine.said("ready")
        async with Subscriber(served.url, "arena", ca=served.ca) as reader:
            await until(lambda: reader.records() == {7: b"seven", 8: b"eight"})
            await entities.hibernate("chest", 7)
            assert await engine.said("changed") == [7]
            engine.tell("asleep")
            assert await engine.said("keyframe") == {"8": b"eight".hex()}
            await until(lambda: reader.records() == {8: b"eight"})
            for _ in range(3):  # each moves the world's tick, and the publisher's with it
                await entities.wake("chest", 7)
                assert await engine.said("changed") == [7]
                await entities.hibernate("chest", 7)
                assert await engine.said("changed") == [7]
            await entities.wake("chest", 7)
            engine.tell("awake")
            await engine.said("woken")
            await until(lambda: reader.records() == {7: b"seven", 8: b"after"})


async def test_a_large_frame_arrives_whole_and_a_record_that_fits_nowhere_is_told(
    project: Path, served: Served
) -> None:
    body = """
func run() -> void:
	var server: MVGateway = enter(node("publish"))
	var _there: bool = await until(func() -> bool: return server.epoch > 0)
	var _connected: int = server.unsent.connect(func(key: int, bytes: int, most: int) -> void: say("unsent", [key, bytes, most]))
	var all: Dictionary = {}
	var _size: int = 0
	for key: int in 3000:
		var data: PackedByteArray = PackedByteArray()
		_size = data.resize(400)
		data.encode_u32(0, key)
		all[key] = data
	var large: PackedByteArray = PackedByteArray()
	_size = large.resize(17 << 20)
	all[4000] = large
	arena = enter(node("subscribe"))
	var _sent: int = server.send(all)
	_there = await until(func() -> bool: return arena.records.size() == 3000)
	say("arrived", arena.records == server.records)
	for turn: int in 30:
		for key: int in 3000:
			var data: PackedByteArray = all[key]
			data.encode_u32(4, turn)
			all[key] = data
		_there = all.erase(4000)
		_sent = server.send(all)
	_there = await until(func() -> bool: return arena.records == server.records)
	say("caught up", arena.records == server.records)
	_sent = server.send({5000: large.slice(0, 60000), 5001: large.slice(0, 200000)})
	_there = await until(func() -> bool: return arena.records == server.records)
	say("large", arena.records == server.records)
"""
    async with running(project, script(served, body)) as engine:
        assert await engine.said("unsent") == [4000, 17 << 20, (16 << 20) - 32]
        assert await engine.said("arrived") is True
        assert await engine.said("caught up") is True
        assert await engine.said("large") is True


async def test_a_scene_that_loads_for_seconds_loses_nothing(project: Path, served: Served) -> None:
    body = """
func run() -> void:
	arena = enter(node("subscribe"))
	var _there: bool = await until(func() -> bool: return arena.records.size() == 2000)
	say("ready")
	for hitch: int in 3:
		OS.delay_msec(1500)
		await process_frame
	say("over")
	await told("rest")
	var last: String = text_of("rest")
	var wanted: PackedByteArray = last.rpad(100).to_utf8_buffer()
	_there = await until(func() -> bool: return arena.records.values().count(wanted) == 2000)
	say("same", arena.records.values().count(wanted))
"""
    async with Publisher(served.url, "arena", ca=served.ca) as publisher:
        publisher.send({key: b"begin".ljust(100) for key in range(2000)})
        async with running(project, script(served, body)) as engine:
            await engine.said("ready")
            over = asyncio.ensure_future(engine.said("over"))
            last = ""
            while not over.done():
                last = f"frame {publisher.tick + 1}."
                publisher.send({key: last.encode().ljust(100) for key in range(2000)})
                await asyncio.sleep(1 / 60)
            await over
            engine.tell("rest", last)
            assert await engine.said("same") == 2000
            assert engine.faults() == []


async def test_a_paused_tree_keeps_its_connection(project: Path, served: Served) -> None:
    body = """
func run() -> void:
	arena = enter(node("subscribe"))
	var _there: bool = await until(func() -> bool: return arena.records.size() == 1)
	paused = true
	say("paused")
	_there = await until(func() -> bool: return arena.records.size() == 2)
	say("still there", paused)
"""
    async with Publisher(served.url, "arena", ca=served.ca) as publisher:
        publisher.send({1: b"one"})
        async with running(project, script(served, body)) as engine:
            await engine.said("paused")
            publisher.send({2: b"two"})
            assert await engine.said("still there") is True


async def test_world_may_be_set_and_the_node_leave_and_come_as_one_likes(
    project: Path, served: Served
) -> None:
    body = """
func run() -> void:
	arena = enter(node("subscribe", ""))
	await wait(0.2)
	say("waiting", arena.status_text())
	arena.world = "one"
	var _there: bool = await until(func() -> bool: return arena.records.has(1))
	var _connected: int = arena.changed.connect(func(keys: Array[int]) -> void: say("changed", keys))
	arena.world = "two"
	_there = await until(func() -> bool: return arena.records.has(2))
	say("two", hex(arena.records))
	root.remove_child(arena)
	say("out", arena.status_text())
	await wait(0.2)
	root.add_child(arena)
	_there = await until(func() -> bool: return arena.status == MVGateway.Status.CONNECTED and arena.records.has(3))
	say("in again", hex(arena.records))
	arena.close()
	await wait(0.3)
	say("closed", arena.status_text())
	arena.open()
	_there = await until(func() -> bool: return arena.status == MVGateway.Status.CONNECTED)
	say("open", arena.status_text())
"""
    async with (
        Publisher(served.url, "one", ca=served.ca) as one,
        Publisher(served.url, "two", ca=served.ca) as two,
    ):
        one.send({1: b"one"})
        two.send({2: b"two"})
        async with running(project, script(served, body)) as engine:
            assert await engine.said("waiting") == "connecting"
            assert await engine.said("changed") == [1]
            assert await engine.said("two") == {"2": b"two".hex()}
            assert await engine.said("out") == "off"
            two.send({3: b"three"})
            assert await engine.said("in again") == {"2": b"two".hex(), "3": b"three".hex()}
            assert await engine.said("closed") == "off"
            assert await engine.said("open") == "connected"
            assert engine.faults() == []


async def test_a_gateway_that_is_not_there_or_not_trusted_is_told(project: Path, served: Served) -> None:
    body = """
func run() -> void:
	arena = node("subscribe")
	arena.url = "wss://127.0.0.1:1"
	arena = enter(arena)
	var _there: bool = await until(func() -> bool: return arena.trouble != "")
	say("nobody", arena.trouble)
	arena.trouble = ""
	arena.ca_file = ""
	arena.url = "{url}"
	_there = await until(func() -> bool: return arena.trouble != "")
	say("stranger", arena.trouble)
	arena.ca_file = "res://no.crt"
	_there = await until(func() -> bool: return arena.refusal != "")
	arena.insecure = true
	arena.open()
	_there = await until(func() -> bool: return arena.epoch > 0)
	say("in", arena.trouble)
""".replace("{url}", served.url.replace("https", "wss"))
    async with (
        Publisher(served.url, "arena", ca=served.ca) as publisher,
        running(project, script(served, body)) as engine,
    ):
        publisher.send({1: b"one"})
        assert "127.0.0.1:1 did not answer" in await engine.said("nobody")
        assert "not trusted" in await engine.said("stranger")
        assert await engine.said("refused") == [
            "config",
            "no certificate can be read from res://no.crt; export it with the game as a .crt",
        ]
        assert await engine.said("in") == ""


async def test_ticks_follow_a_new_epoch_down(project: Path, served: Served) -> None:
    body = """
func run() -> void:
	arena = enter(node("subscribe"))
	var _there: bool = await until(func() -> bool: return arena.tick == 1000)
	say("first", [arena.epoch, arena.tick])
	_there = await until(func() -> bool: return arena.epoch == 2 and arena.tick == 1)
	say("second", [arena.epoch, arena.tick])
"""
    async with Publisher(served.url, "arena", ca=served.ca) as publisher:
        publisher.send({1: b"one"}, tick=1000)
        async with running(project, script(served, body)) as engine:
            assert await engine.said("first") == [1, 1000]
            async with Publisher(served.url, "arena", ca=served.ca, takeover=True) as other:
                other.send({1: b"other"}, tick=1)
                assert await engine.said("second") == [2, 1]


@proves("godot", "tokens")
@pytest.mark.parametrize("how", ["String", "Callable"])
async def test_a_token_lets_in_and_another_one_is_asked_for_before_it_ends(
    project: Path, tmp_path: Path, how: str
) -> None:
    async with guarded(tmp_path) as door:
        studio: Studio = door.studio
        asked: list[str] = []

        async def give(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(studio.token({"sub": ["arena"]}, for_s=10.0 if how == "String" else 6.0, sub="ann"))
            writer.write(asked[-1].encode())
            writer.close()

        backend = await asyncio.start_server(give, "127.0.0.1", 0)
        port = backend.sockets[0].getsockname()[1]
        source = "await backend()" if how == "String" else "backend"
        body = f"""
func backend() -> String:
	var peer: StreamPeerTCP = StreamPeerTCP.new()
	var _failed: int = peer.connect_to_host("127.0.0.1", {port})
	var text: String = ""
	while peer.get_status() != StreamPeerTCP.STATUS_NONE and peer.get_status() != StreamPeerTCP.STATUS_ERROR:
		_failed = peer.poll()
		if peer.get_status() == StreamPeerTCP.STATUS_CONNECTED and peer.get_available_bytes() > 0:
			text += peer.get_utf8_string(peer.get_available_bytes())
		await process_frame
	return text


func run() -> void:
	arena = node("subscribe")
	arena.token = {source}
	var _told: int = arena.told.connect(func(message: Dictionary) -> void: say(str(message["type"])))
	_told = arena.status
	var _in: MVGateway = enter(arena)
	var _there: bool = await until(func() -> bool: return arena.records.has(1))
	say("in")
	_there = await until(func() -> bool: return arena.records.has(2), 60.0)
	say("on", arena.status_text())
	_there = await told("over")
"""
        async with door.publisher(studio.maker({"pub": ["arena"]})) as publisher:
            publisher.send({1: b"one"})
            async with running(project, script(door, body)) as engine:
                await engine.said("in")
                if how == "String":
                    assert (await engine.said("refused"))[0] == "grant_ended"
                else:
                    for _ in range(3):
                        await engine.said("granted")
                    publisher.send({2: b"two"})
                    assert await engine.said("on") == "connected"
                    assert len(asked) >= 4
                assert engine.faults() == []
        backend.close()


async def test_no_token_and_a_wrong_one_are_refusals(project: Path, tmp_path: Path) -> None:
    async with guarded(tmp_path) as door:
        body = f"""
func run() -> void:
	arena = enter(node("subscribe"))
	var _there: bool = await until(func() -> bool: return arena.refusal != "")
	arena.token = "{door.studio.token({"sub": ["elsewhere"]})}"
	arena.open()
	_there = await until(func() -> bool: return arena.refusal != "")
	arena.token = "{door.studio.token({"sub": ["arena"]})}"
	arena.open()
	_there = await until(func() -> bool: return arena.status == MVGateway.Status.CONNECTED and arena.epoch > 0)
	say("in")
"""
        async with door.publisher(door.studio.maker({"pub": ["arena"]})) as publisher:
            publisher.send({1: b"one"})
            async with running(project, script(door, body)) as engine:
                assert (await engine.said("refused"))[0] == "unauthorized"
                assert (await engine.said("refused"))[0] in ("forbidden", "grant_refused")
                await engine.said("in")


@proves("godot", "follow")
async def test_who_follows_an_entity_goes_with_it_to_another_world(project: Path, served: Served) -> None:
    body = """
func run() -> void:
	arena = node("subscribe", "town")
	arena.follow = "player"
	var _in: MVGateway = enter(arena)
	var _there: bool = await until(func() -> bool: return arena.records.has(1))
	say("in town")
	_there = await until(func() -> bool: return arena.records.has(2))
	say("in the forest", [arena.world, hex(arena.records)])
"""
    async with (
        Publisher(served.url, "town", ca=served.ca) as town,
        Publisher(served.url, "forest", ca=served.ca) as forest,
        Entities(served.url, "town", ca=served.ca) as entities,
    ):
        town.send({1: b"town"})
        forest.send({2: b"forest"})
        await entities.put("player", b"state")
        async with running(project, script(served, body)) as engine:
            await engine.said("in town")
            await entities.accept(await entities.transfer("player", to="forest"))
            assert await engine.said("moved") == "forest"
            assert await engine.said("in the forest") == ["forest", {"2": b"forest".hex()}]
