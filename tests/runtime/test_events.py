"""The operator's log: what is told of sessions, stores and settings, and that it is never a flood."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import logging
import signal
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from gateway.core.events import HomeGivenUp, HomeLost, HomeTaken, PublisherReplaced
from gateway.limits import EVENT_LINES_MAX, EVENT_WINDOW_S
from gateway.runtime import certs, logs
from gateway.runtime.events import EventLog
from gateway.runtime.gateway import Gateway
from gateway.runtime.watch import OperatorWatch
from tests.held import reached
from tests.patience import HANG_S
from tests.runtime.conftest import StartProcess, body, client_of, frame, until
from tests.runtime.faults.driver import StoreProcess


class Clock:
    """Seconds, set by the test."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Kept(logging.Handler):
    """Keeps what is logged: (level, event, facts)."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelname, record.getMessage(), getattr(record, "facts", {})))

    def of(self, event: str) -> list[dict[str, Any]]:
        return [facts for _, name, facts in self.lines if name == event]


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler, logger = Kept(), logging.getLogger("mvgateway")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


def test_a_thousand_events_of_a_kind_are_some_lines_and_one_with_the_count(kept: Kept) -> None:
    clock = Clock()
    events = EventLog(logging.getLogger("mvgateway.test"), clock)
    for n in range(1_000):
        events.note("session refused", n=n)
    assert len(kept.of("session refused")) == EVENT_LINES_MAX
    clock.now += EVENT_WINDOW_S
    events.close_windows()
    events.close_windows()
    assert kept.of("session refused, and more of the kind") == [
        {"more": 1_000 - EVENT_LINES_MAX, "seconds": EVENT_WINDOW_S}
    ]


def test_a_kind_that_goes_on_is_told_again_in_the_next_window(kept: Kept) -> None:
    clock = Clock()
    events = EventLog(logging.getLogger("mvgateway.test"), clock)
    for _ in range(3):
        for _ in range(EVENT_LINES_MAX + 5):
            events.note("session opened")
        clock.now += EVENT_WINDOW_S
    events.close_windows()
    assert len(kept.of("session opened")) == 3 * EVENT_LINES_MAX
    assert [facts["more"] for facts in kept.of("session opened, and more of the kind")] == [5, 5, 5]


def test_one_kind_does_not_hide_another(kept: Kept) -> None:
    events = EventLog(logging.getLogger("mvgateway.test"), Clock())
    for _ in range(100):
        events.note("session refused")
    events.note("store failing", logging.WARNING, world="w")
    assert kept.of("store failing") == [{"world": "w"}]


def test_a_publisher_that_comes_back_is_no_takeover(kept: Kept) -> None:
    events = EventLog(logging.getLogger("mvgateway.test"), Clock())
    events.session(PublisherReplaced("w", 3, 3, "127.0.0.1:1"))
    events.session(PublisherReplaced("w", 3, 4, "127.0.0.1:1"))
    assert kept.of("publisher taken over") == [
        {"world": "w", "epoch": 3, "by_epoch": 4, "address": "127.0.0.1:1"}
    ]


def test_what_a_peer_says_stays_within_its_own_line() -> None:
    stream = io.StringIO()
    logs.set_up("info", as_json=False, stream=stream)
    EventLog(logging.getLogger("mvgateway.test")).note(
        "session refused", why="x\nERROR mvgateway  all is lost"
    )
    assert stream.getvalue().count("\n") == 1
    assert r'why="x\nERROR mvgateway  all is lost"' in stream.getvalue()


def test_the_level_counts_for_every_logger_of_the_house() -> None:
    stream = io.StringIO()
    logs.set_up("info", as_json=True, stream=stream)
    logging.getLogger("gateway.quic.server").info("by module")
    logging.getLogger("mvgateway.world").info("by name")
    logging.getLogger("aioquic").info("not ours")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["by module", "by name"]
    logs.set_level("warning")
    logging.getLogger("gateway.quic.server").info("no more")
    assert stream.getvalue().count("\n") == 2


async def test_sessions_are_told_with_who_how_long_and_why(gateway: Gateway, kept: Kept) -> None:
    assert gateway.plain_server is not None
    url = f"ws://127.0.0.1:{gateway.plain_server.port}/v1/worlds/w/live"
    async with websockets.connect(f"{url}?role=publish") as publisher:
        await publisher.recv()
        await publisher.send(frame(1, {1: b"a"}))
        async with websockets.connect(url) as reader:
            await reader.recv()
            name, port = reader.local_address[:2]
            opened = kept.of("session opened")[-1]
            assert opened["address"] == f"{name}:{port}"
        await until(lambda: len(kept.of("session closed")) == 1)
    await until(lambda: len(kept.of("session closed")) == 2)
    assert [(o["role"], o["transport"], o["world"]) for o in kept.of("session opened")] == [
        ("publish", "websocket", "w"),
        ("subscribe", "websocket", "w"),
    ]
    reader_end, publisher_end = kept.of("session closed")
    assert (reader_end["why"], reader_end["role"]) == ("left", "subscribe")
    assert reader_end["messages"] >= 1
    assert (publisher_end["why"], publisher_end["messages"]) == ("left", 1)
    assert 0 <= publisher_end["seconds"] < 60


async def test_a_refusal_is_told_with_its_code_and_without_the_query(gateway: Gateway, kept: Kept) -> None:
    assert gateway.plain_server is not None
    url = f"ws://127.0.0.1:{gateway.plain_server.port}/v1/worlds/none/live?keys=7"
    async with websockets.connect(url) as reader:
        await reader.recv()
    (refused,) = kept.of("session refused")
    assert (refused["code"], refused["path"]) == ("unknown_world", "/v1/worlds/none/live")


class Journal:
    """A world's, as the watch looks at it."""

    def __init__(self) -> None:
        self.failure = ""
        self.has_failed = False
        self.late_s = 0.0

    def waiting_s(self, mono: float) -> float:
        return self.late_s


