"""The gateway's one ASGI app, over what whoever asks may see. Room: runtime."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from gateway.config import Settings
from gateway.core import ports
from gateway.core.admission import PeerRates, Refusals
from gateway.core.entities import EntityPort
from gateway.core.gate import Standing
from gateway.core.origins import Origins
from gateway.http import dataplane
from gateway.http.answers import ANSWERS, AnswerBudget
from gateway.http.app import Application, build_app
from gateway.http.bodies import BodyBounds
from gateway.http.entities import entity_routes
from gateway.http.grants import grant_routes
from gateway.http.homes import home_routes
from gateway.http.metrics import Metric
from gateway.http.recordings import RecordingService, recording_routes
from gateway.runtime.access.gate import AccessGate
from gateway.runtime.access.granted import (
    GrantedEntities,
    GrantedRecordings,
    GrantedWorlds,
    granted_store,
)
from gateway.runtime.certs import Certificates
from gateway.runtime.doors import HostedDoors
from gateway.runtime.edges.forward import PeerForward
from gateway.runtime.entities.service import EntityService
from gateway.runtime.recordings import HostedRecordings
from gateway.runtime.workers.forward import Forward
from gateway.runtime.workers.siblings import Siblings
from gateway.runtime.worlds import HostedWorlds
from gateway.store.base import Store

Facts = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Answered:
    """What ``/metrics``, ``/healthz`` and ``/readyz`` answer: this process's own, or that of all workers."""

    metrics: Callable[[], Iterable[Metric] | Awaitable[Iterable[Metric]]]
    health: Callable[[], Facts | Awaitable[Facts]]
    ready: Callable[[], Facts | Awaitable[Facts]]
    revoke: Callable[[str], Awaitable[Facts]]


@dataclass(frozen=True, slots=True)
class RoutedParts:
    """What the routes are made over. ``works``: turns of who has a recording verified or a world branched;
    ``siblings``: the other workers, where there are some."""

    settings: Settings
    store: Store
    worlds: HostedWorlds
    entities: EntityService
    recordings: HostedRecordings
    doors: HostedDoors
    certificates: Certificates
    origins: Origins
    refusals: Refusals
    works: AnswerBudget
    gate: AccessGate | None
    siblings: Siblings | None


class _Shown(NamedTuple):
    worlds: ports.Worlds
    entities: EntityPort
    recordings: RecordingService
    store: Store


def application(parts: RoutedParts, told: Answered, more: Sequence[BaseRoute] = ()) -> Application:
    """Everything that a gateway answers over HTTP, and ``more``."""
    answers, settings, shown = AnswerBudget(ANSWERS), parts.settings, _shown(parts)
    app = build_app(
        shown.worlds,
        parts.doors,
        extra_routes=[
            *entity_routes(shown.entities, answers),
            *recording_routes(shown.recordings, parts.doors, answers, parts.works),
            *home_routes(parts.worlds.give_up),
            *dataplane.routes(shown.store, auto_create=True, wire_zstd=True, near_zstd=False),
            *([] if parts.gate is None else grant_routes(told.revoke)),
            *more,
        ],
        metrics=told.metrics,
        health=told.health,
        ready=told.ready,
        certificate_sha256=lambda: parts.certificates.current.sha256,
        message_bytes_max=settings.max_message_bytes,
        bodies=BodyBounds(
            settings.json_body_bytes_max,
            settings.entity_bytes_max,
            settings.batch_bytes_max,
            settings.batch_operations_max,
        ),
        unfinished_bytes_max=settings.unfinished_bytes_max,
        origins=parts.origins,
        refusals=parts.refusals,
        answers=answers,
        gate=parts.gate,
        around=lambda inner: _forwarding(parts, inner),
    )
    per_s = float(settings.requests_per_address_per_s)
    app.rates = PeerRates(per_s, "requests", "--requests-per-address-per-s")
    return app


def _forwarding(parts: RoutedParts, app: ASGIApp) -> ASGIApp:
    """What is another worker's, or another gateway's, goes there, once the gate here has let it pass."""
    worlds = parts.worlds
    if worlds.peers is not None:
        app = PeerForward(app, worlds.peers, worlds.peer_of_home)
    return app if parts.siblings is None else Forward(app, parts.siblings, worlds.home_of)


def _shown(parts: RoutedParts) -> _Shown:
    """What the routes see: with a gate, only what the grant of whoever asks has names for."""
    worlds = parts.worlds
    if parts.gate is None:
        return _Shown(worlds, parts.entities, parts.recordings, parts.store)

    def tie(token: str, standing: Standing) -> None:
        if worlds.udp is not None:
            worlds.udp.tie(token, standing)

    return _Shown(
        GrantedWorlds(worlds, parts.gate.another, tie),
        GrantedEntities(parts.entities),
        GrantedRecordings(parts.recordings),
        granted_store(parts.store),
    )
