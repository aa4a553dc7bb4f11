"""``mvgateway top``: what several gateways tell, in one table; each of them real, and one of them dead or foreign."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.cli._exposition import samples
from gateway.cli._top_look import Look, gateway_row
from gateway.cli._top_table import lines
from gateway.cli._top_worlds import world_rows
from tests.access.conftest import Maker
from tests.patience import HANG_S
from tests.runtime.conftest import GatewayProcess, until
from tests.runtime.faults.driver import StoreProcess
from tests.runtime.test_two_gateways import durable, publish, session

NOBODY = "http://127.0.0.1:9"
"""The port of "discard": nobody listens there."""


async def top(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MVGATEWAY_")}
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "gateway.cli", "top", *arguments],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        env={**ours, **environ},
    )


async def told(*arguments: str, **environ: str) -> dict[str, Any]:
    """Of a run in which both looks were answered: on a machine that stands still the first may not be."""
    while True:
        ended = await top(*arguments, "--once", "--json", **environ)
        assert ended.returncode == 0, ended.stderr
        answer = json.loads(ended.stdout)
        assert isinstance(answer, dict)
        live = [row for row in answer["gateways"] if "error" not in row and "no_metrics" not in row]
        if all(row["cpu_percent"] is not None for row in live):
            return answer


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayProcess, GatewayProcess]]:
    """Over one store; the first is two workers."""
    folder = tmp_path_factory.mktemp("top")
    store = StoreProcess(folder)
    a = GatewayProcess(folder, *store.flags, "--workers", "2", log=folder / "a.log")
    b = GatewayProcess(folder, *store.flags, log=folder / "b.log")
    try:
        yield a.wait_ready(), b.wait_ready()
    finally:
        a.terminate()
        b.terminate()
        store.kill()


@asynccontextmanager
async def published(gateway: GatewayProcess, world: str) -> AsyncIterator[None]:
    """A world with ticks 1 to 5, and one reader."""
    async with AsyncExitStack() as stack:
        publisher, _ = await stack.enter_async_context(session(gateway, world, "role=publish"))
        await publish(publisher, range(1, 6))
        await durable(publisher, 5)
        await stack.enter_async_context(session(gateway, world, ""))
        yield


def ca_of(gateway: GatewayProcess) -> str:
    return str(gateway.folder / "certs" / "ca.pem")


async def test_worlds_and_gateways_are_shown_together_and_one_that_is_away_holds_up_nobody(
    pair: tuple[GatewayProcess, GatewayProcess],
) -> None:
    a, b = pair
    async with published(a, "alpha"), published(b, "beta"):
        shown = await told(a.base_url, NOBODY, b.base_url)
    rows = {row["url"]: row for row in shown["gateways"]}
    assert list(rows) == [a.base_url, NOBODY, b.base_url]
    assert "no gateway answers" in rows[NOBODY]["error"]
    assert [one["worker"] for one in rows[a.base_url]["workers"]] == [0, 1]
    assert "workers" not in rows[b.base_url]
    for url in (a.base_url, b.base_url):
        assert (rows[url]["homes"], rows[url]["readers"], rows[url]["store"]) == (1, 1, "ok")
        assert rows[url]["cpu_percent"] >= 0
        assert rows[url]["resident_bytes"] > 10_000_000
        assert rows[url]["loop_lag_ms"] is not None
    worlds = {row["world"]: row for row in shown["worlds"]}
    for world, gateway in (("alpha", a), ("beta", b)):
        assert worlds[world]["home"] == f"https://127.0.0.1:{gateway.port('https')}"
        assert (worlds[world]["readers"], worlds[world]["tick"]) == (1, 5)
        assert (worlds[world]["tick_rate"], worlds[world]["lag_ms"]) == (0.0, 0)


async def test_the_home_that_a_gateway_tells_of_is_asked_too_unless_that_is_not_wanted(
    pair: tuple[GatewayProcess, GatewayProcess],
) -> None:
    a, b = pair
    home = f"https://127.0.0.1:{b.port('https')}"
    async with (
        published(b, "gamma"),
        session(a, "gamma", ""),  # which has it open there
        httpx.AsyncClient(base_url=a.base_url, timeout=HANG_S) as client,
    ):

        async def tells_of_b() -> bool:
            listed = (await client.get("/v1/worlds")).json()["worlds"]
            return any(one.get("home") == home for one in listed)

        await until(tells_of_b, HANG_S)
        shown = await told(a.base_url, "--ca", ca_of(b))
        alone = await told(a.base_url, "--no-discover")
    assert [row["url"] for row in alone["gateways"]] == [a.base_url]
    assert [row["url"] for row in shown["gateways"]] == [a.base_url, home]
    assert shown["gateways"][1]["found"] is True
    assert shown["gateways"][1]["homes"] >= 1


async def test_a_gateway_that_has_two_urls_is_one_row(pair: tuple[GatewayProcess, GatewayProcess]) -> None:
    a, _ = pair
    async with published(a, "delta"):
        shown = await told(a.base_url)
        by_home = await told(f"https://127.0.0.1:{a.port('https')}", "--ca", ca_of(a))
    home = f"https://127.0.0.1:{a.port('https')}"
    assert home not in [row["url"] for row in shown["gateways"]]
    assert [row["url"] for row in by_home["gateways"]].count(home) == 1
    for told_of in (shown, by_home):
        assert {row["world"]: row["home"] for row in told_of["worlds"]}["delta"] == home


async def test_the_table_is_plain_and_fits_eighty_columns(
    pair: tuple[GatewayProcess, GatewayProcess],
) -> None:
    a, b = pair
    async with published(a, "a-world-with-a-name-that-is-as-long-as-a-name-may-be-at-most-63"):
        ended = await top(a.base_url, b.base_url, NOBODY, "--once")
    assert ended.returncode == 0, ended.stderr
    assert not ended.stderr
    assert "\x1b" not in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) <= 80
    for word in ("GATEWAY", "worker 1", "CPU %", "READERS", "LAG ms", "LOSS %", "no gateway answers"):
        assert word in ended.stdout


async def test_it_goes_on_until_it_is_ended_and_prints_a_look_each_time(
    pair: tuple[GatewayProcess, GatewayProcess],
) -> None:
    command = [sys.executable, "-m", "gateway.cli", "top", pair[0].base_url, "--json", "--interval", "0.1"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(HANG_S):
            for _ in range(3):
                assert json.loads(await process.stdout.readline())["gateways"][0]["store"] == "ok"
    finally:
        process.terminate()
        await process.wait()


async def test_what_was_seen_last_stays_on_the_terminal_after_ctrl_c() -> None:
    """It was shown on a screen of its own, of which nothing was left."""
    assert "127.0.0.1:9" in (await asyncio.to_thread(_looked_at_on_a_terminal)).rpartition(LEFT)[2]


LEFT = "\x1b[?1049l"
"""What a terminal is told when it is to show again what was there before."""


def _looked_at_on_a_terminal() -> str:
    """All that a terminal got of ``top``, ended by SIGINT once a table was shown."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    argv = [sys.executable, "-m", "gateway.cli", "top", NOBODY]
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True) as child:
        os.close(theirs)
        seen, is_ended = "", False
        with contextlib.suppress(OSError):  # EIO: nobody has it open any more
            while data := os.read(ours, 65_536):
                seen += data.decode(errors="replace")
                if "Ctrl-C ends it" in seen and not is_ended:
                    is_ended = True
                    child.send_signal(signal.SIGINT)
    os.close(ours)
    return seen


