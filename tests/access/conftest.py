"""Keys and tokens for the tests of access control."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from gateway.runtime.access.signing import SigningKey

ALL: dict[str, Any] = {verb: ["*"] for verb in ("sub", "pub", "ent", "inv", "store", "admin")}


class Maker:
    """A studio's backend: keys in a folder, tokens from them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = SigningKey.generate("EdDSA", "first")
        self.key.write(folder)

    def another(self, kid: str, alg: Any = "EdDSA", scope: Any = None) -> SigningKey:
        key = SigningKey.generate(alg, kid, scope)
        key.write(self.folder)
        return key

    def token(self, mv: Any = None, *, for_s: float = 600, key: SigningKey | None = None, **more: Any) -> str:
        claims = {"exp": int(time.time() + for_s), "mv": ALL if mv is None else mv, **more}
        return (key or self.key).sign({name: value for name, value in claims.items() if value is not None})


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "keys")
