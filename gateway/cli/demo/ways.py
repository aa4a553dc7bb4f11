"""The demo's link: between two network namespaces, or a relay where there can be none. Room: cli."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

from gateway.cli._child import LOOPBACK, ChildFailed
from gateway.limits import CLI_CHILD_READY_S_MAX
from gateway.link.model import Direction, LinkPath

if TYPE_CHECKING:
    from gateway.link.namespaces import TwoNamespaces

LOSS, DELAY_MS = 0.03, 40.0
PATH = LinkPath.symmetric(Direction(delay_ms=DELAY_MS, loss=LOSS))
SEED = 1


class Way:
    """What lies between gateway and readers. ``host``: where the gateway listens; ``far``: the namespace of the readers."""

    host = LOOPBACK
    far: int | None = None
    told = ""
    """Of a reader that follows, at the end."""
    how = ""

    @property
    def says(self) -> str:
        """What it does, for a line."""
        return (
            f"{LOSS * 100:g} of 100 packets are lost each way, {2 * DELAY_MS:g} ms there and back{self.how}"
        )

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def open(self, url: str) -> str:
        """Begin to carry; answers the address at which readers find the gateway that is at ``url``."""
        raise NotImplementedError

    async def close(self) -> None:
        """Carry no more."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def _start(self, module: str, settings: dict[str, object], fds: list[int]) -> str:
        """Run the module, and answer its first line."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, json.dumps(settings)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=fds,
        )
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), CLI_CHILD_READY_S_MAX)
        except TimeoutError:
            line = b""
        if not line:
            raise ChildFailed(f"the demo's link ({module}) did not start")
        return line.decode().strip()


class Namespaces(Way):
    """The kernel's own UDP and TCP over a link whose packets are delayed and dropped."""

    told = "over a link between two network namespaces"

    def __init__(self, link: TwoNamespaces) -> None:
        from gateway.link.namespaces import NEAR_ADDRESS

        super().__init__()
        self.host, self.far, self._tuns = NEAR_ADDRESS, link.far, link.tuns

    async def open(self, url: str) -> str:
        settings = {"fds": self._tuns, "paths": [PATH.describe()], "seed": SEED}
        await self._start("gateway.link.carrier", settings, self._tuns)
        return url


class Relayed(Way):
    """A process that drops UDP's packets, and holds TCP's back as long as sending them again takes."""

    told = "through a relay, which plays what loss does to TCP"
    how = " (played)"

    async def open(self, url: str) -> str:
        settings = {"to": int(url.rsplit(":", 1)[1]), "path": PATH.describe(), "seed": SEED}
        return f"https://{LOOPBACK}:{await self._start('gateway.link.relay', settings, [])}"


def way_over(link: object) -> Way:
    """By namespaces if there are any, else by a relay."""
    from gateway.link.namespaces import TwoNamespaces

    return Namespaces(link) if isinstance(link, TwoNamespaces) else Relayed()
