"""Looking at a store folder from outside: check, backup, stat; also while a gateway has it open. Room: store.

Each works on one read transaction, so what it sees is one moment of the store.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from gateway.errors import ConfigError, StoreDamaged
from gateway.limits import STORE_BACKUP_STEP_PAGES, STORE_STRUCTURE_FINDINGS_MAX
from gateway.store.embedded import schema
from gateway.store.embedded.content import unpack
from gateway.store.embedded.failures import translated
from gateway.store.embedded.snapshot import FileSnapshot
from gateway.store.embedded.sql import ask


@dataclass(slots=True)
class CheckReport:
    """How much is right and how much is not: ``contents`` and ``references`` that are well, ``damaged`` of all."""

    contents: int = 0
    references: int = 0
    damaged: int = 0

    @property
    def ok(self) -> int:
        """Everything that was found well."""
        return self.contents + self.references


def check(folder: Path | str, on_damage: Callable[[str], object] = lambda line: None) -> CheckReport:
    """Every content against its hash, every reference against what it names; goes on past damage.

    ``on_damage`` gets one sentence for each fault. Raises :class:`ConfigError` if there is no store.
    """
    report = CheckReport()

    def damaged(line: str) -> None:
        report.damaged += 1
        on_damage(line)

    with _opened(folder) as con:
        _check_structure(con, damaged)
        _check_contents(con, report, damaged)
        _check_references(con, report, damaged)
        _check_namespaces(con, damaged)
    return report


def backup(
    folder: Path | str, file: Path | str, on_progress: Callable[[int, int], object] | None = None
) -> int:
    """Copy the store as it is at this moment into one SQLite file; its size in bytes. To restore, put
    the file into an empty folder as ``store.sqlite``. ``on_progress(done, total)`` in pages.

    Raises :class:`ConfigError` if the file exists, ``StoreUnavailable`` if it cannot be written; nothing
    half-written ever stands under its name. https://sqlite.org/c3ref/backup_finish.html.
    """
    target = Path(file).absolute()
    if target.exists():
        raise ConfigError(f"{target} exists already; name another file for the backup")
    part = target.with_name(target.name + ".part")
    try:
        with _opened(folder) as source, translated(part):
            _copy(source, part, on_progress)
        # Whole or not at all: rename(2) is atomic within a file system.
        os.replace(part, target)
        _sync(target.parent)
    finally:
        # The copy has a rollback journal while it is written.
        for leftover in (part, part.with_name(part.name + "-journal")):
            leftover.unlink(missing_ok=True)
    return target.stat().st_size


def stats(folder: Path | str) -> dict[str, object]:
    """Counts and sizes: ``namespaces, page_versions, contents, content_bytes, loose_contents, moments,
    oldest_moment, newest_version, files``."""
    with _opened(folder) as con:
        out = {
            "namespaces": _one(con, "SELECT count(*) FROM ns WHERE key IS NOT NULL"),
            "page_versions": _one(con, "SELECT count(*) FROM page"),
            "contents": _one(con, "SELECT count(*) FROM content"),
            "content_bytes": _one(con, "SELECT coalesce(sum(length(data)), 0) FROM blob"),
            "loose_contents": _one(con, "SELECT count(*) FROM content WHERE refs = 0"),
            "moments": _one(con, "SELECT count(*) FROM moment"),
            "oldest_moment": _one(con, "SELECT min(time) FROM moment"),
            "newest_version": f"{_one(con, 'SELECT coalesce(max(version), 0) FROM log'):020x}",
        }
    out["files"] = {
        path.name: path.stat().st_size for path in sorted(Path(folder).glob(schema.FILE_NAME + "*"))
    }
    return out


@contextlib.contextmanager
def _opened(folder: Path | str) -> Iterator[apsw.Connection]:
    path = Path(folder) / schema.FILE_NAME
    if not path.is_file():
        raise ConfigError(
            f"there is no store in {Path(folder).absolute()}: {schema.FILE_NAME} is missing; name its folder with --store"
        )
    with translated(path), _connected(path) as con:
        schema.verify(con, path)
        # Until the connection is closed: every query sees the same moment, and a copy does not begin anew
        # with each commit of a running gateway (https://sqlite.org/c3ref/backup_finish.html).
        con.execute("BEGIN")
        yield con


@contextlib.contextmanager
def _connected(path: Path) -> Iterator[apsw.Connection]:
    """As any other reader where SQLite may note that somebody reads, which holds the writer's copying back
    however long that takes; else, on a read-only mount, by a snapshot."""
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        con = schema.open_reader(path)
        try:
            yield con
        finally:
            con.close(True)
        return
    try:
        snapshot = FileSnapshot(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    try:
        yield snapshot.connection
    finally:
        snapshot.close()


def _one(con: apsw.Connection, query: str) -> object:
    return ask(con, query)[0][0]


def _check_structure(con: apsw.Connection, damaged: Callable[[str], None]) -> None:
    try:
        findings = [row[0] for row in con.execute(f"PRAGMA integrity_check({STORE_STRUCTURE_FINDINGS_MAX})")]
    except apsw.Error as error:
        findings = [str(error)]
    for finding in findings:
        if finding != "ok":
            damaged(f"structure: {finding}")


def _scan(
    con: apsw.Connection, table: str, columns: str, keys: tuple[str, ...], damaged: Callable[[str], None]
) -> Iterator[tuple[Any, ...]]:
    """All rows; where the table is damaged in the middle, from both ends up to the damage."""
    # Rows between two damaged places are not reached; they count as lost.
    for descending in (False, True):
        order = ", ".join(f"{key} DESC" if descending else key for key in keys)
        try:
            yield from con.execute(f"SELECT {columns} FROM {table} ORDER BY {order}")
            return
        except apsw.Error as error:
            damaged(f"table {table} cannot be read {'back' if descending else 'on'} from some row: {error}")


def _check_contents(con: apsw.Connection, report: CheckReport, damaged: Callable[[str], None]) -> None:
    for rid, digest, blob in _scan(con, "content", "ns, hash, blob", ("ns", "hash"), damaged):
        where = f"content {digest.hex()} of namespace {_name(con, rid)}"
        try:
            rows = ask(con, "SELECT enc, data FROM blob WHERE id = ?", (blob,))
            if not rows:
                damaged(f"{where}: its data is missing")
                continue
            unpack(digest, *rows[0])
            report.contents += 1
        except (apsw.Error, StoreDamaged) as error:
            damaged(f"{where}: {error}")


def _check_references(con: apsw.Connection, report: CheckReport, damaged: Callable[[str], None]) -> None:
    query = "SELECT blob FROM content WHERE ns = ? AND hash = ?"
    columns = "ns, page, version, hash, blob"
    for rid, page, version, digest, blob in _scan(con, "page", columns, ("ns", "page", "version"), damaged):
        where = f"page {page} at version {version:020x} of namespace {_name(con, rid)}"
        try:
            rows = ask(con, query, (rid, digest))
        except apsw.Error as error:
            damaged(f"{where}: {error}")
            continue
        if not rows:
            damaged(f"{where}: its content {digest.hex()} is missing")
        elif rows[0][0] != blob:
            damaged(f"{where}: it names data {blob}, its content {digest.hex()} names {rows[0][0]}")
        else:
            report.references += 1


def _check_namespaces(con: apsw.Connection, damaged: Callable[[str], None]) -> None:
    queries = {
        "overlay base of namespace {} is missing": "SELECT key FROM ns a WHERE base IS NOT NULL "
        "AND NOT EXISTS (SELECT 1 FROM ns b WHERE b.id = a.base)",
        "pages of namespace number {} belong to none": "SELECT DISTINCT ns FROM page "
        "WHERE ns NOT IN (SELECT rid FROM ns)",
        "references to contents of namespace number {} are miscounted": "SELECT DISTINCT c.ns FROM content c "
        "LEFT JOIN (SELECT ns, hash, count(*) AS n FROM page GROUP BY ns, hash) p "
        "ON p.ns = c.ns AND p.hash = c.hash WHERE c.refs != coalesce(p.n, 0)",
    }
    for sentence, query in queries.items():
        try:
            for (name,) in con.execute(query):
                damaged(sentence.format(name))
        except apsw.Error as error:
            damaged(f"namespaces: {error}")


def _name(con: apsw.Connection, rid: int) -> str:
    try:
        rows = ask(con, "SELECT key FROM ns WHERE rid = ?", (rid,))
    except apsw.Error:
        rows = []
    return repr(rows[0][0]) if rows and rows[0][0] is not None else f"number {rid}"


def _copy(source: apsw.Connection, part: Path, on_progress: Callable[[int, int], object] | None) -> None:
    part.unlink(missing_ok=True)
    target = apsw.Connection(str(part))
    try:
        target.execute("PRAGMA synchronous=FULL")
        with target.backup("main", source, "main") as copying:
            while not copying.done:
                copying.step(STORE_BACKUP_STEP_PAGES)
                if on_progress is not None:
                    on_progress(copying.page_count - copying.remaining, copying.page_count)
    finally:
        target.close(True)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
