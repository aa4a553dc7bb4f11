"""The verbs of ``mvgateway token``. Room: cli. Nothing here prints a private key, or a signature of one that is shown."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path

from gateway.core.grants import VERBS, BadGrant, Scope
from gateway.errors import ConfigError
from gateway.limits import TOKEN_CHARS_MAX
from gateway.runtime.access.jwks import load_keys
from gateway.runtime.access.signing import SigningKey, claims_of, decoded
from gateway.runtime.access.tokens import verify

_TIME = re.compile(r"(\d{1,9})(s|m|h)?")
_UNIT_S = {None: 1, "s": 1, "m": 60, "h": 3_600}


def keygen(args: argparse.Namespace) -> int:
    """Write a pair of keys."""
    if "/" in args.kid or args.kid.startswith("."):
        raise ConfigError(
            f"--kid {args.kid!r} is the name of two files: no slash, and no dot at its beginning"
        )
    scope = scope_of(args)
    key = SigningKey.generate(args.alg, args.kid, scope or None)
    private, public = key.write(Path(args.out))
    print(f"private  {private}  (sign tokens with it; keep it where they are made)")
    print(f"public   {public}  (mvgateway serve --auth-keys {args.out})")
    return 0


def sign(args: argparse.Namespace) -> int:
    """Print a token."""
    key = SigningKey.read(Path(args.key))
    match = _TIME.fullmatch(args.lifetime)
    if match is None:
        raise ConfigError(f"--for {args.lifetime!r} is no time; write 90s, 15m or 1h")
    claims = claims_of(
        scope_of(args),
        now_s=time.time(),
        for_s=int(match[1]) * _UNIT_S[match[2]],
        subject=args.subject,
        jti=args.jti,
        audience=args.audience,
        key=key,
    )
    token = key.sign(claims)
    if len(token) > TOKEN_CHARS_MAX:
        raise ConfigError(f"the token would have {len(token)} characters; the bound is {TOKEN_CHARS_MAX}")
    print(token)
    return 0


def show(args: argparse.Namespace) -> int:
    """Print what a token says."""
    token = (sys.stdin.read(TOKEN_CHARS_MAX + 16) if args.token == "-" else args.token).strip()
    header, claims = decoded(token)
    print(json.dumps({"header": header, "claims": claims}, indent=2))
    if args.auth_keys:
        verify(token, load_keys(Path(args.auth_keys)), args.auth_audience, time.time())
        print("signed by a key of --auth-keys, and good now")
    return 0


def scope_of(args: argparse.Namespace) -> dict[str, object]:
    """The claim ``mv`` that the flags make. Raises :class:`ConfigError`."""
    mv: dict[str, object] = {}
    for verb in VERBS:
        given = getattr(args, verb) or ()
        names = [name for text in given for name in text.split(",") if name]
        if names:
            mv[verb] = names
    for name in ("owner", "delay_s", "kbps", "rps", "sessions"):
        if getattr(args, name) is not None:
            mv[name] = getattr(args, name)
    if args.takeover:
        mv["takeover"] = True
    try:
        Scope.of(mv)
    except BadGrant as error:
        raise ConfigError(f"{error.message} (mv.NAME is what --NAME gives)") from None
    return mv
