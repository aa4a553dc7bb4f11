"""Every metric that is told stands in the docs, and every one in the docs is told."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from gateway.client import Publisher
from gateway.runtime.gateway import Gateway
from tests.runtime.conftest import StartGateway, body, client_of, frame, until

DOCS = Path(__file__).parents[2] / "docs" / "METRICS.md"


OF_MORE_THAN_ONE = {"mvgateway_worker_process", "mvgateway_edges"}
"""Told with ``--workers`` alone (``test_workers.py`` reads it there), and with ``--peers`` or ``--upstream``."""


async def test_the_metrics_and_their_page_agree(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(udp="127.0.0.1:0")
    async with client_of(gateway) as client:
        await client.post("/v1/worlds/w/frames?durable=1", content=body(frame(1, {1: b"x"})))
        told = names_in((await client.get("/metrics")).text)
    rows = re.findall(r"^\| (`[^|]+)\|", DOCS.read_text(), re.MULTILINE)
    described = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert told - described == set()
    assert described - told == OF_MORE_THAN_ONE


def names_in(text: str) -> set[str]:
    return set(re.findall(r"^# TYPE (\w+) (?:counter|gauge|histogram)$", text, re.MULTILINE))


async def test_a_metric_reads_as_prometheus_expects(client: httpx.AsyncClient) -> None:
    await client.post("/v1/worlds/w/frames?durable=1", content=body(frame(7, {1: b"x"})))
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    assert 'mvgateway_world_tick{world="w"} 7' in lines
    assert 'mvgateway_world_durable_tick{world="w"} 7' in lines
    assert 'mvgateway_world_events_total{world="w",what="received"} 1' in lines
    assert all(re.fullmatch(r"\w+(\{.*\})? -?[\d.e+-]+|# (HELP|TYPE) .+", line) for line in lines)


async def test_bytes_are_counted_both_ways_and_what_goes_up_and_down_is_no_counter(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    url, ca = f"https://127.0.0.1:{gateway.port}", str(gateway.certificates.ca_path)
    async with Publisher(url, "w", ca=ca, transport="webtransport") as publisher:
        publisher.send({1: bytes(700)})
        await until(lambda: gateway.worlds.hosts["w"].world.counters.received > 0)
    text = (await client.get("/metrics")).text
    carried = dict(re.findall(r'mvgateway_bytes_total{door="quic",direction="(\w+)"} (\d+)', text))
    assert int(carried["in"]) > 700 + 1_200
    assert int(carried["out"]) > 1_200
    plain = dict(re.findall(r'mvgateway_bytes_total{door="plain",direction="(\w+)"} (\d+)', text))
    assert int(plain["in"]) >= len("GET /metrics HTTP/1.1\r\n\r\n")
    again = (await client.get("/metrics")).text
    plain_again = dict(re.findall(r'mvgateway_bytes_total{door="plain",direction="(\w+)"} (\d+)', again))
    assert int(plain_again["out"]) - int(plain["out"]) >= len(text)
    assert 'mvgateway_store_total{what="jobs"}' in text
    assert 'mvgateway_store_total{what="waiting"}' not in text
