"""Keys from an https URL: up, down, slow, huge, empty, changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway import limits
from gateway.errors import ConfigError
from gateway.runtime.access.jwks import BadKey
from gateway.runtime.access.keysource import Url, fresh_s, key_source
from gateway.runtime.access.signing import SigningKey
from gateway.runtime.certs import CA_CERT, LEAF_CERT, LEAF_KEY, ensure_own, tls_context
from tests.patience import HANG_S

from .conftest import Maker, StartGated
from .knocking import bearer, http_of


class Issuer:
    """Serves a JWK set by https, as well or as badly as it is told to."""

    def __init__(self, folder: Path) -> None:
        ensure_own(folder, "127.0.0.1", datetime.now(UTC))
        self.ca = str(folder / CA_CERT)
        self._tls = tls_context(folder / LEAF_CERT, folder / LEAF_KEY)
        self.keys: list[dict[str, Any]] = []
        self.status = 200
        self.headers = ""
        self.body: bytes | None = None
        self.is_silent = False
        self.asked: list[str] = []
        self._heard = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def begin(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        return f"https://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/jwks.json"

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
            self._heard.set()
            if self.is_silent:
                await reader.read()
            body = json.dumps({"keys": self.keys}).encode() if self.body is None else self.body
            head = f"HTTP/1.1 {self.status} x\r\ncontent-length: {len(body)}\r\n{self.headers}connection: close\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def until_asked(self, count: int) -> None:
        async with asyncio.timeout(HANG_S):
            while len(self.asked) < count:
                self._heard.clear()
                await self._heard.wait()


@pytest.fixture
async def issuer(tmp_path: Path) -> AsyncIterator[Issuer]:
    served = Issuer(tmp_path / "issuer")
    yield served
    served.stop()


def source_of(url: str, issuer: Issuer, notes: list[str]) -> Url:
    source = key_source(url, issuer.ca, lambda event, level, **facts: notes.append(f"{event} {facts}"))
    assert isinstance(source, Url)
    return source


KEY = SigningKey.generate("EdDSA", "one")


async def test_keys_are_fetched_and_other_kinds_are_passed_over(issuer: Issuer) -> None:
    issuer.keys = [
        KEY.public_jwk(),
        {"kty": "RSA", "kid": "r", "n": "AQAB", "e": "AQAB"},
        {"kty": "new", "kid": "n"},
    ]
    notes: list[str] = []
    source = source_of(await issuer.begin(), issuer, notes)
    await source.begin()
    assert set(source.keys) == {"one"}
    source.stop()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"status": 500}, "answers 500"),
        ({"status": 301, "headers": "location: https://127.0.0.1:1/\r\n"}, "answers 301"),
        ({"body": b"{"}, "not JSON"),
        ({"body": b'{"keys": []}'}, "no key"),
        ({"body": b"x" * (limits.AUTH_JWKS_BYTES_MAX + 10)}, "at most"),
        ({"body": json.dumps({"keys": [KEY.private_jwk()]}).encode()}, "private key"),
        ({"is_silent": True}, "Timeout"),
    ],
    ids=["500", "elsewhere", "no JSON", "empty", "huge", "private", "silent"],
)
async def test_a_set_that_cannot_be_had_changes_nothing_and_is_told(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], says: str
) -> None:
    monkeypatch.setattr(limits, "AUTH_FETCH_S_MAX", 1.0)
    issuer.keys = [KEY.public_jwk()]
    notes: list[str] = []
    source = source_of(await issuer.begin(), issuer, notes)
    await source.begin()
    for name, value in change.items():
        setattr(issuer, name, value)
    assert await source.fetch() == limits.AUTH_FETCH_AGAIN_S
    assert set(source.keys) == {"one"}
    assert says in notes[-1]
    assert KEY.private_jwk()["d"] not in str(notes)
    source.stop()


async def test_a_set_that_is_down_lets_nobody_in_until_it_is_there(
    issuer: Issuer, start_gated: StartGated, maker: Maker
) -> None:
    url = await issuer.begin()
    issuer.status = 503
    issuer.keys = [maker.key.public_jwk()]
    gated = await start_gated(auth_keys=url, auth_ca=issuer.ca)
    assert gated.gate is not None
    assert gated.ready()["ready"] is False
    async with http_of(gated) as client:
        token = maker.token({"sub": ["*"]})
        answer = await client.get("/v1/worlds", headers=bearer(token))
        assert (answer.status_code, answer.json()["rule"]) == (401, "key")
        issuer.status = 200
        changed = asyncio.Event()
        told = gated.gate.source.on_change
        gated.gate.source.on_change = lambda: (told(), changed.set())[0]
        gated.reload(gated.settings)
        async with asyncio.timeout(HANG_S):
            await changed.wait()
        assert (await client.get("/v1/worlds", headers=bearer(token))).status_code == 200
    assert gated.ready()["ready"] is True


async def test_a_token_of_an_unknown_key_has_the_set_asked_for_again_but_not_each_time(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "AUTH_FETCH_AGAIN_S", HANG_S)
    issuer.keys = [KEY.public_jwk()]
    source = source_of(await issuer.begin(), issuer, [])
    await source.begin()
    for _ in range(100):
        source.miss()
        await asyncio.sleep(0)
    monkeypatch.setattr(limits, "AUTH_FETCH_AGAIN_S", 0.0)
    second = SigningKey.generate("EdDSA", "two")
    issuer.keys.append(second.public_jwk())
    changed = asyncio.Event()
    source.on_change = changed.set
    source.miss()
    async with asyncio.timeout(HANG_S):
        await changed.wait()
    assert set(source.keys) == {"one", "two"}
    assert len(issuer.asked) == 2, "at first, and once more"
    assert len(issuer.asked) == 2
    source.stop()


async def test_what_has_not_changed_is_not_sent_again(issuer: Issuer) -> None:
    issuer.keys = [KEY.public_jwk()]
    issuer.headers = 'etag: "7"\r\ncache-control: max-age=60\r\n'
    source = source_of(await issuer.begin(), issuer, [])
    await source.begin()
    issuer.status, issuer.body = 304, b""
    assert await source.fetch() == 60.0
    assert 'if-none-match: "7"' in issuer.asked[-1]
    assert set(source.keys) == {"one"}
    source.stop()


async def test_a_certificate_that_nobody_vouches_for_is_not_believed(issuer: Issuer) -> None:
    issuer.keys = [KEY.public_jwk()]
    notes: list[str] = []
    source = key_source(await issuer.begin(), "", lambda event, level, **facts: notes.append(str(facts)))
    await source.begin()
    assert not source.keys
    assert "certificate" in notes[-1].lower()
    source.stop()


def test_clear_text_is_no_way_for_keys(tmp_path: Path) -> None:
    with pytest.raises(BadKey, match="https only"):
        key_source("http://127.0.0.1/jwks.json", "", lambda *a, **b: None)


async def test_a_ca_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--auth-ca"):
        key_source("https://127.0.0.1/", str(tmp_path / "no.pem"), lambda *a, **b: None)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", limits.AUTH_REFRESH_S),
        ("max-age=120, public", 120.0),
        ("public,max-age=120", 120.0),
        ("max-age=1", limits.AUTH_REFRESH_S_MIN),
        ("max-age=999999999", limits.AUTH_REFRESH_S_MAX),
        ("no-cache, max-age=600", limits.AUTH_REFRESH_S_MIN),
        ("s-maxage=7", limits.AUTH_REFRESH_S),
        ("max-age=x", limits.AUTH_REFRESH_S),
    ],
)
def test_how_long_a_set_is_used(header: str, seconds: float) -> None:
    assert fresh_s(header) == seconds
