"""Real QUIC over a real link that loses 2 % each way, 25 ms long: everyone converges, on either path."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.gateway import Gateway
from bench.link import Direction, Host, LinkPath, Network, unavailable_because
from tests.patience import FOREIGN_S

REASON = unavailable_because()
if REASON and os.environ.get("CI") == "true":
    raise RuntimeError(f"CI must be able to make the link: {REASON}")
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"no lossy link: {REASON}")

READERS = 4
LINK = LinkPath.symmetric(Direction(delay_ms=25.0, loss=0.02))


def _start(host: Host, role: str, gateway: Gateway) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "tests.e2e.lossy_world", role, gateway.url, str(gateway.ca), str(READERS)]
    return host.popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )


def _say(process: subprocess.Popen[str], line: str = "go") -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _wait_for(process: subprocess.Popen[str], line: str, times: int = 1) -> None:
    assert process.stdout is not None
    for _ in range(times):
        assert process.stdout.readline().strip() == line


def _answer(process: subprocess.Popen[str]) -> dict[str, object]:
    out, _ = process.communicate(timeout=FOREIGN_S)
    assert process.returncode == 0
    answer: dict[str, object] = json.loads(out.splitlines()[-1])
    return answer


def _sent_by_path(gateway: Gateway, host: Host) -> dict[str, int]:
    script = f"import httpx; print(httpx.get('{gateway.url}/metrics', verify=False, trust_env=False).text)"
    done = host.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = re.findall(r'^mvgateway_quic_packets_sent_total{path="(\w+)"} (\d+)', done.stdout, re.MULTILINE)
    return {path: int(count) for path, count in found}


def test_everyone_converges_over_a_link_that_loses_two_percent(tmp_path: Path) -> None:
    with Network([LINK, LINK], seed=7) as network:
        home, away, elsewhere = network.hosts
        with Gateway(tmp_path, home.address, prefix=home.command([])) as gateway:
            publisher, readers = _start(away, "publish", gateway), None
            try:
                _wait_for(publisher, "open")
                readers = _start(elsewhere, "follow", gateway)
                _wait_for(readers, "ready", READERS)
                _say(publisher)
                seen = _answer(readers)
                _say(publisher)
                told = _answer(publisher)
                sent = _sent_by_path(gateway, home)
            finally:
                publisher.kill()
                if readers is not None:
                    readers.kill()
    assert seen["converged"] == READERS
    assert told["lost"] > 0, "the publisher lost nothing, so nothing was shown"
    assert network.report["dropped_loss"] > 10, "the link lost nothing, so nothing was shown"
    assert sent["fast"] > 500
