"""Readers and publishers of other QUIC stacks, on loopback and over a link that loses: every byte, every keyframe.

The clients check each record against what its key and tick say it must be, and that every stream ends.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bench.gateway import Gateway
from bench.link import Direction, Network, unavailable_because
from bench.link import LinkPath as LinkPath
from tests.interop.clients import BUILD_S, RUN_S, NotBuilt, Running, build_go, build_rust
from tests.patience import HANG_S
from tests.ports import free_port

CLIENTS: dict[str, Callable[[Path], Path]] = {
    "webtransport-go 0.10": lambda folder: build_go("draft02", folder),
    "webtransport-go 0.12": lambda folder: build_go("draft15", folder),
    "webtransport-go 0.13": lambda folder: build_go("current", folder),
    "wtransport 0.7": lambda folder: build_rust("wtransport", folder),
    "web-transport-quinn 0.13": lambda folder: build_rust("web-transport-quinn", folder),
}
REQUESTS = {"h3-quinn 0.0.10": lambda folder: build_rust("web-transport-quinn", folder, "requests")}
LINK = LinkPath.symmetric(Direction(delay_ms=5.0, loss=0.01))
WORSE = LinkPath.symmetric(Direction(delay_ms=5.0, loss=0.03))
"""Where few packets go: a busy machine sends fewer still, and some must be lost."""
NO_LINK = unavailable_because()
pytestmark = pytest.mark.timeout(2 * BUILD_S)
"""The first test of each client waits for its build."""
SIZES = [1_000, 20_000, 180_000]
PLAYED = [name for name in CLIENTS if name != "webtransport-go 0.12"]
"""0.12 is 0.13 but for what opens a session: it plays where that is what is asked."""
ACROSS = [("wtransport 0.7", "webtransport-go 0.13"), ("webtransport-go 0.13", "wtransport 0.7")]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A client's program, built once; where it cannot be built the test is skipped, but not in CI."""
    folder = tmp_path_factory.mktemp("interop")
    built: dict[str, Path | NotBuilt] = {}

    def get(name: str) -> Path:
        if name not in built:
            try:
                built[name] = (CLIENTS | REQUESTS)[name](folder)
            except NotBuilt as error:
                built[name] = error
        found = built[name]
        if isinstance(found, NotBuilt):
            if os.environ.get("CI") == "true":
                raise found
            pytest.skip(str(found))
        return found

    return get


def _play(
    folder: Path,
    reader: Path,
    publisher: Path,
    size: int,
    frames: int,
    interval_ms: int,
    network: Network | None = None,
) -> dict[str, Any]:
    """Frames of ``size`` bytes from one client to the other, with an interval of 0 each when the one before is whole; what the
    reader saw."""
    home, here, there = network.hosts if network is not None else (None, None, None)
    host = home.address if home is not None else "127.0.0.1"
    prefixes = [tuple(one.command([])) if one is not None else () for one in (home, here, there)]
    with ExitStack() as stack:
        gateway = stack.enter_context(Gateway(folder, host, prefix=prefixes[0]))
        words = (gateway.certificate_sha256, size, frames, interval_ms)
        live = f"{gateway.url}/v1/worlds/plaza/live"
        sends = stack.enter_context(
            Running(publisher, "publish", (f"{live}?role=publish", *words), prefixes[1])
        )
        sends.hear("ready")
        reads = stack.enter_context(Running(reader, "read", (live, *words), prefixes[2]))
        reads.hear("ready")
        sends.go_on()
        for tick in range(1, frames + 1 if interval_ms == 0 else 0):
            reads.hear(f"whole {tick}")
            sends.go_on()
        return reads.answer()


@pytest.mark.parametrize(
    ("name", "size"), [*itertools.product(PLAYED, SIZES), ("webtransport-go 0.12", 20_000)]
)
def test_a_foreign_reader_gets_what_a_foreign_publisher_sent(
    name: str, size: int, program: Callable[[str], Path], tmp_path: Path
) -> None:
    """A frame of one datagram is sent when the one before is there: on a busy machine a newer one would overtake it. Larger ones
    are many messages each, and not held up: a reader that stands still drops some, which only the next frame makes up for."""
    interval_ms = 0 if size <= 1_000 else 30
    saw = _play(tmp_path, program(name), program(name), size, 60, interval_ms)
    assert saw["error"] == ""
    assert saw["welcome"]
    assert saw["messages"] > 30
    assert saw["streams_begun"] == saw["streams_ended"] + saw["streams_reset"]