@pytest.mark.parametrize(
    ("looks", "told"),
    [
        ([(0.0, False), (0.2, False), (0.0, False)], []),
        ([(2.0, False), (3.0, False), (0.0, False), (0.0, False)], ["store slow", "store back"]),
        ([(0.0, True), (5.0, True), (0.0, False)], ["store failing", "store back"]),
        (
            [(2.0, False), (3.0, True), (4.0, True), (0.0, False)],
            ["store slow", "store failing", "store back"],
        ),
        ([(0.0, True), (4.0, False), (0.0, False)], ["store failing", "store back"]),
    ],
)
async def test_a_store_that_is_slow_or_fails_and_comes_back_is_told_once_each(
    kept: Kept, looks: list[tuple[float, bool]], told: list[str]
) -> None:
    journal, clock = Journal(), Clock()
    watch = OperatorWatch(EventLog(logging.getLogger("mvgateway.test")), lambda: {"w": journal}, clock=clock)
    for journal.late_s, journal.has_failed in looks:
        journal.failure = "it says no" if journal.has_failed else ""
        watch.look()
        clock.now += 1
    watch.stop()
    assert [name for _, name, _ in kept.lines] == told
    for level, name, facts in kept.lines:
        assert level == ("INFO" if name == "store back" else "WARNING")
        assert facts["world"] == "w"
        assert facts.get("why") == ("it says no" if name == "store failing" else None)
    if told:
        assert kept.of("store back")[0]["seconds"] == len(looks) - [bool(late or no) for late, no in looks][
            ::-1
        ].index(True)


