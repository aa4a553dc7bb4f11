"""One project with the reader for all tests of Godot 3, and a gateway as the client's tests have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.client.conftest import served
from tests.kits.godot3.engine import make_project

__all__ = ["served"]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("godot3") / "project")
