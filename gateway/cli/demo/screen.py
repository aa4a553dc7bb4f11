"""What a user of the demo sees while it runs: what begins and what it is, and two live lines. Room: cli."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from gateway.limits import DEMO_BAR_MS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

SHORT = {"webtransport": "UDP", "websocket": "TCP"}
COLUMNS = 80
"""As wide as what is printed where nobody says how wide a terminal is."""


def age_line(transport: str, count: int, told: dict[str, Any], width: int) -> str:
    """One transport's readers on a line of at most ``width`` columns: how old what they show is, as a bar, too."""
    age = told.get("age_ms", {})
    p50, p99 = (age.get(name) or 0.0 for name in ("p50", "p99"))
    head = (
        f"{SHORT[transport]}  {told.get('connected', 0):>2} of {count:>2} readers   "
        f"age {_ms(p50)} mostly, {_ms(p99)} at worst  "
    )
    return (head + "▇" * min(max(0, width - len(head) - 1), round(p99 / DEMO_BAR_MS))).rstrip()


def _ms(age_ms: float) -> str:
    return f"{age_ms:>4.0f} ms" if age_ms < 1e4 else f"{age_ms / 1e3:>5.0f} s"


class Screen:
    """On standard error. ``readers``: how many by transport; their newest report is given by :meth:`show`."""

    def __init__(self, readers: dict[str, int], *, quiet: bool) -> None:
        self._readers = readers
        self._quiet = quiet
        self._console: Console | None = None
        self._report: dict[str, Any] = {}

    def now(self, phase: str, meaning: str = "") -> None:
        """Say what begins, and what it is in plain words: lines that stay above the live ones."""
        line = f"{phase}: {meaning}" if meaning else phase
        if self._console is not None:
            self._console.print(line, highlight=False)
        elif not self._quiet:
            print(line, file=sys.stderr, flush=True)

    def show(self, report: dict[str, Any]) -> None:
        """What the live lines are drawn from."""
        self._report = report

    def keep_lines(self) -> None:
        """Leave the two lines as they are now, where nothing is live and after all."""
        for line in self.lines(COLUMNS if self._console is None else self._console.width):
            self.now(line)

    def lines(self, width: int) -> list[str]:
        """The two lines."""
        return [
            age_line(name, count, self._report.get(name, {}), width) for name, count in self._readers.items()
        ]

    def live(self) -> AbstractContextManager[object]:
        """The lines move while the context lasts, if a person looks on."""
        if self._quiet or not sys.stderr.isatty():
            return nullcontext()
        from rich.console import Console
        from rich.live import Live

        self._console = Console(stderr=True)
        return Live(get_renderable=self._drawn, console=self._console, refresh_per_second=8, transient=True)

    def _drawn(self) -> Text:
        from rich.text import Text

        assert self._console is not None
        return Text("\n".join(self.lines(self._console.width)), no_wrap=True, overflow="crop")
