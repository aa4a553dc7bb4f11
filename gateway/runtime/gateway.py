"""The gateway as a whole: the only place that wires the parts. Room: runtime.

:meth:`Gateway.start` opens the store and the doors; :meth:`Gateway.drain` ends them in the order
in which nobody loses anything: ``bye`` to sessions, the journals flushed, doors and store closed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from gateway import __version__, limits
from gateway.config import SETTINGS, Settings, in_brackets, is_loopback, reloadable, split_address
from gateway.core import ports
from gateway.core.admission import PeerRates, Refusals
from gateway.core.entities import EntityPort
from gateway.core.gate import Standing
from gateway.core.origins import Origins
from gateway.errors import GatewayError
from gateway.http import admin, dataplane
from gateway.http.access import AccessLog
from gateway.http.answers import ANSWERS, AnswerBudget, works_of
from gateway.http.app import Application, build_app
from gateway.http.bodies import BodyBounds
from gateway.http.entities import entity_routes
from gateway.http.grants import grant_routes
from gateway.http.homes import home_routes
from gateway.http.metrics import Metric, Sample
from gateway.http.planes import WithoutPagePlane
from gateway.http.recordings import RecordingService, recording_routes
from gateway.http.server import TcpOptions, TcpServer
from gateway.limits import UDP_LINGER_S
from gateway.quic import QuicOptions, ServerTls, listen
from gateway.quic.connection.minting import ALONE, IdLayout, Mint
from gateway.quic.server import ServerEndpoint
from gateway.quic.udp.handing import Handing
from gateway.runtime import logs
from gateway.runtime.access.clientcerts import grant_of
from gateway.runtime.access.granted import (
    GrantedEntities,
    GrantedRecordings,
    GrantedWorlds,
    granted_store,
)
from gateway.runtime.access.opening import gate_of
from gateway.runtime.certs import Certificate, Certificates
from gateway.runtime.doors import HostedDoors
from gateway.runtime.edges.forward import PeerForward
from gateway.runtime.entities.service import EntityService
from gateway.runtime.events import EventLog
from gateway.runtime.garbage import Collecting
from gateway.runtime.health import Health
from gateway.runtime.journal import JournalPump
from gateway.runtime.looplag import LoopLag
from gateway.runtime.metrics import Metrics
from gateway.runtime.recordings import HostedRecordings
from gateway.runtime.resetkey import reset_key
from gateway.runtime.sockets import Sockets, bind_all
from gateway.runtime.storelook import StoreLook
from gateway.runtime.udp import UdpDoor
from gateway.runtime.watch import OperatorWatch
from gateway.runtime.workers.forward import Forward
from gateway.runtime.workers.group import Worker
from gateway.runtime.workers.owner import open_owned
from gateway.runtime.workers.service import Service
from gateway.runtime.workers.siblings import Siblings
from gateway.runtime.workers.together import joined_health, joined_metrics, joined_ready, told_metrics
from gateway.runtime.worlds import HostedWorlds
from gateway.store.base import Store
from gateway.store.embedded import EmbeddedStore

log = logging.getLogger("mvgateway")


class _Shown(NamedTuple):
    """What the routes are made over."""

    worlds: ports.Worlds
    entities: EntityPort
    recordings: RecordingService
    store: Store


More = Callable[["Gateway"], Sequence[BaseRoute]]
"""Routes of one that is there for something else besides: made with it, before its doors open."""


class Gateway:
    """Made by :meth:`start`, ended by :meth:`drain`."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        certificates: Certificates,
        origins: Origins,
        port: int = 0,
        worker: Worker | None = None,
        more: More | None = None,
    ) -> None:
        """``worker``: which one this is, where several processes are one gateway. ``more``: routes beside its own."""
        self._more = more
        self.settings = settings
        self.store = store
        self.certificates = certificates
        self.events = EventLog(log)
        self.refusals = Refusals()
        is_elsewhere = "://" in settings.store or worker is not None
        self.store_look = StoreLook(store, settings.store, self.events) if is_elsewhere else None
        self._worker = worker
        self._instance = secrets.token_hex(6) if worker is None else worker.group.run
        self._siblings = None if worker is None else Siblings(worker)
        self._service: Service | None = None
        self.worlds = HostedWorlds(
            *(store, settings, self.events.session, self.refusals, port, self._store_failure, self._siblings),
            ca=certificates.ca_path,
        )
        self._health = Health(self._journals, self._store_failure)
        self.origins = origins
        self.gate = gate_of(settings, self.events)
        self.doors = HostedDoors(self.worlds, origins, self.refusals, self.events, self.gate)
        self.entities = EntityService(store, self.worlds)
        self.doors.add("entities/live", self.entities.open_live)
        self.doors.follow = self.entities.open_following
        self.recordings = HostedRecordings(self.worlds)
        self.doors.add("replay", self.recordings.open_replay)
        self.metrics = Metrics(self.worlds, time.time(), self.refusals)
        self.works = AnswerBudget(works_of(settings.works_at_once_max))
        """Turns of who has a recording verified or a world branched."""
        self.metrics.gate = self.gate
        self.app = self._build_app()
        self._served: ASGIApp = AccessLog(self.app) if settings.access_log else self.app
        self.endpoint: ServerEndpoint | None = None
        self.tls_server: TcpServer | None = None
        self.plain_server: TcpServer | None = None
        self.admin_server: TcpServer | None = None
        self._tls = ServerTls(certificates.current.cert_pem, certificates.current.key_pem)
        self._watch: asyncio.Task[None] | None = None
        self._operator_watch: OperatorWatch | None = None
        self._collecting: Collecting | None = None
        self.is_lame_duck = False
        """True from the moment on in which stopping was asked for: ``/readyz`` says no, the doors stay open."""
        certificates.on_change = self._on_certificate
        self.metrics.counts["mvgateway_entities"] = ("What the entity service counts", self.entities.metrics)
        if self.worlds.peers is not None:
            counts = self.worlds.peers.counts
            self.metrics.counts["mvgateway_edges"] = ("Worlds followed at other gateways", lambda: counts)
        self.metrics.counts["mvgateway_store"] = ("What the store's engine counts", store.facts)

    @classmethod
    async def start(
        cls, settings: Settings, worker: Worker | None = None, *, more: More | None = None
    ) -> Gateway:
        """Open everything; of a worker of several what is its own. ``more``: routes beside its own. Raises :class:`ConfigError` naming the flag that mends it."""
        sockets = bind_all(settings) if worker is None else worker.sockets()
        try:
            certificates = Certificates(settings)
            origins = origins_of(settings, certificates)
            port = sockets.tls.getsockname()[1]
            store = await open_the_store(settings, worker)
            gateway = cls(settings, store, certificates, origins, port, worker, more)
        except BaseException:
            sockets.close()
            raise
        try:
            await gateway._open_doors(sockets)
        except BaseException:
            sockets.close()
            await gateway.drain(0.5)
            raise
        gateway._watch = asyncio.get_running_loop().create_task(gateway._watch_certificates())
        await gateway._watch_over()
        return gateway

    def _journals(self) -> dict[str, JournalPump]:
        return {name: host.pump for name, host in self.worlds.hosts.items()}

    async def _watch_over(self) -> None:
        if self.store_look is not None:
            await self.store_look.begin()
        self._operator_watch = OperatorWatch(self.events, self._journals, self.metrics.refusals)
        self.metrics.loop_lag = LoopLag()
        self._collecting = Collecting(self._ended_connections)
        self.metrics.collections = lambda: self._collecting.collections if self._collecting else 0
        self.metrics.certificate_expires = lambda: self.certificates.current.not_after.timestamp()
        if "://" not in self.settings.store and (self._worker is None or self._worker.is_first):
            self.metrics.store_folder = Path(self.settings.store)

    def _build_app(self) -> Application:
        answers, settings = AnswerBudget(ANSWERS), self.settings
        shown = self._shown()
        app = build_app(
            shown.worlds,
            self.doors,
            extra_routes=[
                *entity_routes(shown.entities, answers),
                *recording_routes(shown.recordings, self.doors, answers, self.works),
                *home_routes(self.worlds.give_up),
                *dataplane.routes(shown.store, auto_create=True, wire_zstd=True, near_zstd=False),
                *([] if self.gate is None else grant_routes(self._revoke)),
                *([] if self._more is None else self._more(self)),
            ],
            metrics=self.metrics.gather if self._siblings is None else self._all_metrics,
            health=self.told_health if self._siblings is None else self._all_health,
            ready=self.ready if self._siblings is None else self._all_ready,
            certificate_sha256=lambda: self.certificates.current.sha256,
            message_bytes_max=settings.max_message_bytes,
            bodies=BodyBounds(
                settings.json_body_bytes_max,
                settings.entity_bytes_max,
                settings.batch_bytes_max,
                settings.batch_operations_max,
            ),
            unfinished_bytes_max=settings.unfinished_bytes_max,
            origins=self.origins,
            refusals=self.refusals,
            answers=answers,
            gate=self.gate,
            around=self._forwarding,
        )
        per_s = float(settings.requests_per_address_per_s)
        app.rates = PeerRates(per_s, "requests", "--requests-per-address-per-s")
        self.metrics.app = app
        return app

    def _forwarding(self, app: ASGIApp) -> ASGIApp:
        """What is another worker's, or another gateway's, goes there, once the gate here has let it pass."""
        if self.worlds.peers is not None:
            app = PeerForward(app, self.worlds.peers, self.worlds.peer_of_home)
        return app if self._siblings is None else Forward(app, self._siblings, self.worlds.home_of)

    def _shown(self) -> _Shown:
        """What the routes see: with a gate, only what the grant of whoever asks has names for."""
        if self.gate is None:
            return _Shown(self.worlds, self.entities, self.recordings, self.store)
        return _Shown(
            GrantedWorlds(self.worlds, self.gate.another, self._tie),
            GrantedEntities(self.entities),
            GrantedRecordings(self.recordings),
            granted_store(self.store),
        )

    def _tie(self, token: str, standing: Standing) -> None:
        if self.worlds.udp is not None:
            self.worlds.udp.tie(token, standing)

    async def _open_doors(self, sockets: Sockets) -> None:
        settings = self.settings
        if self.gate is not None:
            await self.gate.begin()
        port = sockets.tls.getsockname()[1]
        options = self._tcp_options(port)
        outside = self._served
        if settings.page_plane == "loopback" and not is_loopback(settings.host):
            outside = WithoutPagePlane(outside)
        self.tls_server = TcpServer(
            outside,
            options,
            lambda: self.certificates.context,
        )
        await self.tls_server.listen(sockets.tls)
        self.endpoint = await listen(
            settings.host,
            port,
            tls=self._tls,
            asgi_app=outside,
            doors=self.doors,
            sock=sockets.quic,
            options=self._quic_options(),
        )
        servers = {"tls": self.tls_server}
        if sockets.plain is not None:
            self.plain_server = servers["plain"] = TcpServer(self._served, options)
            await self.plain_server.listen(sockets.plain)
        if sockets.admin is not None:
            self.admin_server = servers["admin"] = TcpServer(
                Application(admin.routes(self.store), self.origins, self.refusals, self.gate),
                replace(options, alt_svc=None),
            )
            await self.admin_server.listen(sockets.admin)
        if sockets.udp is not None:
            self.worlds.udp = UdpDoor(UDP_LINGER_S)
            await self.worlds.udp.listen(sockets.udp)
        self.metrics.tcp, self.metrics.quic = servers, self.endpoint
        if self._worker is not None:
            await self._join(self._worker)

    # -- several workers ------------------------------------------------------------------

    async def _join(self, worker: Worker) -> None:
        """Take what came for this worker to another one, and answer the others."""
        assert self.endpoint is not None
        self.endpoint.share(Handing(worker.mint, worker.group.hands, worker.is_alive))
        self._service = Service(
            worker,
            self.worlds,
            self.app,
            {
                "metrics": self._tell_metrics,
                "health": self._tell_health,
                "ready": self._tell_ready,
                "revoke": self._tell_revoked,
            },
        )
        await self._service.begin()

    async def _tell_metrics(self, told: Mapping[str, object]) -> object:
        return told_metrics(self._own_metrics())

    def _own_metrics(self) -> Iterator[Metric]:
        yield from self.metrics.gather()
        sample = Sample(os.getpid())
        yield Metric("mvgateway_worker_process", "gauge", "The worker's process number", (sample,))

    async def _tell_health(self, told: Mapping[str, object]) -> object:
        return dict(self.told_health())

    async def _tell_ready(self, told: Mapping[str, object]) -> object:
        return dict(self.ready())

    async def _tell_revoked(self, told: Mapping[str, object]) -> object:
        return None if self.gate is None else dict(await self.gate.revoke(str(told["name"])))

    async def _all_metrics(self) -> list[Metric]:
        assert self._siblings is not None
        told = {str(self._siblings.worker.number): told_metrics(self._own_metrics())}
        others = await self._siblings.ask_all("metrics")
        told |= {str(number): metrics for number, metrics in others.items()}
        return joined_metrics(dict(sorted(told.items())))

    async def _all_health(self) -> Mapping[str, object]:
        assert self._siblings is not None
        others = await self._siblings.ask_all("health")
        return joined_health(self.told_health(), others.values(), self._siblings.worker.group.count)

    async def _all_ready(self) -> Mapping[str, object]:
        assert self._siblings is not None
        others = await self._siblings.ask_all("ready")
        return joined_ready(self.ready(), others.values())

    async def _revoke(self, name: str) -> Mapping[str, object]:
        """At every worker, before it is told that it is done."""
        assert self.gate is not None
        told = dict(await self.gate.revoke(name))
        if self._siblings is not None:
            for other in (await self._siblings.ask_all("revoke", name=name)).values():
                told["ended"] = int(str(told["ended"])) + int(other["ended"])
        return told

    def _tcp_options(self, port: int) -> TcpOptions:
        return TcpOptions(
            alt_svc=f'h3=":{port}"; ma=86400',
            message_bytes_max=self.settings.max_message_bytes,
            connections_max=self.settings.tcp_connections_max,
            connections_per_address_max=self.settings.connections_per_address_max,
            handshakes_per_address_per_s=self.settings.handshakes_per_address_per_s,
            unfinished=self.app.unfinished,
            grant_of=grant_of if self.settings.client_ca else None,
        )

    def _quic_options(self) -> QuicOptions:
        retry = self.settings.retry == "on" or (
            self.settings.retry == "auto" and not is_loopback(self.settings.host)
        )
        return QuicOptions(
            idle_timeout_s=float(self.settings.idle_timeout_s),
            retry=retry,
            reset_key=(
                reset_key(Path(self.settings.certs)) if self._worker is None else self._worker.group.reset_key
            ),
            mint=self._mint(),
            connections_max=self.settings.quic_connections_max,
            connections_per_address_max=self.settings.connections_per_address_max,
            handshakes_per_address_per_s=self.settings.handshakes_per_address_per_s,
        )

    def _mint(self) -> Mint:
        if self._worker is not None:
            return self._worker.mint
        layout = IdLayout.of(self.settings.server_id, self.settings.server_id_rotation)
        return Mint(layout=layout) if layout.server_id else ALONE

    def _tcp_servers(self) -> list[TcpServer]:
        """Those that are open."""
        servers = (self.tls_server, self.plain_server, self.admin_server)
        return [server for server in servers if server is not None]

    def _ended_connections(self) -> int:
        """How many connections have ended so far."""
        tcp = sum(server.connections_ended for server in self._tcp_servers())
        return tcp + (0 if self.endpoint is None else self.endpoint.counters["connections_ended"])

    # -- facts ----------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port number of UDP and TCP."""
        assert self.tls_server is not None
        return self.tls_server.port

    def facts(self) -> Mapping[str, object]:
        """What is printed at start."""
        host, dashboard = in_brackets(self.settings.host), ""
        current = self.certificates.current
        facts: dict[str, object] = {
            "version": __version__,
            "store": self._store_told(),
            "https": f"https://{host}:{self.port} (HTTP/3 on UDP; HTTP/2, HTTP/1.1, WebSocket on TCP)",
        }
        if self.plain_server is not None:
            plain_host = in_brackets(split_address(self.settings.plain, "--plain")[0])
            dashboard = f"http://{plain_host}:{self.plain_server.port}"
            facts["plain"] = f"{dashboard} (HTTP/1.1 and h2c, this machine only)"
        if self.admin_server is not None:
            admin_host = in_brackets(split_address(self.settings.admin_api, "--admin-api")[0])
            facts["admin"] = (
                f"http://{admin_host}:{self.admin_server.port} (the store's admin API, this machine only)"
            )
        if self.worlds.udp is not None:
            facts["udp"] = (
                f"{in_brackets(self.worlds.udp.address[0])}:{self.worlds.udp.address[1]} (plain UDP publishers)"
            )
        if self.settings.node:
            facts["node"] = self.worlds.holder.node
        facts["dashboard"] = f"{dashboard or f'https://{host}:{self.port}'}/"
        facts["certificate_sha256"] = current.sha256
        facts["certificate_expires"] = f"{current.not_after:%Y-%m-%d %H:%M} UTC"
        if self.certificates.ca_path is not None:
            facts["certificate_authority"] = str(self.certificates.ca_path)
        return facts

    def _store_told(self) -> str:
        failure = self._store_failure()
        return self.settings.store if failure is None else f"{failure}; it is tried again"

    def told_health(self) -> Mapping[str, object]:
        """What ``/healthz`` tells whoever asks: where there is access control, no names."""
        facts = self.health()
        hidden = () if self.gate is None else ("late_worlds", "store_failure", "worlds_open")
        return {name: value for name, value in facts.items() if name not in hidden}

    def health(self) -> Mapping[str, object]:
        """How it is."""
        return {
            "status": "draining" if self.worlds.draining else "ok",
            **self._health.facts(),
            "version": __version__,
            "instance": self._instance,
            "node": self.worlds.holder.node,
            "worlds_open": len(self.worlds.hosts),
        }

    def _store_failure(self) -> str | None:
        return None if self.store_look is None else self.store_look.failure

    def ready(self) -> Mapping[str, object]:
        """What ``/readyz`` tells: whether new sessions should be sent here, and if not, why."""
        missing = []
        if self.is_lame_duck or self.worlds.draining:
            missing.append("the gateway is stopping")
        if self.gate is not None and not self.gate.source.keys and not self.settings.client_ca:
            missing.append("there are no keys to check tokens by")
        facts, oldest_ms = self.health(), round(self._health.oldest_s() * 1e3)
        if facts["store"] == "failing":
            missing.append("the store does not take what is written")
        elif oldest_ms > self.settings.ready_lag_ms:
            missing.append(f"a frame has waited {oldest_ms} ms for the store")
        return {"ready": not missing, "missing": missing, "oldest_waiting_ms": oldest_ms}

    def reload(self, settings: Settings) -> None:
        """Take anew what may change while running: certificates, and the settings that say so."""
        changed = {s.name for s in SETTINGS if getattr(settings, s.name) != getattr(self.settings, s.name)}
        taken, left = changed & reloadable(), changed - reloadable()
        self.settings = replace(self.settings, **{name: getattr(settings, name) for name in taken})
        self.worlds.settings = self.settings
        logs.set_level(self.settings.log_level)
        self.events.note("settings reloaded", changed=sorted(taken), need_a_restart=sorted(left))
        self._refresh_certificates()
        self._reload_keys()

    def _reload_keys(self) -> None:
        if self.gate is None:
            return
        try:
            self.gate.source.reload()
        except GatewayError as error:
            self.events.note("the keys in use stay", logging.ERROR, why=error.message)

    # -- certificates ---------------------------------------------------------------------

    async def _watch_certificates(self) -> None:
        while True:
            await asyncio.sleep(limits.CERTIFICATE_CHECK_S)
            self._refresh_certificates()

    def _refresh_certificates(self) -> None:
        try:
            self.certificates.refresh()
        except GatewayError as error:
            self.events.note("the certificate in use stays", logging.ERROR, why=error.message)

    def _on_certificate(self, certificate: Certificate) -> None:
        self._tls.replace(certificate.cert_pem, certificate.key_pem)
        self.events.note(
            "certificate renewed", sha256=certificate.sha256, until=f"{certificate.not_after:%Y-%m-%dT%H:%MZ}"
        )

    # -- the end --------------------------------------------------------------------------

    async def drain(self, timeout_s: float) -> bool:
        """``bye`` to sessions, journals flushed, doors and store closed: within about ``timeout_s``.

        False: the store did not take everything in time, and threads may still wait for it.
        """
        if self._watch is not None:
            self._watch.cancel()
        if self._service is not None:
            await self._service.stop()
        self.events.note("draining", sessions=self.worlds.sessions, seconds_at_most=timeout_s)
        for server in self._tcp_servers():
            server.stop_accepting()
        others_are_there = self._worker is not None and self._worker.is_leaving
        self.worlds.shut_down(
            "the gateway is stopping",
            limits.RENEWED_RECONNECT_AFTER_MS if others_are_there else limits.RECONNECT_AFTER_MS,
        )
        if self.worlds.udp is not None:
            self.worlds.udp.close()
        await asyncio.wait([asyncio.ensure_future(self.entities.aclose())], timeout=timeout_s * 0.4)
        flushed = asyncio.ensure_future(self.worlds.aclose(timeout_s * 0.6))
        closing: list[asyncio.Future[bool] | asyncio.Future[None]] = [flushed]
        closing += self._closing_doors(timeout_s * 0.6)
        await asyncio.wait(closing, timeout=timeout_s * 0.8)
        closed = asyncio.ensure_future(self.store.aclose())
        await asyncio.wait([closed], timeout=timeout_s * 0.2)
        if self._operator_watch is not None:
            self._operator_watch.stop()
        if self.store_look is not None:
            self.store_look.stop()
        if self._collecting is not None:
            self._collecting.stop()
        if self.gate is not None:
            self.gate.stop()
        if self.metrics.loop_lag is not None:
            self.metrics.loop_lag.stop()
        return closed.done() and flushed.done() and flushed.result()

    def _closing_doors(self, timeout_s: float) -> Iterator[asyncio.Future[None]]:
        for server in self._tcp_servers():
            yield asyncio.ensure_future(server.aclose(timeout_s))
        if self.endpoint is not None:
            yield asyncio.ensure_future(_close(self.endpoint, timeout_s))


