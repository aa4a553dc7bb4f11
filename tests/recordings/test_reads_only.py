"""Whoever recovers from a folder reads it, and leaves no trace: read-only mounts, dead and living gateways."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.errors import ConfigError
from gateway.recordings.recording import open_world
from gateway.recordings.verifying import Verifier
from gateway.store.base import Namespace
from gateway.store.embedded import EmbeddedStore, FolderReader, ReadOnly
from gateway.wire.journal import JournalFrame
from tests.patience import HANG_S
from tests.recordings.once import fill
from tests.recordings.stores import copied
from tests.runtime.conftest import GatewayProcess
from tests.runtime.faults.driver import WORLD, Publisher, state_at

SIZE = 300

Fingerprint = dict[str, tuple[str, int, int]]


def fingerprint(folder: Path) -> Fingerprint:
    """Of each file its bytes' hash, its time of change and its inode."""
    return {
        path.name: (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
            path.stat().st_ino,
        )
        for path in folder.iterdir()
    }


def verbs(world: str, out: Path) -> list[list[str]]:
    """Every verb that reads a store's recording."""
    return [
        ["recover", world],
        ["recover", "--list"],
        ["replay", world, "--out", str(out / "w.frames"), "--speed", "max"],
        ["clip", world, "--out", str(out / "w.sqlite")],
        ["plot", world, str(out / "w.svg")],
        ["verify", world],
        ["archive", world, str(out / "archive")],
        ["sql", world, "SELECT count(*) FROM frames"],
        ["export", world, str(out / "all.sqlite")],
    ]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose gateway ended well: there is no log."""
    folder = tmp_path_factory.mktemp("clean") / "store"
    fill(folder, (SIZE,))
    return folder


@pytest.fixture(scope="module")
def dead(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A folder whose gateway was killed while it was published to; the tick announced as durable."""
    here = tmp_path_factory.mktemp("dead")
    child = GatewayProcess(here, "--retention", "record").wait_ready()
    durable = asyncio.run(published(child, lambda publisher: publisher.durable_tick > 200))
    return here / "store", durable


async def published(child: GatewayProcess, enough: Callable[[Publisher], bool], hz: float = 400) -> int:
    """Publish until it is enough, then ``kill -9``; the newest tick announced as durable."""
    publisher = Publisher(child.port("plain"))
    publishing = asyncio.ensure_future(publisher.run(100_000, hz))
    async with asyncio.timeout(HANG_S):
        while not enough(publisher):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        child.kill()
        await publishing
    return publisher.durable_tick


