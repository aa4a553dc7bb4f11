"""The game server of the fault rounds: what it says of itself has to be so, or a round fails by its own driver."""

from __future__ import annotations

from bench.faults_ends import GameServer
from tests.runtime.conftest import StartProcess, until


async def test_a_game_server_that_comes_back_in_the_silence_says_its_state_once(
    start_process: StartProcess,
) -> None:
    gateway = start_process().wait_ready()
    url, trust = gateway.base_url, str(gateway.folder / "certs" / "ca.pem")
    server = GameServer("p", "w", trust, "websocket", [url])
    await until(lambda: server.told()["tick"] > 1)
    server.hush()
    server.at = []  # as a home ends a session whose world another home has
    await until(lambda: server.told()["at"] is None)
    server.at = [url]
    await until(lambda: server.told()["runs"] == 2 and server.told()["durable"] == server.told()["tick"])
    first, second = await server.end()
    assert list(second.sent) == [max(first.sent) + 1]
