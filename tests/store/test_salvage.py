"""What can still be read of a damaged store is got out of it, and what cannot is said."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from gateway.cli import main
from gateway.recordings.recording import open_world
from gateway.store.embedded import FolderReader, check
from gateway.store.salvage import SalvageReport, salvage
from tests.patience import HANG_S
from tests.runtime.conftest import GatewayProcess
from tests.store.wrecks import WORLDS, Wreck, hurt, make, versions_in

PLACES = int(os.environ.get("MVGATEWAY_TEST_SALVAGE_PLACES", "24"))
"""How many random places are hit; 200 is the long form."""


@pytest.fixture(scope="module", params=["clean", "log"])
def wreck(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Wreck:
    return make(tmp_path_factory.mktemp(request.param), log=request.param == "log")


def test_a_sound_store_comes_out_as_it_was(wreck: Wreck, tmp_path: Path) -> None:
    report = salvage(wreck.folder, tmp_path / "out")
    assert report.is_whole
    assert (report.ok, report.lost) == (len(wreck.hashes), 0)
    assert versions_in(tmp_path / "out") == wreck.hashes
    assert check(tmp_path / "out").damaged == 0
    for world in WORLDS:
        assert states_of(tmp_path / "out", world) == wreck.states[world]


def states_of(folder: Path, world: str) -> dict[tuple[int, int], dict[int, bytes]]:
    """The state at every tick that is recorded."""
    reader = FolderReader(folder)
    opened = open_world(reader, world)
    try:
        rows = [(frame.epoch, frame.tick) for frame in opened.frames() if hasattr(frame, "messages")]
        return {place: opened.state_at_tick(*place).records() for place in rows}
    finally:
        opened.close()
        reader.close()


@pytest.mark.parametrize("seed", range(PLACES))
def test_whatever_place_is_hit_all_else_is_got_out(wreck: Wreck, seed: int, tmp_path: Path) -> None:
    what, hit = hurt(wreck, tmp_path / "hurt", seed)
    before = fingerprint(tmp_path / "hurt")
    report = salvage(tmp_path / "hurt", tmp_path / "out")
    assert fingerprint(tmp_path / "hurt") == before
    judge(wreck, report, tmp_path / "out", what, hit)


def fingerprint(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.iterdir()
    }


def judge(wreck: Wreck, report: SalvageReport, out: Path, what: str, hit: set[int]) -> None:
    there = versions_in(out)
    heads = {name: max(version for ns, _, version in wreck.hashes if ns == name) for name in WORLDS}
    for place, digest in there.items():
        if place in wreck.hashes:
            assert wreck.hashes[place] == digest, (what, "another content", place)
        elif place[0] in heads:
            assert place[2] > heads[place[0]], (what, "a version that never was", place)
    names_lost = bool(hit & wreck.root)
    if "-wal cut" in what:
        assert report.damage, (what, "a log that ends within a page is told")
    missing = [place for place in wreck.hashes if place not in there]
    for place in missing:
        assert names_lost or wreck.pages[place] & hit, (what, "not got out", place)
    told = {each.name: each for each in report.namespaces}
    for world in WORLDS:
        lost = [place for place in missing if place[0] == world]
        if world not in told:
            assert names_lost, (what, world)
            continue
        each = told[world]
        if lost and not names_lost:
            assert each.lost, (what, world, "lost, and nobody says so")
        judge_world(wreck, out, world, each.database, what)


def judge_world(wreck: Wreck, out: Path, world: str, database: str, what: str) -> None:
    """It opens, and every state that it gives is one that was."""
    if database in ("damaged", "gone"):
        return
    states = states_of(out, world)
    for place, records in states.items():
        assert wreck.states[world][place] == records, (what, world, database, place)
    if database == "whole":
        wanted = sorted(wreck.states[world])
        kept = len(states) if "cut" in what and "-wal" in what else len(wanted)
        assert sorted(states) == wanted[:kept], (what, world)
    assert states or database == "rebuilt" or "-wal cut" in what, (what, world, database)


def test_what_is_not_to_be_overwritten_is_not(
    wreck: Wreck, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    shutil.copytree(wreck.folder, tmp_path / "store")
    before = fingerprint(tmp_path / "store")
    for to in (tmp_path / "full", tmp_path / "store", tmp_path / "store" / "inside"):
        assert main(["store", "salvage", str(tmp_path / "store"), "--to", str(to)]) == 2
        assert "--to" in capsys.readouterr().err
    assert main(["store", "salvage", str(tmp_path / "none"), "--to", str(tmp_path / "new")]) == 2
    assert main(["store", "salvage", str(tmp_path / "full"), "--to", str(tmp_path / "new")]) == 2
    assert fingerprint(tmp_path / "store") == before
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]
    assert not (tmp_path / "new").exists() or not list((tmp_path / "new").iterdir())


def cut(wreck: Wreck, folder: Path, share: float) -> Path:
    shutil.copytree(wreck.folder, folder)
    path = folder / "store.sqlite"
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * share))
    return folder


def test_whoever_meets_damage_is_told_of_the_way_out(
    wreck: Wreck, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if (wreck.folder / "store.sqlite-wal").exists():
        pytest.skip("what the log still holds, a gateway starts with")
    folder = str(cut(wreck, tmp_path / "cut", 0.4))
    certs = str(tmp_path / "certs")
    for verb in (
        ["store", "check", folder],
        ["serve", "--store", folder, "--certs", certs, "--port", "0", "--no-plain"],
        ["recover", "zone-1", "--store", folder],
    ):
        code = main(verb) if verb[0] != "serve" else served(verb)
        assert code
        told = capsys.readouterr().err if verb[0] != "serve" else said[-1]
        assert "store salvage" in told, (verb, told)


said: list[str] = []


def served(verb: list[str]) -> int:
    """A gateway that is to fail at its start."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", *verb], capture_output=True, text=True, timeout=HANG_S
    )
    said.append(done.stderr)
    return done.returncode


