"""A real Chromium reads every packet of both QUIC paths: frames of one and of several datagrams, both ways."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx

from gateway.client import Publisher, Subscriber
from gateway.config import Settings
from gateway.runtime.gateway import Gateway
from tests.e2e.browser import Browser, Page
from tests.patience import HANG_S

TICK_S, LAST = 1 / 60, 180
LITTLE, LARGE = (5, 60), (14, 450)
"""Records and bytes a record: a frame of one datagram, and one of six or seven."""

SCRIPT = """
window.datagrams = { came: 0, went: 0 };
window.WebTransport = class extends WebTransport {
  get datagrams() {
    const real = super.datagrams;
    return this.counted ??= {
      maxDatagramSize: real.maxDatagramSize,
      readable: real.readable.pipeThrough(new TransformStream({
        transform(bytes, out) { datagrams.came++; out.enqueue(bytes); } })),
      writable: { getWriter() {
        const writer = real.writable.getWriter();
        return { write(bytes) { datagrams.went++; return writer.write(bytes); } }; } },
    };
  }
};
window.record = (key, n, size) => {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; i++) bytes[i] = (key * 7 + n * 13 + i) & 255;
  new DataView(bytes.buffer).setUint32(0, n);
  return bytes;
};
window.isRight = (key, bytes) => {
  const n = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
  const meant = record(key, n, bytes.length);
  return meant.every((byte, i) => byte === bytes[i]);
};
"""


def _record(key: int, n: int, size: int) -> bytes:
    data = bytearray((key * 7 + n * 13 + i) & 255 for i in range(size))
    data[:4] = n.to_bytes(4, "big")
    return bytes(data)


def _frame(n: int) -> dict[int, bytes]:
    count, size = LARGE if n % 3 == 0 else LITTLE
    first = 1 if size == LITTLE[1] else 101
    return {key: _record(key, n, size) for key in range(first, first + count)}


async def _metric(gateway: Gateway, name: str) -> dict[str, float]:
    async with httpx.AsyncClient(verify=False) as client:
        text = (await client.get(f"https://127.0.0.1:{gateway.port}/metrics")).text
    found = re.findall(rf'^{name}{{\w+="(\w+)"}} ([\d.e+]+)$', text, re.MULTILINE)
    return {label: float(value) for label, value in found}


async def _assert_path(gateway: Gateway) -> None:
    """By the gateway's own metrics: our own connections built most of what was sent."""
    sent = await _metric(gateway, "mvgateway_quic_packets_sent_total")
    assert sent["fast"] > 100
    assert sent["fast"] > 10 * sent["stock"]
    assert (await _metric(gateway, "mvgateway_quic_events_total")).get("faults", 0) == 0


async def _open_page(browser: Browser, pages: str) -> Page:
    page = await browser.open(f"{pages}/example.html")
    await page.until("window.subscriber")
    await page.evaluate("subscriber.close()")
    await page.evaluate(SCRIPT)
    return page


def _options(gateway: Gateway) -> str:
    return json.dumps({"certificateHash": gateway.certificates.current.sha256, "transport": "webtransport"})


async def _follow(page: Page, gateway: Gateway, publisher: Publisher) -> dict[str, Any]:
    """The page follows what is published for three seconds; what it saw."""
    await page.evaluate(
        f"""(async () => {{
          const {{ Subscriber }} = await import("./mvgateway.js");
          window.sub = new Subscriber("https://127.0.0.1:{gateway.port}", "down", {_options(gateway)});
          window.seen = {{ records: 0, wrong: 0, frames: new Set() }};
          sub.onframe = frame => {{
            seen.frames.add(frame.tick);
            for (const [key, bytes] of frame.records) {{
              seen.records++;
              if (!isRight(key, bytes)) seen.wrong++;
            }}
          }};
          await sub.open();
        }})()"""
    )
    for n in range(1, LAST):
        publisher.send(_frame(n))
        await asyncio.sleep(TICK_S)
        if (
            n % 3 != 1
        ):  # a page that is slow gets less: two of three it must have got, among them all that are large
            await page.until(f"sub.state.tick === {publisher.tick}")
    await page.until(f"sub.state.tick === {publisher.tick}")
    state = await page.evaluate(
        "Object.fromEntries([...sub.state.keys()].map(k => [k, [...sub.state.get(k)]]))"
    )
    assert {int(key): bytes(data) for key, data in state.items()} == publisher.records()
    seen: dict[str, Any] = await page.evaluate(
        "({records: seen.records, wrong: seen.wrong, frames: seen.frames.size, came: datagrams.came,"
        " kind: sub.link.kind, malformed: sub.malformed ?? 0})"
    )
    return seen


