"""Getting recordings back without a gateway: any moment, films, branches, damage, archives."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.cli import main
from gateway.errors import Conflict, NotFound, NothingRecorded, Unprocessable
from gateway.recordings.branches import branch
from gateway.recordings.films import FilmWriter
from gateway.recordings.recording import LocalRecording, Moment, open_film, open_world
from gateway.recordings.verifying import Verifier
from gateway.store.embedded import EmbeddedStore
from tests.recordings.filming import Filmed, film
from tests.recordings.once import write_once


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    """A verb with ``--json``: its exit code and what it printed."""
    code = main([str(argument) for argument in arguments] + ["--json"])
    out = capsys.readouterr().out.strip()
    return code, json.loads(out) if out else None


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), loss=st.sampled_from([0.0, 0.1, 0.5]))
def test_any_recorded_moment_is_what_a_live_reader_had(tmp_path: Path, seed: int, loss: float) -> None:
    folder = tmp_path / f"{seed}-{loss}"
    made = film(folder, ticks=70, seed=seed, loss=loss)
    store = EmbeddedStore.open(folder)
    world = open_world(store.blocking(), "w")
    try:
        recording = LocalRecording("w", world)
        for (epoch, tick), records in made.states.items():
            found = recording.snapshot(Moment(epoch, tick))
            assert (found.epoch, found.tick, found.records) == (epoch, tick, records)
            found = recording.snapshot(Moment(at_us=made.times[epoch, tick]))
            assert (found.epoch, found.tick, found.records) == (epoch, tick, records)
        assert recording.snapshot(Moment()).records == made.states[made.last]
    finally:
        world.close()
        store.close()


def test_recover_writes_the_three_kinds_of_file_and_each_holds_the_same_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = film(tmp_path / "store")
    place = max(made.states)
    for name in ("state.frames", "state.json", "state.sqlite"):
        code, facts = run(capsys, "recover", "w", "--store", tmp_path / "store", "--out", tmp_path / name)
        assert (code, facts["epoch"], facts["tick"]) == (0, *place)
        assert facts["records"] == len(made.states[place])
    from gateway.client.fetch import read_messages, state_of

    assert state_of(read_messages((tmp_path / "state.frames").read_bytes())).snapshot() == made.states[place]
    with open_film(tmp_path / "state.sqlite") as again:
        assert again.snapshot(Moment()).records == made.states[place]
    assert len(json.loads((tmp_path / "state.json").read_text())["records"]) == len(made.states[place])


def test_a_tick_in_a_gap_names_its_neighbours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = film(tmp_path / "store", loss=0.3)
    gap = next(gap for gap in made.gaps if gap.epoch == 1 and gap.from_tick > min(made.states)[1])
    assert (
        main(
            ["recover", "w", "--store", str(tmp_path / "store"), "--epoch", "1", "--tick", str(gap.from_tick)]
        )
        == 1
    )
    assert f"tick {gap.from_tick} of epoch 1 is not recorded: the nearest before" in capsys.readouterr().err


def test_recover_lists_every_world_with_its_span(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film(tmp_path / "store", world="one")
    film(tmp_path / "store", world="two")
    code, listed = run(capsys, "recover", "--list", "--store", tmp_path / "store")
    assert (code, [row["world"] for row in listed["worlds"]]) == (0, ["one", "two"])
    assert all(row["last"]["epoch"] == 2 for row in listed["worlds"])


def clip_of(tmp_path: Path, capsys: pytest.CaptureFixture[str], made: Filmed) -> tuple[Path, list[Any]]:
    places = sorted(made.states)
    inside = places[20:-20]
    out = tmp_path / "film.sqlite"
    begin, end = (f"{place[0]}:{place[1]}" for place in (inside[0], inside[-1]))
    code, facts = run(
        capsys, "clip", "w", "--store", tmp_path / "store", "--from", begin, "--to", end, "--out", out
    )
    assert (code, facts["frames"]) == (0, len(inside) - 1)
    return out, inside


def test_a_film_holds_every_moment_of_its_span_and_none_outside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = film(tmp_path / "store")
    out, inside = clip_of(tmp_path, capsys, made)
    with open_film(out) as recording:
        for place in inside:
            assert recording.snapshot(Moment(*place)).records == made.states[place]
        with pytest.raises(NothingRecorded):
            recording.snapshot(Moment(*min(made.states)))
    first = sqlite3.connect(out).execute("SELECT keyframe FROM frames ORDER BY seq LIMIT 1").fetchone()
    assert first == (1,)
    assert run(capsys, "verify", out)[1]["damaged"] == []
    assert run(capsys, "recover", out)[1]["tick"] == inside[-1][1]


def test_a_film_that_failed_leaves_nothing_under_its_name(tmp_path: Path) -> None:
    out = tmp_path / "film.sqlite"
    with pytest.raises(RuntimeError), FilmWriter(out, world="w", stride=0, now_us=1):
        raise RuntimeError("the disk is full, say")
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_a_foreign_a_newer_and_a_missing_film_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film(tmp_path / "store")
    out, _ = clip_of(tmp_path, capsys, film(tmp_path / "other"))
    whole = out.read_bytes()
    (tmp_path / "cut.sqlite").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Unprocessable), open_film(tmp_path / "cut.sqlite") as recording:
        recording.snapshot(Moment())
    (tmp_path / "text.sqlite").write_text("not a database, but long enough to be looked at" * 50)
    with pytest.raises(Unprocessable), open_film(tmp_path / "text.sqlite"):
        pass
    sqlite3.connect(tmp_path / "foreign.sqlite").execute("CREATE TABLE t(x)").connection.close()
    with pytest.raises(Unprocessable, match="not a world"), open_film(tmp_path / "foreign.sqlite"):
        pass
    newer = sqlite3.connect(out)
    newer.execute("PRAGMA user_version = 99")
    newer.commit()
    newer.close()
    with pytest.raises(Unprocessable, match="newer"), open_film(out):
        pass
    with pytest.raises(NotFound), open_film(tmp_path / "missing.sqlite"):
        pass


def test_verify_reports_every_damaged_stretch_and_goes_on_past_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film(tmp_path / "store", loss=0.0)
    out, _ = clip_of(tmp_path, capsys, film(tmp_path / "again", loss=0.0))
    database = sqlite3.connect(out)
    seqs = [seq for (seq,) in database.execute("SELECT seq FROM frames WHERE keyframe = 0 ORDER BY seq")]
    database.execute("UPDATE frames SET body = x'00ff00ff' WHERE seq = ?", (seqs[5],))
    database.execute("DELETE FROM frames WHERE seq = ?", (seqs[-40],))
    database.commit()
    database.close()
    code, report = run(capsys, "verify", out)
    assert code == 1
    assert len(report["damaged"]) == 2
    assert report["ok"] >= 1


async def test_a_branch_starts_from_its_moment_and_neither_world_shows_in_the_other(tmp_path: Path) -> None:
    made = film(tmp_path / "store")
    store = EmbeddedStore.open(tmp_path / "store")
    try:
        place = sorted(made.states)[60]
        made_branch = await branch(store, "w", "b", Moment(*place), now_us=5)
        assert made_branch.as_json()["parent"] == {"world": "w", "epoch": place[0], "tick": place[1]}
        child, parent = (open_world(store.blocking(), name) for name in ("b", "w"))
        assert LocalRecording("b", child).snapshot(Moment()).records == made.states[place]
        assert child.info().parent is not None
        for earlier in sorted(made.states)[:60:7]:
            assert LocalRecording("b", child).snapshot(Moment(*earlier)).records == made.states[earlier]
        assert LocalRecording("w", parent).snapshot(Moment()).records == made.states[made.last]
        for verified in (child, parent):
            verifier = Verifier(verified)
            assert [stretch.damage for stretch in verifier.stretches() if stretch.damage] == []
        with pytest.raises(Conflict, match="exists already") as refused:
            await branch(store, "w", "b", Moment(), now_us=5)
        assert not refused.value.retry
        with pytest.raises(NothingRecorded):
            await branch(store, "w", "c", Moment(1, 99_999), now_us=5)
        assert [info.key for info in await store.list_namespaces()] == ["b", "w"]
        child.close()
        parent.close()
    finally:
        await store.aclose()


def test_a_recording_is_drawn_with_its_gaps_and_marks(tmp_path: Path) -> None:
    film(tmp_path / "store")
    out = tmp_path / "w.svg"
    assert main(["plot", "w", str(out), "--store", str(tmp_path / "store")]) == 0
    from xml.etree import ElementTree

    drawn = ElementTree.fromstring(out.read_text())
    assert drawn.tag.endswith("svg")
    assert ">gap<" in out.read_text()


def test_damage_before_the_first_keyframe_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = EmbeddedStore.open(tmp_path / "store")
    store.engine.create_namespace("w")
    write_once(store.engine, "w", 40, keyframe_ticks=(30,))
    store.close()
    flags = ("--store", tmp_path / "store")
    assert run(capsys, "verify", "w", *flags)[1]["rows"] == 41
    assert main(["sql", "w", "DELETE FROM frames WHERE seq = 12", "--write", *map(str, flags)]) == 0
    capsys.readouterr()
    code, report = run(capsys, "verify", "w", *flags)
    assert (code, report["ok"]) == (1, 1)
    assert "row 12 is missing" in report["damaged"][0]["why"]
    assert main(["sql", "w", "DELETE FROM frames WHERE seq < 12", "--write", *map(str, flags)]) == 0
    capsys.readouterr()
    code, report = run(capsys, "verify", "w", *flags)
    assert code == 1
    assert "row 13 is the first" in report["damaged"][0]["why"]
