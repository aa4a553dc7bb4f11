"""Getting out of a damaged store folder whatever is still readable. Room: store. Blocks.

The folder is only read. What comes out is a new folder, whose every page was checked by its hash.
"""

from __future__ import annotations

from gateway.store.salvage.building import Salvaged
from gateway.store.salvage.salvaging import SalvageReport, salvage

__all__ = ["SalvageReport", "Salvaged", "salvage"]
