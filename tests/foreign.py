"""What the tests have in common that run browsers, engines, compilers and programs on other stacks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.patience import FOREIGN_TEST_S


def allow(items: Iterable[pytest.Item], folder: Path, seconds: float = FOREIGN_TEST_S) -> None:
    """Let each test in ``folder`` take so long that does not say another time."""
    for item in items:
        if item.path.is_relative_to(folder) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(seconds))
