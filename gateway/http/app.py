"""The one ASGI application, behind every HTTP door. Room: http. What it serves, it asks of the ports.

Other rooms add their routes by ``extra_routes`` (Starlette ``Route`` objects; a handler raises
:class:`gateway.errors.GatewayError`, and the problem document is made here).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import limits
from gateway.core.admission import PeerRates, Refusals
from gateway.core.gate import Gate
from gateway.core.origins import Origins
from gateway.core.ports import Doors, Worlds
from gateway.errors import GatewayError, TooMany
from gateway.http.answers import AnswerBudget, peer_of_scope
from gateway.http.bodies import DEFAULT_BOUNDS, BodyBounds
from gateway.http.budget import ByteBudget
from gateway.http.dataplane_call import PlaneEndpoint
from gateway.http.guard import AccessGuard
from gateway.http.metrics import CONTENT_TYPE, Metric, render
from gateway.http.origins import OriginGuard, refuse
from gateway.http.pages import page_routes
from gateway.http.problems import on_gateway_error, on_http_exception, status_response
from gateway.http.streaming import StreamingDoor
from gateway.http.websocket import WebSocketDoor
from gateway.http.worlds import NO_STORE, WorldRoutes
from gateway.wire.layouts import Layout

log = logging.getLogger("mvgateway.http")

T = TypeVar("T")

NOSNIFF = (b"x-content-type-options", b"nosniff")
"""On every answer: what a peer stored is never taken for a script or a page."""
NO_REFERRER = (b"referrer-policy", b"no-referrer")
"""Where there are tokens: no page's address, in which one may stand, is told to another site."""
PAGE_PLANE = ("/stat", "/batch/", "/time2version", "/nslock/")


class Application:
    """The app with its guard: counts answers, catches what no handler foresaw, ends bodies cleanly.

    ``origins``: which web pages are served; None: whoever can reach it. ``refusals``: where bounds' refusals count.
    ``gate``: who may do what; None: everybody everything. ``around``: put around the routes, behind origins and gate.
    """

    def __init__(
        self,
        routes: Sequence[BaseRoute],
        origins: Origins | None = None,
        refusals: Refusals | None = None,
        gate: Gate | None = None,
        around: Callable[[ASGIApp], ASGIApp] | None = None,
    ) -> None:
        self.refusals = Refusals() if refusals is None else refusals
        self.routes = tuple(routes)
        """What is answered here; docs/API.md lists it."""
        self.answers: dict[int, int] = {}
        self.unfinished = ByteBudget()
        """What all bodies that are not whole yet may hold together."""
        self.bodies = DEFAULT_BOUNDS
        """What a body may hold."""
        self.failures = 0
        self.rates: PeerRates | None = None
        """How fast each peer may ask; None: as it likes."""
        self._always = (NOSNIFF,) if gate is None else (NOSNIFF, NO_REFERRER)
        inner = Router(routes, redirect_slashes=False)
        handlers: Mapping[object, Callable[..., Awaitable[Response]]] = {
            HTTPException: on_http_exception,
            GatewayError: self._on_gateway_error,
        }
        # Outermost last: origins look before the gate, which looks before anything is done for a request.
        app: ASGIApp = _Shortcut(routes, ExceptionMiddleware(inner, handlers=handlers))
        app = app if around is None else around(app)
        app = AccessGuard(app, gate)
        self._app: ASGIApp = app if origins is None else OriginGuard(app, origins)

    def _check_rate(self, scope: Scope) -> None:
        """Raise :class:`TooMany` where this peer asks faster than it may. The page plane's clients ask thousands a
        second, on loopback, and have bounds of their own."""
        if self.rates is not None and not scope["path"].startswith(PAGE_PLANE):
            self.rates.take(peer_of_scope(scope), time.monotonic())

    async def _on_gateway_error(self, request: Request, error: Exception) -> Response:
        if isinstance(error, GatewayError):
            self.refusals.note(error)
        return await on_gateway_error(request, error)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Some servers ask whether an application is ready; this one has nothing to begin.
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        scope["app"] = self
        scope["unfinished"] = self.unfinished
        scope["bodies"] = self.bodies
        app = self._app
        try:
            self._check_rate(scope)
        except TooMany as error:
            self.refusals.note(error)
            app = _refusing(error)
        if scope["type"] == "websocket":
            await self._guarded(app, scope, receive, send, None)
            return
        body = _Body(receive)
        await self._guarded(app, scope, body.receive, self._answering(body, send), body)

    def _answering(self, body: _Body, send: Send) -> Send:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = message["status"]
                self.answers[status] = self.answers.get(status, 0) + 1
                body.answered = True
                message = {**message, "headers": [*message.get("headers", ()), *self._always]}
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                await body.discard()
            await send(message)

        return answer

    async def _guarded(
        self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, body: _Body | None
    ) -> None:
        try:
            await app(scope, receive, send)
        # A peer that left is no failure of ours, and a cancelled answer is its transport's to end.
        except (OSError, asyncio.CancelledError):
            raise
        except ClientDisconnect:
            raise ConnectionResetError("the client left inside its answer") from None
        except Exception:
            self.failures += 1
            log.exception("unforeseen failure at %s", scope["path"])
            if body is not None and not body.answered:
                response = status_response(500, "the gateway failed at this request; its log says why")
                await response(scope, receive, send)


