"""Verbs that talk to a gateway which asks for tokens, and a gateway whose store is such a one: real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway import quic
from gateway.client.token import ENV_TOKEN
from gateway.config import Settings
from gateway.runtime.gateway import Gateway
from tests.client.conftest import until
from tests.client.test_tokens import Door, Publisher, guarded
from tests.patience import HANG_S
from tests.runtime.conftest import GatewayProcess

ALL = {"sub": ["*"], "pub": ["*"], "admin": ["*"], "store": ["*"]}
VERBS = [
    ("worlds", "list", "--json"),
    ("watch", "arena", "--seconds", "1", "--json"),
    ("verify", "arena", "--json"),
    ("recover", "arena", "--json"),
    ("publish", "other", "--seconds", "1"),
    ("branch", "arena", "arena-2", "--json"),
    ("clip", "arena", "--out", "clip.sqlite"),
]


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with guarded(tmp_path, retention="record") as made:
        async with made.publisher(made.studio.token(ALL)) as publisher:
            for number in range(10):
                publisher.send({1: b"%d" % number})
            await publisher.wait_durable()
        yield made


async def run(door: Door, folder: Path, *verb: str, environ: dict[str, str] | None = None) -> tuple[int, str]:
    """The exit code, and all that was said."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MVGATEWAY_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.cli", *verb, "--url", door.url, "--ca", str(door.ca),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=folder, env={**ours, **(environ or {})},
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(), HANG_S)
    assert process.returncode is not None
    return process.returncode, said.decode()


@pytest.mark.parametrize("verb", VERBS, ids=[verb[0] for verb in VERBS])
async def test_a_verb_takes_its_token_from_a_file_or_the_environment_and_shows_it_nowhere(
    door: Door, tmp_path: Path, verb: tuple[str, ...]
) -> None:
    token = door.studio.token(ALL)
    (tmp_path / "token").write_text(token + "\n")
    (tmp_path / "token").chmod(0o640)
    code, said = await run(door, tmp_path, *verb)
    assert code != 0
    assert "token" in said
    code, said = await run(door, tmp_path, *verb, "--token-file", "token")
    assert (code, "chmod 600" in said) == (0, True), said
    assert token.split(".")[2] not in said
    (tmp_path / "clip.sqlite").unlink(missing_ok=True)
    renamed = tuple("arena-3" if word == "arena-2" else word for word in verb)
    code, said = await run(door, tmp_path, *renamed, environ={ENV_TOKEN: token})
    assert (code, token.split(".")[2] in said) == (0, False), said


async def test_a_gateway_that_is_silent_is_named_without_the_secrets_of_the_query(tmp_path: Path) -> None:
    process = await asyncio.to_thread(lambda: GatewayProcess(tmp_path).wait_ready())
    try:
        trust = quic.QuicTrust(ca_pem=(tmp_path / "certs" / "ca.pem").read_bytes())
        client = await quic.connect("127.0.0.1", process.port("https"), trust=trust, timeout_s=HANG_S)
        process.process.send_signal(signal.SIGSTOP)
        secret = "/v1/worlds/arena/live?role=publish&resume=hunter2&token=hunter2"
        for asking in (
            client.webtransport(secret, lambda link: pytest.fail("nobody let us in"), timeout_s=0.2),
            client.request("GET", secret, timeout_s=0.2),
        ):
            with pytest.raises(quic.RequestFailed, match="/v1/worlds/arena/live") as refused:
                await asking
            assert "hunter2" not in str(refused.value)
        client.close()
    finally:
        process.process.send_signal(signal.SIGCONT)
        process.kill()


async def test_a_gateway_sends_the_token_of_its_file_to_the_gateway_that_is_its_store(tmp_path: Path) -> None:
    async with guarded(tmp_path, page_plane="public") as inner:
        path = tmp_path / "store.token"
        path.write_text(inner.studio.token({"store": ["*"]}, for_s=3))
        path.chmod(0o600)
        outer = await Gateway.start(
            Settings(
                port=0,
                plain="",
                store=inner.url,
                store_ca=str(inner.ca),
                store_token_file=str(path),
                certs=str(tmp_path / "outer"),
            )
        )
        try:
            url, ca = f"https://127.0.0.1:{outer.port}", tmp_path / "outer" / "ca.pem"
            async with Publisher(url, "arena", ca=ca) as publisher:
                for number in range(50):
                    if number % 10 == 0:
                        path.write_text(inner.studio.token({"store": ["*"]}, for_s=3))
                    tick = publisher.send({1: b"%d" % number})
                    await asyncio.sleep(0.1)
                await until(lambda: publisher.durable is not None and publisher.durable.tick >= tick, HANG_S)
        finally:
            await outer.drain(2.0)
