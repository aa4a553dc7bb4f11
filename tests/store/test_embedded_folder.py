"""A store's folder: whose it is and who may read it; commits by the dozen; and what its thread does when nobody asks."""

from __future__ import annotations

import logging
import os
import stat
import threading
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import apsw
import pytest
from blake3 import blake3

from gateway.errors import ConfigError, Conflict, GatewayError, TooLarge
from gateway.limits import STORE_PAGE_BYTES_MAX
from gateway.store.base import CommitRequest, Committed, Namespace, NamespaceCommit, PageRead, PageWrite
from gateway.store.embedded import EmbeddedOptions, Engine, background
from gateway.store.embedded.folder import FolderInUse, FolderLock
from tests.store.test_embedded_durability import NS, commit, read, wait_until

QUIET = EmbeddedOptions(background=False)


def modes(folder: Path) -> dict[str, int]:
    return {each.name: stat.S_IMODE(each.stat().st_mode) for each in (folder, *folder.iterdir())}


def made(folder: Path, *, bare: bool = False) -> Path:
    Engine(folder, options=QUIET).close()
    if not bare:
        commit_in(folder)
    return folder


def commit_in(folder: Path) -> None:
    engine = Engine(folder, auto_create=True, options=QUIET)
    engine.stat(NS)
    commit(engine, 0, b"page")
    engine.close()


def test_a_store_is_its_owners_alone_and_making_it_is_no_news(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before = os.umask(0o022)
    try:
        folder = made(tmp_path / "store")
    finally:
        os.umask(before)
    found = modes(folder)
    assert found.pop("store") == 0o700
    assert set(found.values()) == {0o600}
    assert "other users" not in caplog.text


def test_a_store_that_was_open_to_others_is_closed_to_them_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder = made(tmp_path / "store")
    folder.chmod(0o755)
    for each in folder.iterdir():
        each.chmod(0o644)
    Engine(folder, options=QUIET).close()
    found = modes(folder)
    assert (found.pop("store"), set(found.values())) == (0o700, {0o600})
    assert f"{folder} was open to other users (755), and is no more" in caplog.text
    assert f"{folder / 'store.sqlite'} was open to other users (644), and is no more" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_folder_with_other_files_keeps_its_mode_and_they_theirs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = made(tmp_path / "store")
    (folder / "mine").write_text("mine")
    for each, mode in ((folder, 0o755), (folder / "mine", 0o644), (folder / "store.sqlite", 0o644)):
        each.chmod(mode)
    Engine(folder, options=QUIET).close()
    found = modes(folder)
    assert (found["store"], found["mine"], found["store.sqlite"]) == (0o755, 0o644, 0o600)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 1
    assert "holds other files as well, so its mode stays" in told[0]
    caplog.clear()
    folder.chmod(0o700)
    Engine(folder, options=QUIET).close()
    assert caplog.records == []


def test_a_link_in_the_folder_has_no_other_file_written_to_or_closed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("another's")
    (tmp_path / "other").chmod(0o644)
    (tmp_path / "store").mkdir(mode=0o700)
    (tmp_path / "store" / "store.sqlite-old").symlink_to(tmp_path / "other")
    Engine(tmp_path / "store", options=QUIET).close()
    assert stat.S_IMODE((tmp_path / "other").stat().st_mode) == 0o644
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "LOCK").symlink_to(tmp_path / "other")
    with pytest.raises(ConfigError, match="is a link, which would have another file written to"):
        Engine(tmp_path / "second", options=QUIET)
    assert (tmp_path / "other").read_text() == "another's"


def test_a_folder_is_held_until_it_is_let_go_of_and_its_holder_is_named(tmp_path: Path) -> None:
    with FolderLock(tmp_path) as held:
        assert held.folder == tmp_path
        assert (tmp_path / "LOCK").read_text() == f"{os.getpid()}\n"
        there = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(3):
            with pytest.raises(FolderInUse, match=f"in use by process {os.getpid()};"):
                FolderLock(tmp_path)
        assert len(list(Path("/proc/self/fd").iterdir())) == there
    (tmp_path / "LOCK").write_text("4294967295 and what an older and longer text has left")
    again = FolderLock(tmp_path)
    assert (tmp_path / "LOCK").read_text() == f"{os.getpid()}\n"
    again.release()
    again.release()
    FolderLock(tmp_path).release()


def test_who_holds_a_folder_without_saying_so_is_unknown(tmp_path: Path) -> None:
    held = FolderLock(tmp_path)
    (tmp_path / "LOCK").write_text("")
    with pytest.raises(FolderInUse, match="in use by process unknown"):
        FolderLock(tmp_path)
    held.release()


def test_a_store_that_cannot_be_opened_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_bytes(b"no database at all" * 400)
    for _ in range(2):
        with pytest.raises(GatewayError) as refused:
            Engine(tmp_path, options=QUIET)
        assert not isinstance(refused.value, FolderInUse)
    (tmp_path / "store.sqlite").unlink()
    Engine(tmp_path, options=QUIET).close()


# --- many commits at once ---------------------------------------------------------------------------