def test_a_gateway_serves_what_was_got_out(
    wreck: Wreck, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cut(wreck, tmp_path / "cut", 0.6)
    assert main(["store", "salvage", str(folder), "--to", str(tmp_path / "store"), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["lost"]
    assert not report["whole"]
    child = GatewayProcess(tmp_path).wait_ready()
    try:
        worlds = httpx.get(f"{child.base_url}/v1/worlds").json()["worlds"]
        assert {each["namespace"] for each in report["namespaces"]} == {world["world"] for world in worlds}
        for world in worlds:
            found = httpx.get(f"{child.base_url}/v1/worlds/{world['world']}/recording")
            assert found.status_code == 200, found.text
            if found.json()["last"]:
                answer = httpx.get(
                    f"{child.base_url}/v1/worlds/{world['world']}/frames/last",
                    headers={"accept": "application/json"},
                ).json()
                place = (answer["epoch"], answer["tick"])
                records = {int(key): base64.b64decode(data) for key, data in answer["records"].items()}
                assert records == wreck.states[world["world"]][place]
    finally:
        child.terminate()


def test_a_store_that_is_hit_where_the_names_are_keeps_its_pages(wreck: Wreck, tmp_path: Path) -> None:
    """Everything but the names, which a world's own database still tells."""
    folder = tmp_path / "hurt"
    shutil.copytree(wreck.folder, folder)
    (folder / "store.sqlite-wal").unlink(missing_ok=True)
    with (folder / "store.sqlite").open("r+b") as file:
        for page in (1, 3):
            file.seek((page - 1) * 4096)
            file.write(bytes(4096))
    report = salvage(folder, tmp_path / "out")
    assert not report.is_whole
    assert report.ok > len([place for place in wreck.hashes if place[0] == WORLDS[0]]) / 2
    assert WORLDS[0] in {each.name for each in report.namespaces}


@pytest.mark.parametrize("seed", range(6))
def test_what_is_hit_all_over_gives_nothing_that_never_was(wreck: Wreck, seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    shutil.copytree(wreck.folder, tmp_path / "hurt")
    for path in (tmp_path / "hurt").glob("store.sqlite*"):
        data = bytearray(path.read_bytes())
        for _ in range(3 * 10 ** (seed % 3)):
            data[dice.randrange(len(data))] ^= dice.randrange(1, 256)
        path.write_bytes(data)
    report = salvage(tmp_path / "hurt", tmp_path / "out")
    assert not report.is_whole
    found = versions_in(tmp_path / "out")
    assert all(digest == wreck.hashes.get(place, digest) for place, digest in found.items())
    for each in report.namespaces:
        if each.name in WORLDS and each.database not in ("damaged", "gone", "none"):
            for place, records in states_of(tmp_path / "out", each.name).items():
                assert records == wreck.states[each.name][place], (each.name, each.database, place)


@pytest.mark.parametrize("left", [b"", b"not a database at all" * 400, bytes(50_000)])
def test_of_a_file_that_is_no_store_any_more_nothing_comes_and_nothing_fails(
    left: bytes, tmp_path: Path
) -> None:
    (tmp_path / "hurt").mkdir()
    (tmp_path / "hurt" / "store.sqlite").write_bytes(left)
    report = salvage(tmp_path / "hurt", tmp_path / "out")
    assert (report.ok, report.namespaces) == (0, [])
    assert report.damage
    assert check(tmp_path / "out").damaged == 0
