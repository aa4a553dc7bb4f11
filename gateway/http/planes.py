"""What a door that others reach does not serve. Room: http.

The page plane reads and writes any database in the store, a world's own included, and asks nobody who is asking:
so it answers on loopback alone, unless the operator says otherwise. Source: docs/STORE.md.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import Forbidden

_CLOSED = "page_plane_is_closed"
FLAG = "--page-plane public"


class PagePlaneClosed(Forbidden):
    """The page plane or a lock, asked for at a door that others reach."""

    code = "page_plane_closed"
    title = "Page plane closed"


class WithoutPagePlane:
    """ASGI: the same app, at a door where :func:`check_page_plane` refuses."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[_CLOSED] = True
        await self._app(scope, receive, send)


def check_page_plane(scope: Scope) -> None:
    """Raise :class:`PagePlaneClosed` at such a door."""
    if scope.get(_CLOSED):
        raise PagePlaneClosed(
            "the page plane and its locks are not served at this address, which others reach: they write any database "
            f"of the store; use the loopback door (--plain), or start the gateway with {FLAG}"
        )
