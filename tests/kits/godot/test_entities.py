"""Entities, inventories and films with the Godot kit in the real engine."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

from gateway.client import Entities, Publisher, fetch_last
from gateway.runtime.gateway import Gateway
from gateway.wire import variant
from tests.client.conftest import Served, settings_in, until
from tests.client.test_tokens import guarded
from tests.kits.abilities import proves
from tests.kits.godot.engine import running
from tests.kits.godot.test_sessions import Wire


@proves("godot", "entities")
async def test_entities_are_stored_fetched_watched_and_moved(project: Path, served: Served) -> None:
    body = f"""
func run() -> void:
	var town := MVGatewayEntities.new("{served.url}", "town", "{served.ca}")
	say("made", (await town.make_world()).ok and (await MVGatewayEntities.new("{served.url}", "forest", "{served.ca}").make_world()).ok)
	var put: MVGatewayAnswer = await town.put("chest:7", {{"gold": 12, "at": Vector3(1, 2, 3)}}, {{"class": "chest", "owner": "s", "tags": ["a b", "ü"], "key": 7}})
	var got: MVGatewayAnswer = await town.fetch("chest:7")
	say("got", [put.ok, got.value["gold"], got.value["at"] == Vector3(1, 2, 3), got.facts["class"], got.facts["tags"], got.facts["key"], got.revision == put.revision])
	var late: MVGatewayAnswer = await town.put("chest:7", PackedByteArray([1]), {{"if_match": 1 + got.revision}})
	say("late", [late.ok, late.status, late.code])
	var twice: MVGatewayAnswer = await town.put("chest:7", {{}}, {{"create_only": true}})
	say("twice", twice.code)
	var many: MVGatewayAnswer = await town.batch([{{"op": "put", "id": "a", "state": [1, 2]}}, {{"op": "put", "id": "b", "state": PackedByteArray([9, 8]), "tags": ["x"]}}, {{"op": "get", "id": "chest:7"}}])
	say("batch", [many.ok, many.facts["results"].size(), many.facts["results"][2]["value"]["gold"]])
	var bad: MVGatewayAnswer = await town.batch([{{"op": "put", "id": "c", "state": 1}}, {{"op": "put", "id": "a", "state": 2, "if_match": 999}}])
	say("bad", [bad.code, bad.facts["faults"].size(), (await town.fetch("c")).code])
	var all: MVGatewayAnswer = await town.all()
	say("all", [all.facts["entities"].map(func(e): return e["id"]), all.revision > 0])
	var watch: MVGatewayWatch = town.watch(all.revision)
	watch.stored.connect(func(e: Dictionary) -> void: say("stored", [e["id"], e["value"]]))
	watch.gone.connect(func(id: String, moved_to: String) -> void: say("gone", [id, moved_to]))
	await until(func() -> bool: return watch.is_open)
	say("watching")
	await told("changed")
	await town.put("mine", "text")
	var several: Array[MVGatewayAnswer] = []
	for n: int in 5:
		(func() -> void: several.append(await town.put("n%d" % n, n))).call()
	await until(func() -> bool: return several.size() == 5)
	say("several", several.all(func(a: MVGatewayAnswer) -> bool: return a.ok))
	say("removed", (await town.remove("a")).ok)
	say("patched", (await town.patch("b", {{"class": "box"}})).ok)
	var ticket: MVGatewayAnswer = await town.transfer(["b"], "forest")
	say("offered", ticket.code)
	var taken: MVGatewayAnswer = await town.accept(str(ticket.facts["ticket"]))
	say("accepted", [taken.ok, taken.facts["state"], (await town.fetch("b")).facts.get("moved_to")])
	say("lease", [(await town.acquire("s")).ok, (await town.renew("s")).ok, (await town.release("s")).ok])
	watch.close()
	var nowhere := MVGatewayEntities.new("https://127.0.0.1:1", "town", "{served.ca}")
	say("nowhere", (await nowhere.fetch("x")).code)
