"""The demo's end of its readers' process (:mod:`gateway.cli.demo.following`). Room: cli."""

from __future__ import annotations

import asyncio
import json
import sys

from gateway.cli._child import ChildFailed
from gateway.limits import DEMO_READERS_S_MAX


class Readers:
    """Readers by transport, at the far end of the link. ``report``: what they told last."""

    def __init__(self, counts: dict[str, int]) -> None:
        self.counts = counts
        self.report: dict[str, object] = {}
        self._far: int | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._figures: asyncio.Future[dict[str, object]] | None = None

    async def start(self, far: int | None) -> None:
        """Start the process, which waits for :meth:`follow`. ``far``: the namespace that it is to be in."""
        self._far = far
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.cli.demo.following"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=[] if far is None else [far],
        )

    async def follow(self, url: str, ca: str, world: str) -> None:
        """Connect them all. Raises :class:`ChildFailed`."""
        self.say(json.dumps({"url": url, "ca": ca, "world": world, "readers": self.counts, "far": self._far}))
        try:
            first = await asyncio.wait_for(self._next(), DEMO_READERS_S_MAX)
        except TimeoutError:
            raise ChildFailed(f"the readers were not connected within {DEMO_READERS_S_MAX:g} s") from None
        if not first.get("connected"):
            raise ChildFailed(f"the readers did not connect: {first.get('error', 'no word')}")
        self._hearing = asyncio.create_task(self._hear())

    def say(self, line: str) -> None:
        """A line for the process: ``measure`` or ``rest``, whether the ages of what they show count from now on."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(f"{line}\n".encode())

    async def figures(self) -> dict[str, object]:
        """Those of the whole time. Raises :class:`ChildFailed` where the process is gone."""
        self._figures = asyncio.get_running_loop().create_future()
        if self._hearing is None or self._hearing.done():
            raise ChildFailed("the readers' process has ended")
        self.say("figures")
        try:
            return await asyncio.wait_for(self._figures, DEMO_READERS_S_MAX)
        except TimeoutError:
            raise ChildFailed("the readers' process says nothing any more") from None

    def hold(self, digest: str) -> bool:
        """True if, as far as was told, each of them holds this state."""
        return bool(self.report.get("held") == {digest: sum(self.counts.values())})

    async def stop(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()
        if self._hearing is not None:
            await self._hearing

    async def _hear(self) -> None:
        while told := await self._next():
            self.report = told
            if "latency_ms" in told and self._figures is not None and not self._figures.done():
                self._figures.set_result(told)
        if self._figures is not None and not self._figures.done():
            self._figures.set_exception(ChildFailed("the readers' process has ended"))

    async def _next(self) -> dict[str, object]:
        """The next thing that it tells; nothing at its end."""
        process = self._process
        if process is None or process.stdout is None:
            return {}
        line = await process.stdout.readline()
        found: dict[str, object] = json.loads(line) if line else {}
        return found
