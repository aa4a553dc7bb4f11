"""The Markdown tables of docs/BENCHMARKS.md: pivoted, each with the command that makes it. Room: bench. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.results import Summary, by_scenario, short

MARKS = {
    "generator_bound": ("*", "the load generator was at its limit: the figure is a bound, not the server's"),
    "link_bound": ("†", "more than half of what the link can carry"),
    "link_late": (
        "§",
        "the link let packets go more than a millisecond late on average: the machine was busy",
    ),
    "gateway_bound": ("‡", "the gateway's core was full"),
    "failed": ("✗", "a run failed"),
}
DOORS = {
    "webtransport": "WebTransport",
    "websocket": "WebSocket",
    "websocket, conflation off": "WebSocket, conflation off",
    "http": "HTTP/2 stream",
}

Cell = Callable[[Summary], str]


def markdown(facts: Mapping[str, Any], summaries: Sequence[Summary]) -> str:
    """Every scenario's tables, with what they were made on."""
    groups = by_scenario(summaries)
    parts = [_environment(facts, summaries)]
    for name, group in groups.items():
        made = TABLES.get(name, _plain)(name, group)
        parts += [f"## {name}", *made, *_legend(group)]
    return "\n\n".join(parts) + "\n"


def _environment(facts: Mapping[str, Any], summaries: Sequence[Summary]) -> str:
    link, peers = facts.get("link") or {}, facts.get("peers") or {}
    runs = sorted({s.runs for s in summaries})
    lines = [
        f"* {facts['processor']}, {facts['cores']} cores, Linux {facts['kernel']}, Python {facts['python']}, "
        f"commit {facts['commit']}",
        f"* pinned: {facts.get('pinned', 'unknown')}; TCP's congestion control: {facts.get('tcp', 'unknown')}; "
        f"load before: {facts.get('load_before', 0):.2f}",
        f"* runs of a case: {' or '.join(map(str, runs))}; cells are the median (minimum to maximum)",
    ]
    if link:
        lines.append(
            f"* the link ({link['by']}) carries {link['packets_per_s']:,.0f} packets a second and adds "
            f"{link['added_rtt_us']} µs to a round trip; checked: {'; '.join(link['checked'])}"
        )
    lines += [f"* {name}: {told}" for name, told in peers.items()]
    return "\n".join(lines)


def _legend(group: Sequence[Summary]) -> list[str]:
    marks = sorted({mark for s in group for mark in s.marks})
    told = [f"{MARKS[m][0]} {MARKS[m][1]}" for m in marks if m in MARKS]
    return ["; ".join(told) + "."] if told else []


def number(name: str, digits: Callable[[float], str] = short) -> Cell:
    """A cell that shows one measure with its spread, and the marks."""

    def cell(s: Summary) -> str:
        spread = s.measures.get(name)
        if spread is None:
            return "–" + _marks(s)
        middle = digits(spread.median)
        if s.runs == 1 or spread.low == spread.high:
            return middle + _marks(s)
        return f"{middle} ({digits(spread.low)} to {digits(spread.high)}){_marks(s)}"

    return cell


def both(first: str, second: str) -> Cell:
    """Two medians, as ``p50 / p99``."""

    def cell(s: Summary) -> str:
        shown = [short(s.measures[n].median) if n in s.measures else "–" for n in (first, second)]
        return " / ".join(shown) + _marks(s)

    return cell


def _marks(s: Summary) -> str:
    return "".join(" " + MARKS[m][0] for m in s.marks if m in MARKS)


