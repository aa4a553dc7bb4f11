"""The gateway's own pages: static files, read once, with a policy that keeps them to this origin. Room: http.

Source: Content Security Policy Level 3. ``'self'`` in ``connect-src`` holds for WebSocket and WebTransport of this origin too.
"""

from __future__ import annotations

from hashlib import blake2b
from importlib import resources
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PAGES = {"/": "index.html", "/map": "map.html", "/film": "film.html"}
_KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; worker-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def page_routes() -> list[Route]:
    """The pages, what they load from ``/web/``, and the web kit at ``/kit/``."""
    web = resources.files("gateway.web")
    pages = [_route(path, web / name, "text/html") for path, name in PAGES.items()]
    return [*pages, *_folder("/web/", web), *_folder("/kit/", resources.files("gateway") / "clients" / "web")]


def _folder(prefix: str, folder: Traversable) -> list[Route]:
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    found = [(file, _KINDS.get(file.name[file.name.rfind(".") :])) for file in files]
    return [_route(prefix + file.name, file, kind) for file, kind in found if kind is not None]


def _route(path: str, file: Traversable, kind: str) -> Route:
    body = file.read_bytes()
    tag = f'"{blake2b(body, digest_size=12).hexdigest()}"'
    headers = {"cache-control": "no-cache", "etag": tag, "content-security-policy": _POLICY}

    async def serve(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type=f"{kind}; charset=utf-8")

    return Route(path, serve, methods=["GET"])
