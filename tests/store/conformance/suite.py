"""The rules that every store obeys, whatever its engine: mvstore's, as far as the Store interface shows them.

An engine's test module says::

    class TestMyStore(StoreConformance):
        @pytest.fixture
        async def store(self, tmp_path):
            ...
            yield store
            await store.aclose()

Tests make namespaces of their own, so one store may serve them all. The rule classes can also be
taken one by one: :class:`RetryRules` holds where retries are known by a record per attempt, which
mvstore itself does not keep.
"""

from __future__ import annotations

from tests.store.conformance.commits import CommitRules
from tests.store.conformance.locks import LockRules
from tests.store.conformance.reads import IntervalRules, ReadRules, TimeRules
from tests.store.conformance.retries import RetryRules
from tests.store.conformance.spaces import NamespaceRules, OverlayRules, TruncationRules


class StoreConformance(
    CommitRules,
    RetryRules,
    ReadRules,
    IntervalRules,
    TimeRules,
    LockRules,
    NamespaceRules,
    OverlayRules,
    TruncationRules,
):
    """All of it. Subclass it as ``Test…`` and give it a ``store`` fixture."""
