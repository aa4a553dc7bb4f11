"""The gateway as a whole: the only place that wires the parts. Room: runtime.

:meth:`Gateway.start` opens the store and the doors; :meth:`Gateway.drain` ends them in the order
in which nobody loses anything: ``bye`` to sessions, the journals flushed, doors and store closed.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from gateway import __version__, limits
from gateway.config import SETTINGS, Settings, is_loopback, reloadable
from gateway.core.admission import Refusals
from gateway.core.origins import Origins
from gateway.errors import GatewayError
from gateway.http import admin
from gateway.http.access import AccessLog
from gateway.http.answers import AnswerBudget, works_of
from gateway.http.app import Application
from gateway.http.planes import WithoutPagePlane
from gateway.http.server import TcpServer
from gateway.limits import UDP_LINGER_S
from gateway.quic import ServerTls, listen
from gateway.quic.server import ServerEndpoint
from gateway.quic.udp.handing import Handing
from gateway.runtime import logs
from gateway.runtime.access.opening import gate_of
from gateway.runtime.certs import Certificate, Certificates
from gateway.runtime.dooroptions import origins_of, quic_options, tcp_options
from gateway.runtime.doors import HostedDoors
from gateway.runtime.entities.service import EntityService
from gateway.runtime.events import EventLog
from gateway.runtime.garbage import Collecting
from gateway.runtime.health import Health
from gateway.runtime.journal import JournalPump
from gateway.runtime.looplag import LoopLag
from gateway.runtime.metrics import Metrics
from gateway.runtime.recordings import HostedRecordings
from gateway.runtime.routes import Answered, RoutedParts, application
from gateway.runtime.sockets import Sockets, bind_all
from gateway.runtime.startfacts import start_facts
from gateway.runtime.storelook import StoreLook
from gateway.runtime.udp import UdpDoor
from gateway.runtime.watch import OperatorWatch
from gateway.runtime.workers.asone import AsOne
from gateway.runtime.workers.group import Worker
from gateway.runtime.workers.owner import open_owned
from gateway.runtime.workers.service import Service
from gateway.runtime.workers.siblings import Siblings
from gateway.runtime.worlds import HostedWorlds
from gateway.store.base import Store
from gateway.store.embedded import EmbeddedStore

log = logging.getLogger("mvgateway")


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
        self._as_one = (
            None
            if self._siblings is None
            else AsOne(
                self._siblings,
                metrics=self.metrics.gather,
                health=self.told_health,
                ready=self.ready,
                gate=self.gate,
            )
        )
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
        # First of all: a port that is taken is the most frequent error, and nothing is to be undone then.
        sockets = bind_all(settings) if worker is None else worker.sockets()
        try:
            certificates = Certificates(settings)
            origins = origins_of(settings, certificates)
            port = sockets.tls.getsockname()[1]
            store = await open_the_store(settings, worker)
            try:
                gateway = cls(settings, store, certificates, origins, port, worker, more)
            except BaseException:
                # Keys that cannot be read, for one: its folder stays locked as long as the store is open.
                await store.aclose()
                raise
        except BaseException:
            sockets.close()
            raise
        try:
            await gateway._open_doors(sockets)
            gateway._watch = asyncio.get_running_loop().create_task(gateway._watch_certificates())
            await gateway._watch_over()
        except BaseException:
            await gateway.drain(0.5)
            sockets.close()  # last: the doors that are open already still have them registered with the loop
            raise
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
        one = self._as_one
        told = Answered(
            self.metrics.gather if one is None else one.metrics,
            self.told_health if one is None else one.health,
            self.ready if one is None else one.ready,
            self._revoke,
        )
        parts = RoutedParts(
            settings=self.settings,
            store=self.store,
            worlds=self.worlds,
            entities=self.entities,
            recordings=self.recordings,
            doors=self.doors,
            certificates=self.certificates,
            origins=self.origins,
            refusals=self.refusals,
            works=self.works,
            gate=self.gate,
            siblings=self._siblings,
        )
        app = application(parts, told, () if self._more is None else self._more(self))
        self.metrics.app = app
        return app

    async def _open_doors(self, sockets: Sockets) -> None:
        settings = self.settings
        if self.gate is not None:
            await self.gate.begin()
        port = sockets.tls.getsockname()[1]
        options = tcp_options(settings, self.app, port)
        outside = self._served
        # One app for both doors to the network, UDP and TCP; the plain door below is on the loopback and
        # keeps the page plane.
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
            options=quic_options(settings, self._worker),
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
        # The workers' doors are joined last: a packet that another one hands on needs the endpoint.
        self.metrics.tcp, self.metrics.quic = servers, self.endpoint
        if self._worker is not None:
            await self._join(self._worker)

    # -- several workers ------------------------------------------------------------------

    async def _join(self, worker: Worker) -> None:
        """Take what came for this worker to another one, and answer the others."""
        assert self.endpoint is not None
        self.endpoint.share(Handing(worker.mint, worker.group.hands, worker.is_alive))
        assert self._as_one is not None
        self._service = Service(worker, self.worlds, self.app, self._as_one.tellers())
        await self._service.begin()

    async def _revoke(self, name: str) -> Mapping[str, object]:
        """At every worker, before it is told that it is done."""
        assert self.gate is not None
        # Written down before the others are told: they read the list, and would miss it.
        told = dict(await self.gate.revoke(name))
        if self._as_one is not None:
            told["ended"] = int(str(told["ended"])) + await self._as_one.ended_elsewhere(name)
        return told

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
        failure = self._store_failure()
        store = self.settings.store if failure is None else f"{failure}; it is tried again"
        return start_facts(self, store)

    def told_health(self) -> Mapping[str, object]:
        """What ``/healthz`` tells whoever asks: where there is access control, no names."""
        facts = self.health()
        hidden = () if self.gate is None else ("late_worlds", "store_failure", "worlds_open")
        return {name: value for name, value in facts.items() if name not in hidden}

    def health(self) -> Mapping[str, object]:
        """The whole answer of ``/healthz``, names included."""
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
            # Before ``bye``: whoever reconnects at once must reach another process, or nobody, but not this one
            # again.
            server.stop_accepting()
        others_are_there = self._worker is not None and self._worker.is_leaving
        self.worlds.shut_down(
            "the gateway is stopping",
            limits.RENEWED_RECONNECT_AFTER_MS if others_are_there else limits.RECONNECT_AFTER_MS,
        )
        if self.worlds.udp is not None:
            self.worlds.udp.close()
        # Entities write into worlds, worlds into the store: they end in this order, each with its share of the
        # time, so that one that hangs does not take the others' share.
        await asyncio.wait([asyncio.ensure_future(self.entities.aclose())], timeout=timeout_s * 0.4)
        flushed = asyncio.ensure_future(self.worlds.aclose(timeout_s * 0.6))
        closing: list[asyncio.Future[bool] | asyncio.Future[None]] = [flushed]
        closing += self._closing_doors(timeout_s * 0.6)
        await asyncio.wait(closing, timeout=timeout_s * 0.8)
        # asyncio.wait() and not wait_for(): that would cancel, and then wait for a thread that may never come back.
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


async def open_the_store(settings: Settings, worker: Worker | None = None) -> Store:
    """The store that ``--store`` names: a folder, or the URL of an mvstore. A folder has one owner: workers ask that."""
    if worker is not None and worker.group.store_url is not None:
        return await open_owned(worker.group.store_url, worker.group.secret, settings)
    if "://" not in settings.store:
        return EmbeddedStore.open(settings.store, auto_create=True)
    # Here and not above: only a store at a URL needs the client's parts.
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
