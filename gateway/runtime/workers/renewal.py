"""The supervisor made anew from what is installed now, in the same process, while the workers serve. Room: runtime.

``execve`` keeps the process, its children, and the descriptors that say so; all else is read anew. What the next image
has to know goes along in a file without a name. Whether it would start at all is tried in a process of its own before, for
after ``execve`` there is no way back. Sources: execve(2), pthread_sigmask(3) (what comes meanwhile waits).
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final, TypedDict

from gateway.config import Settings
from gateway.limits import RENEWAL_SAID_BYTES_MAX, WORKER_START_S_MAX
from gateway.quic.connection.minting import IdLayout
from gateway.quic.udp.handing import Pair
from gateway.runtime.sockets import Sockets
from gateway.runtime.workers.children import Child, Children, note
from gateway.runtime.workers.folder import GroupFolder
from gateway.runtime.workers.group import Group

log = logging.getLogger("mvgateway.workers")

STATE: Final = "_MVGATEWAY_RENEWAL"
"""In the environment of an image that follows another: the descriptor of what it has to know."""
TRIAL: Final = "_MVGATEWAY_TRIAL"
"""In that of a process that is only to say whether it would start."""
KEPT: Final = (
    "host",
    "port",
    "plain",
    "udp",
    "admin_api",
    "workers",
    "store",
    "certs",
    "server_id",
    "server_id_rotation",
)
"""Settings that stay as they were: sockets, folders and the number of workers are handed on."""
WAITING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)


def is_trial() -> bool:
    """Whether this process is only to say that it would start."""
    return TRIAL in os.environ


def is_renewed() -> bool:
    """Whether another image was before this one, and has handed on what it had."""
    return STATE in os.environ


class Trial:
    """The command of this process, tried."""

    def __init__(self) -> None:
        # Without ``with``: it is closed by end(), with the process that writes into it.
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._until = time.monotonic() + WORKER_START_S_MAX
        self._process = subprocess.Popen(
            command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # A file, not a pipe: nobody reads a pipe meanwhile, and whoever writes much would stop.
            stderr=self._said,
            env={**os.environ, TRIAL: "1"},
        )

    def look(self) -> str | None:
        """None: not known yet. An empty text: it would start. Else the reason why it would not."""
        code = self._process.poll()
        if code is None:
            if time.monotonic() < self._until:
                return None
            self._process.kill()
            self._process.wait()
            return f"it did not say within {WORKER_START_S_MAX:g} s whether it would start"
        return "" if code == 0 else self._last_words() or f"exit code {code}"

    def _last_words(self) -> str:
        size = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, size - RENEWAL_SAID_BYTES_MAX))
        return self._said.read().decode("utf-8", "replace").strip()

    def end(self) -> None:
        """Let go of it. Idempotent."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._said.close()


def command() -> list[str]:
    """How this process was started, to be started so again."""
    # orig_argv has the interpreter's own options as well (-m, -X), which argv has lost
    # (docs.python.org/3/library/sys.html#sys.orig_argv).
    return [sys.executable, *sys.orig_argv[1:]]


class ChildTold(TypedDict):
    """A process that runs, as the next image is told. ``control``: a descriptor."""

    pid: int
    control: int
    began: float
    facts: dict[str, object] | None
    heard: str


class PlaceTold(TypedDict):
    """A worker's number, or the owner's."""

    restarts: int
    child: ChildTold | None


class GroupTold(TypedDict):
    """What all workers have in common, descriptors apart."""

    count: int
    store_url: str | None
    secret: str
    run: str


class HandedTold(TypedDict):
    """All that the next image is told: descriptors by their numbers."""

    settings: dict[str, object]
    group: GroupTold
    folder: tuple[str, int]
    owned: int | None
    sockets: list[int | None]
    quic: list[int]
    hands: list[tuple[int, int]]
    places: dict[str, PlaceTold]


@dataclass(slots=True)
class Handed:
    """What the image before has handed on."""

    group: Group
    folder: GroupFolder
    owned: socket.socket | None
    settings: dict[str, object]
    places: dict[int, PlaceTold]

    def child(self, number: int) -> Child | None:
        """The process that runs under that number, if one does."""
        told = self.places[number]["child"]
        if told is None:
            return None
        control = socket.socket(fileno=told["control"])
        control.setblocking(False)
        return Child(told["pid"], control, told["began"], told["facts"], told["heard"].encode())


