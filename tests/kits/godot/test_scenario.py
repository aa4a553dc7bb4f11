"""What games do, with the Godot kit in three real engines against a real gateway over a link that loses: an avatar walks
from one server's world to another's, items are traded, the gateway is killed, a film is played; all end with the same bytes."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from bench.link import Host, unavailable_because
from gateway.client import fetch_last
from gateway.runtime.gateway import Gateway
from tests.client.conftest import settings_in
from tests.kits.abilities import proves
from tests.kits.godot.engine import Running, running
from tests.kits.lossy import lossy

REASON = unavailable_because()
if REASON and os.environ.get("CI") == "true":
    raise RuntimeError(f"CI must be able to make the link: {REASON}")
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"no lossy link: {REASON}")

COMMON = """
var server: MVGateway


func node(made: MVGateway, world: String, role: String = "subscribe") -> MVGateway:
	made.url = "{url}".replace("https", "wss")
	made.ca_file = "{ca}"
	made.world = world
	made.role = role
	made.refused.connect(func(code: String, detail: String) -> void: say("refused", [code, detail]))
	return made


func entities(world: String) -> MVGatewayEntities:
	return MVGatewayEntities.new("{url}", world, "{ca}")


func serve(world: String) -> void:
	server = node(MVGateway.new(), world, "publish")
	root.add_child(server)
	await until(func() -> bool: return server.epoch > 0)


func walk(steps: int) -> void:
	for at: int in steps:
		server.send({10: var_to_bytes(Vector3(at, 0, server.tick))})
		await process_frame

"""
TOWN = """
func run() -> void:
	await serve("town")
	server.send({1: "the square".to_utf8_buffer(), 10: var_to_bytes(Vector3.ZERO)})
	var town := entities("town")
	say("put", (await town.put("player", {"name": "ann"}, {"key": 10})).ok)
	await told("walk-followed")
	await walk(60)
	await server.wait_durable()  # or the request overtakes the last steps, by a connection of its own
	var slept: MVGatewayAnswer = await town.hibernate("player", 10)
	await until(func() -> bool: return not server.records.has(10))
	var offered: MVGatewayAnswer = await town.transfer(["player"], "forest")
	say("ticket", [slept.code, offered.code, offered.facts.get("ticket")])
	var ann := MVGatewayEntities.inventory("{url}", "ann", "{ca}")
	var bob := MVGatewayEntities.inventory("{url}", "bob", "{ca}")
	await ann.put("gold", {}, {"quantity": 10})
	await bob.put("sword", {"edge": 3})
	var traded: MVGatewayAnswer = await ann.trade([{"item": "gold", "from": "ann", "to": "bob", "quantity": 7}, {"item": "sword", "from": "bob", "to": "ann"}])
	say("traded", [traded.code, (await ann.fetch("gold")).facts["quantity"], (await bob.fetch("gold")).facts["quantity"], (await ann.fetch("sword")).value])
	await told("walk-back")
	server.send({3: "after".to_utf8_buffer()})
	say("durable", await server.wait_durable())
	say("state", hex(server.records))
	await told("walk-over")
"""
FOREST = """
func run() -> void:
	await serve("forest")
	server.send({2: "a tree".to_utf8_buffer()})
	say("ready")
	await told("walk-ticket")
	var forest := entities("forest")
	var accepted: MVGatewayAnswer = await forest.accept(text_of("walk-ticket"))
	var woken: MVGatewayAnswer = await forest.wake("player", 10)
	await until(func() -> bool: return server.records.has(10))
	say("woken", [accepted.code, woken.code, var_to_str(bytes_to_var(server.records[10]))])
	await walk(60)
	say("durable", await server.wait_durable())
	await told("walk-down")
	await walk(30)
	await told("walk-back")
	await walk(30)
	server.send({3: "after".to_utf8_buffer(), 2: null})
	say("durable", await server.wait_durable())
	say("state", hex(server.records))
	await told("walk-over")
"""
CLIENT = """
func run() -> void:
	var arena := node(MVGateway.new(), "town")
	arena.follow = "player"
	arena.moved.connect(func(to: String) -> void: say("moved", to))
	root.add_child(arena)
	await until(func() -> bool: return arena.records.has(10))
	say("follows", arena.world)
	await until(func() -> bool: return arena.world == "forest" and arena.records.has(10))
	say("there", arena.records.has(1))
	await told("walk-back")
	await until(func() -> bool: return arena.records.has(3) and not arena.records.has(2), 60.0)
	say("state", hex(arena.records))
	var film := MVGatewayFilm.new()
	node(film, "forest")
	film.start_paused = true
	root.add_child(film)
	await until(func() -> bool: return film.place.has("tick"))
	film.play(INF)
	await until(func() -> bool: return film.records == arena.records, 60.0)
	say("film", hex(film.records))
"""


@proves("godot", "scenario", "inventories", "transfers", "websocket", "publish")
async def test_an_avatar_walks_over_items_are_traded_the_gateway_dies_and_all_end_alike(
    project: Path, tmp_path: Path
) -> None:
    with lossy(tmp_path, 3) as (served, hosts, network):
        async with AsyncExitStack() as stack:

            async def engine(name: str, body: str, host: Host) -> Running:
                text = (COMMON + body).replace("{url}", served.url).replace("{ca}", str(served.ca))
                return await stack.enter_async_context(
                    running(project, text, name=name, prefix=host.command([]))
                )

            forest = await engine("forest", FOREST, hosts[0])
            await forest.said("ready")
            town = await engine("town", TOWN, hosts[1])
            assert await town.said("put") is True
            client = await engine("client", CLIENT, hosts[2])
            assert await client.said("follows") == "town"
            town.tell("walk-followed")
            slept, offered, ticket = await town.said("ticket")
            assert (slept, offered) == ("", "")
            town.tell("walk-ticket", ticket)
            accepted, woken, place = await forest.said("woken")
            assert (accepted, woken) == ("", "")
            assert place.startswith("Vector3(59")
            assert await client.said("moved") == "forest"
            assert await client.said("there") is False
            assert await town.said("traded") == ["", 3, 7, {"edge": 3}]
            assert await forest.said("durable") is True

            served.kill()
            town.tell("walk-down")
            served.start()
            town.tell("walk-back")
            assert await town.said("durable") is True
            assert await forest.said("durable") is True
            states = [await one.said("state") for one in (town, forest, client)]
            film = await client.said("film")
            town.tell("walk-over")
            faults = [one.faults() for one in (town, forest, client)]
        dropped = network.counters()["dropped_loss"]
    assert faults == [[], [], []]
    assert dropped > 10, "the link lost nothing, so nothing was shown"
    assert set(states[1]) == {"3", "10"}
    assert states[2] == states[1]
    assert film == states[1]

    gateway = await Gateway.start(settings_in(tmp_path))
    try:
        ca, url = tmp_path / "certs" / "ca.pem", f"https://127.0.0.1:{gateway.port}"
        for world, state in (("town", states[0]), ("forest", states[1])):
            last = await fetch_last(url, world, ca=ca)
            assert {str(key): data.hex() for key, data in last.records.items()} == state
    finally:
        await gateway.drain(0.5)