@pytest.fixture
def stopped(clean: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder that a gateway has open, with its log and its index, and which does not move."""
    copied(clean, tmp_path / "store")
    child = GatewayProcess(tmp_path).wait_ready()
    asyncio.run(published_once(child))
    child.process.send_signal(signal.SIGSTOP)
    yield tmp_path / "store"
    child.process.send_signal(signal.SIGCONT)
    child.terminate()


async def published_once(child: GatewayProcess) -> None:
    publisher = Publisher(child.port("plain"))
    publishing = asyncio.ensure_future(publisher.run(50, 400))
    async with asyncio.timeout(HANG_S):
        while publisher.durable_tick < 50:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)


def check_all(folder: Path, world: str, out: Path) -> None:
    before = fingerprint(folder)
    for verb in verbs(world, out):
        assert main([*verb, "--store", str(folder)]) == 0, verb
        assert fingerprint(folder) == before, verb


def test_a_folder_at_rest_is_read_without_a_trace(clean: Path, tmp_path: Path) -> None:
    assert "store.sqlite-wal" not in fingerprint(clean)
    check_all(clean, f"once-{SIZE}", tmp_path)


def test_the_folder_of_a_killed_gateway_is_read_without_a_trace(
    dead: tuple[Path, int], tmp_path: Path
) -> None:
    assert (dead[0] / "store.sqlite-wal").stat().st_size
    check_all(dead[0], WORLD, tmp_path)


def test_a_folder_in_use_is_read_without_a_trace(stopped: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    check_all(stopped, f"once-{SIZE}", out)
    check_all(stopped, WORLD, tmp_path)


def test_nothing_durable_is_missed_after_a_kill(
    dead: tuple[Path, int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder, durable = dead
    for there in (folder, without_index(folder, tmp_path)):
        out = tmp_path / "state.json"
        assert main(["recover", WORLD, "--store", str(there), "--json", "--out", str(out)]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["tick"] >= durable
        recovered = {int(key): len(data) for key, data in json.loads(out.read_text())["records"].items()}
        assert recovered.keys() == state_at(found["tick"]).keys()


def without_index(folder: Path, tmp_path: Path) -> Path:
    """As it is copied from a disk: the log, and no index of it."""
    copied(folder, tmp_path / "copy")
    (tmp_path / "copy" / "store.sqlite-shm").unlink()
    return tmp_path / "copy"


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="mounts need root")
@pytest.mark.parametrize("how", ["clean", "dead"])
def test_a_read_only_mount_is_enough(how: str, clean: Path, dead: tuple[Path, int], tmp_path: Path) -> None:
    folder, world = (clean, f"once-{SIZE}") if how == "clean" else (dead[0], WORLD)
    mount = tmp_path / "mount"
    mount.mkdir()
    prepare = 'mount --bind "$0" "$1" && mount -o remount,ro,bind "$1" && ! touch "$1/x" 2>/dev/null && shift && exec "$@"'
    commands = [[*verb, "--store", str(mount)] for verb in verbs(world, tmp_path)]
    commands += [["store", work, str(mount)] for work in ("check", "stat")]
    commands.append(["store", "backup", str(mount), str(tmp_path / "backup")])
    commands.append(["store", "salvage", str(mount), "--to", str(tmp_path / "salvaged")])
    command = [sys.executable, "-c", all_of(commands)]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", prepare, str(folder), str(mount), *command],
        capture_output=True,
        text=True,
        timeout=2 * HANG_S,
    )
    # Killed within a transaction: nobody was told of it, but a log that was cut off looks the same, so a salvage, the last of
    # the commands, says that it may not be all.
    torn = how == "dead" and "the log ends inside a transaction" in done.stderr and "'salvage'" in done.stderr
    assert done.returncode == torn, done.stderr


def all_of(commands: list[list[str]]) -> str:
    """A program that runs all of them and looks after each that nothing was left open."""
    return f"""
import gc, sys
from gateway.cli import main
for command in {commands!r}:
    code = main(command)
    gc.collect()
    if code:
        sys.exit(f"{{command}} ended with {{code}}")
"""


def test_a_folder_that_may_only_be_read_is_enough(
    clean: Path, dead: tuple[Path, int], tmp_path: Path
) -> None:
    """By another user, who can neither write to the folder nor to its files."""
    for folder, world in ((clean, f"once-{SIZE}"), (dead[0], WORLD)):
        there = (
            Path(os.path.realpath(os.environ.get("TMPDIR", "/tmp"))) / f"mvgateway-test-{os.getpid()}-{world}"
        )
        try:
            copied(folder, there)
            for path in there.iterdir():
                path.chmod(0o444)
            there.chmod(0o555)
            read_as_nobody(there, world)
        finally:
            there.chmod(0o755)
            shutil.rmtree(there)


def read_as_nobody(folder: Path, world: str) -> None:
    code = (
        "import os, sys\n"
        "from gateway.cli import main\n"
        "if os.geteuid() == 0: main(['verify', 'none', '--store', '/none']); os.setuid(65534)\n"
        f"sys.exit(main(['recover', {world!r}, '--store', {str(folder)!r}]) or main(['verify', {world!r}, '--store', {str(folder)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, done.stderr


def test_a_branch_that_comes_to_nothing_writes_nothing(
    clean: Path, stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, arguments, why in (
        (clean, ["--tick", "9999", "--epoch", "1"], "not recorded"),
        (clean, ["--mark", "none"], "no mark"),
        (stopped, [], "--url"),
    ):
        before = fingerprint(folder)
        assert main(["branch", f"once-{SIZE}", "again", "--store", str(folder), *arguments])
        assert why in capsys.readouterr().err
        assert fingerprint(folder) == before


def test_nothing_can_be_written_by_a_reader(clean: Path) -> None:
    reader = FolderReader(clean)
    try:
        for refused in (
            lambda: reader.create_namespace("x"),
            lambda: reader.write(Namespace(f"once-{SIZE}"), [b"x"]),
            lambda: reader.rename_namespace(f"once-{SIZE}", "x"),
            lambda: reader.delete_namespace(f"once-{SIZE}"),
        ):
            with pytest.raises(ReadOnly):
                refused()
    finally:
        reader.close()


def test_a_folder_without_a_store_is_told_and_stays_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recover", "w", "--store", str(tmp_path)]) == 2
    assert "there is no store" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "store.sqlite").write_bytes(b"")
    with pytest.raises(ConfigError, match="not a store"):
        FolderReader(tmp_path)


MORE_THAN_A_CACHE = 900
"""Frames of 6 KB: SQLite answers fewer from its memory, without a look at the files."""


def test_beside_a_busy_writer_every_look_is_a_moment_of_the_world(tmp_path: Path) -> None:
    """Until the writer has begun its log anew and gone past a reader's moment: only whole commits are
    seen, what was announced is among them, and nobody goes back."""
    folder = tmp_path / "store"
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    told: list[int] = [int(child.stdout.readline())]
    listening = threading.Thread(target=lambda: told.extend(map(int, child.stdout or [])))
    listening.start()
    while told[-1] < MORE_THAN_A_CACHE:
        last_of(folder)
    salts, newest, looks = set(), 0, 0
    reader = FolderReader(folder)
    world = open_world(reader, "w")
    end = time.monotonic() + 60
    try:
        while looks < 10 or not reader.moved or len(salts) < 2:
            assert time.monotonic() < end, "the writer never went past the reader: the test shows nothing"
            announced = told[-1]
            assert last_of(folder) >= announced
            world.database.throw_away()
            rows = [row.tick for row in world.frames() if isinstance(row, JournalFrame)]
            assert rows == list(range(1, len(rows) + 1))
            assert len(rows) >= newest
            newest, looks = len(rows), looks + 1
            with suppress(FileNotFoundError), open(folder / "store.sqlite-wal", "rb") as log:
                salts.add(log.read(32)[16:24])
        assert [stretch for stretch in Verifier(world).stretches() if stretch.damage] == []
    finally:
        child.stdin.close()
        world.close()
        reader.close()
        child.wait()
        listening.join()
        child.stdout.close()


def last_of(folder: Path) -> int:
    """The last tick, by a reader of its own, whose state is right."""
    reader = FolderReader(folder)
    world = open_world(reader, "w")
    found = world.last()
    world.close()
    reader.close()
    assert found is not None
    assert found.records() == expected(found.tick)
    return found.tick


def expected(tick: int) -> dict[int, bytes]:
    """Eight records in turn, of bytes that nothing packs."""
    return {at % 8: random.Random(at).randbytes(6_000) for at in range(max(1, tick - 7), tick + 1)}


WRITER = """
import random, select, sys, time
from gateway.recordings.recording import MAKE_STATE
from gateway.core.state import WorldState
from gateway.store.embedded import EmbeddedStore
from gateway.store.world import Retention, WorldDatabase
from gateway.wire import Frame, Record, encode_frame
from gateway.wire.journal import Batch, JournalFrame

store = EmbeddedStore.open(sys.argv[1])
store.engine.create_namespace("w")
now = time.time_ns() // 1000
world, _ = WorldDatabase.create(store.engine, "w", make_state=MAKE_STATE, now_us=now, retention=Retention("record"))
world.begin_epoch(None, now)
state, seq, tick = WorldState(), 0, 0
while not select.select([sys.stdin], [], [], 0)[0]:
    tick += 1
    frame = Frame(1, tick, [Record(tick % 8, random.Random(tick).randbytes(6_000))], sent_at=now + tick)
    state.apply(frame)
    rows = [JournalFrame(seq, 1, tick, now + tick, now + tick, False, (encode_frame(frame),))]
    seq += 1
    if tick % 50 == 0:
        messages = tuple(state.keyframe_messages(65_535))
        rows.append(JournalFrame(seq, 1, tick, now + tick, now + tick, True, messages))
        seq += 1
    world.append(Batch(tuple(rows), (), 1, tick, sum(row.size_bytes for row in rows)))
    print(tick, flush=True)
world.close()
store.close()
"""


def test_what_was_read_is_closed(clean: Path, tmp_path: Path) -> None:
    """Every warning of a thing left open is an error."""
    folder = str(copied(clean, tmp_path / "store"))
    branch = ["branch", f"once-{SIZE}", "b", "--tick", "5", "--epoch", "1"]
    commands = [[*verb, "--store", folder] for verb in (*verbs(f"once-{SIZE}", tmp_path), branch)]
    flags = ["-X", "dev", "-W", "error::ResourceWarning"]
    done = subprocess.run(
        [sys.executable, *flags, "-c", all_of(commands)], capture_output=True, text=True, timeout=2 * HANG_S
    )
    assert done.returncode == 0, done.stderr
    assert "ResourceWarning" not in done.stderr


def test_descriptors_are_given_back(clean: Path) -> None:
    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    store = EmbeddedStore.open(clean)
    store.close()
    before = opened()
    for _ in range(20):
        assert main(["recover", f"once-{SIZE}", "--store", str(clean)]) == 0
    assert opened() <= before
