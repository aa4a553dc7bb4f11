"""A store folder that is only read, beside its writer: the same answers, no writes, and always one moment of it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import apsw
import pytest
from blake3 import blake3

from gateway import limits
from gateway.errors import BadInput, ConfigError, Gone, NoNamespace, StoreDamaged, StoreUnavailable
from gateway.store.base import CommitRequest, Namespace, NamespaceCommit, PageRead, PageWrite
from gateway.store.embedded import EmbeddedOptions, Engine, FolderReader, ReadOnly, ReadOnlyStore, reader
from gateway.store.embedded.snapshot import FileSnapshot, Moved

NS = Namespace("w")
PROTECTED = Namespace("secret:" + blake3(b"proof").hexdigest(), b"proof".hex())


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path / "store", options=EmbeddedOptions(background=False))
    engine.create_namespace("w")
    yield engine
    engine.close()


@pytest.fixture
def looking(engine: Engine) -> Iterator[FolderReader]:
    looking = FolderReader(engine.folder)
    yield looking
    looking.close()


def commit(engine: Engine, *pages: tuple[int, bytes], ns: Namespace = NS) -> str:
    writes = [PageWrite(page, blake3(data).digest(), data) for page, data in pages]
    part = NamespaceCommit(ns, engine.stat(ns).version, writes, None)
    return engine.commit(CommitRequest(os.urandom(16), [part], True)).version


def open_files() -> int:
    """How many files this process has open; 0 where the system does not tell."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def connected(engine: Engine) -> contextlib.closing[apsw.Connection]:
    return contextlib.closing(apsw.Connection(str(engine.path)))


def copied(engine: Engine) -> None:
    """The log is copied into the file, and is empty: what was read from either has moved."""
    with connected(engine) as con:
        assert con.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0] == 0


def test_a_reader_answers_what_the_engine_answers(engine: Engine) -> None:
    versions = [
        commit(engine, (0, b"a" * 4096), (7, b"x")),
        commit(engine, (3, b"b")),
        commit(engine, (7, b"y")),
    ]
    engine.create_namespace("w2")
    engine.create_namespace("other")
    engine.create_namespace(PROTECTED.key)
    engine.keep_time()
    engine.close()
    looking = FolderReader(engine.folder)
    with Opened(engine.folder) as same:
        for since in [None, *versions]:
            told, asked = looking.stat(NS, from_version=since), same.stat(NS, from_version=since)
            assert (told.version, told.interval) == (asked.version, asked.interval)
            assert told.read_only
            assert not asked.read_only
        wanted = [PageRead(page, version) for page in (0, 3, 7, 9) for version in versions]
        assert looking.read(NS, wanted) == same.read(NS, wanted)
        by_hash = [PageRead(0, "0" * 20, blake3(b"x").digest())]
        assert looking.read(NS, by_hash) == same.read(NS, by_hash)
        assert looking.stat(PROTECTED).version == same.stat(PROTECTED).version
        for prefix in ("", "w", "w2", "none"):
            assert looking.list_namespaces(prefix) == same.list_namespaces(prefix)
        assert [info.key for info in looking.list_namespaces("w")] == ["w", "w2"]
        assert looking.namespace_info("w2") == same.namespace_info("w2")
        assert looking.namespace_info(PROTECTED.key).key == PROTECTED.key
        moment = looking.time2version(0).after
        assert moment is not None
        assert moment.version > versions[-1]
        assert looking.time2version(moment.time) == same.time2version(moment.time)
        assert looking.time2version(moment.time + 1) == same.time2version(moment.time + 1)
    looking.close()


class Opened:
    def __init__(self, folder: Path) -> None:
        self.engine = Engine(folder, options=EmbeddedOptions(background=False))

    def __enter__(self) -> Engine:
        return self.engine

    def __exit__(self, *_: object) -> None:
        self.engine.close()


