"""A store and two gateways, each on a machine of its own, and what breaks between them: one round of each fault of ``bench.faults``,
whose judge is held to what it must find. ``make faults`` has a hundred rounds of each, and asks for the time that readers take."""

from __future__ import annotations

from typing import Any

import pytest

from bench.faults import main
from bench.faults_ends import Said
from bench.faults_judged import doubles, judge_rows
from bench.faults_machines import missing
from bench.faults_rounds import FAULTS
from tests.patience import HANG_S

REASON = missing()


@pytest.mark.skipif(REASON is not None, reason=f"no machines: {REASON}")
@pytest.mark.timeout(2_400)
def test_nothing_that_was_told_durable_is_lost_whatever_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    failed = main(["--rounds", "1", "--away", "2", "--paused", "3", "--late", str(HANG_S)])
    told = capsys.readouterr().out
    assert not failed, told
    assert f"{len(FAULTS)} rounds" in told


def run(server: str, number: int, ticks: range, *, epoch: int = 1, durable: int = 0) -> dict[str, Any]:
    """A session, as a game server tells it."""
    return {
        "server": server,
        "number": number,
        "gateway": "https://somewhere",
        "door": "websocket",
        "epoch": epoch,
        "first": ticks.start - 1,
        "durable": durable,
        "dropped": [],
        "sent": {str(tick): value(server, number, tick) for tick in ticks},
    }


def value(server: str, number: int, tick: int) -> str:
    return Said(server, number, tick, 1.5).data().decode()


def recording(*rows: tuple[str, int, int], epoch: int = 1, gaps: list[list[object]] | None = None) -> Any:
    """What the store has: (server, session, tick) of each row."""
    told = [
        [seq, epoch, tick, [value(server, number, tick)]] for seq, (server, number, tick) in enumerate(rows)
    ]
    return {"rows": told, "later": [], "gaps": gaps or []}


def test_a_recording_with_all_that_was_promised_has_nothing_wrong() -> None:
    runs = [run("p", 0, range(1, 4), durable=3), run("p", 1, range(4, 6), durable=5)]
    assert judge_rows(runs, recording(*(("p", 0, t) for t in (1, 2, 3)), ("p", 1, 4), ("p", 1, 5))) == []


def test_a_tick_that_was_told_durable_and_is_not_there_is_found() -> None:
    wrong = judge_rows([run("p", 0, range(1, 5), durable=3)], recording(("p", 0, 1), ("p", 0, 3)))
    assert len(wrong) == 1
    assert wrong[0].startswith("told durable and not in the store: 1 ticks")
    assert "[2]" in wrong[0]


@pytest.mark.parametrize(("door", "reason", "wrong"), [
    ("webtransport", "unseen", 0), ("webtransport", "dropped", 1), ("websocket", "unseen", 1),
])  # fmt: skip
def test_a_gap_excuses_a_lost_datagram_and_nothing_else(door: str, reason: str, wrong: int) -> None:
    session = {**run("p", 0, range(1, 4), durable=3), "door": door}
    told = recording(("p", 0, 1), ("p", 0, 3), gaps=[[1, 2, 2, reason]])
    assert len(judge_rows([session], told)) == wrong


def test_what_a_publisher_was_told_to_be_let_go_is_not_looked_for() -> None:
    session = {**run("p", 0, range(1, 4), durable=3), "dropped": [[2, 2]]}
    assert judge_rows([session], recording(("p", 0, 1), ("p", 0, 3))) == []


def test_a_home_that_commits_after_another_has_begun_is_found() -> None:
    runs = [run("p", 0, range(1, 9)), run("q", 0, range(1, 9))]
    wrong = judge_rows(runs, recording(("p", 0, 1), ("q", 0, 2), ("p", 0, 3)))
    assert len(wrong) == 1
    assert wrong[0].startswith("two homes commit: session 0 of p")


def test_a_row_that_nobody_sent_is_found() -> None:
    wrong = judge_rows([run("p", 0, range(1, 3))], recording(("p", 0, 1), ("p", 0, 7)))
    assert wrong == [f"row 1 holds what nobody sent: {[value('p', 0, 7)]}"]


def test_rows_of_an_older_epoch_after_a_newer_ones_are_found() -> None:
    runs = [run("p", 0, range(1, 3)), run("q", 0, range(1, 3), epoch=2)]
    told = recording(("p", 0, 1))
    told["rows"] = [[0, 2, 1, [value("q", 0, 1)]], [1, 1, 1, [value("p", 0, 1)]]]
    assert judge_rows(runs, told) == ["row 1 of epoch 1 comes after row 0 of epoch 2"]


def test_a_fence_that_two_homes_had_is_found() -> None:
    assert doubles([("w", 1), ("w", 2), ("v", 1)]) == []
    assert doubles([("w", 1), ("w", 2), ("w", 1)]) == [("w", 1)]
