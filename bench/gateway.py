"""The gateway under measurement, as a process of its own. Room: bench."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.processes import Prefix, Server, free_port


class Gateway:
    """``mvgateway serve`` on a store and certificates in ``folder``. A context manager.

    ``extra`` are further flags, e.g. ``("--quic-path", "stock")``.
    """

    def __init__(
        self,
        folder: Path,
        host: str = "127.0.0.1",
        *,
        prefix: Prefix = (),
        extra: tuple[str, ...] = (),
    ) -> None:
        self.host = host
        self.port = free_port()
        argv = [sys.executable, "-m", "gateway.cli", "serve", "--host", host, "--port", str(self.port)]
        argv += ["--certs", str(folder / "certs"), "--no-plain", *extra]
        if "--store" not in extra:
            argv += ["--store", str(folder / "store")]
        if host != "127.0.0.1":
            argv += ["--insecure-public", "--page-plane", "public"]
        self.server = Server(argv, prefix)
        facts = "\n".join(self.server.wait_for_line("ready"))
        found = re.search(r"\b[0-9a-f]{64}\b", facts)
        self.certificate_sha256 = found.group(0) if found else ""
        self.ca = folder / "certs" / "ca.pem"

    @property
    def url(self) -> str:
        """``https://host:port``."""
        return f"https://{self.host}:{self.port}"

    def target(self, world: str) -> dict[str, Any]:
        """What a door needs to reach a world."""
        return {"url": self.url, "host": self.host, "port": self.port, "world": world, "ca": str(self.ca)}

    def __enter__(self) -> Gateway:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.stop()
