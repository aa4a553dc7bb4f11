"""Entity sessions: watching changes, and following an entity from world to world. Room: runtime."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from gateway.core.bundle import Burst
from gateway.core.closing import close_code
from gateway.core.entities import Changes, EntityPlace
from gateway.core.gate import check_current, hand_on
from gateway.core.grants import Need
from gateway.core.inbox import Inbox
from gateway.core.pings import Pongs
from gateway.core.ports import CloseCode, Hosted, Link, LiveOptions, Refusal, Sent
from gateway.errors import BadInput, GatewayError, NotFound
from gateway.limits import (
    CONTROL_MESSAGE_BYTES_MAX,
    ENTITY_STREAM_POLL_S,
    LEASE_RENEW_S,
    RECONNECT_AFTER_MS,
)
from gateway.runtime.worlds import HostedWorlds
from gateway.wire import encode_control, encode_error
from gateway.wire.control import TYPE_CONTROL, decode_control
from gateway.wire.entities.checks import check_name
from gateway.wire.entities.messages import encode_entity
from gateway.wire.entities.values import Change, Filter, Removal, change_head

if TYPE_CHECKING:
    from gateway.runtime.entities.service import EntityService


@dataclass(frozen=True, slots=True)
class LiveQuery:
    """The query of ``/entities/live``. ``owner``: hold this owner's lease while the session lives."""

    wanted: Filter
    since: int | None = None
    owner: str | None = None
    takeover: bool = False

    @classmethod
    def parse(cls, query: str, headers: Mapping[str, str]) -> LiveQuery:
        """Raises :class:`BadInput`. ``Last-Event-ID`` stands for ``since`` where that is missing."""
        try:
            given = parse_qs(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=16)
        except ValueError as error:
            raise BadInput(f"the query cannot be read: {error}") from None
        one = {name: values[-1] for name, values in given.items()}
        strangers = set(one) - {"class", "owner", "tag", "prefix", "since", "lease", "takeover"}
        if strangers:
            raise BadInput(
                f"{sorted(strangers)} means nothing here; class, owner, tag, prefix, since, lease do"
            )
        since = one.get("since", headers.get("last-event-id"))
        if since is not None and not (since.isascii() and since.isdigit() and len(since) < 19):
            raise BadInput(f"since is a revision, not {since[:40]!r}")
        wanted = Filter(one.get("class"), one.get("owner"), one.get("tag"), one.get("prefix", ""))
        lease = one.get("lease")
        return cls(
            wanted,
            None if since is None else int(since),
            None if lease is None else check_name(lease, "lease"),
            one.get("takeover") == "1",
        )


def change_message(change: Change, wanted: Filter, bytes_max: int | None = None) -> bytes:
    """One change as an entity message; over ``bytes_max`` its state stays away (head: ``fetch``)."""
    head, state = change_head(change, wanted)
    message = encode_entity(head, state)
    if bytes_max is not None and len(message) > bytes_max:
        return encode_entity({**head, "fetch": True})
    return message


def of_interest(change: Change, wanted: Filter) -> bool:
    """Whether a watcher must hear of it: also of what matched once and does not any more."""
    return change.id.startswith(wanted.prefix)


def messages_of(news: Changes, wanted: Filter, bytes_max: int | None) -> list[bytes]:
    """What a watcher is sent for one item of a watch: changes, then how far they are complete."""
    found = [
        change_message(change, wanted, bytes_max) for change in news.changes if of_interest(change, wanted)
    ]
    mark = encode_control("revision", revision=news.revision, reset=news.reset)
    return [encode_control("reset", revision=news.revision), *found, mark] if news.reset else [*found, mark]


