"""``mvgateway certs``: show, make or renew the gateway's own certificates. Room: cli."""

from __future__ import annotations

import argparse
import json

from gateway import config

NAME = "certs"
HELP = "show the gateway's certificate and its hash; make or renew it"
EXAMPLE = """
mvgateway certs
mvgateway certs --renew --certs certs --host 192.168.1.20 --insecure-public
mvgateway certs --json | jq -r .sha256
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config.add_flags(parser, ("certs", "cert", "key", "host", "insecure_public"))
    parser.add_argument(
        "--renew", action="store_true", help="make a new leaf now (a running gateway takes it up)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(args: argparse.Namespace) -> int:
    settings = config.load(args)
    from datetime import UTC, datetime
    from pathlib import Path

    from gateway.errors import ConfigError
    from gateway.runtime.certs import CA_CERT, LEAF_CERT, ensure_own, read_pair

    now = datetime.now(UTC)
    if settings.cert:
        if args.renew:
            raise ConfigError("--renew makes certificates of the gateway's own; --cert is yours to renew")
        current = read_pair(Path(settings.cert), Path(settings.key), now)
        paths = {"certificate": settings.cert}
    else:
        folder = Path(settings.certs)
        current = ensure_own(folder, settings.host, now, renew=args.renew)
        paths = {"certificate": str(folder / LEAF_CERT), "authority": str(folder / CA_CERT)}
    facts = {
        **paths,
        "sha256": current.sha256,
        "expires": current.not_after.isoformat(),
        "names": list(current.names),
    }
    if args.json:
        print(json.dumps(facts))
    else:
        for name, value in facts.items():
            print(f"{name:<14}{', '.join(value) if isinstance(value, list) else value}")
    return 0
