"""The same tests over our engine and over the stand-in: the modules that say ``OVER = EACH_STORE`` run twice.

A fixture takes part by asking for ``backend``, and giving what it answers to the gateways that it starts; or for
``each_store``, an open store whose blocking face works in any thread (both are in ``tests/conftest.py``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.store.embedded import EmbeddedStore
from tests.store.standin.elsewhere import Elsewhere
from tests.store.standin.rules import Knobs
from tests.store.standin.server import serving

EMBEDDED, STANDIN = "embedded", "standin"
EACH_STORE = (EMBEDDED, STANDIN)
COMMIT_MS = (1.0, 4.0)
"""Less than a real one takes, so that the suites stay short; the faults and the benchmark take 3 to 12."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test of such a module once a store."""
    over = getattr(metafunc.module, "OVER", (EMBEDDED,))
    for name in ("backend", "each_store"):
        if name in metafunc.fixturenames and over != (EMBEDDED,):
            metafunc.parametrize(name, over, indirect=True)


@pytest.fixture
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """The settings that name the store: none for a folder of the gateway's own."""
    if getattr(request, "param", EMBEDDED) == EMBEDDED:
        yield {}
        return
    async with serving(tmp_path / "mvstore", Knobs(commit_ms=COMMIT_MS)) as served:
        yield {"store": served.url, "store_admin": served.admin_url}


@pytest.fixture
def each_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedStore | Elsewhere]:
    """An open store."""
    if getattr(request, "param", EMBEDDED) == EMBEDDED:
        embedded = EmbeddedStore.open(tmp_path / "store")
        yield embedded
        embedded.close()
        return
    elsewhere = Elsewhere(tmp_path / "mvstore", Knobs(commit_ms=COMMIT_MS)).start()
    yield elsewhere
    elsewhere.close()
