"""Clients that nobody here wrote the QUIC of, built by their own tools, and how they are run. See the folders beside this."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BUILD_S, RUN_S = 600, 360
Prefix = Sequence[str]


class NotBuilt(Exception):
    """The tool is not there, or it cannot get what it builds with: the message says which."""


def build_go(variant: str, folder: Path) -> Path:
    """The client in ``go/`` with the library's version that ``variant`` names. Raises :class:`NotBuilt`."""
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        raise NotBuilt("there is no go: install it to run these")
    program = folder / f"interop-{variant}"
    argv = [go, "build", "-buildvcs=false", f"-modfile={variant}.mod", "-tags", variant, "-o", str(program)]
    return built([*argv, "."], HERE / "go", program)


def build_rust(library: str, folder: Path, program: str = "interop") -> Path:
    """The client in ``rust/`` on the library of that name. ``requests``, which h3-quinn makes, comes with the sessions on quinn,
    for most of what they stand on is the same. Raises :class:`NotBuilt`."""
    cargo = shutil.which("cargo") or shutil.which("cargo", path=str(Path.home() / ".cargo" / "bin"))
    if cargo is None:
        raise NotBuilt("there is no cargo: install Rust to run these")
    target = Path(
        os.environ.get("INTEROP_TARGET") or folder / "rust"
    )  # set where what it stands on was built before
    copied = folder / f"{program}-{library}"
    features = f"{library},h3-quinn" if library == "web-transport-quinn" else library
    argv = [cargo, "build", "--locked", "--quiet", "--features", features, "--target-dir", str(target)]
    shutil.copy(built(argv, HERE / "rust", target / "debug" / program), copied)
    return copied


def built(argv: list[str], where: Path, program: Path) -> Path:
    """``program``, as ``argv`` makes it in the folder ``where``. Raises :class:`NotBuilt`."""
    done = subprocess.run(argv, cwd=where, capture_output=True, text=True, timeout=BUILD_S, check=False)
    if done.returncode != 0 or not program.exists():
        raise NotBuilt(f"{argv[0]} could not build {where.name}: {done.stderr.strip()[-300:]}")
    return program


class Running:
    """One client at work."""

    def __init__(self, program: Path, role: str, words: Sequence[object], prefix: Prefix = ()) -> None:
        self.process = subprocess.Popen(
            [*prefix, str(program), role, *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING": "1"},
        )

    def hear(self, wanted: str) -> None:
        """Wait until it says this line. It gives up by itself, and then says something else."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line == wanted, (
            f"the client said {line!r} for {wanted!r}, and ended with {self.process.poll()}"
        )

    def go_on(self) -> None:
        """Let it begin, or end."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """What a reader saw."""
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        assert self.process.wait(RUN_S) == 0
        answer: dict[str, Any] = json.loads(out.splitlines()[-1])
        return answer

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
