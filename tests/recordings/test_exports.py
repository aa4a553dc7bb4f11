"""Recordings as CSV, Parquet, MCAP and glTF: each opened again by its own library, and what it holds is the journal's."""

from __future__ import annotations

import base64
import csv
import itertools
import json
import math
import re
import shlex
import signal
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pygltflib
import pytest
from mcap.reader import make_reader

from gateway import limits
from gateway.cli import _progress, main
from gateway.cli._motion import Avatars
from gateway.core.state import WorldState
from gateway.errors import TooLarge
from gateway.recordings.exports import Step, open_export
from gateway.recordings.films import FilmWriter
from gateway.recordings.recording import MAKE_STATE, Moment, open_film
from gateway.store.embedded import EmbeddedStore
from gateway.store.world import Retention, WorldDatabase
from gateway.wire import Frame, Record, encode_frame, split
from gateway.wire.journal import Batch, Gap, JournalFrame
from gateway.wire.layouts import parse, pose_of, resolve
from gateway.wire.layouts.poses import rotated
from gateway.wire.xrgrid import EntityPacket

BEGIN_US = 1_790_000_000_000_000
TICK_US = 50_000
GAP, GONE, BACK, RESTS = 30, 40, 60, range(70, 90)
LAST = 100
FORMS = ["goal.csv", "goal.parquet", "goal.mcap", "goal.glb"]


def film(path: Path, layout: str | None = "avatars") -> Path:
    """Three walkers: the third goes at one tick and is back at another, the second stands still for a while; a gap."""
    walkers = Avatars(3, hz=20.0)
    first = [Record(key, data) for key, data in walkers.frame(0).items()]
    stride = len(first[0].data or b"")
    with FilmWriter(
        path, world="arena", stride=stride, now_us=1, layout=None if layout is None else resolve(layout)
    ) as film:
        film.begin([encode_frame(Frame(1, 1, first, keyframe=True))], received_at_us=BEGIN_US)
        for tick in range(2, LAST + 1):
            rows: list[Record] = [Record(key, data) for key, data in walkers.frame(tick).items()]
            if GONE <= tick < BACK:
                rows[2] = Record(rows[2].key, None)
                rows = rows if tick == GONE else rows[:2]
            if tick in RESTS:
                del rows[1]
            if tick == GAP:
                film.add(Gap(1, GAP, GAP, "unseen"))
                continue
            at_us = BEGIN_US + tick * TICK_US
            film.add(
                JournalFrame(
                    0, 1, tick, at_us, at_us, False, (encode_frame(Frame(1, tick, rows, sent_at=at_us)),)
                )
            )
        film.mark("goal", 1, 50, BEGIN_US + 50 * TICK_US, None)
    return path


Journal = dict[tuple[int, int], bytes | None]


def journal(path: Path) -> Journal:
    """What the film says, read by other code: the values of each tick that its publisher's rows set."""
    from gateway.wire import decode_frame

    with open_film(path) as recording:
        said: Journal = {(1, key): data for key, data in recording.snapshot(Moment(1, 1)).records.items()}
        for item in recording.history.frames():
            if isinstance(item, Gap):
                continue
            for message in item.messages:
                frame = decode_frame(message)
                said.update({(item.tick, record.key): record.data for record in frame.records})
    return said


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("film") / "arena.sqlite")


def clip(source: Path, out: Path, *words: str) -> Path:
    assert main(["clip", str(source), "--out", str(out), *words]) == 0
    return out


def position(record: bytes) -> list[float]:
    found: list[float] = EntityPacket.decode(record).as_json()["position_m"]  # type: ignore[assignment]
    return found


