"""The figures that were asked for, beside what was measured. Room: bench. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.ratios import RATIOS
from bench.results import Summary, short

USUAL = {"hz": 60, "frame_bytes": 1024, "burst": False}
UDP, TCP = "webtransport", "websocket, conflation off"


@dataclass(frozen=True, slots=True)
class Claim:
    """One figure: ``ok`` None: it was not measured."""

    what: str
    asked: str
    measured: str
    ok: bool | None

    def __str__(self) -> str:
        verdict = {True: "ok", False: "MISSED", None: "not measured"}[self.ok]
        return f"{self.what}: asked {self.asked}, measured {self.measured} ({verdict})"


def _find(summaries: Sequence[Summary], scenario: str, **params: Any) -> Summary | None:
    for summary in summaries:
        if summary.scenario == scenario and all(summary.params.get(k) == v for k, v in params.items()):
            return summary
    return None


def _value(summary: Summary | None, name: str) -> float | None:
    spread = summary.measures.get(name) if summary else None
    return spread.median if spread else None


def _below(what: str, asked: float, measured: float | None, unit: str, *, equal: bool = False) -> Claim:
    sign = "at most" if equal else "below"
    if measured is None:
        return Claim(what, f"{sign} {asked:g}{unit}", "nothing", None)
    ok = measured <= asked if equal else measured < asked
    return Claim(what, f"{sign} {asked:g}{unit}", f"{short(measured)}{unit}", ok)


def headline(summaries: Sequence[Summary]) -> list[Claim]:
    """Every claim about frames at 60 Hz and 1 KB with 2 % loss, by the medians over the runs."""
    made = []
    for rtt_ms, asked_ms in ((50, 30.0), (100, 40.0)):
        path = {**USUAL, "loss_percent": 2.0, "rtt_ms": rtt_ms}
        udp = _find(summaries, "frames", door=UDP, **path)
        tcp = _find(summaries, "frames", door=TCP, **path)
        ours, theirs = _value(udp, "excess_p99_ms"), _value(tcp, "excess_p99_ms")
        where = f"at 2 % loss and {rtt_ms} ms"
        made.append(_below(f"WebTransport's p99 excess age {where}", asked_ms, ours, " ms"))
        ratio = ours / theirs if ours is not None and theirs else None
        made.append(
            _below(f"the same, of WebSocket's without conflation {where}", 0.35, ratio, "", equal=True)
        )
        stalls = udp.measures["stalls_100_per_min"].high if udp else None
        made.append(
            _below(
                f"WebTransport's stalls over 100 ms in a minute {where}, worst run",
                0.0,
                stalls,
                "",
                equal=True,
            )
        )
    return made


def expected(summaries: Sequence[Summary], floor_us: float | None) -> list[Claim]:
    """What a delivered frame of the gateway costs, against what the page's ratios to the floor make of this machine's."""
    made = []
    for key, size in (("floor_1k", 1_024), ("floor_4k", 4_096)):
        ratio = next(ratio for ratio in RATIOS if ratio.key == key)
        row = _find(summaries, "fanout", relay="gateway", readers=100, frame_bytes=size)
        if floor_us is not None and row is not None and ratio.is_judged:
            what = f"CPU a delivered frame of {size} bytes, 100 readers ({ratio.high:g} times the floor of {floor_us:.1f} µs)"
            measured = _value(row, "relay_cpu_us_per_frame")
            made.append(_below(what, round(ratio.high * floor_us, 1), measured, " µs", equal=True))
    return made
