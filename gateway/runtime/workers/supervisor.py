"""The first process of ``serve --workers``: binds the ports, starts the others, and starts again who ends. Room: runtime.

It serves nothing and has no event loop, so that it may fork whenever one is to be started again: what it has imported they
share. It holds the UDP sockets for as long as it lives, so that they keep their numbers in the kernel's group, and the TCP
ports, on which each worker listens by itself. Sources: fork(2), socket(7), signal(7).
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn, TextIO

from gateway.config import Settings
from gateway.errors import ConfigError, GatewayError
from gateway.http.server import bind_tcp
from gateway.limits import (
    WORKER_AGAIN_S_MAX,
    WORKER_AGAIN_S_MIN,
    WORKER_END_S,
    WORKER_START_S_MAX,
    WORKER_STEADY_S,
)
from gateway.quic.udp.group import attach, bind_group, program
from gateway.quic.udp.handing import pairs
from gateway.runtime import logs
from gateway.runtime.events import FACTS
from gateway.runtime.sockets import bind_all
from gateway.runtime.workers.group import Group, Worker

log = logging.getLogger("mvgateway.workers")

STORE: Final = -1
"""The owner of the embedded store, as a number among the workers."""
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)

Serve = Callable[[Worker, Callable[[dict[str, Any]], None]], int]
"""What a worker does: ``serve(worker, ready) -> exit code``."""
Own = Callable[[Group, socket.socket, socket.socket, Callable[[dict[str, Any]], None]], int]
"""The same of the store's owner: ``own(group, listening, control, ready) -> exit code``."""


@dataclass(slots=True)
class Child:
    """A process that was started. ``facts``: what it told when it was ready; None: it is not."""

    pid: int
    control: socket.socket
    began: float
    facts: dict[str, Any] | None = None
    heard: bytes = b""


@dataclass(slots=True)
class Place:
    """A worker's number, or the owner's. ``again_at``: when it is started again."""

    again_at: float | None = None
    pause_s: float = WORKER_AGAIN_S_MIN
    restarts: int = 0
    child: Child | None = None