def test_a_csv_has_a_row_for_each_record_that_was_said(filmed: Path, tmp_path: Path) -> None:
    with clip(filmed, tmp_path / "goal.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    said = journal(filmed)
    assert [(int(row["tick"]), int(row["key"])) for row in rows] == list(said)
    for row, record in zip(rows, said.values(), strict=True):
        assert row["gone"] == str(int(record is None))
        if record is None:
            assert row["position_0"] == row["player"] == ""
            continue
        packet = EntityPacket.decode(record)
        assert [float(row[f"position_{i}"]) for i in range(3)] == pytest.approx(position(record))
        assert row["player"] == packet.payload.split(b"\0", 1)[0].decode()
        tick = int(row["tick"])
        assert datetime.fromisoformat(row["time"]).timestamp() == pytest.approx(
            (BEGIN_US + (tick if tick > 1 else 0) * TICK_US) / 1e6
        )


def test_a_parquet_has_the_layout_as_its_schema(filmed: Path, tmp_path: Path) -> None:
    table = pq.read_table(clip(filmed, tmp_path / "goal.parquet"))
    said = journal(filmed)
    assert list(zip(table["tick"].to_pylist(), table["key"].to_pylist(), strict=True)) == list(said)
    assert table.schema.field("position_1").metadata == {b"unit": b"m"}
    assert str(table.schema.field("time").type) == "timestamp[us, tz=UTC]"
    assert json.loads(table.schema.metadata[b"layout"])["name"] == "avatars"
    for row, record in zip(table.to_pylist(), said.values(), strict=True):
        assert row["gone"] is (record is None)
        if record is not None:
            assert [row[f"position_{i}"] for i in range(3)] == pytest.approx(position(record))
            assert row["id"] == row["key"]
    assert table["time"][0].as_py() == datetime.fromtimestamp(BEGIN_US / 1e6, UTC)


def messages(path: Path) -> Iterator[tuple[str, str, int, Any]]:
    with path.open("rb") as file:
        for schema, channel, message in make_reader(file).iter_messages(log_time_order=False):
            assert schema is not None
            yield channel.topic, schema.name, message.log_time, json.loads(message.data)


def test_an_mcap_has_values_by_field_and_a_scene_that_foxglove_draws(filmed: Path, tmp_path: Path) -> None:
    path, said = clip(filmed, tmp_path / "goal.mcap"), journal(filmed)
    found: Journal = {}
    placed: dict[tuple[int, int], list[float]] = {}
    ticks: dict[int, int] = {}
    for topic, schema, log_time, message in messages(path):
        if topic == "/arena/records":
            assert schema == "mvgateway.Records"
            ticks[log_time] = message["tick"]
            found.update({(message["tick"], key): None for key in message["gone"]})
            for values in message["records"]:
                found[message["tick"], values["key"]] = b""
                assert values["position"] == pytest.approx(
                    position(said[message["tick"], values["key"]] or b"")
                )
        else:
            assert (topic, schema) == ("/arena/scene", "foxglove.SceneUpdate")
            for entity in message["entities"]:
                at = entity["arrows"][0]["pose"]["position"]
                placed[ticks[log_time], int(entity["id"])] = [at["x"], at["z"], -at["y"]]
                assert entity["texts"][0]["text"].startswith("avatar-")
                assert entity["timestamp"]["sec"] * 10**9 + entity["timestamp"]["nsec"] == log_time
            assert [int(one["id"]) for one in message["deletions"]] == [
                key for (tick, key), data in said.items() if tick == ticks[log_time] and data is None
            ]
    assert {place: data is None for place, data in found.items()} == {
        place: data is None for place, data in said.items()
    }
    assert placed == {
        place: pytest.approx(position(data)) for place, data in said.items() if data is not None
    }
    with path.open("rb") as file:
        summary = make_reader(file).get_summary()
        facts = {one.name: dict(one.metadata) for one in make_reader(file).iter_metadata()}
    assert summary is not None
    schema_text = next(one.data for one in summary.schemas.values() if one.name == "mvgateway.Records")
    members = json.loads(schema_text)["properties"]["records"]["items"]["properties"]
    assert members["position"] == {"type": "array", "items": {"type": "number"}, "description": "m"}
    assert facts["mark"]["name"] == "goal"
    assert facts["layout"]["name"] == "avatars"


# -- glTF ----------------------------------------------------------------------------------

COUNTS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}
SIZES = {5126: ("f", 4), 5123: ("H", 2)}


