"""Who may do what: patterns of names, and what stands in a token. Room: core. Pure: values in, a verdict out.

A *grant* is what its holder may do; a *need* (:mod:`gateway.core.needs`) is what a request asks for. What a grant does
not name, it does not allow. Source: ``docs/ACCESS.md``; RFC 7519 section 4 for the claims that have names there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.errors import BadInput, Forbidden
from gateway.limits import (
    BUDGET_KBPS_MAX,
    DELAY_S_MAX,
    GRANT_PATTERNS_MAX,
    GRANT_RPS_MAX,
    GRANT_SESSIONS_MAX,
    PATTERN_CHARS_MAX,
)

VERBS: Final = ("sub", "pub", "ent", "inv", "store", "admin")
"""What may be done with names. Source: ``docs/ACCESS.md``, "Claims"."""
OPEN: Final = "open"
"""The verb of what needs no grant at all."""
ANY: Final = "any"
"""The verb of what any grant will do for: the answer shows what it may see."""
SEE: Final = "see"
"""The verb of what may be known of a world by whoever may do anything with it."""
_MEANS: Final[Mapping[str, tuple[str, ...]]] = {SEE: ("sub", "pub", "ent", "admin")}
_PATTERN: Final = re.compile(r"[^\x00-\x20\x7f*]*\*?")


@dataclass(frozen=True, slots=True)
class Need:
    """What a request asks for: ``verb`` on all of ``names``. No names: on anything at all; bodies name the rest."""

    verb: str
    names: tuple[str, ...] = ()
    takeover: bool = False
    """Whether it takes a world or a lease from whoever has it."""
    is_read: bool = False
    """Whether it shows what ``sub`` shows: held back by the grant's delay."""


class GrantRefused(Forbidden):
    """A valid grant that does not go so far. ``rule``: ``verb``, ``name``, ``takeover``, ``owner``, ``delay``, ``path``."""

    code = "grant_refused"
    title = "Not granted"


class BadGrant(BadInput):
    """A claim ``mv`` that cannot be understood: nothing of it counts."""

    code = "bad_grant"
    title = "Grant not understood"


def matches(pattern: str, name: str) -> bool:
    """``plaza-*`` is every name that begins with ``plaza-``; a pattern without ``*`` is that name alone."""
    # Prefixes alone, no regular expressions: a pattern comes with every token, and none may take long to match.
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def covers(outer: str, inner: str) -> bool:
    """Whether every name that ``inner`` matches, ``outer`` does."""
    if not outer.endswith("*"):
        return outer == inner
    # ``a-*`` covers ``a-b`` and ``a-b*``, but not ``a*``, which also matches ``ab``.
    return inner.removesuffix("*").startswith(outer[:-1])


@dataclass(frozen=True, slots=True)
class Grant:
    """What one token, or one client certificate, allows.

    ``sub`` to ``admin``: patterns, as :func:`matches` reads them. ``owner``: whose leases may be taken, a pattern;
    None: nobody's. ``delay_s``: how far behind live ``sub`` shows. ``kbps`` (1,000 bits a second sent), ``rps``
    (requests a second) and ``sessions`` (at once) count for all tokens of one ``subject``; None: no bound of its own.
    ``expires_s``: Unix seconds.
    """

    sub: tuple[str, ...] = ()
    pub: tuple[str, ...] = ()
    ent: tuple[str, ...] = ()
    inv: tuple[str, ...] = ()
    store: tuple[str, ...] = ()
    admin: tuple[str, ...] = ()
    owner: str | None = None
    takeover: bool = False
    delay_s: float = 0.0
    kbps: int | None = None
    rps: int | None = None
    sessions: int | None = None
    subject: str = ""
    jti: str = field(default="", repr=False)
    kid: str = ""
    expires_s: float = math.inf
    issued_s: float | None = None
    """When it was signed (``iat``), Unix seconds; None: nobody said."""

    def patterns(self, verb: str) -> tuple[str, ...]:
        """The patterns that it holds for one of :data:`VERBS`."""
        found: tuple[str, ...] = getattr(self, verb) if verb in VERBS else ()
        return found

    def has(self, verb: str, name: str) -> bool:
        """Whether it allows ``verb`` on ``name``."""
        verbs = _MEANS.get(verb, (verb,))
        return any(matches(pattern, name) for one in verbs for pattern in self.patterns(one))

    def may_own(self, owner: str) -> bool:
        """Whether it may take the leases of ``owner``."""
        return self.owner is not None and matches(self.owner, owner)

    def refused_rule(self, need: Need) -> str | None:
        """The rule by which it does not allow ``need``: ``verb``, ``name`` or ``takeover``. None: it does."""
        if need.verb == OPEN:
            return None
        # Before the verb: whoever may do anything at all still may not throw others out.
        if need.takeover and not self.takeover:
            return "takeover"
        if need.verb == ANY:
            return None
        verbs = _MEANS.get(need.verb, (need.verb,))
        if not any(self.patterns(verb) for verb in verbs):
            return "verb"
        return None if all(self.has(need.verb, name) for name in need.names) else "name"

    def allows(self, need: Need) -> bool:
        """Whether it allows ``need``."""
        return self.refused_rule(need) is None

    def check(self, need: Need) -> None:
        """Raises :class:`GrantRefused`, which says by which rule, and never what would have passed."""
        rule = self.refused_rule(need)
        if rule is not None:
            raise GrantRefused(_WHY[rule].format(verb=need.verb), rule=rule, verb=need.verb)

    def check_owner(self, owner: str) -> None:
        """Raises :class:`GrantRefused` where the leases of ``owner`` are not its holder's to take."""
        if not self.may_own(owner):
            raise GrantRefused(
                "this grant does not stand for that owner; ask whoever signs your tokens for one that does",
                rule="owner",
                verb="ent",
            )


