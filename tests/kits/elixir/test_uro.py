"""docs/URO.md: the backend of that page hands out passes, with which others go to the gateway themselves; what only it may do it asks for in one hop."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path

import pytest

from gateway.client import Entities, Publisher, Subscriber
from gateway.config import Settings
from gateway.errors import Forbidden
from gateway.runtime.access.signing import SigningKey
from gateway.runtime.gateway import Gateway
from tests.kits.elixir.engine import mix, running
from tests.patience import HANG_S
from tests.runtime.conftest import until

PAGE = Path(__file__).parents[3] / "docs" / "URO.md"
DOOR = """
defmodule Door do
  alias MVGateway.JSON

  def open(uro) do
    {:ok, listening} = :gen_tcp.listen(0, [:binary, packet: :http_bin, active: false, ip: {127, 0, 0, 1}])
    spawn_link(fn -> accept(listening, uro) end)
    {:ok, port} = :inet.port(listening)
    :gen_tcp.controlling_process(listening, self())
    port
  end

  defp accept(listening, uro) do
    {:ok, socket} = :gen_tcp.accept(listening)
    {:ok, {:http_request, method, {:abs_path, path}, _}} = :gen_tcp.recv(socket, 0, 60_000)
    headers = headers(socket, %{})
    :inet.setopts(socket, packet: :raw)
    length = String.to_integer(headers["content-length"] || "0")
    {:ok, body} = if length > 0, do: :gen_tcp.recv(socket, length, 60_000), else: {:ok, "{}"}
    {:ok, body} = JSON.decode(body)
    user = %{name: headers["x-user"], role: if(headers["x-user"] == "shard", do: :server, else: :player)}
    {status, facts} = Uro.handle(uro, to_string(method), String.split(path, "/", trim: true), body, user)
    text = JSON.encode(facts)
    :gen_tcp.send(socket, "HTTP/1.1 #{status} said\\r\\ncontent-length: #{byte_size(text)}\\r\\nconnection: close\\r\\n\\r\\n" <> text)
    :gen_tcp.close(socket)
    accept(listening, uro)
  end

  defp headers(socket, found) do
    case :gen_tcp.recv(socket, 0, 60_000) do
      {:ok, {:http_header, _, name, _, value}} -> headers(socket, Map.put(found, String.downcase(to_string(name)), value))
      {:ok, :http_eoh} -> found
    end
  end
end
"""
BODY = """
uro = Uro.start(%{key: "KEY", gateway: "URL", lobby: "lobby", cacertfile: "CA"})
say("port", Door.open(uro))
told("over")
"""


async def asked(
    port: int, user: str, method: str, path: str, body: object = None
) -> tuple[int, dict[str, object]]:
    text = b"" if body is None else json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"{method} {path} HTTP/1.1\r\nhost: uro\r\nx-user: {user}\r\ncontent-length: {len(text)}\r\n\r\n"
    writer.write(head.encode() + text)
    answer = await asyncio.wait_for(reader.read(), HANG_S)
    writer.close()
    top, _, said = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(said)


async def test_the_page_hands_out_passes_and_asks_in_one_hop(builds: Path, tmp_path: Path) -> None:
    build = builds / "installed"
    await mix("installed", build, "compile")
    key = SigningKey.generate("EdDSA", "uro")
    key.write(tmp_path / "keys")
    (private,) = (tmp_path / "keys").glob("*.private.json")
    (page,) = re.findall(r"^```elixir\n(.*?)^```$", PAGE.read_text(), flags=re.M | re.S)
    settings = Settings(
        port=0,
        plain="127.0.0.1:0",
        store=str(tmp_path / "store"),
        certs=str(tmp_path / "certs"),
        auth_keys=str(tmp_path / "keys"),
    )
    gateway = await Gateway.start(settings)
    ca, url = tmp_path / "certs" / "ca.pem", f"https://127.0.0.1:{gateway.port}"
    script = BODY.replace("KEY", str(private)).replace("URL", url).replace("CA", str(ca))
    try:
        async with running(build, tmp_path, script, modules=page + DOOR) as engine:
            port = await engine.said("port")
            status, server = await asked(port, "shard", "POST", "/passes/lobby")
            assert (status, server["url"]) == (201, url)
            status, player = await asked(port, "ann", "POST", "/passes/lobby")
            assert status == 201
            async with Publisher(url, "lobby", ca=ca, token=str(server["token"])) as publisher:
                publisher.send({7: b"seven"})
                async with Subscriber(url, "lobby", ca=ca, token=str(player["token"])) as reader:
                    await until(lambda: reader.records() == {7: b"seven"})

                async def followed() -> bool:
                    _, lobby = await asked(port, "ann", "GET", "/lobby")
                    return lobby["records"] == {"7": "c2V2ZW4="}

                await until(followed)
            intruder = Publisher(url, "lobby", ca=ca, token=str(player["token"]))
            with pytest.raises(Forbidden):
                await intruder.__aenter__()
            gift = await asked(port, "ann", "POST", "/gifts/bob/gold", {"quantity": 3})
            assert (gift[0], gift[1]["code"]) == (409, "not_enough")
            mine = key.sign({"exp": int(time.time()) + 60, "mv": {"inv": ["*"]}})
            async with Entities(url, "ann", inventory=True, ca=ca, token=mine) as pockets:
                await pockets.put("gold", {}, quantity=10)
                assert (await asked(port, "ann", "POST", "/gifts/bob/gold", {"quantity": 3}))[0] == 200
                assert (await pockets.get("gold")).quantity == 7
            engine.tell("over")
    finally:
        await gateway.drain(1.0)
