"""Many entities at once: lists by filter, and what changed since a revision. Room: store. Source: docs/ENTITIES.md."""

from __future__ import annotations

import apsw

from gateway.limits import ENTITY_FEED_BYTES_MAX, ENTITY_PAGE_BYTES_MAX
from gateway.store.entities.rows import COLUMNS, entity_of
from gateway.store.entities.schema import FORGOTTEN, REVISION, is_there, meta
from gateway.wire.entities.values import Change, Entity, Filter, Removal


def page(
    connection: apsw.Connection, wanted: Filter, limit: int, bytes_max: int = ENTITY_PAGE_BYTES_MAX
) -> tuple[list[Entity], bool]:
    """Up to ``limit`` entities by rising id after ``wanted.after``, at least one but not many more
    than ``bytes_max`` bytes of states; and whether there are more."""
    if not is_there(connection):
        return [], False
    tests, values = _tests(wanted)
    sql = f"SELECT {COLUMNS} FROM entities WHERE {' AND '.join(tests)} ORDER BY id LIMIT ?"
    found: list[Entity] = []
    size = 0
    # One more than is wanted, which tells whether there are more.
    for row in connection.execute(sql, (*values, limit + 1)):
        if len(found) == limit or size > bytes_max:
            return found, True
        found.append(entity_of(row))
        size += len(found[-1].state)
    return found, False


def _tests(wanted: Filter) -> tuple[list[str], list[str]]:
    tests, values = ["id > ?"], [wanted.after]
    for column, value in (("class", wanted.class_name), ("owner", wanted.owner)):
        if value is not None:
            tests.append(f"{column} = ?")
            values.append(value)
    if wanted.tag is not None:
        tests.append("id IN (SELECT id FROM entity_tags WHERE tag = ?)")
        values.append(wanted.tag)
    if wanted.prefix:
        tests.append("id >= ? AND id < ?")
        # A range in place of LIKE, which the index would not serve: it folds case, and takes % and _ for
        # more than they are.
        values += [wanted.prefix, wanted.prefix + "\U0010ffff"]
    return tests, values


def revision(connection: apsw.Connection) -> int:
    """The newest revision of this database; 0 where there were never entities."""
    return meta(connection, REVISION) if is_there(connection) else 0


def reaches_back_to(connection: apsw.Connection) -> int:
    """The oldest revision from which :func:`changes` still knows everything."""
    return meta(connection, FORGOTTEN) if is_there(connection) else 0


def changes(
    connection: apsw.Connection, since: int, limit: int, bytes_max: int = ENTITY_FEED_BYTES_MAX
) -> tuple[list[Change], int]:
    """What is different since revision ``since``, by rising revision: each entity's newest state or
    its removal; and the revision up to which that is complete (the newest one, unless ``limit``
    or ``bytes_max`` cut it). Nothing is missing where ``since >= reaches_back_to``."""
    if not is_there(connection):
        return [], 0
    newest = revision(connection)
    found: list[Change] = []
    size, complete = 0, newest
    sql = f"SELECT {COLUMNS} FROM entities WHERE revision > ? ORDER BY revision LIMIT ?"
    for row in connection.execute(sql, (since, limit)):
        found.append(entity_of(row))
        size += len(row[2])
        # What is cut here cuts the removals too: a revision is complete with both or not at all.
        if len(found) == limit or size > bytes_max:
            complete = found[-1].revision
            break
    sql = """SELECT id, revision, time_us, moved_to FROM entity_removals
        WHERE revision > ? AND revision <= ? ORDER BY revision LIMIT ?"""
    gone = [Removal(*row) for row in connection.execute(sql, (since, complete, limit))]
    if len(gone) == limit:
        complete = gone[-1].revision
    merged = sorted((*found, *gone), key=lambda change: change.revision)
    return [change for change in merged if change.revision <= complete], complete
