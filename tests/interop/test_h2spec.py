"""h2spec, which tries what RFC 9113 and RFC 7541 say of servers, against both doors of a gateway, strictly."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.clients import HERE, NotBuilt, built
from tests.runtime.conftest import GatewayProcess

CASES = 146
RUN_S = 300


@pytest.fixture(scope="module")
def h2spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program; where it cannot be built the tests are skipped, but not in CI."""
    go, program = (
        shutil.which("go") or shutil.which("/usr/local/go/bin/go"),
        tmp_path_factory.mktemp("h2spec") / "h2spec",
    )
    try:
        if go is None:
            raise NotBuilt("there is no go: install it to run h2spec")
        package = "github.com/summerwind/h2spec/cmd/h2spec"
        return built([go, "build", "-buildvcs=false", "-o", str(program), package], HERE / "h2spec", program)
    except NotBuilt as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("gateway"))
    process.wait_ready()
    yield process
    process.kill()


@pytest.mark.parametrize("door", ["plain", "https"])
def test_every_case_of_h2spec_passes(h2spec: Path, gateway: GatewayProcess, door: str) -> None:
    argv = [str(h2spec), "--strict", "-h", "127.0.0.1", "-p", str(gateway.port(door)), "-o", "10"]
    if door == "https":
        argv += ["--tls", "--insecure"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=RUN_S, check=False)
    told = done.stdout.strip().splitlines()
    assert told[-1] == f"{CASES} tests, {CASES} passed, 0 skipped, 0 failed", "\n".join(told[-60:])
