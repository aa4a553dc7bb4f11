"""``GET /v1/worlds/{world}/clip``: a stretch of a recording as a file. Room: http. Documented in ``docs/EXPORTS.md``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway import limits
from gateway.core.delay import KEY as DELAY
from gateway.core.delay import delay_of
from gateway.errors import BadInput
from gateway.http.queries import check_keys, u32
from gateway.wire import world_name

_TYPES = {
    ".sqlite": "application/vnd.sqlite3",
    ".csv": "text/csv; charset=utf-8",
    ".parquet": "application/vnd.apache.parquet",
    ".mcap": "application/octet-stream",
    ".glb": "model/gltf-binary",
}


class ClipFile(Protocol):
    """A file that is there until it is closed. ``name``: what a browser may call it."""

    path: Path
    name: str

    def close(self) -> None: ...


class ClipService(Protocol):
    """Who cuts. Raises only classes of :mod:`gateway.errors`."""

    async def clip(self, name: str, wanted: Mapping[str, object], *, delay_s: float = 0.0) -> ClipFile: ...


async def clip(request: Request, service: ClipService) -> Response:
    """``?format=&from=&to=[&epoch=]``."""
    query = request.query_params
    check_keys(query, ("format", "from", "to", "epoch", DELAY))
    begin, end = u32(query, "from"), u32(query, "to")
    if begin is None or end is None:
        raise BadInput("say which stretch: from and to, ticks of the newest epoch or of epoch")
    wanted = {
        "form": query.get("format", "sqlite"),
        "begin": begin,
        "end": end,
        "epoch": u32(query, "epoch"),
    }
    made = await service.clip(world_name(request.path_params["world"]), wanted, delay_s=delay_of(query))
    return _FileAnswer(made)


class _FileAnswer(Response):
    """Sends the file piece by piece. Its name goes as soon as it is open, so that nothing stays behind, whatever becomes
    of the answer."""

    def __init__(self, made: ClipFile) -> None:
        self._made = made

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        made = self._made
        try:
            file = await asyncio.to_thread(made.path.open, "rb")
        finally:
            await asyncio.to_thread(made.close)
        with file:
            size = os.fstat(file.fileno()).st_size
            headers = [
                (b"content-type", _TYPES[made.path.suffix].encode()),
                (b"content-length", str(size).encode()),
                (b"content-disposition", f'attachment; filename="{made.name}"'.encode()),
                (b"cache-control", b"no-store"),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            while piece := await asyncio.to_thread(file.read, limits.CLIP_PIECE_BYTES):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
