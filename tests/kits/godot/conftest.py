"""One imported project with the kit for all tests of the Godot kit, and a gateway as the client's tests have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.client.conftest import served
from tests.kits.godot.engine import errors_in, make_project, run_once

__all__ = ["served"]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the kit in it, imported once, every warning an error."""
    folder = make_project(tmp_path_factory.mktemp("godot") / "project")
    said = run_once("--path", str(folder), "--import")
    assert errors_in(said) == [], said[-4_000:]
    return folder
