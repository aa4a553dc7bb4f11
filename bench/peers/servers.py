"""Starting the peers' servers: Redis, NATS, Caddy, the stock relay. Room: bench/peers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.processes import Prefix, Server, wait_for_port

PACKAGES = {"redis": "redis-server", "nats": "nats-server", "caddy": "caddy"}


@dataclass(frozen=True, slots=True)
class Missing:
    """A peer that is not here, and how it could be."""

    name: str
    reason: str


def available(name: str) -> str | None:
    """None if the peer's server is installed (after trying to), else why it is missing."""
    package = PACKAGES.get(name)
    if package is None or shutil.which(package):
        return None
    if os.geteuid() == 0 and shutil.which("apt-get"):
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update", "-qq"], ["install", "-y", "-qq", package]):
            subprocess.run(["apt-get", *words], capture_output=True, check=False, env=env)
    return None if shutil.which(package) else f"{package} is not installed and could not be"


VERSION_WORDS = {"redis": "--version", "nats": "--version", "caddy": "version"}


def version(name: str) -> str:
    """What the installed server says of itself."""
    argv = [PACKAGES[name], VERSION_WORDS[name]]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().splitlines()[0] if done.stdout or done.stderr else "unknown"


def redis(host: str, port: int, folder: Path, prefix: Prefix = ()) -> Server:
    """Redis without persistence, pub/sub buffers left at their defaults."""
    argv = [
        "redis-server",
        "--port",
        str(port),
        "--bind",
        host,
        "--save",
        "",
        "--protected-mode",
        "no",
        "--dir",
        str(folder),
    ]
    return _started(argv, host, port, prefix)


def nats(host: str, port: int, folder: Path, prefix: Prefix = ()) -> Server:
    """NATS core, no JetStream."""
    return _started(["nats-server", "-a", host, "-p", str(port)], host, port, prefix)


def stock_relay(host: str, port: int, cert: Path, key: Path, prefix: Prefix = ()) -> Server:
    """One ``send_datagram_frame`` per reader on unmodified aioquic."""
    server = Server(
        [sys.executable, "-m", "bench.peers.stock_relay", host, str(port), str(cert), str(key)], prefix
    )
    server.wait_for_line("ready")
    return server


def caddy(
    host: str,
    port: int,
    upstream: str,
    cert: Path,
    key: Path,
    folder: Path,
    prefix: Prefix = (),
    *,
    plain: int | None = None,
) -> Server:
    """Caddy as HTTP/3 (and HTTP/2) reverse proxy in front of ``upstream``; at the port ``plain`` in clear text, too."""
    config = folder / "Caddyfile"
    config.write_text(
        "{\n admin off\n auto_https off\n servers {\n  protocols h1 h2 h3\n }\n}\n"
        f"https://{host}:{port} {{\n bind {host}\n tls {cert} {key}\n reverse_proxy {upstream}\n}}\n"
        + (f"http://{host}:{plain} {{\n bind {host}\n reverse_proxy {upstream}\n}}\n" if plain else "")
    )
    return _started(["caddy", "run", "--config", str(config), "--adapter", "caddyfile"], host, port, prefix)


def _started(argv: Sequence[str], host: str, port: int, prefix: Prefix) -> Server:
    server = Server(argv, prefix, quiet=True)
    wait_for_port(host, port, prefix)
    return server
