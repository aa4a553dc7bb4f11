"""Lists of entities: pages with a cursor, one stream for a cold start, and changes live. Room: http.
Source: docs/ENTITIES.md."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.core.entities import Changes, EntityPort
from gateway.errors import BadInput, GatewayError
from gateway.http.entities_requests import FILTERS, aside, filter_of, limit_of, moment_of, place_of
from gateway.http.events import as_event
from gateway.http.queries import check_keys, flag
from gateway.limits import ENTITY_PAGE_MAX
from gateway.wire import encode_control, encode_error, prefix
from gateway.wire.entities.checks import entity_json
from gateway.wire.entities.messages import ENTITIES_TYPE, encode_entity
from gateway.wire.entities.values import Filter, change_head

EVENTS_TYPE = "text/event-stream"
NO_STORE = {"cache-control": "no-store", "x-accel-buffering": "no"}


class ListRoutes:
    """``…/entities`` and ``…/entities/live`` as answers to GET."""

    def __init__(self, service: EntityPort) -> None:
        self._service = service

    async def list(self, request: Request) -> Response:
        check_keys(request.query_params, (*FILTERS, "after", "limit", "state", "at"))
        wanted, place = filter_of(request), place_of(request)
        if ENTITIES_TYPE in request.headers.get("accept", ""):
            pieces = await self._service.stream(place, wanted)
            return StreamingResponse(_guarded(pieces), headers=NO_STORE, media_type=ENTITIES_TYPE)
        limit = limit_of(request, 100, ENTITY_PAGE_MAX)
        shown, more, revision = await self._service.page(place, wanted, limit, moment_of(request))
        with_state = flag(request.query_params, "state")
        following = None
        headers = {"cache-control": "no-cache"}
        if more:
            following = shown[-1].id
            query = {**request.query_params, "after": following}
            headers["link"] = f'<{request.url.path}?{urlencode(query)}>; rel="next"'
        listed = await aside(
            lambda: ", ".join(entity_json(entity, entity.facts(), with_state) for entity in shown),
            sum(len(entity.state) for entity in shown) if with_state else 0,
        )
        text = f'{{"entities": [{listed}], "revision": {revision}, "next": {json.dumps(following)}}}'
        return Response(text, headers=headers, media_type="application/json")

    async def live(self, request: Request) -> Response:
        """Server-sent events, or length-prefixed messages. ``Last-Event-ID`` goes on from there. WHATWG HTML section 9.2."""
        check_keys(request.query_params, (*FILTERS, "since"))
        wanted, since = filter_of(request), _since(request)
        events = EVENTS_TYPE in request.headers.get("accept", "")
        news = await self._service.watch(place_of(request), wanted, since)
        pieces = _events(news, wanted) if events else _live_messages(news, wanted)
        media_type = EVENTS_TYPE if events else ENTITIES_TYPE
        return StreamingResponse(_guarded(pieces, events=events), headers=NO_STORE, media_type=media_type)


def _since(request: Request) -> int | None:
    value = request.query_params.get("since", request.headers.get("last-event-id"))
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) < 19):
        raise BadInput(f"since is a revision, not {value[:40]!r}")
    return int(value)


async def _guarded(pieces: AsyncIterator[bytes], *, events: bool = False) -> AsyncIterator[bytes]:
    """What goes wrong after the answer has begun is its last message, or its last event: ``error``."""
    try:
        async for piece in pieces:
            yield piece
    except GatewayError as error:
        told = encode_error(error)
        yield as_event(told) if events else prefix(told)
    finally:
        closing = getattr(pieces, "aclose", None)
        if closing is not None:
            await closing()


async def _events(news: AsyncIterator[Changes], wanted: Filter) -> AsyncIterator[bytes]:
    # Ignored: an AsyncIterator in its type, an async generator in fact, which alone has aclose().
    async with aclosing(news) as items:  # type: ignore[type-var]
        async for item in items:
            if item.reset:
                yield _event("reset", {"revision": item.revision})
            for change in item.changes:
                # Here and not below: changes are gathered once for all who watch a world, and only the
                # prefix differs.
                if not change.id.startswith(wanted.prefix):
                    continue
                head, state = change_head(change, wanted)
                if head["op"] == "put":
                    head["state_base64"] = base64.b64encode(state).decode()
                yield _event("entity", head)
            # The id stands on this one alone: whoever comes back by Last-Event-ID has then seen all changes
            # of that revision.
            yield _event("revision", {"revision": item.revision}, item.revision)


def _event(name: str, value: dict[str, object], ident: int | None = None) -> bytes:
    head = "" if ident is None else f"id: {ident}\n"
    return f"{head}event: {name}\ndata: {json.dumps(value, separators=(',', ':'))}\n\n".encode()


async def _live_messages(news: AsyncIterator[Changes], wanted: Filter) -> AsyncIterator[bytes]:
    async with aclosing(news) as items:  # type: ignore[type-var]
        async for item in items:
            parts = [prefix(encode_control("reset", revision=item.revision))] if item.reset else []
            parts += [
                prefix(encode_entity(*change_head(change, wanted)))
                for change in item.changes
                if change.id.startswith(wanted.prefix)
            ]
            parts.append(prefix(encode_control("revision", revision=item.revision)))
            yield b"".join(parts)
