"""Records of one stride are read the same in one call and one by one, at the bound between the two and beside it."""

from __future__ import annotations

import struct

import pytest

from gateway.limits import RECORDS_AT_ONCE_MAX
from gateway.wire import records
from gateway.wire.records import read_columns, read_keys


@pytest.mark.parametrize("count", [0, 1, RECORDS_AT_ONCE_MAX, RECORDS_AT_ONCE_MAX + 1])
@pytest.mark.parametrize("stride", [4, 5, 12])
@pytest.mark.parametrize("own_ticks", [False, True])
def test_keys_and_records_are_those_that_were_written(count: int, stride: int, own_ticks: bool) -> None:
    values = [struct.pack("<I", 3 * n + 1).ljust(stride, bytes([n % 251])) for n in range(count)]
    ticks = [100 + n for n in range(count)]
    whole = [struct.pack("<I", t) + v if own_ticks else v for t, v in zip(ticks, values, strict=True)]
    read = read_columns(b"head" + b"".join(whole), 4, stride, own_ticks)
    assert tuple(read.keys) == tuple(3 * n + 1 for n in range(count))
    assert list(read.values) == values
    assert read.ticks == (ticks if own_ticks else None)
    if not own_ticks:
        assert read_keys(b"head" + b"".join(whole), 4, stride) == tuple(read.keys)


def test_layouts_are_made_for_as_many_records_as_are_read_at_once_and_no_more() -> None:
    made = records._all_at_once
    stride = 4_093
    for count, more in ((RECORDS_AT_ONCE_MAX, 1), (RECORDS_AT_ONCE_MAX + 1, 0)):
        before = made.cache_info().misses
        read_keys(bytes(count * stride), 0, stride)
        assert made.cache_info().misses - before == more, count
