"""What is asked of a round at its end, from outside (:mod:`bench.faults`). Room: bench."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.faults_ends import Said
from bench.faults_rounds import Round
from bench.processes import BenchError


def judge_rows(runs: list[dict[str, Any]], told: dict[str, Any]) -> list[str]:
    """What is wrong with a recording: ``runs`` are what was sent and promised, ``told`` is what the store has."""
    return [*_lost(runs, told), *_interleaved(runs, told)]


def _lost(runs: list[dict[str, Any]], told: dict[str, Any]) -> Iterator[str]:
    found = {(epoch, value) for _, epoch, _, values in told["rows"] for value in values}
    found |= {(epoch, value) for epoch, value in told["later"]}
    for run in runs:
        epoch = run["epoch"]
        let_go = list(run["dropped"])
        if run["door"] == "webtransport":  # a lost datagram is a gap, and the mark goes on over it
            let_go += [[low, high] for at, low, high, why in told["gaps"] if at == epoch and why != "dropped"]
        lost = [
            tick
            for tick, value in ((int(tick), value) for tick, value in run["sent"].items())
            if run["first"] < tick <= run["durable"]
            and (epoch, value) not in found
            and not any(low <= tick <= high for low, high in let_go)
        ]
        if lost:
            yield (
                f"told durable and not in the store: {len(lost)} ticks of {name_of(run)}, {lost[:5]} … {lost[-1]}, "
                f"durable up to {run['durable']}"
            )


def _interleaved(runs: list[dict[str, Any]], told: dict[str, Any]) -> Iterator[str]:
    by_name = {(run["server"], run["number"]): run for run in runs}
    over: set[tuple[str, int]] = set()
    now: tuple[str, int] | None = None
    before = (-1, 0)
    for seq, epoch, tick, values in told["rows"]:
        if seq <= before[0] or epoch < before[1]:
            yield f"row {seq} of epoch {epoch} comes after row {before[0]} of epoch {before[1]}"
        before = seq, epoch
        for said in map(Said.read, map(str.encode, values)):
            who = said.server, said.run
            run = by_name.get(who)
            if run is None or run["sent"].get(str(said.tick)) != said.data().decode():
                yield f"row {seq} holds what nobody sent: {values}"
                return
            if run["epoch"] != epoch or said.tick != tick:
                yield f"row {seq} (epoch {epoch}, tick {tick}) holds {values} of {name_of(run)}"
            if who in over:
                yield f"two homes commit: {name_of(run)} is in row {seq}, after {now} had begun"
                return
            if who != now:
                over |= {now} if now is not None else set()
                now = who


def name_of(run: dict[str, Any]) -> str:
    """Of a session, for a sentence."""
    return f"session {run['number']} of {run['server']} at {run['gateway']} (epoch {run['epoch']}, {run['door']})"


def doubles(fences: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Homes that were taken twice under one fence."""
    return sorted({one for one in fences if fences.count(one) > 1})


def judge(one: Round) -> None:
    """At a round's end, everything being well again: who publishes falls silent."""
    publishers, readers = one.machines.publishers, one.machines.readers
    publishers.ask("hush", name=one.server)
    one.stored(one.server)
    last = one.look(one.server)
    urls = {one.url(name) for name in one.reached}

    def alike() -> bool:
        nonlocal last
        last = one.look(one.server)  # a session that another took over has come back since, maybe
        seen = readers.ask("look", server=one.server, run=last["runs"] - 1)
        return all(told["state"] == last["state"] for told in seen if told["gateway"] in urls)

    try:
        one.within(alike, f"readers have the last state of {one.server}")
    except BenchError as error:
        seen = readers.ask("look", server=one.server, run=last["runs"] - 1)
        others = [f"{told['door']} at {told['gateway']}" for told in seen if told["state"] != last["state"]]
        raise BenchError(f"{error}; another state has who reads by {', '.join(others)}") from None
    names = {one.url(name): name for name in "ab"}
    for told in readers.ask("look"):
        again = max(0, told["connects"] - 1)
        one.connects += again
        if again and names[told["gateway"]] in one.sticky:
            one.wrong.append(
                f"a reader by {told['door']} at {names[told['gateway']]} connected {again} times more"
            )
    runs = publishers.ask("end")
    one.wrong += judge_rows(runs, one.machines.read(one.world))
    if not any(run["durable"] > run["first"] for run in runs):
        one.wrong.append("nothing was told durable: the round asked nothing")
