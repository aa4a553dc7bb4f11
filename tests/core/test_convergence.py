"""The bound on convergence as it is promised: once messages get through, one round trip and one tick
later, and for a reader on a budget as long as its records take at its rate besides."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import limits
from gateway.wire.frames import HEADER_BYTES
from tests.core.sim import Path, Sim, SimReader
from tests.core.test_simulation import TICK_S, entity, play

RECORDS = 40
STRIDE = 60
RECORD_BYTES = STRIDE + 4 + HEADER_BYTES
"""A record with its tick, in a message of its own: the most that one takes."""

losing = st.builds(
    Path,
    loss=st.floats(0.0, 0.2),
    delay_s=st.floats(0.001, 0.1),
    jitter_s=st.sampled_from([0.0, 0.01, 0.08]),
    duplicates=st.floats(0.0, 0.2),
    window_bytes=st.sampled_from([3_000, 30_000, 300_000]),
    bytes_max=st.sampled_from([1_100, 1_200, 1_452]),
)
readers = st.lists(
    st.tuples(losing, st.sampled_from([None, 32, 64, 256, 4_000]), st.booleans(), st.booleans()),
    min_size=30,
    max_size=30,
)


def known_s(path: Path) -> float:
    """When the fate of what is on its way is known: a lost message's half a round trip later than an acknowledgement."""
    return 3 * path.delay_s + path.jitter_s


def round_trip_s(path: Path) -> float:
    return 2 * path.delay_s + path.jitter_s


def rate(path: Path, budget_kbps: int | None) -> float:
    """Bytes a second that the reader can get at most: by its budget, and by its window a round trip."""
    by_window = path.window_bytes / (round_trip_s(path) + limits.READER_FLUSH_S)
    return min(by_window, path.bytes_per_s, float("inf") if budget_kbps is None else budget_kbps * 125)


def bound_s(path: Path, budget_kbps: int | None) -> float:
    """From the moment that messages get through: what was lost before is known, then records × size / rate,
    one tick and one round trip."""
    return (
        known_s(path)
        + RECORDS * RECORD_BYTES / rate(path, budget_kbps)
        + (TICK_S + limits.READER_FLUSH_S)
        + round_trip_s(path)
    )


def heal(reader: SimReader) -> None:
    reader.link.path = replace(reader.link.path, loss=0.0, duplicates=0.0)


def is_right(sim: Sim, reader: SimReader) -> bool:
    return reader.state.snapshot() == sim.truth.snapshot()


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), downlinks=readers)
def test_every_reader_is_right_within_the_promised_time_after_losses_end(seed, downlinks) -> None:  # type: ignore[no-untyped-def]
    sim = Sim(seed, Path(delay_s=0.001))
    joined = [
        (sim.join(path, lossy=lossy, budget_kbps=budget, zstd=zstd), path, budget)
        for path, budget, lossy, zstd in downlinks
    ]
    sim.publish({key: entity(key, 0) for key in range(RECORDS)}, keyframe=True, stride=STRIDE)
    play(sim, 60, RECORDS)
    for reader, _, _ in joined:
        heal(reader)
    sim.publish({key: entity(key, 99) for key in range(RECORDS)}, stride=STRIDE)
    began = sim.clock.now + 0.002
    late = []
    for reader, path, budget in sorted(joined, key=lambda one: bound_s(one[1], one[2])):
        until = began + bound_s(path, budget)
        sim.clock.run_until(max(sim.clock.now, until))
        if not is_right(sim, reader):
            late.append((path, budget, reader.link.lossy))
    assert late == []


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), path=losing, key=st.integers(0, RECORDS - 1))
def test_a_record_that_then_rests_is_right_a_round_trip_and_a_tick_after_its_loss_is_known(
    seed: int, path: Path, key: int
) -> None:
    """Its loss is the last: the repair gets through."""
    sim = Sim(seed, Path(delay_s=0.001))
    reader = sim.join(replace(path, loss=0.0, window_bytes=300_000))
    sim.publish({k: entity(k, 0) for k in range(RECORDS)}, keyframe=True, stride=STRIDE)
    sim.run(1.0)
    reader.link.up = False
    sim.publish({key: b"rests"})
    sim.run(0.002)
    reader.link.up = True
    sim.run(known_s(path) + round_trip_s(path) + TICK_S + limits.READER_FLUSH_S)
    assert reader.state.snapshot()[key] == b"rests"
