"""Films as worlds of a gateway that is there for them alone. Room: runtime; apsw enters here."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import apsw

from gateway import limits
from gateway.errors import GatewayError, Unprocessable
from gateway.runtime.worlds import HostedWorlds
from gateway.store.base import BlockingStore, Namespace
from gateway.store.world.files import import_file
from gateway.store.world.schema import is_world
from gateway.wire import is_world_name


def check_film(file: Path) -> None:
    """Raises :class:`Unprocessable` if the file is not a film; nothing is written to it."""
    try:
        connection = apsw.Connection(
            f"{file.absolute().as_uri()}?mode=ro&immutable=1",
            flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
        )
        try:
            is_film = is_world(connection)
        finally:
            connection.close()
    except (apsw.Error, GatewayError) as error:
        raise Unprocessable(f"it is no film: {error}") from None
    if not is_film:
        raise Unprocessable("it is no film: it is empty")


def put_film(store: BlockingStore, file: Path, name: str) -> None:
    """A film as the world of that name. Raises :class:`GatewayError`."""
    check_film(file)
    import_file(store, Namespace(name), file, new_key=lambda: os.urandom(16))


def free_name(wanted: str, taken: list[str]) -> str:
    """The film's own name if a world may have it and none has, else ``film-N``."""
    return wanted if is_world_name(wanted) and wanted not in taken else f"film-{len(taken) + 1}"


class Films:
    """Implements :class:`gateway.http.films.FilmService`. ``names``: of those that are there already."""

    def __init__(self, store: BlockingStore, worlds: HostedWorlds, folder: Path, names: list[str]) -> None:
        self._store = store
        self._worlds = worlds
        self._folder = folder
        self._names = names

    async def receive(self, name: str, pieces: AsyncIterator[bytes]) -> str:
        if len(self._names) >= limits.FILMS_MAX:
            raise Unprocessable(
                f"{limits.FILMS_MAX} films are open, which is the bound; begin `mvgateway film` anew"
            )
        descriptor, path = await asyncio.to_thread(tempfile.mkstemp, dir=self._folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                async for piece in pieces:
                    await asyncio.to_thread(file.write, piece)
            world = free_name(Path(name).stem, self._names)
            await asyncio.to_thread(put_film, self._store, Path(path), world)
        finally:
            os.unlink(path)
        self._names.append(world)
        await self._worlds.patch(world, {"retention": "record"})  # nothing of it goes while it is looked at
        return world
