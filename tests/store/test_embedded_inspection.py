"""A store folder looked at from outside: each kind of damage is told in its own sentence, and counted once; copies and sizes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from blake3 import blake3

from gateway.errors import ConfigError, StoreUnavailable
from gateway.limits import STORE_BACKUP_STEP_PAGES
from gateway.store.base import CommitRequest, Namespace, NamespaceCommit, OverlayBase, PageWrite
from gateway.store.embedded import EmbeddedOptions, Engine, backup, check, stats

NS = Namespace("w")
CONTENTS = [b"one", b"two", b"three"]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path / "store", clock=lambda: 1_000.0, options=EmbeddedOptions(background=False))
    engine.create_namespace("w")
    part = NamespaceCommit(NS, engine.stat(NS).version, [written(n, data) for n, data in enumerate(CONTENTS)])
    engine.commit(CommitRequest(os.urandom(16), [part], True))
    yield engine
    engine.close()


def written(page: int, data: bytes) -> PageWrite:
    return PageWrite(page, blake3(data).digest(), data)


def harmed(engine: Engine, *statements: str) -> list[str]:
    """Do these to a store at rest, and check it."""
    engine.close()
    with closing(apsw.Connection(str(engine.path))) as con:
        for statement in statements:
            con.execute(statement)
    return checked(engine)


def checked(engine: Engine) -> list[str]:
    lines: list[str] = []
    report = check(engine.folder, lines.append)
    assert report.damaged == len(lines)
    assert report.ok == report.contents + report.references
    return lines


def digest(data: bytes) -> str:
    return blake3(data).hexdigest()


def test_a_sound_store_is_told_by_its_counts_also_while_it_is_open(engine: Engine) -> None:
    report = check(engine.folder)
    assert (report.contents, report.references, report.damaged, report.ok) == (3, 3, 0, 6)


DAMAGE = {
    "content whose data is gone": (
        ["DELETE FROM blob WHERE data = x'74776f'"],
        [f"content {digest(b'two')} of namespace 'w': its data is missing"],
    ),
    "content that is another": (
        ["UPDATE blob SET data = x'00' WHERE data = x'74776f'"],
        [f"content {digest(b'two')} of namespace 'w'"],
    ),
    "a page whose content is gone": (
        ["DELETE FROM content WHERE blob = (SELECT id FROM blob WHERE data = x'74776f')"],
        [f"page 1 at version VERSION of namespace 'w': its content {digest(b'two')} is missing"],
    ),
    "a page that names other data than its content": (
        ["UPDATE page SET blob = 99 WHERE page = 2"],
        [
            f"page 2 at version VERSION of namespace 'w': it names data 99, its content {digest(b'three')} names 3"
        ],
    ),
    "references that are miscounted": (
        ["UPDATE content SET refs = refs + 1 WHERE blob = 1"],
        ["references to contents of namespace number 1 are miscounted"],
    ),
    "an overlay without its base": (
        ["UPDATE ns SET base = 77 WHERE key = 'w'"],
        ["overlay base of namespace w is missing"],
    ),
    "pages of no namespace": (
        ["UPDATE page SET ns = 9", "UPDATE content SET ns = 9"],
        ["pages of namespace number 9 belong to none"],
    ),
    "a namespace that is being deleted": (["UPDATE ns SET key = NULL"], []),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_each_kind_of_damage_is_told_in_one_sentence(engine: Engine, kind: str) -> None:
    statements, sentences = DAMAGE[kind]
    version = engine.stat(NS).version
    lines = harmed(engine, *statements)
    assert len(lines) == len(sentences)
    for line, sentence in zip(lines, sentences, strict=True):
        assert line.startswith(sentence.replace("VERSION", version))


def test_damage_in_what_has_no_name_is_told_by_number(engine: Engine) -> None:
    lines = harmed(engine, "UPDATE ns SET key = NULL", "UPDATE blob SET data = x'00' WHERE id = 1")
    assert lines[0].startswith(f"content {digest(b'one')} of namespace number 1: ")


def test_tables_that_cannot_be_read_are_told_from_both_ends_and_the_others_are_checked(
    engine: Engine,
) -> None:
    lines = harmed(engine, "DROP TABLE page")
    assert [line for line in lines if line.startswith("table page cannot be read on from some row")]
    assert [line for line in lines if line.startswith("table page cannot be read back from some row")]
    assert len([line for line in lines if line.startswith("namespaces: ")]) == 2
    assert len(lines) == 4
    assert check(engine.folder).contents == 3


def test_what_sqlite_finds_wrong_is_told(engine: Engine) -> None:
    engine.close()
    with closing(apsw.Connection(str(engine.path))) as con:
        (root,) = con.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'content_loose'").fetchall()[0]
    data = bytearray(engine.path.read_bytes())
    data[(root - 1) * 4096 : root * 4096] = bytes(4096)
    engine.path.write_bytes(data)
    assert [line for line in checked(engine) if line.startswith("structure: ")]


def test_a_folder_without_a_store_is_told_by_every_look(tmp_path: Path) -> None:
    for look in (check, stats, lambda folder: backup(folder, tmp_path / "copy")):
        with pytest.raises(ConfigError, match=r"store\.sqlite is missing; name its folder with --store"):
            look(tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- sizes -------------------------------------------------------------------------------------------


def test_sizes_tell_what_is_there(engine: Engine) -> None:
    told = stats(engine.folder)
    assert told["files"] == {path.name: path.stat().st_size for path in engine.folder.glob("store.sqlite*")}
    engine.keep_time()
    engine.write(NS, [b"loose content"])
    engine.create_namespace("v", OverlayBase(engine.namespace_info("w").ns_id, engine.stat(NS).version))
    version = engine.stat(NS).version
    told = stats(engine.folder)
    told.pop("files")
    assert told == {
        "namespaces": 2,
        "page_versions": 3,
        "contents": 4,
        "content_bytes": sum(map(len, CONTENTS)) + len(b"loose content"),
        "loose_contents": 1,
        "moments": 1,
        "oldest_moment": 1_000,
        "newest_version": version,
    }


def test_an_empty_store_has_nothing_of_anything(tmp_path: Path) -> None:
    Engine(tmp_path, options=EmbeddedOptions(background=False)).close()
    told = stats(tmp_path)
    assert told.pop("files") == {"store.sqlite": (tmp_path / "store.sqlite").stat().st_size}
    assert told.pop("newest_version") == "0" * 20
    assert told.pop("oldest_moment") is None
    assert set(told.values()) == {0}


# --- copies ------------------------------------------------------------------------------------------


def test_a_copy_is_the_store_and_its_progress_is_told_step_by_step(engine: Engine, tmp_path: Path) -> None:
    for _ in range(5):
        engine.write(NS, [os.urandom(30_000) for _ in range(100)])
    told: list[tuple[int, int]] = []
    size = backup(engine.folder, tmp_path / "copy", lambda done, total: told.append((done, total)))
    assert size == (tmp_path / "copy").stat().st_size == told[-1][1] * 4096
    assert [done for done, _ in told] == [
        min(step * STORE_BACKUP_STEP_PAGES, told[-1][1]) for step in range(1, len(told) + 1)
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "store"]
    (tmp_path / "again").mkdir()
    (tmp_path / "copy").rename(tmp_path / "again" / "store.sqlite")
    assert check(tmp_path / "again").ok == check(engine.folder).ok == 506


def test_a_copy_is_made_over_what_an_earlier_one_left_half_done(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "copy.part").write_bytes(b"half")
    (tmp_path / "copy.part-journal").write_bytes(b"half")
    backup(engine.folder, tmp_path / "copy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "store"]


def test_a_file_that_is_there_is_not_written_over(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "copy").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="exists already; name another file"):
        backup(engine.folder, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"mine"


def test_a_copy_that_cannot_be_written_leaves_nothing(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        backup(engine.folder, tmp_path / "none" / "copy")

    def full(done: int, total: int) -> None:
        raise apsw.FullError("no space")

    with pytest.raises(StoreUnavailable, match="no space left"):
        backup(engine.folder, tmp_path / "copy", full)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
