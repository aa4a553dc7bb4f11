"""The headlines of the pages, each a ratio with its spread: what holds on other machines, too. Room: bench. Pure.

Each was measured by turns in one run; ``low`` and ``high`` are the least and the most of the rounds. Stated in README.md,
docs/BENCHMARKS.md and docs/PERFORMANCE.md; ``python -m bench.check`` measures them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Ratio:
    """``better``: which side of the spread may be left without the page being wrong."""

    key: str
    what: str
    low: float
    high: float
    better: Literal["lower", "higher"]

    def holds(self, measured: float) -> bool:
        """Whether what was measured is as good as the page says, within its spread."""
        return measured <= self.high if self.better == "lower" else measured >= self.low

    def told(self, measured: float | None) -> str:
        """A line."""
        page = f"page {self.low:.2f} to {self.high:.2f}"
        if measured is None:
            return f"not measured  {self.what}: {page}"
        verdict = "holds " if self.holds(measured) else "MISSED"
        return f"{verdict} {measured:6.2f}  {self.what}: {page}"


RATIOS = (
    Ratio("floor_1k", "a delivered frame of 1 KB at 100 readers, times the floor", 2.47, 3.64, "lower"),
    Ratio("floor_4k", "a delivered frame of 4 KB at 100 readers, times the floor", 3.67, 3.98, "lower"),
    Ratio("stock_1k", "stock aioquic's CPU for it at 1 KB, times the gateway's", 1.4, 2.3, "higher"),
    Ratio("moq_frame_1k", "moq-relay's, a stream a frame, 1 KB, times the gateway's", 2.0, 3.82, "higher"),
    Ratio("moq_second_1k", "moq-relay's, a stream a second, 1 KB, times the gateway's", 0.51, 1.26, "higher"),
    Ratio("moq_frame_4k", "moq-relay's, a stream a frame, 4 KB, times the gateway's", 1.73, 1.91, "higher"),
    Ratio("moq_second_4k", "moq-relay's, a stream a second, 4 KB, times the gateway's", 0.37, 1.26, "higher"),
    Ratio(
        "moq_memory",
        "moq-relay's memory a reader, a stream a second, times the gateway's",
        3.2,
        31.0,
        "higher",
    ),
    Ratio("udp_tcp", "UDP's p99 excess age of TCP's at 2 % loss and 50 ms", 0.17, 0.43, "lower"),
    Ratio("commit_cpu", "CPU of a forwarded commit over HTTP/1.1, times Caddy's", 2.21, 2.91, "lower"),
    Ratio("commit_rate", "forwarded commits a second over HTTP/1.1, of Caddy's", 0.38, 0.87, "higher"),
    Ratio("commit_cpu_h3", "CPU of a forwarded commit over HTTP/3, times Caddy's", 1.94, 2.81, "lower"),
    Ratio("read_cpu", "CPU of a forwarded read of 10 pages, times Caddy's", 1.57, 3.2, "lower"),
    Ratio("bulk", "bulk reads over HTTP/3 on this machine, of TCP's speed", 0.5, 0.62, "higher"),
)
