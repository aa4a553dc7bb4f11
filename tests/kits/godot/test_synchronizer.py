"""Nodes that follow nodes: the Godot kit's synchronizer and its example project in the real engine."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest_asyncio

from gateway.client import Entities, Subscriber
from gateway.runtime.gateway import Gateway
from tests.client.conftest import Served, settings_in, until
from tests.kits.abilities import proves
from tests.kits.godot.engine import KIT, errors_in, run_once, running

SKELETON = """
func scene_of(bones: int) -> PackedScene:
	var root_node := Node3D.new()
	var skeleton := Skeleton3D.new()
	skeleton.name = "Skeleton"
	root_node.add_child(skeleton)
	skeleton.owner = root_node
	for bone: int in bones:
		skeleton.add_bone("bone%d" % bone)
		if bone > 0:
			skeleton.set_bone_parent(bone, bone - 1)
	var packed := PackedScene.new()
	packed.pack(root_node)
	ResourceSaver.save(packed, "res://skeleton.tscn")
	root_node.free()
	return load("res://skeleton.tscn")


func gateway(role: String) -> MVGateway:
	var made := MVGateway.new()
	made.url = "{url}"
	made.ca_file = "{ca}"
	made.role = role
	root.add_child(made)
	return made


func synchronizer(by: MVGateway, scenes: Array[PackedScene]) -> MVGatewaySynchronizer:
	var made := MVGatewaySynchronizer.new()
	var place := Node3D.new()
	root.add_child(place)
	made.scenes = scenes
	made.root_path = place.get_path()
	made.gateway = by
	return made

"""


def script(served: Served, body: str) -> str:
    return (
        SKELETON.replace("{url}", served.url.replace("https", "wss")).replace("{ca}", str(served.ca)) + body
    )


@proves("godot", "nodes")
async def test_scenes_come_move_and_go_as_on_the_server(project: Path, served: Served) -> None:
    body = """
func run() -> void:
	var config := SceneReplicationConfig.new()
	config.add_property(^".:transform")
	config.add_property(^"Skeleton:bone_poses")
	var scenes: Array[PackedScene] = [load("res://avatars/avatar.tscn"), scene_of(56)]
	var server := gateway("publish")
	var from := synchronizer(server, scenes)
	from.config = config
	root.add_child(from)
	await until(func() -> bool: return server.epoch > 0)
	var client := gateway("subscribe")
	var to := synchronizer(client, scenes)
	to.config = config
	to.spawned.connect(func(node: Node, key: int) -> void: say("spawned", [key, node.scene_file_path]))
	to.despawned.connect(func(_node: Node, key: int) -> void: say("despawned", key))
	root.add_child(to)
	var here: Node = root.get_node(from.root_path)
	var there: Node = root.get_node(to.root_path)
	var one: Node3D = scenes[0].instantiate()
	var two: Node3D = scenes[1].instantiate()
	here.add_child(one)
	here.add_child(two)
	await until(func() -> bool: return there.get_child_count() == 2)
	var key: int = from.key_of(two)
	say("bytes", server.records[key].size())
	for turn: int in 40:
		one.position.x += 0.1
		two.rotate_y(0.05)
		var skeleton: Skeleton3D = two.get_node("Skeleton")
		for bone: int in 56:
			skeleton.set_bone_pose_rotation(bone, Quaternion.from_euler(Vector3(bone * 0.1, turn * 0.05, 0.3)))
		await process_frame
	await until(func() -> bool: return client.records == server.records)
	var mine: Node3D = to.nodes[from.key_of(one)]
	var theirs: Node3D = to.nodes[key]
	await until(func() -> bool: return mine.position.is_equal_approx(one.position) and theirs.transform.origin.is_equal_approx(two.transform.origin))
	await wait(0.7)
	say("rests", [mine.position.is_equal_approx(one.position)])
	var worst: float = 0.0
	for bone: int in 56:
		var q: Quaternion = (two.get_node("Skeleton") as Skeleton3D).get_bone_pose_rotation(bone)
		var its: Quaternion = (theirs.get_node("Skeleton") as Skeleton3D).get_bone_pose_rotation(bone)
		worst = maxf(worst, minf((q - its).length(), (q + its).length()))
	say("worst", worst)
	two.queue_free()
	await until(func() -> bool: return there.get_child_count() == 1)
	say("left", [there.get_child_count(), there.get_child(0) == mine])
	from.quantised = false
	one.position = Vector3(7, 8, 9)
	await until(func() -> bool: return mine.position.is_equal_approx(Vector3(7, 8, 9)))
	say("exact", mine.position == Vector3(7, 8, 9))
