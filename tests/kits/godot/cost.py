"""What a frame costs GDScript, in microseconds: the kit as it is beside the one that was copied long ago, turn by
turn in one engine.

    python -m tests.kits.godot.cost

Frames of records of 100 bytes, each newer than the one before, handed to the node as the socket hands them; the best of
60 rounds, for the machine is seldom quiet. Nothing is asserted: speed is judged by who reads it.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from tests.kits.godot.engine import HERE, KIT, running

BODY = """
func message(tick: int, count: int, stride: bool) -> PackedByteArray:
	var out := StreamPeerBuffer.new()
	for part: Array in [[1, 8], [0, 8], [0, 16], [1, 16], [100 if stride else 0, 16], [1, 32], [tick, 32]]:
		match part[1]:
			8: out.put_u8(part[0])
			16: out.put_u16(part[0])
			32: out.put_u32(part[0])
	out.put_u64(0)
	var data: PackedByteArray = "x".repeat(96).to_utf8_buffer()
	for key: int in count:
		out.put_u32(key)
		if not stride:
			out.put_u32(96)
		out.put_data(data)
	return out.data_array


func run() -> void:
	for stride: bool in [false, true]:
		for count: int in [10, 100, 1800]:
			var best: Array[float] = [INF, INF]
			var nodes: Array[Node] = [load("res://earlier.gd").new(), load("res://now.gd").new()]
			for node: Node in nodes:
				node.changed.connect(func(_keys: Array[int]) -> void: pass)
			for turn: int in 60:
				var messages: Array[PackedByteArray] = []
				for at: int in 10:
					messages.append(message(turn * 10 + at + 1, count, stride))
				for which: int in 2:
					var since: int = Time.get_ticks_usec()
					for one: PackedByteArray in messages:
						nodes[which]._take(one)
					best[which] = minf(best[which], (Time.get_ticks_usec() - since) / 10.0)
			say("cost", [count, stride, best[0], best[1], nodes[0].records == nodes[1].records])
			for node: Node in nodes:
				node.free()
"""


def prepare(folder: Path) -> None:
    """A project with both scripts in it, without the name that they share."""
    for name, scripts in (("earlier", HERE / "earlier"), ("now", KIT)):
        text = (scripts / "mvgateway.gd").read_text()
        (folder / f"{name}.gd").write_text(text.replace("class_name MVGateway\n", ""))
    shutil.copy(HERE / "case.gd", folder / "case.gd")
    (folder / "project.godot").write_text("config_version=5\n")


async def main(folder: Path) -> None:
    print("records | stride | earlier, µs | now, µs")
    async with running(folder, BODY) as engine:
        for _ in range(6):
            count, stride, was, spent, same = await engine.said("cost")
            assert same
            print(f"{count:7} | {'yes' if stride else 'no':6} | {was:11.1f} | {spent:7.1f}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        prepare(Path(made))
        asyncio.run(main(Path(made)))
