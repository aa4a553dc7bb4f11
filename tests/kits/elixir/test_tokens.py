"""A session of the Elixir kit goes on under tokens that it signs itself, each of a few seconds, without a break."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import Settings
from gateway.runtime.access.signing import SigningKey
from gateway.runtime.gateway import Gateway
from tests.kits.abilities import proves
from tests.kits.elixir.engine import mix, running

BODY = """
key = MVGateway.Token.key!(File.read!("KEY"))
{:ok, made} = Agent.start_link(fn -> 0 end)
token = fn ->
  Agent.update(made, &(&1 + 1))
  MVGateway.Token.sign(key, %{"mv" => %{"pub" => ["arena"], "sub" => ["arena"]}}, 8)
end
{:ok, server} = MVGateway.Session.start_link(url: "URL", world: "arena", role: :publish, cacertfile: "CA", token: token, to: self())
receive do {:mvgateway, ^server, {:welcome, _}} -> :ok end
granted = for _ <- 1..2 do
  receive do
    {:mvgateway, ^server, {:control, %{"type" => "granted", "expires" => expires}}} -> expires
    {:mvgateway, ^server, {:disconnected, why}} -> why
  after 60_000 -> "none came"
  end
end
{:ok, _} = MVGateway.Session.publish(server, %{1 => "under the third"})
say("went on", [granted, Agent.get(made, & &1), MVGateway.Session.wait_durable(server, nil, 60_000)])
{:ok, other} = MVGateway.Session.start_link(url: "URL", world: "arena", cacertfile: "CA", token: "no.such.token", to: self())
receive do {:mvgateway, ^other, {:refused, code, detail}} -> say("refused", [code, detail]) end
"""


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256"])
@proves("elixir", "tokens")
async def test_a_session_goes_on_under_one_token_after_another(
    builds: Path, tmp_path: Path, algorithm: str
) -> None:
    build = builds / "installed"
    await mix("installed", build, "compile")
    SigningKey.generate(algorithm, "studio").write(tmp_path / "keys")
    (private,) = (tmp_path / "keys").glob("*.private.json")
    settings = Settings(
        port=0,
        plain="",
        store=str(tmp_path / "store"),
        certs=str(tmp_path / "certs"),
        auth_keys=str(tmp_path / "keys"),
    )
    gateway = await Gateway.start(settings)
    url, ca = f"https://127.0.0.1:{gateway.port}", str(tmp_path / "certs" / "ca.pem")
    script = BODY.replace("KEY", str(private)).replace("URL", url).replace("CA", ca)
    try:
        async with running(build, tmp_path, script) as engine:
            granted, made, durable = await engine.said("went on")
            assert all(isinstance(expires, (int, float)) for expires in granted), granted
            assert granted[1] > granted[0]
            assert made >= 3
            assert durable is True
            code, detail = await engine.said("refused")
            assert code in {"unauthorized", "grant_refused"}
            assert "no.such.token" not in detail
    finally:
        await gateway.drain(1.0)
