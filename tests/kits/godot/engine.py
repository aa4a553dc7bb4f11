"""A real Godot for the tests: one project with the kit in it, in which scripts are run against real gateways."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import gateway
from tests.patience import FOREIGN_S

KIT = Path(gateway.__file__).parent / "clients" / "godot"
HERE = Path(__file__).parent
LOOK = HERE.parent.parent / "godot.sh"
SECONDS = FOREIGN_S
ALONE = "try"
STRICT = """
confusable_capture_reassignment confusable_identifier confusable_local_declaration confusable_local_usage
deprecated_keyword empty_file get_node_default_without_onready incompatible_ternary inference_on_variant
inferred_declaration int_as_enum_without_cast int_as_enum_without_match integer_division missing_await
narrowing_conversion native_method_override onready_with_export redundant_await redundant_static_unload
return_value_discarded shadowed_global_identifier shadowed_variable shadowed_variable_base_class
standalone_expression standalone_ternary static_called_on_instance unassigned_variable
unassigned_variable_op_assign unreachable_code unreachable_pattern unsafe_call_argument unsafe_cast
unsafe_method_access unsafe_property_access unsafe_void_return untyped_declaration unused_local_constant
unused_parameter unused_private_class_variable unused_signal unused_variable ).split(
"""
"""Every warning that there is in Godot 4.6, but two for asserts; named, so that a newer engine's new ones fail nothing."""


def program() -> str:
    """Godot's path; skips where there is none, which CI does not allow."""
    found = subprocess.run(["sh", str(LOOK), "--look"], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        why = f"{found.stderr.strip()}: the kit is not tried (tests/system-deps.sh fetches one)"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    return found.stdout.strip()


def project_text(**more: str) -> str:
    """A project's settings, with every warning an error in the kit and its example (and none in the tests' scripts)."""
    lines = ["config_version=5", "", "[application]", "", 'config/name="kit"', "", "[debug]", ""]
    rules = '{"res://": 0, "res://addons": 1, "res://avatars": 1}'
    lines += ["gdscript/warnings/exclude_addons=false", f"gdscript/warnings/directory_rules={rules}"]
    lines += [f"gdscript/warnings/{name}=2" for name in STRICT.split()]
    for section, text in more.items():
        lines += ["", f"[{section}]", "", text]
    return "\n".join(lines) + "\n"


def make_project(folder: Path, **more: str) -> Path:
    """A project in ``folder`` with the kit and its example in it."""
    shutil.copytree(KIT / "addons", folder / "addons")
    shutil.copytree(KIT / "example" / "avatars", folder / "avatars")
    shutil.copy(HERE / "case.gd", folder / "case.gd")
    (folder / "project.godot").write_text(project_text(**more))
    return folder


def run_once(*arguments: str, seconds: float = SECONDS) -> str:
    """What the engine says; it must end well and report no error."""
    done = subprocess.run(
        [program(), "--headless", *arguments], capture_output=True, text=True, timeout=seconds, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-4_000:]
    return said


def errors_in(said: str) -> list[str]:
    """Lines by which the engine reports a fault of scripts or scenes."""
    signs = ("SCRIPT ERROR", "Parse Error", "SCRIPT WARNING", "ERROR:", "WARNING:")
    return [line for line in said.splitlines() if any(sign in line for sign in signs)]


class Running:
    """An engine at work. :meth:`said` waits for a line of its script, :meth:`tell` is what its script waits for."""

    def __init__(self, process: asyncio.subprocess.Process, project: Path) -> None:
        self._process = process
        self._project = project
        self._seen: list[tuple[str, Any]] = []
        self.output: list[str] = []

    async def said(self, name: str, seconds: float = SECONDS) -> Any:
        """The value of the next line of that name; lines of other names are kept."""
        end = time.monotonic() + seconds
        while True:
            for at, (found, value) in enumerate(self._seen):
                if found == name:
                    del self._seen[at]
                    return value
            assert self._process.stdout is not None
            left = end - time.monotonic()
            assert left > 0, f"no line {name!r} came; the engine said:\n" + "".join(self.output[-60:])
            try:
                line = await asyncio.wait_for(self._process.stdout.readline(), left)
            except TimeoutError:
                continue
            text = line.decode(errors="replace")
            assert line, f"the engine ended without {name!r}:\n" + "".join(self.output[-60:])
            if text.startswith('{"said"'):
                told = json.loads(text)
                self._seen.append((told["said"], told["value"]))
            self.output.append(text)

    def unread(self) -> list[tuple[str, Any]]:
        """What was said and not asked for."""
        return list(self._seen)

    def tell(self, name: str, text: str = "") -> None:
        """Also to the other engines of the same project."""
        made = self._project / f"told.{name}"
        made.write_text(text)
        made.rename(self._project / f"told-{name}")

    def kill(self) -> None:
        self._process.kill()

    def faults(self) -> list[str]:
        return errors_in("".join(self.output))


def _lay(project: Path, name: str, script: str) -> None:
    for old in project.glob("told-*") if name == ALONE else ():
        old.unlink()
    (project / f"{name}.gd").write_text('extends "res://case.gd"\n\n\n' + script.strip() + "\n")


@asynccontextmanager
async def running(
    project: Path, script: str, *arguments: str, name: str = ALONE, prefix: Sequence[str] = ()
) -> AsyncIterator[Running]:
    """Run ``script`` (the body of a class that extends the test's base) until the block ends. ``name``: of its own for
    each of several engines at once. ``prefix``: words before the command."""
    _lay(project, name, script)
    command = [
        *prefix,
        program(),
        "--headless",
        "--path",
        str(project),
        "--script",
        f"res://{name}.gd",
        *arguments,
    ]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, limit=1 << 26
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