def test_what_does_not_exist_or_is_protected_is_told_as_by_the_engine(engine: Engine) -> None:
    first = commit(engine, (0, b"a"))
    second = commit(engine, (0, b"b"))
    engine.create_namespace(PROTECTED.key)
    list(engine.truncate_namespace("w", second))
    looking = FolderReader(engine.folder)
    for ask in (looking.stat, lambda ns: looking.read(ns, [PageRead(0, second)])):
        with pytest.raises(NoNamespace):
            ask(Namespace("none"))
        with pytest.raises(NoNamespace):
            ask(Namespace(PROTECTED.key, b"wrong".hex()))
    with pytest.raises(NoNamespace):
        looking.namespace_info("none")
    with pytest.raises(Gone):
        looking.read(NS, [PageRead(0, first)])
    with pytest.raises(BadInput):
        looking.stat(NS, from_version="no version")
    with pytest.raises(ReadOnly, match="nobody holds a lock"):
        looking.stat(NS, lock_owner="me")
    looking.close()


def test_where_a_namespace_is_locked_its_snapshot_is_the_head(engine: Engine) -> None:
    before = commit(engine, (0, b"a"))
    engine.lock(NS, "owner", before)
    looking = FolderReader(engine.folder)
    assert looking.stat(NS).version == before == engine.stat(NS).version
    looking.close()


REFUSED: dict[str, Callable[[ReadOnlyStore], Awaitable[object]]] = {
    "content is not written": lambda store: store.write(NS, [b"a"]),
    "nothing is committed": lambda store: store.commit(CommitRequest(b"", [])),
    "no namespace is made": lambda store: store.create_namespace("n"),
    "nothing is locked": lambda store: store.lock(NS, "me"),
    "nothing is unlocked": lambda store: store.unlock(NS, "me", rollback=True),
    "no namespace is renamed": lambda store: store.rename_namespace("w", "v"),
    "no namespace is deleted": lambda store: store.delete_namespace("w"),
}


@pytest.mark.parametrize("words", REFUSED)
async def test_whoever_only_reads_is_refused_every_change(engine: Engine, words: str) -> None:
    store = ReadOnlyStore.open(engine.folder)
    with pytest.raises(ReadOnly, match=f"^{words} in {engine.folder}"):
        await REFUSED[words](store)
    await store.aclose()


async def test_upkeep_is_refused_too_before_its_first_line(engine: Engine) -> None:
    before = open_files()
    store = ReadOnlyStore.open(engine.folder)
    with pytest.raises(ReadOnly, match="nothing is truncated"):
        store.truncate_namespace("w", "0" * 20)
    with pytest.raises(ReadOnly, match="nothing is collected"):
        store.delete_unreferenced_content("w")
    await store.aclose()
    await store.aclose()
    assert open_files() == before


async def test_the_awaited_face_answers_as_the_blocking_one(engine: Engine) -> None:
    version = commit(engine, (0, b"a"))
    engine.keep_time()
    store = ReadOnlyStore.open(engine.folder)
    face = store.blocking()
    assert await store.stat(NS, from_version=version) == face.stat(NS, from_version=version)
    assert await store.read(NS, [PageRead(0, version)]) == face.read(NS, [PageRead(0, version)])
    assert (await store.time2version(0)).after is not None
    assert [info.key for info in await store.list_namespaces("w")] == ["w"]
    assert await store.list_namespaces("v") == []
    assert (await store.namespace_info("w")).key == "w"
    assert store.facts() == {}
    await store.aclose()


def test_a_folder_without_a_store_and_one_that_is_gone_are_told(tmp_path: Path, engine: Engine) -> None:
    with pytest.raises(ConfigError, match="there is no store in"):
        FolderReader(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="name its folder with --store"):
        FolderReader(tmp_path / "empty")
    looking = FolderReader(engine.folder, follows=True)
    looking.close()
    engine.close()
    shutil.rmtree(engine.folder)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        looking.stat(NS)
    looking.close()


