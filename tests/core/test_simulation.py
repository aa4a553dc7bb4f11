"""Whatever is lost, late, doubled or slow: every reader ends up with what the publisher said."""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.limits import OUTSTANDING_MAX
from tests.core.sim import Path, Sim
from tests.held import longest

TICK_S = 1 / 30

paths = st.builds(
    Path,
    loss=st.sampled_from([0.0, 0.02, 0.1, 0.2]),
    delay_s=st.sampled_from([0.001, 0.025, 0.1]),
    jitter_s=st.sampled_from([0.0, 0.01, 0.08]),
    duplicates=st.sampled_from([0.0, 0.1]),
    window_bytes=st.sampled_from([3_000, 30_000, 300_000]),
    bytes_max=st.sampled_from([1_100, 1_200, 1_452]),
)


def entity(key: int, tick: int) -> bytes:
    return struct.pack("<II", key, tick).ljust(60, b".")


def play(sim: Sim, ticks: int, records: int, *, removals: bool = True) -> None:
    """Random changes: some records move each tick, some come, some go, now and then a keyframe."""
    rng = sim.rng
    for _ in range(ticks):
        moving = {key: entity(key, sim.tick) for key in rng.sample(range(records), max(1, records // 3))}
        sim.publish(moving, stride=60)  # type: ignore[arg-type]
        if removals and rng.random() < 0.1:
            sim.publish({rng.randrange(records): None})
        if rng.random() < 0.02:
            live = {key: data for key, data in sim.truth.snapshot().items() if rng.random() < 0.9}
            sim.publish(live, keyframe=True, stride=60)  # type: ignore[arg-type]
        sim.run(TICK_S)


def settle_s(path: Path, records: int, budget_kbps: int | None) -> float:
    """The bound after the last change: all records at the reader's rate, a tick, and the round trips
    that a dozen losses in a row cost."""
    round_trip = 3 * path.delay_s + path.jitter_s + 2 * TICK_S
    attempts = 1 if path.loss == 0 else 12
    window_s = records * 120 / path.window_bytes * round_trip
    budget_s = 0.0 if budget_kbps is None else 1.0 + records * 120 / (budget_kbps * 125)
    return TICK_S + attempts * (round_trip + window_s) + budget_s


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32),
    uplink=paths,
    downlinks=st.lists(
        st.tuples(paths, st.sampled_from([None, None, 64, 256]), st.booleans(), st.booleans()),
        min_size=30,
        max_size=30,
    ),
)
def test_thirty_readers_on_any_network_converge_within_the_bound(seed, uplink, downlinks) -> None:  # type: ignore[no-untyped-def]
    sim = Sim(seed, uplink)
    records = 40
    for path, budget_kbps, lossy, zstd in downlinks:
        sim.join(path, lossy=lossy, budget_kbps=budget_kbps, zstd=zstd)
    play(sim, 60, records)
    slowest = max(settle_s(path, records, budget) for path, budget, _, _ in downlinks)
    sim.run(settle_s(uplink, records, None) + slowest)
    assert sim.wrong() == {}


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), path=paths)
def test_readers_follow_a_restarted_publisher_over_a_bad_network(seed: int, path: Path) -> None:
    sim = Sim(seed, path)
    for at in range(8):
        sim.join(path, lossy=at % 4 != 0)
    play(sim, 20, 20)
    sim.run(1.0)
    sim.restart_publisher()
    sim.publish({key: entity(key, 0) for key in range(10)}, keyframe=True, stride=60)
    play(sim, 20, 20)
    sim.run(2 * settle_s(path, 20, None) + 2.0)
    assert sim.wrong() == {}


def test_a_record_that_changes_rarely_is_right_one_round_trip_and_a_tick_after_its_loss() -> None:
    sim = Sim(1)
    reader = sim.join(Path(delay_s=0.03))
    play(sim, 5, 10, removals=False)
    sim.run(1.0)
    reader.link.up = False
    sim.publish({3: b"rare"})
    sim.run(0.022)
    reader.link.up = True
    sim.run(0.03 * 3 + 0.02 + 0.03 + 0.04)
    assert reader.state.snapshot()[3] == b"rare"
    assert sim.world.counters.repaired == 1