_WHY: Final[Mapping[str, str]] = {
    "verb": "this grant holds nothing for {verb!r}; ask whoever signs your tokens for one that does",
    "name": "this grant holds {verb!r} for other names; ask whoever signs your tokens for one that has this name",
    "takeover": "this grant may not take over from another; ask whoever signs your tokens, or leave takeover out",
}

EVERYTHING: Final = Grant(("*",), ("*",), ("*",), ("*",), ("*",), ("*",), owner="*", takeover=True)
"""What whoever asks may do at a gateway without access control."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The claim ``mv``, checked: of a token, or of a key. What it does not say is None or empty."""

    patterns: Mapping[str, tuple[str, ...]]
    owner: str | None = None
    takeover: bool = False
    delay_s: float | None = None
    kbps: int | None = None
    rps: int | None = None
    sessions: int | None = None

    @classmethod
    def of(cls, claim: object) -> Scope:
        """``claim``: a JSON value. Raises :class:`BadGrant`, also for a member that is not known: it may take away."""
        if not isinstance(claim, Mapping):
            raise BadGrant("the claim mv is missing or no object; docs/ACCESS.md lists its members")
        for name in claim:
            # Not passed over as elsewhere: a member of a later version may be one that takes rights away.
            if name not in _MEMBERS:
                raise BadGrant(f"the claim mv has a member {str(name)[:32]!r}, which is unknown here")
        return cls(
            {verb: _patterns(verb, claim.get(verb)) for verb in VERBS},
            _owner(claim.get("owner")),
            _flag("takeover", claim.get("takeover")),
            _number("delay_s", claim.get("delay_s"), 0, DELAY_S_MAX),
            _whole("kbps", claim.get("kbps"), BUDGET_KBPS_MAX),
            _whole("rps", claim.get("rps"), GRANT_RPS_MAX),
            _whole("sessions", claim.get("sessions"), GRANT_SESSIONS_MAX),
        )

    def excess(self, key: Scope) -> str | None:
        """The member in which this asks for more than ``key`` may give; None: in none."""
        for verb in VERBS:
            for wanted in self.patterns[verb]:
                if not any(covers(one, wanted) for one in key.patterns[verb]):
                    return verb
        if self.owner is not None and (key.owner is None or not covers(key.owner, self.owner)):
            return "owner"
        if self.takeover and not key.takeover:
            return "takeover"
        if self.delay_s is not None and key.delay_s is not None and self.delay_s < key.delay_s:
            return "delay_s"
        for name in ("kbps", "rps", "sessions"):
            wanted, most = getattr(self, name), getattr(key, name)
            if wanted is not None and most is not None and wanted > most:
                return name
        return None

    def grant(
        self,
        key: Scope | None,
        *,
        subject: str,
        jti: str,
        kid: str,
        expires_s: float,
        issued_s: float | None = None,
    ) -> Grant:
        """The grant that a token with this claim is, by a key of the scope ``key`` (None: of every scope). What the
        token leaves open and the key bounds, the key's bound holds for. Raises :class:`GrantRefused`."""
        over = None if key is None else self.excess(key)
        if over is not None:
            raise GrantRefused(
                f"this token asks for more than its key may give (mv.{over}), so nothing of it counts",
                rule="key_scope",
            )
        low = key or _UNBOUNDED
        return Grant(
            **self.patterns,
            owner=self.owner,
            takeover=self.takeover,
            delay_s=self.delay_s if self.delay_s is not None else (low.delay_s or 0.0),
            kbps=self.kbps if self.kbps is not None else low.kbps,
            rps=self.rps if self.rps is not None else low.rps,
            sessions=self.sessions if self.sessions is not None else low.sessions,
            subject=subject,
            jti=jti,
            kid=kid,
            expires_s=expires_s,
            issued_s=issued_s,
        )


_UNBOUNDED: Final = Scope(dict.fromkeys(VERBS, ("*",)), "*", True)
_MEMBERS: Final = frozenset((*VERBS, "owner", "takeover", "delay_s", "kbps", "rps", "sessions"))


def check_pattern(text: object, what: str) -> str:
    """A pattern: a name, or the beginning of names and one ``*`` at its end. Raises :class:`BadGrant`."""
    if not isinstance(text, str) or not 0 < len(text) <= PATTERN_CHARS_MAX or not _PATTERN.fullmatch(text):
        raise BadGrant(
            f"{what} has an entry that is no pattern: a pattern is a name, or the beginning of names and one * at "
            f"its end, of at most {PATTERN_CHARS_MAX} characters and without spaces"
        )
    return text


def _patterns(verb: str, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple) or len(value) > GRANT_PATTERNS_MAX:
        raise BadGrant(f"mv.{verb} is a list of at most {GRANT_PATTERNS_MAX} patterns")
    return tuple(check_pattern(one, f"mv.{verb}") for one in value)


def _owner(value: object) -> str | None:
    return None if value is None else check_pattern(value, "mv.owner")


def _flag(name: str, value: object) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    raise BadGrant(f"mv.{name} is true or false")


def _number(name: str, value: object, low: float, high: float) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise BadGrant(f"mv.{name} is a number from {low} to {high:g}")
    # Checked by its bounds alone: NaN is below none and above none, so that no comparison with it holds,
    # and it is refused.
    return float(value)


def _whole(name: str, value: object, high: int) -> int | None:
    if value is None:
        return None
    # For Python True is an int: `"kbps": true` must not be a bound of one kilobit.
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high:
        raise BadGrant(f"mv.{name} is a whole number from 1 to {high}")
    return value