class _Quiet:
    """A session that takes nothing from its peer but fresh tokens and pings."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._inbox = Inbox(CONTROL_MESSAGE_BYTES_MAX)
        self._pongs = Pongs()

    def bye(self, reason: str, code: CloseCode) -> None:
        """As :meth:`gateway.core.ports.Hosted.bye`."""
        self._link.control(encode_control("bye", reason=reason, reconnect_after_ms=0))
        self._link.close(code, reason)

    def on_message(self, data: bytes, mono: float) -> None:
        try:
            if data[:1] == bytes([TYPE_CONTROL]):
                said = decode_control(data)
                hand_on(said, self._link)
                self._pongs.answer(said, self._link, mono)
        except GatewayError as error:
            self._refuse(error)

    def on_stream_data(self, stream_id: int, data: bytes, fin: bool, mono: float) -> None:
        try:
            for message in self._inbox.feed(stream_id, data, fin):
                self.on_message(message, mono)
        except GatewayError as error:
            self._refuse(error)

    def on_stream_reset(self, stream_id: int) -> None:
        self._inbox.reset(stream_id)

    def _refuse(self, error: GatewayError) -> None:
        self._link.control(encode_error(error))
        self._link.close(CloseCode.MALFORMED, error.message)

    def on_acked(self, token: int, count: int = 1) -> None: ...

    def on_lost(self, token: int) -> None: ...

    def on_writable(self, mono: float) -> None: ...


class WatchSession(_Quiet):
    """Changes of a place on a link, one batch after the other has arrived: order is kept, and what
    changes meanwhile is told by its newest state."""

    def __init__(
        self,
        service: EntityService,
        place: EntityPlace,
        asked: LiveQuery,
        link: Link,
        lease: Mapping[str, object] | None,
    ) -> None:
        self._service = service
        self._place = place
        super().__init__(link)
        self._asked = asked
        self._lease = lease
        welcome: dict[str, object] = {place.kind: place.name, "role": "entities"}
        if lease is not None:
            welcome["lease"] = lease["lease"]
        link.control(encode_control("welcome", **welcome))
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        renewing = None
        if self._lease is not None:
            renewing = asyncio.get_running_loop().create_task(self._renew(self._lease))
        try:
            news = await self._service.watch(self._place, self._asked.wanted, self._asked.since)
            await self._send_all(news)
        except GatewayError as error:
            self._link.control(encode_error(error))
            self._link.close(CloseCode.ERROR, error.message)
        except asyncio.CancelledError:
            self._link.control(encode_control("bye", reason="closing", reconnect_after_ms=RECONNECT_AFTER_MS))
            self._link.close(CloseCode.SHUTTING_DOWN, "closing")
            raise
        finally:
            if renewing is not None:
                renewing.cancel()

    async def _send_all(self, news: AsyncIterator[Changes]) -> None:
        bounded = self._link.transport == "websocket"
        async for item in news:
            most = self._link.message_bytes_max() if bounded else None
            handle = self._link.send_stream(messages_of(item, self._asked.wanted, most))
            while not self._link.stream_done(handle):  # noqa: ASYNC110 - a link tells no other way
                await asyncio.sleep(ENTITY_STREAM_POLL_S)

    async def _renew(self, lease: Mapping[str, Any]) -> None:
        """While this session lives, its owner's lease does; 5 s after it is gone it ends."""
        while True:
            await asyncio.sleep(LEASE_RENEW_S)
            try:
                await self._service.lease(self._place.name, lease["owner"], lease["lease"], takeover=False)
            except GatewayError as error:
                if not error.retry:
                    self._link.control(encode_error(error))
                    self._link.close(CloseCode.TAKEN_OVER, error.message)
                    return

    def on_closed(self, mono: float) -> None:
        self.task.cancel()


class TokenLink:
    """A link as one of the sessions that follow each other on it sees it: tokens carry which one."""

    def __init__(self, link: Link, generation: int) -> None:
        self._link = link
        self._high = generation << 48

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    def send(self, message: bytes, token: int) -> Sent:
        return self._link.send(message, self._high | token)

    def send_burst(self, burst: Burst, token: int) -> int | Refusal:
        return self._link.send_burst(burst, self._high | token)

    def mine(self, token: int) -> int | None:
        """The session's own token, or None for one of another session."""
        return token & ((1 << 48) - 1) if token >> 48 << 48 == self._high else None


