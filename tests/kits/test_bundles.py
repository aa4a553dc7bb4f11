"""The single files of the kits are what their own files make."""

from __future__ import annotations

import pytest

from tests.kits.bundles import BUNDLES, CLIENTS


@pytest.mark.parametrize("name", BUNDLES)
def test_a_single_file_is_made_of_the_kits_own_files(name: str) -> None:
    assert (CLIENTS / name).read_text() == BUNDLES[name](), "python -m tests.kits.bundles makes it anew"
