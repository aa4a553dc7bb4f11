"""One folder to another: the order in which it is done. Room: store. Blocks."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from gateway.errors import ConfigError
from gateway.store.embedded import schema
from gateway.store.embedded.failures import translated
from gateway.store.salvage import heads
from gateway.store.salvage.building import Salvaged, build
from gateway.store.salvage.gathering import PAGE_SIZE, TABLES, Gathering
from gateway.store.salvage.image import Image

Tell = Callable[[str], object]


@dataclass(slots=True)
class SalvageReport:
    """What came out. ``damage``: what is wrong with the file itself, in sentences."""

    namespaces: list[Salvaged] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)

    @property
    def ok(self) -> int:
        return sum(each.ok for each in self.namespaces)

    @property
    def lost(self) -> int:
        return sum(each.lost for each in self.namespaces)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is known to be missing."""
        whole = all(each.database in ("whole", "none") for each in self.namespaces)
        return whole and not self.lost and not self.damage

    def as_json(self) -> dict[str, object]:
        return {
            "ok": self.ok,
            "lost": self.lost,
            "whole": self.is_whole,
            "namespaces": [each.as_json() for each in self.namespaces],
            "damage": self.damage,
        }


def salvage(folder: Path | str, to: Path | str, tell: Tell = lambda line: None) -> SalvageReport:
    """Put everything of the store in ``folder`` that can still be read into the new folder ``to``.

    ``tell`` gets a sentence for each fault as it is found. Raises :class:`ConfigError` where there is no
    store, or ``to`` holds anything; ``StoreUnavailable`` where it cannot be written.
    """
    source, target = Path(folder).absolute(), Path(to).absolute()
    path = source / schema.FILE_NAME
    if not path.is_file():
        raise ConfigError(f"there is no store in {folder}: {schema.FILE_NAME} is missing")
    _prepare(target, source)
    report = SalvageReport()

    def damaged(line: str) -> None:
        report.damage.append(line)
        tell(line)

    try:
        image = Image(path, PAGE_SIZE)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    try:
        for line in image.damage:
            damaged(line)
        if image.cut_bytes:
            damaged(f"the file ends within a page, after {image.cut_bytes} bytes of it")
        with translated(target):
            report.namespaces = _rebuilt(image, target, damaged)
    finally:
        image.close()
    # The old file is closed by now: from here on the new store is one like any other.
    engine = heads.opened(str(target))
    try:
        heads.mend(engine, report.namespaces, tell, hurt=bool(report.damage))
    finally:
        engine.close()
    return report


def _prepare(target: Path, source: Path) -> None:
    # Not even a folder within: whoever salvages wants the evidence untouched.
    if target == source or source in target.parents:
        raise ConfigError(
            f"--to {target} lies in the folder to be salvaged, which stays as it is; name another"
        )
    try:
        target.mkdir(parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise ConfigError(f"--to {target} is not empty; name a new folder")
    except OSError as error:
        raise ConfigError(f"--to {target} cannot be written: {error.strerror}") from error


def _rebuilt(image: Image, target: Path, damaged: Tell) -> list[Salvaged]:
    part, work = target / f"{schema.FILE_NAME}.part", target / "work.part"
    con = apsw.Connection(str(part))
    try:
        # Nothing is lost by a crash: the old folder stays, and the new file has no name yet. One sync,
        # below, before it gets it.
        con.execute(f"PRAGMA page_size={PAGE_SIZE}; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF")
        con.execute("PRAGMA temp_store=FILE")
        schema.create_or_verify(con, part)
        con.execute("ATTACH ? AS work", (str(work),))
        con.execute("PRAGMA work.journal_mode=OFF; PRAGMA work.synchronous=OFF")
        with con:
            con.execute(TABLES)
            gathering = Gathering(image, con, damaged)
            gathering.gather()
            found = build(con, log_is_whole="log" not in gathering.broken_tables)
        con.close()
        _sync(part)
        os.replace(part, target / schema.FILE_NAME)
        _sync(target)
        return found
    finally:
        con.close(True)
        for leftover in (part, work):
            leftover.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