def renew(
    settings: Settings,
    group: Group,
    folder: GroupFolder,
    owned: socket.socket | None,
    children: Children,
) -> None:
    """Be the new image. Returns only where the system refuses, with nothing changed; raises ``OSError`` then. execve(2)."""
    state: HandedTold = {
        "settings": {name: getattr(settings, name) for name in KEPT},
        "group": {
            "count": group.count,
            "store_url": group.store_url,
            "secret": group.secret,
            "run": group.run,
        },
        "folder": (str(folder.path), folder.held),
        "owned": _number(owned),
        "sockets": [_number(sock) for sock in group.sockets],
        "quic": [sock.fileno() for sock in group.quic],
        "hands": [(reads.fileno(), writes.fileno()) for reads, writes in group.hands],
        "places": {
            str(number): {
                "restarts": place.restarts,
                "child": None if place.child is None else _child_told(place.child),
            }
            for number, place in children.places.items()
        },
    }
    # Not in the environment, where every process of this user reads it (proc_pid_environ(5)): the group's secret is
    # in it.
    with tempfile.TemporaryFile() as file:
        file.write(json.dumps(state).encode())
        file.flush()
        numbers = [file.fileno(), *_numbers(state)]
        for number in numbers:
            # PEP 446: Python's descriptors are closed at exec unless told otherwise.
            os.set_inheritable(number, True)
        # exec puts handlers back to their defaults, which end a process; the mask and what is pending stay
        # (execve(2), signal(7)).
        signal.pthread_sigmask(signal.SIG_BLOCK, WAITING)
        try:
            os.execve(sys.executable, command(), {**os.environ, STATE: str(file.fileno())})
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, WAITING)
            for number in numbers:
                os.set_inheritable(number, False)


def _child_told(child: Child) -> ChildTold:
    return {
        "pid": child.pid,
        "control": child.control.fileno(),
        "began": child.began,
        "facts": child.facts,
        "heard": child.heard.decode(),
    }


def _numbers(state: HandedTold) -> list[int]:
    """Every descriptor that a state names."""
    hands = [number for pair in state["hands"] for number in pair]
    controls = [place["child"]["control"] for place in state["places"].values() if place["child"]]
    singles = [state["owned"], state["folder"][1], *state["sockets"]]
    return sorted(
        {
            number
            for number in (*hands, *controls, *singles, *state["quic"])
            if number is not None and number >= 0
        }
    )


def handed(reset_key: bytes) -> Handed | None:
    """What the image before has handed on; None: there was none."""
    told = os.environ.pop(STATE, None)
    if told is None:
        return None
    with open(int(told), "rb") as file:
        file.seek(0)
        state: HandedTold = json.loads(file.read())
    for number in _numbers(state):
        os.set_inheritable(number, False)
    path, held = state["folder"]
    made = {number: socket.socket(fileno=number) for number in {*state["quic"], *_given(state["sockets"])}}
    group = Group(
        state["group"]["count"],
        Path(path),
        reset_key,
        Sockets._make(None if number is None else made[number] for number in state["sockets"]),
        [made[number] for number in state["quic"]],
        [_pair(*numbers) for numbers in state["hands"]],
        state["group"]["store_url"],
        state["group"]["secret"],
        state["group"]["run"],
        IdLayout.of(str(state["settings"]["server_id"]), int(str(state["settings"]["server_id_rotation"]))),
    )
    owned = None if state["owned"] is None else socket.socket(fileno=state["owned"])
    places = {int(number): place for number, place in state["places"].items()}
    return Handed(group, GroupFolder(Path(path), held), owned, state["settings"], places)


def kept_settings(settings: Settings, before: dict[str, Any]) -> Settings:
    """The settings read anew, but for those that only a stop and a start can change."""
    changed = sorted(name for name, value in before.items() if getattr(settings, name) != value)
    note(logging.INFO, "supervisor renewed", process=os.getpid(), need_a_restart=changed)
    return replace(settings, **before)


def _given(numbers: Sequence[int | None]) -> list[int]:
    return [number for number in numbers if number is not None]


def _number(sock: socket.socket | None) -> int | None:
    return None if sock is None else sock.fileno()


def _pair(reads: int, writes: int) -> Pair:
    return socket.socket(fileno=reads), socket.socket(fileno=writes)