"""
    async with (
        Entities(served.url, "town", ca=served.ca) as town,
        Entities(served.url, "forest", ca=served.ca) as forest,
        running(project, body) as engine,
    ):
        assert await engine.said("made") is True
        await forest.put("tree", 1)
        assert await engine.said("got") == [True, 12, True, "chest", ["a b", "ü"], 7, True]
        assert await engine.said("late") == [False, 412, "precondition_failed"]
        assert await engine.said("twice") == "precondition_failed"
        assert await engine.said("batch") == [True, 3, 12]
        assert await engine.said("bad") == ["batch_refused", 1, "not_found"]
        assert await engine.said("all") == [["a", "b", "chest:7"], True]
        await engine.said("watching")
        await town.put("theirs", [1, "two"])
        assert await engine.said("stored") == ["theirs", [1, "two"]]
        await town.delete("theirs")
        assert await engine.said("gone") == ["theirs", ""]
        engine.tell("changed")
        assert await engine.said("stored") == ["mine", "text"]
        assert await engine.said("several") is True
        assert await engine.said("removed") is True
        assert await engine.said("patched") is True
        await engine.said("offered")
        assert await engine.said("accepted") == [True, "accepted", "forest"]
        assert await engine.said("lease") == [True, True, True]
        assert await engine.said("nowhere") == "unanswered"
        assert (await town.get("chest:7")).state == variant.encode(
            {"gold": 12, "at": variant.Vector3(1, 2, 3)}
        )
        assert (await forest.get("b")).state == b"\x09\x08"
        assert engine.faults() == []


@proves("godot", "watch")
async def test_a_watch_misses_nothing_over_a_restart_of_the_gateway(project: Path, tmp_path: Path) -> None:
    served = Served(await Gateway.start(settings_in(tmp_path)), tmp_path / "certs")
    port = served.gateway.port
    body = f"""
func run() -> void:
	var town := MVGatewayEntities.new("{served.url}", "town", "{served.ca}")
	await town.make_world()
	await town.put("a", 1)
	var watch: MVGatewayWatch = town.watch((await town.all()).revision)
	watch.stored.connect(func(e: Dictionary) -> void: say("stored", [e["id"], e["value"]]))
	await until(func() -> bool: return watch.is_open)
	say("watching")
	await told("over")
	say("after", (await town.fetch("b")).value)
"""
    async with running(project, body) as engine:
        await engine.said("watching")
        await served.gateway.drain(0.5)
        served = Served(
            await Gateway.start(dataclasses.replace(settings_in(tmp_path), port=port)), tmp_path / "certs"
        )
        try:
            async with Entities(served.url, "town", ca=served.ca) as town:
                await town.put("b", 2)
                assert await engine.said("stored") == ["b", 2]
                engine.tell("over")
                assert await engine.said("after") == 2
        finally:
            await served.gateway.drain(0.5)


async def test_a_watch_whose_path_went_dead_is_made_anew(project: Path, served: Served) -> None:
    async with Wire().between(served.gateway.port) as wire:
        body = f"""
func run() -> void:
	var town := MVGatewayEntities.new("https://127.0.0.1:{wire.port}", "town", "{served.ca}")
	await town.make_world()
	await town.put("a", 1)
	var watch: MVGatewayWatch = town.watch((await town.all()).revision)
	watch.quiet_s = 1.5
	watch.stored.connect(func(e: Dictionary) -> void: say("stored", [e["id"], e["value"]]))
	await town.put("b", 2)
	await told("seen")
"""
        async with running(project, body) as engine, Entities(served.url, "town", ca=served.ca) as town:
            assert await engine.said("stored") == ["b", 2]
            wire.frozen = True
            await town.put("c", 3)
            await asyncio.sleep(0)
            before = wire.connections
            await until(lambda: wire.connections > before)
            wire.frozen = False
            assert await engine.said("stored") == ["c", 3]


async def test_items_are_traded_between_inventories(project: Path, served: Served) -> None:
    body = f"""
func run() -> void:
	var ann := MVGatewayEntities.inventory("{served.url}", "ann", "{served.ca}")
	var bob := MVGatewayEntities.inventory("{served.url}", "bob", "{served.ca}")
	await ann.put("gold", {{}}, {{"quantity": 10}})
	await bob.put("sword", {{"edge": 3}})
	var traded: MVGatewayAnswer = await ann.trade([{{"item": "gold", "from": "ann", "to": "bob", "quantity": 7}}, {{"item": "sword", "from": "bob", "to": "ann"}}])
	say("traded", [traded.ok, (await ann.fetch("gold")).facts["quantity"], (await bob.fetch("gold")).facts["quantity"], (await ann.fetch("sword")).value])
	say("again", (await ann.trade([{{"item": "gold", "from": "ann", "to": "bob", "quantity": 7}}])).code)
"""
    async with running(project, body) as engine:
        assert await engine.said("traded") == [True, 3, 7, {"edge": 3}]
        assert await engine.said("again") == "not_enough"


async def test_requests_go_on_with_a_fresh_token_and_say_why_without(project: Path, tmp_path: Path) -> None:
    async with guarded(tmp_path) as door:
        mv = {"ent": ["town"], "admin": ["town"]}
        old, fresh = door.studio.token(mv, for_s=-60.0), door.studio.token(mv)
        body = f"""
var asked: int = 0


