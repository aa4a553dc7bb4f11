"""What is measured, one module a scenario. Room: bench.

A scenario has ``cases(short)`` (what to run) and ``measure(case, settings)``, which runs one case once and
answers a :class:`Measured` for each row of the report.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

NAMES = ("frames", "reads", "writes", "ingest", "fanout", "fallback", "ycsb")
SHORT = ("frames", "reads", "fanout")


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and where: seconds measured and warmed up per case; short form or all."""

    seconds: float
    warmup_s: float
    short: bool
    seed: int
    netem: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """One row: what exactly was measured, the numbers, and what stands against them."""

    params: Mapping[str, Any]
    measures: Mapping[str, float | None]
    marks: tuple[str, ...] = ()


class Scenario(Protocol):
    """The face of each module in this folder."""

    TITLE: str
    NEEDS_LINK: bool

    def cases(self, short: bool) -> list[dict[str, Any]]:
        """What to run."""

    def measure(self, case: Mapping[str, Any], settings: Settings) -> Sequence[Measured]:
        """Run one case once. Raises :class:`bench.processes.BenchError` if it can't be measured."""


def scenario(name: str) -> Scenario:
    """The scenario's module. Raises ValueError on an unknown name."""
    if name not in NAMES:
        raise ValueError(f"unknown scenario {name!r}: one of {', '.join(NAMES)}")
    return cast(Scenario, importlib.import_module(f"bench.scenarios.{name}"))
