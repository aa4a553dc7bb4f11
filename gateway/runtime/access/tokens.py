"""From a token to a grant, or to the rule that it breaks. Room: runtime. Time is an argument.

Sources: RFC 7519 (JWT), RFC 7515 (JWS compact form), RFC 8725 (best practices: one algorithm a key, nothing from the
token's header but the name of the key). The signature and the times are joserfc's to check.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from joserfc import jws
from joserfc.errors import (
    BadSignatureError,
    ExpiredTokenError,
    InvalidClaimError,
    JoseError,
    MissingClaimError,
)
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry

from gateway.core.grants import BadGrant, Grant, Scope
from gateway.errors import Unauthorized
from gateway.limits import (
    TOKEN_CHARS_MAX,
    TOKEN_LEEWAY_S,
    TOKEN_LIFETIME_S_MAX,
    TOKEN_NAME_CHARS_MAX,
)
from gateway.runtime.access.jwks import ALGORITHMS, Keys, PublicKey

_HEADER: Final = frozenset({"alg", "kid", "typ"})


class _Registry(JWSRegistry):
    """joserfc's, without its word at each use that EdDSA has a new name since RFC 9864: both names mean the same."""

    def get_alg(self, name: str) -> Any:
        # The algorithm comes from the key, never from the token: "none", or a public key taken for a shared
        # secret, stay without effect (RFC 8725 sections 3.1 and 2.1).
        if self.allowed is None or name not in self.allowed:
            raise BadSignatureError
        return self.algorithms[name]


_REGISTRIES: Final = {alg: _Registry(algorithms=[alg]) for alg in ALGORITHMS.values()}


def verify(token: str, keys: Keys, audience: str, now_s: float) -> Grant:
    """The grant that ``token`` is at ``now_s`` (Unix seconds). ``audience``: what ``aud`` must name; "": no token that
    names one. Raises :class:`Unauthorized` with the rule that it breaks, ``GrantRefused`` for more than its key gives.
    RFC 7515 section 5.2; RFC 7519 section 7.2."""
    if len(token) > TOKEN_CHARS_MAX:
        refuse("too_long", f"a token has at most {TOKEN_CHARS_MAX} characters")
    signed, key = _signed(token, keys)
    claims = _claims(signed)
    expires_s = _check_times(claims, audience, now_s)
    try:
        scope = Scope.of(claims.get("mv"))
    except BadGrant as error:
        refuse("claims", error.message)
    issued = claims.get("iat")
    return scope.grant(
        key.scope,
        subject=_name(claims, "sub"),
        jti=_name(claims, "jti"),
        kid=key.kid,
        expires_s=expires_s,
        issued_s=float(issued) if isinstance(issued, int | float) and _is_number(issued) else None,
    )


def check_lifetime(grant: Grant, now_s: float) -> None:
    """Raises :class:`Unauthorized` where a grant that was good is so no more. RFC 7519 section 4.1.4."""
    if now_s >= grant.expires_s + TOKEN_LEEWAY_S:
        refuse("expired", "this token's time is over; get a fresh one")


def refuse(rule: str, why: str) -> NoReturn:
    """Raises :class:`Unauthorized`. ``why`` repeats nothing of the token."""
    raise Unauthorized(f"this token does not count ({rule}): {why}", rule=rule)


def _signed(token: str, keys: Keys) -> tuple[bytes, PublicKey]:
    """The signed claims, and the key that signed them."""
    if not token.isascii() or token.count(".") != 2:
        refuse("malformed", "it is not three parts of base64url with dots between (RFC 7515 section 7.1)")
    try:
        parts = jws.extract_compact(token.encode())
        header = parts.headers()
    except (JoseError, ValueError, TypeError, AttributeError, RecursionError):
        refuse("malformed", "its parts cannot be read (RFC 7515 section 7.1)")
    key = _key(header, keys)
    try:
        sound = jws.validate_compact(parts, key.key, registry=_REGISTRIES[key.alg])
    except (JoseError, ValueError, TypeError):
        sound = False
    if not sound or parts.payload is None:
        refuse("signature", "it is not signed by the key that it names")
    return parts.payload, key


def _key(header: Mapping[str, object], keys: Keys) -> PublicKey:
    # `crit`, `jwk`, `jku`, `x5u`: each would have the token say how it is to be believed (RFC 8725 section
    # 3.10).
    if set(header) - _HEADER:
        refuse("malformed", "its header has more than alg, kid and typ")
    kid, alg = header.get("kid"), header.get("alg")
    if not isinstance(alg, str) or alg not in _REGISTRIES:
        refuse("algorithm", "tokens are signed by EdDSA or ES256 here")
    key = keys.get(kid) if isinstance(kid, str) else None
    if key is None:
        refuse("key", "no key of the name that its header gives (kid) is known here")
    if alg != key.alg:
        refuse("algorithm", "its key is for another algorithm")
    return key


def _claims(signed: bytes) -> dict[str, object]:
    try:
        claims = json.loads(signed)
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        refuse("claims", "its claims are no JSON object")
    return claims


def _check_times(claims: dict[str, object], audience: str, now_s: float) -> float:
    """``exp``, once it, ``nbf`` and ``aud`` are as they must be."""
    # Only exp and nbf go to joserfc: of others it would check more than RFC 7519 asks, such as an iat in
    # the future.
    rules = JWTClaimsRegistry(now=math.floor(now_s), leeway=TOKEN_LEEWAY_S, exp={"essential": True})
    times: dict[str, Any] = {name: claims[name] for name in ("exp", "nbf") if name in claims}
    try:
        rules.validate(times)
    except ExpiredTokenError:
        refuse("expired", "its time is over; get a fresh one")
    except MissingClaimError:
        refuse("lifetime", f"it has no exp; a token lives for at most {TOKEN_LIFETIME_S_MAX // 3600} hours")
    except InvalidClaimError as error:
        if error.claim == "nbf" and _is_number(times["nbf"]):
            refuse("not_yet", "its time has not come (nbf); mind the clocks")
        refuse("claims", f"its {error.claim} is no number of seconds since 1970")
    if times["exp"] > now_s + TOKEN_LIFETIME_S_MAX + TOKEN_LEEWAY_S:
        refuse("lifetime", f"its exp is more than {TOKEN_LIFETIME_S_MAX // 3600} hours ahead")
    _check_audience(claims.get("aud"), audience)
    return float(times["exp"])


def _is_number(value: object) -> bool:
    # By its bound, in place of isfinite(), which fails at a whole number beyond a double; NaN is below none.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _check_audience(aud: object, audience: str) -> None:
    """RFC 7519 section 4.1.3: who is not named in an ``aud`` that is there must refuse."""
    named = [aud] if isinstance(aud, str) else aud
    if aud is None and not audience:
        return
    if not isinstance(named, list) or not audience or audience not in named:
        refuse("audience", "its aud does not name this gateway (--auth-audience)")


def _name(claims: Mapping[str, object], claim: str) -> str:
    value = claims.get(claim, "")
    if not isinstance(value, str) or len(value) > TOKEN_NAME_CHARS_MAX or not value.isprintable():
        refuse("claims", f"its {claim} is no text of at most {TOKEN_NAME_CHARS_MAX} characters")
    return value
