"""What ``durable`` announced survives anything: crashes of the gateway and of the store, a store that
hangs, a full disk. Short here; ``make faults`` runs it long (MVGATEWAY_FAULTS=long).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from gateway import client, limits
from gateway.store.embedded import EmbeddedStore
from gateway.wire import encode_frame
from tests.patience import HANG_S
from tests.runtime.conftest import GatewayProcess, StartProcess, until
from tests.runtime.faults.driver import (
    WORLD,
    Publisher,
    Reader,
    Recovered,
    StoreProcess,
    check_integrity,
    frame_at,
    state_at,
)

LONG = os.environ.get("MVGATEWAY_FAULTS") == "long"
CRASHES = 100 if LONG else 3
STUCK_S = 10.0 if LONG else 1.5
HZ = 240.0


@pytest.fixture
def dice() -> random.Random:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreProcess]:
    child = StoreProcess(tmp_path / "remote")
    yield child
    child.kill()


async def crash_while_publishing(child: GatewayProcess, delay_s: float) -> Publisher:
    """Publish, and kill the gateway ``delay_s`` after the first announcement."""
    publisher = Publisher(child.port("plain"))
    publishing = asyncio.ensure_future(publisher.run(1 << 20, HZ))
    await until(lambda: publisher.durable_tick > 0)
    await asyncio.sleep(delay_s)
    await asyncio.to_thread(child.kill)
    await publishing
    return publisher


async def crash_again_and_again(start_process: StartProcess, dice: random.Random, *flags: str) -> None:
    child = start_process(*flags).wait_ready()
    for _ in range(CRASHES):
        publisher = await crash_while_publishing(child, dice.uniform(0, 0.4))
        child = (await asyncio.to_thread(start_process, *flags)).wait_ready()
        (await Recovered.ask(child.base_url, publisher.epoch)).judge(publisher)
    code, _ = await asyncio.to_thread(child.terminate)
    assert code == 0


async def test_the_gateway_killed_at_random_moments_on_the_embedded_engine(
    start_process: StartProcess, dice: random.Random, tmp_path: Path
) -> None:
    await crash_again_and_again(start_process, dice)
    engine = EmbeddedStore.open(tmp_path / "store")
    await asyncio.to_thread(check_integrity, engine.blocking())
    await engine.aclose()


async def test_the_gateway_killed_at_random_moments_on_a_store_of_its_own(
    start_process: StartProcess, dice: random.Random, store: StoreProcess
) -> None:
    await crash_again_and_again(start_process, dice, *store.flags)
    store.kill()
    engine = EmbeddedStore.open(store.folder)
    await asyncio.to_thread(check_integrity, engine.blocking())
    await engine.aclose()


async def caught_up(publisher: Publisher) -> None:
    await until(lambda: publisher.durable_tick == publisher.sent_tick > 0, HANG_S)


async def test_the_store_killed_and_restarted_costs_nothing_but_time(
    start_process: StartProcess, store: StoreProcess
) -> None:
    child = start_process(*store.flags).wait_ready()
    publisher, reader = Publisher(child.port("plain")), Reader(child.port("plain"))
    ticks = int(HZ * 2)
    publishing = asyncio.ensure_future(publisher.run(ticks, HZ))
    await until(lambda: publisher.durable_tick > 0)
    reading = asyncio.ensure_future(reader.run())
    for _ in range(10 if LONG else 2):
        await asyncio.to_thread(store.restart)
    await until(lambda: publisher.sent_tick == ticks)
    await caught_up(publisher)
    await until(lambda: reader.state.snapshot() == state_at(ticks))
    (await Recovered.ask(child.base_url, publisher.epoch)).judge(publisher)
    publishing.cancel()
    reading.cancel()
    await asyncio.gather(publishing, reading, return_exceptions=True)


async def test_fan_out_goes_on_while_the_store_hangs_and_the_journal_catches_up(
    start_process: StartProcess, store: StoreProcess
) -> None:
    child = start_process(*store.flags).wait_ready()
    publisher, reader = Publisher(child.port("plain")), Reader(child.port("plain"))
    ticks = int(HZ * (STUCK_S + 1))
    publishing = asyncio.ensure_future(publisher.run(ticks, HZ))
    await until(lambda: publisher.durable_tick > 0)
    reading = asyncio.ensure_future(reader.run())
    await until(lambda: reader.state.tick > 0)
    store.process.send_signal(signal.SIGSTOP)
    try:
        before = reader.state.tick
        await until(lambda: reader.state.tick > before + HZ * STUCK_S / 2, HANG_S)
        stuck = publisher.durable_tick
        assert stuck < reader.state.tick - HZ * STUCK_S / 4, "nothing is announced that is not down"
    finally:
        store.process.send_signal(signal.SIGCONT)
    await until(lambda: publisher.sent_tick == ticks, HANG_S)
    await caught_up(publisher)
    (await Recovered.ask(child.base_url, publisher.epoch)).judge(publisher)
    publishing.cancel()
    reading.cancel()
    await asyncio.gather(publishing, reading, return_exceptions=True)


async def test_a_gateway_told_to_stop_while_the_store_hangs_stops_in_time_and_says_so(
    start_process: StartProcess, store: StoreProcess
) -> None:
    child = start_process(*store.flags).wait_ready()
    publisher = Publisher(child.port("plain"))
    publishing = asyncio.ensure_future(publisher.run(1 << 20, HZ))
    await until(lambda: publisher.durable_tick > 0)
    store.process.send_signal(signal.SIGSTOP)
    try:
        sent = publisher.sent_tick
        await until(lambda: publisher.sent_tick > sent + 20)
        code, said = await asyncio.to_thread(child.terminate)
    finally:
        store.process.send_signal(signal.SIGCONT)
    await publishing
    assert code == 1
    assert "before the store had taken everything" in said
    again = (await asyncio.to_thread(start_process, *store.flags)).wait_ready()
    (await Recovered.ask(again.base_url, publisher.epoch)).judge(publisher)


async def test_memory_stays_bounded_while_the_store_is_away_and_the_hole_is_told(
    start_process: StartProcess, store: StoreProcess
) -> None:
    child = start_process(*store.flags).wait_ready()
    repeat = 2_000
    frame_bytes = len(encode_frame(frame_at(1_000, repeat)))
    ticks = 2 * limits.JOURNAL_BYTES_MAX // frame_bytes
    publisher = Publisher(child.port("plain"), repeat)
    publishing = asyncio.ensure_future(publisher.run(ticks, 10_000.0))
    await until(lambda: publisher.durable_tick > 0)
    store.process.send_signal(signal.SIGSTOP)
    try:
        before = psutil.Process(child.process.pid).memory_info().rss
        await until(lambda: publisher.sent_tick == ticks, HANG_S)
        grown = psutil.Process(child.process.pid).memory_info().rss - before
    finally:
        store.process.send_signal(signal.SIGCONT)
    assert grown < 3 * limits.JOURNAL_BYTES_MAX, "a bounded journal, and what one commit of it takes"
    await caught_up(publisher)
    back = await Recovered.ask(child.base_url, publisher.epoch)
    back.judge(publisher)
    assert (back.tick, len(back.gaps) > 0) == (ticks, True)
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(mount)], capture_output=True
    )
    if made.returncode:
        pytest.skip("mounting needs root")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


async def test_a_full_disk_stops_nothing_but_the_durable_mark(
    start_process: StartProcess, small_disk: Path
) -> None:
    flags = ("--store", str(small_disk / "store"))
    child = start_process(*flags).wait_ready()
    publisher, reader = Publisher(child.port("plain")), Reader(child.port("plain"))
    ticks = int(HZ * 4)
    publishing = asyncio.ensure_future(publisher.run(ticks, HZ))
    await until(lambda: publisher.durable_tick > 0)
    reading = asyncio.ensure_future(reader.run())
    ballast = small_disk / "ballast"
    await asyncio.to_thread(fill, ballast)
    await until(lambda: reader.state.tick > publisher.durable_tick + HZ, HANG_S)
    ballast.unlink()
    await until(lambda: publisher.sent_tick == ticks, HANG_S)
    await caught_up(publisher)
    await until(lambda: reader.state.snapshot() == state_at(ticks))
    (await Recovered.ask(child.base_url, publisher.epoch)).judge(publisher)
    publishing.cancel()
    reading.cancel()
    await asyncio.gather(publishing, reading, return_exceptions=True)
    assert (await asyncio.to_thread(child.terminate))[0] == 0
    engine = EmbeddedStore.open(small_disk / "store")
    await asyncio.to_thread(check_integrity, engine.blocking())
    await engine.aclose()


def fill(path: Path) -> None:
    """Take every byte that is left."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                pass


