"""The peer moq-relay: where it is or how it is built, its server, its publisher and its readers. Room: bench/peers.

Publisher and readers are a small program on moq-relay's own crates (``bench/peers/moq``), built the same way. A *shape*
says how frames are put into groups, each of which is a QUIC stream: one a frame, or one a second.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.processes import BenchError, Prefix, Server

VERSION = "0.17.10"
"""What the published figures were measured with."""
SHAPES = {"moq, a stream a frame": 1, "moq, a stream a second": 60}
"""Frames a group at 60 Hz."""
HERE = Path(__file__).resolve().parent / "moq"
BUILT = Path(os.environ.get("BENCH_MOQ_BUILT") or HERE / "built")
"""Where both programs are put; BENCH_MOQ_BUILT names another folder."""
READY_S = 60.0


def relay() -> str | None:
    """The relay's program: one on the path, or the one that was built."""
    built = BUILT / "bin" / "moq-relay"
    return str(built) if built.exists() else shutil.which("moq-relay")


def client() -> str | None:
    """The publisher's and readers' program."""
    built = BUILT / "bin" / "moq-bench"
    return str(built) if built.exists() else None


def missing() -> str | None:
    """None if both are here, else what to do."""
    if relay() is not None and client() is not None:
        return None
    if shutil.which("cargo") is None:
        return "moq-relay is not here, and no cargo to build it with (https://rustup.rs)"
    return "moq-relay is not built yet: python -m bench.moq --build (a quarter of an hour)"


def build() -> None:
    """Build both. Raises ``CalledProcessError``."""
    relay_words = ["moq-relay", "--version", VERSION, "--no-default-features", "--features", "noq"]
    for words in (relay_words, ["--locked", "--path", str(HERE)]):
        subprocess.run(["cargo", "install", "--root", str(BUILT), *words], check=True)


def version() -> str:
    """What the relay says of itself."""
    done = subprocess.run([relay() or "false", "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def serve(host: str, port: int, cert: Path, key: Path, prefix: Prefix = ()) -> Server:
    """The relay, for anybody to publish and read."""
    argv = [
        relay() or "moq-relay",
        "--listen",
        f"{host}:{port}",
        "--auth-public",
        "**",
        "--log-level",
        "error",
    ]
    argv += ["--listen-tls-cert", str(cert), "--listen-tls-key", str(key)]
    return Server(argv, prefix, quiet=True)


class Program:
    """A publisher or a crowd of readers. A context manager."""

    def __init__(
        self, words: Sequence[str], prefix: Prefix = (), cores: frozenset[int] | None = None
    ) -> None:
        self._process = subprocess.Popen(
            [*prefix, client() or "moq-bench", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        if cores is not None:
            os.sched_setaffinity(self._process.pid, cores)

    def _line(self, seconds: float) -> str:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        line = self._process.stdout.readline().strip() if ready else ""
        if not line:
            raise BenchError(f"moq's {self._process.args!r} said nothing for {seconds:g} s, or ended")
        return line

    def wait_ready(self) -> None:
        """Until it publishes, or every reader has had a frame."""
        self._line(READY_S)

    def go(self) -> None:
        """Begin to count."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def result(self, seconds: float) -> Mapping[str, Any]:
        """What readers counted."""
        answer: dict[str, Any] = json.loads(self._line(seconds))
        return answer

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.communicate()
