"""The kit built once by each Elixir, and a gateway as the client's tests have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.client.conftest import served

__all__ = ["served"]


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the build of each release, once it was asked for."""
    return tmp_path_factory.mktemp("elixir")
