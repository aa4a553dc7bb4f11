"""docs/ACCESS.md, the first five minutes: its commands, run as they stand there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import HANG_S
from tests.runtime.conftest import GatewayProcess

from .test_makers import ACCESS, MUST


def commands() -> list[str]:
    """Those with which the page begins, without their comments."""
    before, *_ = ACCESS.read_text().partition("\n## ")
    (block,) = re.findall(r"^```sh\n(.*?)^```", before, re.MULTILINE | re.DOTALL)
    return [line.partition(" #")[0].strip() for line in block.splitlines()]


@pytest.mark.skipif(
    shutil.which("curl") is None and not MUST, reason="curl is not installed: the first minutes are not tried"
)
def test_the_first_five_minutes_go_as_they_are_told(tmp_path: Path) -> None:
    def run(command: str) -> str:
        done = subprocess.run(
            ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=HANG_S
        )
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    lines = [line.replace("mvgateway ", f"{sys.executable} -m gateway.cli ") for line in commands()]
    umask, keygen, serve, *others = lines
    assert umask.startswith("umask")
    assert "keygen" in keygen
    assert "serve --auth-keys keys" in serve
    run(f"PYTHONPATH={Path(__file__).resolve().parents[2]} {keygen}")
    gateway = GatewayProcess(tmp_path, "--auth-keys", str(tmp_path / "keys")).wait_ready()
    try:
        said = [
            run(f"PYTHONPATH={Path(__file__).resolve().parents[2]}; export PYTHONPATH; {line}")
            for line in (
                one.replace("http://127.0.0.1:7080", gateway.base_url).replace("curl ", "curl -s ")
                for one in others
            )
        ]
    finally:
        gateway.kill()
    *_, made, listed, missing, refused = [json.loads(text) if text else None for text in said]
    assert made["world"] == "plaza-7"
    assert [world["world"] for world in listed["worlds"]] == ["plaza-7"]
    assert (missing["status"], missing["rule"]) == (401, "missing")
    assert (refused["status"], refused["rule"]) == (403, "verb")
