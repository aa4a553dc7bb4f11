"""Where the keys come from: a file or folder, read again when told to, or the https URL of a JWK set. Room: runtime.

A set from elsewhere is asked for anew as its cache headers say, within bounds, and when a token names a key that is
not in it. While it cannot be had, or is no set, the last good one stays.
Sources: RFC 7517 section 5, RFC 9111 section 5.2.2 (``max-age``), RFC 9110 section 13.1.2 (``If-None-Match``).
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import httpx

from gateway import limits
from gateway.errors import ConfigError, GatewayError
from gateway.runtime.access.jwks import BadKey, Keys, by_kid, load_keys, read_set

_MAX_AGE = re.compile(r"(?:^|[,\s])max-age=(\d{1,9})", re.IGNORECASE)
_NEVER = re.compile(r"(?:^|[,\s])no-(?:store|cache)", re.IGNORECASE)

Note = Callable[..., None]
"""``(event, level, **facts)``: where it is written down that keys changed, or could not be had."""


class KeySource(Protocol):
    """``keys`` are those in use; ``on_change`` is called when they have changed."""

    keys: Keys
    on_change: Callable[[], None]

    async def begin(self) -> None: ...

    def reload(self) -> None:
        """Look anew. Raises :class:`BadKey` where what is there cannot be used: what was in use stays."""

    def miss(self) -> None:
        """A token has named a key that is not here."""

    def stop(self) -> None: ...


def key_source(where: str, ca: str, note: Note) -> KeySource:
    """The source that ``--auth-keys`` names. Raises :class:`BadKey`."""
    if "://" not in where:
        return Files(Path(where))
    if not where.startswith("https://"):
        raise BadKey(
            f"--auth-keys {where:.128}: keys are fetched by https only, or read from a file or a folder"
        )
    return Url(where, ca, note)


def _nothing() -> None: ...


class NoKeys:
    """Used where only client certificates are trusted: every token is refused."""

    def __init__(self) -> None:
        self.keys: Keys = {}
        self.on_change: Callable[[], None] = _nothing

    async def begin(self) -> None: ...

    def reload(self) -> None: ...

    def miss(self) -> None: ...

    def stop(self) -> None: ...


class Files:
    """A file or a folder. Raises :class:`BadKey` where it cannot be used from the start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.keys = load_keys(path)
        self.on_change: Callable[[], None] = _nothing

    async def begin(self) -> None:
        """Nothing to wait for."""

    def reload(self) -> None:
        self.keys = load_keys(self._path)
        self.on_change()

    def miss(self) -> None:
        """A file is read when told to, not when strangers name keys."""

    def stop(self) -> None: ...


class Url:
    """The https URL of a JWK set."""

    def __init__(self, url: str, ca: str, note: Note) -> None:
        self._url = url
        self._note = note
        self.keys: Keys = {}
        self.on_change: Callable[[], None] = _nothing
        self._etag = ""
        self._wanted = asyncio.Event()
        self._asked_at = -limits.AUTH_FETCH_AGAIN_S
        self._task: asyncio.Task[None] | None = None
        try:
            trust = ssl.create_default_context(cafile=ca or None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"--auth-ca {ca}: {error.strerror or error}") from None
        self._client = httpx.AsyncClient(
            # No redirect and no proxy of the environment: who says which keys count is the URL that was
            # given, and nobody else.
            verify=trust,
            timeout=limits.AUTH_FETCH_S_MAX,
            follow_redirects=False,
            trust_env=False,
        )

    async def begin(self) -> None:
        """Fetch once, or say why not, and go on asking."""
        wait_s = await self.fetch()
        self._task = asyncio.get_running_loop().create_task(self._go_on(wait_s))

    def reload(self) -> None:
        self._wanted.set()

    def miss(self) -> None:
        # Anybody can name keys that are not there: strangers must not have the other server asked as often
        # as they like.
        if time.monotonic() - self._asked_at >= limits.AUTH_FETCH_AGAIN_S:
            self._wanted.set()

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _go_on(self, wait_s: float) -> None:
        try:
            while True:
                try:
                    async with asyncio.timeout(wait_s):
                        await self._wanted.wait()
                except TimeoutError:
                    pass
                self._wanted.clear()
                wait_s = await self.fetch()
        finally:
            await self._client.aclose()

    async def fetch(self) -> float:
        """Ask for the set; how long what came may be used."""
        self._asked_at = time.monotonic()
        try:
            async with asyncio.timeout(limits.AUTH_FETCH_S_MAX):
                return await self._fetch()
        except GatewayError as error:
            why = error.message
        except (httpx.HTTPError, OSError, ssl.SSLError, TimeoutError) as error:
            why = f"--auth-keys {self._url:.128}: {str(error) or type(error).__name__}"
        kept = f"{len(self.keys)} keys stay in use" if self.keys else "nobody can come in until it answers"
        self._note("the keys could not be fetched", logging.ERROR, why=why, so=kept)
        return limits.AUTH_FETCH_AGAIN_S

    async def _fetch(self) -> float:
        headers = {"accept": "application/jwk-set+json, application/json", "accept-encoding": "identity"}
        if self._etag:
            headers["if-none-match"] = self._etag
        async with self._client.stream("GET", self._url, headers=headers) as answer:
            # Only with keys in hand: a 304 for none would leave the gate shut for ever.
            if answer.status_code == 304 and self.keys:
                return fresh_s(answer.headers.get("cache-control", ""))
            if answer.status_code != 200:
                raise BadKey(f"--auth-keys {self._url:.128}: it answers {answer.status_code}, not 200")
            text = b""
            async for piece in answer.aiter_raw():
                # Counted as it comes: the length that an answer states is the other side's word.
                text += piece
                if len(text) > limits.AUTH_JWKS_BYTES_MAX:
                    break
        where = f"--auth-keys {self._url:.128}"
        keys = by_kid(read_set(text, where, others_pass=True), where)
        if not keys:
            raise BadKey(f"{where}: there is no key of Ed25519 or P-256 in it")
        self._etag = answer.headers.get("etag", "")[:256]
        if set(keys) != set(self.keys):
            self._note("keys fetched", logging.INFO, keys=sorted(keys)[:8], of=len(keys))
        # Only whole sets: the last good one stays for as long as nothing better comes.
        self.keys = keys
        self.on_change()
        return fresh_s(answer.headers.get("cache-control", ""))


def fresh_s(cache_control: str) -> float:
    """For how long an answer with this ``Cache-Control`` is used here. RFC 9111 section 5.2.2.1."""
    match = _MAX_AGE.search(cache_control)
    asked = 0.0 if _NEVER.search(cache_control) else float(match[1]) if match else limits.AUTH_REFRESH_S
    # Within bounds: `max-age=0` would ask without a pause, and a year would keep a key that was taken back.
    return min(max(asked, limits.AUTH_REFRESH_S_MIN), limits.AUTH_REFRESH_S_MAX)
