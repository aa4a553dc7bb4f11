"""Sessions that watch entities change. Room: runtime."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from gateway.core.entities import Changes, EntityPlace
from gateway.core.gate import hand_on
from gateway.core.inbox import Inbox
from gateway.core.pings import Pongs
from gateway.core.ports import CloseCode, Link
from gateway.errors import BadInput, GatewayError
from gateway.limits import (
    CONTROL_MESSAGE_BYTES_MAX,
    ENTITY_STREAM_POLL_S,
    LEASE_RENEW_S,
    RECONNECT_AFTER_MS,
)
from gateway.wire import encode_control, encode_error
from gateway.wire.control import TYPE_CONTROL, decode_control
from gateway.wire.entities.checks import check_name
from gateway.wire.entities.messages import encode_entity
from gateway.wire.entities.values import Change, Filter, change_head

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
    # By its id alone, which never changes; class, owner and tags may, and who watched it must learn that it
    # has left.
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
            # Cancelled by the service, that stops, or by on_closed(): then it goes nowhere, which does no
            # harm.
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
            # The next item is read only when this one is there: a slow watcher gets the newest state then,
            # and no queue grows.
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
