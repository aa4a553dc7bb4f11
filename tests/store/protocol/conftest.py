"""The door of a test: started once for all tests of a module."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.store.protocol.backends import DOORS, Door, opened
from tests.store.standin import differences


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=DOORS)
async def door(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Door]:
    folder: Path = tmp_path_factory.mktemp("door")
    with pytest.MonkeyPatch.context() as monkeypatch:
        async with opened(request.param, folder, monkeypatch) as door:
            yield door


@pytest.fixture(autouse=True)
def _otherwise(request: pytest.FixtureRequest) -> None:
    """Over the bare stand-in of mvstore, what is listed is expected to fail."""
    if "[standin/" in request.node.name:
        differences.expect(request)
