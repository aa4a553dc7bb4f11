"""The harness itself: an innocent reader of a gateway that nobody attacks gets its frames."""

from __future__ import annotations

import asyncio

from tests.abuse.conftest import Innocent, Target, attack_on, given_back


async def test_without_an_attack_the_reader_gets_its_frames_and_nothing_grows(
    target: Target, innocent: Innocent
) -> None:
    async with attack_on(target, innocent) as nothing:
        await asyncio.sleep(2.0)
    nothing.check(growth_mib=32)
    assert nothing.frames_per_s is not None
    assert nothing.frames_per_s > 20
    await given_back(target, nothing)
    assert await target.metric("mvgateway_quic_connections") == 2
    assert target.descriptors() > 0