def test_what_is_no_store_of_ours_is_told(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"SQLite format 3\0" + bytes(4080))
    with pytest.raises((ConfigError, StoreDamaged, StoreUnavailable)):
        FolderReader(tmp_path)


def test_a_moment_lasts_until_the_writer_has_gone_past_it_and_then_a_newer_one_is_read(
    engine: Engine, looking: FolderReader
) -> None:
    big = os.urandom(32_768)
    first = commit(engine, (0, b"a"), (1, big))
    looking.close()
    assert looking.stat(NS).version == first
    second = commit(engine, (0, b"b"))
    assert looking.stat(NS).version == first, "beside the writer the moment stays"
    assert looking.moved == 0
    copied(engine)
    third = commit(engine, (0, b"c"))
    assert looking.read(NS, [PageRead(1, first)])[0].data == big
    assert looking.stat(NS).version == third > second
    assert looking.moved == 1


def test_one_that_follows_is_never_older_than_a_moment(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "STORE_FOLLOW_S", -1.0)
    commit(engine, (0, b"a"))
    following, staying = FolderReader(engine.folder, follows=True), FolderReader(engine.folder)
    assert following.stat(NS) == staying.stat(NS)
    before = staying.stat(NS).version
    second = commit(engine, (0, b"b"))
    assert (following.stat(NS).version, staying.stat(NS).version) == (second, before)
    assert following.moved == 0
    following.close()
    staying.close()


def test_one_that_follows_keeps_its_moment_for_so_long(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "STORE_FOLLOW_S", 1e9)
    commit(engine, (0, b"a"))
    following = FolderReader(engine.folder, follows=True)
    first = following.stat(NS).version
    commit(engine, (0, b"b"))
    assert following.stat(NS).version == first
    following.close()


