"""For every kit: how long its tests may take."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.foreign import allow


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    allow(items, Path(__file__).parent)
