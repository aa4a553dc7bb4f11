"""The Godot kit's publisher by plain UDP in the real engine, over restarts of the gateway."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

from gateway.client import Publisher, Subscriber
from gateway.runtime.gateway import Gateway
from tests.client.conftest import Served, settings_in, until
from tests.kits.godot.engine import running

BODY = """
func watch(made: MVGatewayUDP) -> MVGatewayUDP:
	var _told: int = made.connected.connect(func() -> void: say("connected", made.epoch))
	_told = made.disconnected.connect(func(reason: String) -> void: say("disconnected", reason))
	_told = made.refused.connect(func(code: String, _detail: String) -> void: say("refused", code))
	return made

"""


async def start(folder: Path, port: int = 0) -> Served:
    settings = dataclasses.replace(settings_in(folder, udp="127.0.0.1:0"), port=port)
    return Served(await Gateway.start(settings), folder / "certs")


async def test_it_asks_for_its_token_and_goes_on_with_a_keyframe_after_a_restart_of_the_gateway(
    project: Path, tmp_path: Path
) -> None:
    served = await start(tmp_path)
    body = f"""
func run() -> void:
	var arena: MVGatewayUDP = watch(MVGatewayUDP.open("{served.url}", "arena", "{served.ca}"))
	var _there: bool = await until(func() -> bool: arena.poll(); return arena.is_open)
	var data: PackedByteArray = PackedByteArray()
	var _size: int = data.resize(40_000)
	var _tick: int = arena.send(1, {{1: "one".to_utf8_buffer(), 2: "two".to_utf8_buffer(), 5: data}})
	_tick = arena.send(2, {{1: null}})
	_there = await until(func() -> bool: arena.poll(); return arena.durable.get("tick", 0) == 2)
	say("durable", arena.durable)
	var number: int = 2
	while not FileAccess.file_exists("res://told-over"):
		number += 1
		_tick = arena.send(number, {{3: ("at %d" % (number % 7)).to_utf8_buffer()}})
		await process_frame
	_tick = arena.send(number + 1, {{3: "last".to_utf8_buffer(), 6: data + data}})
	_there = await until(func() -> bool: arena.poll(); return int(arena.durable.get("tick", 0)) >= arena.tick)
	say("last", [arena.tick, arena.durable["tick"]])
"""
    async with running(project, BODY + body) as engine:
        assert await engine.said("connected") == 1
        assert await engine.said("durable") == {"epoch": 1, "tick": 2}
        port = served.gateway.port
        await served.gateway.drain(0.5)
        assert await engine.said("disconnected")
        served = await start(tmp_path, port)
        try:
            assert await engine.said("connected") == 2
            async with Subscriber(served.url, "arena", ca=served.ca) as reader:
                await until(lambda: reader.epoch == 2 and len(reader.records()) == 3)
                engine.tell("over")
                tick, durable = await engine.said("last")
                assert tick <= durable
                await until(lambda: reader.records().get(3) == b"last")
                assert {key: len(data) for key, data in reader.records().items()} == {2: 3, 3: 4, 5: 40_000}
            assert any("80000 bytes" in line for line in engine.faults())
        finally:
            await served.gateway.drain(0.5)


async def test_a_publisher_by_udp_that_was_replaced_stays_away(project: Path, tmp_path: Path) -> None:
    served = await start(tmp_path)
    body = f"""
func run() -> void:
	var arena: MVGatewayUDP = watch(MVGatewayUDP.open("{served.url}", "arena", "{served.ca}"))
	var number: int = 0
	while not FileAccess.file_exists("res://told-over"):
		number += 1
		var _tick: int = arena.send(number, {{1: "mine".to_utf8_buffer()}})
		await process_frame
	say("over", arena.is_open)
"""
    try:
        async with running(project, BODY + body) as engine:
            await engine.said("connected")
            async with Publisher(served.url, "arena", ca=served.ca, takeover=True) as other:
                other.send({1: b"theirs"})
                assert await engine.said("refused") == "taken_over"
            await asyncio.sleep(0)
            engine.tell("over")
            assert await engine.said("over") is False
    finally:
        await served.gateway.drain(0.5)


async def test_where_the_gateway_takes_no_packets_it_says_so(project: Path, served: Served) -> None:
    body = f"""
func run() -> void:
	var arena: MVGatewayUDP = watch(MVGatewayUDP.open("{served.url}", "arena", "{served.ca}"))
	var _there: bool = await until(func() -> bool: arena.poll(); return arena.refusal != "")
	say("why", arena.refusal)
"""
    async with running(project, BODY + body) as engine:
        assert "--udp" in await engine.said("why")
