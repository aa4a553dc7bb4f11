"""``mvgateway serve``: run the gateway. Room: cli."""

from __future__ import annotations

import argparse

from gateway import config

NAME = "serve"
HELP = "run the gateway: HTTP/3 and WebTransport on UDP, HTTP/2, HTTP/1.1 and WebSocket on TCP"
EXAMPLE = """
mvgateway serve
mvgateway serve --port 4433 --store /var/lib/mvgateway --udp 127.0.0.1:4434
mvgateway serve --host 0.0.0.0 --insecure-public --cert fullchain.pem --key privkey.pem
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config.add_flags(parser)


def run(args: argparse.Namespace) -> int:
    settings = config.load(args)
    from gateway.runtime import serve

    return serve.run(settings, load=lambda: config.load(args))