func run() -> void:
	var town := MVGatewayEntities.new("{door.url}", "town", "{door.ca}", func() -> String: asked += 1; return "{old}" if asked == 1 else "{fresh}")
	await town.make_world()
	say("put", [(await town.put("a", 1)).code, asked])
	var bare := MVGatewayEntities.new("{door.url}", "town", "{door.ca}")
	say("bare", (await bare.fetch("a")).code)
"""
        async with running(project, body) as engine:
            assert await engine.said("put") == ["", 2]
            assert await engine.said("bare") == "unauthorized"


@proves("godot", "replay", "marks")
async def test_a_film_is_played_paused_sought_and_marked(project: Path, served: Served) -> None:
    body = f"""
func run() -> void:
	var recordings := MVGatewayRecordings.new("{served.url}", "arena", "{served.ca}")
	say("marked", (await recordings.mark("goal", 20, {{"score": 1}})).ok)
	say("marks", (await recordings.marks()).facts["marks"].map(func(m): return [m["name"], m["tick"]]))
	var last: MVGatewayAnswer = await recordings.last()
	say("last", [last.facts["tick"], hex(last.facts["records"])])
	var film := MVGatewayFilm.new()
	film.url = "{served.url.replace("https", "wss")}"
	film.ca_file = "{served.ca}"
	film.world = "arena"
	film.start_paused = true
	film.command_refused.connect(func(command: String, code: String, _detail: String) -> void: say("refused", [command, code]))
	root.add_child(film)
	await until(func() -> bool: return film.place.get("tick", 0) == 1)
	say("first", hex(film.records))
	film.seek({{"tick": 30}})
	await until(func() -> bool: return film.place.get("tick", 0) == 30 and film.tick == 30)
	say("thirty", hex(film.records))
	film.seek({{"mark": "goal"}})
	await until(func() -> bool: return film.place.get("tick", 0) == 20 and film.tick == 20)
	say("goal", hex(film.records))
	film.step(-1)
	await until(func() -> bool: return film.place.get("tick", 0) == 19 and film.tick == 19)
	say("back", hex(film.records))
	film.seek({{"tick": 99999}})
	await told("sought")
	film.play(INF)
	await until(func() -> bool: return film.tick == 40)
	say("end", [hex(film.records), film.records == last.facts["records"]])
	film.play(-8.0)
	await until(func() -> bool: return film.tick < 30)
	film.pause()
	await until(func() -> bool: return film.place.get("speed") == 0)
	say("paused", film.tick < 30)
"""
    async with Publisher(served.url, "arena", ca=served.ca) as publisher:
        for tick in range(1, 41):
            publisher.send({1: b"%d" % tick, 100 + tick % 3: b"x" * (tick % 5)})
            await asyncio.sleep(1 / 120)
        await publisher.wait_durable()
        records = publisher.records()
    async with running(project, body) as engine:
        assert await engine.said("marked") is True
        assert await engine.said("marks") == [["goal", 20]]
        assert await engine.said("last") == [40, {str(k): v.hex() for k, v in sorted(records.items())}]
        assert (await engine.said("first"))["1"] == b"1".hex()
        assert (await engine.said("thirty"))["1"] == b"30".hex()
        assert (await engine.said("goal"))["1"] == b"20".hex()
        assert (await engine.said("back"))["1"] == b"19".hex()
        assert (await engine.said("refused"))[0] == "seek"
        engine.tell("sought")
        assert (await engine.said("end"))[1] is True
        assert await engine.said("paused") is True
        assert engine.faults() == []


@proves("godot", "sleep")
async def test_a_publisher_that_has_said_nothing_yet_keeps_what_wakes_in_its_world(
    project: Path, served: Served
) -> None:
    body = f"""
func run() -> void:
	var server := MVGateway.new()
	server.url = "{served.url.replace("https", "wss")}"
	server.world = "town"
	server.role = "publish"
	server.ca_file = "{served.ca}"
	root.add_child(server)
	await until(func() -> bool: return server.epoch > 0)
	var town := MVGatewayEntities.new("{served.url}", "town", "{served.ca}")
	await town.put("chest", PackedByteArray([9, 8]), {{"key": 7}})
	say("woken", (await town.wake("chest")).ok)
	await until(func() -> bool: return server.records.has(7))
	var _tick: int = server.send({{1: PackedByteArray([1])}})
	_tick = server.send(server.records, true)
	say("durable", await server.wait_durable())
	say("records", hex(server.records))
"""
    async with running(project, body) as engine:
        assert await engine.said("woken") is True
        assert await engine.said("durable") is True
        assert await engine.said("records") == {"1": "01", "7": "0908"}
        last = await fetch_last(served.url, "town", ca=served.ca)
        assert last.records == {1: b"\x01", 7: b"\x09\x08"}