def test_commits_that_go_together_have_each_its_own_answer_or_error(tmp_path: Path) -> None:
    engine = Engine(tmp_path, auto_create=True, options=QUIET)
    worlds = [Namespace(name) for name in ("a", "b", "c", "d")]
    heads = [engine.stat(ns).version for ns in worlds]

    def request(ns: Namespace, version: str, data: bytes) -> CommitRequest:
        page = PageWrite(0, blake3(data).digest(), data)
        return CommitRequest(os.urandom(16), [NamespaceCommit(ns, version, [page])], True)

    commit(engine, 0, b"newer", worlds[1])
    batches = engine.writer.counters["batches"]
    answers = engine.commit_each(
        [
            request(worlds[0], heads[0], b"first"),
            request(worlds[1], heads[1], b"too late"),
            request(worlds[2], heads[2], bytes(STORE_PAGE_BYTES_MAX + 1)),
            request(worlds[3], heads[3], bytes(STORE_PAGE_BYTES_MAX)),
        ]
    )
    assert [type(answer) for answer in answers] == [Committed, Conflict, TooLarge, Committed]
    assert engine.writer.counters["batches"] - batches <= 2
    for ns, answer, data in (
        (worlds[0], answers[0], b"first"),
        (worlds[3], answers[3], bytes(STORE_PAGE_BYTES_MAX)),
    ):
        assert isinstance(answer, Committed)
        assert engine.stat(ns).version == answer.version
        assert read(engine, 0, answer.version, ns) == data
    assert engine.stat(worlds[2]).version == heads[2]
    assert engine.commit_each([]) == []
    engine.close()


def test_pages_by_their_hash_alone_go_together_with_others(tmp_path: Path) -> None:
    engine = Engine(tmp_path, auto_create=True, options=QUIET)
    head = engine.stat(NS).version
    (ahead,) = engine.write(NS, [b"written ahead"])
    pages = [PageWrite(0, ahead), PageWrite(1, blake3(b"inline").digest(), b"inline")]
    (answer,) = engine.commit_each([CommitRequest(os.urandom(16), [NamespaceCommit(NS, head, pages)], True)])
    assert isinstance(answer, Committed)
    reads = [PageRead(0, answer.version), PageRead(1, answer.version)]
    assert [page.data for page in engine.read(NS, reads)] == [b"written ahead", b"inline"]
    engine.close()


# --- its own thread ---------------------------------------------------------------------------------


def count(engine: Engine, query: str) -> int:
    with engine.pool.cursor() as cursor:
        return int(cursor.execute(query).fetchall()[0][0])


def test_what_is_deleted_goes_by_itself_with_all_that_was_noted_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "STORE_SWEEP_S", 0.0)
    monkeypatch.setattr(background, "STORE_BACKGROUND_LOOK_S", 0.005)
    engine = Engine(tmp_path, auto_create=True)
    engine.stat(NS)
    commit(engine, 0, b"page")
    engine.rename_namespace(NS.key, "other")
    assert count(engine, "SELECT count(*) FROM meta WHERE name LIKE 'named:%'") == 1
    engine.delete_namespace("other")
    wait_until(lambda: count(engine, "SELECT count(*) FROM ns") == 0)
    for table in ("page", "content", "blob", "log"):
        assert count(engine, f"SELECT count(*) FROM {table}") == 0, table
    assert count(engine, "SELECT count(*) FROM meta WHERE name LIKE 'named:%'") == 0
    engine.close()


def test_what_fails_in_the_background_is_counted_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "STORE_MOMENT_S", 0.0)
    monkeypatch.setattr(background, "STORE_BACKGROUND_LOOK_S", 0.005)
    made(tmp_path / "store")
    con = apsw.Connection(str(tmp_path / "store" / "store.sqlite"))
    con.execute("ALTER TABLE moment RENAME TO hidden")
    con.close()
    engine = Engine(tmp_path / "store", options=QUIET)
    engine.close()
    engine = Engine(tmp_path / "store")
    own = engine._background  # it fails in silence: whoever commits is told of a broken disk
    assert own is not None
    wait_until(lambda: own.failures >= 3)
    version = commit(engine, 0, b"commits go on")
    assert read(engine, 0, version) == b"commits go on"
    con = apsw.Connection(str(tmp_path / "store" / "store.sqlite"))
    con.set_busy_timeout(10_000)
    con.execute("ALTER TABLE hidden RENAME TO moment")
    con.close()
    wait_until(lambda: count(engine, "SELECT count(*) FROM moment") > 0)
    engine.close()
    engine.close()


def test_a_moment_is_kept_every_five_seconds_and_not_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "STORE_BACKGROUND_LOOK_S", 0.001)
    looks = 0
    engine = Engine(tmp_path, auto_create=True, options=QUIET)
    kept: list[int] = []

    class Looked(threading.Event):
        def is_set(self) -> bool:
            nonlocal looks
            looks += 1
            return super().is_set()

    monkeypatch.setattr(engine, "keep_time", lambda: kept.append(looks))
    clock = iter(range(1_000_000))
    monkeypatch.setattr(background, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    stop = Looked()
    own = background.Background(engine, stop)
    wait_until(lambda: looks >= 22)
    stop.set()
    own.join()
    monkeypatch.undo()
    assert kept[0] == 1, "the first at once"
    steps = {after - before for before, after in pairwise(kept)}
    assert steps == {5}
    engine.close()
