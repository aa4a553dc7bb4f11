"""What the tests of recordings share: store folders filled once, and a real gateway on one of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.recordings.once import fill
from tests.runtime.conftest import GatewayProcess


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recording of each size, which nobody has open."""
    folder = tmp_path_factory.mktemp("filled") / "store"
    fill(folder)
    return folder


@pytest.fixture(scope="session")
def serving(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway process on a copy of it."""
    folder = tmp_path_factory.mktemp("serving")
    shutil.copytree(filled, folder / "store")
    child = GatewayProcess(folder).wait_ready()
    yield child
    child.terminate()
