"""The door of a test: started once for all tests of a module."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.store.protocol.backends import DOORS, Door, opened


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=DOORS)
async def door(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Door]:
    folder: Path = tmp_path_factory.mktemp("door")
    with pytest.MonkeyPatch.context() as monkeypatch:
        async with opened(request.param, folder, monkeypatch) as door:
            yield door
