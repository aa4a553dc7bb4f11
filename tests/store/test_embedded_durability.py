"""What a commit answered is there afterwards: group commit, kill -9, restarts, backups."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from blake3 import blake3

from gateway.errors import ConfigError, Overloaded, StoreUnavailable
from gateway.store.base import CommitRequest, Namespace, NamespaceCommit, PageRead, PageWrite
from gateway.store.embedded import EmbeddedOptions, EmbeddedStore, Engine, backup, check, jobs, queue, stats
from tests.patience import HANG_S

NS = Namespace("world")

CHILD = """
import os, sys
from blake3 import blake3
from gateway.store.base import CommitRequest, Namespace, NamespaceCommit, PageWrite
from gateway.store.embedded import Engine
engine = Engine(sys.argv[1], auto_create=True)
ns = Namespace("world")
version = engine.stat(ns).version
for n in range(int(sys.argv[2]), 1_000_000):
    data = n.to_bytes(8, "big") * 512
    pages = [PageWrite(page, blake3(data).digest(), data) for page in (0, n % 64 + 1)]
    version = engine.commit(CommitRequest(os.urandom(16), [NamespaceCommit(ns, version, pages)], True)).version
    sys.stdout.write(f"{n} {version}\\n")
    sys.stdout.flush()
"""


def commit(engine: Engine, page: int, data: bytes, ns: Namespace = NS) -> str:
    head = engine.stat(ns).version
    pages = [PageWrite(page, blake3(data).digest(), data)]
    part = NamespaceCommit(ns, head, pages, frozenset())
    return engine.commit(CommitRequest(os.urandom(16), [part], True)).version


def read(engine: Engine, page: int, version: str, ns: Namespace = NS) -> bytes:
    return engine.read(ns, [PageRead(page, version)])[0].data


def wait_until(condition: object, seconds: float = HANG_S) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "condition not reached in time"
        threading.Event().wait(0.001)


def test_every_answered_commit_survives_kill_9(tmp_path: Path) -> None:
    answered: dict[int, str] = {}
    for round_ in range(5):
        start = max(answered, default=-1) + 1
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), str(start)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for line in child.stdout:
            n, version = line.split()
            answered[int(n)] = version
            if len(answered) >= 40 * (round_ + 1):
                child.send_signal(signal.SIGKILL)
                break
        for line in child.stdout:
            if line.endswith("\n"):
                n, version = line.split()
                answered[int(n)] = version
        child.wait()
        with_newest = Engine(tmp_path)
        for number, version in answered.items():
            assert read(with_newest, 0, version) == number.to_bytes(8, "big") * 512
            assert read(with_newest, number % 64 + 1, version) == number.to_bytes(8, "big") * 512
        head = with_newest.stat(NS).version
        newest = int.from_bytes(read(with_newest, 0, head)[:8], "big")
        assert newest - max(answered) in (0, 1)
        if newest not in answered:
            answered[newest] = head
        with_newest.close()
    assert list(answered.values()) == sorted(set(answered.values()))
    assert check(tmp_path).damaged == 0


def test_commits_that_wait_together_share_one_sync(tmp_path: Path) -> None:
    engine = Engine(tmp_path, auto_create=True, options=EmbeddedOptions(background=False))
    engine.stat(NS)
    go, versions = threading.Event(), []
    blocker = threading.Thread(target=engine.writer.step, args=(lambda txn: go.wait(HANG_S),))
    blocker.start()
    clients = [
        threading.Thread(target=lambda n=n: versions.append(commit(engine, n, b"%d" % n)), daemon=True)
        for n in range(32)
    ]
    for client in clients:
        client.start()
    wait_until(lambda: engine.writer.waiting == 32)
    before = engine.writer.counters["batches"]
    go.set()
    for thread in [blocker, *clients]:
        thread.join()
    assert engine.writer.counters["batches"] - before == 1
    assert len(set(versions)) == 32
    assert len({version[:16] for version in versions}) == 1
    assert sorted(int(version[16:], 16) for version in versions) == list(range(32))
    engine.close()


def test_one_commit_that_fails_leaves_the_others_of_its_batch_alone(tmp_path: Path) -> None:
    engine = Engine(tmp_path, auto_create=True, options=EmbeddedOptions(background=False))
    engine.stat(NS)
    go, ends = threading.Event(), []
    blocker = threading.Thread(target=engine.writer.step, args=(lambda txn: go.wait(HANG_S),))
    blocker.start()

    def poison() -> None:
        try:
            engine.writer.run(jobs.Job(lambda txn: txn.cursor.execute("SELECT * FROM nowhere")))
        except Exception as error:
            ends.append(type(error).__name__)

    threads = [threading.Thread(target=poison, daemon=True)]
    threads += [
        threading.Thread(target=lambda n=n: ends.append(commit(engine, n, b"%d" % n)), daemon=True)
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: engine.writer.waiting == 5)
    go.set()
    for thread in [blocker, *threads]:
        thread.join()
    assert ends.count("StoreError") == 1
    assert len({end for end in ends if end != "StoreError"}) == 4
    assert [read(engine, n, engine.stat(NS).version) for n in range(4)] == [b"%d" % n for n in range(4)]
    engine.close()


def test_a_full_queue_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "STORE_QUEUE_JOBS_MAX", 1)
    engine = Engine(tmp_path, auto_create=True, options=EmbeddedOptions(background=False))
    engine.stat(NS)
    go = threading.Event()
    blocker = threading.Thread(target=engine.writer.step, args=(lambda txn: go.wait(HANG_S),))
    first = threading.Thread(target=commit, args=(engine, 0, b"first"), daemon=True)
    blocker.start()
    first.start()
    wait_until(lambda: engine.writer.waiting == 1)
    with pytest.raises(Overloaded):
        commit(engine, 1, b"second")
    go.set()
    blocker.join()
    first.join()
    commit(engine, 1, b"second")
    engine.close()


def test_versions_go_on_rising_over_restarts_and_a_clock_set_back(tmp_path: Path) -> None:
    versions = []
    for clock in (2_000_000.0, 1_000_000.0, 3.0, 2_000_000.0):
        engine = Engine(tmp_path, auto_create=True, clock=lambda clock=clock: clock)
        versions += [commit(engine, 0, b"%d" % len(versions)) for _ in range(3)]
        engine.close()
    assert versions == sorted(set(versions))


def test_retries_are_recognised_after_a_restart(tmp_path: Path) -> None:
    request = CommitRequest(
        b"k" * 16, [NamespaceCommit(NS, "0" * 20, [PageWrite(0, blake3(b"x").digest(), b"x")])]
    )
    engine = Engine(tmp_path, auto_create=True)
    engine.stat(NS)
    version = engine.commit(request).version
    commit(engine, 1, b"another")
    engine.close()
    engine = Engine(tmp_path)
    assert engine.commit(request).version == version
    engine.close()


async def test_closed_store_says_so(tmp_path: Path) -> None:
    store = EmbeddedStore.open(tmp_path, auto_create=True)
    await store.stat(NS)
    await store.aclose()
    with pytest.raises(StoreUnavailable):
        store.engine.write(NS, [b"late"])


def test_backup_of_a_running_store_opens_as_a_store(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "live", auto_create=True)
    engine.stat(NS)
    versions = [commit(engine, n, os.urandom(3_000)) for n in range(40)]
    progress: list[tuple[int, int]] = []
    size = backup(
        tmp_path / "live", tmp_path / "copy.sqlite", lambda done, total: progress.append((done, total))
    )
    assert progress[-1][0] == progress[-1][1] > 0
    commit(engine, 0, b"after the backup")
    with pytest.raises(ConfigError, match="exists already"):
        backup(tmp_path / "live", tmp_path / "copy.sqlite")
    folder = tmp_path / "restored"
    folder.mkdir()
    assert (tmp_path / "copy.sqlite").stat().st_size == size
    (tmp_path / "copy.sqlite").rename(folder / "store.sqlite")
    restored = Engine(folder)
    assert restored.stat(NS).version == versions[-1]
    assert [read(restored, n, versions[-1]) for n in range(40)] == [
        read(engine, n, versions[-1]) for n in range(40)
    ]
    restored.close()
    engine.close()


def test_stats_count_what_is_stored(tmp_path: Path) -> None:
    engine = Engine(tmp_path, auto_create=True)
    engine.stat(NS)
    commit(engine, 0, b"same")
    last = commit(engine, 1, b"same")
    engine.write(NS, [b"loose"])
    counted = stats(tmp_path)
    engine.close()
    assert (counted["namespaces"], counted["page_versions"], counted["contents"]) == (1, 2, 2)
    assert counted["loose_contents"] == 1
    assert counted["newest_version"] == last
    assert engine.stats()["jobs"] >= 3