async def test_a_world_that_is_closed_while_its_store_ails_is_told_of_no_more(kept: Kept) -> None:
    journals = {"w": Journal()}
    watch = OperatorWatch(EventLog(logging.getLogger("mvgateway.test")), lambda: journals)
    journals["w"].late_s = 9.0
    watch.look()
    journals.clear()
    for _ in range(3):
        watch.look()
    watch.stop()
    assert [name for _, name, _ in kept.lines] == ["store slow"]
    assert "w" not in list(reached(watch, kept))


async def test_a_thousand_worlds_whose_store_fails_are_some_lines_and_a_count(kept: Kept) -> None:
    journals = {f"w{n}": Journal() for n in range(1_000)}
    clock = Clock()
    watch = OperatorWatch(EventLog(logging.getLogger("mvgateway.test"), clock), lambda: journals)
    for journal in journals.values():
        journal.has_failed = True
    watch.look()
    clock.now += EVENT_WINDOW_S
    watch.look()
    watch.stop()
    assert len(kept.of("store failing")) == EVENT_LINES_MAX
    assert kept.of("store failing, and more of the kind")[0]["more"] == 1_000 - EVENT_LINES_MAX


async def test_a_real_store_that_hangs_is_told_as_slow_or_failing_and_then_as_back(
    start_process: StartProcess, tmp_path: Path
) -> None:
    store = StoreProcess(tmp_path)
    try:
        child = start_process(*store.flags).wait_ready()
        url = f"ws://127.0.0.1:{child.port('plain')}/v1/worlds/w/live?role=publish"
        async with websockets.connect(url) as publisher, httpx.AsyncClient(base_url=child.base_url) as client:
            await publisher.recv()
            tick = 0

            async def send_until(state: str) -> None:
                async def is_so() -> bool:
                    nonlocal tick
                    tick += 1
                    await publisher.send(frame(tick, {1: b"x"}))
                    return ('"store":"ok"' in (await client.get("/healthz")).text) is (state == "ok")

                await until(is_so, HANG_S)

            await send_until("ok")
            store.process.send_signal(signal.SIGSTOP)
            try:
                await send_until("not ok")
                told_at = asyncio.get_running_loop().time()
                while asyncio.get_running_loop().time() < told_at + 2:  # it is looked at once a second
                    await client.get("/healthz")
            finally:
                store.process.send_signal(signal.SIGCONT)
            await send_until("ok")
        _, log = await asyncio.to_thread(child.terminate)
    finally:
        store.kill()
    events = [json.loads(line) for line in log.splitlines()]
    names = [
        event["event"] for event in events if event["event"] in ("store slow", "store failing", "store back")
    ]
    assert names
    assert names[0] in ("store slow", "store failing")
    assert names.count("store slow") <= 1 + names.count("store back")


async def test_what_a_bound_refuses_is_told_with_it_and_a_count(start_gateway: Any, kept: Kept) -> None:
    gateway = await start_gateway(requests_per_address_per_s=1, worlds_max=1)
    async with client_of(gateway) as client:
        for _ in range(40):
            await client.get("/healthz")
    await until(lambda: any(one["bound"] == "requests_per_address_per_s" for one in kept.of("refused")))
    (told,) = [one for one in kept.of("refused") if one["bound"] == "requests_per_address_per_s"]
    assert 10 <= told["count"] <= 30


async def test_a_session_that_a_bound_refuses_is_told_with_it(start_gateway: Any, kept: Kept) -> None:
    gateway = await start_gateway(readers_per_world_max=1)
    assert gateway.plain_server is not None
    url = f"ws://127.0.0.1:{gateway.plain_server.port}/v1/worlds/w/live"
    async with websockets.connect(f"{url}?role=publish"), websockets.connect(url) as reader:
        await reader.recv()
        async with websockets.connect(url) as second:
            await second.recv()
    (refused,) = kept.of("session refused")
    assert (refused["code"], refused["bound"]) == ("overloaded", "--readers-per-world-max")