@dataclass(slots=True)
class Supervisor:
    """``serve`` and ``own`` run in processes of their own, forked from this one."""

    settings: Settings
    group: Group
    owned: socket.socket | None
    serve: Serve
    own: Own
    out: TextIO
    places: dict[int, Place] = field(default_factory=dict)
    stopping: int = 0
    stop_at: float = 0.0
    failed: bool = False
    has_program: bool = False
    is_told: bool = False
    looks: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    woken: tuple[socket.socket, socket.socket] = field(default_factory=socket.socketpair)

    # -- the whole life -------------------------------------------------------------------

    def run(self) -> int:
        """Until told to stop; the exit code."""
        numbers = ([] if self.owned is None else [STORE]) + list(range(self.group.count))
        self.places = {number: Place() for number in numbers}
        before = self._take_signals()
        gc.collect()
        gc.freeze()  # what is here now is shared by all, for as long as nobody looks through it
        try:
            self.has_program = attach(self.group.quic[0], program(self.group.count, range(self.group.count)))
            if not self.has_program:
                log.warning(
                    "the kernel takes no program for the UDP port's sockets: packets of clients whose address changes are "
                    "handed over between workers (mvgateway_quic_events_total, handed_over)"
                )
            self._start_first()
            while not self._is_over():
                self._turn()
        finally:
            self._end(before)
        return 1 if self.failed else 0

    def _start_first(self) -> None:
        """The owner, then the first worker, which makes what all share on disk, then the others."""
        for number in self.places:
            self._start(number)
            until = time.monotonic() + WORKER_START_S_MAX
            while number <= 0 and not self.stopping and not self._is_ready(number):
                self._turn()
                if self.places[number].child is None or time.monotonic() > until:
                    self.failed = True
                    self._stop()
                    return
            if self.stopping:
                return

    def _is_ready(self, number: int) -> bool:
        child = self.places[number].child
        return child is not None and child.facts is not None

    def _is_over(self) -> bool:
        return bool(self.stopping) and all(place.child is None for place in self.places.values())

    def _turn(self) -> None:
        """Wait for news, and deal with them."""
        for key, _ in self.looks.select(self._patience_s()):
            if key.data is None:
                for number in self.woken[0].recv(4_096):
                    self._on_signal(number)
            else:
                self._hear(key.data)
        self._reap()
        now = time.monotonic()
        if self.stopping:
            self._hurry(now)
            return
        for number, place in self.places.items():
            if place.child is None and place.again_at is not None and now >= place.again_at:
                place.restarts += 1
                self._start(number)

    def _patience_s(self) -> float:
        due = [
            place.again_at
            for place in self.places.values()
            if place.again_at is not None and place.child is None
        ]
        if self.stopping:
            due = [self.stop_at]
        return max(0.01, min(1.0, min(due, default=1e9) - time.monotonic()))

    # -- signals --------------------------------------------------------------------------

    def _take_signals(self) -> dict[int, Any]:
        for end in self.woken:
            end.setblocking(False)
        self.looks.register(self.woken[0], selectors.EVENT_READ, None)
        signal.set_wakeup_fd(self.woken[1].fileno(), warn_on_full_buffer=False)
        return {number: signal.signal(number, _nothing) for number in SIGNALS}

    def _on_signal(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop()
        elif number == signal.SIGHUP:
            self._tell_all(signal.SIGHUP)

    def _stop(self) -> None:
        """Drain all; a second time in a hurry, as one process would."""
        self.stopping += 1
        patience_s = (self.settings.lame_duck_ms + self.settings.drain_ms) / 1_000 + WORKER_END_S
        self.stop_at = time.monotonic() + patience_s
        self._tell_all(signal.SIGTERM)

    def _tell_all(self, number: int) -> None:
        for at, place in self.places.items():
            if at != STORE and place.child is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(place.child.pid, number)

    def _hurry(self, now: float) -> None:
        """The owner goes last; who does not go is killed."""
        workers = [
            place.child for at, place in self.places.items() if at != STORE and place.child is not None
        ]
        owner = self.places[STORE].child if STORE in self.places else None
        if now >= self.stop_at:
            for child in workers or ([owner] if owner else []):
                self.failed = True
                log.error("process %d does not end in time, and is killed", child.pid)
                os.kill(child.pid, signal.SIGKILL)
            self.stop_at = now + WORKER_END_S
        elif not workers and owner is not None and owner.facts != {}:
            owner.facts = {}  # told once
            self.stop_at = now + WORKER_END_S
            os.kill(owner.pid, signal.SIGTERM)

    # -- processes ------------------------------------------------------------------------

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        self.out.flush()
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._be(number, theirs)
        theirs.close()
        ours.setblocking(False)
        place = self.places[number]
        place.again_at = None
        place.child = child = Child(pid, ours, time.monotonic())
        self.looks.register(ours, selectors.EVENT_READ, number)
        log.debug("%s started, process %d", _name(number), child.pid)

    def _be(self, number: int, control: socket.socket) -> NoReturn:
        """In the new process: nothing of the supervisor's stays but the sockets that all share."""
        code = 1
        try:
            os.setpgid(0, 0)  # Ctrl-C is the supervisor's affair
            signal.set_wakeup_fd(-1)
            for each in SIGNALS:
                signal.signal(each, signal.SIG_DFL)
            self.looks.close()
            for end in self.woken:
                end.close()
            for place in self.places.values():
                if place.child is not None:
                    place.child.control.close()
            code = self._serve(number, control)
        except GatewayError as error:
            print(f"mvgateway: {error.message}", file=sys.stderr)
            code = 2 if isinstance(error, ConfigError) else 1
        except BaseException:
            log.exception("%s has failed", _name(number))
        finally:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _serve(self, number: int, control: socket.socket) -> int:
        def ready(facts: dict[str, Any]) -> None:
            control.setblocking(True)
            control.sendall(json.dumps(facts).encode() + b"\n")
            control.setblocking(False)

        if number == STORE:
            assert self.owned is not None
            return self.own(self.group, self.owned, control, ready)
        if self.owned is not None:
            self.owned.close()
        control.setblocking(False)
        return self.serve(Worker(self.group, number, control), ready)

    def _hear(self, number: int) -> None:
        child = self.places[number].child
        if child is None:
            return
        try:
            news = child.control.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            news = b""
        child.heard += news
        if not news:
            self.looks.unregister(child.control)
        elif child.facts is None and child.heard.endswith(b"\n"):
            child.facts = json.loads(child.heard)
            self._on_ready(number, child)

    def _on_ready(self, number: int, child: Child) -> None:
        place = self.places[number]
        if place.restarts:
            _note(
                logging.WARNING if number == STORE else logging.INFO,
                "worker started again" if number != STORE else "store owner started again",
                worker=number,
                process=child.pid,
                restarts=place.restarts,
            )
        if number != STORE:
            self._tell_alive()
        if not self.is_told and all(self._is_ready(number) for number in self.places):
            self.is_told = True
            first = self.places[0].child
            assert first is not None
            facts = {**(first.facts or {}), "workers": self.group.count}
            logs.show_facts(facts, as_json=self.settings.json_logs, out=self.out)

    def _tell_alive(self) -> None:
        """Who takes connections, to the kernel and to all who do."""
        alive = [at for at in range(self.group.count) if self._is_ready(at)]
        if self.has_program:
            attach(self.group.quic[0], program(self.group.count, alive or range(self.group.count)))
        told = json.dumps({"alive": alive}).encode() + b"\n"
        for at in alive:
            child = self.places[at].child
            if child is not None:
                with contextlib.suppress(OSError):
                    child.control.send(told)

    def _reap(self) -> None:
        for number, place in self.places.items():
            child = place.child
            if child is None:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                self._ended(number, place, child, os.waitstatus_to_exitcode(status))

    def _ended(self, number: int, place: Place, child: Child, code: int) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self.looks.unregister(child.control)
        child.control.close()
        place.child = None
        if self.stopping:
            self.failed = self.failed or code != 0
            return
        now = time.monotonic()
        if not self.is_told and child.facts is None:
            self.failed = True  # the first start of all: what is wrong was said
            self._stop()
            return
        lived_s = now - child.began
        is_steady = lived_s >= WORKER_STEADY_S
        place.pause_s = WORKER_AGAIN_S_MIN if is_steady else min(place.pause_s * 2, WORKER_AGAIN_S_MAX)
        place.again_at = now if is_steady else now + place.pause_s
        why = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        _note(
            logging.ERROR,
            "worker ended" if number != STORE else "store owner ended",
            **({} if number == STORE else {"worker": number}),
            process=child.pid,
            why=why,
            seconds=round(lived_s, 1),
            again_in_s=round(place.again_at - now, 2),
        )
        if number != STORE:
            self._tell_alive()

    # -- the end --------------------------------------------------------------------------

    def _end(self, before: dict[int, Any]) -> None:
        """Nobody is left behind, nor anything on disk."""
        for place in self.places.values():
            if place.child is not None:
                with contextlib.suppress(OSError):
                    os.kill(place.child.pid, signal.SIGKILL)
                    os.waitpid(place.child.pid, 0)
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        self.looks.close()
        for end in self.woken:
            end.close()


def _nothing(number: int, frame: object) -> None:
    """It wakes the loop."""


def _name(number: int) -> str:
    return "the store's owner" if number == STORE else f"worker {number}"


def _note(level: int, event: str, **facts: object) -> None:
    log.log(level, event, extra={FACTS: facts})


def supervise(settings: Settings, count: int, reset_key: bytes, serve: Serve, own: Own, out: TextIO) -> int:
    """Serve by ``count`` workers until told to stop; the exit code. Raises :class:`ConfigError` naming the flag that mends it."""
    folder = Path(tempfile.mkdtemp(prefix="mvgateway-"))
    sockets = bind_all(settings, shared=True)
    owned = bind_tcp("127.0.0.1", 0) if "://" not in settings.store else None
    try:
        quic = bind_group(sockets.quic, count)
        group = Group(count, folder, reset_key, sockets, quic, pairs(count))
        if owned is not None:
            group.store_url = f"http://127.0.0.1:{owned.getsockname()[1]}"
        return Supervisor(settings, group, owned, serve, own, out).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        sockets.close()
        if owned is not None:
            owned.close()