def test_a_tenth_of_the_rate_gets_every_record_and_starves_none() -> None:
    sim = Sim(2)
    records, size = 200, 60
    full_rate = records * size / TICK_S
    kbps = int(full_rate / 10 / 125)
    sim.publish({key: entity(key, 0) for key in range(records)}, keyframe=True, stride=60)
    sim.run(0.5)
    reader = sim.join(Path(), budget_kbps=kbps)
    bound = records * (size + 4 + 5) / (kbps * 125) + TICK_S
    oldest = 0.0
    for tick in range(300):
        sim.publish({key: entity(key, sim.tick + 1) for key in range(records)}, stride=60)
        sim.run(TICK_S)
        if tick > 90:
            ages = [
                sim.tick - struct.unpack_from("<I", data, 4)[0] for data in reader.state.snapshot().values()
            ]
            assert len(ages) == records
            oldest = max(oldest, max(ages) * TICK_S)
    assert oldest <= bound + 0.02 + 2 * TICK_S
    assert reader.link.sent_bytes <= kbps * 125 * (300 * TICK_S + 2.0)
    assert sim.world.counters.resyncs == 1


def test_a_reader_that_took_nothing_for_two_seconds_gets_a_keyframe() -> None:
    sim = Sim(3)
    play(sim, 10, 30)
    reader = sim.join(Path(window_bytes=5_000))
    play(sim, 10, 30)
    wide = reader.link.path
    reader.link.path = replace(wide, window_bytes=0)
    play(sim, 90, 30)
    assert not reader.session.reader.stale
    assert reader.link.controls[-1]["reason"] == "joined"
    reader.link.path = wide
    reader.session.on_writable(sim.clock.now)
    sim.run(1.0)
    assert reader.link.controls[-1]["reason"] == "lagging"
    assert sim.wrong() == {}


def test_a_slow_reader_slows_nobody_and_holds_one_value_a_record_at_most() -> None:
    sim = Sim(4)
    slow = [sim.join(Path(window_bytes=1), lossy=lossy) for lossy in (True, False)]
    fast = sim.join(Path())
    play(sim, 60, 50)
    sim.run(0.5)
    assert fast.state.snapshot() == sim.truth.snapshot()
    assert sim.world.counters.withheld > 0
    for reader in slow:
        assert len(reader.session.reader.stale) <= 50
        assert reader.link.sent_bytes < 10_000


@pytest.mark.parametrize("lossy", [True, False])
def test_a_day_of_a_world_leaves_nothing_behind(lossy: bool) -> None:
    """The short form: the same structures after 3 minutes as after 30 seconds, with everything that
    happens in a day: losses, removals, new keys, readers that come and go, publishers that restart."""
    sim = Sim(5, Path(loss=0.05, jitter_s=0.02))
    sizes = []
    for minute in range(6):
        passing = [sim.join(Path(loss=0.1, jitter_s=0.03), lossy=lossy, budget_kbps=b) for b in (None, 128)]
        for _ in range(20):
            base = (minute * 7919) % 100_000
            sim.publish({base + key: entity(base + key, sim.tick) for key in range(20)}, stride=60)
            sim.publish({base + key: None for key in range(20)})
            play(sim, 10, 20)
        for reader in passing:
            reader.session.on_closed(sim.clock.now)
            sim.readers.remove(reader)
        sim.run(3.0)
        sim.restart_publisher()
        sim.publish({}, keyframe=True)
        sim.run(3.0)
        sizes.append(_sizes(sim))
    assert sizes[-1]["records"] == 0
    assert sizes[-1]["readers"] == sizes[-1]["journal_bytes"] == 0
    assert sizes[-1]["tombstones"] <= max(size["tombstones"] for size in sizes[:3]) + 60
    assert sizes[-1]["keyframes"] <= 2


def _sizes(sim: Sim) -> dict[str, int]:
    world = sim.world
    return {
        "records": len(world.state),
        "tombstones": len(world.state.tombstones),
        "keyframes": world.state.keyframes_pending,
        "readers": len(world.subscribers),
        "journal_bytes": world.journal.size_bytes,
    }


def test_the_window_of_a_reader_whose_acks_never_come_is_bounded() -> None:
    sim = Sim(6)
    reader = sim.join(Path(window_bytes=1 << 30))
    reader.link.acknowledges = False
    play(sim, OUTSTANDING_MAX // 10, 5)
    for _ in range(OUTSTANDING_MAX + 10):
        sim.publish({1: b"x"})
    sim.run(0.1)
    beside = (sim, sim.world, sim.world.state, reader, reader.link)
    assert 100 < longest(reader.session.reader, *beside, kind=deque) <= OUTSTANDING_MAX