async def test_a_takeover_is_told_with_both_epochs(gateway: Gateway, kept: Kept) -> None:
    assert gateway.plain_server is not None
    url = f"ws://127.0.0.1:{gateway.plain_server.port}/v1/worlds/w/live?role=publish"
    async with websockets.connect(url) as first:
        await first.recv()
        async with websockets.connect(f"{url}&takeover=1") as second:
            await second.recv()
    (told,) = kept.of("publisher taken over")
    assert (told["world"], told["epoch"], told["by_epoch"]) == ("w", 1, 2)


def test_homes_that_move_are_told_with_their_fences(kept: Kept) -> None:
    events = EventLog(logging.getLogger("mvgateway.test"))
    events.session(HomeTaken("w", 1))
    events.session(HomeTaken("w", 2, "https://other:4433", "it is silent"))
    events.session(HomeLost("w", 2, 3, "https://other:4433"))
    events.session(HomeGivenUp("w", 3))
    assert [(level, name, facts["fence"]) for level, name, facts in kept.lines] == [
        ("DEBUG", "home taken", 1),
        ("INFO", "home taken", 2),
        ("WARNING", "home lost", 2),
        ("DEBUG", "home given up", 3),
    ]
    assert kept.of("home lost")[0]["by_fence"] == 3


async def test_a_renewed_certificate_is_told_and_so_is_a_drain(start_gateway: Any, kept: Kept) -> None:
    gateway = await start_gateway()
    certificate = gateway.certificates.current
    gateway.certificates.on_change(certificate)
    (renewed,) = kept.of("certificate renewed")
    assert renewed["sha256"] == certificate.sha256
    await gateway.drain(0.5)
    assert kept.of("draining") == [{"sessions": 0, "seconds_at_most": 0.5}]


async def test_a_certificate_that_runs_out_is_renewed_while_the_gateway_runs_and_that_is_told(
    start_process: StartProcess, tmp_path: Path
) -> None:
    child = start_process().wait_ready()
    port, folder = child.port("https"), tmp_path / "certs"

    def served() -> str:
        pem = ssl.get_server_certificate(("127.0.0.1", port))
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()

    first = await asyncio.to_thread(served)
    old = certs.ensure_own(folder, "127.0.0.1", datetime.now(UTC) - timedelta(days=12), renew=True)
    child.process.send_signal(signal.SIGHUP)

    async def is_renewed() -> bool:
        return await asyncio.to_thread(served) not in (first, old.sha256)

    await until(is_renewed, HANG_S)
    now = await asyncio.to_thread(served)
    async with httpx.AsyncClient(base_url=child.base_url) as client:
        assert (await client.get("/certificate.sha256")).text.strip() == now, "browsers pin the new one"
    code, log = await asyncio.to_thread(child.terminate)
    assert code == 0
    (renewed,) = [
        line for line in map(json.loads, log.splitlines()) if line["event"] == "certificate renewed"
    ]
    assert renewed["sha256"] == now
    assert datetime.fromisoformat(renewed["until"]) > datetime.now(UTC) + timedelta(days=12)


async def test_the_access_log_has_a_line_a_request_and_no_query(start_gateway: Any, kept: Kept) -> None:
    gateway = await start_gateway(access_log=True)
    async with client_of(gateway) as client:
        await client.get("/v1/worlds/nobody?secret=1")
        await client.get("/healthz")
    first, second = kept.of("request")
    assert (first["method"], first["path"], first["status"]) == ("GET", "/v1/worlds/nobody", 400)
    assert (second["path"], second["status"]) == ("/healthz", 200)
    assert "secret" not in str(kept.lines)


