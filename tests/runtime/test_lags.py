"""The durable lag is counted frame by frame, under the bound that each frame kept within."""

from __future__ import annotations

import math

from gateway.runtime.lags import BOUNDS_MS, MORE, Lags, quantile_ms
from gateway.wire.journal import JournalFrame


def row(received_at_us: int, *, keyframe: bool = False) -> JournalFrame:
    return JournalFrame(0, 1, 1, received_at_us, 0, keyframe, (b"",))


def test_each_frame_counts_under_the_smallest_bound_that_it_kept_within() -> None:
    lags = Lags()
    lags.note([row(0), row(6_000), row(9_500)], 10_000)
    counts = {bound: count for bound, count in lags.as_dict().items() if count}
    assert counts == {"10": 1, "5": 1, "1": 1}


def test_keyframes_that_the_gateway_makes_do_not_count() -> None:
    lags = Lags()
    lags.note([row(0, keyframe=True)], 10_000)
    assert sum(lags.as_dict().values()) == 0


def test_a_clock_set_back_and_an_hour_of_waiting_have_a_place_too() -> None:
    lags = Lags()
    lags.note([row(3_600_000_000), row(-3_600_000_000)], 0)
    assert lags.as_dict()[str(BOUNDS_MS[0])] == 1
    assert lags.as_dict()[MORE] == 1


def test_a_quantile_is_the_bound_within_which_that_share_stayed() -> None:
    counts = {"5": 98.0, "25": 1.0, MORE: 1.0}
    assert quantile_ms(counts, 0.5) == 5
    assert quantile_ms(counts, 0.99) == 25
    assert quantile_ms(counts, 1.0) == math.inf
    assert quantile_ms({}, 0.5) is None
