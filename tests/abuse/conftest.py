"""What an attack does to a real ``mvgateway serve``: its memory, its CPU time, and an innocent reader's frames.

The machine that runs this may be busy with other work, so frames are held to 50 a second only
where ``MVGATEWAY_ABUSE=long`` says that it is idle (``make abuse``); CPU seconds are held to everywhere.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.patience import HANG_S
from tests.runtime.conftest import GatewayProcess

LONG = os.environ.get("MVGATEWAY_ABUSE") == "long"
GROWTH_MIB_MAX = 64.0
"""What a gateway may take beyond what it had, during an attack and after it."""
FRAMES_A_SECOND_MIN = 50.0
GIVEN_BACK_S_MAX = 5.0
SAMPLE_S = 0.05
FRAMES_SPAN_S_MIN = 1.0
"""Frames a second say nothing of a shorter time."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Target(GatewayProcess):
    """The gateway under attack."""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port('https')}"

    @property
    def ca(self) -> Path:
        return self.folder / "certs" / "ca.pem"

    def rss_mib(self) -> float:
        """Resident memory now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def cpu_s(self) -> float:
        """CPU time of the process so far, user and system."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def descriptors(self) -> int:
        """Open file descriptors."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def client(self, **more: Any) -> httpx.AsyncClient:
        """An HTTP client at the clear-text door."""
        return httpx.AsyncClient(base_url=self.base_url, **{"timeout": 60, **more})

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        async with self.client(transport=httpx.AsyncHTTPTransport(local_address=OPERATOR)) as client:
            answer = await client.get("/metrics")
        answer.raise_for_status()
        text = answer.text
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = [line for line in text.splitlines() if line.startswith((name + "{", name + " "))]
        return sum(float(line.rpartition(" ")[2]) for line in lines if all(w in line for w in wanted))


OPERATOR = "127.0.9.9"
"""Who asks for metrics: another address than the attackers', of which too many requests are refused."""


class Innocent:
    """The reader whose frames are counted."""

    def __init__(self, target: Target) -> None:
        command = [sys.executable, "-m", "tests.abuse.innocent", target.url, str(target.ca)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.told: dict[str, float] = {}

    def ask(self) -> float:
        """Frames a second since the last time that this was asked."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.told = json.loads(self.process.stdout.readline())
        return self.told["frames"] / max(self.told["seconds"], 1e-9)

    def end(self) -> None:
        self.process.communicate(timeout=HANG_S)


@dataclass
class Attack:
    """What was measured from the beginning to the end of one attack."""

    before_mib: float
    peak_mib: float = 0.0
    cpu_s: float = 0.0
    seconds: float = 0.0
    frames_per_s: float | None = None

    @property
    def growth_mib(self) -> float:
        return max(0.0, self.peak_mib - self.before_mib)

    def __str__(self) -> str:
        frames = "" if self.frames_per_s is None else f", reader {self.frames_per_s:.0f}/s"
        return (
            f"{self.seconds:.1f} s, RSS {self.before_mib:.0f} -> {self.peak_mib:.0f} MiB, "
            f"CPU {self.cpu_s:.1f} s{frames}"
        )

    def check(self, *, growth_mib: float = GROWTH_MIB_MAX, cpu_s: float | None = None) -> None:
        """Hold it to the promise."""
        print(self)
        assert self.growth_mib <= growth_mib, self
        if cpu_s is not None:
            assert self.cpu_s <= cpu_s, self
        if self.frames_per_s is not None:
            assert self.frames_per_s > (FRAMES_A_SECOND_MIN if LONG else 0), self


@asynccontextmanager
async def attack_on(target: Target, innocent: Innocent | None = None) -> AsyncIterator[Attack]:
    """Measure what happens inside the block."""
    attack = Attack(target.rss_mib())
    cpu, began = target.cpu_s(), time.monotonic()
    if innocent is not None:
        await asyncio.to_thread(innocent.ask)

    async def sample() -> None:
        while True:
            attack.peak_mib = max(attack.peak_mib, target.rss_mib())
            await asyncio.sleep(SAMPLE_S)

    sampling = asyncio.ensure_future(sample())
    try:
        yield attack
    finally:
        sampling.cancel()
        attack.peak_mib = max(attack.peak_mib, target.rss_mib())
        attack.seconds, attack.cpu_s = time.monotonic() - began, target.cpu_s() - cpu
        if innocent is not None:
            attack.frames_per_s = await _frames_per_s(innocent)


async def _frames_per_s(innocent: Innocent) -> float:
    """Over a second at least: an attack that is refused at its first packet is over between two frames. Where the machine is
    not idle, until there is one: it may stand still for that second."""
    frames = seconds = 0.0
    while seconds < FRAMES_SPAN_S_MIN or (not LONG and not frames and seconds < HANG_S):
        if frames or seconds:
            await asyncio.sleep(SAMPLE_S)
        await asyncio.to_thread(innocent.ask)
        frames += innocent.told["frames"]
        seconds += innocent.told["seconds"]
    return frames / seconds


async def given_back(target: Target, attack: Attack, also: Callable[[], bool] = lambda: True) -> None:
    """Wait until memory (and whatever ``also`` looks at) is given back; fail where it is not in time."""
    async with asyncio.timeout(GIVEN_BACK_S_MAX if LONG else HANG_S):
        while target.rss_mib() > attack.before_mib + GROWTH_MIB_MAX or not also():  # noqa: ASYNC110
            await asyncio.sleep(SAMPLE_S)


async def falls(target: Target, name: str, most: float) -> None:
    """Wait until a metric is no more than this: who has gone has left at once, and is missed when its end is read."""
    async with asyncio.timeout(HANG_S):
        while await target.metric(name) > most:  # noqa: ASYNC110 (a metric is no event)
            await asyncio.sleep(SAMPLE_S)


async def rises(target: Target, name: str, **labels: str) -> None:
    """Wait until a metric counts something."""
    async with asyncio.timeout(HANG_S):
        while not await target.metric(name, **labels):  # noqa: ASYNC110 (a metric is no event)
            await asyncio.sleep(SAMPLE_S)


StartTarget = Callable[..., Target]


@pytest.fixture
def start_target(tmp_path: Path) -> Iterator[StartTarget]:
    """Start a gateway with these flags; several of one test share a folder."""
    running: list[Target] = []

    def start(*flags: str, **more: Any) -> Target:
        target = Target(tmp_path, *flags, **more)
        running.append(target)
        target.wait_ready()
        return target

    yield start
    for target in running:
        if target.process.poll() is None:
            target.kill()


@pytest.fixture
def target(start_target: StartTarget) -> Target:
    return start_target()


@pytest.fixture
def innocent(target: Target) -> Iterator[Innocent]:
    watcher = Innocent(target)
    try:
        watcher.ask()
        yield watcher
    finally:
        watcher.end()