class _Shortcut:
    """ASGI: the page plane by its path alone, before any other route is looked at; its endpoints answer for whatever
    they raise. All the rest goes to ``app``."""

    def __init__(self, routes: Sequence[BaseRoute], app: ASGIApp) -> None:
        self._app = app
        self._endpoints: dict[tuple[str, str], PlaneEndpoint] = {}
        for route in routes:
            if isinstance(route, Route) and isinstance(route.endpoint, PlaneEndpoint):
                for method in route.methods or ():
                    # The first of a path counts, as it does for Starlette.
                    self._endpoints.setdefault((method, route.path), route.endpoint)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp = self._app
        if scope["type"] == "http":
            app = self._endpoints.get((scope["method"], scope["path"]), app)
        await app(scope, receive, send)


def _refusing(error: GatewayError) -> ASGIApp:
    """An app that says no to everything."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await refuse(error, scope, receive, send)

    return app


class _Body:
    """Watches how far a request's body was read."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._over = False
        self.answered = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._over = True
        return message

    async def discard(self) -> None:
        """Read the rest of the body before the answer ends, to a bound: else a refusal may be lost to
        a reset."""
        if self._over:
            return
        left = limits.HTTP_DISCARD_BYTES_MAX
        try:
            async with asyncio.timeout(limits.HTTP_DISCARD_S_MAX):
                while not self._over and left > 0:
                    left -= len((await self.receive()).get("body", b""))
        except TimeoutError:
            pass


async def _lifespan(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


def build_app(
    worlds: Worlds,
    doors: Doors,
    *,
    extra_routes: Iterable[BaseRoute] = (),
    metrics: Callable[[], Iterable[Metric] | Awaitable[Iterable[Metric]]] = tuple,
    health: Callable[[], Mapping[str, object] | Awaitable[Mapping[str, object]]] = lambda: {"status": "ok"},
    ready: Callable[[], Mapping[str, object] | Awaitable[Mapping[str, object]]] = lambda: {"ready": True},
    certificate_sha256: Callable[[], str | None] = lambda: None,
    message_bytes_max: int = limits.STREAM_MESSAGE_BYTES_MAX,
    bodies: BodyBounds = DEFAULT_BOUNDS,
    unfinished_bytes_max: int = limits.HTTP_UNFINISHED_BYTES_MAX,
    origins: Origins | None = None,
    refusals: Refusals | None = None,
    answers: AnswerBudget | None = None,
    gate: Gate | None = None,
    around: Callable[[ASGIApp], ASGIApp] | None = None,
) -> Application:
    """The app. ``health`` answers ``{"status": "ok" | ...}`` (anything else than ok: 503), ``ready``
    ``{"ready": bool, ...}`` (false: 503, with what is missing);
    ``origins``: which web pages are served, None for all; ``refusals`` counts refusals by bounds."""

    async def layout_of(world: str) -> Layout | None:
        return (await worlds.info(world)).layout

    async def healthz(request: Request) -> Response:
        facts = dict(await _told(health()))
        return JSONResponse(facts, 200 if facts.get("status") == "ok" else 503, headers=NO_STORE)

    async def readyz(request: Request) -> Response:
        facts = dict(await _told(ready()))
        return JSONResponse(facts, 200 if facts.get("ready") else 503, headers=NO_STORE)

    async def show_metrics(request: Request) -> Response:
        return Response(render(await _told(metrics())), headers={**NO_STORE, "content-type": CONTENT_TYPE})

    async def certificate(request: Request) -> Response:
        digest = certificate_sha256()
        if digest is None:
            return status_response(404, "this gateway serves no certificate")
        headers = {**NO_STORE, "access-control-allow-origin": "*"}
        return Response(digest + "\n", headers=headers, media_type="text/plain")

    app = Application(
        [
            *WorldRoutes(worlds, message_bytes_max=message_bytes_max, answers=answers).routes(),
            *extra_routes,
            Route("/v1/worlds/{world}/live", StreamingDoor(doors, layout_of), methods=["GET"]),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", show_metrics),
            Route("/certificate.sha256", certificate),
            *page_routes(),
            # Any path: which of them are sessions only the doors know.
            WebSocketRoute("/{path:path}", WebSocketDoor(doors)),
        ],
        origins,
        refusals,
        gate,
        around,
    )
    # A quarter more than one message: else the largest that is allowed could never come whole.
    app.unfinished.bytes_max = max(unfinished_bytes_max, message_bytes_max * 5 // 4)
    app.bodies = bodies
    return app


async def _told(value: T | Awaitable[T]) -> T:
    """What is told at once, or once others were asked."""
    return await value if isinstance(value, Awaitable) else value