async def _close(endpoint: ServerEndpoint, timeout_s: float) -> None:
    await endpoint.drain(timeout_s)
    endpoint.close()


def origins_of(settings: Settings, certificates: Certificates) -> Origins:
    """Which web pages are served, and by which names. Raises :class:`ConfigError`."""
    return Origins(
        settings.allow_origins,
        loopback=is_loopback(settings.host),
        names=lambda: (settings.host, *certificates.current.names),
    )


async def open_the_store(settings: Settings, worker: Worker | None = None) -> Store:
    """The store that ``--store`` names: a folder, or the URL of an mvstore. A folder has one owner: workers ask that."""
    if worker is not None and worker.group.store_url is not None:
        return await open_owned(worker.group.store_url, worker.group.secret, settings)
    if "://" not in settings.store:
        return EmbeddedStore.open(settings.store, auto_create=True)
    from gateway.client.token import from_file
    from gateway.client.trust import Trust
    from gateway.runtime.stores.opening import open_store

    return await open_store(
        settings.store,
        admin_url=settings.store_admin or None,
        auto_create=True,
        trust=Trust.of(ca=settings.store_ca or None),
        cache_bytes=settings.store_cache_mib * limits.MIB,
        token=from_file(settings.store_token_file) if settings.store_token_file else None,
    )