"""
    async with running(project, script(served, body)) as engine:
        assert sorted([await engine.said("spawned"), await engine.said("spawned")]) == [
            [1, "res://avatars/avatar.tscn"],
            [2, "res://skeleton.tscn"],
        ]
        assert await engine.said("bytes") <= 56 * 100
        assert await engine.said("rests") == [True]
        assert await engine.said("worst") < 0.0002
        assert await engine.said("despawned") == 2
        assert await engine.said("left") == [1, True]
        assert await engine.said("exact") is True
        assert engine.faults() == []


async def test_a_node_goes_to_sleep_with_its_entity_and_wakes_with_it(project: Path, served: Served) -> None:
    body = """
func run() -> void:
	var scenes: Array[PackedScene] = [load("res://avatars/avatar.tscn")]
	var server := gateway("publish")
	var from := synchronizer(server, scenes)
	from.properties = [^".:position"]
	from.spawned.connect(func(_node: Node, key: int) -> void: say("spawned", key))
	from.despawned.connect(func(_node: Node, key: int) -> void: say("despawned", key))
	root.add_child(from)
	var here: Node = root.get_node(from.root_path)
	for at: int in 2:
		var node: Node3D = scenes[0].instantiate()
		here.add_child(node)
		node.position = Vector3(at, 2, 3)
	await until(func() -> bool: return server.epoch > 0 and server.records.size() == 2)
	await server.wait_durable()
	say("two")
	await until(func() -> bool: return here.get_child_count() == 1)
	(here.get_child(0) as Node3D).position.x = 9.0
	await told("wake")
	await until(func() -> bool: return here.get_child_count() == 2)
	say("woken", [from.nodes[2].position == Vector3(1, 2, 3), from.key_of(from.nodes[2])])
	from.nodes[2].position = Vector3(4, 4, 4)
	await told("walked")
	here.remove_child(from.nodes[2])
	await told("gone")
"""
    async with (
        running(project, script(served, body)) as engine,
        Entities(served.url, "arena", ca=served.ca) as entities,
    ):
        await engine.said("two")
        async with Subscriber(served.url, "arena", ca=served.ca) as reader:
            await until(lambda: len(reader.records()) == 2)
            before = reader.records()
            await entities.hibernate("sleeper", 2)
            assert await engine.said("despawned") == 2
            await until(lambda: reader.records().keys() == {1} and reader.records()[1] != before[1])
            await entities.wake("sleeper", 2)
            engine.tell("wake")
            assert await engine.said("spawned") == 2
            assert await engine.said("woken") == [True, 2]
            await until(lambda: reader.records().get(2) not in (None, before[2]))
            engine.tell("walked")
            await until(lambda: reader.records().keys() == {1})
        assert engine.faults() == []


async def test_values_come_back_as_they_were_packed_and_damaged_ones_are_none(project: Path) -> None:
    body = """
