"""Flags that every verb talking to a gateway shares. Room: cli."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar

from gateway.errors import GatewayError
from gateway.limits import CLI_WAITING_S

if TYPE_CHECKING:
    from gateway.client import HttpClient, Trust
    from gateway.client.connect import TransportChoice
    from gateway.client.http import Answer
    from gateway.client.live import Live
    from gateway.client.token import TokenSource

End = TypeVar("End", bound="Live")
URL = "https://127.0.0.1:4433"
LOCAL_CA = Path("certs/ca.pem")


def add_transport_flag(parser: argparse.ArgumentParser) -> None:
    """``--transport``: QUIC, or TCP."""
    parser.add_argument(
        "--transport",
        choices=("auto", "webtransport", "websocket"),
        default="auto",
        help="auto: QUIC, or TCP when UDP is silent (default)",
    )


def add_client_flags(parser: argparse.ArgumentParser) -> None:
    """``--url``, whom to trust, and which transport."""
    parser.add_argument(
        "--url",
        default=os.environ.get("MVGATEWAY_URL", URL),
        help=f"the gateway (default {URL}, or MVGATEWAY_URL)",
    )
    add_trust_flags(parser)
    add_transport_flag(parser)


def add_trust_flags(parser: argparse.ArgumentParser) -> None:
    """``--ca``, ``--certificate-sha256``, ``--insecure``; ``--token-file``."""
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help="the token by which the gateway lets us in, read anew before it ends (default: MVGATEWAY_TOKEN)",
    )
    trust = parser.add_mutually_exclusive_group()
    trust.add_argument(
        "--ca", metavar="FILE", help=f"trust this CA (default on loopback: {LOCAL_CA} if it is there)"
    )
    trust.add_argument("--certificate-sha256", metavar="HEX", help="trust exactly this leaf certificate")
    trust.add_argument("--insecure", action="store_true", help="trust any certificate")


class TrustFlags(TypedDict):
    """Whom to trust, as :meth:`gateway.client.Trust.of` takes it."""

    ca: str | None
    certificate_sha256: str | None
    insecure: bool


class ConnectionFlags(TrustFlags):
    """The keyword arguments of a client that flags stand for."""

    transport: TransportChoice
    token: TokenSource | None


def connection(args: argparse.Namespace) -> ConnectionFlags:
    """The keyword arguments of a client that these flags mean."""
    return {"transport": args.transport, "token": token(args), **_trusted(args, args.url)}


def token(args: argparse.Namespace) -> TokenSource | None:
    """What ``--token-file`` holds; None: what the environment says counts."""
    from gateway.client.token import from_file

    return from_file(args.token_file) if args.token_file else None


def _trusted(args: argparse.Namespace, url: str) -> TrustFlags:
    from gateway.client import Address

    ca = args.ca
    # A CA found in the folder is taken for this machine's own gateway alone: for any other it would be
    # somebody's file.
    nothing_said = not (ca or args.certificate_sha256 or args.insecure or _trust_in_environment())
    if nothing_said and Address.parse(url.partition(",")[0]).loopback and LOCAL_CA.is_file():
        ca = str(LOCAL_CA)
    return {"ca": ca, "certificate_sha256": args.certificate_sha256, "insecure": args.insecure}


def trust(args: argparse.Namespace, url: str | None = None) -> Trust:
    """The same decision for plain requests to ``url`` (``--url`` if None)."""
    from gateway.client import Trust

    return Trust.of(**_trusted(args, args.url if url is None else url))


def http_client(args: argparse.Namespace, url: str | None = None) -> HttpClient:
    """A client for plain requests to ``url`` (``--url`` if None)."""
    from gateway.client import HttpClient

    asked = args.url if url is None else url
    return HttpClient(asked, trust=trust(args, url), transport=args.transport, token=token(args))


def object_of(answer: Answer, url: str) -> Mapping[str, object]:
    """The JSON object that was answered. Raises :class:`GatewayError` where it is none: that is no gateway."""
    try:
        told = answer.json()
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise GatewayError(
            f"what answers at {url} is no gateway: {answer.body[:40]!r} is no JSON object; name one by --url"
        )
    return told


@asynccontextmanager
async def opened(live: End) -> AsyncIterator[End]:
    """The session, open; whoever waits for that is told why, long before the client gives up."""
    import asyncio

    with ended_in_order():
        telling = asyncio.create_task(_tell_waiting(live))
        try:
            await live.start()
        finally:
            telling.cancel()
        try:
            yield live
        finally:
            await live.aclose()


@contextmanager
def ended_in_order() -> Iterator[None]:
    """SIGTERM ends this process once what is open here is closed: a QUIC connection that only falls silent would keep its
    world's place for half a minute."""
    import asyncio
    import signal

    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    told: list[bool] = []

    def end() -> None:
        told.append(True)
        task.cancel()

    try:
        loop.add_signal_handler(signal.SIGTERM, end)
    except (
        NotImplementedError,
        RuntimeError,
        ValueError,
    ):  # not the main thread, whose signals are its own affair
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        if told:
            sys.stdout.flush()
            # Once more, with the handler gone: whoever started this sees that it was ended by the signal,
            # and no exit code of ours.
            os.kill(os.getpid(), signal.SIGTERM)


async def _tell_waiting(live: Live) -> None:
    import asyncio

    await asyncio.sleep(CLI_WAITING_S)
    why = "" if live.refusal is None else f" ({live.refusal.message})"
    print(
        f"waiting for a gateway at {live.address.base_url}{why}; Ctrl-C ends it", file=sys.stderr, flush=True
    )


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say on standard error, while somebody looks on, what a gateway is asked for and for how long it has been at it."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        shown.add_task(what, total=None)
        yield


async def say_what_walkers_are(client: HttpClient, world: str) -> None:
    """Give the world the layout of the synthetic avatars, where it has none and this is allowed: a map is drawn by it."""
    from gateway.client.address import world_path
    from gateway.errors import GatewayError

    path, body = world_path(world), b'{"layout": "avatars"}'
    try:
        async with client as http:
            if (await http.get_json(path)).get("layout") is None:
                await http.request("PATCH", path, headers={"content-type": "application/json"}, body=body)
    except GatewayError:
        pass  # an older gateway, or a token that may only publish


def _trust_in_environment() -> bool:
    return any(os.environ.get(name) for name in ("MVGATEWAY_CA", "MVGATEWAY_CERTIFICATE_SHA256"))
