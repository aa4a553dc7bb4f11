"""What the demo says at its end: figures, what was seen in plain words, and where to go from there. Room: cli."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from pathlib import Path

from gateway.cli.demo.seen import Seen
from gateway.cli.demo.ways import DELAY_MS, LOSS
from gateway.limits import DEMO_WORDS_COLUMNS_MAX

FILM_PORT = 7099
OLDER = 1.2
"""Times as old, and one says that TCP's was older: less may be chance."""


def figures(seen: Seen, *, hz: float, players: int, record_bytes: int) -> list[str]:
    """A line for each."""
    crash, made = seen.crash, seen.as_json()
    equal = "byte for byte equal" if crash.recovered_equal else "NOT EQUAL"
    delivered = {
        f"delivered, {name}": f"{made['delivered'][name]} to {count} readers"
        for name, count in seen.readers.items()
    }
    rows = {
        "frames sent": f"{made['frames_sent']} at {hz:g} Hz, {players} records of {record_bytes} bytes",
        **delivered,
        "readers at the end": "all hold the publisher's state" if seen.agree else "NOT ALL UP TO DATE",
        "latency": _p50_p99(made["latency_ms"], "ms"),
        "age shown, UDP": _p50_p99(seen.figures["webtransport"]["measured_ms"], "ms"),
        "age shown, TCP": _p50_p99(seen.figures["websocket"]["measured_ms"], "ms"),
        "durable lag": f"{_p50_p99(made['durable_lag_ms'], 'ms')}; "
        f"{_p50_p99(seen.sent.durable_lag_ticks.summary(), 'ticks')}",
        "crash (SIGKILL)": f"last tick sent {crash.last_sent_tick}, known durable {crash.durable_tick}",
        "recovered": f"tick {crash.recovered_tick}, {equal} to what was sent",
        "lost in the crash": f"{crash.last_sent_tick - crash.recovered_tick} ticks; back after {crash.away_s:.2f} s",
    }
    return [f"{name:<25}{text}" for name, text in rows.items()]


def in_words(seen: Seen, width: int) -> list[str]:
    """What was seen, for who has never heard of any of it."""
    return [
        line
        for paragraph in (_of_the_link(seen), _of_the_crash(seen))
        for line in textwrap.wrap(
            paragraph, min(width, DEMO_WORDS_COLUMNS_MAX), initial_indent="* ", subsequent_indent="  "
        )
    ]


def _of_the_link(seen: Seen) -> str:
    udp, tcp = seen.age_ms("webtransport"), seen.age_ms("websocket")
    why = (
        "On TCP one lost packet holds back everything behind it; on UDP the next frame brings the newest value."
        if tcp > udp * OLDER
        else "This time TCP kept up; that is chance: look again with --seconds 60."
    )
    return (
        f"{sum(seen.readers.values())} readers followed {seen.way}. It lost {LOSS * 100:g} of 100 packets each way "
        f"and took {2 * DELAY_MS:g} ms there and back. What they showed was at worst (1 look in 100) {udp:.0f} ms old "
        f"over UDP and {tcp:.0f} ms over TCP. {why}"
    )


def _of_the_crash(seen: Seen) -> str:
    crash = seen.crash
    lost = crash.last_sent_tick - crash.recovered_tick
    if not crash.recovered_equal:
        return "The gateway was killed, and what came back is NOT what had been sent: please report this."
    back = "All readers came back by themselves and hold what the game server has."
    return (
        f"The gateway was killed (kill -9) in the middle of it. {crash.away_s:.1f} s later it answered with tick "
        f"{crash.recovered_tick}, byte for byte as it had been sent. Nothing that it had called durable was lost; of what "
        f"came after, {lost} {'tick' if lost == 1 else 'ticks'}. "
        + (back if seen.agree else "NOT all readers are up to date again.")
    )


def next_steps(film: Path | None) -> list[str]:
    """Commands that work as they are pasted where the demo was started."""
    ours = our_command()
    lines = [
        "Now with a gateway of your own, in two terminals (the first names a page):",
        f"  {ours} serve",
        f"  {ours} publish plaza",
        f"then kill -9 the first, start it again, and: {ours} recover plaza",
    ]
    if film is not None:
        lines += [
            "What was just recorded, in the film room: start it, then open its address",
            f"  {ours} film {_short(film)} --port {FILM_PORT}",
            f"  http://127.0.0.1:{FILM_PORT}/film#{film.stem}",
        ]
    return lines


def our_command() -> str:
    """What calls this program from where we are, as short as it can be."""
    if shutil.which("mvgateway"):
        return "mvgateway"
    for found in (Path(sys.argv[0]), Path(sys.executable).with_name("mvgateway")):
        if found.name == "mvgateway" and found.is_file():
            near = os.path.relpath(found)
            return str(found) if near.startswith("..") else near if "/" in near else f"./{near}"
    return f"{_short(Path(sys.executable))} -m gateway.cli"


def _p50_p99(values: dict[str, float | None], unit: str) -> str:
    return " / ".join("-" if v is None else f"{v:.4g}" for v in values.values()) + f" {unit} (p50 / p99)"


def _short(path: Path) -> str:
    """As a shell takes it."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
