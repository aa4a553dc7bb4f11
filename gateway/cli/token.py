"""``mvgateway token``: make keys, sign tokens, read them. Room: cli."""

from __future__ import annotations

import argparse

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
    from gateway.cli import _token

    return {"keygen": _token.keygen, "sign": _token.sign, "show": _token.show}[str(args.work)](args)