func run() -> void:
	seed(7)
	var worst: float = 0.0
	for turn: int in 2000:
		var q := Quaternion(randfn(0, 1), randfn(0, 1), randfn(0, 1), randfn(0, 1)).normalized()
		var its: Quaternion = MVGatewayPacking.from_smallest_three(MVGatewayPacking.smallest_three(q))
		worst = maxf(worst, minf((q - its).length(), (q + its).length()))
	say("worst", worst)
	var poses: Array[Transform3D] = [Transform3D.IDENTITY, Transform3D(Basis.from_scale(Vector3(2, 2, 2)), Vector3(1, 2, 3))]
	var values: Array = [true, 0.5, Vector2(1, 2), Vector3(1, 2, 3), Quaternion.IDENTITY, Basis.IDENTITY, Transform3D(Basis.IDENTITY, Vector3(1e6, 0, -3)), Color.RED, poses, "text", 7, null, [1, 2], Vector3i(1, 2, 3)]
	for quantised: bool in [true, false]:
		var data: PackedByteArray = MVGatewayPacking.pack(3, values, quantised)
		var told_: Dictionary = MVGatewayPacking.unpack(data)
		var same: Array = []
		for at: int in values.size():
			var was: Variant = values[at]
			var its: Variant = told_["values"][at]
			same.append(its.is_equal_approx(was) if was is Basis or was is Transform3D or was is Quaternion else its == was)
		say("same", [told_["class"], same.count(true), values.size()])
		var whole: int = 0
		for length: int in data.size():
			if MVGatewayPacking.unpack(data.slice(0, length)).get("values", []).size() == values.size():
				whole += 1
		for turn: int in 3000:
			var bad: PackedByteArray = data.duplicate()
			for times: int in 1 + turn % 4:
				bad[randi() % bad.size()] = randi() % 256
			MVGatewayPacking.unpack(bad)
		say("whole", whole)
"""
    async with running(project, body) as engine:
        assert await engine.said("worst") < 0.0002
        for _ in range(2):
            assert await engine.said("same") == [3, 14, 14]
            assert await engine.said("whole") == 0
        await engine.said("end")


async def test_what_is_shown_is_as_much_later_as_the_network_is_uneven(project: Path) -> None:
    body = """
func run() -> void:
	seed(3)
	var jitter := MVGatewayJitter.new()
	var now: float = 100.0
	var sent: float = 5000.0
	var coming: Array[Vector2] = []
	for part: int in 3:
		var uneven: float = [0.0, 0.06, 0.0][part]
		var short: int = 0
		var frames: int = 0
		var back: int = 0
		var before: float = -INF
		for frame: int in 60 * 30:
			now += 1.0 / 60.0
			sent += 1.0 / 60.0
			coming.append(Vector2(now + 0.02 + randf() * uneven, sent - 5000.0))
			coming.sort_custom(func(a: Vector2, b: Vector2) -> bool: return a.x < b.x)
			while not coming.is_empty() and coming[0].x <= now:
				var one: Vector2 = coming.pop_front()
				jitter.come(one.y + 5000.0, one.x)
			if frame < 60 or jitter.newest_s == -INF:
				continue
			var at: float = jitter.shown(now)
			frames += 1
			if at > jitter.newest_s + 0.0005:
				short += 1
			if at < before:
				back += 1
			before = at
		say("part", [short * 100.0 / frames, back, jitter.delay_s * 1000.0])
	say("another film", [jitter.come(sent - 60.0, now), jitter.come(sent - 60.0 + 0.016, now + 0.016)])
"""
    async with running(project, body) as engine:
        even, uneven, even_again = [await engine.said("part") for _ in range(3)]
        assert even[0] < 5
        assert even[2] < 40
        assert uneven[0] < 3
        assert 55 < uneven[2] < 100
        assert even_again[2] < 40
        assert (even[1], uneven[1], even_again[1]) == (0, 0, 0)
        assert await engine.said("another film") == [True, False]


@pytest_asyncio.fixture
async def recording(tmp_path: Path) -> AsyncIterator[Served]:
    """A gateway that keeps all of its worlds, however long the engines take."""
    gateway = await Gateway.start(settings_in(tmp_path, retention="record"))
    yield Served(gateway, tmp_path / "certs")
    await gateway.drain(2.0)


async def test_the_example_shows_ten_avatars_smoothly_and_plays_them_again(
    project: Path, recording: Served
) -> None:
    served = recording
    trust = [f"--url={served.url.replace('https', 'wss')}", f"--ca={served.ca}"]
    walks = """
