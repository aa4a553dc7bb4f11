"""The Godot kit between gateways and under access control, in the real engine: it goes where its world is, takes over,
bounds and weighs what it gets, and publishes by packets under a grant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.client import Publisher, Subscriber
from tests.client.conftest import Served, until
from tests.client.test_tokens import guarded
from tests.kits.abilities import proves
from tests.kits.godot.engine import running
from tests.kits.godot.test_sessions import script
from tests.runtime.conftest import GatewayProcess
from tests.runtime.faults.driver import StoreProcess


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[GatewayProcess, GatewayProcess]]:
    """Two gateways over one store, each a process."""
    (tmp_path / "store").mkdir()
    store = StoreProcess(tmp_path / "store")
    started = [
        GatewayProcess(tmp_path, *store.flags, "--linger-ms", "200", log=tmp_path / f"{name}.log")
        for name in "ab"
    ]
    try:
        yield started[0].wait_ready(), started[1].wait_ready()
    finally:
        for one in started:
            if one.process.poll() is None:
                one.kill()
        store.kill()


def reached(gateway: GatewayProcess) -> SimpleNamespace:
    return SimpleNamespace(
        url=f"https://127.0.0.1:{gateway.port('https')}", ca=gateway.folder / "certs" / "ca.pem"
    )


@proves("godot", "homes")
async def test_a_reader_goes_to_the_gateway_that_has_its_world_and_a_publisher_is_told(
    project: Path, two: tuple[GatewayProcess, GatewayProcess]
) -> None:
    a, b = (reached(one) for one in two)
    body = """
func run() -> void:
	arena = enter(node("subscribe"))
	var _there: bool = await until(func() -> bool: return arena.records.has(1))
	say("found", arena.address)
	_there = await until(func() -> bool: return arena.records.has(2), 60.0)
	say("followed", [arena.address, hex(arena.records)])
	var other: MVGateway = enter(node("publish"))
	_there = await until(func() -> bool: return other.refusal != "")
"""
    async with Publisher(b.url, "arena", ca=b.ca) as publisher:
        publisher.send({1: b"at b"})
        async with running(project, script(a, body)) as engine:
            assert await engine.said("found") == b.url.replace("https", "wss")
            async with Publisher(a.url, "arena", ca=a.ca, takeover=True) as other:
                other.send({1: b"at a", 2: b"also"})
                assert await engine.said("moved") == "arena"
                address, records = await engine.said("followed")
                assert address == a.url.replace("https", "wss")
                assert records == {"1": b"at a".hex(), "2": b"also".hex()}
                assert (await engine.said("refused"))[0] == "publisher_present"


async def test_a_reader_comes_back_to_the_gateway_that_it_was_given_when_the_other_dies(
    project: Path, two: tuple[GatewayProcess, GatewayProcess]
) -> None:
    a, b = (reached(one) for one in two)
    body = """
func run() -> void:
	arena = enter(node("subscribe"))
	var _there: bool = await until(func() -> bool: return arena.records.has(1))
	say("found", arena.address)
	_there = await until(func() -> bool: return arena.records.has(2), 60.0)
	say("back", [arena.address, hex(arena.records)])
"""
    async with Publisher(b.url, "arena", ca=b.ca) as publisher:
        publisher.send({1: b"at b"})
        await publisher.wait_durable()
        async with running(project, script(a, body)) as engine:
            assert await engine.said("found") == b.url.replace("https", "wss")
            two[1].kill()
            async with Publisher(a.url, "arena", ca=a.ca, takeover=True) as other:
                other.send({1: b"at a", 2: b"also"}, keyframe=True)
                address, records = await engine.said("back")
                assert address == a.url.replace("https", "wss")
                assert records == {"1": b"at a".hex(), "2": b"also".hex()}


async def test_who_takes_over_goes_on_and_comes_back_as_itself(project: Path, served: Served) -> None:
    body = """
func run() -> void:
	arena = node("publish")
	arena.takeover = true
	arena = enter(arena)
	var _there: bool = await until(func() -> bool: return arena.epoch > 0)
	var _sent: int = arena.send({2: "two".to_utf8_buffer()}, true)
	say("in", [arena.epoch, arena.takeover])
	arena._socket.close(4000, "as if the path had broken")
	_there = await until(func() -> bool: return arena.status != MVGateway.Status.CONNECTED)
	_there = await until(func() -> bool: return arena.status == MVGateway.Status.CONNECTED)
	_sent = arena.send({3: "three".to_utf8_buffer()})
	say("back", arena.epoch)
	_there = await told("taken")
"""
    async with Publisher(served.url, "arena", ca=served.ca) as publisher:
        publisher.send({1: b"one"})
        async with running(project, script(served, body)) as engine:
            assert await engine.said("in") == [2, False]
            assert await engine.said("back") == 2
            async with Subscriber(served.url, "arena", ca=served.ca) as reader:
                await until(lambda: reader.records() == {2: b"two", 3: b"three"})


@proves("godot", "focus")
async def test_weights_and_a_budget_reach_the_gateway(project: Path, served: Served) -> None:
    body = """
func run() -> void:
	arena = node("subscribe")
	arena.budget_kbps = 512
	arena.weights = {7: 8.0}
	arena = enter(arena)
	var _there: bool = await until(func() -> bool: return arena.epoch > 0)
	say("in")
	_there = await told("weighed")
	arena.focus({9: 4.0, 10: 0.5})
	_there = await told("weighed anew")
"""
    async with Publisher(served.url, "arena", ca=served.ca) as publisher:
        publisher.send({1: b"one"})
        async with running(project, script(served, body)) as engine:
            await engine.said("in")
            host = await served.gateway.worlds.host("arena")
            (session,) = host.world.subscribers
            await until(lambda: session.reader.weights == {7: 8})
            engine.tell("weighed")
            await until(lambda: session.reader.weights == {9: 4, 10: 0.5})


async def test_packets_are_published_under_a_grant_and_under_the_next_one(
    project: Path, tmp_path: Path
) -> None:
    async with guarded(tmp_path, udp="127.0.0.1:0") as door:
        mv = {"pub": ["arena"]}
        long = door.studio.token(mv, sub="s")
        body = f"""
var asked: int = 0


func run() -> void:
	say("ready")
	await told("short")
	var short: String = text_of("short")
	var by: Callable = func() -> String: asked += 1; return short if asked == 1 else "{long}"
	var packets := MVGatewayUDP.open("{door.url}", "arena", "{door.ca}", by)
	packets.connected.connect(func() -> void: say("connected", packets.epoch))
	packets.disconnected.connect(func(reason: String) -> void: say("disconnected", reason))
	packets.refused.connect(func(code: String, _detail: String) -> void: say("refused", code))
	while not FileAccess.file_exists("res://told-granted"):
		var _tick: int = packets.send(0, {{1: ("%d" % asked).to_utf8_buffer()}})
		await process_frame
	var bare := MVGatewayUDP.open("{door.url}", "arena", "{door.ca}", "no token")
	bare.refused.connect(func(code: String, _detail: String) -> void: say("bare", code))
	await until(func() -> bool: bare.poll(); return bare.refusal != "")
"""
        async with running(project, body) as engine:
            await engine.said("ready")
            engine.tell("short", door.studio.token(mv, for_s=6.0, sub="s"))
            assert await engine.said("connected") == 1
            await engine.said("disconnected")
            assert await engine.said("connected") == 2
            async with door.subscriber(door.studio.token({"sub": ["arena"]})) as reader:
                await until(lambda: reader.epoch == 2 and reader.records() == {1: b"2"})
            engine.tell("granted")
            assert await engine.said("bare") == "unauthorized"
