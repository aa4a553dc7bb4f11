"""What a gateway tells of itself, told by all of its workers as one. Room: runtime."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

from gateway.http.metrics import Metric, Sample
from gateway.runtime.access.gate import AccessGate
from gateway.runtime.workers.service import Answer
from gateway.runtime.workers.siblings import Siblings
from gateway.runtime.workers.together import joined_health, joined_metrics, joined_ready, told_metrics

Facts = Callable[[], Mapping[str, object]]


class AsOne:
    """This worker's own answers (``metrics``, ``health``, ``ready``, revocations by ``gate``) and those of its siblings, joined."""

    def __init__(
        self,
        siblings: Siblings,
        *,
        metrics: Callable[[], Iterator[Metric]],
        health: Facts,
        ready: Facts,
        gate: AccessGate | None,
    ) -> None:
        self._siblings = siblings
        self._metrics, self._health, self._ready, self._gate = metrics, health, ready, gate

    def tellers(self) -> dict[str, Answer]:
        """What the other workers ask for, by its name on the channel."""
        return {
            "metrics": self._tell_metrics,
            "health": self._tell_health,
            "ready": self._tell_ready,
            "revoke": self._tell_revoked,
        }

    async def _tell_metrics(self, told: Mapping[str, object]) -> object:
        return told_metrics(self._own_metrics())

    def _own_metrics(self) -> Iterator[Metric]:
        yield from self._metrics()
        sample = Sample(os.getpid())
        yield Metric("mvgateway_worker_process", "gauge", "The worker's process number", (sample,))

    async def _tell_health(self, told: Mapping[str, object]) -> object:
        return dict(self._health())

    async def _tell_ready(self, told: Mapping[str, object]) -> object:
        return dict(self._ready())

    async def _tell_revoked(self, told: Mapping[str, object]) -> object:
        return None if self._gate is None else dict(await self._gate.revoke(str(told["name"])))

    async def metrics(self) -> list[Metric]:
        """Every worker's, each sample with its worker's number."""
        told = {str(self._siblings.worker.number): told_metrics(self._own_metrics())}
        others = await self._siblings.ask_all("metrics")
        told |= {str(number): metrics for number, metrics in others.items()}
        return joined_metrics(dict(sorted(told.items())))

    async def health(self) -> Mapping[str, object]:
        """The worst of all."""
        others = await self._siblings.ask_all("health")
        return joined_health(self._health(), others.values(), self._siblings.worker.group.count)

    async def ready(self) -> Mapping[str, object]:
        """Ready where all are."""
        others = await self._siblings.ask_all("ready")
        return joined_ready(self._ready(), others.values())

    async def ended_elsewhere(self, name: str) -> int:
        """Revoke a grant at every other worker; the sessions that ended there."""
        others = await self._siblings.ask_all("revoke", name=name)
        return sum(int(other["ended"]) for other in others.values())
