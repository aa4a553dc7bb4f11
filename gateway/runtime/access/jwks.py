"""Public keys: JWK sets from files and folders, checked. Room: runtime.

Sources: RFC 7517 (JWK), RFC 8037 section 2 (OKP), RFC 7518 section 6.2 (EC). A set holds public keys of two kinds,
Ed25519 and P-256; each is for one algorithm, and no token chooses another.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey

from gateway import limits
from gateway.core.grants import BadGrant, Scope
from gateway.errors import ConfigError

ALGORITHMS: Final[Mapping[tuple[str, str], str]] = {("OKP", "Ed25519"): "EdDSA", ("EC", "P-256"): "ES256"}
PRIVATE_SUFFIX: Final = ".private.json"
"""What ``token keygen`` names a private key: a folder's other ``.json`` files are sets of public ones."""
_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_WAY_OUT: Final = "make a pair with: mvgateway token keygen --out DIR"


class BadKey(ConfigError):
    """A key, or a set of keys, that cannot be used; the message names the file and the way out."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key that tokens may stand on. ``scope``: the most that its tokens may ask for, None: anything. RFC 7517 section 4."""

    kid: str
    alg: str
    key: OKPKey | ECKey = field(repr=False)
    scope: Scope | None = None
    thumbprint: str = ""


Keys = Mapping[str, PublicKey]
"""By ``kid``."""


def load_keys(path: Path, where: str = "--auth-keys") -> Keys:
    """The keys of a file, or of all ``.json`` files of a folder. Raises :class:`BadKey`. RFC 7517 section 5."""
    try:
        files = _files(path, where) if path.is_dir() else [path]
        found = [key for file in files for key in _read(file, where)]
    except OSError as error:
        raise BadKey(f"{where} {path}: {error.strerror}; {_WAY_OUT}") from None
    if not found:
        raise BadKey(f"{where} {path}: there is no key in it, so nobody could come in; {_WAY_OUT}")
    return by_kid(found, f"{where} {path}")


def by_kid(found: Iterable[PublicKey], where: str) -> Keys:
    """Raises :class:`BadKey` for two keys of one name, and for too many."""
    keys: dict[str, PublicKey] = {}
    for key in found:
        known = keys.get(key.kid)
        # The same key in two files of a folder does no harm.
        if known is not None and known.thumbprint != key.thumbprint:
            raise BadKey(f"{where}: two keys have the kid {key.kid!r}; give each its own")
        keys[key.kid] = key
    if len(keys) > limits.AUTH_KEYS_MAX:
        raise BadKey(
            f"{where}: {len(keys)} keys are over the bound of {limits.AUTH_KEYS_MAX}; remove old ones"
        )
    return keys


def _files(folder: Path, where: str) -> list[Path]:
    files = []
    for file in sorted(folder.iterdir()):
        if file.name.endswith(PRIVATE_SUFFIX) or file.suffix in (".pem", ".key"):
            _check_private(file, where)
        elif file.suffix in (".json", ".jwk", ".jwks"):
            files.append(file)
    return files


def _check_private(file: Path, where: str) -> None:
    """Raises :class:`BadKey` where others may read what only its owner should."""
    if file.is_file() and stat.S_IMODE(file.stat().st_mode) & 0o077:
        raise BadKey(
            f"{where}: {file} is a private key that other users of this machine may read: chmod 600 it, or better, "
            "keep it where the tokens are made; the gateway needs public keys only"
        )


def _read(file: Path, where: str) -> list[PublicKey]:
    with file.open("rb") as opened:
        text = opened.read(limits.AUTH_JWKS_BYTES_MAX + 1)
    return read_set(text, f"{where} {file}", file=file)


def read_set(
    text: bytes, where: str, *, file: Path | None = None, others_pass: bool = False
) -> list[PublicKey]:
    """The keys of a JWK set, or of one JWK. ``others_pass``: leave out kinds of keys that are not used here, as RFC 7517
    section 5 wants it of a set that others publish. Raises :class:`BadKey`."""
    if len(text) > limits.AUTH_JWKS_BYTES_MAX:
        raise BadKey(f"{where}: a JWK set has at most {limits.AUTH_JWKS_BYTES_MAX} bytes; this has more")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise BadKey(f"{where}: not JSON; a JWK set is an object with a list of keys. {_WAY_OUT}") from None
    jwks = value.get("keys", [value] if "kty" in value else None) if isinstance(value, dict) else None
    if not isinstance(jwks, list) or not all(isinstance(jwk, dict) for jwk in jwks):
        raise BadKey(f'{where}: not a JWK set, which is {{"keys": [...]}}; {_WAY_OUT}')
    keys = []
    for jwk in jwks:
        # Even of a kind that is passed over: that a private key lies here has to be told.
        _refuse_private(jwk, where, file)
        if others_pass and not _is_ours(jwk):
            continue
        keys.append(public_key(jwk, where))
    return keys


def _refuse_private(jwk: Mapping[str, object], where: str, file: Path | None) -> None:
    if not _PRIVATE_MEMBERS & set(jwk):
        return
    is_shared = jwk.get("kty") == "oct"
    if file is not None and not is_shared:
        _check_private(file, where.partition(" ")[0])
    what = "a shared secret" if is_shared else "a private key"
    raise BadKey(
        f"{where}: there is {what} in it; give the gateway public keys only (the .public.json that token keygen wrote)"
    )


def _is_ours(jwk: Mapping[str, object]) -> bool:
    kind = (str(jwk.get("kty")), str(jwk.get("crv")))
    return kind in ALGORITHMS and jwk.get("use", "sig") == "sig" and isinstance(jwk.get("kid"), str)


def public_key(jwk: Mapping[str, Any], where: str) -> PublicKey:
    """One JWK, checked. Raises :class:`BadKey`. RFC 7517 section 4; RFC 8037 section 2."""
    kid = jwk.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= limits.TOKEN_NAME_CHARS_MAX or not kid.isprintable():
        raise BadKey(
            f"{where}: a key has no kid of 1 to {limits.TOKEN_NAME_CHARS_MAX} characters; tokens name the key by it"
        )
    kind = (str(jwk.get("kty"))[:16], str(jwk.get("crv", ""))[:16])
    alg = ALGORITHMS.get(kind)
    if alg is None:
        raise BadKey(
            f"{where}: key {kid!r} is of the kind {' '.join(kind).strip()}; here are Ed25519 (EdDSA) and P-256 "
            f"(ES256) only. {_WAY_OUT}"
        )
    if jwk.get("alg", alg) != alg or jwk.get("use", "sig") != "sig" or _cannot_verify(jwk):
        raise BadKey(f"{where}: key {kid!r} says that it is not for verifying signatures by {alg}")
    try:
        # Nothing else of it reaches the library: what a set from elsewhere says besides is not for it to
        # act on.
        bare = {name: jwk[name] for name in ("kty", "crv", "x", "y") if name in jwk}
        key: OKPKey | ECKey = (OKPKey if kind[0] == "OKP" else ECKey).import_key(bare)
        thumbprint = key.thumbprint()
        scope = None if jwk.get("mv") is None else Scope.of(jwk["mv"])
    except BadGrant as error:
        raise BadKey(f"{where}: key {kid!r}: {error.message}") from None
    except (JoseError, ValueError, TypeError, KeyError):
        raise BadKey(f"{where}: key {kid!r} is no point of {kind[1]}; {_WAY_OUT}") from None
    return PublicKey(kid, alg, key, scope, thumbprint)


def _cannot_verify(jwk: Mapping[str, object]) -> bool:
    operations = jwk.get("key_ops")
    return isinstance(operations, list) and "verify" not in operations
