"""Many entities at once: lists by filter, and what changed since a revision. Room: store."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from gateway.store.entities.rows import COLUMNS, entity_of
from gateway.store.entities.schema import FORGOTTEN, REVISION, is_there, meta
from gateway.wire.entities.values import Change, Entity, Filter, Removal


def page(connection: apsw.Connection, wanted: Filter, limit: int) -> list[Entity]:
    """Up to ``limit`` entities by rising id, after ``wanted.after``."""
    if not is_there(connection):
        return []
    tests, values = _tests(wanted)
    sql = f"SELECT {COLUMNS} FROM entities WHERE {' AND '.join(tests)} ORDER BY id LIMIT ?"
    return [entity_of(row) for row in connection.execute(sql, (*values, limit))]


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
        values += [wanted.prefix, wanted.prefix + "\U0010ffff"]
    return tests, values


def revision(connection: apsw.Connection) -> int:
    """The newest revision of this database; 0 where there were never entities."""
    return meta(connection, REVISION) if is_there(connection) else 0


def reaches_back_to(connection: apsw.Connection) -> int:
    """The oldest revision from which :func:`changes` still knows everything."""
    return meta(connection, FORGOTTEN) if is_there(connection) else 0


def changes(connection: apsw.Connection, since: int, limit: int) -> Sequence[Change]:
    """What is different since revision ``since``: each entity's newest state or its removal, by
    rising revision, at most ``limit``. Complete where ``since >= reaches_back_to``."""
    if not is_there(connection):
        return []
    found: list[Change] = []
    sql = f"SELECT {COLUMNS} FROM entities WHERE revision > ? ORDER BY revision LIMIT ?"
    found += [entity_of(row) for row in connection.execute(sql, (since, limit))]
    sql = "SELECT id, revision, time_us, moved_to FROM entity_removals WHERE revision > ? ORDER BY revision LIMIT ?"
    found += [Removal(*row) for row in connection.execute(sql, (since, limit))]
    return sorted(found, key=lambda change: change.revision)[:limit]
