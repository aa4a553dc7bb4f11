"""The one check at every door: who asks, by what, and how long what was granted stands. Room: core. Pure.

A door asks the :class:`Gate` once a request or session. What it gets is a :class:`Standing`: the grant in use, which
may end early (its time is over, or it was revoked) and may be renewed. Sources: RFC 6750 section 2 (where a bearer token
travels), RFC 9110 section 11.6.2 (``Authorization``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Final, Protocol
from urllib.parse import unquote_plus

from gateway.core.delay import at_least
from gateway.core.grants import Grant, Need
from gateway.core.ports import CloseCode, Link, LiveOptions
from gateway.errors import GatewayError, Unauthorized
from gateway.wire.control import Control

QUERY_KEY: Final = "token"
TOKEN_MESSAGE: Final = "token"
_SCHEME: Final = "bearer"


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody asks for. ``query``: without a token in it. ``peer``: whom it counts for. ``certificate``: the
    grant of the connection's client certificate."""

    method: str
    path: str
    query: str
    peer: str
    token: str | None = field(default=None, repr=False)
    certificate: Grant | None = None


class Standing:
    """A grant in use: by one request, or one session. Ended at most once, over exactly once."""

    __slots__ = ("_end", "_over", "ended", "grant", "is_session", "need")

    def __init__(self, grant: Grant, need: Need, over: Callable[[Standing], None]) -> None:
        self.grant = grant
        self.need = need
        self.is_session = False
        """It is a session's, one of so many at once, which has a budget of its own."""
        self.ended: tuple[str, CloseCode] | None = None
        """Why it ended before whoever uses it was done, and the code that says so."""
        self._end: Callable[[str, CloseCode], None] | None = None
        self._over: Callable[[Standing], None] | None = over

    def seen(self, query: str) -> str:
        """The query of what shows a world, with the grant's delay in it. Raises ``BadInput``."""
        return at_least(query, self.grant.delay_s) if self.need.is_read else query

    def ends_by(self, end: Callable[[str, CloseCode], None]) -> None:
        """How to end what uses it: ``end(reason, code)``, called at once where it has ended already."""
        self._end = end
        if self.ended is not None:
            end(*self.ended)

    def end(self, reason: str, code: CloseCode) -> None:
        """It stands no more."""
        if self.ended is None:
            self.ended = (reason, code)
            if self._end is not None:
                self._end(reason, code)

    def over(self) -> None:
        """Whoever used it is done. Idempotent."""
        over, self._over, self._end = self._over, None, None
        if over is not None:
            over(self)


class Gate(Protocol):
    """What the doors ask. Implemented by ``runtime/``."""

    def admit(self, asked: Asked) -> Standing | None:
        """The grant that lets this pass; None where nothing is needed. Raises ``Unauthorized``, ``GrantRefused`` or
        ``TooMany``. Nothing that was asked for has been looked at by then. Whoever gets one calls its ``over``."""

    def renew(self, standing: Standing, token: str, peer: str) -> None:
        """Go on by another token, of the same subject. Raises as :meth:`admit` does."""

    async def pace(self, standing: Standing, size: int) -> None:
        """Wait until so many bytes more may go out."""


current: ContextVar[Standing | None] = ContextVar("standing", default=None)
"""The standing in whose name the code runs; None where there is no access control."""


def check_current(need: Need) -> None:
    """Raises ``GrantRefused`` where whoever asks now may not have ``need``: for names that stand in no path."""
    standing = current.get()
    if standing is not None:
        standing.grant.check(need)


def check_current_name(verb: str, name: str) -> None:
    """The same for ``verb`` on one name."""
    if current.get() is not None:
        check_current(Need(verb, (name,)))


def check_current_owner(owner: str) -> None:
    """Raises ``GrantRefused`` where whoever asks now may not take the leases of ``owner``."""
    standing = current.get()
    if standing is not None:
        standing.grant.check_owner(owner)


def within_grant(options: LiveOptions) -> LiveOptions:
    """What a live session asks for, within the bounds of the grant in whose name it is opened."""
    standing = current.get()
    kbps = None if standing is None else standing.grant.kbps
    if kbps is None or options.role == "publish":
        return options
    asked = options.budget_kbps
    return replace(options, budget_kbps=kbps if asked is None else min(kbps, asked))


def hand_on(message: Control, link: Link) -> None:
    """What a session does with a control message of type ``token``: it is the gate's affair, by way of the link's
    ``on_token``. Where nobody asked for tokens there is none, and the message means nothing."""
    if message.type == TOKEN_MESSAGE and link.on_token is not None:
        link.on_token(message)


def credentials_of(headers: Iterable[tuple[str, str]], query: str) -> tuple[str | None, str]:
    """(the token, the query without it). ``headers``: names in lower case. Raises :class:`Unauthorized` for two."""
    given = [value for name, value in headers if name == "authorization"]
    # Another scheme than Bearer is handed on as it is, to be refused as no token: passing over it would let a
    # request in without the one that was meant.
    tokens = [_bearer(value) for value in given]
    if query:
        kept = []
        for field_text in query.split("&"):
            name, _, value = field_text.partition("=")
            if unquote_plus(name) == QUERY_KEY:
                tokens.append(unquote_plus(value))
            else:
                kept.append(field_text)
        query = "&".join(kept)
    # RFC 6750 section 2: one way of sending it a request. With two a proxy and the gateway might believe different
    # ones.
    if len(tokens) > 1:
        raise Unauthorized(
            "there are several tokens in this request, in headers or in the query; send one (two_places)",
            rule="two_places",
        )
    return (tokens[0] if tokens else None), query


def _bearer(value: str) -> str:
    scheme, _, token = value.strip().partition(" ")
    return token.strip() if scheme.lower() == _SCHEME else value


def challenge_of(error: GatewayError) -> str:
    """``WWW-Authenticate`` of a 401 (RFC 6750 section 3): without an error code where there was no token at all."""
    had_one = error.facts.get("rule") != "missing"
    return 'Bearer realm="mvgateway"' + (', error="invalid_token"' if had_one else "")
