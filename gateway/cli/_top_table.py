"""``mvgateway top`` as lines of text, none wider than the screen. Room: cli. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

Row = Mapping[str, object]


class TableColumn(NamedTuple):
    """``wide``: characters; 0: what the others leave. ``show``: of the row."""

    title: str
    wide: int
    show: Callable[[Row], str]


def _number(name: str, digits: int = 0, per: float = 1.0) -> Callable[[Row], str]:
    def show(row: Row) -> str:
        value = row.get(name)
        return f"{value / per:.{digits}f}" if isinstance(value, int | float) else "-"

    return show


def _word(name: str) -> Callable[[Row], str]:
    return lambda row: str(row[name]) if row.get(name) is not None else "-"


def _age(row: Row) -> str:
    seconds = row.get("uptime_s")
    if not isinstance(seconds, int | float):
        return "-"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def bare(url: object) -> str:
    """A URL as people say it."""
    return str(url).removeprefix("https://") if url is not None else "-"


GATEWAYS: Final = (
    TableColumn("GATEWAY", 0, lambda row: str(row["name"])),
    TableColumn("UP", 4, _age),
    TableColumn("CPU %", 5, _number("cpu_percent", 1)),
    TableColumn("MB", 5, _number("resident_bytes", 0, 1e6)),
    TableColumn("HOMES", 5, _number("homes")),
    TableColumn("READERS", 7, _number("readers")),
    TableColumn("LOSS %", 6, _number("loss_percent", 2)),
    TableColumn("LOOP ms", 7, _number("loop_lag_ms", 2)),
    TableColumn("STORE", 7, _word("store")),
)
WORLDS: Final = (
    TableColumn("WORLD", 0, _word("world")),
    TableColumn("HOME", 21, lambda row: bare(row.get("home"))),
    TableColumn("READERS", 7, _number("readers")),
    TableColumn("TICKS/s", 7, _number("tick_rate", 1)),
    TableColumn("LAG ms", 6, _number("lag_ms")),
    TableColumn("LOSS %", 6, _number("loss_percent", 2)),
)


def lines(told: Mapping[str, object], width: int, rows_max: int | None) -> list[str]:
    """The whole screen. ``told``: as ``--json`` prints it; ``rows_max``: lines there is room for, None: any number."""
    gateways, worlds = _rows(told["gateways"]), _rows(told["worlds"])
    shown = [_head(GATEWAYS, width)]
    for row in gateways:
        shown += _gateway(row, width)
    room = len(worlds) if rows_max is None else max(1, rows_max - len(shown) - 3)
    shown += ["", _head(WORLDS, width), *(_line(WORLDS, row, width) for row in worlds[:room])]
    if len(worlds) > room:
        shown.append(f"and {len(worlds) - room} more")
    elif not worlds:
        shown.append("no world is open")
    return shown


def _rows(told: object) -> list[Row]:
    return [row for row in told if isinstance(row, Mapping)] if isinstance(told, Iterable) else []


def _gateway(row: Row, width: int) -> list[str]:
    name = bare(row["url"])
    if "error" in row:
        return textwrap.wrap(_clean(f"{name}  {row['error']}"), width, subsequent_indent="    ", max_lines=3)
    found = [_line(GATEWAYS, {**row, "name": name}, width)]
    workers = _rows(row.get("workers"))
    found += (
        _line(GATEWAYS, {**worker, "name": f"  worker {worker['worker']}"}, width).rstrip(" -")
        for worker in workers
    )
    wanted = row.get("workers_wanted")
    if isinstance(wanted, int) and workers and len(workers) < wanted:
        found.append(_cut(f"  {wanted - len(workers)} of {wanted} workers are away", width))
    if "no_metrics" in row:
        found.append(_cut(f"  no metrics: {row['no_metrics']}", width))
    return found


def _widths(columns: Sequence[TableColumn], width: int) -> list[int]:
    left = max(8, width - sum(column.wide + 1 for column in columns if column.wide))
    return [column.wide or left for column in columns]


def _head(columns: Sequence[TableColumn], width: int) -> str:
    return _joined([column.title for column in columns], columns, width)


def _line(columns: Sequence[TableColumn], row: Row, width: int) -> str:
    return _joined([column.show(row) for column in columns], columns, width)


def _joined(cells: Sequence[str], columns: Sequence[TableColumn], width: int) -> str:
    texts = ("HOME", "STORE")
    shown = []
    for cell, column, wide in zip(cells, columns, _widths(columns, width), strict=True):
        cut = _cut(cell, wide)
        shown.append(cut.ljust(wide) if not column.wide or column.title in texts else cut.rjust(wide))
    return " ".join(shown).rstrip()


def _cut(text: str, wide: int) -> str:
    """At most so many characters."""
    clean = _clean(text)
    return clean if len(clean) <= wide else clean[: wide - 1] + "…"


def _clean(text: str) -> str:
    """Without the control characters that others' words may have: they would move on the screen."""
    return "".join(c if c.isprintable() else " " for c in text)
