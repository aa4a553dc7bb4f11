"""Every session answers ``ping``: live, replay, also one that is live just now, and the watch of entities."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import websockets

from gateway.config import Settings
from gateway.runtime.gateway import Gateway
from gateway.wire import Control, decode_message, encode_control
from tests.patience import HANG_S


async def until_pong(socket: websockets.ClientConnection) -> int:
    """How many other messages came before it."""
    others = 0
    async with asyncio.timeout(HANG_S):
        while True:
            data = await socket.recv()
            assert isinstance(data, bytes)
            said = decode_message(data) if data[0] in (1, 16) else None
            if isinstance(said, Control) and said.type == "pong":
                return others
            others += 1


@pytest.mark.parametrize(
    "path", ["live?role=publish", "live", "replay?paused=1", "replay live", "entities/live"]
)
async def test_a_quiet_session_answers_a_ping(tmp_path: Path, path: str) -> None:
    gateway = await Gateway.start(
        Settings(port=0, plain="127.0.0.1:0", store=str(tmp_path / "s"), certs=str(tmp_path / "c"))
    )
    try:
        assert gateway.plain_server is not None
        at = f"ws://127.0.0.1:{gateway.plain_server.port}/v1/worlds/w"
        asked, _, command = path.partition(" ")
        async with websockets.connect(f"{at}/live?role=publish&epoch=1") as publisher:
            await publisher.recv()
            frame = bytes([1, 0, 0, 0, 1, 0, 0, 0]) + bytes(4) + (1).to_bytes(4, "little") + bytes(8)
            await publisher.send(frame + (5).to_bytes(4, "little") + (1).to_bytes(4, "little") + b"x")
            while b'"durable"' not in bytes(await publisher.recv()):  # type: ignore[arg-type]
                pass
            url = f"{at}/{asked}" + ("&takeover=1" if "publish" in asked else "")
            async with websockets.connect(url) as socket:
                if command:
                    await socket.send(encode_control(command))
                await socket.send(encode_control("ping"))
                await until_pong(socket)
                await asyncio.sleep(0.11)  # more often than that it does not answer
                await socket.send(encode_control("ping"))
                await until_pong(socket)
    finally:
        await gateway.drain(2.0)
