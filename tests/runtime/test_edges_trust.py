"""Whom a gateway follows, who lets it in, and what it does where it may not: several gateways of one process."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gateway.client.address import Address
from gateway.config import load
from gateway.core.ports import CloseCode, LiveOptions, Session
from gateway.errors import ConfigError, StoreUnavailable, WorldHeld
from gateway.limits import EDGE_PEERS_MAX
from gateway.runtime.edges.edge import PeerEdge
from gateway.runtime.gateway import Gateway
from gateway.runtime.local import LocalLink
from gateway.wire import Frame, Record, encode_frame
from tests.access.conftest import Maker
from tests.core.links import RecordingLink
from tests.patience import HANG_S
from tests.runtime.conftest import StartGateway, until
from tests.runtime.faults.driver import StoreProcess

T = TypeVar("T")
StartOne = Callable[..., Awaitable[Gateway]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreProcess]:
    process = StoreProcess(tmp_path_factory.mktemp("remote"))
    yield process
    process.kill()


@pytest.fixture
def start(start_gateway: StartGateway, store: StoreProcess) -> StartOne:
    async def one(**changes: Any) -> Gateway:
        url, admin = store.flags[1], store.flags[3]
        return await start_gateway(store=url, store_admin=admin, **{"peers": ("store",), **changes})

    return one


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "keys")


@pytest.fixture
def world(request: pytest.FixtureRequest) -> str:
    return "w-" + hashlib.sha256(request.node.name.encode()).hexdigest()[:16]


def message(tick: int, epoch: int) -> bytes:
    return encode_frame(Frame(epoch, tick, [Record(tick % 5, b"%d" % tick)]))


async def publisher_at(gateway: Gateway, world: str, **more: Any) -> Session:
    options = LiveOptions(role="publish", **more)
    return await once_in_time(lambda: gateway.worlds.open_session(world, options, LocalLink("local")))


async def reader_at(gateway: Gateway, world: str) -> RecordingLink:
    link = RecordingLink()
    await once_in_time(lambda: gateway.worlds.open_session(world, LiveOptions(), link))
    return link


async def once_in_time(open_one: Callable[[], Awaitable[T]]) -> T:
    """A session; once more where the machine stood still for so long that the home was not followed in time. Raises
    ``WorldHeld`` where it is refused three times."""
    for tries in (1, 2, 3):
        try:
            return await open_one()
        except (WorldHeld, StoreUnavailable):
            if tries == 3:
                raise
    raise AssertionError("unreachable")


def edge_of(gateway: Gateway, world: str) -> PeerEdge:
    edge = gateway.worlds.hosts[world].edge
    assert isinstance(edge, PeerEdge)
    return edge


async def arrives(publisher: Session, gateway: Gateway, world: str, epoch: int = 1) -> None:
    """What is published comes to that gateway, as it is published."""
    state, tick = gateway.worlds.hosts[world].world.state, 0

    def has_come() -> bool:
        nonlocal tick
        tick += 1
        publisher.on_message(message(tick, epoch), 0.0)
        return state.order > epoch << 32 | 5

    await until(has_come, HANG_S)


def url(gateway: Gateway) -> str:
    return f"https://127.0.0.1:{gateway.port}"


async def test_a_gateway_is_let_in_by_its_token_and_by_nothing_else(
    start: StartOne, maker: Maker, tmp_path: Path, world: str
) -> None:
    token = tmp_path / "peer.token"
    token.write_text(maker.token({"sub": ["*"]}))
    token.chmod(0o600)
    keys = {"auth_keys": str(maker.folder)}
    a, b = await start(**keys), await start(**keys, peer_token_file=str(token))
    stranger = await start(**keys)
    publisher = await publisher_at(a, world)
    reader = await reader_at(b, world)
    assert reader.controls[0]["hops"] == 1
    await arrives(publisher, b, world)
    with pytest.raises(WorldHeld) as refused:
        await reader_at(stranger, world)
    assert refused.value.facts["url"] == url(a)
    publisher.on_closed(0.0)


async def test_a_token_that_ends_is_followed_by_a_fresh_one_on_the_same_session(
    start: StartOne, maker: Maker, tmp_path: Path, world: str
) -> None:
    token = tmp_path / "peer.token"
    token.write_text(maker.token({"sub": ["*"]}, for_s=8, sub="edge"))
    token.chmod(0o600)
    keys = {"auth_keys": str(maker.folder)}
    a, b = await start(**keys), await start(**keys, peer_token_file=str(token))
    publisher = await publisher_at(a, world)
    await reader_at(b, world)
    feed = edge_of(b, world)._feed
    assert feed is not None
    token.write_text(maker.token({"sub": ["*"]}, for_s=3_600, sub="edge"))
    await until(lambda: feed.token_expires is not None, HANG_S)
    await arrives(publisher, b, world)
    assert edge_of(b, world)._feed is feed
    publisher.on_closed(0.0)


async def test_a_publisher_moves_only_where_the_token_may_publish(
    start: StartOne, maker: Maker, tmp_path: Path, world: str
) -> None:
    keys = {"auth_keys": str(maker.folder)}
    found = []
    for name, mv in (("reads", {"sub": ["*"]}), ("both", {"sub": ["*"], "pub": ["*"]})):
        token = tmp_path / name
        token.write_text(maker.token(mv))
        token.chmod(0o600)
        found.append(await start(**keys, peer_token_file=str(token)))
    reads, both = found
    a = await start(**keys)
    publisher = await publisher_at(a, world)
    publisher.on_message(message(1, 1), 0.0)
    publisher.on_closed(0.0)  # it lingers: the home stays
    with pytest.raises(WorldHeld):
        await publisher_at(reads, world, epoch=1)
    again = await publisher_at(both, world, epoch=1)
    assert again.epoch == 1  # type: ignore[attr-defined]
    again.on_closed(0.0)


async def test_only_the_gateways_that_were_named_are_followed(start: StartOne, world: str) -> None:
    a = await start()
    b = await start(peers=("https://elsewhere.example:4433",))
    c = await start(peers=(url(a), "https://elsewhere.example:4433"))
    publisher = await publisher_at(a, world)
    with pytest.raises(WorldHeld) as refused:
        await reader_at(b, world)
    assert refused.value.facts["url"] == url(a)
    await reader_at(c, world)
    await arrives(publisher, c, world)
    publisher.on_closed(0.0)


async def test_readers_of_a_quiet_world_are_sent_to_a_home_that_is_not_to_be_followed(
    start: StartOne, world: str
) -> None:
    a, b = await start(), await start(peers=("https://elsewhere.example:4433",))
    await a.worlds.create(world, {})
    reader = await reader_at(b, world)
    publisher = await publisher_at(a, world)

    def was_sent() -> bool:
        publisher.on_message(message(len(reader.controls) + 1, 1), 0.0)
        return "moved" in reader.control_types()

    await until(was_sent, HANG_S)
    moved = next(control for control in reader.controls if control.type == "moved")
    assert moved["url"] == f"{url(a)}/v1/worlds/{world}/live"
    assert reader.closed == CloseCode.HELD_ELSEWHERE
    publisher.on_closed(0.0)


async def test_a_region_follows_its_upstream_and_says_how_far_the_home_is(
    start: StartOne, world: str
) -> None:
    a, b = await start(), await start()
    c = await start(peers=(), upstream=url(b))
    d = await start(peers=(), upstream=url(c))
    publisher = await publisher_at(a, world)
    publisher.on_message(message(1, 1), 0.0)
    for hops, gateway in ((3, d), (2, c), (1, b)):
        reader = await reader_at(gateway, world)
        assert reader.controls[0]["hops"] == hops
        told = await gateway.worlds.info(world)
        assert (told.hops, told.facts.tick) == (hops, 1)
    assert len(a.worlds.hosts[world].world.subscribers) == 1, "the home pays for one"
    await arrives(publisher, d, world)
    again = await publisher_at(d, world, takeover=True)
    assert d.worlds.hosts[world].homing.held
    await arrives(again, b, world, epoch=2)
    again.on_closed(0.0)


async def test_a_gateway_that_still_takes_another_for_the_home_speaks_of_no_ring(
    start: StartOne, world: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gateway.limits.EDGE_FORSAKE_S", 0.0)
    home, b = await start(), await start()
    a = await start(peers=(), upstream=url(b))
    publisher = await publisher_at(home, world)
    await reader_at(b, world)
    await reader_at(a, world)
    assert edge_of(a, world).is_following, "by way of b"
    for _ in range(3):
        assert await edge_of(b, world)._try(Address.parse(url(a)), HANG_S) is None, "it looks again"
    edge_of(a, world).leave()
    assert await edge_of(b, world)._try(Address.parse(url(a)), HANG_S) is None, "they waited for each other"
    assert b.worlds.peers is not None
    assert b.worlds.peers.counts["failed"] == 0
    assert "--upstream" not in caplog.text
    await arrives(publisher, a, world)
    publisher.on_closed(0.0)


async def test_gateways_that_follow_each_other_in_a_ring_say_so_and_serve_what_the_store_has(
    start: StartOne, world: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gateway.limits.EDGE_FORSAKE_S", 0.1)
    a, b = await start(), await start()
    for one, other in ((a, b), (b, a)):
        assert one.worlds.peers is not None
        one.worlds.peers.upstream = Address.parse(url(other))
    await a.worlds.create(world, {})
    async with asyncio.timeout(HANG_S):
        for gateway in (a, b, a):
            link = await reader_at(gateway, world)
            assert link.control_types()[0] == "welcome"
    await until(lambda: "--upstream" in caplog.text, HANG_S)
    publisher = await publisher_at(a, world)
    await arrives(publisher, b, world)
    await until(lambda: edge_of(b, world).is_following, HANG_S)
    assert not a.worlds.hosts[world].world.is_fed
    publisher.on_closed(0.0)


async def test_a_home_whose_store_is_slow_keeps_its_publisher_instead_of_ending_it_and_staying_the_home(
    start: StartOne, store: StoreProcess, world: str
) -> None:
    a = await start()
    link = RecordingLink()
    publisher = await a.worlds.open_session(world, LiveOptions(role="publish"), link)
    same = LiveOptions(role="publish", epoch=1, resume=link.controls[0]["resume"])
    host, tick = a.worlds.hosts[world], 0
    store.process.send_signal(signal.SIGSTOP)
    try:

        def fails() -> bool:
            nonlocal tick
            tick += 1
            publisher.on_message(message(tick, 1), time.monotonic())
            return host.pump.is_failing

        await until(fails, HANG_S)
        with pytest.raises(StoreUnavailable):
            await a.worlds.give_up(world, same, "")
        assert link.closed is None
        assert host.homing.held
    finally:
        store.process.send_signal(signal.SIGCONT)
    await until(lambda: not host.pump.is_failing, HANG_S)
    await a.worlds.give_up(world, same, "")
    assert not host.homing.held
    assert link.closed == CloseCode.TAKEN_OVER


async def test_a_gateway_that_was_told_of_no_others_follows_none(start: StartOne, world: str) -> None:
    a, b = await start(), await start(peers=())
    publisher = await publisher_at(a, world)
    with pytest.raises(WorldHeld):
        await reader_at(b, world)
    assert b.worlds.hosts[world].edge is None
    publisher.on_closed(0.0)


async def test_an_edge_that_nobody_reads_lets_the_home_go(
    start: StartOne, world: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.limits.EDGE_IDLE_S", 0.0)
    a, b = await start(), await start()
    publisher = await publisher_at(a, world)
    session = await b.worlds.open_session(world, LiveOptions(), RecordingLink())
    assert len(a.worlds.hosts[world].world.subscribers) == 1
    session.on_closed(0.0)
    await until(lambda: not a.worlds.hosts[world].world.subscribers, HANG_S)
    assert not edge_of(b, world).is_following
    publisher.on_closed(0.0)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"peers": "game-1"}, "--peers"),
        ({"peers": "http://game-1.example:4433"}, "--peers"),
        ({"peers": "https://game-1.example/path"}, "--peers"),
        ({"peers": "https://u@game-1.example"}, "--peers"),
        ({"peers": ",".join(f"https://g{n}.example" for n in range(EDGE_PEERS_MAX + 1))}, "--peers"),
        ({"upstream": "store"}, "--upstream"),
        ({"upstream": "http://game-1.example"}, "--upstream"),
        ({"peer_ca": "ca.pem"}, "--peer-ca"),
        ({"peer_token_file": "token"}, "--peer-token-file"),
    ],
)
def test_what_is_no_gateways_address_is_refused_by_its_flag(given: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load(argparse.Namespace(**given), {})


def test_the_settings_of_peers_are_taken_together() -> None:
    settings = load(
        argparse.Namespace(
            peers=["https://a.example:4433,store"], upstream="https://b.example", peer_token_file="t"
        ),
        {},
    )
    assert settings.peers == ("https://a.example:4433", "store")


async def test_a_home_lets_go_only_with_everything_written(
    start: StartOne, world: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await start(), await start()
    publisher = await publisher_at(a, world)
    host = a.worlds.hosts[world]
    written, append = asyncio.Event(), host.database.append

    async def late(*given: Any) -> Any:
        await written.wait()
        return await append(*given)

    monkeypatch.setattr(host.database, "append", late)
    monkeypatch.setattr(host.database, "hold", lambda: None)  # no round: what is written is written alone
    monkeypatch.setattr("gateway.limits.EDGE_FLUSH_S", 0.05)
    for tick in range(1, 11):
        publisher.on_message(message(tick, 1), 0.0)
    publisher.on_closed(0.0)
    with pytest.raises(StoreUnavailable, match="last frames"):
        await a.worlds.give_up(world, LiveOptions(role="publish", epoch=1), "")
    assert host.homing.held
    written.set()
    again = await publisher_at(b, world, epoch=1)
    assert again.epoch == 1  # type: ignore[attr-defined]
    assert b.worlds.hosts[world].world.state.tick == 10
    again.on_closed(0.0)
