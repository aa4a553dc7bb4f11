"""The guard in front of the fast path: a doubt about it means the stock path, said aloud and counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Settings
from gateway.http.metrics import render
from gateway.quic import selftest
from gateway.quic.connection import Connection
from gateway.quic.connection.fast import FastConnection
from gateway.quic.connection.framing import Run
from gateway.runtime.gateway import Gateway
from tests.quic.conftest import Identity
from tests.quic.serving import open_session, serving, until


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    selftest.usable_path.cache_clear()
    yield
    selftest.usable_path.cache_clear()


def _raising(self: FastConnection, *args: Any) -> Any:
    raise AttributeError("aioquic changed")


def _garbling(stock: Any) -> Any:
    def fast_packets(self: FastConnection, now: float) -> list[bytes] | None:
        packets = stock(self, now)
        packets = packets.split() if isinstance(packets, Run) else packets
        return packets and [packet[:-1] + bytes([packet[-1] ^ 1]) for packet in packets]

    return fast_packets


def _swallowing(self: FastConnection, data: bytes, addr: Any, now: float) -> bool:
    return self._space is not None


BREAKAGES = {
    "sending raises": ("fast_packets", lambda stock: _raising),
    "packets are garbled": ("fast_packets", _garbling),
    "receiving raises": ("receive_short", lambda stock: _raising),
    "packets are swallowed": ("receive_short", lambda stock: _swallowing),
}


@pytest.mark.parametrize("what", BREAKAGES)
def test_the_self_test_finds_a_fast_path_that_does_not_work(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, breaking = BREAKAGES[what]
    monkeypatch.setattr(FastConnection, name, breaking(getattr(FastConnection, name)))
    path, why = selftest.usable_path("fast")
    assert path == "stock"
    assert "the self-test of the fast path failed" in why


@pytest.mark.parametrize("what", ["version", *BREAKAGES])
async def test_a_doubt_means_the_stock_path_with_a_warning_and_a_count(
    what: str, identity: Identity, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if what == "version":
        monkeypatch.setattr(selftest, "SUPPORTED_AIOQUIC", frozenset({"0.0"}))
    else:
        name, breaking = BREAKAGES[what]
        monkeypatch.setattr(FastConnection, name, breaking(getattr(FastConnection, name)))
    async with serving(identity, echo=True) as served, await served.connect() as client:
        assert served.endpoint.path == "stock"
        assert served.endpoint.counters["path_fallbacks"] == 1
        assert "QUIC goes the stock way" in caplog.text
        assert type(client.peer.quic) is Connection
        assert {type(peer.quic) for peer in served.endpoint.peers} == {Connection}
        link, session = await open_session(client)
        assert link.send(b"hello", 1)
        await until(lambda: session.messages == [b"hello"])
        assert served.endpoint.packets_sent()["fast"] == 0


@pytest.mark.parametrize(("wanted", "fallbacks"), [("fast", 1), ("stock", 0)])
async def test_a_gateway_tells_of_the_fallback_in_its_metrics(
    wanted: str, fallbacks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "self_test", lambda: "on purpose")
    settings = Settings(
        port=0, plain="", store=str(tmp_path / "s"), certs=str(tmp_path / "c"), quic_path=wanted
    )
    gateway = await Gateway.start(settings)
    try:
        assert gateway.endpoint is not None
        assert gateway.endpoint.path == "stock"
        text = render(gateway.metrics.gather())
        line = 'mvgateway_quic_events_total{what="path_fallbacks"} 1'
        assert text.count(line) == fallbacks
    finally:
        await gateway.drain(1.0)
