"""What a supervisor begins with: ports, folder and group of its own, or those of the image before it. Room: runtime."""

from __future__ import annotations

import socket
from typing import TextIO

from gateway.config import Settings
from gateway.http.server import bind_tcp
from gateway.quic.connection.minting import IdLayout
from gateway.quic.udp.group import bind_group
from gateway.quic.udp.handing import pairs
from gateway.runtime.sockets import Sockets, bind_all
from gateway.runtime.workers.folder import GroupFolder
from gateway.runtime.workers.group import Group
from gateway.runtime.workers.renewal import Handed
from gateway.runtime.workers.supervisor import Own, Serve, Supervisor


def supervise(settings: Settings, count: int, reset_key: bytes, serve: Serve, own: Own, out: TextIO) -> int:
    """Serve by ``count`` workers until told to stop; the exit code. Raises :class:`ConfigError` naming the flag that mends it."""
    sockets = bind_all(settings, shared=True)
    owned = bind_tcp("127.0.0.1", 0) if "://" not in settings.store else None
    folder = GroupFolder.make()
    try:
        quic = bind_group(sockets.quic, count)
        group = Group(count, folder.path, reset_key, sockets, quic, pairs(count))
        group.layout = IdLayout.of(settings.server_id, settings.server_id_rotation)
        if owned is not None:
            group.store_url = f"http://127.0.0.1:{owned.getsockname()[1]}"
        return Supervisor(settings, group, folder, owned, serve, own, out).run()
    finally:
        _let_go(folder, sockets, owned)


def go_on(settings: Settings, before: Handed, serve: Serve, own: Own, out: TextIO) -> int:
    """The same with what the image before has handed on."""
    try:
        supervisor = Supervisor(settings, before.group, before.folder, before.owned, serve, own, out)
        return supervisor.run(before)
    finally:
        _let_go(before.folder, before.group.sockets, before.owned)


def _let_go(folder: GroupFolder, sockets: Sockets, owned: socket.socket | None) -> None:
    folder.remove()
    sockets.close()
    if owned is not None:
        owned.close()
