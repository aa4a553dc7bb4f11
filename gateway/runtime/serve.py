"""Run a gateway until it is told to stop. Room: runtime."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TextIO

import uvloop

from gateway.config import Settings
from gateway.errors import GatewayError
from gateway.limits import DESCRIPTORS_OWN, WORKERS_MAX
from gateway.runtime import logs, memory, process
from gateway.runtime.gateway import Gateway
from gateway.runtime.resetkey import reset_key
from gateway.runtime.workers.children import Ready
from gateway.runtime.workers.group import Group, Worker
from gateway.runtime.workers.heeding import heed
from gateway.runtime.workers.renewal import handed, is_renewed, is_trial, kept_settings

log = logging.getLogger("mvgateway")

EXIT_FORCED = 1
GC_THRESHOLD = (50_000, 20, 100)
"""Frames make no cycles: looking for them every 700 allocations costs more than it finds."""


def run(settings: Settings, out: TextIO = sys.stdout, load: Callable[[], Settings] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. A second signal does not wait for what the first began: the
    lame duck's time, or the drain.

    ``load`` reads the settings again: what SIGHUP does, and it renews certificates.
    """
    logs.set_up(settings.log_level, as_json=settings.json_logs)
    # Before anything large is allocated: glibc would have raised its thresholds by then.
    memory.tune_allocator()
    raise_descriptors(settings)
    load = load or (lambda: settings)
    # Everything that may be refused by settings was by now: a trial opens no door and no store.
    if is_trial():
        return 0
    count = workers_of(settings)
    if count > 1 or is_renewed():
        return _by_workers(settings, count, out, load)
    # Without a handler SIGUSR2 ends a process (signal(7)).
    signal.signal(signal.SIGUSR2, _say_that_one_is_alone)
    return _run(_serve(settings, out, load))


def _run(work: Coroutine[object, object, int]) -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def workers_of(settings: Settings) -> int:
    """How many processes are to serve: ``auto`` is one for each core that this process may use."""
    if settings.workers != "auto":
        return int(settings.workers)
    # Not os.cpu_count(): a container or taskset gives a process fewer cores than the machine has
    # (sched_setaffinity(2)).
    return min(len(os.sched_getaffinity(0)), WORKERS_MAX)


def _by_workers(settings: Settings, count: int, out: TextIO, load: Callable[[], Settings]) -> int:
    # Here and not above: a gateway of one process does without, and starts sooner.
    from gateway.runtime.workers.owner import own
    from gateway.runtime.workers.starting import go_on, supervise

    before = handed(reset_key(Path(settings.certs)))
    if before is not None:
        settings = kept_settings(settings, before.settings)

    def serve(worker: Worker, ready: Ready) -> int:
        return _run(_serve(settings, out, load, worker, ready))

    def keep(group: Group, sock: socket.socket, control: socket.socket, ready: Ready) -> int:
        control.setblocking(False)
        return _run(own(settings, sock, group.secret, control, lambda: ready({"owner": True})))

    if before is not None:
        return go_on(settings, before, serve, keep, out)
    return supervise(settings, count, reset_key(Path(settings.certs)), serve, keep, out)


def _say_that_one_is_alone(number: int, frame: object) -> None:
    log.warning(
        "SIGUSR2: one process cannot be replaced while it serves; use --workers 2 or more, or stop and start it"
    )


async def _serve(
    settings: Settings,
    out: TextIO,
    load: Callable[[], Settings],
    worker: Worker | None = None,
    ready: Ready | None = None,
) -> int:
    """``worker``: which of several this is; it tells ``ready`` what one alone prints."""
    stop, hurry = asyncio.Event(), asyncio.Event()
    stop_heeding: Callable[[], object] = stop.is_set

    def on_signal() -> None:
        # asyncio's handlers run between two turns of the loop, so that an Event may be set here; a handler of
        # signal.signal() may not.
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    hangups: list[None] = []
    loop.add_signal_handler(signal.SIGHUP, lambda: hangups.append(None))  # one that comes early does not kill
    if worker is not None:
        heeding = loop.create_task(heed(worker, stop=stop.set))
        stop_heeding = heeding.cancel
    gateway = await Gateway.start(settings, worker)
    if settings.quic_path != "fast":
        log.warning(
            "--quic-path %s has no effect any more: there is one way for packets; leave it out",
            settings.quic_path,
        )
    loop.add_signal_handler(signal.SIGHUP, lambda: _reload(gateway, load))
    if hangups:
        _reload(gateway, load)
    # Before freeze(), which would keep for good what is garbage already
    # (docs.python.org/3/library/gc.html#gc.freeze).
    gc.collect()
    gc.set_threshold(*GC_THRESHOLD)
    gc.freeze()  # what is here now stays: later collections need not look at it
    if ready is None:
        logs.show_facts(gateway.facts(), as_json=settings.json_logs, out=out)
    else:
        ready(dict(gateway.facts()))
    await stop.wait()
    stop_heeding()
    # A worker that leaves is followed by another at once: no balancer needs to be told.
    if worker is None or not worker.is_leaving:
        await _be_lame_duck(gateway, hurry)
    draining = asyncio.ensure_future(gateway.drain(gateway.settings.drain_ms / 1_000))
    hurried = asyncio.ensure_future(hurry.wait())
    await asyncio.wait((draining, hurried), return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    if draining.done() and draining.result():
        return 0
    log.error("stopped before the store had taken everything; what was announced as durable is there")
    # By hand: os._exit() runs no exit handlers and flushes nothing.
    logging.shutdown()
    out.flush()
    os._exit(EXIT_FORCED)  # threads may be waiting for a store that does not answer: nothing joins them


async def _be_lame_duck(gateway: Gateway, hurry: asyncio.Event) -> None:
    """``/readyz`` says no while the doors stay open, so that whoever balances sends nobody here any more."""
    gateway.is_lame_duck = True
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(hurry.wait(), gateway.settings.lame_duck_ms / 1_000)
        hurry.clear()  # a second signal ends this time, a third one the draining


def _reload(gateway: Gateway, load: Callable[[], Settings]) -> None:
    try:
        settings = load()
    except GatewayError as error:
        gateway.events.note("settings stay as they were", logging.ERROR, why=error.message)
        return
    gateway.reload(settings)


def raise_descriptors(settings: Settings) -> None:
    """Take as many file descriptors as the system gives, and say where that is fewer than the settings need."""
    had, have = process.raise_descriptors_max()
    doors = 1 + bool(settings.plain)
    needed = doors * settings.tcp_connections_max + DESCRIPTORS_OWN
    if have < needed:
        log.warning(
            "%d file descriptors (ulimit -n), and %d may be needed: %d TCP doors with --tcp-connections-max %d and %d "
            "of the gateway's own; raise the hard limit (LimitNOFILE= in a unit), or lower --tcp-connections-max",
            have, needed, doors, settings.tcp_connections_max, DESCRIPTORS_OWN,
        )  # fmt: skip
    elif have > had:
        log.debug("file descriptors raised from %d to %d", had, have)
