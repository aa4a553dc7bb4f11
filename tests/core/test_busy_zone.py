"""V-Sekai's busy zone: 1,800 records of 100 bytes, 900 of them moving at 20 Hz, readers of 256 kbit/s.

How stale, how much work, how much memory. Work is counted in calls of the house's own functions, which a
busy machine doesn't change.
"""

from __future__ import annotations

import struct
import sys
import tracemalloc

import pytest

from gateway import limits
from gateway.core.ports import LiveOptions
from gateway.core.world import World, WorldSettings
from gateway.wire import Frame, Record, decode_frame, split
from tests.core.links import RecordingLink
from tests.core.sim import Path, Sim, SimReader

HZ = 20
TICK_S = 1 / HZ
MOVING, STILL, STRIDE = 900, 900, 100
KBPS = 256
MEMORY_BYTES_MAX = 64 * 1024
CALLS_MAX = 120
"""Calls of our own functions per reader and tick, its share of taking the frame in included."""


def record(key: int, tick: int) -> bytes:
    return struct.pack("<II", key, tick).ljust(STRIDE, b".")


def moved(tick: int) -> dict[int, bytes | None]:
    return {key: record(key, tick) for key in range(MOVING)}


def zone(seed: int) -> Sim:
    sim = Sim(seed, Path(bytes_per_s=100e6, window_bytes=10_000_000))
    sim.publish({key: record(key, 0) for key in range(MOVING + STILL)}, keyframe=True, stride=STRIDE)
    sim.run(0.2)
    return sim


def oldest_s(sim: Sim, reader: SimReader, seconds: float, settle_s: float) -> float:
    """The greatest age of any moving record in what the reader shows, looked at each tick."""
    oldest = 0
    for tick in range(int((seconds + settle_s) * HZ)):
        sim.publish(moved(sim.tick + 1), stride=STRIDE)
        sim.run(TICK_S)
        if tick > settle_s * HZ:
            shown = reader.state.records
            oldest = max(oldest, max(sim.tick - shown[key][0][1] for key in range(MOVING)))
    return oldest * TICK_S


@pytest.mark.parametrize("lossy", [True, False], ids=["datagrams", "tcp"])
@pytest.mark.parametrize("held_by", ["budget", "link"])
def test_no_record_is_staler_than_all_records_take_and_a_tick(held_by: str, lossy: bool) -> None:
    sim = zone(1)
    rate = KBPS * 125
    narrow = Path(delay_s=0.05, bytes_per_s=rate, window_bytes=6_000)
    reader = (
        sim.join(Path(delay_s=0.05), lossy=lossy, budget_kbps=KBPS)
        if held_by == "budget"
        else sim.join(narrow, lossy=lossy)
    )
    bound = MOVING * (STRIDE + 8) / rate + TICK_S
    on_its_way = 0.05 + (0 if held_by == "budget" else narrow.window_bytes / rate)
    # the keyframe on joining takes 6 s of such a link, and a round later nothing shown is as old as that
    assert (
        oldest_s(sim, reader, 3.2, settle_s=6.5 if held_by == "budget" else 9.5)
        <= bound + on_its_way + TICK_S
    )
    assert len(reader.state.records) == MOVING + STILL


def test_a_record_that_is_lost_twice_does_not_wait_for_another_round() -> None:
    """Each loss costs its detection, not another 3 s: what was lost goes first."""
    sim = zone(2)
    reader = sim.join(Path(delay_s=0.05), budget_kbps=KBPS)
    assert oldest_s(sim, reader, 0.0, settle_s=6.5) == 0.0
    send, dropped = reader.link.send, list[float]()

    def send_or_drop(message: bytes, token: int) -> bool:
        reader.link.up = len(dropped) >= 2 or 450 not in decode_frame(message).keys
        if not reader.link.up:
            dropped.append(sim.clock.now)
        return send(message, token)

    reader.link.send = send_or_drop  # type: ignore[method-assign]
    detected_s = 3 * 0.05 + 2 * TICK_S
    bound = MOVING * (STRIDE + 8) / (KBPS * 125) + TICK_S
    assert oldest_s(sim, reader, 5.0, settle_s=0.0) <= bound + 0.05 + TICK_S + 2 * detected_s
    assert len(dropped) == 2
    assert dropped[1] - dropped[0] <= detected_s


