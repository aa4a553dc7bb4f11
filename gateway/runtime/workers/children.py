"""The processes that the supervisor has started: forked, heard and reaped. Room: runtime. Sources: fork(2), waitpid(2)."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, NoReturn

from gateway.errors import ConfigError, GatewayError
from gateway.limits import WORKER_AGAIN_S_MAX, WORKER_AGAIN_S_MIN, WORKER_STEADY_S
from gateway.runtime.events import FACTS

log = logging.getLogger("mvgateway.workers")

STORE: Final = -1
"""The owner of the embedded store, as a number among the workers."""

Ready = Callable[[dict[str, object]], None]
Be = Callable[[int, socket.socket, Ready], int]
"""What a process runs: ``be(number, control, ready) -> exit code``."""


@dataclass(slots=True)
class Child:
    """A process that was started. ``facts``: what it told when it was ready; None: it is not."""

    pid: int
    control: socket.socket
    began: float
    facts: dict[str, object] | None = None
    heard: bytes = b""

    def signal(self, number: int) -> None:
        """Send it one, unless it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def tell(self, facts: dict[str, object]) -> None:
        """A line over the wire, unless it is gone."""
        with contextlib.suppress(OSError):
            self.control.send(json.dumps(facts).encode() + b"\n")


@dataclass(slots=True)
class Place:
    """A worker's number, or the owner's. ``again_at``: when it is started again."""

    again_at: float | None = None
    pause_s: float = WORKER_AGAIN_S_MIN
    restarts: int = 0
    child: Child | None = None

    @property
    def is_ready(self) -> bool:
        """Whether a process is there, and has said so."""
        return self.child is not None and self.child.facts is not None

    def put_off(self, lived_s: float, now: float) -> float:
        """Have it started again: at once where it was steady, else after pauses that double. In how many seconds."""
        is_steady = lived_s >= WORKER_STEADY_S
        self.pause_s = WORKER_AGAIN_S_MIN if is_steady else min(self.pause_s * 2, WORKER_AGAIN_S_MAX)
        self.again_at = now if is_steady else now + self.pause_s
        return self.again_at - now


@dataclass(slots=True)
class Children:
    """By number. ``looks`` tells of what they say; the data of their keys are their numbers."""

    looks: selectors.BaseSelector
    places: dict[int, Place] = field(default_factory=dict)

    def workers(self) -> Iterator[tuple[int, Child]]:
        """Those that run, without the store's owner."""
        for number, place in self.places.items():
            if number != STORE and place.child is not None:
                yield number, place.child

    @property
    def owner(self) -> Child | None:
        """The store's owner, if it runs."""
        return self.places[STORE].child if STORE in self.places else None

    @property
    def alive(self) -> list[int]:
        """The workers that are ready."""
        return [at for at, place in self.places.items() if at != STORE and place.is_ready]

    def due(self, now: float) -> Iterator[int]:
        """Who is to be started again."""
        for number, place in self.places.items():
            if place.child is None and place.again_at is not None and now >= place.again_at:
                yield number

    def next_due(self) -> float | None:
        """When the next one is; None: nobody."""
        waiting = [place.again_at for place in self.places.values() if place.child is None]
        return min((at for at in waiting if at is not None), default=None)

    def start(self, number: int, be: Be, leave: Callable[[], None]) -> None:
        """Fork one. ``leave`` lets go, in the new process, of what is the supervisor's alone. fork(2)."""
        # A pair, not a pipe: the supervisor also talks, and its end tells the child by its closing that it is gone.
        ours, theirs = socket.socketpair()
        # No threads and no loop are here yet, so that a child may go on as it likes: after a fork among threads
        # only async-signal-safe calls are allowed (fork(2)).
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._become(number, theirs, be, leave)
        theirs.close()
        # Of the supervisor's end alone: O_NONBLOCK belongs to the open file, and each end is one of its own
        # (socketpair(2)).
        ours.setblocking(False)
        self.adopt(number, Child(pid, ours, time.monotonic()))
        log.debug("%s started, process %d", name_of(number), pid)

    def adopt(self, number: int, child: Child) -> None:
        """Listen to it from now on."""
        place = self.places[number]
        place.again_at, place.child = None, child
        self.looks.register(child.control, selectors.EVENT_READ, number)

    def hear(self, number: int) -> bool:
        """Take what a process says; True: it is ready now."""
        child = self.places[number].child
        if child is None:
            return False
        try:
            news = child.control.recv(65_536)
        except BlockingIOError:
            return False
        except OSError:
            news = b""
        child.heard += news
        # It has closed its end; that it has ended is known by waitpid().
        if not news:
            self.looks.unregister(child.control)
        elif child.facts is None and child.heard.endswith(b"\n"):
            child.facts = json.loads(child.heard)
            return True
        return False

    def reap(self) -> Iterator[tuple[int, Child, int]]:
        """Who has ended: the number, the process that it was, and its exit code (less than 0: a signal). waitpid(2)."""
        for number, place in self.places.items():
            child = place.child
            if child is None:
                continue
            # Each by its number, not -1: a trial of ours, which subprocess waits for, is a child too.
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                with contextlib.suppress(KeyError, ValueError):
                    self.looks.unregister(child.control)
                child.control.close()
                place.child = None
                yield number, child, os.waitstatus_to_exitcode(status)

    def kill_all(self) -> None:
        """At once, and wait for it."""
        for place in self.places.values():
            if place.child is not None:
                with contextlib.suppress(OSError):
                    os.kill(place.child.pid, signal.SIGKILL)
                    os.waitpid(place.child.pid, 0)

    def _become(self, number: int, control: socket.socket, be: Be, leave: Callable[[], None]) -> NoReturn:
        """In the new process: nothing of the supervisor's stays but the sockets that all share."""
        code = 1
        try:
            os.setpgid(0, 0)  # Ctrl-C is the supervisor's affair
            leave()
            self.looks.close()
            for place in self.places.values():
                if place.child is not None:
                    place.child.control.close()
            code = be(number, control, lambda facts: _say(control, facts))
        except GatewayError as error:
            print(f"mvgateway: {error.message}", file=sys.stderr)
            code = 2 if isinstance(error, ConfigError) else 1
        except BaseException:
            log.exception("%s has failed", name_of(number))
        finally:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            # Not sys.exit(): what unwinds here is the supervisor's stack, with its handlers and files.
            os._exit(code)


def _say(control: socket.socket, facts: dict[str, object]) -> None:
    control.setblocking(True)
    control.sendall(json.dumps(facts).encode() + b"\n")
    control.setblocking(False)


def name_of(number: int) -> str:
    """As the log says it."""
    return "the store's owner" if number == STORE else f"worker {number}"


def note(level: int, event: str, **facts: object) -> None:
    """An event with its facts, to the log."""
    log.log(level, event, extra={FACTS: facts})


__all__ = ["STORE", "Be", "Child", "Children", "Place", "Ready", "name_of", "note"]
