"""``mvgateway film``: the film room for films, without a gateway elsewhere. Room: cli."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli._bounds import check
from gateway.cli._files import need_file
from gateway.cli._source import FILM_WAY_OUT

if TYPE_CHECKING:
    from gateway.config import Settings

NAME = "film"
HELP = "look at films in a browser: a film room of their own, until Ctrl-C"
EXAMPLE = """
mvgateway film goal.sqlite
mvgateway film monday.sqlite tuesday.sqlite --port 7099
mvgateway film
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        type=Path,
        help="films (mvgateway clip), or exported worlds; others can be dropped on the page",
    )
    parser.add_argument(
        "--port", type=int, default=0, help="the page's port on this machine (default: any that is free)"
    )


def run(args: argparse.Namespace) -> int:
    import asyncio
    import tempfile

    import uvloop

    from gateway.config import Settings

    check("--port", args.port, 0, 65_535)
    with tempfile.TemporaryDirectory(prefix="mvgateway-film-") as folder:
        names = _copied(args.files, Path(folder, "store"))
        settings = Settings(
            port=0,
            plain=f"127.0.0.1:{args.port}",
            store=str(Path(folder, "store")),
            certs=str(Path(folder, "certs")),
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_show(settings, names))


def _copied(files: list[Path], folder: Path) -> list[str]:
    """The films as worlds of a store of their own, by the names of their files: they themselves are only read."""
    from gateway.errors import GatewayError, Unprocessable
    from gateway.runtime.films import free_name, put_film
    from gateway.store.embedded import EmbeddedStore

    names: list[str] = []
    store = EmbeddedStore.open(folder).blocking()
    try:
        for file in files:
            need_file(
                file,
                "film",
                f"name the films in it: mvgateway film {file}/*.sqlite" if file.is_dir() else FILM_WAY_OUT,
            )
            name = free_name(file.stem, names)
            try:
                put_film(store, file, name)
            except GatewayError as error:
                raise Unprocessable(f"{file}: {error.message}") from error
            names.append(name)
    finally:
        store.close()
    return names


async def _show(settings: Settings, names: list[str]) -> int:
    import asyncio
    import signal

    from gateway.errors import ConfigError
    from gateway.http.films import film_routes
    from gateway.runtime.films import Films
    from gateway.runtime.gateway import Gateway

    folder = Path(settings.store).parent
    over, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, over.set)
    try:
        gateway = await Gateway.start(
            settings,
            more=lambda made: film_routes(Films(made.store.blocking(), made.worlds, folder, names)),
        )
    except ConfigError as error:
        raise ConfigError(error.message.replace("--plain", "--port")) from error  # by what this verb calls it
    try:
        for name in names:
            await gateway.worlds.patch(
                name, {"retention": "record"}
            )  # nothing of it is let go while it is looked at
        assert gateway.plain_server is not None
        if not names:
            print(f"http://127.0.0.1:{gateway.plain_server.port}/", flush=True)
        for name in names:
            print(f"http://127.0.0.1:{gateway.plain_server.port}/film#{name}", flush=True)
        await over.wait()
    finally:
        await gateway.drain(1.0)
    return 0