def busy_world(readers: int, lossy: bool) -> tuple[World, list[RecordingLink], list[list[bytes]]]:
    world = World("zone", WorldSettings(), mono=100.0, now_us=0)
    links = [RecordingLink(lossy=lossy, bytes_max=1_182 if lossy else 65_535) for _ in range(readers)]
    for link in links:
        world.attach_subscriber(link, LiveOptions(budget_kbps=KBPS), 100.0)
    frames = []
    for tick in range(1, 2 * HZ + 1):
        first, count = (0, MOVING + STILL) if tick == 1 else (0, MOVING)
        rows = [Record(key, record(key, tick)) for key in range(first, first + count)]
        frames.append(split(Frame(1, tick, rows, stride=STRIDE), 1_100))
    return world, links, frames


def play(world: World, frames: list[list[bytes]]) -> None:
    mono = 100.0
    for messages in frames:
        for message in messages:
            world.ingest(decode_frame(message), message, 1, mono)
        for _ in range(10):
            mono += TICK_S / 10
            if world.next_poll is not None and mono >= world.next_poll:
                world.poll(mono, 0)


def calls_of_core(world: World, frames: list[list[bytes]]) -> int:
    """How often a function of ``gateway/core`` or ``gateway/wire`` is entered meanwhile."""
    count = 0

    def note(frame: object, event: str, arg: object) -> None:
        nonlocal count
        if event == "call" and "/gateway/" in frame.f_code.co_filename:  # type: ignore[attr-defined]
            count += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        play(world, frames)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("lossy", [True, False], ids=["datagrams", "tcp"])
def test_a_turn_costs_by_what_is_sent_and_not_by_what_waits(lossy: bool) -> None:
    world, links, frames = busy_world(100, lossy)
    calls = calls_of_core(world, frames)
    for link in links:
        sent = sum(len(message) for _, message in link.sent)
        assert sent >= 0.9 * KBPS * 125 * len(frames) * TICK_S - 200_000
        assert len(link.sent) <= 2 * len(frames)
    alone, _, frames_again = busy_world(1, lossy)
    of_taking_in = calls_of_core(alone, frames_again)
    each = (calls - of_taking_in) / (99 * len(frames))
    print(f"{each:.1f} calls a reader and tick")
    assert each <= CALLS_MAX


@pytest.mark.parametrize("late_s", [0.15, 0.5])
def test_turns_that_come_late_slow_everybody_by_the_same_factor(late_s: float) -> None:
    """An overloaded core: readers are looked at that seldom, on whatever transport they are."""
    world = World("zone", WorldSettings(), mono=100.0, now_us=0)
    links = [RecordingLink(lossy=n % 2 == 0, bytes_max=1_182 if n % 2 == 0 else 65_535) for n in range(20)]
    for link in links:
        world.attach_subscriber(link, LiveOptions(budget_kbps=KBPS), 100.0)
    seconds, mono = 10.0, 100.0
    for tick in range(1, int(seconds * HZ) + 1):
        rows = [Record(key, record(key, tick)) for key in range(MOVING)]
        for message in split(Frame(1, tick, rows, stride=STRIDE), 1_100):
            world.ingest(decode_frame(message), message, 1, 100.0 + tick * TICK_S)
        if 100.0 + tick * TICK_S >= mono + late_s:
            mono = 100.0 + tick * TICK_S
            world.poll(mono, 0)
        committed(world)
    got = [sum(len(message) for _, message in link.sent) for link in links]
    assert min(got) >= 0.75 * max(got)
    assert min(got) >= 0.75 * KBPS * 125 * seconds * min(1.0, limits.BUDGET_BURST_S / late_s)


def committed(world: World) -> None:
    batch = world.take_batch(200.0)
    assert batch is not None
    world.committed(batch, 200.0)


def test_a_reader_with_every_record_stale_takes_less_than_64_kb() -> None:
    world, _, frames = busy_world(0, True)
    play(world, frames[:3])
    committed(world)
    links = [RecordingLink() for _ in range(50)]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for link in links:
            world.attach_subscriber(link, LiveOptions(), 101.0)
        sessions = list(world.subscribers)
        world.poll(101.0, 0)
        for link, session in zip(links, sessions, strict=True):
            assert link.streams, "it has its keyframe, and now nothing goes any more"
            link.done.update(link.streams)
            link.streams.clear()
            link.room = 0
            session.on_acked(0)
        for tick in range(1, 31):
            rows = [Record(key, record(key, 100 + tick)) for key in range(MOVING + STILL)]
            for message in split(Frame(1, 100 + tick, rows, stride=STRIDE), 1_100):
                world.ingest(decode_frame(message), message, 1, 101.0 + tick * TICK_S)
            world.poll(101.0 + tick * TICK_S, 0)
            committed(world)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all(len(session.reader.stale) == MOVING + STILL for session in sessions)
    each = (after - before) / len(links)
    print(f"{each / 1024:.1f} KiB a reader, its link for tests included")
    assert each < MEMORY_BYTES_MAX
