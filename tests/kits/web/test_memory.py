"""A page that follows a world for long keeps no more than it did at first. The long form, five minutes, is ``make kit-memory``."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from gateway.client import Publisher
from tests.e2e.browser import Browser
from tests.e2e.conftest import GatewayForPages
from tests.e2e.conftest import pages as pages
from tests.e2e.conftest import served as served
from tests.kits.web.test_kit import page_at
from tests.patience import FOREIGN_TEST_S

IS_LONG = os.environ.get("MVGATEWAY_KIT_MEMORY") == "long"
SPAN_S, WARM_S = (300.0, 30.0) if IS_LONG else (8.0, 3.0)
GROWTH_BYTES_MAX = 1 << 20
"""Of the script's heap after a collection. Each second brings 60 frames of 3 KiB, so a tenth of them kept would be 90 KiB a
second in the long form; what compiled code and the browser's own tables take is less than this."""


async def publish(publisher: Publisher, seconds: float) -> None:
    """Thirty records of a hundred bytes, of which some come and go, at 60 Hz."""
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        number += 1
        gone = {1000 + number - 60: None} if number > 60 else {}
        publisher.send({**dict.fromkeys(range(30), bytes([number % 256]) * 100), 1000 + number: b"x", **gone})
        await asyncio.sleep(1 / 60)


@pytest.mark.timeout(SPAN_S + FOREIGN_TEST_S)
async def test_a_page_that_follows_for_long_holds_no_more_than_at_first(
    served: GatewayForPages, pages: str, tmp_path: Path
) -> None:
    async with (
        Publisher(served.url, "arena", ca=served.ca) as publisher,
        page_at(pages, tmp_path, Browser) as page,
    ):
        publisher.send({1: b"x"})
        await page.evaluate(
            f"""(async () => {{
              window.sub = new kit.Subscriber("{served.url}", "arena", {served.pinned});
              sub.on("frame", () => {{}});
              await sub.open();
            }})()"""
        )
        await publish(publisher, WARM_S)
        before = await page.heap_bytes()
        first = await page.evaluate("sub.counts.messages")
        await publish(publisher, SPAN_S)
        while await page.evaluate("sub.counts.messages") < first + 10 * SPAN_S:
            await publish(publisher, 1.0)  # a machine that stood still owes the page some
        grown = await page.heap_bytes() - before
        print(f"{grown:+,d} bytes in {SPAN_S:g} s over {before:,d}")
        assert grown < GROWTH_BYTES_MAX
