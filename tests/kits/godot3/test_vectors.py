"""The reader for Godot 3 reads what the shared vectors say, in the real engine, and values as either Godot wrote them."""

from __future__ import annotations

import json
from pathlib import Path

from gateway.wire import variant
from tests.kits.godot3.engine import running
from tests.kits.vectors.make import HERE as VECTORS

BODY = """
const State = preload("res://addons/mvgateway/mvgateway_state.gd")
var good = 0
var bad = []


func cases(name):
	return JSON.parse(file("res://vectors/%s.json" % name)).result


func check(file, what, holds):
	if holds:
		good += 1
	else:
		bad.append("%s: %s" % [file, what])


func heard(message, into):
	into.append(message)


func refused(code, _detail, into):
	into.append(code)


func run():
	for case in cases("frames"):
		var frame = State.read(unhex(case["message"]))
		var same = frame.empty() == (case["frame"] == null)
		if same and not frame.empty():
			var its = case["frame"]["records"]
			same = its.size() == frame["records"].size() and frame["part"] == int(case["frame"]["part"])
			for at in its.size():
				var record = frame["records"][at]
				var text = null if record[1] == null else record[1].hex_encode()
				same = same and str(record[0]) == "%d" % its[at][0] and text == its[at][1] and (record[2] & 0xFFFFFFFF) == int(its[at][2])
		check("frames", case["name"], same)
	for case in cases("states"):
		var state = State.new()
		var same = true
		for step in case["steps"]:
			var once = {}
			for key in state.take(unhex(step[0])):
				once[key] = true
			var keys = once.keys()
			keys.sort()
			var wanted = []
			for key in step[1]:
				wanted.append(int(key))
			same = same and keys == wanted and state.epoch == int(step[2]) and state.tick == int(step[3])
		check("states", case["name"], same and JSON.print(hex(state.records), "", true) == JSON.print(case["records"], "", true))
	for case in cases("controls"):
		var made = MVGateway.new()
		var told = []
		made.connect("told", self, "heard", [told])
		made._take(unhex(case["message"]))
		check("controls", case["name"], JSON.print(told, "", true) == JSON.print([] if case["fields"] == null else [case["fields"]], "", true))
		made.free()
	for case in cases("refusals"):
		if case["code"] == "publisher_present":
			continue
		var made = MVGateway.new()
		made.token = "text"
		made.status = MVGateway.Status.CONNECTED
		made._wanted = true
		root.add_child(made)
		made.set_process(false)
		made.status = MVGateway.Status.CONNECTED
		var why = []
		made.connect("refused", self, "refused", [why])
		if case["message"] != null:
			made._take(unhex(case["message"]))
		made._close_code = int(case["close"])
		made._closed("why")
		check("refusals", case["name"], why == ([] if case["again"] else [case["code"]]))
		made.free()
	for case in JSON.parse(file("res://variants.json")).result:
		var by_3 = MVGateway.decoded(unhex(case["three"]), 3)
		var by_4 = MVGateway.decoded(unhex(case["four"]), 4)
		check("variants", case["name"] + ": " + var2str(by_3) + " " + var2str(by_4), var2str(by_3) == var2str(by_4) and case["text"] in [var2str(by_3), null])
	var Variant4 = load("res://addons/mvgateway/mvgateway_variant4.gd")
	for text in JSON.parse(file("res://broken.json")).result:
		check("broken", text, not Variant4.is_one(unhex(text)))
	say("done", [good, bad])
"""
SKIPPED = {"rid", "object", "null object"}


async def test_every_vector_is_read_as_it_says(project: Path) -> None:
    three = json.loads((Path(__file__).parents[2] / "wire" / "godot3.json").read_text())
    values, broken = (
        [],
        ["", "00", "1b", "1b000000ffffff7f", "1c000000ffffff7f", "18000000", "19000000", "27000000"],
    )
    for case in three:
        if case["name"].lower() in SKIPPED:
            continue
        data = bytes.fromhex(case["bytes"])
        four = variant.encode(variant.decode(data, godot=3)).hex()
        values.append({"name": case["name"], "three": case["bytes"], "four": four, "text": case["text"]})
        broken += [four[: 2 * size] for size in range(0, len(four) // 2, 3)]
    (project / "variants.json").write_text(json.dumps(values))
    (project / "broken.json").write_text(json.dumps(broken))
    counts = {
        name: len(json.loads((VECTORS / f"{name}.json").read_text()))
        for name in ("frames", "states", "controls")
    }
    refusals = json.loads((VECTORS / "refusals.json").read_text())
    counted = sum(counts.values()) + sum(case["code"] != "publisher_present" for case in refusals)
    async with running(project, BODY) as engine:
        good, bad = await engine.said("done")
        assert bad == []
        assert good == counted + len(values) + len(broken)
        assert len(values) > 25
        assert engine.faults() == []
