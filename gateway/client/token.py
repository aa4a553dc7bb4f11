"""The token by which a gateway lets this client in: a string, or a function that fetches a fresh one. Room: client.

It is shown nowhere: not in ``repr``, an error or a log. Environment: ``MVGATEWAY_TOKEN`` stands in for the argument.
Sources: RFC 6750 section 2.1 (how it is sent), RFC 7519 section 4.1.4 (``exp``, read without checking: the
gateway checks); ``docs/ACCESS.md``.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import logging
import os
import stat
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from gateway import limits
from gateway.client.address import Address
from gateway.errors import ConfigError, GatewayError, StoreUnavailable

log = logging.getLogger("mvgateway.client")

TokenSource = str | Callable[[], str | Awaitable[str]]
"""A token, or a function (async or not) that gives one, fresh each time that it is called."""
ENV_TOKEN = "MVGATEWAY_TOKEN"
REFUSED = frozenset({"unauthorized", "grant_refused", "grant_ended", "forbidden"})
"""Codes of refusals that another token may mend."""


class NoToken(StoreUnavailable):
    """Whoever makes tokens gives none at the moment; it is asked again."""

    code = "no_token"
    title = "No token"


class Token:
    """One client's token. ``clock`` answers Unix seconds."""

    def __init__(self, source: TokenSource, clock: Callable[[], float] = time.time) -> None:
        self._source = source
        self._clock = clock
        self._text = _checked(source) if isinstance(source, str) else ""
        self._due_s = 0.0
        """When the next one is to be fetched, Unix seconds."""
        self._fetching: asyncio.Task[str] | None = None

    def __repr__(self) -> str:
        return f"<Token, {'made when asked for' if self.can_renew else 'given'}>"

    @classmethod
    def of(cls, source: TokenSource | Token | None, environ: Mapping[str, str] | None = None) -> Token | None:
        """``source``, or else that of ``environ`` (default: the process's); None: there is none."""
        if isinstance(source, Token):
            return source
        if source is None:
            source = (os.environ if environ is None else environ).get(ENV_TOKEN) or None
        return None if source is None else cls(source)

    @property
    def can_renew(self) -> bool:
        """True where a fresh one can be had."""
        return not isinstance(self._source, str)

    async def current(self) -> str:
        """The token to use now. Raises :class:`NoToken` where none can be fetched."""
        if not self.can_renew or (self._text and self._clock() < self._due_s):
            return self._text
        return await self.fresh()

    async def fresh(self) -> str:
        """One that was fetched after this was called, or is being fetched. Raises as :meth:`current`."""
        if not self.can_renew:
            return self._text
        # One for all who ask: three sessions of one client must not fetch three.
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
        # Whoever stops waiting does not take it from the others.
        return await asyncio.shield(self._fetching)

    async def _fetch(self) -> str:
        assert callable(self._source)
        try:
            async with asyncio.timeout(limits.CLIENT_TOKEN_S_MAX):
                found = self._source()
                text = await found if inspect.isawaitable(found) else found
        except GatewayError:
            raise
        except TimeoutError:
            raise NoToken(f"the function token= gave none within {limits.CLIENT_TOKEN_S_MAX:g} s") from None
        except Exception as error:  # the user's own: what it says may hold a secret
            raise NoToken(f"the function token= failed with {type(error).__name__}") from None
        self._text, now_s = _checked(text), self._clock()
        expires_s = expiry_s(self._text)
        self._due_s = float("inf") if expires_s is None else expires_s - margin_s(expires_s - now_s)
        return self._text

    @property
    def due_in_s(self) -> float | None:
        """In how many seconds a fresh one is wanted; None: never."""
        if not self.can_renew or self._due_s == float("inf"):
            return None
        return max(0.0, self._due_s - self._clock())


class Chances:
    """The token as it is used, and whether a refusal is worth another try with a fresh one: once, until the gateway lets
    this client in."""

    def __init__(self, token: Token | None) -> None:
        self.token = token
        self._left = True

    async def headers(self) -> dict[str, str]:
        """What to send along. Raises :class:`NoToken`."""
        if self.token is None:
            return {}
        return {"authorization": f"Bearer {await self.token.current()}"}

    def let_in(self) -> None:
        """The gateway did."""
        self._left = True

    async def renewed(self, error: GatewayError, told: Mapping[str, str]) -> bool:
        """True once there is another token than that in ``told``, which may be let in where that was refused.
        Raises :class:`NoToken`."""
        token = self.token
        if error.code not in REFUSED or token is None or not token.can_renew:
            return False
        # Somebody has fetched another one since: that one is tried before the source is asked again.
        if dict(told) != await self.headers():
            return True
        if not self._left:
            return False
        self._left = False
        await token.fresh()
        return True


def _checked(text: object) -> str:
    """Raises :class:`ConfigError`, which does not repeat it."""
    if not isinstance(text, str) or not text.strip() or not text.strip().isascii() or " " in text.strip():
        raise ConfigError("token= is no token: it is one line of letters, digits, '-', '_' and '.'")
    if len(text) > limits.CLIENT_TOKEN_CHARS_MAX:
        raise ConfigError(
            f"token= has {len(text)} characters; a token has at most {limits.CLIENT_TOKEN_CHARS_MAX}"
        )
    return text.strip()


def expiry_s(token: str) -> float | None:
    """When a token ends by its own word (Unix seconds); None where it does not say."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return float(claims["exp"])
    except (ValueError, KeyError, TypeError):
        return None


def margin_s(left_s: float) -> float:
    """So long before its end a token that has so long left is renewed: a quarter, at most some minutes."""
    return min(max(left_s, 0.0) / 4, limits.CLIENT_TOKEN_MARGIN_S_MAX)


def from_file(path: str | Path) -> Callable[[], str]:
    """A source that reads the file each time: whoever keeps it fresh writes a new one there. Says where others can read
    it. Raises :class:`ConfigError`, when called."""

    def read() -> str:
        try:
            with open(path, encoding="ascii") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                # A line's end and one more, by which _checked() sees that it is too long.
                text = file.read(limits.CLIENT_TOKEN_CHARS_MAX + 2)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it is no text of ASCII"
            raise ConfigError(
                f"--token-file {_shown(path)}: {why}; it takes a file that holds the token, {ENV_TOKEN} the token itself"
            ) from None
        if mode & 0o044 and str(path) not in _told:
            _told.add(str(path))
            log.warning("%s can be read by other users of this machine: chmod 600 it", path)
        return text

    return read


def _shown(path: str | Path) -> str:
    """A file's name, but no token that was given in its place."""
    return "(a token)" if str(path).count(".") == 2 and str(path).startswith("ey") else str(path)


_told: set[str] = set()
"""Files of which that was said: a bounded few, those that this process was given."""


def check_secret(address: Address, token: Token | None) -> None:
    """Raises :class:`ConfigError` where the token would cross a network in clear text."""
    if token is not None and not address.secure and not address.loopback:
        raise ConfigError(
            f"a token would go to {address.base_url} in clear text, for everybody on the way to read; use https://"
        )
