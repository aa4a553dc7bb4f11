"""Making keys and tokens: what a studio's backend does, for the command line and for tests. Room: runtime.

A private key is a JWK in a file that only its owner reads. Sources: RFC 7517, RFC 7519.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey

from gateway import limits
from gateway.core.grants import BadGrant, Scope
from gateway.errors import BadInput
from gateway.givenfiles import read_given
from gateway.runtime.access.jwks import ALGORITHMS, PRIVATE_SUFFIX, BadKey
from gateway.runtime.access.tokens import _REGISTRIES

Algorithm = Literal["EdDSA", "ES256"]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key. ``scope``: the claim ``mv`` that bounds what its tokens may ask for."""

    kid: str
    alg: str
    key: OKPKey | ECKey = field(repr=False)
    scope: Mapping[str, object] | None = None

    @classmethod
    def generate(
        cls, alg: Algorithm = "EdDSA", kid: str = "", scope: Mapping[str, object] | None = None
    ) -> SigningKey:
        """A new one. ``kid``: its name, else made from the key's thumbprint (RFC 7638)."""
        key: OKPKey | ECKey = (
            OKPKey.generate_key("Ed25519") if alg == "EdDSA" else ECKey.generate_key("P-256")
        )
        return cls(kid or hashlib.sha256(key.thumbprint().encode()).hexdigest()[:16], alg, key, scope)

    @classmethod
    def read(cls, file: Path) -> SigningKey:
        """The key in ``file``. Raises :class:`BadKey`."""
        try:
            text = read_given(file)
            mode = stat.S_IMODE(file.stat().st_mode)
        except OSError as error:
            raise BadKey(f"--key {file}: {error.strerror}") from None
        try:
            jwk = json.loads(text)
            alg = ALGORITHMS[jwk["kty"], jwk["crv"]]
            bare = {name: jwk[name] for name in ("kty", "crv", "x", "y", "d") if name in jwk}
            key: OKPKey | ECKey = (OKPKey if jwk["kty"] == "OKP" else ECKey).import_key(bare)
            kid = str(jwk["kid"])
        except (JoseError, ValueError, TypeError, KeyError, RecursionError):
            raise BadKey(
                f"--key {file} is no private JWK of Ed25519 or P-256 with a kid; mvgateway token keygen --out DIR makes one"
            ) from None
        if not key.is_private:
            raise BadKey(f"--key {file} is a public key; tokens are signed with KID{PRIVATE_SUFFIX}")
        # As ssh does it: a key that others can read may have been copied already.
        if mode & 0o077:
            raise BadKey(f"--key {file} may be read by other users of this machine: chmod 600 it")
        return cls(kid, alg, key, jwk.get("mv"))

    def public_jwk(self) -> dict[str, object]:
        """What the gateway is given. RFC 8037 section 2."""
        return {**self.key.as_dict(private=False), **self._members()}

    def private_jwk(self) -> dict[str, object]:
        """The private half, which only the signer keeps."""
        return {**self.key.as_dict(private=True), **self._members()}

    def _members(self) -> dict[str, object]:
        scope = {} if self.scope is None else {"mv": dict(self.scope)}
        return {"kid": self.kid, "alg": self.alg, "use": "sig", **scope}

    def sign(self, claims: Mapping[str, object]) -> str:
        """The token of these claims, as they are: nothing is checked. RFC 7515 section 3.1."""
        header = {"alg": self.alg, "kid": self.kid}
        return jwt.encode(header, dict(claims), self.key, registry=_REGISTRIES[self.alg])

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Both halves into ``folder``: (private, public). Raises :class:`BadKey` where they are there already."""
        private, public = folder / f"{self.kid}{PRIVATE_SUFFIX}", folder / f"{self.kid}.public.json"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_new(private, self.private_jwk(), 0o600)
            _write_new(public, {"keys": [self.public_jwk()]}, 0o644)
        except FileExistsError as error:
            raise BadKey(
                f"{error.filename} is there already; choose another --kid, or another folder"
            ) from None
        except OSError as error:
            raise BadKey(f"--out {folder}: {error.strerror}") from None
        return private, public


def _write_new(path: Path, value: object, mode: int) -> None:
    # EXCL, and with its mode from the first moment: a key never lies open, and none is written over.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        json.dump(value, file, indent=1)
        file.write("\n")


def claims_of(
    mv: Mapping[str, object],
    *,
    now_s: float,
    for_s: float,
    subject: str = "",
    jti: str = "",
    audience: str = "",
    key: SigningKey | None = None,
) -> dict[str, object]:
    """The claims of a token that lives for ``for_s`` from ``now_s`` on. Raises :class:`BadInput` for what no gateway
    would take. RFC 7519 section 4.1."""
    if not 0 < for_s <= limits.TOKEN_LIFETIME_S_MAX:
        raise BadInput(
            f"a token lives for at most {limits.TOKEN_LIFETIME_S_MAX // 3600} hours, not {for_s:g} s; renew it instead"
        )
    for name, value in (("--subject", subject), ("--jti", jti)):
        if len(value) > limits.TOKEN_NAME_CHARS_MAX or not value.isprintable():
            raise BadInput(f"{name} has at most {limits.TOKEN_NAME_CHARS_MAX} printable characters")
    wanted = Scope.of(mv)
    if key is not None and key.scope is not None and (over := wanted.excess(Scope.of(key.scope))):
        raise BadGrant(
            f"key {key.kid!r} may not give so much (mv.{over}); sign with another, or ask for less"
        )
    claims: dict[str, object] = {
        "iat": int(now_s),
        "exp": int(now_s + for_s),
        "jti": jti or secrets.token_hex(8),
    }
    if subject:
        claims["sub"] = subject
    if audience:
        claims["aud"] = audience
    return {**claims, "mv": dict(mv)}


def decoded(token: str) -> tuple[object, object]:
    """(header, claims) of a token, believed without a look at its signature. Raises :class:`BadInput`. RFC 7515 section 3.1."""
    parts = token.strip().split(".")
    if len(parts) != 3 or len(token) > limits.TOKEN_CHARS_MAX:
        raise BadInput(
            f"a token is three parts with dots between, of at most {limits.TOKEN_CHARS_MAX} characters in all"
        )
    try:
        header, claims = (
            json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in parts[:2]
        )
    except (ValueError, RecursionError):
        raise BadInput("the token's parts are not JSON in base64url") from None
    return header, claims
