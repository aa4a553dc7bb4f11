"""A real Elixir for the tests: the kit's Mix project, built outside of the repository, against real gateways. Two of them: the system's
and the newest that Debian has."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import gateway
from tests.kits.godot.engine import Running
from tests.patience import FOREIGN_S

KIT = Path(gateway.__file__).parent / "clients" / "elixir"
VECTORS = Path(__file__).parent.parent / "vectors"
LOOK = Path(__file__).parent.parent.parent / "elixir.sh"
SECONDS = 2 * FOREIGN_S
RELEASES = ("installed", "newest")
PREAMBLE = """
defmodule Case do
  def say(name, value \\\\ nil), do: IO.puts("\\n" <> MVGateway.JSON.encode([{"said", name}, {"value", value}]))
  def hex(records), do: Map.new(records, fn {key, data} -> {to_string(key), Base.encode16(data, case: :lower)} end)
  def told(name), do: until(fn -> File.exists?(path(name)) end)
  def text_of(name), do: File.read!(path(name))
  defp path(name), do: Path.join(System.fetch_env!("TOLD"), "told-" <> name)

  def until(what, left \\\\ 5_000) do
    cond do
      what.() -> true
      left == 0 -> raise "it did not come to hold"
      true -> Process.sleep(20) && until(what, left - 1)
    end
  end
end
"""


def missing(why: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def folder(release: str) -> str:
    """Where ``mix`` and ``elixir`` of that release are; skips where they are not, which CI does not allow."""
    if release == "installed":
        found = shutil.which("mix")
        if found is None:
            missing("Elixir is not installed: its kit is not tried (tests/system-deps.sh installs it)")
        return str(Path(found or "").parent)
    looked = subprocess.run(["sh", str(LOOK), "--look"], capture_output=True, text=True, check=False)
    if looked.returncode != 0:
        missing(f"{looked.stderr.strip()}: the kit is tried by the installed Elixir alone")
    return looked.stdout.strip()


def environment(release: str, build: Path, **more: str) -> dict[str, str]:
    """For a process of that release, whose build is kept in ``build``."""
    mine = {
        "PATH": f"{folder(release)}:{os.environ['PATH']}",
        "MIX_BUILD_PATH": str(build),
        "MIX_ENV": "test",
    }
    return {**os.environ, **mine, "LC_ALL": "C.UTF-8", "MVGATEWAY_VECTORS": str(VECTORS), **more}


async def mix(release: str, build: Path, *arguments: str, project: Path = KIT, **more: str) -> str:
    """What ``mix`` says; it must end well."""
    process = await asyncio.create_subprocess_exec(
        "mix",
        *arguments,
        cwd=project,
        env=environment(release, build, **more),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    said = out.decode(errors="replace")
    assert process.returncode == 0, said[-6_000:]
    return said


@asynccontextmanager
async def running(
    build: Path,
    told: Path,
    script: str,
    *,
    name: str = "try",
    modules: str = "",
    release: str = "installed",
    prefix: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> AsyncIterator[Running]:
    """Run a script over the kit as it was built in ``build``, until the block ends. ``modules``: what it stands on."""
    path, beside = told / f"{name}.exs", told / f"{name}-modules.exs"
    path.write_text("import Case\n" + script)
    beside.write_text(PREAMBLE + modules)
    command = [
        *prefix,
        "elixir",
        "-pa",
        str(build / "lib" / "mvgateway" / "ebin"),
        "-r",
        str(beside),
        str(path),
    ]
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment(release, build, TOLD=str(told), **(variables or {})),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=1 << 26,
    )
    try:
        yield Running(process, told)
    finally:
        if process.returncode is None:
            try:
                process.kill()
            except ProcessLookupError:
                pass
        await process.communicate()
