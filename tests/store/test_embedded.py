"""The embedded engine obeys the rules of a store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store.base import BlockingStore, Store
from gateway.store.embedded import EmbeddedStore
from tests.store.conformance.suite import StoreConformance


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    store = EmbeddedStore.open(tmp_path_factory.mktemp("store"))
    yield store
    store.close()


class TestEmbeddedStore(StoreConformance):
    @pytest.fixture
    def store(self, opened: EmbeddedStore) -> EmbeddedStore:
        return opened


async def test_both_faces_are_of_the_interface(tmp_path: Path) -> None:
    store = EmbeddedStore.open(tmp_path)
    face: BlockingStore = store.blocking()
    assert isinstance(store, Store)
    face.create_namespace("a")
    assert [info.key for info in await store.list_namespaces()] == ["a"]
    await store.aclose()
    await store.aclose()
