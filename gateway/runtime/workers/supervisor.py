"""The first process of ``serve --workers``: starts the others, and starts again who ends. Room: runtime.

It serves nothing and has no event loop, so that it may fork whenever one is to be started again: what it has imported they
share. It holds the UDP sockets for as long as it lives, so that they keep their numbers in the kernel's group, and the TCP
ports, on which each worker listens by itself. Sources: fork(2), socket(7), signal(7).
"""

from __future__ import annotations

import gc
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

from gateway.config import Settings
from gateway.limits import WORKER_END_S, WORKER_START_S_MAX
from gateway.quic.udp.group import attach, program
from gateway.runtime import logs
from gateway.runtime.workers.children import STORE, Child, Children, Place, Ready, note
from gateway.runtime.workers.folder import GroupFolder
from gateway.runtime.workers.group import Group, Worker
from gateway.runtime.workers.renewal import Handed, Trial, renew
from gateway.runtime.workers.rolling import Rolling
from gateway.runtime.workers.waking import Waking

log = logging.getLogger("mvgateway.workers")

Serve = Callable[[Worker, Ready], int]
"""What a worker does: ``serve(worker, ready) -> exit code``."""
Own = Callable[[Group, socket.socket, socket.socket, Ready], int]
"""The same of the store's owner: ``own(group, listening, control, ready) -> exit code``."""


