"""The Elixir kit in real Elixirs, the system's and Debian's newest: without a warning, its own tests, and those against a real gateway."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.client import Publisher
from tests.client.conftest import Served
from tests.kits.abilities import proves
from tests.kits.elixir.engine import KIT, RELEASES, mix


@pytest.mark.parametrize("release", RELEASES)
@proves(
    "elixir",
    "vectors",
    "websocket",
    "publish",
    "repair",
    "takeover",
    "refusals",
    "sleep",
    "replay",
    "entities",
    "marks",
)
async def test_it_compiles_without_a_warning_and_its_own_tests_pass(
    release: str, builds: Path, served: Served
) -> None:
    build = builds / release
    await mix(release, build, "compile", "--force", "--warnings-as-errors")
    said = await mix(
        release, build, "test", "--warnings-as-errors", MVGATEWAY_URL=served.url, MVGATEWAY_CA=str(served.ca)
    )
    assert "excluded" not in said.lower(), said
    passed = re.search(r"(\d+) tests, 0 failures|Result: (\d+) passed", said)
    assert passed is not None, said[-600:]
    assert int(passed[1] or passed[2]) >= 28


@proves("elixir", "last_state")
async def test_a_fresh_project_fetches_a_worlds_last_state(
    builds: Path, tmp_path: Path, served: Served
) -> None:
    """The package as a dependency, and nothing else: the applications that it needs start with it."""
    async with Publisher(served.url, "arena", ca=served.ca) as publisher:
        publisher.send({7: b"seven"})
        await publisher.wait_durable()
    (tmp_path / "game" / "lib").mkdir(parents=True)
    (tmp_path / "game" / "mix.exs").write_text(
        "defmodule Game.MixProject do\n  use Mix.Project\n\n"
        '  def project, do: [app: :game, version: "0.1.0", deps: [{:mvgateway, path: "' + str(KIT) + '"}]]\n'
        "  def application, do: []\nend\n"
    )
    ask = f'{{:ok, last}} = MVGateway.fetch_last("{served.url}", "arena", cacertfile: "{served.ca}"); IO.puts("it is " <> last.records[7])'
    said = await mix("installed", tmp_path / "build", "run", "-e", ask, project=tmp_path / "game")
    assert "it is seven" in said
    assert "warning" not in said
