"""The makers that docs/ACCESS.md shows, run as they stand there: what they make counts."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.core.grants import Need
from gateway.runtime.access.jwks import load_keys, public_key
from gateway.runtime.access.tokens import verify

from .conftest import Maker

ACCESS = Path(__file__).resolve().parents[2] / "docs" / "ACCESS.md"
MUST = os.environ.get("CI") == "true"
MV = {"sub": ["plaza-*"]}
ELIXIRS_KEY = """{"crv": "Ed25519", "x": "PYJbjuB1HZ4BCF717aKj2RfqfPy-4ivpXvvQFiFf45c", "kty": "OKP", "kid": "studio", "alg": "EdDSA", "use": "sig"}"""
ELIXIRS_TOKEN = (
    "eyJhbGciOiJFZERTQSIsImtpZCI6InN0dWRpbyIsInR5cCI6IkpXVCJ9"
    ".eyJleHAiOjE3OTU4Njc5NzAsIm12Ijp7InN1YiI6WyJwbGF6YS0qIl19LCJzdWIiOiJhbm4ifQ"
    ".W1LqdTFsRnhUopc6ji7zz2SYqmByHm0D-IzfhS1fAm8Ojz63wR1CRIOqPv21pDXgpef6DiN-pww8-BjJmCG8CQ"
)
"""What the Phoenix maker has made of that key's private half, by JOSE 1.11.5."""


def shown(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", ACCESS.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def made(maker: Maker, command: list[str]) -> str:
    key = maker.folder / "first.private.json"
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KEY": str(key), "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def check(maker: Maker, token: str) -> None:
    grant = verify(token, load_keys(maker.folder), "", time.time())
    assert grant.subject == "ann"
    assert grant.allows(Need("sub", ("plaza-1",)))
    assert not grant.allows(Need("pub", ("plaza-1",)))


def test_python_makes_tokens(maker: Maker, tmp_path: Path) -> None:
    script = tmp_path / "make.py"
    script.write_text(shown("python") + f"\nprint(token('ann', {MV!r}))\n")
    check(maker, made(maker, [sys.executable, str(script)]))


@pytest.mark.skipif(
    shutil.which("node") is None and not MUST, reason="Node is not installed: its maker is not tried"
)
def test_node_makes_tokens(maker: Maker, tmp_path: Path) -> None:
    script = tmp_path / "make.mjs"
    script.write_text(shown("js") + f"\nconsole.log(token('ann', {json.dumps(MV)}));\n")
    check(maker, made(maker, ["node", str(script)]))


HAS_JOSE = shutil.which("elixir") is not None and bool(glob.glob("/usr/lib/erlang/lib/jose-*"))


@pytest.mark.skipif(
    not HAS_JOSE and not MUST, reason="Elixir or its JOSE is not installed: its maker is not tried"
)
def test_phoenix_makes_tokens(maker: Maker, tmp_path: Path) -> None:
    script = tmp_path / "make.exs"
    start = "{:ok, _} = Application.ensure_all_started(:jose)\n"
    script.write_text(start + shown("elixir") + '\nIO.puts(Tokens.token("ann", %{"sub" => ["plaza-*"]}))\n')
    check(maker, made(maker, ["elixir", str(script)]))


def test_what_phoenix_has_made_once_counts_where_there_is_no_elixir() -> None:
    key = public_key(json.loads(ELIXIRS_KEY), "the test")
    grant = verify(ELIXIRS_TOKEN, {key.kid: key}, "", 1_795_867_700.0)
    assert grant.subject == "ann"
    assert grant.sub == ("plaza-*",)
