"""A journal's pump takes the steps of its table and no other: in rounds, alone, in conflict, at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.states import PUMP, PumpState
from gateway.runtime.gateway import Gateway
from gateway.runtime.journal import JournalPump
from tests.patience import HANG_S
from tests.runtime.test_rounds import durable, hosts_of, put

Step = tuple[PumpState, str, PumpState]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> set[Step]:
    """Every outermost call of a pump, with the states before and after it."""
    seen: set[Step] = set()
    inside: set[JournalPump] = set()

    def watched(event: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watching(pump: JournalPump, *given: Any) -> Any:
            if pump in inside:
                return call(pump, *given)
            inside.add(pump)
            before = pump.state
            try:
                return call(pump, *given)
            finally:
                inside.discard(pump)
                seen.add((before, event, pump.state))

        return watching

    for event in ("wake", "begin", "end"):
        monkeypatch.setattr(JournalPump, event, watched(event, getattr(JournalPump, event)))
    return seen


async def test_its_steps_are_those_of_its_table(steps: set[Step], gateway: Gateway) -> None:
    hosts = await hosts_of(gateway, 3)
    for turn in range(4):
        await asyncio.gather(*[durable(host, put(host, b"%d" % turn)) for host in hosts])
    awaited = put(hosts[0], b"awaited")
    assert await hosts[0].pump.until_mark(awaited, HANG_S)
    for host in hosts:
        await host.pump.stop()
        put(host, b"after the end")
        host.pump.wake()
    strangers = [step for step in steps if not PUMP.allows(*step)]
    assert not strangers
    assert {
        (PumpState.DUE, "begin", PumpState.IN_ROUND),
        (PumpState.IN_ROUND, "end", PumpState.IDLE),
        (PumpState.STOPPED, "wake", PumpState.STOPPED),
    } <= steps
    assert {after for _, _, after in steps} >= set(PumpState) - {PumpState.DUE}
