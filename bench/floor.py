"""What this machine makes of a datagram at the very least: encryption and system calls alone. Room: bench.

``python -m bench.floor``: one line. Every CPU figure of the pages stands beside the floor of the machine that it was
measured on, and as so many times it; a machine whose floor is twice as high is expected to take twice as long.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from statistics import median

from bench.processes import ROOT, BenchError

PAGE_US = 11.3
"""Of the machine that docs/BENCHMARKS.md was measured on: CPU microseconds of the sender for 1,090 bytes."""
CASE = 5
"""Of :mod:`bench.quic_paths`."""
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Floor:
    """``us``: a datagram here."""

    us: float

    @property
    def slower(self) -> float:
        """How many times the page's machine."""
        return self.us / PAGE_US

    def expected(self, page_us: float) -> float:
        """What a figure of the page comes to here."""
        return page_us * self.slower

    def __str__(self) -> str:
        return (
            f"floor: {self.us:.1f} µs of CPU a datagram for encryption and system calls alone, "
            f"{self.slower:.2f} times that of the page's machine ({PAGE_US:g})"
        )


def measure(seconds: float = 2.0, rounds: int = 3) -> Floor:
    """The median of some rounds. Raises :class:`BenchError`."""
    argv = [sys.executable, "-m", "bench.quic_paths", "--case", str(CASE), "--seconds", str(seconds)]
    found = []
    for _ in range(rounds):
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, cwd=ROOT, timeout=TIMEOUT_S + 10 * seconds
        )
        row = re.search(r"\{'path': 'floor'.*\}", done.stdout)
        if row is None:
            raise BenchError(f"the floor could not be measured: {done.stderr.strip()[-200:]}")
        found.append(float(ast.literal_eval(row[0])["cpu_us"]))
    return Floor(median(found))


def main() -> int:
    """Entry."""
    print(measure())
    return 0


if __name__ == "__main__":
    sys.exit(main())