@dataclass(slots=True)
class Supervisor:
    """``serve`` and ``own`` run in processes of their own, forked from this one."""

    settings: Settings
    group: Group
    folder: GroupFolder
    owned: socket.socket | None
    serve: Serve
    own: Own
    out: TextIO
    stopping: int = 0
    stop_at: float = 0.0
    failed: bool = False
    has_program: bool = False
    is_told: bool = False
    looks: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    waking: Waking = field(init=False)
    children: Children = field(init=False)
    rolling: Rolling = field(init=False)
    trial: Trial | None = None

    def __post_init__(self) -> None:
        numbers = ([] if self.owned is None else [STORE]) + list(range(self.group.count))
        self.children = Children(self.looks, {number: Place() for number in numbers})
        self.waking = Waking(self.looks)
        patience_s = self.settings.drain_ms / 1_000 + WORKER_END_S
        self.rolling = Rolling(self.children, patience_s, self._tell_alive)

    # -- the whole life -------------------------------------------------------------------

    def run(self, before: Handed | None = None) -> int:
        """Until told to stop; the exit code. ``before``: what the image before has handed on."""
        self.waking.acquire()
        # Before fork: a collection in a child writes to the objects' headers, and so copies pages that all could
        # share (docs.python.org/3/library/gc.html#gc.freeze).
        gc.collect()
        gc.freeze()  # what is here now is shared by all, for as long as nobody looks through it
        try:
            self._attach_program()
            if before is None:
                self._start_first()
            else:
                self._go_on(before)
            while not self._is_over():
                self._turn()
        finally:
            if self.trial is not None:
                self.trial.end()
            self.children.kill_all()
            self.waking.give_back()
            self.looks.close()
        return 1 if self.failed else 0

    def _attach_program(self) -> None:
        self.has_program = attach(
            self.group.quic[0],
            program(self.group.count, range(self.group.count), layout=self.group.layout),
        )
        if not self.has_program:
            log.warning(
                "the kernel takes no program for the UDP port's sockets: packets of clients whose address changes are "
                "handed over between workers (mvgateway_quic_events_total, handed_over)"
            )

    def _start_first(self) -> None:
        """The owner, then the first worker, which makes what all share on disk, then the others."""
        for number, place in self.children.places.items():
            self._start(number)
            until = time.monotonic() + WORKER_START_S_MAX
            # The owner (-1) and the first worker (0): certificates and the reset key are made once, before the
            # others look for them.
            while number <= 0 and not self.stopping and not place.is_ready:
                self._turn()
                if place.child is None or time.monotonic() > until:
                    self.failed = True
                    self._stop()
                    return
            if self.stopping:
                return

    def _go_on(self, before: Handed) -> None:
        """With the processes of the image before, which are replaced one after the other."""
        self.is_told = True
        for number, place in self.children.places.items():
            place.restarts = before.places[number]["restarts"]
            child = before.child(number)
            if child is None:
                place.again_at = time.monotonic()
            else:
                self.children.adopt(number, child)
        self.rolling.begin()

    def _is_over(self) -> bool:
        return bool(self.stopping) and all(place.child is None for place in self.children.places.values())

    def _turn(self) -> None:
        """Wait for news, and deal with them."""
        for key, _ in self.looks.select(self._patience_s()):
            if key.data is None:
                for number in self.waking.come():
                    self._on_signal(number)
            elif self.children.hear(key.data):
                self._on_ready(key.data)
        # Not only at SIGCHLD: signals of one kind that come together are one (signal(7)), and processes are
        # several.
        for number, child, code in self.children.reap():
            self._ended(number, child, code)
        now = time.monotonic()
        if self.stopping:
            self._hurry(now)
            return
        for number in list(self.children.due(now)):
            self.children.places[number].restarts += 1
            self._start(number)
        self.rolling.turn(now)
        self._look_at_trial()

    def _patience_s(self) -> float:
        due = self.stop_at if self.stopping else self.children.next_due()
        # At least once a second, since the trial and the rolling have times of their own.
        return max(0.01, min(1.0, 1e9 if due is None else due - time.monotonic()))

    # -- signals --------------------------------------------------------------------------

    def _on_signal(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop()
        elif number == signal.SIGHUP:
            self._send_all(signal.SIGHUP)
        elif number == signal.SIGUSR2:
            self._try_anew()

    def _try_anew(self) -> None:
        """See whether what is installed now would start."""
        if self.trial is not None or self.rolling.is_under_way or not self.is_told or self.stopping:
            log.warning("SIGUSR2: not now; the workers are being started, replaced or stopped already")
            return
        note(logging.INFO, "renewing", process=os.getpid())
        self.trial = Trial()

    def _look_at_trial(self) -> None:
        why = None if self.trial is None else self.trial.look()
        if self.trial is None or why is None:
            return
        self.trial.end()
        self.trial = None
        if not why:
            try:
                renew(self.settings, self.group, self.folder, self.owned, self.children)
            except OSError as error:
                why = str(error)
        note(logging.ERROR, "not renewed", why=why)

    def _stop(self) -> None:
        """Drain all; a second time in a hurry, as one process would."""
        self.stopping += 1
        patience_s = (self.settings.lame_duck_ms + self.settings.drain_ms) / 1_000 + WORKER_END_S
        self.stop_at = time.monotonic() + patience_s
        self._send_all(signal.SIGTERM)

    def _send_all(self, number: int) -> None:
        for _, child in self.children.workers():
            child.signal(number)

    def _hurry(self, now: float) -> None:
        """The owner goes last; who does not go is killed."""
        workers, owner = [child for _, child in self.children.workers()], self.children.owner
        if now >= self.stop_at:
            for child in workers or ([owner] if owner else []):
                self.failed = True
                log.error("process %d does not end in time, and is killed", child.pid)
                child.signal(signal.SIGKILL)
            self.stop_at = now + WORKER_END_S
        elif not workers and owner is not None and owner.facts != {}:
            owner.facts = {}  # told once
            self.stop_at = now + WORKER_END_S
            owner.signal(signal.SIGTERM)

    # -- processes ------------------------------------------------------------------------

    def _start(self, number: int) -> None:
        # Before fork: what stands in the buffer would be written by both.
        self.out.flush()
        self.children.start(number, self._be, self.waking.forget)

    def _be(self, number: int, control: socket.socket, ready: Ready) -> int:
        """In the new process."""
        if number == STORE:
            assert self.owned is not None
            return self.own(self.group, self.owned, control, ready)
        if self.owned is not None:
            # A worker that kept it open would let connections in that nobody accepts, once the owner has died.
            self.owned.close()
        control.setblocking(False)
        return self.serve(Worker(self.group, number, control), ready)

    def _on_ready(self, number: int) -> None:
        place = self.children.places[number]
        assert place.child is not None
        if place.restarts:
            note(
                logging.WARNING if number == STORE else logging.INFO,
                "worker started again" if number != STORE else "store owner started again",
                worker=number,
                process=place.child.pid,
                restarts=place.restarts,
            )
        self.rolling.is_back(number, time.monotonic())
        if number != STORE:
            self._tell_alive()
        if not self.is_told and all(place.is_ready for place in self.children.places.values()):
            self.is_told = True
            first = self.children.places[0].child
            assert first is not None
            facts = {**(first.facts or {}), "workers": self.group.count}
            logs.show_facts(facts, as_json=self.settings.json_logs, out=self.out)

    def _tell_alive(self) -> None:
        """Who takes connections, to the kernel and to all who do."""
        alive, count = self.children.alive, self.group.count
        if self.has_program:
            # New connections only: packets of old ones still go to whoever leaves, to its end.
            taking = [number for number in alive if number != self.rolling.leaving]
            attach(
                self.group.quic[0], program(count, alive or range(count), taking or None, self.group.layout)
            )
        for number, child in self.children.workers():
            if number in alive:
                child.tell({"alive": alive})

    def _ended(self, number: int, child: Child, code: int) -> None:
        if self.stopping:
            self.failed = self.failed or code != 0
            return
        if not self.is_told and child.facts is None:
            self.failed = True  # the first start of all: what is wrong was said
            self._stop()
            return
        now = time.monotonic()
        if self.rolling.has_left(number, child):
            self._start(number)
            return
        lived_s = now - child.began
        again_in_s = self.children.places[number].put_off(lived_s, now)
        facts: dict[str, object] = {} if number == STORE else {"worker": number}
        note(
            logging.ERROR,
            "worker ended" if number != STORE else "store owner ended",
            **facts,
            process=child.pid,
            why=f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}",
            seconds=round(lived_s, 1),
            again_in_s=round(again_in_s, 2),
        )
        if number != STORE:
            self._tell_alive()


__all__ = ["Own", "Serve", "Supervisor"]
