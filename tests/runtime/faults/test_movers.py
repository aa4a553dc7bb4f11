"""Publishers that move between gateways all the time lose nothing that they were told is durable. Short here; ``make
faults`` has 200 worlds over four gateways, twenty of whose publishers move each second, for ten minutes (``MVGATEWAY_MOVERS_S``).
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.runtime.faults.movers import gateways_over_one_store, move_about

LONG = os.environ.get("MVGATEWAY_FAULTS") == "long"
GATEWAYS, WORLDS, MOVES_A_SECOND = (4, 200, 20) if LONG else (2, 8, 6)
SECONDS = int(os.environ.get("MVGATEWAY_MOVERS_S") or (600 if LONG else 4))
HZ = 5.0 if LONG else 20.0


@pytest.mark.timeout(3_600)
async def test_no_frame_that_was_told_durable_is_lost_while_publishers_move(tmp_path: Path) -> None:
    seed = int(os.environ.get("MVGATEWAY_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"seed {seed} (MVGATEWAY_SEED={seed} has the same publishers move)")
    with gateways_over_one_store(tmp_path, GATEWAYS) as gateways:
        told = await move_about(
            gateways,
            random.Random(seed),
            worlds=WORLDS,
            hz=HZ,
            moves_a_second=MOVES_A_SECOND,
            seconds=SECONDS,
        )
    print(f"{told.moves} moves, {told.runs} sessions, {told.durable} frames told durable; {told.refusals}")
    print(
        "rest found after "
        + ", ".join(f"{told.at(share):.2f} s ({share:.0%})" for share in (0.5, 0.9, 0.99, 1.0))
    )
    assert told.runs > WORLDS
    assert told.durable > 0
    assert not told.lost, "\n".join(told.lost)
    assert not told.restless, told.restless