@pytest.mark.skipif(NO_LINK is not None, reason=f"no lossy link: {NO_LINK}")
@pytest.mark.parametrize(("size", "interval_ms"), [(1_000, 60), (20_000, 60), (180_000, 250)])
@pytest.mark.parametrize("name", PLAYED)
def test_a_foreign_reader_has_the_newest_over_a_link_that_loses_however_slow_its_machine_is(
    name: str, size: int, interval_ms: int, program: Callable[[str], Path], tmp_path: Path
) -> None:
    frames = 40 if size > 100_000 else 100
    with Network([WORSE, WORSE], seed=11) as network:
        saw = _play(tmp_path, program(name), program(name), size, frames, interval_ms, network)
    assert network.report["dropped_loss"] > 3, "the link lost nothing, so nothing was shown"
    assert saw["error"] == ""
    assert saw["streams_begun"] == saw["streams_ended"] + saw["streams_reset"]


@pytest.mark.skipif(NO_LINK is not None, reason=f"no lossy link: {NO_LINK}")
@pytest.mark.parametrize(("reader", "publisher"), [*((name, name) for name in PLAYED), *ACROSS])
def test_a_hundred_keyframes_are_each_complete_over_a_link_that_loses(
    reader: str, publisher: str, program: Callable[[str], Path], tmp_path: Path
) -> None:
    """Each is sent when the one before is whole: one that stalls is never overtaken, and one on a busy machine neither."""
    with Network([LINK, LINK], seed=11) as network:
        saw = _play(tmp_path, program(reader), program(publisher), 180_000, 100, 0, network)
    assert network.report["dropped_loss"] > 100, "the link lost nothing, so nothing was shown"
    assert saw["error"] == ""
    assert saw["complete"] == 100
    assert saw["streams_reset"] == 0
    assert saw["streams_begun"] == saw["streams_ended"]


IDLE_S, SILENT_MS = 3, 10_000


def test_all_of_them_stay_in_a_world_that_is_silent_for_longer_than_any_idle_time_out(
    program: Callable[[str], Path], tmp_path: Path
) -> None:
    """None of them sends a keep-alive by itself: it is the gateway that pings. They wait side by side."""
    with ExitStack() as stack:
        extra = ("--idle-timeout-s", str(IDLE_S))
        gateway = stack.enter_context(Gateway(tmp_path, extra=extra))
        waiting = []
        for at, name in enumerate(CLIENTS):
            live = f"{gateway.url}/v1/worlds/quiet-{at}/live"
            words = (gateway.certificate_sha256, 1_000, 2, SILENT_MS)
            sends = stack.enter_context(Running(program(name), "publish", (f"{live}?role=publish", *words)))
            sends.hear("ready")
            reads = stack.enter_context(Running(program(name), "read", (live, *words)))
            reads.hear("ready")
            sends.go_on()
            waiting.append((name, reads))
        seen = {name: reads.answer() for name, reads in waiting}
    for name, saw in seen.items():
        assert (name, saw["error"], saw["welcome"]) == (name, "", True)


ASK_FOR_NAMESPACE = """
import sys, urllib.request
head = {"content-type": "application/json"}
asked = urllib.request.Request(sys.argv[1] + "/api/create_namespace", data=b'{"key": "pages"}', headers=head)
sys.exit(urllib.request.urlopen(asked, timeout=30).status != 201)
"""


@pytest.mark.parametrize(("loses", "size"), [(False, 1_000), (True, 20_000)])
def test_requests_by_a_foreign_http3_are_answered_as_the_docs_say(
    loses: bool, size: int, program: Callable[[str], Path], tmp_path: Path
) -> None:
    """Frames posted, followed by frame stream and events, and read back; entities; refusals; pages of the store."""
    if loses and NO_LINK is not None:
        pytest.skip(f"no lossy link: {NO_LINK}")
    requests, admin = program("h3-quinn 0.0.10"), f"127.0.0.1:{free_port()}"
    with ExitStack() as stack:
        network = stack.enter_context(Network([WORSE], seed=11)) if loses else None
        home, away = network.hosts if network is not None else (None, None)
        prefix = tuple(home.command([])) if home is not None else ()
        host = home.address if home is not None else "127.0.0.1"
        gateway = stack.enter_context(Gateway(tmp_path, host, prefix=prefix, extra=("--admin-api", admin)))
        ask = [*prefix, sys.executable, "-c", ASK_FOR_NAMESPACE, f"http://{admin}"]
        subprocess.run(ask, check=True, timeout=HANG_S)
        words = (gateway.url, gateway.ca, "plaza", "pages", size, 30)
        argv = [*(away.command([]) if away is not None else ()), requests, *words]
        done = subprocess.run(
            list(map(str, argv)), capture_output=True, text=True, timeout=RUN_S, check=False
        )
    assert json.loads(done.stdout or "{}") == {"error": ""}, done.stderr[-500:]
    if network is not None:
        assert network.report["dropped_loss"] > 3, "the link lost nothing, so nothing was shown"
