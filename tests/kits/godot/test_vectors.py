"""The Godot kit reads and makes what the shared vectors say, in the real engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.kits.abilities import proves
from tests.kits.godot.engine import running
from tests.kits.vectors.make import HERE

BODY = """
func cases(name: String) -> Array:
	return JSON.parse_string(FileAccess.get_file_as_string("res://vectors/%s.json" % name))


func reader(role: String = "subscribe") -> MVGateway:
	var made := MVGateway.new()
	made.role = role
	return made


func data_of(text: Variant) -> Variant:
	return null if text == null else (text as String).hex_decode()


func run() -> void:
	for case: Dictionary in cases("frames"):
		var packet: PackedByteArray = case["message"].hex_decode()
		var keys: Array[int] = []
		var values: Array = []
		var orders: PackedInt64Array = []
		var good: bool = packet.size() >= 24 and MVGateway._read(packet, packet[1], 0, packet.decode_u32(12), keys, values, orders)
		if good and case["frame"] != null:
			var its: Array = case["frame"]["records"]
			good = its.size() == keys.size()
			for at: int in its.size():
				good = good and keys[at] == int(its[at][0]) and values[at] == data_of(its[at][1]) and orders[at] == int(its[at][2])
		var made := reader()
		made._take(packet)
		if case["frame"] == null and not (made.records.is_empty() and made.epoch == 0):
			good = true
		check("frames", case["name"], good == (case["frame"] != null))
		made.free()
	for case: Dictionary in cases("made"):
		var changes: Dictionary = {}
		for record: Array in case["records"]:
			changes[int(record[0])] = data_of(record[1])
		var message: PackedByteArray = MVGateway.encode(int(case["epoch"]), int(case["tick"]), changes, 1 if case["keyframe"] else 0, 0, 1, int(case["sent_at"]))
		check("made", case["name"], message.hex_encode() == case["message"])
	for case: Dictionary in cases("states"):
		var made := reader()
		var told_keys: Array = []
		made.changed.connect(func(keys: Array[int]) -> void: told_keys.assign(keys))
		var same: bool = true
		for step: Array in case["steps"]:
			told_keys.clear()
			made._take(step[0].hex_decode())
			var once: Dictionary = {}
			for key: int in told_keys:
				once[key] = true
			var sorted: Array = once.keys()
			sorted.sort()
			var wanted: Array = step[1].map(func(key: float) -> int: return int(key))
			if sorted != wanted or made.epoch != int(step[2]) or made.tick != int(step[3]):
				if same:
					say("differs", [case["name"], step, sorted, made.epoch, made.tick])
				same = false
		check("states", case["name"], same and hex(made.records) == case["records"])
		made.free()
	for case: Dictionary in cases("controls"):
		var made := reader()
		var heard: Array = []
		made.told.connect(func(message: Dictionary) -> void: heard.append(message))
		made._take(case["message"].hex_decode())
		check("controls", case["name"], heard == ([] if case["fields"] == null else [case["fields"]]))
		made.free()
	for case: Dictionary in cases("refusals"):
		var made := reader("publish")
		made.token = "text"
		root.add_child(made)
		made.set_process(false)
		made.status = MVGateway.Status.CONNECTED
		var why: Array = []
		made.refused.connect(func(code: String, _detail: String) -> void: why.append(code))
		if case["message"] != null:
			made._take(case["message"].hex_decode())
		made._closed(int(case["close"]), "why")
		check("refusals", case["name"], why == ([] if case["again"] else [case["code"]]) and (made.refusal == "") == case["again"])
		made.free()
	for case: Dictionary in cases("tokens"):
		if case.has("token"):
			check("tokens", case["token"], MVGateway._expiry(case["token"]) == (INF if case["expires"] == null else case["expires"]))
	for case: Dictionary in cases("entities"):
		var head: Dictionary = MVGatewayEntities.entity_in(case["message"].hex_decode())
		var same: bool = head["state"].hex_encode() == case["state"]
		for field: String in case["head"]:
			same = same and (head[field] == case["head"][field])
		var again: Dictionary = MVGatewayEntities.entity_in(MVGatewayEntities.entity_message(case["head"], head["state"]))
		check("entities", case["head"]["id"], same and again == head)
	say("done", [good_ones, bad_ones])


var good_ones: int = 0
var bad_ones: Array = []


func check(file: String, what: String, holds: bool) -> void:
	if holds:
		good_ones += 1
	else:
		bad_ones.append("%s: %s" % [file, what])
"""


@proves("godot", "vectors")
async def test_every_vector_is_read_and_made_as_it_says(project: Path) -> None:
    shutil.copytree(
        HERE, project / "vectors", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.py", "__*")
    )
    count = sum(len(json.loads(path.read_text())) for path in sorted(HERE.glob("*.json")))
    margins = sum("left_s" in case for case in json.loads((HERE / "tokens.json").read_text()))
    async with running(project, BODY) as engine:
        good, bad = await engine.said("done")
        assert bad == [], [value for name, value in engine.unread() if name == "differs"][:3]
        assert good == count - margins
