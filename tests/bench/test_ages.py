"""Ages are weighed by time, as a viewer sees them."""

from __future__ import annotations

import numpy as np
import pytest

from bench.ages import AgeHistogram, merged
from bench.payload import STRIDE, ReaderAges, messages, parse, records_for


def one(sent_us: int, from_us: int, to_us: int) -> AgeHistogram:
    histogram = AgeHistogram()
    histogram.add(np.array([sent_us]), np.array([from_us]), to_us)
    return histogram


def test_a_value_shown_from_10_to_30_ms_old_is_20_ms_old_at_the_median() -> None:
    assert one(0, 10_000, 30_000).quantile_ms(0.5) == pytest.approx(20.0, abs=0.5)


def test_an_empty_histogram_has_no_quantile() -> None:
    assert AgeHistogram().quantile_ms(0.99) is None


def test_a_stall_is_a_value_shown_for_longer_than_its_bound() -> None:
    histogram = one(0, 5_000, 140_000)
    assert (histogram.stalls_100, histogram.stalls_250) == (1, 0)
    assert histogram.share_above(100.0) == pytest.approx(40 / 135, abs=0.01)


def test_histograms_survive_another_process_and_add_up() -> None:
    total = merged([one(0, 0, 10_000).dump(), one(0, 10_000, 20_000).dump()])
    assert total.quantile_ms(0.5) == pytest.approx(10.0, abs=0.5)


def test_a_reader_is_as_old_as_the_newest_value_of_each_record() -> None:
    reader = ReaderAges(records_for(1024))
    for number, now_us in enumerate([1_000_000, 1_020_000, 1_040_000]):
        for message in messages(number, records_for(1024), now_us):
            reader.take(message, now_us + 5_000)
    reader.finish(1_065_000)
    assert reader.histogram.quantile_ms(0.999) == pytest.approx(25.0, abs=0.6)
    assert reader.histogram.quantile_ms(0.01) == pytest.approx(5.2, abs=0.6)


def test_an_older_value_that_comes_late_does_not_make_a_reader_older() -> None:
    reader = ReaderAges(1)
    (new,) = messages(2, 1, 2_000_000)
    (old,) = messages(1, 1, 1_000_000)
    assert reader.take(new, 2_000_001) == 1
    assert reader.take(old, 2_000_002) == 0


def test_a_frame_of_4500_bytes_travels_as_messages_that_fit_datagrams() -> None:
    made = messages(1, records_for(4_500), 1)
    assert len(made) == 5
    assert all(len(m) <= 1100 for m in made)
    assert sum(len(rows) for m in made if (rows := parse(m)) is not None) == records_for(4_500)
    assert STRIDE == 100