def test_the_driver_knows_what_it_sent() -> None:
    assert state_at(1) == {record.key: record.data for record in frame_at(1).records}
    assert len(state_at(100)) == 12


async def test_what_was_lost_with_the_gateway_is_told_as_a_gap_by_the_one_that_goes_on(
    start_process: StartProcess, tmp_path: Path
) -> None:
    """The kit's publisher gets its epoch back, and what was sent and not yet durable is named."""
    child = start_process().wait_ready()
    port, ca = child.port("https"), str(tmp_path / "certs" / "ca.pem")
    async with (
        client.Publisher(f"https://127.0.0.1:{port}", WORLD, ca=ca) as publisher,
        asyncio.timeout(HANG_S),
    ):

        async def publish_until_durable(tick: int) -> None:
            while publisher.durable_order() < (1, tick):
                publisher.send({1: b"%d" % (publisher.tick + 1)})
                await asyncio.sleep(0.01)

        await publish_until_durable(30)
        await asyncio.to_thread(child.kill)
        for _ in range(30):
            publisher.send({1: b"%d" % (publisher.tick + 1)})
        child = (await asyncio.to_thread(start_process, "--port", str(port))).wait_ready()
        await publish_until_durable(publisher.tick + 60)
        epoch, durable = publisher.durable_order()
    found = await Recovered.ask(child.base_url, epoch)
    assert epoch == 1
    missing = set(range(1, durable + 1)) - found.ticks
    assert missing
    assert missing == {tick for tick in found.gaps if tick <= durable}
    await asyncio.to_thread(child.terminate)
