"""Clients with a token: let in, going on with a fresh one, and told why not; and no token is shown anywhere."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.client import Entities, HttpClient, Publisher, Subscriber, Trust, fetch_last
from gateway.client.token import Chances, NoToken, Token, expiry_s, from_file
from gateway.core.grants import GrantRefused
from gateway.errors import ConfigError, GatewayError, NotFound, Unauthorized
from gateway.runtime.access.signing import SigningKey
from gateway.runtime.gateway import Gateway
from gateway.runtime.stores.opening import open_store
from gateway.store.base import Namespace
from gateway.wire import Control
from tests.client.conftest import Served, settings_in, until
from tests.kits.abilities import proves
from tests.patience import HANG_S

SUB, PUB = {"sub": ["arena"]}, {"pub": ["arena"]}
TRANSPORTS = ("webtransport", "websocket")
SIGNED: list[str] = []
"""Every token that a test has made."""


class Studio:
    """A backend that signs tokens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = SigningKey.generate("EdDSA", "first")
        self.key.write(folder)

    def token(self, mv: Any, *, for_s: float = 600.0, **more: Any) -> str:
        claims = {
            "exp": int(time.time() + for_s),
            "iat": int(time.time()),
            "jti": os.urandom(4).hex(),
            "mv": mv,
        }
        SIGNED.append(self.key.sign({**claims, **more}))
        return SIGNED[-1]

    def maker(self, mv: Any, *, for_s: float = 600.0, **more: Any) -> Callable[[], Any]:
        async def make() -> str:
            await asyncio.sleep(0)
            return self.token(mv, for_s=for_s, **more)

        return make


class Door:
    """A gateway that asks for tokens, and how to reach it."""

    def __init__(self, served: Served, studio: Studio) -> None:
        self.url, self.ca, self.gateway = served.url, served.ca, served.gateway
        self.studio = studio

    def publisher(self, token: Any, **more: Any) -> Publisher:
        return Publisher(self.url, "arena", ca=self.ca, token=token, **more)

    def subscriber(self, token: Any, **more: Any) -> Subscriber:
        return Subscriber(self.url, "arena", ca=self.ca, token=token, **more)


@asynccontextmanager
async def guarded(folder: Path, **settings: Any) -> AsyncIterator[Door]:
    studio = Studio(folder / "keys")
    gateway = await Gateway.start(settings_in(folder, auth_keys=str(studio.folder), **settings))
    try:
        yield Door(Served(gateway, folder / "certs"), studio)
    finally:
        await gateway.drain(2.0)


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with guarded(tmp_path) as made:
        yield made


