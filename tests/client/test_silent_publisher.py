"""A publisher that falls silent after a frame that was lost."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.client import Publisher, Subscriber
from tests.client.conftest import Served
from tests.kits.abilities import proves


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
            async with asyncio.timeout(10):
                async for _ in reader:
                    if reader.records() == {1: b"last"}:
                        break
            assert dropped
            assert publisher.counts.lost_datagrams >= 1
            assert publisher.counts.repaired_records >= 1