func run() -> void:
	var scene: Node = (load("res://avatars/server.tscn") as PackedScene).instantiate()
	root.add_child(scene)
	await until(func() -> bool: return scene.gateway.records.size() == 10 and scene.gateway.epoch > 0)
	say("walks")
	await told("over")
"""
    shows = """
func run() -> void:
	var client: Node = (load("res://avatars/client.tscn") as PackedScene).instantiate()
	root.add_child(client)
	var walkers: Node = client.get_node("Walkers")
	await until(func() -> bool: return walkers.get_child_count() == 10)
	await wait(1.0)
	var before: Array = walkers.get_children().map(func(n: Node3D) -> Vector3: return n.position)
	var shown_before: float = client.synchronizer.shown_s
	var jumps: int = 0
	var moved: int = 0
	var steps: int = 0
	for frame: int in 240:
		await process_frame
		var shown: float = client.synchronizer.shown_s
		for at: int in 10:
			var here: Vector3 = walkers.get_child(at).position
			var way: float = here.distance_to(before[at])
			jumps += 1 if way > 0.2 + 20.0 * absf(shown - shown_before) else 0
			moved += 1 if way > 0.0 else 0
			steps += 1
			before[at] = here
		shown_before = shown
	say("shown", [walkers.get_child_count(), jumps * 1.0 / steps, moved * 1.0 / steps, absf(walkers.get_node("record_4").tint.h - 0.3) < 0.01])
"""
    plays = """
func run() -> void:
	var scene: Node = (load("res://avatars/film.tscn") as PackedScene).instantiate()
	root.add_child(scene)
	var walkers: Node = scene.get_node("Walkers")
	await until(func() -> bool: return walkers.get_child_count() == 10 and scene.last > 0)
	say("span", [scene.first < 50, scene.last > 100])
	scene.show_tick(50)
	await until(func() -> bool: return scene.film.tick == 50)
	var line: HSlider = scene.get_node("Controls/Line")
	await until(func() -> bool: return line.value == 50)
	var there: Vector3 = walkers.get_child(0).position
	scene.play()
	await until(func() -> bool: return scene.film.tick > 80)
	scene.film.pause()
	await until(func() -> bool: return walkers.get_child(0).position != there)
	say("played", [line.value > 60, walkers.get_child(0).position != there])
"""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running(project, walks, "--", *trust, name="walks"))
        await server.said("walks")
        client = await stack.enter_async_context(running(project, shows, "--", *trust, name="shows"))
        count, jumps, moved, tinted = await client.said("shown")
        assert (count, tinted) == (10, True)
        assert jumps < 0.03, "avatars jumped: none walks faster than 12 m/s"
        assert moved > 0.3
        assert client.faults() == []
        async with Subscriber(served.url, "avatars", ca=served.ca) as reader:
            await until(lambda: len(reader.records()) == 10 and reader.tick > 150)
            host = await served.gateway.worlds.host("avatars")
            journal = host.world.journal
            await until(lambda: journal.durable is not None and journal.durable.tick > 150)
        film = await stack.enter_async_context(running(project, plays, "--", *trust, name="plays"))
        assert await film.said("span") == [True, True]
        assert await film.said("played") == [True, True]
        assert film.faults() == []
        server.tell("over")


def test_the_example_is_a_project_that_imports_and_starts_without_an_error(
    project: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "example"
    shutil.copytree(KIT / "example", folder)
    said = run_once("--path", str(folder), "--import")
    assert errors_in(said) == []
    said = run_once("--path", str(folder), "--quit-after", "5", "--", "--url=wss://127.0.0.1:1")
    assert errors_in(said) == []