def pivot(
    title: str,
    group: Sequence[Summary],
    rows: Mapping[str, str],
    column: Callable[[Summary], str],
    cell: Cell,
) -> str:
    """A table: one row for each value of ``rows`` (parameter -> heading), one column for each of ``column``."""
    columns = list(dict.fromkeys(column(s) for s in group))
    lines = [title, "", "| " + " | ".join([*rows.values(), *columns]) + " |"]
    lines.append("|" + " --- |" * (len(rows) + len(columns)))
    by_row: dict[tuple[str, ...], dict[str, str]] = {}
    for s in group:
        key = tuple(_text(name, s.params.get(name)) for name in rows)
        by_row.setdefault(key, {})[column(s)] = cell(s)
    for key, cells in by_row.items():
        lines.append("| " + " | ".join([*key, *(cells.get(c, "") for c in columns)]) + " |")
    return "\n".join(lines)


def _text(name: str, value: Any) -> str:
    if name == "loss_percent":
        return f"{value:g} %"
    if name == "rtt_ms":
        return f"{value} ms"
    return DOORS.get(str(value), str(value))


def listed(title: str, group: Sequence[Summary], params: Mapping[str, str], cells: Mapping[str, Cell]) -> str:
    """A table: one row for each case, a few chosen columns."""
    lines = [title, "", "| " + " | ".join([*params.values(), *cells]) + " |"]
    lines.append("|" + " --- |" * (len(params) + len(cells)))
    for s in group:
        row = [_text(name, s.params.get(name, "")) for name in params]
        lines.append("| " + " | ".join([*row, *(cell(s) for cell in cells.values())]) + " |")
    return "\n".join(lines)


def _command(name: str, **where: Any) -> str:
    words = "".join(f" --where {key}={value}" for key, value in where.items())
    return f"`python -m bench --only {name}{words}`"


def _door(s: Summary) -> str:
    return DOORS.get(str(s.params["door"]), str(s.params["door"]))


def _link(s: Summary) -> str:
    return f"{s.params['loss_percent']:g} %, {s.params['rtt_ms']} ms"


def _frames(name: str, group: Sequence[Summary]) -> list[str]:
    made = []
    steady = [s for s in group if not s.params["burst"]]
    rows = {"loss_percent": "loss", "rtt_ms": "RTT"}
    for hz, size in dict.fromkeys((s.params["hz"], s.params["frame_bytes"]) for s in steady):
        here = [s for s in steady if (s.params["hz"], s.params["frame_bytes"]) == (hz, size)]
        here.sort(key=lambda s: (s.params["rtt_ms"], s.params["loss_percent"]))
        title = (
            f"p99 excess age in ms, {hz} Hz, {size} bytes a frame: {_command(name, hz=hz, frame_bytes=size)}"
        )
        made.append(pivot(title, here, rows, _door, number("excess_p99_ms")))
    chosen = [
        s
        for s in group
        if (s.params["hz"], s.params["frame_bytes"], s.params["rtt_ms"]) == (60, 1024, 50)
        and s.params["loss_percent"] in (0.0, 2.0, 5.0)
    ]
    params = {"loss_percent": "loss", "burst": "bursts", "door": "transport"}
    cells = {
        "age p50, ms": number("age_p50_ms"),
        "p95": number("age_p95_ms"),
        "p99": number("age_p99_ms"),
        "oldest": number("age_max_ms"),
        "stalls over 100 ms a minute": number("stalls_100_per_min"),
        "over 250 ms": number("stalls_250_per_min"),
        "frames never seen, %": number("frames_never_seen_percent"),
        "kbit/s on the wire": number("wire_kbps"),
    }
    title = f"All figures at 60 Hz, 1,024 bytes, 50 ms: {_command(name, hz=60, frame_bytes=1024, rtt_ms=50)}"
    made.append(listed(title, chosen, params, cells))
    bursts = [s for s in group if s.params["burst"]]
    if bursts:
        title = f"p99 excess age in ms where 2 % are lost in fades of 133 ms: {_command(name, burst=True)}"
        made.append(pivot(title, bursts, rows, _door, number("excess_p99_ms")))
    return made


