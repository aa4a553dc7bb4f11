"""``mvgateway top``: all gateways and their worlds in one table that is alive. Room: cli."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from gateway.cli._client import URL, add_transport_flag, add_trust_flags

NAME = "top"
HELP = "a live table over gateways: worlds, homes, readers, lag, loss, CPU"
EXAMPLE = """
mvgateway top
mvgateway top https://a.example:4433 https://b.example:4433 --token-file admin.jwt
mvgateway top --url https://a.example:4433 --once
mvgateway top --json --interval 10
"""
WIDTH = 80

Show = Callable[[Mapping[str, object]], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("urls", nargs="*", metavar="URL", help=f"gateways (default {URL}, or MVGATEWAY_URL)")
    parser.add_argument(
        "--url",
        action="append",
        default=[],
        metavar="URL",
        dest="more_urls",
        help="another gateway, as other verbs take it (repeatable; or with commas)",
    )
    add_trust_flags(parser)
    add_transport_flag(parser)
    parser.add_argument(
        "--interval",
        type=float,
        default=2.0,
        metavar="S",
        help="seconds between looks (0.1 to 3600; default 2)",
    )
    parser.add_argument("--once", action="store_true", help="two looks, a second apart, and one table")
    parser.add_argument("--json", action="store_true", help="one JSON object a look on standard output")
    parser.add_argument(
        "--no-discover", action="store_true", help="ask the gateways named and no others that they tell of"
    )


def run(args: argparse.Namespace) -> int:
    import asyncio

    from gateway.errors import ConfigError

    if not 0.1 <= args.interval <= 3_600:
        raise ConfigError(f"--interval {args.interval:g}: seconds between looks are 0.1 to 3600")
    named = _named(args.urls + args.more_urls) or _named([os.environ.get("MVGATEWAY_URL") or URL])
    args.urls = checked_urls(named)
    return asyncio.run(top(args))


def _named(urls: list[str]) -> list[str]:
    """One by one, where some were written with commas between."""
    return [url.strip() for several in urls for url in several.split(",") if url.strip()]


def checked_urls(urls: list[str]) -> list[str]:
    """Of gateways to look at, as they came. Raises :class:`ConfigError` for too many."""
    from gateway.errors import ConfigError
    from gateway.limits import TOP_GATEWAYS_MAX

    if len(urls) > TOP_GATEWAYS_MAX:
        raise ConfigError(f"{len(urls)} gateways, and {TOP_GATEWAYS_MAX} at most; run top for each part")
    return urls


async def top(args: argparse.Namespace) -> int:
    """Look until the user ends it; with ``--once`` 1 where no gateway answers."""
    import asyncio

    from gateway.cli._top_ask import Top

    logging.getLogger("quic").setLevel(logging.CRITICAL)  # a refused certificate stands in its gateway's row
    looking = Top(args)
    try:
        await looking.look()
        with _screen(args) as show:
            while True:
                await asyncio.sleep(1.0 if args.once else args.interval)
                show(await looking.look())
                if args.once:
                    return 0 if looking.is_any_there else 1
    finally:
        await looking.close()


@contextmanager
def _screen(args: argparse.Namespace) -> Iterator[Show]:
    """How a look is shown: as JSON, as text, or in place on a terminal."""
    if args.json:
        yield lambda told: print(json.dumps(told), flush=True)
    elif args.once or not sys.stdout.isatty():
        yield lambda told: print("\n".join(_text(told, None)), flush=True)
    else:
        from rich.live import Live
        from rich.text import Text

        last: list[Mapping[str, object]] = []

        def show(told: Mapping[str, object]) -> None:
            last[:] = [told]
            rows_max = shutil.get_terminal_size().lines - 1
            live.update(Text("\n".join([_clock(), *_text(told, rows_max)])), refresh=True)

        try:
            with Live(auto_refresh=False, screen=True) as live:
                yield show
        finally:  # the screen from before comes back: what was seen last stays on it
            for told in last:
                print("\n".join(_text(told, None)), flush=True)


def _text(told: Mapping[str, object], rows_max: int | None) -> list[str]:
    from gateway.cli._top_table import lines

    return lines(told, shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH, rows_max)


def _clock() -> str:
    return f"mvgateway top  {time.strftime('%H:%M:%S')}  (Ctrl-C ends it)"
