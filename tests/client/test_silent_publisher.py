"""A publisher that falls silent after a frame that was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway import limits
from gateway.client import Publisher, Subscriber
from tests.client.conftest import Served
from tests.kits.abilities import proves
from tests.patience import HANG_S


@proves("python", "repair")
async def test_the_last_frame_of_a_publisher_arrives_though_its_packets_were_lost(served: Served) -> None:
    async with Publisher(served.url, "w", transport="webtransport", ca=served.ca) as publisher:
        publisher.send({1: b"first"})
        async with Subscriber(served.url, "w", transport="websocket", ca=served.ca) as reader:
            link: Any = publisher.link
            udp = link.peer.hub.udp
            dropped: list[bytes] = []

            def lose(packets: list[bytes], address: Any) -> None:
                dropped.extend(packets)
                del udp.send_packets

            udp.send_packets = lose
            publisher.send({1: b"last"})
            async with asyncio.timeout(HANG_S):
                async for _ in reader:
                    if reader.records() == {1: b"last"}:
                        break
            assert dropped
            assert publisher.counts.lost_datagrams >= 1
            assert publisher.counts.repaired_records >= 1


@pytest.mark.parametrize("transport", ["webtransport", "websocket"])
@pytest.mark.parametrize("keyframe", [False, True], ids=["frames", "keyframes"])
async def test_the_last_of_many_large_frames_arrives_though_the_ones_before_were_under_way(
    served: Served, until: Callable[..., Any], transport: Any, keyframe: bool
) -> None:
    """More at once than may be under way: what had to wait goes by itself."""
    async with (
        Publisher(served.url, "w", transport=transport, ca=served.ca) as publisher,
        Subscriber(served.url, "w", transport="websocket", ca=served.ca) as reader,
    ):
        for number in range(4 * limits.CLIENT_PUBLISH_STREAMS_MAX):
            publisher.send(dict.fromkeys(range(2000), b"%100d" % number), keyframe=keyframe)
        await until(lambda: reader.records() == publisher.records())
        world = served.gateway.worlds.hosts["w"].world
        assert dict(world.state.snapshot()) == publisher.records()
        held = publisher.facts()["held_frames"]
        assert held == (12 if transport == "webtransport" else 0), (
            "of sixteen but four at once; TCP takes what it has room for"
        )
