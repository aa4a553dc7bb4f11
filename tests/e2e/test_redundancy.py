"""A whole gateway over a link that loses: what it says twice is counted, and readers see each value once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.gateway import Gateway
from bench.link import Direction, Host, Network, unavailable_because
from bench.link import LinkPath as LinkPath
from tests.kits.abilities import proves
from tests.patience import FOREIGN_S, HANG_S

REASON = unavailable_because()
if REASON and os.environ.get("CI") == "true":
    raise RuntimeError(f"CI must be able to make the link: {REASON}")
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"no lossy link: {REASON}")

ROOT = Path(__file__).parents[2]
Counts = dict[str, int]


class Side:
    """One end of the world, in a namespace."""

    def __init__(self, host: Host, *words: str) -> None:
        argv = [sys.executable, "-m", "tests.e2e.redundant_world", *words]
        self.process: subprocess.Popen[str] = host.popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def say(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, int]:
        out, _ = self.process.communicate("\n", timeout=HANG_S)
        answer: dict[str, int] = json.loads(out.splitlines()[-1])
        return answer

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def events(gateway: Gateway, host: Host) -> Counts:
    """What the world's rules counted, from the metrics page."""
    script = f"import httpx; print(httpx.get('{gateway.url}/metrics', verify=False, trust_env=False).text)"
    done = host.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^mvgateway_world_events_total{([^}]*)} (\d+)", done.stdout, re.MULTILINE)
    return {m.group(1): int(n) for labels, n in found if (m := re.search(r'what="(\w+)"', labels))}


def follow(
    folder: Path, loss: float, kinds: Sequence[str], enough: Callable[[Counts], bool]
) -> tuple[Counts, list[dict[str, int]], int]:
    """Play until the metrics are ``enough``: those, what each kind of reader counted, and what the link lost."""
    link = LinkPath.symmetric(Direction(delay_ms=20.0, loss=loss))
    with ExitStack() as stack:
        network = stack.enter_context(Network([link], seed=3))
        home, away = network.hosts
        gateway = stack.enter_context(Gateway(folder, home.address, prefix=home.command([])))
        sends = Side(home, "publish", gateway.url, str(gateway.ca))
        stack.callback(sends.end)
        readers = []
        for kind in kinds:
            readers.append(Side(away, "follow", gateway.url, str(gateway.ca), kind))
            stack.callback(readers[-1].end)
        sends.say()
        end = time.monotonic() + FOREIGN_S
        while not enough(counted := events(gateway, home)) and time.monotonic() < end:
            pass  # each takes a good part of a second: it starts a process
        answers = [reader.answer() for reader in readers]
        dropped = network.counters()["dropped_loss"]
    return counted, answers, dropped


@proves("python", "redundancy")
def test_a_reader_whose_path_loses_is_told_twice_and_sees_each_value_once(tmp_path: Path) -> None:
    def enough(counted: Counts) -> bool:
        return counted["repeated"] > 100 and counted["parity"] > 100

    counted, (twice, off), dropped = follow(tmp_path, 0.02, ["auto", "off"], enough)
    assert enough(counted), counted
    assert dropped > 10, "the link lost nothing, so nothing was shown"
    assert counted["redundant_bytes"] > 100_000
    assert twice["repeated"] > 50
    assert twice["rebuilt"] > 0
    assert twice["malformed"] == off["malformed"] == 0
    assert off["repeated"] < 20, "but for what a keyframe said before"
    assert off["rebuilt"] == 0


def test_a_path_that_loses_nothing_is_told_nothing_twice(tmp_path: Path) -> None:
    counted, (answer,), _ = follow(tmp_path, 0.0, ["auto"], lambda counted: counted["frames"] > 300)
    assert counted["frames"] > 300
    assert (counted["redundant_bytes"], counted["repeated"], counted["parity"]) == (0, 0, 0)
    assert answer["repeated"] < 20, "but for what a keyframe said before"
    assert answer["rebuilt"] == 0
