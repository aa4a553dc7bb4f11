"""``mvgateway token``: make keys, sign tokens, read them. Room: cli."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path

from gateway.errors import ConfigError
from gateway.limits import TOKEN_CHARS_MAX, TOKEN_LIFETIME_S_MAX

NAME = "token"
HELP = "make a pair of keys, sign a token with one, or show what a token says"
EXAMPLE = """
mvgateway token keygen --out keys
mvgateway serve --auth-keys keys
mvgateway token sign --key keys/*.private.json --sub 'plaza-*' --pub plaza-7 --for 1h --subject server-2
mvgateway token show < token.txt
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The three verbs below it."""
    works = parser.add_subparsers(dest="work", metavar="keygen|sign|show", required=True)
    keygen = works.add_parser(
        "keygen", help="a new pair: KID.private.json for whoever signs, KID.public.json for --auth-keys"
    )
    keygen.add_argument("--out", metavar="DIR", required=True, help="folder for both files (made if missing)")
    keygen.add_argument("--alg", choices=("EdDSA", "ES256"), default="EdDSA", help="Ed25519, or P-256")
    keygen.add_argument("--kid", metavar="NAME", default="", help="the key's name (default: made from it)")
    sign = works.add_parser("sign", help="print a token")
    sign.add_argument("--key", metavar="FILE", required=True, help="the private key, KID.private.json")
    sign.add_argument("--for", metavar="TIME", dest="lifetime", default="1h",
                      help="how long it lives: 90s, 15m, 1h, at most 24h (default 1h)")  # fmt: skip
    sign.add_argument(
        "--subject", metavar="NAME", default="", help="for whom it is: what is counted, and revoked"
    )
    sign.add_argument(
        "--jti", metavar="NAME", default="", help="its number, to revoke it alone (default: random)"
    )
    sign.add_argument("--audience", metavar="NAME", default="", help="for which gateway: its --auth-audience")
    for work in (keygen, sign):
        _add_scope(work, "the most that its tokens may ask for" if work is keygen else "what it is for")
    show = works.add_parser("show", help="what a token says, without its signature")
    show.add_argument(
        "token", metavar="TOKEN", nargs="?", default="-", help="the token (default: from stdin)"
    )
    show.add_argument("--auth-keys", metavar="FILE|DIR", default="", help="check it by these keys, too")
    show.add_argument("--auth-audience", metavar="NAME", default="", help="and for this audience")


def _add_scope(parser: argparse.ArgumentParser, what: str) -> None:
    group = parser.add_argument_group(
        f"{what} (a NAME, or the beginning of names and one * at its end; repeatable, or with commas)"
    )
    for verb, text in (
        ("sub", "worlds that may be followed and read"),
        ("pub", "worlds that may be published"),
        ("ent", "worlds whose entities may be used"),
        ("inv", "owners whose inventories may be used"),
        ("store", "namespaces of the page plane"),
        ("admin", "worlds that may be made, changed, deleted; :metrics, :grants, :store, or * for all"),
    ):
        group.add_argument(f"--{verb}", metavar="NAME", action="append", help=text)
    group.add_argument("--owner", metavar="NAME", help="whose leases may be taken")
    group.add_argument("--takeover", action="store_true", help="may take over from another")
    group.add_argument("--delay-s", metavar="S", type=float, help="follows so many seconds behind live")
    group.add_argument("--kbps", metavar="N", type=int, help="so many kilobits a second")
    group.add_argument("--rps", metavar="N", type=int, help="so many requests a second")
    group.add_argument("--sessions", metavar="N", type=int, help="so many sessions at once")


def run(args: argparse.Namespace) -> int:
    return {"keygen": keygen, "sign": sign, "show": show}[str(args.work)](args)


_TIME = re.compile(r"(\d{1,9})(s|m|h)?")
_UNIT_S = {None: 1, "s": 1, "m": 60, "h": 3_600}


def keygen(args: argparse.Namespace) -> int:
    """Write a pair of keys."""
    from gateway.runtime.access.signing import SigningKey

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
    from gateway.runtime.access.signing import SigningKey, claims_of

    key = SigningKey.read(Path(args.key))
    match = _TIME.fullmatch(args.lifetime)
    if match is None:
        raise ConfigError(f"--for {args.lifetime!r} is no time; write 90s, 15m or 1h")
    for_s = int(match[1]) * _UNIT_S[match[2]]
    if not 0 < for_s <= TOKEN_LIFETIME_S_MAX:
        raise ConfigError(f"--for {args.lifetime}: a token lives for 24 hours at most; renew it instead")
    claims = claims_of(
        scope_of(args),
        now_s=time.time(),
        for_s=for_s,
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
    from gateway.runtime.access.jwks import load_keys
    from gateway.runtime.access.signing import decoded
    from gateway.runtime.access.tokens import verify

    token = (sys.stdin.read(TOKEN_CHARS_MAX + 16) if args.token == "-" else args.token).strip()
    header, claims = decoded(token)
    print(json.dumps({"header": header, "claims": claims}, indent=2))
    if args.auth_keys:
        verify(token, load_keys(Path(args.auth_keys)), args.auth_audience, time.time())
        print("signed by a key of --auth-keys, and good now")
    return 0


def scope_of(args: argparse.Namespace) -> dict[str, object]:
    """The claim ``mv`` that the flags make. Raises :class:`ConfigError`."""
    from gateway.core.grants import VERBS, BadGrant, Scope

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