async def _open_publisher(page: Page, gateway: Gateway) -> None:
    await page.evaluate(
        f"""(async () => {{
          const {{ Publisher }} = await import("./mvgateway.js");
          window.pub = new Publisher("https://127.0.0.1:{gateway.port}", "up", {_options(gateway)});
          await pub.open();
          pub.send(new Map([[1, record(1, 0, 60)]]));
        }})()"""
    )


async def _publish(page: Page, reader: Subscriber) -> int:
    """The page publishes for some seconds; how many frames came here, each record right. The last
    rows are said again until they are here: a publisher's lost datagram costs its records one update."""
    await page.evaluate(
        f"""(async () => {{
          const rows = n => {{
            const [count, size] = n % 3 ? {list(LITTLE)} : {list(LARGE)};
            const first = n % 3 ? 1 : 101;
            return [...Array(count).keys()].map(i => [first + i, record(first + i, n, size)]);
          }};
          window.publishing = true;
          (async () => {{
            for (let n = 1; n <= {LAST}; n++) {{
              pub.send(new Map(rows(n)));
              await new Promise(done => setTimeout(done, {1000 * TICK_S}));
              if (n % 3 === 0) await pub.waitDurable(); // a gateway that is late hands on the newest alone
            }}
            while (publishing) {{
              pub.send(new Map([{LAST - 1}, {LAST}].flatMap(rows)));
              await new Promise(done => setTimeout(done, 50));
            }}
          }})();
        }})()"""
    )
    frames = 0
    wanted = {**_frame(LAST - 1), **_frame(LAST)}
    async with asyncio.timeout(HANG_S):
        async for _ in reader:
            frames += 1
            records = reader.records()
            for key, data in records.items():
                assert data == _record(key, int.from_bytes(data[:4], "big"), len(data))
            if records == wanted:
                break
    await page.evaluate("window.publishing = false")
    return frames


async def test_a_browser_follows_and_publishes_by_datagrams(pages: str, tmp_path: Path) -> None:
    settings = Settings(port=0, plain="", store=str(tmp_path / "store"), certs=str(tmp_path / "certs"))
    gateway = await Gateway.start(settings)
    try:
        url, ca = f"https://127.0.0.1:{gateway.port}", tmp_path / "certs" / "ca.pem"
        async with Browser(tmp_path / "profile") as browser:
            page = await _open_page(browser, pages)
            async with Publisher(url, "down", ca=ca, transport="websocket") as publisher:
                publisher.send(_frame(0))
                seen = await _follow(page, gateway, publisher)
            assert (seen["kind"], seen["wrong"], seen["malformed"]) == ("webtransport", 0, 0)
            assert seen["records"] > 1_000
            assert seen["frames"] > 0.5 * LAST
            assert seen["came"] > seen["frames"], "frames of several datagrams are among them"
            await page.evaluate("sub.close()")
            await _open_publisher(page, gateway)
            async with Subscriber(url, "up", ca=ca, transport="websocket") as reader:
                frames = await _publish(page, reader)
            assert frames > 0.3 * LAST
            went = await page.evaluate("datagrams.went")
            assert went > 1.5 * LAST, "large frames go out in several datagrams"
            await _assert_path(gateway)
    finally:
        await gateway.drain(2.0)
