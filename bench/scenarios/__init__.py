"""What is measured, one module a scenario. Room: bench.

A scenario has ``cases(short)`` (what to run) and either ``measure(case, settings)``, which runs one case once, or
``opened(case, settings)``, a context in which servers, link and load generators stay up for all runs of the case.
Either way a run answers a :class:`Measured` for each row of the report.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

NAMES = ("frames", "reads", "writes", "ingest", "fanout", "fallback", "ycsb")
ASKED_FOR = ("redundancy", "shared")
"""Run only where they are named: everything else takes its time as it is."""
SHORT = ("frames", "reads", "fanout")


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and where: seconds measured and warmed up per run; short form or all.

    ``runs``: how many runs of a case are wanted. ``tcp``: TCP's congestion control in the namespaces (None: the
    machine's). ``link_packets_per_s``: what the link was found to carry (0: not measured).
    """

    seconds: float
    warmup_s: float
    short: bool
    seed: int
    netem: bool = False
    runs: int = 1
    tcp: str | None = None
    link_packets_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One row: what exactly was measured, the numbers, and what stands against them."""

    params: Mapping[str, Any]
    measures: Mapping[str, float | None]
    marks: tuple[str, ...] = ()


Run = Callable[[int], Sequence[Measured]]
"""One run with this seed. Raises BenchError or LinkError; then the context is closed and opened anew."""

LINK_SHARE_MAX = 0.5
"""Of what the link can carry: above it a row is marked ``link_bound``."""


LATE_US_MAX = 1_000.0


class Scenario(Protocol):
    """The face of each module in this folder; it has ``measure`` or ``opened``, see the module's first lines.

    ``CASE_S`` and ``RUN_S``, where it has them: seconds that a case and a run take besides what is measured.
    """

    TITLE: str
    NEEDS_LINK: bool

    def cases(self, short: bool) -> list[dict[str, Any]]:
        """What to run."""

    def measure(self, case: Mapping[str, Any], settings: Settings) -> Sequence[Measured]:
        """Run one case once. Raises :class:`bench.processes.BenchError` if it can't be measured."""


@contextlib.contextmanager
def opened(made: Scenario, case: Mapping[str, Any], settings: Settings) -> Iterator[Run]:
    """The context of a case's runs, whichever of the two forms the scenario has."""
    keeps = getattr(made, "opened", None)
    if keeps is None:
        yield lambda seed: made.measure(case, replace(settings, seed=seed))
        return
    with keeps(case, settings) as run:
        yield run


def expected_s(made: Scenario, case: Mapping[str, Any], settings: Settings, runs: int) -> float:
    """About how long the runs of a case take, for the plan."""
    estimate = getattr(made, "run_s", None)
    seconds = getattr(made, "seconds_of", lambda case, settings: settings.seconds)(case, settings)
    run_s = (
        estimate(case, settings) if estimate else seconds + settings.warmup_s + getattr(made, "RUN_S", 8.0)
    )
    return float(getattr(made, "CASE_S", 0.0) + runs * run_s)


def since(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What a link counted between two reports."""
    made: dict[str, Any] = dict(after)
    for name, value in after.items():
        had = before.get(name)
        if isinstance(value, Mapping):
            made[name] = since(had or {}, value)
        elif isinstance(value, (int, float)):
            made[name] = value - (had or 0)
    return made


def link_marks(counters: Mapping[str, Any], settings: Settings) -> tuple[str, ...]:
    """``link_bound`` where the link carried more than half of what it can, or its process was half busy;
    ``link_late`` where it let packets go later than asked by more than a millisecond on average."""
    seconds = counters.get("seconds")
    if not seconds:
        return ()
    carried = float(counters["carried"])
    packets_per_s = (carried + counters["dropped_loss"]) / seconds
    bound = packets_per_s > LINK_SHARE_MAX * settings.link_packets_per_s > 0
    marks = ("link_bound",) if bound or counters["cpu_s"] > LINK_SHARE_MAX * seconds else ()
    late = counters.get("late_us_sum", 0.0) > LATE_US_MAX * max(carried, 1.0)
    return (*marks, "link_late") if late else marks


def scenario(name: str) -> Scenario:
    """The scenario's module. Raises ValueError on an unknown name."""
    if name not in NAMES + ASKED_FOR:
        raise ValueError(f"unknown scenario {name!r}: one of {', '.join(NAMES + ASKED_FOR)}")
    return cast(Scenario, importlib.import_module(f"bench.scenarios.{name}"))