class Gltf:
    """A scene as its library reads it, with its numbers."""

    def __init__(self, path: Path) -> None:
        self.file = pygltflib.GLTF2().load(str(path))
        if path.suffix == ".glb":
            self.body = self.file.binary_blob()
        else:
            self.body = (path.parent / self.file.buffers[0].uri).read_bytes()
        assert self.file.buffers[0].byteLength == len(self.body)

    def numbers(self, index: int) -> list[tuple[float, ...]]:
        accessor = self.file.accessors[index]
        view = self.file.bufferViews[accessor.bufferView]
        code, size = SIZES[accessor.componentType]
        many = COUNTS[accessor.type]
        begin, end = accessor.byteOffset or 0, (accessor.byteOffset or 0) + accessor.count * many * size
        assert begin % size == 0
        assert end <= view.byteLength  # accessors stay within their views, views within the buffer
        assert view.byteOffset % 4 == 0
        assert view.byteOffset + view.byteLength <= len(self.body)
        found = struct.unpack_from(f"<{accessor.count * many}{code}", self.body, view.byteOffset + begin)
        rows = [found[i : i + many] for i in range(0, len(found), many)]
        if accessor.min:
            assert [min(column) for column in zip(*rows, strict=True)] == accessor.min
            assert [max(column) for column in zip(*rows, strict=True)] == accessor.max
        return rows

    def channels(self) -> dict[str, dict[str, list[tuple[float, tuple[float, ...]]]]]:
        """Node → path → (seconds, value), by the rules of animations."""
        found: dict[str, dict[str, list[tuple[float, tuple[float, ...]]]]] = {}
        for channel in self.file.animations[0].channels:
            sampler = self.file.animations[0].samplers[channel.sampler]
            times = [one[0] for one in self.numbers(sampler.input)]
            assert len(self.file.accessors[sampler.input].min) == 1
            assert all(a < b for a, b in itertools.pairwise(times))
            assert times[0] >= 0
            values = self.numbers(sampler.output)
            node = self.file.nodes[channel.target.node].name
            assert channel.target.path not in found.setdefault(node, {})
            found[node][channel.target.path] = list(zip(times, values, strict=True))
        return found


def at(series: list[tuple[float, tuple[float, ...]]], seconds: float) -> tuple[float, ...]:
    """As a player shows it: LINEAR."""
    if seconds <= series[0][0]:
        return series[0][1]
    for (t0, v0), (t1, v1) in itertools.pairwise(series):
        if t0 <= seconds <= t1:
            share = (seconds - t0) / (t1 - t0)
            return tuple(a + share * (b - a) for a, b in zip(v0, v1, strict=True))
    return series[-1][1]


@pytest.mark.parametrize("name", ["goal.glb", "goal.gltf"])
def test_a_gltf_moves_as_the_records_did(filmed: Path, tmp_path: Path, name: str) -> None:
    scene = Gltf(clip(filmed, tmp_path / name))
    moves, said = scene.channels(), journal(filmed)
    assert set(moves) == {"avatar-0", "avatar-1", "avatar-2"}
    keys = {node.name: node.extras["key"] for node in scene.file.nodes}
    assert scene.file.scenes[0].nodes == [0, 1, 2]
    for name_, paths in moves.items():
        last = None
        for tick in set(range(1, LAST + 1)) - {GAP}:
            seconds = (tick if tick > 1 else 0) * TICK_US / 1e6
            record = said.get((tick, keys[name_]), last)
            if record is None:
                continue
            last = record
            if name_ == "avatar-2" and GONE <= tick < BACK:
                continue
            assert at(paths["translation"], seconds) == pytest.approx(position(record), abs=2e-4), tick
        for _, turned in paths["rotation"]:
            assert math.hypot(*turned) == pytest.approx(1, abs=1e-5)
        turns = [turned for _, turned in paths["rotation"]]
        assert all(
            sum(a * b for a, b in zip(x, y, strict=True)) >= -1e-6 for x, y in itertools.pairwise(turns)
        )
    there = moves["avatar-2"]["scale"]
    assert [value[0] for _, value in there] == [1.0, 0.0, 1.0]
    assert [seconds for seconds, _ in there] == pytest.approx([0, GONE * 0.05, BACK * 0.05], abs=1e-4)
    assert "scale" not in moves["avatar-0"]


