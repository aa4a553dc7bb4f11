"""The reader for Godot 3 against a real gateway, in the real engine: it follows, is told why it was refused, and comes back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gateway.client import Publisher
from gateway.runtime.gateway import Gateway
from gateway.wire import variant
from tests.client.conftest import Served, settings_in
from tests.client.test_tokens import guarded
from tests.kits.godot3.engine import running

FOLLOW = """
var arena


func until(what):
	var end = OS.get_ticks_msec() + 60000
	while OS.get_ticks_msec() < end:
		if call(what):
			return
		yield(self, "idle_frame")
	say("late", what)


func both():
	return arena.records.size() == 2


func gone():
	return not arena.records.has(2)


func back():
	return arena.records.has(3)


func is_refused():
	return arena.refusal != ""


func on_refused(code, detail):
	say("refused", [code, detail])


func on_disconnected(_reason):
	say("disconnected")


func enter(world, by = ""):
	arena = MVGateway.new()
	arena.url = "URL"
	arena.ca_file = "CA"
	arena.world = world
	arena.token = by
	arena.connect("refused", self, "on_refused")
	arena.connect("disconnected", self, "on_disconnected")
	root.add_child(arena)


func run():
"""


def script(served: Served, body: str) -> str:
    return FOLLOW.replace("URL", served.url.replace("https", "wss")).replace("CA", str(served.ca)) + body


async def test_it_follows_a_world_and_comes_back_after_the_gateway_was_away(
    project: Path, tmp_path: Path
) -> None:
    body = """
	enter("arena")
	yield(until("both"), "completed")
	say("both", [hex(arena.records), var2str(arena.value_of(1, 4)), arena.epoch, arena.welcome["role"]])
	yield(until("gone"), "completed")
	say("gone", hex(arena.records))
	yield(until("back"), "completed")
	say("back", hex(arena.records))
"""
    place = variant.encode(variant.from_json('{"@": "Vector3", "v": [1.0, 2.0, 3.0]}'))
    gateway = await Gateway.start(settings_in(tmp_path))
    served = Served(gateway, tmp_path / "certs")
    large = bytes(range(256)) * 900
    async with running(project, script(served, body)) as engine:
        async with Publisher(served.url, "arena", ca=served.ca) as publisher:
            publisher.send({1: place, 2: large})
            records, value, epoch, role = await engine.said("both")
            assert records == {"1": place.hex(), "2": large.hex()}
            assert (value, epoch, role) == ("Vector3( 1, 2, 3 )", 1, "subscribe")
            publisher.send({2: None})
            assert await engine.said("gone") == {"1": place.hex()}
            await publisher.wait_durable()
        port = gateway.port
        await gateway.drain(0.5)
        await engine.said("disconnected")
        gateway = await Gateway.start(replace(settings_in(tmp_path), port=port))
        try:
            async with Publisher(served.url, "arena", ca=served.ca) as publisher:
                publisher.send({3: b"back"})
                records = await engine.said("back")
                assert records["3"] == b"back".hex()
                assert engine.faults() == []
        finally:
            await gateway.drain(0.5)


async def test_a_refusal_is_told_and_a_token_lets_it_in(project: Path, tmp_path: Path) -> None:
    async with guarded(tmp_path) as door:
        good, bad = door.studio.token({"sub": ["arena"]}), door.studio.token({"sub": ["arena"]}, for_s=-100)
        body = f"""
	enter("arena", "{bad}")
	yield(until("is_refused"), "completed")
	say("status", arena.status == MVGateway.Status.REFUSED)
	arena.queue_free()
	enter("arena", "{good}")
	yield(until("both"), "completed")
	say("in", hex(arena.records))
"""
        async with Publisher(
            door.url, "arena", ca=door.ca, token=door.studio.token({"pub": ["arena"]})
        ) as publisher:
            publisher.send({1: b"one", 2: b"two"})
            async with running(project, script(Served(door.gateway, door.ca.parent), body)) as engine:
                code, _ = await engine.said("refused")
                assert code in {"unauthorized", "grant_refused"}
                assert await engine.said("status") is True
                assert await engine.said("in") == {"1": b"one".hex(), "2": b"two".hex()}
