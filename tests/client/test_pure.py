"""The client's rules without a network: addresses, counts, the outbox, packets, motion."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import limits
from gateway.cli._motion import Avatars
from gateway.client.address import Address, world_path
from gateway.client.counts import Latencies, Ticks, percentile
from gateway.client.outbox import Outbox, Value
from gateway.client.problems import error_for, error_of
from gateway.errors import BadInput, BadName, ConfigError, PublisherPresent, StoreUnavailable, Unprocessable
from gateway.wire.xrgrid import EntityPacket


def test_an_address_is_a_scheme_a_host_and_a_port() -> None:
    with pytest.raises(ConfigError, match=r"an IPv6 address stands in brackets: \[::1\]:5000"):
        Address.parse("https://::1:5000")
    assert Address.parse("https://[::1]:5000").base_url == "https://[::1]:5000"
    assert Address.parse("example.org") == Address("https", "example.org", 4433)
    assert Address.parse("http://127.0.0.1:7080").websocket_url == "ws://127.0.0.1:7080"


@pytest.mark.parametrize("url", ["ftp://x", "https://", "https://x/path", "https://x:99999", "https://x?q=1"])
def test_a_url_that_is_no_gateways_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        Address.parse(url)


def test_a_world_path_leaves_out_what_was_not_given() -> None:
    assert world_path("w", "live", role="publish", epoch=None, takeover=True) == (
        "/v1/worlds/w/live?role=publish&takeover=1"
    )
    with pytest.raises(BadName):
        world_path("no/name")


@given(st.lists(st.integers(1, 300), min_size=1, max_size=200))
def test_lost_ticks_are_those_between_the_first_and_the_newest_that_never_came(ticks: list[int]) -> None:
    counting = Ticks()
    for tick in ticks:
        counting.see(1, tick)
    came = {tick for tick in ticks if tick >= ticks[0]}
    assert counting.seen == len(came)
    assert counting.lost == max(came) - ticks[0] + 1 - len(came)


def test_a_resync_begins_to_count_anew_and_a_new_epoch_too() -> None:
    counting = Ticks()
    for epoch, tick in ((1, 5), (1, 8)):
        counting.see(epoch, tick)
    counting.restart()
    counting.see(1, 100)
    counting.see(2, 1)
    counting.see(1, 101)
    assert (counting.seen, counting.lost) == (4, 2)


def test_percentiles_are_by_nearest_rank() -> None:
    latencies = Latencies()
    assert latencies.summary() == {"p50": None, "p99": None}
    for value in range(1, 101):
        latencies.add(value)
    assert latencies.summary() == {"p50": 50, "p99": 99}
    assert percentile([7.0], 99) == 7.0


def test_a_lost_datagram_makes_only_those_records_stale_that_nothing_newer_replaced() -> None:
    outbox = Outbox()
    outbox.put({1: b"a", 2: b"b"}, tick=1)
    token = outbox.token_for([1, 2])
    outbox.put({2: b"newer"}, tick=2)
    outbox.on_lost(token)
    assert outbox.take_stale(10) == {1: Value(1, b"a")}
    assert outbox.stale == 0


def test_a_removal_that_arrived_is_forgotten_and_one_that_was_lost_is_repaired() -> None:
    outbox = Outbox()
    outbox.put({1: b"a"}, tick=1)
    outbox.put({1: None}, tick=2)
    outbox.on_lost(outbox.token_for([1]))
    assert outbox.take_stale(10) == {1: Value(2, None)}
    outbox.on_acked(outbox.token_for([1]))
    assert outbox.live() == {}
    assert outbox.take_stale(10) == {}


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_after_any_fates_every_newest_value_arrived_or_is_stale_or_in_flight(seed: int, ticks: int) -> None:
    draw = random.Random(seed)
    outbox, arrived, flying = Outbox(), {}, {}
    for tick in range(1, ticks + 1):
        records = {draw.randrange(6): bytes([tick, draw.randrange(256)]) for _ in range(3)}
        outbox.put(records, tick)
        for keys in (list(records), list(outbox.take_stale(2))):
            token = outbox.token_for(keys)
            flying[token] = {key: outbox.live_values()[key] for key in keys}
        for token in draw.sample(sorted(flying), k=draw.randrange(len(flying) + 1)):
            sent = flying.pop(token)
            if draw.random() < 0.5:
                arrived.update(
                    {k: v for k, v in sent.items() if k not in arrived or arrived[k].tick <= v.tick}
                )
                outbox.on_acked(token)
            else:
                outbox.on_lost(token)
    for token, sent in flying.items():
        arrived.update({k: v for k, v in sent.items() if k not in arrived or arrived[k].tick <= v.tick})
        outbox.on_acked(token)
    arrived.update(outbox.take_stale(100))
    assert {key: value.data for key, value in arrived.items()} == outbox.live()


def test_the_fates_that_an_outbox_awaits_are_bounded() -> None:
    outbox = Outbox()
    outbox.put({1: b"x"}, tick=1)
    for _ in range(limits.CLIENT_TOKENS_MAX + 10):
        outbox.token_for([1])
    assert outbox.in_flight == limits.CLIENT_TOKENS_MAX
    assert outbox.stale == 1


def test_a_problem_document_becomes_the_error_it_tells_of() -> None:
    body = PublisherPresent("somebody is there").problem()
    import json

    error = error_of(409, json.dumps(body).encode())
    assert isinstance(error, PublisherPresent)
    assert error.message == "somebody is there"
    assert isinstance(error_of(502, b"<html>"), StoreUnavailable)
    assert isinstance(error_of(400, b""), BadInput)
    assert error_for("never heard of", "x").code == "internal"


def test_an_entity_packet_has_a_hundred_bytes_and_reads_back() -> None:
    packet = EntityPacket(
        7, (1, -2, 1 << 40), (1, -1, 0), 256 * 9 + 3, 5, 6, (-7, 8, 9), b"x".ljust(42, b"\0")
    )
    assert len(packet.encode()) == 100
    assert packet.encode()[:4] == (7).to_bytes(4, "little")
    assert EntityPacket.decode(packet.encode()) == packet
    assert packet.as_json()["frame"] == 9
    with pytest.raises(Unprocessable):
        EntityPacket.decode(b"short")


def test_avatars_walk_smoothly_and_the_same_seed_walks_the_same_way() -> None:
    avatars = Avatars(3, bones=2, hz=60)
    assert avatars.frame(5) == Avatars(3, bones=2, hz=60).frame(5)
    assert sorted(avatars.frame(1)) == [1, 2, 3, 4, 5, 6]
    here, there = (EntityPacket.decode(avatars.frame(tick)[1]) for tick in (200, 201))
    moved = sum((a - b) ** 2 for a, b in zip(here.position_um, there.position_um, strict=True)) ** 0.5
    assert 0 < moved < 200_000
