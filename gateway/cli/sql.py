"""``mvgateway sql``: SQL on a world's database, now or in the past. Room: cli."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from base64 import b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from gateway.cli import _pages
from gateway.limits import SQL_CELL_CHARS_MAX

if TYPE_CHECKING:
    import apsw

    from gateway.store.base import BlockingStore

NAME = "sql"
HELP = "run SQL on a world's database: read-only, at any moment, or with --write"
EXAMPLE = """
mvgateway sql zone-1 "select count(*) from frames"
mvgateway sql zone-1 "select * from frames order by seq desc limit 5" --at 90s-ago --json
mvgateway sql zone-1@000001a1fbb3af870000 "select sql from sqlite_schema" --csv
mvgateway sql zone-1 "select tick, player, position_0 from records('3:51000', '3:51060')"
mvgateway sql notes "create table if not exists n (t text); insert into n values ('hello')" --write
"""


class SqlAnswer(NamedTuple):
    """The rows of the last statement that had columns, and how many rows were changed."""

    columns: Sequence[str]
    rows: list[tuple[object, ...]]
    changed: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.add_argument("world", metavar="WORLD[@VERSION]", help="the world, or any namespace")
    parser.add_argument("sql", metavar="SQL", help="one or more statements; - reads them from stdin")
    parser.add_argument("--at", metavar="VERSION|TIME", help="as it was then: 20 hex digits, a time, 90s-ago")
    parser.add_argument("--write", action="store_true", help="let statements change the database")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="an array of objects; blobs in base64")
    form.add_argument("--csv", action="store_true", help="comma-separated, with a header; blobs in hex")
    _pages.add_store_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Run it and show its rows. Raises :class:`gateway.errors.BadInput` with what SQLite says."""
    from gateway.errors import ConfigError

    name = _pages.named(args.world)
    if args.write and (args.at or name.version):
        raise ConfigError("the past cannot be changed; leave out --write, or --at and @VERSION")
    sql = sys.stdin.read() if args.sql == "-" else args.sql
    work = _pages.with_store(args, lambda store: _run(store, args, name, sql), read_only=not args.write)
    _show(args, work)
    return 0


def _run(store: BlockingStore, args: argparse.Namespace, name: _pages.Named, sql: str) -> SqlAnswer:
    import apsw

    from gateway.errors import BadInput
    from gateway.store.database import Database

    version = _pages.version_at(store, name, args.at)
    ns = _pages.namespace_meant(store, name, create=args.write)
    database = Database.open(
        store,
        ns,
        version=version,
        read_only=not args.write,
        create=args.write,
        own_code=True,
    )
    try:
        if args.write:
            return database.transact(lambda connection: _execute(connection, sql))
        return database.read(lambda connection: _read(connection, sql))
    except apsw.ReadOnlyError as error:
        raise BadInput(f"{error}; give --write to change the database") from None
    except apsw.Error as error:
        if isinstance(
            error, apsw.SQLError
        ):  # a table that is not there, for one: none is where nothing was stored
            _pages.need_database(store, ns, version)
        raise BadInput(f"SQL: {error}") from None
    finally:
        database.close()


def _read(connection: apsw.Connection, sql: str) -> SqlAnswer:
    from gateway.errors import Unprocessable
    from gateway.recordings.exports import virtual

    try:
        virtual.offer(connection)
    except Unprocessable:
        pass  # a database that is no world
    return _execute(connection, sql)


def _execute(connection: apsw.Connection, sql: str) -> SqlAnswer:
    columns: list[str] = []
    rows: list[tuple[object, ...]] = []
    before = connection.total_changes()

    def describe(cursor: apsw.Cursor, statement: str, bindings: object) -> bool:
        described = cursor.get_description() if cursor.expanded_sql else ()
        columns[:] = [str(column[0]) for column in described]
        rows.clear()
        return True

    cursor = connection.cursor()
    cursor.exec_trace = describe
    for row in cursor.execute(sql):
        rows.append(tuple(row))  # noqa: PERF401 (each statement's beginning empties the list)
    return SqlAnswer(columns, rows, connection.total_changes() - before)


def _show(args: argparse.Namespace, answer: SqlAnswer) -> None:
    if args.json:
        rows = [dict(zip(answer.columns, map(_json, row), strict=True)) for row in answer.rows]
        print(json.dumps(rows, ensure_ascii=False))
    elif args.csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(answer.columns)
        writer.writerows(
            [value.hex() if isinstance(value, bytes) else value for value in row] for row in answer.rows
        )
    elif answer.columns:
        _show_table(answer)
    else:
        print(f"{_rows(answer.changed)} changed")


def _show_table(answer: SqlAnswer) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD)
    for at, column in enumerate(answer.columns):
        numbers = all(isinstance(row[at], (int, float)) for row in answer.rows)
        table.add_column(column, justify="right" if numbers and answer.rows else "left", overflow="fold")
    for row in answer.rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    print(_rows(len(answer.rows)))


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _cell(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        shown = value[: SQL_CELL_CHARS_MAX // 2].hex()
        return (
            f"x'{shown}'" if len(value) <= SQL_CELL_CHARS_MAX // 2 else f"x'{shown}…' ({len(value):,} bytes)"
        )
    return str(value)


def _json(value: object) -> object:
    return b64encode(value).decode() if isinstance(value, bytes) else value
