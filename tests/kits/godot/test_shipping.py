"""Games as they are shipped, and games that were: the certificate goes along, and scripts that somebody copied long ago
go on working."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from gateway.client import Publisher, Subscriber
from gateway.runtime.gateway import Gateway
from tests.client.conftest import Served, settings_in, until
from tests.kits.godot.engine import HERE, KIT, make_project, program, run_once, running
from tests.patience import HANG_S

PRESET = """[preset.0]

name="Linux"
platform="Linux"
runnable=true
export_filter="all_resources"
include_filter=""
exclude_filter=""

[preset.0.options]
"""
GAME = """extends Node


func _ready() -> void:
	Gateway.url = "%s"
	Gateway.ca_file = "res://ca.pem"
	while Gateway.records.is_empty() and Gateway.refusal == "":
		await get_tree().process_frame
	print("packed: ", Gateway.records.size(), " ", Gateway.refusal)
	get_tree().quit()
"""
SCENE = """[gd_scene load_steps=2 format=3]

[ext_resource type="Script" path="res://game.gd" id="1"]

[node name="Game" type="Node"]
script = ExtResource("1")
"""


async def test_a_game_is_exported_with_an_autoload_and_its_certificate(
    tmp_path: Path, served: Served
) -> None:
    folder = make_project(tmp_path / "project", autoload='Gateway="*res://addons/mvgateway/mvgateway.gd"')
    settings = folder / "project.godot"
    settings.write_text(
        settings.read_text().replace(
            'config/name="kit"', 'config/name="kit"\nrun/main_scene="res://game.tscn"'
        )
    )
    (folder / "export_presets.cfg").write_text(PRESET)
    shutil.copy(served.ca, folder / "ca.crt")
    (folder / "game.tscn").write_text(SCENE)
    (folder / "game.gd").write_text(GAME % served.url.replace("https", "wss"))
    run_once("--path", str(folder), "--import")
    run_once("--path", str(folder), "--export-pack", "Linux", str(tmp_path / "game.pck"))
    async with Publisher(served.url, "arena", ca=served.ca) as publisher:
        publisher.send({1: b"one"})
        process = await _engine("--main-pack", str(tmp_path / "game.pck"), cwd=tmp_path)
        assert "packed: 1 \n" in process


async def _engine(*arguments: str, cwd: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        program(), "--headless", *arguments, cwd=cwd, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), HANG_S)
    return out.decode()


def project_of(folder: Path, scripts: Path) -> Path:
    """A project with single files in it, as games have it that copied them."""
    folder.mkdir()
    for name in ("mvgateway.gd", "mvgateway_udp.gd"):
        shutil.copy(scripts / name, folder / name)
    shutil.copy(HERE / "case.gd", folder / "case.gd")
    (folder / "project.godot").write_text('config_version=5\n\n[application]\n\nconfig/name="game"\n')
    run_once("--path", str(folder), "--import")
    return folder


async def follows_and_publishes(folder: Path, gateway: Gateway, served: Served) -> None:
    assert gateway.worlds.udp is not None
    body = f"""
func node(role: String, world: String) -> MVGateway:
	var made := MVGateway.new()
	made.url = "{served.url.replace("https", "wss")}"
	made.world = world
	made.role = role
	made.ca_file = "{served.ca}"
	root.add_child(made)
	return made


func run() -> void:
	var arena := node("subscribe", "arena")
	await until(func() -> bool: return arena.records.size() == 2)
	say("follows", hex(arena.records))
	var mine := node("publish", "mine-{folder.name}")
	await until(func() -> bool: return mine.epoch > 0)
	mine.send({{5: "five".to_utf8_buffer(), 6: "six".to_utf8_buffer()}})
	mine.send({{6: null}})
	say("published")
	await told("packets")
	var packets := MVGatewayUDP.new("127.0.0.1", {gateway.worlds.udp.address[1]}, text_of("packets"))
	for tick: int in 5:
		packets.send(tick + 1, {{7: ("at %d" % tick).to_utf8_buffer()}})
		await process_frame
	await told("over")
"""
    async with Publisher(served.url, "arena", ca=served.ca) as publisher:
        publisher.send({1: b"one", 2: b"two"})
        async with running(folder, body) as engine:
            assert await engine.said("follows") == {"1": b"one".hex(), "2": b"two".hex()}
            await engine.said("published")
            async with Subscriber(served.url, f"mine-{folder.name}", ca=served.ca) as reader:
                await until(lambda: reader.records() == {5: b"five"})
            told = await gateway.worlds.udp_token(f"packets-{folder.name}")
            engine.tell("packets", told.token)
            async with Subscriber(served.url, f"packets-{folder.name}", ca=served.ca) as reader:
                await until(lambda: reader.records() == {7: b"at 4"})
            assert engine.faults() == []


async def test_single_files_work_as_they_did_before_there_was_an_addon_and_as_they_are_now(
    tmp_path: Path,
) -> None:
    gateway = await Gateway.start(settings_in(tmp_path, udp="127.0.0.1:0"))
    try:
        served = Served(gateway, tmp_path / "certs")
        for name, scripts in (("earlier", HERE / "earlier"), ("now", KIT)):
            await follows_and_publishes(project_of(tmp_path / name, scripts), gateway, served)
    finally:
        await gateway.drain(0.5)
