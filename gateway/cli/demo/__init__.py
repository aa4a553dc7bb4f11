"""``mvgateway demo``: everything once, over a link that loses, with a crash in the middle. Room: cli.

``play`` is what happens, ``ways`` the link that it happens over, ``following`` the readers' process and ``readers`` the demo's end of
it, ``several`` the same with several gateways over one store, ``seen`` the figures, ``screen`` and ``told`` what a user sees meanwhile and at the end.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from typing import NoReturn

from gateway.cli._bounds import check
from gateway.limits import DEMO_GATEWAYS_MAX

NAME = "demo"
HELP = "publish, follow over a lossy link, kill the gateway, recover and go on: in one command"
EXAMPLE = """
mvgateway demo
mvgateway demo --seconds 6 --json
mvgateway demo --link relay
mvgateway demo --gateways 3
"""
REFUSED = 75
"""The exit code of a process that could not make itself a network (EX_TEMPFAIL of sysexits.h)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=12.0, help="how long in all (default 12)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument(
        "--gateways",
        type=int,
        default=1,
        help="with more than one: gateways over one store, of which the one that has the world is killed (default 1)",
    )
    parser.add_argument(
        "--link",
        choices=("auto", "namespace", "relay"),
        default="auto",
        help="what loses packets: the kernel's own network in namespaces, or a relay where those are refused (default: auto)",
    )


def run(args: argparse.Namespace) -> int:
    import uvloop  # noqa: F401  a package that is missing is told before a process is made

    check("--seconds", args.seconds, 2, 3600)
    check("--gateways", args.gateways, 1, DEMO_GATEWAYS_MAX)
    if args.gateways > 1:
        from gateway.cli.demo import several

        return several.run(args.gateways, args.seconds, as_json=args.json)
    if args.link != "relay":
        code = _in_a_network_of_its_own(args)
        if code != REFUSED:
            return code
        if args.link == "namespace":
            from gateway.errors import ConfigError

            raise ConfigError(
                "--link namespace: this system lets us make no network namespaces; run as root, or take --link relay"
            )
    return _play(args, None)


def _in_a_network_of_its_own(args: argparse.Namespace) -> int:
    """Play in a child process, whose network is its own; answers its exit code, :data:`REFUSED` where there can be none.
    A process that has threads, or handles no signals, leaves it to the relay."""
    if threading.active_count() > 1 or not hasattr(os, "fork"):
        return REFUSED
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _be_the_child(args)
    forwarded = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda told, _: os.kill(pid, told)) for number in forwarded]
    try:
        _, status = os.waitpid(pid, 0)
    finally:
        for number, handler in zip(forwarded, before, strict=True):
            signal.signal(number, handler)
    return os.waitstatus_to_exitcode(status)


def _be_the_child(args: argparse.Namespace) -> NoReturn:
    from gateway.cli import EXIT_FAILED, _guarded
    from gateway.link.namespaces import LinkRefused, TwoNamespaces, end_with_parent

    code = EXIT_FAILED
    try:
        os.setpgid(0, 0)  # Ctrl-C reaches the parent alone, which hands it on
        try:
            end_with_parent()
            link = TwoNamespaces()
        except LinkRefused:
            os._exit(REFUSED)
        code = _guarded(lambda given: _play(given, link), args)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # nobody is above us who would show it
        traceback.print_exc()
    finally:
        os._exit(code)


def _play(args: argparse.Namespace, link: object) -> int:
    import asyncio

    import uvloop

    from gateway.cli.demo.play import Demo
    from gateway.cli.demo.ways import way_over

    signal.signal(
        signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT)
    )  # what was started ends, too
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Demo(args.seconds, way_over(link), as_json=args.json).run())
