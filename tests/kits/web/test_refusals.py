"""How a session ended, by the shared vectors, told to the web kit in a real Chromium by a real WebSocket."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import websockets

from tests.e2e.conftest import pages as pages
from tests.kits.vectors.make import HERE
from tests.kits.web.test_kit import page_at

CASES: list[dict[str, Any]] = json.loads((HERE / "refusals.json").read_text())


async def _serve(socket: websockets.ServerConnection) -> None:
    """Hear the token, say what the case says, close as it says."""
    assert socket.request is not None
    case = CASES[int(socket.request.path.split("/")[3])]
    await socket.recv()
    if case["message"] is not None:
        await socket.send(bytes.fromhex(case["message"]))
    if case["close"] in (-1, 1006):
        socket.transport.abort()
    else:
        await socket.close(case["close"], "why")


async def test_a_page_takes_each_end_of_a_session_as_the_vectors_say(pages: str, tmp_path: Path) -> None:
    async with websockets.serve(_serve, "127.0.0.1", 0) as server, page_at(pages, tmp_path) as page:
        port = next(iter(server.sockets)).getsockname()[1]
        found = await page.evaluate(
            f"""Promise.all([...Array({len(CASES)}).keys()].map(async number => {{
              const pub = new kit.Publisher("http://127.0.0.1:" + {port}, String(number), {{ token: "text", transport: "websocket" }});
              const refused = [];
              pub.on("refused", code => refused.push(code));
              await new Promise(done => {{ pub.on("status", status => {{ if (status !== "connecting") done(); }}); pub.open().catch(() => {{}}); }});
              const said = [pub.status, refused, pub.error?.code ?? ""];
              pub.close();
              return said;
            }}))"""
        )
        for case, told in zip(CASES, found, strict=True):
            wanted = ["waiting", [], ""] if case["again"] else ["refused", [case["code"]], case["code"]]
            assert told == wanted, case["name"]