async def test_sighup_takes_what_may_change_and_ends_no_session(
    start_process: StartProcess, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text('log_level = "info"\nworlds_max = 1\n')
    child = start_process("--config", str(file)).wait_ready()
    url = f"ws://127.0.0.1:{child.port('plain')}/v1/worlds/w/live?role=publish"
    async with websockets.connect(url) as publisher, httpx.AsyncClient(base_url=child.base_url) as client:
        await publisher.recv()
        assert (
            await client.post("/v1/worlds/x/frames", content=body(frame(1, {1: b"x"})))
        ).status_code == 503
        file.write_text('log_level = "info"\nworlds_max = 2\nport = 1\n')
        child.process.send_signal(signal.SIGHUP)

        async def has_room() -> bool:
            answer = await client.post("/v1/worlds/x/frames", content=body(frame(1, {1: b"x"})))
            return answer.status_code == 202

        await until(has_room, HANG_S)
        file.write_text("worlds_max = nonsense\n")
        child.process.send_signal(signal.SIGHUP)
        pong = await publisher.ping()
        await asyncio.wait_for(pong, HANG_S)
    code, log = await asyncio.to_thread(child.terminate)
    assert code == 0
    lines = [json.loads(line) for line in log.splitlines()]
    reloaded = next(line for line in lines if line["event"] == "settings reloaded")
    assert reloaded["changed"] == ["worlds_max"]
    stayed = next(line for line in lines if line["event"] == "settings stay as they were")
    assert stayed["level"] == "error"
    assert "gateway.toml" in stayed["why"]


BROKEN = {
    "no value": b"worlds_max = ",
    "nonsense": b"worlds_max = nonsense",
    "another type": b'worlds_max = "x"',
    "outside": b"worlds_max = -1",
    "endless": b"worlds_max = " + b"9" * 10_000,
    "unknown": b"worlds = 1",
    "twice": b"worlds_max = 1\nworlds_max = 2",
    "a table": b"[worlds_max]\nb = 1",
    "no text": b"\xff\xfe\0",
    "bottomless": b"worlds_max = " + b"[" * 10_000,
}


async def test_no_broken_file_does_more_at_sighup_than_to_be_told(
    start_process: StartProcess, tmp_path: Path
) -> None:
    file, log = tmp_path / "gateway.toml", tmp_path / "log"
    file.write_text("worlds_max = 7\n")
    child = start_process("--config", str(file), log=log).wait_ready()
    for told, text in enumerate(BROKEN.values(), 1):
        file.write_bytes(text)
        child.process.send_signal(signal.SIGHUP)

        async def is_told(times: int = told) -> bool:
            return log.read_text().count("settings stay as they were") == times

        await until(is_told, HANG_S)
    file.unlink()
    file.mkdir()
    child.process.send_signal(signal.SIGHUP)

    async def is_told_too() -> bool:
        return log.read_text().count("settings stay as they were") > len(BROKEN)

    await until(is_told_too, HANG_S)
    async with httpx.AsyncClient(base_url=child.base_url) as client:
        assert (await client.get("/readyz")).status_code == 200
    code, _ = await asyncio.to_thread(child.terminate)
    assert code == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert not any("error" in line for line in lines), "no traceback"
    assert all(
        "gateway.toml" in line["why"] for line in lines if line["event"] == "settings stay as they were"
    )
    assert not any(line["event"] == "settings reloaded" for line in lines)


async def test_a_lame_duck_says_that_it_is_not_ready_while_its_doors_stay_open(
    start_process: StartProcess,
) -> None:
    child = start_process("--lame-duck-ms", "600000").wait_ready()
    async with httpx.AsyncClient(base_url=child.base_url) as client:
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (200, True)
        child.process.send_signal(signal.SIGTERM)

        async def says_no() -> bool:
            return (await client.get("/readyz")).status_code == 503

        await until(says_no)
        assert (await client.get("/readyz")).json()["missing"] == ["the gateway is stopping"]
        assert (await client.get("/healthz")).status_code == 200
        posted = await client.post("/v1/worlds/w/frames", content=body(frame(1, {1: b"x"})))
        assert posted.status_code == 202
    code, _ = await asyncio.to_thread(child.terminate)
    assert code == 0
