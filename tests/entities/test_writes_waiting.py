"""Writes that wait for a commit that takes long: so many, and so many bytes of them, and all end once it has."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import apsw
import pytest

from gateway.core.entities import EntityPlace
from gateway.errors import Overloaded
from gateway.limits import ENTITY_WRITES_WAITING_BYTES_MAX, ENTITY_WRITES_WAITING_MAX
from gateway.runtime.gateway import Gateway
from tests.patience import HANG_S

BY_NUMBER = [0] * ENTITY_WRITES_WAITING_MAX
BY_SIZE = [ENTITY_WRITES_WAITING_BYTES_MAX - 1, 1]


def nothing(connection: apsw.Connection, now_us: int) -> str:
    return "written"


@pytest.mark.parametrize(("sizes", "more"), [(BY_NUMBER, 0), (BY_SIZE, 1)])
async def test_so_many_writes_wait_and_one_more_or_a_byte_more_is_refused(
    gateway: Gateway, sizes: Sequence[int], more: int
) -> None:
    """ENTITY_WRITES_WAITING_MAX of them, or ENTITY_WRITES_WAITING_BYTES_MAX together, behind one that is being committed."""
    database = await gateway.entities.registry.get(EntityPlace("inventory", "ann"))
    begun, goes_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def long(connection: apsw.Connection, now_us: int) -> str:
        loop.call_soon_threadsafe(begun.set)
        assert goes_on.wait(HANG_S)
        return "written"

    writes = [asyncio.ensure_future(database.write(long))]
    try:
        await asyncio.wait_for(begun.wait(), HANG_S)
        writes += [asyncio.ensure_future(database.write(nothing, size)) for size in sizes]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as refused:
            await database.write(nothing, more)
        for bound in (ENTITY_WRITES_WAITING_MAX, ENTITY_WRITES_WAITING_BYTES_MAX):
            assert str(bound) in str(refused.value)
        assert f"{len(sizes)} writes of {sum(sizes)} bytes wait" in str(refused.value)
    finally:
        goes_on.set()
    assert await asyncio.wait_for(asyncio.gather(*writes), HANG_S) == ["written"] * (len(sizes) + 1)
    assert await database.write(nothing, more) == "written"
