"""The Elixir drop-in with a token: the last state by a fresh one, and the pieces for a WebSocket of your own."""

from __future__ import annotations

import json
import time
from pathlib import Path

import websockets

from gateway.client import Publisher
from gateway.config import Settings
from gateway.runtime.access.signing import SigningKey
from gateway.runtime.gateway import Gateway
from gateway.wire import Control, decode_message
from tests.client.test_dropins import FOLDER, output_of, program
from tests.kits.abilities import proves


@proves("elixir", "last_state")
async def test_elixir_fetches_with_a_token_and_makes_what_renews_a_session(tmp_path: Path) -> None:
    elixir = program("elixir")
    key = SigningKey.generate("EdDSA", "first")
    key.write(tmp_path / "keys")

    def token(for_s: float, **mv: list[str]) -> str:
        return key.sign({"exp": int(time.time() + for_s), "mv": mv})

    settings = Settings(
        port=0,
        plain="127.0.0.1:0",
        store=str(tmp_path / "store"),
        certs=str(tmp_path / "certs"),
        auth_keys=str(tmp_path / "keys"),
    )
    gateway = await Gateway.start(settings)
    ca = tmp_path / "certs" / "ca.pem"
    url = f"https://localhost:{gateway.port}"
    good, spent = token(400, sub=["arena"]), token(-100, sub=["arena"])
    try:
        async with Publisher(url, "arena", ca=ca, token=token(600, pub=["arena"])) as publisher:
            publisher.send({7: b"seven"})
            await publisher.wait_durable()
        script = tmp_path / "try.exs"
        script.write_text(
            f"""
            fetch = fn token -> MVGateway.fetch_last("{url}", "arena", cacertfile: ~c"{ca}", token: token) end
            {{:ok, last}} = fetch.("{good}")
            IO.puts("string " <> last.records[7])
            {{:ok, tries}} = Agent.start_link(fn -> ["{spent}", "{good}"] end)
            {{:ok, last}} = fetch.(fn -> Agent.get_and_update(tries, fn [one | rest] -> {{one, rest}} end) end)
            IO.puts("function " <> last.records[7])
            {{:error, {{status, _}}}} = fetch.(fn -> "{spent}" end)
            IO.puts("refused #{{status}} #{{MVGateway.needs_token?(status)}}")
            IO.puts("renew #{{MVGateway.renew_in("{good}")}} #{{MVGateway.renew_in("opaque")}}")
            IO.puts("message " <> Base.encode16(MVGateway.token_message("{good}")))
            """
        )
        told = await output_of(elixir, "-r", str(FOLDER / "elixir" / "mvgateway.ex"), str(script))
        lines = dict(line.split(" ", 1) for line in told.splitlines() if " " in line)
        assert (lines["string"], lines["function"], lines["refused"]) == ("seven", "seven", "401 true")
        renew_ms, opaque = lines["renew"].split()
        assert 270_000 < int(renew_ms) <= 300_000
        assert opaque == "infinity"
        assert gateway.plain_server is not None
        async with websockets.connect(
            f"ws://127.0.0.1:{gateway.plain_server.port}/v1/worlds/arena/live"
        ) as link:
            await link.send(bytes.fromhex(lines["message"]))
            first = decode_message(bytes(await link.recv()))
            assert isinstance(first, Control)
            assert first.type == "granted", json.dumps(dict(first.fields))
    finally:
        await gateway.drain(2.0)