def _fanout(name: str, group: Sequence[Summary]) -> list[str]:
    shown = (
        ("relay_cpu_us_per_frame", "the relay's CPU a delivered frame, µs"),
        ("delivered_percent", "delivered of what was offered, %"),
        ("age_p50_ms", "age p50, ms"),
        ("age_p99_ms", "age p99, ms"),
        ("memory_kib_per_reader", "the relay's memory a reader, KiB"),
        ("generator_cpu_percent", "the readers' process, % of a core"),
    )
    made = []
    for size in dict.fromkeys(s.params["frame_bytes"] for s in group):
        here = [s for s in group if s.params["frame_bytes"] == size]
        for measure, words in shown:
            title = f"{size} bytes a frame, 60 Hz: {words}. {_command(name, frame_bytes=size)}"
            made.append(pivot(title, here, {"relay": "relay"}, _readers, number(measure)))
    return made


def _readers(s: Summary) -> str:
    count = s.params["readers"]
    return "1 reader" if count == 1 else f"{count} readers"


def _by_way(shown: Sequence[tuple[Cell, str]]) -> Callable[[str, Sequence[Summary]], list[str]]:
    def made(name: str, group: Sequence[Summary]) -> list[str]:
        tables = []
        for parallel in dict.fromkeys(s.params["parallel"] for s in group):
            here = [s for s in group if s.params["parallel"] == parallel]
            for cell, words in shown:
                title = f"{parallel} at once: {words}. {_command(name, parallel=parallel)}"
                tables.append(pivot(title, here, {"way": "way"}, _link, cell))
        return tables

    return made


def _ycsb(name: str, group: Sequence[Summary]) -> list[str]:
    made = []
    for link in dict.fromkeys(_link(s) for s in group):
        here = [s for s in group if _link(s) == link]
        for cell, words in (
            (number("ops_per_s"), "operations a second"),
            (both("p50_ms", "p99_ms"), "p50 / p99, ms"),
        ):
            title = f"{link}: {words}. {_command(name, loss_percent=here[0].params['loss_percent'])}"
            made.append(pivot(title, here, {"way": "way"}, lambda s: str(s.params["workload"]), cell))
    return made


def _ingest(name: str, group: Sequence[Summary]) -> list[str]:
    params = {"publishers": "game servers", "frame_bytes": "bytes a frame"}
    cells = {
        "CPU a frame, µs": number("cpu_us_per_frame"),
        "gateway, % of a core": number("gateway_cpu_percent"),
        "messages lost, %": number("messages_lost_percent"),
        "durable lag p50, ms": number("durable_lag_p50_ms"),
        "p99, ms": number("durable_lag_p99_ms"),
        "told after p99, ms": number("told_after_p99_ms"),
        "offered, % of 60 Hz": number("offered_percent"),
        "generator, % of a core": number("generator_cpu_percent"),
    }
    return [listed(_command(name), group, params, cells)]


def _plain(name: str, group: Sequence[Summary]) -> list[str]:
    """Any other scenario: what varies, and every measure."""
    names = list(dict.fromkeys(key for s in group for key in s.params))
    params = {n: n for n in names if len({str(s.params.get(n)) for s in group}) > 1 or n == names[0]}
    measures = list(dict.fromkeys(key for s in group for key in s.measures))
    return [listed(_command(name), group, params, {m: number(m) for m in measures})]


TABLES: Mapping[str, Callable[[str, Sequence[Summary]], list[str]]] = {
    "frames": _frames,
    "fanout": _fanout,
    "reads": _by_way(
        (
            (number("open_s"), "seconds to open 16 MB in all (–: cut at 12 s)"),
            (number("open_mb_per_s"), "opening, MB/s"),
            (both("p50_ms", "p99_ms"), "p50 / p99 of a read, ms"),
            (number("reads_per_s"), "reads a second"),
        )
    ),
    "writes": _by_way(
        (
            (number("commits_per_s"), "commits a second"),
            (both("p50_ms", "p99_ms"), "p50 / p99 of a commit, ms"),
        )
    ),
    "ingest": _ingest,
    "ycsb": _ycsb,
}
