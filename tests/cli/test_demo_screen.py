"""What the demo shows, at 80 and at 120 columns: drawn from figures, without playing it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import limits
from gateway.cli.demo import told
from gateway.cli.demo.screen import Screen, age_line
from gateway.cli.demo.seen import Crash, Seen, Sent

READERS = {"webtransport": 20, "websocket": 5}


def group(p50: float, p99: float, connected: int) -> dict[str, object]:
    return {
        "connected": connected,
        "delivered": 5_949,
        "lost": 3,
        "age_ms": {"p50": p50, "p99": p99},
        "measured_ms": {"p50": p50, "p99": p99},
    }


def seen(udp: float, tcp: float, *, equal: bool = True, agree: bool = True) -> Seen:
    figures = {
        "webtransport": group(44, udp, 20),
        "websocket": group(57, tcp, 5),
        "latency_ms": {"p50": 45.1, "p99": 160.0},
    }
    crash = Crash(181, 176, 180, equal, away_s=1.234)
    return Seen(
        Sent(frames=362), crash, figures, agree, "over a link between two network namespaces", READERS
    )


def test_the_two_live_lines_stand_side_by_side_and_use_the_terminals_width() -> None:
    screen = Screen(READERS, quiet=False)
    screen.show({"webtransport": group(44, 61, 20), "websocket": group(58, 640, 4)})
    assert screen.lines(80) == [
        "UDP  20 of 20 readers   age   44 ms mostly,   61 ms at worst  ▇▇▇▇▇▇",
        "TCP   4 of  5 readers   age   58 ms mostly,  640 ms at worst  " + "▇" * 17,
    ]
    assert screen.lines(120) == [
        "UDP  20 of 20 readers   age   44 ms mostly,   61 ms at worst  ▇▇▇▇▇▇",
        "TCP   4 of  5 readers   age   58 ms mostly,  640 ms at worst  " + "▇" * 57,
    ]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("age_ms", [0.0, 9_999.0, 10_000.0, 3_600_000.0])
def test_no_age_makes_a_line_wider_than_the_terminal(age_ms: float, width: int) -> None:
    assert len(age_line("websocket", 5, group(age_ms, age_ms, 5), width)) < width


def test_before_the_first_report_the_lines_are_there_already() -> None:
    assert [line[:22] for line in Screen(READERS, quiet=False).lines(80)] == [
        "UDP   0 of 20 readers ",
        "TCP   0 of  5 readers ",
    ]


def test_the_end_says_in_plain_words_what_was_seen() -> None:
    assert told.in_words(seen(61, 240), 80) == [
        "* 25 readers followed over a link between two network namespaces. It lost 3 of",
        "  100 packets each way and took 80 ms there and back. What they showed was at",
        "  worst (1 look in 100) 61 ms old over UDP and 240 ms over TCP. On TCP one lost",
        "  packet holds back everything behind it; on UDP the next frame brings the",
        "  newest value.",
        "* The gateway was killed (kill -9) in the middle of it. 1.2 s later it answered",
        "  with tick 180, byte for byte as it had been sent. Nothing that it had called",
        "  durable was lost; of what came after, 1 tick. All readers came back by",
        "  themselves and hold what the game server has.",
    ]


def test_a_wider_terminal_gets_the_same_words_in_fewer_lines() -> None:
    narrow, wide = (told.in_words(seen(61, 240), width) for width in (80, 120))
    assert " ".join(narrow).split() == " ".join(wide).split()
    assert len(wide) < len(narrow)
    assert max(map(len, wide)) <= limits.DEMO_WORDS_COLUMNS_MAX


def test_what_did_not_show_this_time_is_not_claimed() -> None:
    assert "On TCP one lost" not in " ".join(told.in_words(seen(200, 210), 80))
    assert "NOT all readers" in " ".join(told.in_words(seen(61, 240, agree=False), 80))
    assert "is NOT what had been sent" in " ".join(told.in_words(seen(61, 240, equal=False), 80))


def test_the_figures_fit_eighty_columns() -> None:
    lines = told.figures(seen(61, 240), hz=60, players=10, record_bytes=100)
    assert "recovered                tick 180, byte for byte equal to what was sent" in lines
    assert max(map(len, lines)) <= 80


def test_the_next_steps_are_two_commands_and_the_film_rooms_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/mvgateway").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.argv", [".venv/bin/mvgateway", "demo"])
    lines = told.next_steps(tmp_path / "home/.cache/mvgateway/demo.sqlite")
    assert [line.strip() for line in lines if line.startswith("  ")] == [
        ".venv/bin/mvgateway serve",
        ".venv/bin/mvgateway publish plaza",
        ".venv/bin/mvgateway film ~/.cache/mvgateway/demo.sqlite --port 7099",
        "http://127.0.0.1:7099/film#demo",
    ]
    assert max(map(len, lines)) <= 80
    assert not any("film" in line for line in told.next_steps(None))


def test_where_the_program_is_on_the_path_its_name_is_enough(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mvgateway").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert told.our_command() == "mvgateway"
