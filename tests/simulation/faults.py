"""A store as one gateway reaches it over a network that fails. One thread; whatever happens is drawn from one seeded source."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from gateway.errors import GatewayError, StoreUnavailable
from gateway.store.base import CommitRequest, Committed, Namespace, PageContent, PageRead, Stat, Traits
from gateway.store.embedded import Engine

T = TypeVar("T")


class FaultyStore:
    """A ``BlockingStore``. ``cut`` or ``dead``: nothing gets through. ``flaky``: how likely it is that a request, or
    (of those that were done) its answer, is lost."""

    traits = Traits(in_process=True)

    def __init__(self, engine: Engine, rng: random.Random) -> None:
        self.engine = engine
        self.rng = rng
        self.cut = False
        self.dead = False
        self.flaky = 0.0

    @property
    def away(self) -> bool:
        return self.cut or self.dead

    def loses(self) -> bool:
        """Whether what goes one way now is lost."""
        return self.away or self.rng.random() < self.flaky

    def _ask(self, call: Callable[..., T], *args: Any, **more: Any) -> T:
        if self.loses():
            raise StoreUnavailable("the request was lost")
        answer = call(*args, **more)
        if self.loses():
            raise StoreUnavailable("the answer was lost")
        return answer

    def stat(self, ns: Namespace, **how: Any) -> Stat:
        return self._ask(self.engine.stat, ns, **how)

    def read(self, ns: Namespace, reads: Sequence[PageRead]) -> list[PageContent]:
        return self._ask(self.engine.read, ns, reads)

    def write(self, ns: Namespace, pages: Sequence[bytes]) -> list[bytes]:
        return self._ask(self.engine.write, ns, pages)

    def commit(self, request: CommitRequest) -> Committed:
        return self._ask(self.engine.commit, request)

    def apply(self, request: CommitRequest) -> Committed | GatewayError:
        """The store's own end of a commit that has arrived there."""
        return self.engine.commit_each([request])[0]

    def __getattr__(self, name: str) -> Any:
        """Time and namespaces: as the engine does, if anything gets through."""
        call = getattr(self.engine, name)
        return lambda *args, **more: self._ask(call, *args, **more)
