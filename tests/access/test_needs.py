"""Every route and every session path has a need: a new one without is refused, and found here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.core.grants import Grant, Need
from gateway.core.needs import need_of
from gateway.http import admin
from gateway.http.pages import PAGES, page_routes
from gateway.runtime.gateway import Gateway

FILLED = {
    "world": "w-1",
    "id": "sword",
    "owner": "ann",
    "ticket": "t-1:accept",
    "name": "somebody",
    "path": "x",
}
OPEN = {"/", "/healthz", "/readyz", "/certificate.sha256"}
"""What needs no grant, and why: docs/ACCESS.md, "What stays open"."""


def routes_of(app: Any) -> Iterator[tuple[str, str]]:
    """(method, path) of every route of an application, from the router itself."""
    inner = app
    while not hasattr(inner, "routes"):
        inner = getattr(inner, "_app", None) or inner.app
    for route in inner.routes:
        methods = getattr(route, "methods", None)
        if methods is None and route.path == "/{path:path}":
            continue  # every WebSocket: which path is a session's, doors say
        for method in methods or {"GET"}:
            yield method, re.sub(r"\{(\w+)(?::\w+)?\}", lambda match: FILLED[match[1]], route.path)


async def test_every_route_has_a_need(gated: Gateway) -> None:
    found = set(routes_of(gated.app))
    assert len(found) > 60
    without = {(method, path) for method, path in found if need_of(method, path) is None}
    assert not without, f"gateway/core/needs.py says nothing of {sorted(without)}"


async def test_every_route_of_the_admin_api_has_a_need(gated: Gateway) -> None:
    found = {(method, route.path) for route in admin.routes(gated.store) for method in route.methods or ()}
    assert {need_of(method, path) for method, path in found} == {Need("admin", (":store",))}


async def test_every_session_path_has_a_need(gated: Gateway) -> None:
    for suffix in gated.doors._openers:  # one that is added is to be found here, too
        need = need_of("GET", f"/v1/worlds/w-1/{suffix}")
        assert need is not None, suffix
        assert need.names == ("w-1",)


async def test_only_these_are_open(gated: Gateway) -> None:
    nothing = Grant()
    opened = {
        path
        for method, path in routes_of(gated.app)
        if (need := need_of(method, path)) is not None and need.verb == "open"
    }
    files = {route.path for route in page_routes()}
    assert set(PAGES) <= files
    assert all(path in PAGES or path.startswith(("/web/", "/kit/")) for path in files)
    assert opened == OPEN | files
    for method, path in routes_of(gated.app):
        need = need_of(method, path)
        assert need is not None
        if path not in opened and need.verb != "any":
            assert not nothing.allows(need), (method, path)


@pytest.mark.parametrize("verb", ["sub", "pub", "ent", "inv", "store"])
async def test_no_verb_but_admin_reaches_what_is_the_whole_gateways(gated: Gateway, verb: str) -> None:
    grant = Grant(**{verb: ("*",)})
    for method, path in (
        ("GET", "/metrics"),
        ("DELETE", "/v1/grants/x"),
        ("DELETE", "/v1/worlds/w-1"),
        ("PUT", "/v1/worlds/w-1"),
    ):
        need = need_of(method, path)
        assert need is not None
        assert not grant.allows(need)