@pytest.fixture(autouse=True)
def _nothing_shown(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a test does: no log of any library has a token in it, at any level."""
    SIGNED.clear()
    caplog.set_level(logging.DEBUG)
    caplog.set_level(
        logging.INFO, "hpack"
    )  # the gateway's end, which in a process of its own tells of the house alone
    yield
    shown = "\n".join(f"{record.name}: {record.getMessage()}" for record in caplog.get_records("call"))
    for token in SIGNED:
        secret = token.split(".")[2]
        assert secret not in shown, [line[:100] for line in shown.splitlines() if secret in line][:3]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_string_lets_a_publisher_and_a_reader_in(door: Door, transport: str) -> None:
    publisher = door.publisher(door.studio.token(PUB), transport=transport)
    reader = door.subscriber(door.studio.token(SUB), transport=transport)
    async with publisher, reader:
        publisher.send({1: b"one"})
        await until(lambda: reader.records() == {1: b"one"})


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_without_a_token_or_with_one_for_something_else_it_is_over_at_once(
    door: Door, transport: str
) -> None:
    for token, kind in (
        (None, Unauthorized),
        ("a.b.c", Unauthorized),
        (door.studio.token(SUB), GrantRefused),
    ):
        publisher = door.publisher(token, transport=transport)
        with pytest.raises(kind):
            await publisher.start()
        assert isinstance(publisher.error, kind), "final, and not the last of many tries"


@proves("python", "tokens")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_session_goes_on_over_the_end_of_its_token_without_a_break(
    door: Door, transport: str
) -> None:
    granted: list[Control] = []
    publisher = door.publisher(door.studio.maker(PUB, for_s=6), transport=transport)
    reader = door.subscriber(
        door.studio.maker(SUB, for_s=6),
        transport=transport,
        on_event=lambda control: granted.append(control) if control.type == "granted" else None,
    )
    began = time.time()
    async with publisher, reader:
        end = time.monotonic() + 10
        number = 0
        while time.monotonic() < end:
            number += 1
            publisher.send({1: b"%d" % number})
            await asyncio.sleep(0.02)
        await until(lambda: reader.records() == {1: b"%d" % number})
        assert (publisher.connects, reader.connects) == (1, 1)
    assert granted
    assert all(control["expires"] > began for control in granted)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_string_that_ends_ends_the_session_and_says_so(door: Door, transport: str) -> None:
    reader = door.subscriber(door.studio.token({**SUB, **PUB}, for_s=2), transport=transport)
    async with door.publisher(door.studio.token(PUB), transport=transport), reader:
        await until(lambda: reader.error is not None, HANG_S)
        assert "expired" in str(reader.error)
        assert reader.connects == 1


async def test_a_fresh_token_is_fetched_once_where_the_first_is_refused(door: Door) -> None:
    made = [door.studio.token(SUB, for_s=-100), door.studio.token(PUB)]
    publisher = door.publisher(lambda: made.pop(0))
    async with publisher:
        assert publisher.connects == 1
    assert made == []


async def test_a_function_whose_tokens_are_all_refused_is_not_asked_for_ever(door: Door) -> None:
    asked: list[int] = []

    def make() -> str:
        asked.append(1)
        return door.studio.token(SUB)

    with pytest.raises(GrantRefused):
        await door.publisher(make).start()
    assert len(asked) == 2


async def test_one_who_is_revoked_comes_back_only_with_a_token_that_counts(door: Door) -> None:
    async with (
        HttpClient(
            door.url, trust=Trust.of(ca=door.ca), token=door.studio.token({"admin": [":grants"]})
        ) as admin,
        door.publisher(door.studio.token(PUB)),
    ):
        given = door.subscriber(door.studio.token(SUB, sub="ann"))
        made = door.subscriber(door.studio.maker(SUB, sub="bob"))
        async with given, made:
            for name in ("ann", "bob"):
                await admin.request("DELETE", f"/v1/grants/{name}")
            await until(lambda: given.error is not None and made.error is not None, HANG_S)
            assert "revoked" in str(given.error)
            assert isinstance(made.error, Unauthorized | GatewayError)


async def test_requests_entities_and_the_last_state_take_a_token(door: Door) -> None:
    async with door.publisher(door.studio.token(PUB)) as publisher:
        publisher.send({1: b"one"})
        await publisher.wait_durable()
        with pytest.raises(Unauthorized):
            await fetch_last(door.url, "arena", ca=door.ca)
        for transport in TRANSPORTS:
            state = await fetch_last(
                door.url, "arena", ca=door.ca, token=door.studio.maker(SUB), transport=transport
            )
            assert state.records == {1: b"one"}
            entities = Entities(
                door.url,
                "arena",
                ca=door.ca,
                token=door.studio.maker({"ent": ["arena"]}),
                transport=transport,
            )
            async with entities:
                await entities.put("chest", b"gold")
                assert (await entities.get("chest")).state == b"gold"


async def test_a_request_refused_for_its_token_is_sent_once_more_with_a_fresh_one(door: Door) -> None:
    made = [door.studio.token(SUB, for_s=-100), door.studio.token({**SUB, **PUB})]
    async with HttpClient(door.url, trust=Trust.of(ca=door.ca), token=lambda: made.pop(0)) as client:
        with pytest.raises(NotFound):
            await client.get_json("/v1/worlds/arena")
    assert made == []


@proves("python", "watch")
async def test_a_watch_of_entities_goes_on_over_the_end_of_its_token(door: Door) -> None:
    ent = {"ent": ["arena"], **PUB}
    async with (
        door.publisher(door.studio.token(PUB)),
        Entities(door.url, "arena", ca=door.ca, token=door.studio.maker(ent, for_s=2)) as watching,
        Entities(door.url, "arena", ca=door.ca, token=door.studio.token(ent)) as other,
    ):
        seen: list[str] = []

        task = asyncio.create_task(_noting(watching, seen))
        end = time.monotonic() + 5
        number = 0
        while time.monotonic() < end:
            number += 1
            await other.put(f"e{number}", b"x")
            await asyncio.sleep(0.25)
        await until(lambda: set(seen) >= {f"e{n}" for n in range(1, number + 1)}, HANG_S)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _noting(watching: Entities, seen: list[str]) -> None:
    async for change in watching.watch(0):
        seen.extend([change.id])


@pytest.mark.parametrize("transport", ["h3", "h2", "h1"])
async def test_a_store_behind_a_gateway_takes_a_token(tmp_path: Path, transport: Any) -> None:
    async with guarded(tmp_path, page_plane="public") as door:
        made = [door.studio.token({"store": ["other"]}, for_s=-100)]
        fresh = door.studio.maker({"store": ["w"]})
        store = await open_store(
            door.url,
            trust=Trust.of(ca=door.ca),
            transport=transport,
            token=lambda: made.pop() if made else fresh(),
        )
        assert (await store.stat(Namespace("w"))).version
        assert made == []
        with pytest.raises(GatewayError):
            await store.stat(Namespace("elsewhere"))
        await store.aclose()


# -- what needs no gateway ------------------------------------------------------------------------


class Hand:
    """A clock, and a maker of tokens that counts."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.made = 0
        self.key = SigningKey.generate("EdDSA", "k")

    def make(self) -> str:
        self.made += 1
        return self.key.sign({"exp": int(self.now) + 400, "n": self.made})


async def test_a_function_is_asked_when_three_quarters_of_a_token_are_over() -> None:
    hand = Hand()
    token = Token(hand.make, lambda: hand.now)
    first = await token.current()
    assert (await token.current(), hand.made) == (first, 1)
    assert token.due_in_s == 300
    hand.now += 299
    assert await token.current() == first
    hand.now += 1
    assert await token.current() != first
    assert hand.made == 2


async def test_many_who_ask_at_once_share_one_fetch() -> None:
    hand = Hand()

    async def slowly() -> str:
        await asyncio.sleep(0.01)
        return hand.make()

    token = Token(slowly, lambda: hand.now)
    assert len({*await asyncio.gather(*(token.current() for _ in range(20)))}) == hand.made == 1


async def test_a_maker_that_fails_or_hangs_is_named_by_its_kind_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing() -> str:
        raise ValueError("the secret is hunter2")

    async def hanging() -> str:
        await asyncio.sleep(3_600)
        return ""

    with pytest.raises(NoToken, match="ValueError") as refused:
        await Token(failing).current()
    assert "hunter2" not in str(refused.value)
    assert refused.value.retry
    monkeypatch.setattr("gateway.limits.CLIENT_TOKEN_S_MAX", 0.01)
    with pytest.raises(NoToken, match="within"):
        await Token(hanging).current()


def test_a_token_is_not_shown() -> None:
    secret = Hand().make()
    assert secret not in repr(Token(secret))
    assert secret not in repr(Token(lambda: secret))
    assert secret not in repr(vars(Chances(Token(secret))))
    for wrong in ("", " ", "two words", "ünïcode", secret + "x" * 5_000):
        with pytest.raises(ConfigError) as refused:
            Token(wrong)
        assert not wrong.strip() or wrong.strip() not in str(refused.value)


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c", "a.e30.c", "a.W10.c", "a.eyJleHAiOiJ4In0.c", "é.é.é"])
def test_what_says_no_end_has_none(text: str) -> None:
    assert expiry_s(text) is None


def test_the_environment_stands_in_for_the_argument() -> None:
    assert Token.of(None, {}) is None
    found = Token.of(None, {"MVGATEWAY_TOKEN": "a.b.c"})
    assert found is not None
    assert not found.can_renew


@pytest.mark.parametrize("make", [Publisher, Subscriber])
def test_a_token_never_crosses_a_network_in_clear_text(make: Any) -> None:
    with pytest.raises(ConfigError, match="clear text"):
        make("http://gateway.example:4434", "arena", token="a.b.c")
    make("http://127.0.0.1:4434", "arena", token="a.b.c")


def test_a_file_is_read_each_time_and_one_that_others_can_read_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "token"
    path.write_text("a.b.c\n")
    path.chmod(0o600)
    read = from_file(path)
    assert read().strip() == "a.b.c"
    assert caplog.text == ""
    path.write_text("d.e.f\n")
    path.chmod(0o644)
    assert read().strip() == "d.e.f"
    assert read()
    assert caplog.text.count("chmod 600") == 1
    path.unlink()
    with pytest.raises(ConfigError, match="--token-file"):
        read()
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="ASCII"):
        read()