def test_what_looks_along_its_heading_does_so_in_every_form() -> None:
    """By hand: where y is up from +z towards +x, where z is up from +x towards +y."""
    fields = [
        {"name": "at", "type": "vec3", "offset": 0},
        {"name": "angle", "type": "f32", "offset": 12},
    ]
    for up, angle, forward in [
        ("y", 0.0, (0, 0, 1)),
        ("y", math.pi / 2, (1, 0, 0)),
        ("z", 0.0, (1, 0, 0)),
        ("z", math.pi / 2, (0, 0, -1)),  # +y of theirs
    ]:
        layout = parse({"fields": fields, "position": "at", "heading": "angle", "up": up})
        pose = pose_of(layout, struct.pack("<4f", 1, 2, 3, angle))
        assert pose is not None
        assert pose.place == ((1, 2, 3) if up == "y" else (1, 3, -2))
        assert pose.rotation is not None
        assert rotated(pose.rotation, (0, 0, 1)) == pytest.approx(forward, abs=1e-6)


@pytest.mark.parametrize("angle", [0.0, 0.4, 2.0, 3.1, -1.2])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_transform_turns_as_its_basis_does(angle: float, axis: int) -> None:
    """Godot's rotations about x, y and z, scaled, as var_to_bytes writes them."""
    c, s = math.cos(angle), math.sin(angle)
    bases = ([1, 0, 0, 0, c, -s, 0, s, c], [c, 0, s, 0, 1, 0, -s, 0, c], [c, -s, 0, s, c, 0, 0, 0, 1])
    record = struct.pack("<I12f", 18, *(2 * one for one in bases[axis]), 7, 8, 9)
    pose = pose_of(resolve("transform3d"), record)
    assert pose is not None
    assert pose.place == (7, 8, 9)
    assert pose.rotation is not None
    for i in range(3):
        unit = tuple(float(i == j) for j in range(3))
        column = [bases[axis][row * 3 + i] for row in range(3)]
        assert rotated(pose.rotation, unit) == pytest.approx(column, abs=1e-5)  # type: ignore[arg-type]


# -- without a layout, spans, errors ---------------------------------------------------------


def test_without_a_layout_there_are_the_bytes(tmp_path: Path) -> None:
    source = film(tmp_path / "arena.sqlite", layout=None)
    said = journal(source)
    with clip(source, tmp_path / "goal.csv").open(newline="") as file:
        rows = {(int(row["tick"]), int(row["key"])): row["record"] for row in csv.DictReader(file)}
    assert rows == {place: (data or b"").hex() for place, data in said.items()}
    table = pq.read_table(clip(source, tmp_path / "goal.parquet"))
    assert table["record"].to_pylist() == list(said.values())
    got = {
        (message["tick"], one["key"]): base64.b64decode(one["bytes"])
        for topic, _, _, message in messages(clip(source, tmp_path / "goal.mcap"))
        for one in message["records"]
        if topic == "/arena/records"
    }
    assert got == {place: data for place, data in said.items() if data is not None}


