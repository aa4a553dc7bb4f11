"""What each path asks of a grant. Room: core. Pure: a method, a path and a query in, a :class:`Need` out.

One table for all doors. What is not in it has no need that could be met: a new route is refused until it stands here.
Sessions (WebSocket, WebTransport) ask as GET does. Source: ``docs/ACCESS.md``, "What needs what".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import parse_qsl

from gateway.core.grants import ANY, OPEN, SEE, Need
from gateway.limits import QUERY_FIELDS_MAX

METRICS: Final = ":metrics"
GRANTS: Final = ":grants"
STORE: Final = ":store"
"""What ``admin`` is asked for where it is of no world: no world's name has a colon, so ``*`` and these alone match."""

Fields = dict[str, list[str]]
Maker = Callable[["re.Match[str]", Fields], Need]


def need_of(method: str, path: str, query: str = "") -> Need | None:
    """What ``method path?query`` asks for. ``path`` is decoded, as routes see it. None: nothing here says, so refuse."""
    # HEAD shows what GET does, by its headers.
    method = "GET" if method == "HEAD" else method
    for methods, pattern, make in _RULES:
        if method in methods:
            match = pattern.fullmatch(path)
            if match is not None:
                return make(match, _fields(query))
    return None


def _fields(query: str) -> Fields:
    """The query's fields, as far as they can be read: what cannot, the route refuses."""
    found: Fields = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX)
    except ValueError:
        return found
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def _takes_over(fields: Fields) -> bool:
    return any(value not in ("0", "false") for value in fields.get("takeover", ()))


def _plain(verb: str, *names: str, is_read: bool = False) -> Maker:
    return lambda match, fields: Need(verb, names, is_read=is_read)


def _named(verb: str, *, is_read: bool = False) -> Maker:
    """``verb`` on the name that the path holds."""
    return lambda match, fields: Need(verb, (match[1],), _takes_over(fields), is_read)


def _live(match: re.Match[str], fields: Fields) -> Need:
    """A publisher writes, whoever else reads. Whoever says both ways is refused by the query's own rule."""
    publishes = "publish" in fields.get("role", ())
    return Need("pub" if publishes else "sub", (match[1],), _takes_over(fields), not publishes)


def _transfers(match: re.Match[str], fields: Fields) -> Need:
    return Need("ent", tuple(fields.get("world", ())), _takes_over(fields))


def _of_bodies(verb: str) -> Maker:
    """``verb`` on names that stand in the body: what reads it asks again."""
    return lambda match, fields: Need(verb, (), _takes_over(fields))


_WORLD: Final = "/v1/worlds/([^/]+)"
_ITEMS: Final = "/v1/inventories/([^/]+)/items"
_GET: Final = ("GET",)
_POST: Final = ("POST",)
_ONE: Final = ("GET", "PUT", "PATCH", "DELETE", "POST")
_TABLE: Final[tuple[tuple[Iterable[str], str, Maker], ...]] = (
    # The first that matches counts; each path is matched whole (fullmatch), so that none is open by its beginning.
    (_GET, "/(?:map|film)?", _plain(OPEN)),
    (_GET, r"/(?:web|kit)/[a-z_]+\.(?:js|css|svg)", _plain(OPEN)),
    (_GET, "/healthz", _plain(OPEN)),
    (_GET, "/readyz", _plain(OPEN)),
    (_GET, r"/certificate\.sha256", _plain(OPEN)),
    (_GET, "/metrics", _plain("admin", METRICS)),
    (("DELETE",), "/v1/grants/.+", _plain("admin", GRANTS)),
    (_GET, "/v1/layouts", _plain(ANY, is_read=True)),
    (_GET, "/v1/worlds", _plain(ANY, is_read=True)),
    (_GET, _WORLD, _named(SEE, is_read=True)),
    (("PUT", "PATCH", "DELETE"), _WORLD, _named("admin")),
    (_GET, _WORLD + "/frames", _named("sub", is_read=True)),
    (_POST, _WORLD + "/frames", _named("pub")),
    (_GET, _WORLD + "/frames/last", _named("sub", is_read=True)),
    (_POST, _WORLD + "/udp", _named("pub")),
    (_POST, _WORLD + "/home:give_up", _named("pub")),
    (_GET, _WORLD + "/live", _live),
    (_GET, _WORLD + "/replay", _named("sub", is_read=True)),
    (_GET, _WORLD + "/(?:recording|gaps|marks|timeline|verify|clip)", _named("sub", is_read=True)),
    (_POST, _WORLD + "/(?:marks|branch)", _named("admin")),
    (_GET, _WORLD + "/entities", _named("ent")),
    (_POST, _WORLD + "/entities:batch", _named("ent")),
    (_ONE, _WORLD + "/entities/[^/]+", _named("ent")),
    (_POST, _WORLD + "/leases", _named("ent")),
    (("PUT", "DELETE"), _WORLD + "/leases/[^/]+", _named("ent")),
    (_GET, _ITEMS, _named("inv")),
    (_POST, _ITEMS + ":batch", _named("inv")),
    (_ONE, _ITEMS + "/[^/]+", _named("inv")),
    (_POST, "/v1/inventories:trade", _of_bodies("inv")),
    (_POST, "/v1/transfers", _of_bodies("ent")),
    (_GET, "/v1/transfers", _transfers),
    (("GET", "POST"), "/v1/transfers/[^/]+", _of_bodies("ent")),
    (_GET, "/stat", _of_bodies("store")),
    (_POST, "/batch/(?:read|write|commit)", _of_bodies("store")),
    (_GET, "/time2version", _of_bodies("store")),
    (_POST, "/nslock/(?:acquire|release)", _of_bodies("store")),
    (_POST, "/api/[a-z_]+_namespace", _plain("admin", STORE)),
    (_POST, "/api/delete_unreferenced_content", _plain("admin", STORE)),
    (_GET, "/api/list_namespace", _plain("admin", STORE)),
    (_GET, "/fdb/status", _plain("admin", STORE)),
)
_RULES: Final = [(frozenset(methods), re.compile(path), make) for methods, path, make in _TABLE]
