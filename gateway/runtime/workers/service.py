"""Answering the other workers of the group: one Unix socket, and who does not say the secret first is not heard. Room: runtime."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

from starlette.types import ASGIApp

from gateway.core.ports import CloseCode, LiveOptions
from gateway.errors import GatewayError, PublisherPresent, WorldHeld
from gateway.http.links import TcpLink
from gateway.http.worldjson import posted_json
from gateway.limits import EDGE_DURABLE_S, FORWARD_QUEUE_BYTES, STREAM_MESSAGE_BYTES_MAX, WORKER_HELLO_S
from gateway.runtime.host import WorldHost
from gateway.runtime.workers.channel import Channel, Kind, failure
from gateway.runtime.workers.forward import Far
from gateway.runtime.workers.group import Worker
from gateway.runtime.workers.together import told_facts
from gateway.runtime.workers.tunnel import TunnelLink
from gateway.runtime.worlds import HostedWorlds

log = logging.getLogger("mvgateway.workers")

Told = dict[str, Any]
"""A question: ``what``, and its facts."""
Answer = Callable[[Told], Awaitable[object]]


class Service:
    """One worker's. ``app``: what serves requests that another worker hands on; ``answers``: of questions that are other parts'."""

    def __init__(
        self, worker: Worker, worlds: HostedWorlds, app: ASGIApp, answers: dict[str, Answer]
    ) -> None:
        self._worker = worker
        self._worlds = worlds
        self._app = app
        self._answers = {
            "worlds": self._tell_worlds,
            "changed": self._look_anew,
            "give_up": self._give_up,
            **answers,
        }
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._channels: set[Channel] = set()

    async def begin(self) -> None:
        """Answer from now on."""
        path = self._worker.path(self._worker.number)
        with suppress(FileNotFoundError):
            os.unlink(path)  # of an earlier life
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: Channel(self._connected), path)

    async def stop(self) -> None:
        """Answer no more. Idempotent."""
        if self._server is not None:
            self._server.close()
        for channel in list(self._channels):
            channel.abort()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        if self._worker.is_orphaned:
            with suppress(OSError):  # not the last one: others stand there
                os.unlink(self._worker.path(self._worker.number))
                self._worker.group.folder.rmdir()

    # -- the first frame ------------------------------------------------------------------

    def _connected(self, channel: Channel) -> None:
        # The folder is this user's alone; whoever connects all the same and says nothing is not waited for.
        timer = asyncio.get_running_loop().call_later(WORKER_HELLO_S, channel.abort)
        self._channels.add(channel)

        def on_hello(kind: int, data: bytes) -> None:
            timer.cancel()
            told = self._proven(kind, data)
            if told is None:
                channel.abort()
                return
            channel.hold()
            task = asyncio.get_running_loop().create_task(self._serve(channel, told))
            self._tasks.add(task)
            # The loop keeps only weak references to tasks
            # (docs.python.org/3/library/asyncio-task.html#asyncio.create_task).
            task.add_done_callback(self._tasks.discard)

        def on_lost() -> None:
            timer.cancel()
            self._channels.discard(channel)

        channel.on_frame, channel.on_end = on_hello, on_lost

    def _proven(self, kind: int, data: bytes) -> Told | None:
        try:
            told = json.loads(data) if kind == Kind.HELLO else None
        except ValueError:
            return None
        secret = str(told.get("secret", "")) if isinstance(told, dict) else ""
        # As bytes: compare_digest() refuses text that is not ASCII.
        if not hmac.compare_digest(secret.encode(), self._worker.group.secret.encode()):
            log.warning("somebody who is no worker of this gateway connected to %s", self._worker.number)
            return None
        return cast(Told, told)

    async def _serve(self, channel: Channel, told: Told) -> None:
        try:
            await self._dispatch(channel, told)
        except GatewayError as error:
            channel.write_json(Kind.FAILED, failure(error))
            channel.finish()
        # Not finish(): the other end must see that it was broken off.
        except (OSError, asyncio.CancelledError):
            channel.abort()
            raise
        except Exception as error:
            log.exception("what worker %s asked for has failed", told.get("from"))
            channel.write_json(Kind.FAILED, failure(GatewayError(f"another worker has failed: {error!r}")))
            channel.finish()

    async def _dispatch(self, channel: Channel, told: Told) -> None:
        what = told["what"]
        if what == "request":
            await Far(channel, told).run(self._app)
        elif what == "follow":
            self._follow(channel, told)
        elif what == "publish":
            await self._publish(channel, told)
        elif what == "post":
            await self._post(channel, told)
        else:
            channel.write_json(Kind.ANSWER, await self._answers[what](told))
            channel.finish()

    # -- worlds ---------------------------------------------------------------------------

    def _home(self, name: str) -> WorldHost:
        """The world, whose home is here. Raises ``WorldHeld`` where it is not."""
        host = self._worlds.hosts.get(name)
        if host is None or not host.homing.held or self._worlds.draining:
            raise WorldHeld.at(name, "", 0)
        return host

    def _follow(self, channel: Channel, told: Told) -> None:
        """Another worker follows the world as one reader does, every message in order."""
        host = self._home(told["world"])
        world, durable = host.world, host.world.journal.durable
        channel.write_json(
            Kind.ANSWER,
            {
                "epoch": world.state.epoch or world.last_epoch,
                "durable": None if durable is None else [durable.epoch, durable.tick],
                "records": len(world.state),
            },
        )
        _Follower(channel, host, f"worker {told['from']}")

    async def _publish(self, channel: Channel, told: Told) -> None:
        host = self._home(told["world"])
        link = TunnelLink(channel, told)
        given = told["options"]
        options = LiveOptions(**{**given, "keys": {}})
        session = await host.attach_publisher(options, link, lambda: not channel.is_lost)
        link.attach(session)
        channel.write_json(Kind.ANSWER, {})
        if channel.is_lost:
            link.lost()

    async def _post(self, channel: Channel, told: Told) -> None:
        host = self._home(told["world"])
        messages = _Messages(channel)
        channel.write_json(Kind.ANSWER, {})
        try:
            posted = await host.post(messages.all(), durable=told["durable"], by=told["by"])
            channel.write_json(Kind.END, posted_json(posted))
        except GatewayError as error:
            channel.write_json(Kind.FAILED, failure(error))
        channel.finish()

    async def _tell_worlds(self, told: Told) -> object:
        hosts = self._worlds.hosts
        wanted = [told["world"]] if "world" in told else list(hosts)
        return {
            name: told_facts(host.facts(), is_home=host.homing.held, home=host.homing.home.url)
            for name in wanted
            if (host := hosts.get(name)) is not None
        }

    async def _look_anew(self, told: Told) -> object:
        """Another worker has changed what is kept of a world, or what its records mean."""
        host = self._worlds.hosts.get(told["world"])
        if host is not None:
            await host.database.world.look_at_info()
        return {}

    async def _give_up(self, told: Told) -> object:
        host = self._home(told["world"])
        if host.world.publisher is not None:
            raise PublisherPresent(f"world {host.name} has a publisher; wait until it has left")
        await host.let_go()
        return {}


class _Follower:
    """One worker that follows one world: a link to it, a reader of it, and how far the store is."""

    def __init__(self, channel: Channel, host: WorldHost, address: str) -> None:
        self._channel = channel
        self._host = host
        self._ended: tuple[CloseCode, str] | None = None
        self._durable = host.world.journal.durable
        link = self._link = TcpLink("local", STREAM_MESSAGE_BYTES_MAX, self)
        link.address = address
        session = self._session = host.world.attach_subscriber(
            # Nothing is conflated for a worker: its own readers may have asked for every frame.
            link,
            LiveOptions(conflate=False),
            time.monotonic(),
        )
        link.attach(session)
        host.followers[session] = self.end
        channel.on_frame = lambda kind, data: None
        channel.on_lost = self._lost
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(EDGE_DURABLE_S, self._tell)

    @property
    def close(self) -> tuple[CloseCode, str] | None:
        return self._ended

    def write(self, message: bytes) -> None:
        self._channel.write(Kind.MESSAGE, message)

    def pending_bytes(self) -> int:
        return self._channel.pending_bytes()

    def finish(self, code: CloseCode, reason: str) -> None:
        self._ended = (code, reason)
        self._say_end(None)

    def end(self, known: tuple[int, int] | None) -> None:
        """This worker has stopped being the home. ``known``: what it leaves in the store."""
        self._say_end(known)

    def _say_end(self, known: tuple[int, int] | None) -> None:
        self._channel.write_json(Kind.CLOSE, {"known": known})
        self._channel.finish()

    def _tell(self) -> None:
        durable = self._host.world.journal.durable
        if durable is not None and durable != self._durable:
            self._channel.write_json(Kind.DURABLE, [durable.epoch, durable.tick])
        self._durable = durable
        self._timer = self._loop.call_later(EDGE_DURABLE_S, self._tell)

    def _lost(self) -> None:
        self._timer.cancel()
        self._host.followers.pop(self._session, None)
        self._link.gone()
        self._session.on_closed(time.monotonic())


class _Messages:
    """Messages of a POST that another worker hands on."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._came: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._waiting = 0
        channel.on_lost = self._lost
        channel.listen(self._take)

    def _lost(self) -> None:
        self._came.put_nowait(None)

    def _take(self, kind: int, data: bytes) -> None:
        if kind == Kind.END:
            self._came.put_nowait(None)
            return
        self._came.put_nowait(data)
        self._waiting += len(data)
        if self._waiting > FORWARD_QUEUE_BYTES and self._channel.transport is not None:
            self._channel.transport.pause_reading()

    async def all(self) -> AsyncIterator[bytes]:
        """In order, until the last."""
        while (message := await self._came.get()) is not None:
            self._waiting -= len(message)
            transport = self._channel.transport
            if self._waiting <= FORWARD_QUEUE_BYTES and transport is not None and not self._channel.is_lost:
                transport.resume_reading()
            yield message