async def test_where_no_gateway_answers_the_exit_code_says_so() -> None:
    ended = await top(NOBODY, "--once")
    assert ended.returncode == 1
    assert "no gateway answers" in ended.stdout


async def test_what_is_no_gateway_stands_in_its_row_as_that() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\n\x1b[2J[]")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        ended = await top(f"http://127.0.0.1:{port}", "nonsense://x", "--once")
    assert ended.returncode == 1, ended.stderr
    assert "answers what no gateway does" in ended.stdout
    assert "nonsense://x" in ended.stdout
    assert "\x1b" not in ended.stdout


@pytest.mark.parametrize("flags", [("--interval", "0"), ("--interval", "nan"), ("a",) * 65])
async def test_what_is_out_of_bounds_is_refused_with_the_bound(flags: tuple[str, ...]) -> None:
    ended = await top(*flags)
    assert ended.returncode == 2
    assert "0.1 to 3600" in ended.stderr or "64 at most" in ended.stderr


async def test_a_token_shows_what_it_may_see(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "keys")
    gateway = GatewayProcess(tmp_path, "--auth-keys", str(maker.folder), log=tmp_path / "log").wait_ready()
    try:
        tokens = {}
        for name, grant in (("reader", {"sub": ["*"]}), ("admin", {"sub": ["*"], "admin": ["*"]})):
            tokens[name] = tmp_path / name
            tokens[name].write_text(maker.token(grant))
        nobody = await top(gateway.base_url, "--once")
        reader = await told(gateway.base_url, "--token-file", str(tokens["reader"]))
        admin = await told(gateway.base_url, MVGATEWAY_TOKEN=tokens["admin"].read_text())
    finally:
        gateway.terminate()
    assert nobody.returncode == 1
    assert "token" in nobody.stdout
    assert reader["gateways"][0]["no_metrics"]
    assert reader["gateways"][0]["status"] == "ok"
    assert reader["gateways"][0]["cpu_percent"] is None
    assert "no_metrics" not in admin["gateways"][0]
    assert admin["gateways"][0]["cpu_percent"] is not None


# -- numbers, without a gateway -----------------------------------------------------------------


def look(at: float, text: str, worlds: dict[str, dict[str, object]]) -> Look:
    made = Look(at, {"status": "ok", "store": "ok"}, worlds)
    made.add(samples(text))
    return made


BEFORE = """# HELP x y
mvgateway_uptime_seconds 10
mvgateway_process_cpu_seconds_total 1.5
mvgateway_world_events_total{world="w",what="delivered"} 100
mvgateway_world_events_total{world="w",what="lost"} 10
mvgateway_world_waiting_seconds{world="w"} 0.25
mvgateway_world_readers{world="w"} 3
mvgateway_world_home{world="w"} 1
not a line
mvgateway_uptime_seconds many
"""


def test_rates_and_shares_are_of_the_time_between_two_looks() -> None:
    after = (
        BEFORE.replace(" 1.5", " 2.5")
        .replace('delivered"} 100', 'delivered"} 190')
        .replace("} 10\n", "} 20\n")
    )
    first = look(0.0, BEFORE, {"w": {"open": True, "epoch": 1, "tick": 100}})
    second = look(2.0, after, {"w": {"open": True, "epoch": 1, "tick": 220}})
    row = gateway_row(second, first)
    assert (row["cpu_percent"], row["loss_percent"], row["readers"], row["homes"]) == (50.0, 10.0, 3, 1)
    (world,) = world_rows({"u": (second, first)})
    assert (world["tick_rate"], world["lag_ms"], world["loss_percent"]) == (60.0, 250, 10.0)


def test_a_gateway_that_was_started_again_has_no_rates_until_the_next_look() -> None:
    first = look(0.0, BEFORE, {"w": {"open": True, "epoch": 1, "tick": 100}})
    second = look(2.0, BEFORE.replace(" 1.5", " 0.5"), {"w": {"open": True, "epoch": 2, "tick": 5}})
    assert gateway_row(second, first)["cpu_percent"] is None
    assert world_rows({"u": (second, first)})[0]["tick_rate"] is None


def test_of_two_gateways_the_homes_word_counts_and_readers_are_added() -> None:
    home = look(1.0, BEFORE, {"w": {"open": True, "home": "https://h", "epoch": 1, "tick": 9}})
    edge_text = BEFORE.replace('mvgateway_world_home{world="w"} 1', "").replace("} 3", "} 40")
    edge = look(1.0, edge_text, {"w": {"open": True, "home": "https://h", "epoch": 1, "tick": 90}})
    (world,) = world_rows({"edge": (edge, None), "home": (home, None)})
    assert (world["tick"], world["readers"], world["tick_rate"]) == (9, 43, None)


def test_labels_are_read_as_they_were_escaped() -> None:
    (sample,) = samples('m{a="x\\"y\\\\z\\n",b="}"} 1e3 1700000000')
    assert (sample.name, dict(sample.labels), sample.value) == ("m", {"a": 'x"y\\z\n', "b": "}"}, 1000.0)


def test_a_screen_that_is_too_small_says_how_many_worlds_are_not_shown() -> None:
    worlds = {f"w{n}": {"open": True, "readers": n} for n in range(20)}
    now = Look(0.0, {}, worlds, no_metrics="no")
    screen = {
        "gateways": [{"url": "https://a", **gateway_row(now, None)}],
        "worlds": world_rows({"a": (now, None)}),
    }
    shown = lines(screen, 80, 10)
    assert len(shown) <= 10
    assert shown[-1].endswith("more")
    assert shown[5].startswith("w19 ")