def test_a_writer_that_is_faster_than_every_look_is_told(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking = FolderReader(engine.folder)
    asked: list[int] = []

    def passing(cursor: apsw.Cursor, *_: object) -> None:
        asked.append(1)
        raise Moved("past")

    monkeypatch.setattr(reader.reading, "bounds_with", passing)
    with pytest.raises(Moved):
        looking.time2version(1)
    assert len(asked) == looking.moved == limits.STORE_SNAPSHOTS_MAX
    looking.close()


# --- the snapshot itself ---------------------------------------------------------------------------


def heads(snapshot: FileSnapshot) -> int:
    return int(snapshot.connection.execute("SELECT count(*) FROM log").get)


def test_a_snapshot_sees_what_the_log_holds_and_nothing_after_it(engine: Engine) -> None:
    commit(engine, (0, b"a"))
    snapshot = FileSnapshot(engine.path)
    count = heads(snapshot)
    commit(engine, (0, b"b"))
    assert heads(snapshot) == count
    snapshot.check()
    newer = FileSnapshot(engine.path)
    assert heads(newer) == count + 1
    newer.close()
    newer.close()
    snapshot.close()


def passed(snapshot: FileSnapshot) -> bool:
    try:
        snapshot.check()
    except Moved:
        return True
    return False


def test_a_log_begun_anew_ends_the_moment(engine: Engine) -> None:
    commit(engine, (0, b"a"))
    snapshot = FileSnapshot(engine.path)
    heads(snapshot)
    copied(engine)
    commit(engine, (0, b"b"))
    assert passed(snapshot)
    with pytest.raises((Moved, apsw.Error)):
        snapshot.connection.execute("SELECT sum(length(data)) FROM blob").fetchall()
    snapshot.close()


def test_copying_only_what_the_moment_has_leaves_it_and_copying_more_ends_it(engine: Engine) -> None:
    commit(engine, (0, b"a"))
    snapshot = FileSnapshot(engine.path)
    count = heads(snapshot)
    with connected(engine) as con:
        assert con.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()[0][0] == 0
    assert not passed(snapshot)
    assert heads(snapshot) == count
    with connected(engine) as con:
        con.execute("BEGIN")
        con.execute("SELECT count(*) FROM log").fetchall()  # as long as somebody reads, the log goes on
        commit(engine, (0, b"b"))
        con.execute("COMMIT")
        assert con.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()[0][0] == 0
    assert passed(snapshot)
    snapshot.close()


def test_a_folder_at_rest_has_no_log_and_its_moment_ends_with_the_next_writer(engine: Engine) -> None:
    commit(engine, (0, b"a"))
    engine.close()
    assert not [path for path in engine.folder.iterdir() if path.name.endswith("-wal")]
    snapshot = FileSnapshot(engine.path)
    assert heads(snapshot) == 1
    assert not passed(snapshot)
    with Opened(engine.folder) as again:
        commit(again, (0, b"b"))
        assert passed(snapshot)
    snapshot.close()


def test_an_empty_log_is_none_until_something_is_in_it(engine: Engine) -> None:
    copied(engine)
    snapshot = FileSnapshot(engine.path)
    assert not passed(snapshot)
    assert heads(snapshot) == 0
    commit(engine, (0, b"a"))
    assert passed(snapshot)
    snapshot.close()


def test_a_log_whose_index_is_lost_is_read_all_the_same(engine: Engine, tmp_path: Path) -> None:
    commit(engine, (0, b"a"))
    commit(engine, (0, b"b"))
    for name in ("store.sqlite", "store.sqlite-wal"):
        shutil.copy(engine.folder / name, tmp_path / name)
    snapshot = FileSnapshot(tmp_path / "store.sqlite")
    assert heads(snapshot) == 2
    assert not passed(snapshot)
    (tmp_path / "store.sqlite-shm").write_bytes(b"")
    assert passed(snapshot), "somebody has begun to write here"
    snapshot.close()


def test_a_snapshot_writes_nothing_and_leaves_no_file(engine: Engine) -> None:
    commit(engine, (0, b"a"))
    before = {path.name: path.read_bytes() for path in engine.folder.iterdir()}
    snapshot = FileSnapshot(engine.path)
    heads(snapshot)
    with pytest.raises(apsw.Error):
        snapshot.connection.execute("CREATE TABLE t(a)")
    with pytest.raises(apsw.Error):
        snapshot.connection.execute("DELETE FROM log")
    snapshot.close()
    assert {path.name: path.read_bytes() for path in engine.folder.iterdir()} == before


def test_pages_that_are_newer_in_the_file_are_never_taken_for_the_moments(engine: Engine) -> None:
    commit(engine, (1, os.urandom(32_768)), (2, os.urandom(32_768)))
    copied(engine)
    snapshot = FileSnapshot(engine.path)
    heads(snapshot)
    commit(engine, (1, os.urandom(32_768)))
    copied(engine)
    for _ in range(2):
        with pytest.raises((Moved, apsw.Error)):
            snapshot.connection.execute("SELECT sum(length(data)) FROM blob").fetchall()
    snapshot.close()


def test_descriptors_are_given_back_also_where_opening_fails(engine: Engine, tmp_path: Path) -> None:
    commit(engine, (0, b"a"))
    before, vfs = open_files(), set(apsw.vfs_names())
    for _ in range(2):
        looking = FolderReader(engine.folder)
        looking.stat(NS)
        looking.close()
    for _ in range(3):
        snapshot = FileSnapshot(engine.path)
        heads(snapshot)
        snapshot.close()
    with pytest.raises(FileNotFoundError):
        FileSnapshot(tmp_path / "none")
    (tmp_path / "bad").write_bytes(b"SQLite format 3\0" + bytes(4080))
    (tmp_path / "bad-wal").mkdir()
    with pytest.raises((OSError, apsw.Error)):
        FileSnapshot(tmp_path / "bad")
    assert (open_files(), set(apsw.vfs_names())) == (before, vfs)
