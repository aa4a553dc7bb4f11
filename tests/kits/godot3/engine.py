"""A real Godot 3 for the tests: one project with the reader in it, in which scripts are run against real gateways."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import gateway
from tests.kits.godot.engine import Running
from tests.kits.vectors.make import HERE as VECTORS

KIT = Path(gateway.__file__).parent / "clients" / "godot" / "3.x"
HERE = Path(__file__).parent
LOOK = HERE.parent.parent / "godot.sh"


def program() -> str:
    """Godot 3's path; skips where there is none, which CI does not allow."""
    found = subprocess.run(["sh", str(LOOK), "--look", "3"], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        why = (
            f"{found.stderr.strip()}: the reader for Godot 3 is not tried (tests/system-deps.sh fetches one)"
        )
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    return found.stdout.strip()


def make_project(folder: Path) -> Path:
    """A project in ``folder`` with the reader and the vectors in it."""
    shutil.copytree(KIT / "addons", folder / "addons")
    shutil.copytree(VECTORS, folder / "vectors", ignore=shutil.ignore_patterns("*.py", "__*"))
    shutil.copy(HERE / "case.gd", folder / "case.gd")
    (folder / "project.godot").write_text('config_version=4\n\n[application]\n\nconfig/name="kit"\n')
    return folder


@asynccontextmanager
async def running(project: Path, script: str) -> AsyncIterator[Running]:
    """Run ``script``, the body of a class that extends the tests' base, until the block ends."""
    head = 'extends "res://case.gd"\n\nconst MVGateway = preload("res://addons/mvgateway/mvgateway.gd")\n\n\n'
    (project / "try.gd").write_text(head + script.strip() + "\n")
    command = [program(), "--no-window", "--path", str(project), "-s", "res://try.gd"]
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, "HOME": str(project)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=1 << 26,
    )
    try:
        yield Running(process, project)
    finally:
        if process.returncode is None:
            try:
                process.kill()
            except ProcessLookupError:
                pass
        await process.communicate()
