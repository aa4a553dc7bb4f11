"""Two gateways across a bad network, by turns with the client straight over TCP on the same link. Room: bench.

``python -m bench.far_gateways [--rtt 50] [--loss 2] [--clients 1 32] [--seconds 8] [--rounds 3] [--json]``

Host 0 has ``mvgateway store`` and a gateway before it; host 1 has the clients and a gateway of theirs, which speaks
HTTP/3 with the far one. Each client commits one page after another to a namespace of its own: over HTTP/1.1 to the
gateway beside it, or over HTTP/1.1 to the store itself, both with as many connections as clients. Wanted: 1.5 times
as many commits a second by the gateways. Exit 1: missed. Needs root (network namespaces).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path as FilePath
from statistics import median
from typing import Any

from bench.gateway import Gateway
from bench.link import Direction, Link, LinkPath, open_network, unavailable_because
from bench.processes import Server, Station, free_port, wait_for_port
from bench.scenarios._store import start_store

WANTED = 1.5
SLACK_S = 60.0
PAGE_BYTES = 8_192
WAYS = ("TCP straight", "gateways")


@contextlib.contextmanager
def site(path: LinkPath) -> Iterator[tuple[Link, Station, dict[str, str], dict[str, Server]]]:
    """The link, the clients' process, the URL of each way, and the gateways."""
    with contextlib.ExitStack() as stack:
        folder = FilePath(stack.enter_context(tempfile.TemporaryDirectory()))
        network = stack.enter_context(open_network([path], 1))
        far, near = (host.command([]) for host in network.hosts[:2])
        address = network.hosts[0].address
        port, plain = free_port(), free_port()
        stack.enter_context(start_store(folder, address, port, far))
        straight = f"http://{address}:{port}"
        gateway = stack.enter_context(Gateway(folder, address, prefix=far, extra=("--store", straight)))
        argv = [
            sys.executable,
            "-m",
            "gateway.cli",
            "serve",
            "--host",
            "127.0.0.1",
            "--port",
            str(free_port()),
        ]
        argv += ["--plain", f"127.0.0.1:{plain}", "--certs", str(folder / "near"), "--store", gateway.url]
        beside = stack.enter_context(Server(argv, [*near, "env", f"MVGATEWAY_CA={gateway.ca}"]))
        beside.wait_for_line("ready")
        wait_for_port("127.0.0.1", plain, near)
        client = stack.enter_context(Station(near, module="bench.store_load"))
        urls = {"TCP straight": straight, "gateways": f"http://127.0.0.1:{plain}"}
        yield network, client, urls, {"near gateway": beside, "far gateway": gateway.server}


def measure(args: argparse.Namespace) -> dict[int, dict[str, list[dict[str, Any]]]]:
    """Clients at once -> way -> one result a round."""
    path = LinkPath.symmetric(Direction(delay_ms=args.rtt / 2, loss=args.loss / 100))
    found: dict[int, dict[str, list[dict[str, Any]]]] = {}
    with site(path) as (network, client, urls, gateways):
        for number in range(args.rounds):
            for clients in args.clients:
                for way in WAYS:
                    network.begin([path], number + 1)  # the same chances for both
                    load = {"url": urls[way], "transport": "h1", "ca": "", "parallel": clients}
                    client.begin("writes", {**load, "page_bytes": PAGE_BYTES, "seconds": args.seconds})
                    client.wait_ready()
                    before = {name: server.cpu_s() for name, server in gateways.items()}
                    client.go()
                    result = client.result(args.seconds + SLACK_S)
                    commits = max(result["commits_per_s"] * args.seconds, 1.0)
                    for name, server in gateways.items():
                        result[f"{name}, CPU ms"] = (server.cpu_s() - before[name]) * 1e3 / commits
                    found.setdefault(clients, {}).setdefault(way, []).append(result)
    return found


def main() -> int:
    """Answers 0 where the gateways are as much better as wanted."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.far_gateways",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rtt", type=float, default=50.0, metavar="MS")
    parser.add_argument("--loss", type=float, default=2.0, metavar="PERCENT")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if (why := unavailable_because()) is not None:
        print(f"no link here: {why}", file=sys.stderr)
        return 2
    found = measure(args)
    ratios = {}
    for clients, by_way in found.items():
        rates = {
            way: median(result["commits_per_s"] for result in results) for way, results in by_way.items()
        }
        ratios[clients] = rates["gateways"] / rates["TCP straight"]
        if not args.json:
            for way, results in by_way.items():
                told = {
                    key: median(result[key] for result in results)
                    for key in results[0]
                    if all(isinstance(result[key], float) for result in results)
                }
                print(f"{clients:3} clients, {way:13} " + ", ".join(f"{k} {v:.2f}" for k, v in told.items()))
            print(
                f"{clients:3} clients: {ratios[clients]:.2f} times as many commits a second; asked: {WANTED:g}"
            )
    if args.json:
        print(json.dumps({"found": found, "ratios": ratios}))
    return 0 if all(ratio >= WANTED for ratio in ratios.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