def test_a_gltf_without_a_position_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = film(tmp_path / "arena.sqlite", layout=None)
    assert main(["clip", str(source), "--out", str(tmp_path / "goal.glb")]) == 2
    assert "--layout NAME" in capsys.readouterr().err
    assert sorted(one.name for one in tmp_path.iterdir()) == ["arena.sqlite"]


def test_a_format_is_taken_at_its_word_and_its_span_is_the_clips(filmed: Path, tmp_path: Path) -> None:
    out = clip(filmed, tmp_path / "x.txt", "--format", "csv", "--from", "40", "--to", "goal")
    with out.open(newline="") as file:
        ticks = [int(row["tick"]) for row in csv.DictReader(file)]
    assert (min(ticks), max(ticks)) == (40, 50)
    assert ticks.count(40) == 2  # the state: the third had gone


@pytest.mark.parametrize("name", ["goal.csv", "goal.sqlite"])
def test_what_only_the_state_after_lost_frames_has_is_there(tmp_path: Path, name: str) -> None:
    """Frames that the gateway had to let go had set a record which rests since: its next keyframe alone has it."""
    store = EmbeddedStore.open(tmp_path / "store", auto_create=True)
    world, _ = WorldDatabase.create(
        store.blocking(), "w", make_state=MAKE_STATE, now_us=BEGIN_US, retention=Retention("record")
    )
    world.begin_epoch(None, BEGIN_US)
    state, frames = WorldState(), []
    for tick, key in [(1, 7), (2, 7), (5, 7), (9, 8), (10, 7)]:
        frame = Frame(1, tick, [Record(key, bytes([tick]))], keyframe=tick == 1)
        state.apply(frame)
        if tick == 9:  # it was lost: what is written is the state
            messages, lost = tuple(split(state.keyframe(), 65_535)), True
        else:
            messages, lost = (encode_frame(frame),), tick == 1
        at_us = BEGIN_US + tick * TICK_US
        frames.append(JournalFrame(len(frames), 1, tick, at_us, at_us, lost, messages))
    world.append(Batch(tuple(frames), (Gap(1, 6, 9, "dropped"),), 1, 10, 100))
    world.close()
    store.close()
    out = tmp_path / name
    assert main(["clip", "w", "--store", str(tmp_path / "store"), "--from", "1", "--out", str(out)]) == 0
    if name == "goal.sqlite":
        with open_film(out) as recording:
            assert recording.snapshot(Moment()).records == {7: b"\x0a", 8: b"\x09"}
        return
    with out.open(newline="") as file:
        rows = [(row["tick"], row["key"], row["record"]) for row in csv.DictReader(file)]
    assert rows == [
        ("1", "7", "01"),
        ("2", "7", "02"),
        ("5", "7", "05"),
        ("10", "7", "0a"),
        ("10", "8", "09"),
    ]


@pytest.mark.parametrize("name", FORMS)
def test_what_fails_half_way_leaves_no_file(name: str, filmed: Path, tmp_path: Path) -> None:
    form, step = (
        {"glb": "gltf"}.get(name[5:], name[5:]),
        Step(1, 1, BEGIN_US, tuple(Avatars(3).frame(0).items())),
    )

    def stopped() -> None:
        with open_export(form, tmp_path / name, world="arena", layout=resolve("avatars")) as export:
            export.add(step)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stopped()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "package"), [("goal.mcap", "mcap"), ("goal.parquet", "pyarrow")])
def test_a_package_that_is_missing_is_told_with_what_brings_it(
    filmed: Path, tmp_path: Path, name: str, package: str
) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None; from gateway.cli import main; "
        f"sys.exit(main(['clip', {str(filmed)!r}, '--out', {str(tmp_path / name)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "pip install 'mvgateway[export]'" in done.stderr
    assert package in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["csv", "parquet", "mcap", "gltf"])
