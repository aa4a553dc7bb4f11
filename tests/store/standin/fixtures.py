"""The same tests over our engine and over the stand-in: the modules that say ``OVER = EACH_STORE`` run twice.

A conftest takes part by asking for ``backend`` (``tests/conftest.py``),
and giving what it answers to the gateways that it starts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.store.standin.rules import Knobs
from tests.store.standin.server import serving

EMBEDDED, STANDIN = "embedded", "standin"
EACH_STORE = (EMBEDDED, STANDIN)
COMMIT_MS = (1.0, 4.0)
"""Less than a real one takes, so that the suites stay short; the faults and the benchmark take 3 to 12."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test of such a module once a store."""
    over = getattr(metafunc.module, "OVER", (EMBEDDED,))
    if "backend" in metafunc.fixturenames and over != (EMBEDDED,):
        metafunc.parametrize("backend", over, indirect=True)


@pytest.fixture
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """The settings that name the store: none for a folder of the gateway's own."""
    if getattr(request, "param", EMBEDDED) == EMBEDDED:
        yield {}
        return
    async with serving(tmp_path / "mvstore", Knobs(commit_ms=COMMIT_MS)) as served:
        yield {"store": served.url, "store_admin": served.admin_url}