class FollowSession:
    """A subscription that goes with an entity: ``moved``, then the new world's keyframe, on the same link."""

    def __init__(
        self, service: EntityService, worlds: HostedWorlds, world: str, options: LiveOptions, link: Link
    ) -> None:
        self._service = service
        self._worlds = worlds
        self._world = world
        self._options = options
        self._real_link = link
        self._link = TokenLink(link, 0)
        self._generation = 0
        self._inner: Hosted | None = None
        self._closed = False
        self.moves = 0

    async def start(self) -> None:
        """Attach to the world where the entity is now."""
        await self._attach()
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def _attach(self) -> None:
        check_current(Need("sub", (self._world,)))
        host = await self._worlds.host(self._world)
        if not self._closed:
            link: Any = self._link
            self._inner = await host.open_session(self._options, link)

    async def _run(self) -> None:
        try:
            while not self._closed:
                world, moved_us = await self._next_world()
                await self._until_seen(moved_us)
                await self._go(world)
        except GatewayError as error:
            self._real_link.control(encode_error(error))
            self._real_link.close(close_code(error), error.message)

    async def _until_seen(self, moved_us: int) -> None:
        """Who sees the world as it was some time ago hears of a move so much later."""
        delay_s = self._options.delay_s
        if delay_s:
            await asyncio.sleep(max(0.0, min(delay_s, moved_us / 1e6 + delay_s - time.time())))

    async def _next_world(self) -> tuple[str, int]:
        """Where the entity goes from here, as soon as it has, and when it went (µs since 1970)."""
        place = EntityPlace("world", self._world)
        news = await self._service.watch(place, Filter(), None)
        looked = False
        async for item in news:
            to = _moved(item.changes, self._options.follow)
            if to is None and (item.reset or not looked):
                to, looked = await self._moved_already(place), True
            if to is not None:
                return to
        raise NotFound(f"nothing more is heard of world {self._world}")

    async def _moved_already(self, place: EntityPlace) -> tuple[str, int] | None:
        try:
            await self._service.get(place, self._options.follow or "")
        except NotFound as error:
            moved_to = error.facts.get("moved_to")
            return None if moved_to is None else (str(moved_to), int(error.facts.get("moved_at_us", 0)))
        return None

    async def _go(self, world: str) -> None:
        check_current(Need("sub", (world,)))  # before it is told where that is
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.on_closed(time.monotonic())
        self._world = world
        self._generation += 1
        self._link = TokenLink(self._real_link, self._generation)
        self.moves += 1
        if not self._closed:
            url = f"/v1/worlds/{world}/live"
            self._real_link.control(
                encode_control("moved", world=world, url=url, entity=self._options.follow)
            )
        await self._attach()

    # --- ports.Session, handed on -----------------------------------------------------------

    def bye(self, reason: str, code: CloseCode) -> None:
        """As :meth:`gateway.core.ports.Hosted.bye`."""
        self._real_link.control(encode_control("bye", reason=reason, reconnect_after_ms=0))
        self._real_link.close(code, reason)

    def on_message(self, data: bytes, mono: float) -> None:
        if self._inner is not None:
            self._inner.on_message(data, mono)

    def on_stream_data(self, stream_id: int, data: bytes, fin: bool, mono: float) -> None:
        if self._inner is not None:
            self._inner.on_stream_data(stream_id, data, fin, mono)

    def on_stream_reset(self, stream_id: int) -> None:
        if self._inner is not None:
            self._inner.on_stream_reset(stream_id)

    def on_acked(self, token: int, count: int = 1) -> None:
        own = self._link.mine(token)
        if self._inner is not None and own is not None:
            self._inner.on_acked(own, count)

    def on_lost(self, token: int) -> None:
        own = self._link.mine(token)
        if self._inner is not None and own is not None:
            self._inner.on_lost(own)

    def on_writable(self, mono: float) -> None:
        if self._inner is not None:
            self._inner.on_writable(mono)

    def on_closed(self, mono: float) -> None:
        self._closed = True
        self.task.cancel()
        if self._inner is not None:
            self._inner.on_closed(mono)


def _moved(changes: Sequence[Change], entity_id: str | None) -> tuple[str, int] | None:
    for change in changes:
        if isinstance(change, Removal) and change.id == entity_id and change.moved_to:
            return change.moved_to, change.time_us
    return None