def test_what_is_held_does_not_grow_with_the_film(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With small bounds, so that they are reached soon: Python's own allocations after a third of it and at its end."""
    monkeypatch.setattr(limits, "EXPORT_ROWS_HELD_MAX", 100)
    monkeypatch.setattr(limits, "EXPORT_CELLS_TOGETHER_MAX", 1_000)
    monkeypatch.setattr(limits, "EXPORT_CHUNK_BYTES", 16_384)
    monkeypatch.setattr(limits, "GLTF_SAMPLES_HELD", 8)
    walkers, out, held = Avatars(4), tmp_path / ("x.glb" if form == "gltf" else "x"), []
    states = [tuple(walkers.frame(tick).items()) for tick in range(2, 62)]
    with open_export(form, out, world="w", layout=resolve("avatars")) as export:
        tracemalloc.start()
        try:
            for tick in range(900):
                export.add(Step(1, tick, BEGIN_US + tick * 16_667, states[tick % 60]))
                if tick in (300, 899):
                    held.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    grown, written = held[1] - held[0], 600 * 4 * 100
    assert grown < written / 2, f"{grown} bytes more are held after {written} bytes of records"


def test_a_scene_of_too_many_records_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GLTF_RECORDS_MAX", 2)
    with (
        pytest.raises(TooLarge, match="2 records"),
        open_export("gltf", tmp_path / "x.glb", world="w", layout=resolve("avatars")) as export,
    ):
        export.add(Step(1, 1, BEGIN_US, tuple(Avatars(3).frame(0).items())))


def test_fields_that_are_called_like_a_column_get_one_of_their_own(tmp_path: Path) -> None:
    layout = parse(
        {
            "fields": [
                {"name": "Key", "type": "u8", "offset": 0},
                {"name": "tick", "type": "u64", "offset": 1},
                {"name": "v", "type": "u8", "count": 2, "offset": 0},
                {"name": "v_1", "type": "u8", "offset": 2},
            ]
        }
    )
    with open_export("parquet", tmp_path / "x.parquet", world="w", layout=layout) as export:
        export.add(Step(1, 1, 0, ((7, bytes(range(1, 3)) + b"\xff" * 7), (8, b"\x09"))))
    rows = pq.read_table(tmp_path / "x.parquet").to_pylist()
    assert [rows[0][name] for name in ("key", "Key_", "tick", "tick_", "v_0", "v_1", "v_1_")] == [
        *(7, 1, 1, int.from_bytes(b"\x02" + b"\xff" * 7, "little"), 1, 2, 255)
    ]
    assert [rows[1][name] for name in ("key", "Key_", "tick_", "v_0")] == [8, 9, None, None]


@pytest.mark.parametrize(
    ("name", "words", "done"),
    [
        ("goal.csv", (), "written with empty values"),
        ("goal.parquet", (), "written with empty values"),
        ("goal.mcap", (), "written with empty values"),
        ("goal.sqlite", ("--values",), "written with empty values"),
        ("goal.glb", (), "left out"),
    ],
)
def test_records_that_the_layout_cannot_read_are_counted_and_the_first_is_named(
    name: str, words: tuple[str, ...], done: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "arena.sqlite"
    with FilmWriter(source, world="arena", stride=0, now_us=1, layout=resolve("xrgrid")) as film:
        whole = Record(1, EntityPacket.decode(bytes(100)).encode())
        film.begin([encode_frame(Frame(1, 1, [whole], keyframe=True))], received_at_us=BEGIN_US)
        for tick in range(2, 5):
            rows = [whole, Record(7, b"\1\2\3"), Record(8, None)]
            message = encode_frame(Frame(1, tick, rows))
            film.add(JournalFrame(0, 1, tick, BEGIN_US + tick, BEGIN_US, False, (message,)))
    clip(source, tmp_path / name, *words)
    said = capsys.readouterr().err
    assert (
        f"3 times a record is not whole by the world's layout, and was {done}; the first is 7 at 1:2" in said
    )
    (way_out,) = re.findall("`mvgateway (.*)`", said)
    assert main(way_out.split()) == 0
    assert "010203" in capsys.readouterr().out.replace(" ", "")
    clip(source, tmp_path / name, *words, "--json")
    assert json.loads(capsys.readouterr().out)["unread"] == 3
    clip(source, tmp_path / name, *words, "--to", "1")
    assert capsys.readouterr().err == ""


# -- how far it has come -----------------------------------------------------------------------


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody looks at standard error, and nothing is left out of what is said there."""
    monkeypatch.setattr(_progress, "is_watched", lambda *, quiet: not quiet)
    monkeypatch.setattr(limits, "PROGRESS_EVERY_S", 0.0)


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [one.strip() for one in capsys.readouterr().err.split("\r") if one.strip()]


@pytest.mark.usefixtures("watched")
def test_whoever_watches_is_told_how_much_is_done_of_how_much(
    filmed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip(filmed, tmp_path / "goal.csv", "--from", "50")
    said = told(capsys)
    assert said[0] == "goal.csv: 0 of 50 ticks (0 %)"
    assert said[-1] == "goal.csv: 50 of 50 ticks (100 %)"
    assert len(said) == 51
    clip(filmed, tmp_path / "goal.csv", "--json")
    assert told(capsys) == []


@pytest.mark.usefixtures("watched")
def test_of_several_epochs_the_seconds_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, record = tmp_path / "arena.sqlite", Record(1, b"x")
    with FilmWriter(source, world="arena", stride=0, now_us=1) as film:
        film.begin([encode_frame(Frame(1, 1, [record], keyframe=True))], received_at_us=BEGIN_US)
        for epoch, second in ((1, 2), (2, 4), (3, 10)):
            message = encode_frame(Frame(epoch, 5, [record]))
            film.add(JournalFrame(0, epoch, 5, BEGIN_US + second * 1_000_000, BEGIN_US, False, (message,)))
    clip(source, tmp_path / "goal.csv")
    assert told(capsys) == [f"goal.csv: {done} of 10 seconds ({10 * done} %)" for done in (0, 2, 4, 10)]
    clip(source, tmp_path / "one.csv", "--from", "2:5", "--to", "2:5")
    assert told(capsys) == ["one.csv: 0 of 0 ticks"]


# -- as somebody who would rather look than read -----------------------------------------------


def test_an_end_after_the_recording_s_is_its_end_and_told_as_such(
    filmed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip(filmed, tmp_path / "goal.csv", "--from", "90", "--to", "5000")
    said = capsys.readouterr().out
    assert "the state at 1:90 and 10 frames after it, 0 gaps, " in said
    assert f"(1:90 to 1:{LAST} of " in said
    clip(filmed, tmp_path / "goal.csv", "--from", "90", "--to", "5000", "--json")
    assert json.loads(capsys.readouterr().out)["to"] == {"epoch": 1, "tick": LAST}


def test_standard_output_is_not_replaced_where_the_shell_has_made_it_a_file(
    filmed: Path, tmp_path: Path
) -> None:
    """``> FILE``: what ``/dev/stdout`` leads to is an ordinary file then, and its name is the machine's. Here stands another in its place."""
    handle, there = tmp_path / "stdout", tmp_path / "redirected"
    handle.symlink_to("/proc/self/fd/1")
    code = "import sys; from gateway.cli import main; sys.exit(main(sys.argv[1:]))"
    for verb in (["clip", str(filmed), "--format", "csv"], ["plot", str(filmed)]):
        with there.open("wb") as redirected:
            done = subprocess.run(
                [sys.executable, "-c", code, *verb, "--out", str(handle)],
                stdout=redirected,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert handle.is_symlink()
        assert (done.returncode, "is no file" in done.stderr, there.read_bytes()) == (2, True, b"")


@pytest.mark.parametrize("out", ["-", "/dev/full", "/dev/fd/1", "."])
def test_what_is_no_file_is_refused_before_anything_is_written(
    filmed: Path,
    tmp_path: Path,
    out: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["clip", str(filmed), "--format", "csv", "--out", out]) == 2
    assert "is no file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [*FORMS, "goal.gltf", "goal.sqlite"])
@pytest.mark.parametrize("ends", ["SIGINT", "SIGTERM", "SIGTERM of a job in the background"])
def test_whoever_ends_it_half_way_finds_no_half_file(
    name: str, ends: str, filmed: Path, tmp_path: Path
) -> None:
    """The signal comes from the step that it interrupts, so that it is half way for sure. A shell's job in the background is
    deaf to Ctrl-C."""
    number = signal.Signals[ends.split()[0]]
    deaf = "signal.signal(signal.SIGINT, signal.SIG_IGN)\n" if "background" in ends else ""
    code = (
        "import os, signal, sys\n"
        f"{deaf}"
        "from gateway.cli import main\n"
        "from gateway.recordings.exports.cutting import Cut\n"
        "add, frames = Cut.add, []\n"
        "def stopped(cut, item):\n"
        "    frames.append(item)\n"
        f"    if len(frames) == 50: os.kill(os.getpid(), {int(number)})\n"
        "    add(cut, item)\n"
        "Cut.add = stopped\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    words = [sys.executable, "-c", code, "clip", str(filmed), "--out", str(tmp_path / name)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")
    assert list(tmp_path.iterdir()) == []


def test_every_format_counts_the_same_records_as_not_whole_and_the_way_out_can_be_typed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A number that is none is one however it stands in the record; a film may have any name."""
    layout = parse(
        {
            "fields": [
                {"name": "p", "type": "vec3", "offset": 0},
                {"name": "name", "type": "text", "offset": 12},
            ],
            "position": "p",
            "label": "name",
        }
    )
    source = tmp_path / 'o\'dd "é" film.sqlite'
    with FilmWriter(source, world="arena", stride=0, now_us=1, layout=layout) as film:
        rows = [
            Record(1, struct.pack("<3f", 1, math.nan, 2) + b"=1+1"),
            Record(2, struct.pack("<3f", 1, 2, 2) + 'null, "é"\n%s'.encode()),
            Record(3, struct.pack("<3f", math.inf, 2, 2)),
        ]
        film.begin([encode_frame(Frame(1, 1, rows, keyframe=True))], received_at_us=BEGIN_US)
    for name in [*FORMS, "goal.gltf"]:
        clip(source, tmp_path / name)
        said = capsys.readouterr().err
        assert "clip: 2 times a record is not whole" in said, name
        assert f"the first is 1 at 1:1, whose bytes `mvgateway recover {shlex.quote(str(source))} " in said
    with (tmp_path / "goal.csv").open(newline="", encoding="utf-8") as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["=1+1", 'null, "é"\n%s', ""]
    (_, _, _, found), (_, _, _, scene) = messages(tmp_path / "goal.mcap")
    assert [one["p"] for one in found["records"]] == [[1, None, 2], [1, 2, 2], [None, 2, 2]]
    assert scene["entities"][0]["texts"][0]["text"] == 'null, "é"\n%s'


def test_a_plot_holds_no_frame_s_bytes(tmp_path: Path) -> None:
    source, record = tmp_path / "arena.sqlite", Record(1, bytes(60_000))
    with FilmWriter(source, world="arena", stride=0, now_us=1) as film:
        film.begin([encode_frame(Frame(1, 1, [record], keyframe=True))], received_at_us=BEGIN_US)
        for tick in range(2, 300):
            message = encode_frame(Frame(1, tick, [record]))
            film.add(JournalFrame(0, 1, tick, BEGIN_US + tick * TICK_US, BEGIN_US, False, (message,)))
    tracemalloc.start()
    try:
        assert main(["plot", str(source), str(tmp_path / "arena.svg")]) == 0
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12_000_000, f"{peak} bytes were held of {300 * 60_000} that were recorded"
