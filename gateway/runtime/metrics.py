"""What ``/metrics`` tells, gathered from plain integers when asked. Room: runtime.

Every name is described in ``docs/METRICS.md``; a test holds the two together.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from gateway import __version__
from gateway.core.admission import Refusals
from gateway.http.app import Application
from gateway.http.metrics import Metric, MetricKind, Sample, histogram_samples
from gateway.http.server import TcpServer
from gateway.quic.server import ServerEndpoint
from gateway.runtime.access.gate import AccessGate
from gateway.runtime.access.subjects import Subjects
from gateway.runtime.lags import BOUNDS_MS
from gateway.runtime.looplag import LoopLag
from gateway.runtime.process import descriptors_max, descriptors_open, disk, memory, started_at
from gateway.runtime.worlds import HostedWorlds


class Metrics:
    """Gathers from the parts that it is given. ``counts``: other rooms' plain counts, by metric name."""

    def __init__(self, worlds: HostedWorlds, started_at: float, refusals: Refusals) -> None:
        self._worlds = worlds
        self._started_at = started_at
        self._refusals = refusals
        self.app: Application | None = None
        self.certificate_expires: Callable[[], float] | None = None
        self.store_folder: Path | None = None
        self.loop_lag: LoopLag | None = None
        self.collections: Callable[[], int] = lambda: 0
        self.tcp: Mapping[str, TcpServer] = {}
        self.quic: ServerEndpoint | None = None
        self.gate: AccessGate | None = None
        self.counts: dict[str, tuple[str, Callable[[], Mapping[str, object]]]] = {}

    def gather(self) -> Iterator[Metric]:
        """All metrics, now."""
        yield _one("mvgateway_info", "gauge", "Always 1; the version is a label", 1, version=__version__)
        yield _one("mvgateway_uptime_seconds", "gauge", "Time since start", time.time() - self._started_at)
        yield _one("mvgateway_process_cpu_seconds_total", "counter", "CPU time used", time.process_time())
        yield _one("mvgateway_process_resident_bytes", "gauge", "Memory resident", resident_bytes())
        yield from _process_metrics()
        yield _one("mvgateway_collections_total", "counter", "Full collections of cycles", self.collections())
        yield from self._surroundings()
        yield from self._worlds_metrics()
        yield from self._http_metrics()
        yield from self._quic_metrics()
        yield self._bytes_carried()
        yield self._refused()
        yield from _access_metrics(self.gate)
        if (udp := self._worlds.udp) is not None:
            counts = {
                "taken": udp.packets_taken,
                "unknown": udp.packets_unknown,
                "refused": udp.packets_refused,
            }
            yield _labelled(
                "mvgateway_udp_packets_total", "counter", "Packets at the plain UDP door", "result", counts
            )
        for name, (text, count) in self.counts.items():
            numbers = {what: value for what, value in count().items() if isinstance(value, int | float)}
            yield _labelled(name, "gauge", text, "what", numbers)
            # Twice, for dashboards made when all of them were gauges; rate() wants counters.
            risen = {what: value for what, value in numbers.items() if what not in STATES}
            yield _labelled(f"{name}_total", "counter", f"{text}, what only rises", "what", risen)

    def _worlds_metrics(self) -> Iterator[Metric]:
        hosts = list(self._worlds.hosts.values())
        yield _one("mvgateway_worlds_open", "gauge", "Worlds open in this process", len(hosts))
        facts = {host.name: host.facts() for host in hosts}
        for name, key, text in _WORLD_GAUGES:
            values = {world: _number(getattr(f, key)) for world, f in facts.items()}
            yield _labelled(f"mvgateway_world_{name}", "gauge", text, "world", values)
        homes = {host.name: float(host.homing.held) for host in hosts}
        yield _labelled(
            "mvgateway_world_home", "gauge", "1 while this gateway is the world's home", "world", homes
        )
        counts = self._worlds.home_counts.as_dict()
        yield _labelled(
            "mvgateway_homes_total", "counter", "What happened to the homes of worlds", "what", counts
        )
        durable = {world: f.durable.tick for world, f in facts.items() if f.durable}
        yield _labelled("mvgateway_world_durable_tick", "gauge", "Newest tick in the store", "world", durable)
        now = time.monotonic()
        waiting = {host.name: host.pump.waiting_s(now) for host in hosts}
        text = "Age of the oldest frame not in the store"
        yield _labelled("mvgateway_world_waiting_seconds", "gauge", text, "world", waiting)
        for name, attribute, text in _JOURNAL_COUNTERS:
            values = {host.name: getattr(host.pump.outcomes, attribute) for host in hosts}
            yield _labelled(f"mvgateway_journal_{name}", "counter", text, "world", values)
        yield self._journal_lags()
        yield self._journal_lag_seconds()
        yield self._readers_by_transport()
        yield from self._delayed()
        yield self._world_counters()

    def _journal_lags(self) -> Metric:
        samples = [
            Sample(count, {"world": host.name, "within_ms": bound})
            for host in self._worlds.hosts.values()
            for bound, count in host.pump.outcomes.lags.as_dict().items()
            if count
        ]
        text = "Frames that became durable, by how long after they were received"
        return Metric("mvgateway_journal_frames_total", "counter", text, tuple(samples))

    def _journal_lag_seconds(self) -> Metric:
        bounds_s = [bound / 1_000 for bound in BOUNDS_MS]
        samples = [
            sample
            for host in self._worlds.hosts.values()
            for sample in histogram_samples(
                host.pump.outcomes.lags.counts,
                bounds_s,
                host.pump.outcomes.lags.seconds,
                {"world": host.name},
            )
        ]
        text = "How long frames took from receipt into the store"
        return Metric("mvgateway_journal_lag_seconds", "histogram", text, tuple(samples))

    def _readers_by_transport(self) -> Metric:
        samples = [
            Sample(count, {"world": host.name, "transport": transport})
            for host in self._worlds.hosts.values()
            for transport, count in Counter(s.link.transport for s in host.world.subscribers).items()
        ]
        return Metric("mvgateway_readers", "gauge", "Subscribers attached, by transport", tuple(samples))

    def _delayed(self) -> Iterator[Metric]:
        counts = self._worlds.delayed
        yield _one(
            "mvgateway_delayed_feeds", "gauge", "Delayed views open: worlds times delays", counts.feeds
        )
        samples = [
            Sample(readers, {"world": host.name, "delay_s": f"{delay_s:g}"})
            for host in self._worlds.hosts.values()
            for delay_s, readers in host.feeds.tell().items()
        ]
        text = "Subscribers of delayed views"
        yield Metric("mvgateway_delayed_readers", "gauge", text, tuple(samples))
        values = {
            "feeds_begun": counts.feeds_begun,
            "readings": counts.readings,
            "readings_failed": counts.readings_failed,
            "rows": counts.rows,
        }
        yield _labelled(
            "mvgateway_delayed_events_total", "counter", "What delayed views counted", "what", values
        )

    def _surroundings(self) -> Iterator[Metric]:
        if (lag := self.loop_lag) is not None:
            samples = tuple(histogram_samples(lag.counts, lag.bounds_s, lag.seconds))
            text = "How late the event loop came to its timers"
            yield Metric("mvgateway_event_loop_lag_seconds", "histogram", text, samples)
        if self.certificate_expires is not None:
            text = "When the certificate in use runs out, Unix time"
            yield _one("mvgateway_certificate_expiry_seconds", "gauge", text, self.certificate_expires())
        if self.store_folder is not None and (room := disk(self.store_folder)) is not None:
            yield _one("mvgateway_store_bytes", "gauge", "Bytes of the store folder's files", room.used)
            yield _one("mvgateway_store_free_bytes", "gauge", "Bytes free on its disk", room.free)

    def _world_counters(self) -> Metric:
        samples = [
            Sample(value, {"world": host.name, "what": what})
            for host in self._worlds.hosts.values()
            for what, value in host.world.counters.as_dict().items()
        ]
        return Metric(
            "mvgateway_world_events_total", "counter", "What the world's rules counted", tuple(samples)
        )

    def _http_metrics(self) -> Iterator[Metric]:
        app = self.app
        if app is not None:
            answers = {str(status): count for status, count in sorted(app.answers.items())}
            yield _labelled(
                "mvgateway_http_answers_total", "counter", "HTTP answers by status", "status", answers
            )
            yield _one(
                "mvgateway_http_failures_total", "counter", "Requests that failed inside", app.failures
            )
        for name, attribute, kind, text in _TCP:
            values = {door: getattr(server, attribute) for door, server in self.tcp.items()}
            yield _labelled(f"mvgateway_tcp_{name}", kind, text, "door", values)

    def _bytes_carried(self) -> Metric:
        doors: dict[str, TcpServer | ServerEndpoint] = {**self.tcp}
        if self.quic is not None:
            doors["quic"] = self.quic
        samples = [
            Sample(count, {"door": name, "direction": direction})
            for name, door in doors.items()
            for direction, count in door.bytes_carried().items()
        ]
        text = "Bytes carried, without what TLS and the headers of TCP, UDP and IP add"
        return Metric("mvgateway_bytes_total", "counter", text, tuple(samples))

    def _refused(self) -> Metric:
        """By bound, from all who refuse: what requests and sessions raised, and the doors before there is any."""
        text, counts = "Refusals by the bound that was reached", self.refusals()
        return _labelled("mvgateway_refusals_total", "counter", text, "bound", dict(sorted(counts.items())))

    def refusals(self) -> Mapping[str, int]:
        """How often each bound has refused so far, at all doors."""
        counts = Counter(self._refusals.counts)
        for door in self.tcp.values():
            counts.update(door.refused)
        if self.quic is not None:
            counts.update(self.quic.refused)
        return counts

    def _quic_metrics(self) -> Iterator[Metric]:
        if self.quic is not None:
            yield _one("mvgateway_quic_connections", "gauge", "QUIC connections open", self.quic.connections)
            counters = dict(sorted(self.quic.counters.items()))
            yield _labelled(
                "mvgateway_quic_events_total", "counter", "What the QUIC endpoint counted", "what", counters
            )
            yield _labelled(
                "mvgateway_quic_packets_sent_total",
                "counter",
                "QUIC packets sent, by who built them",
                "path",
                self.quic.packets_sent(),
            )


STATES = frozenset(
    {
        "cache_bytes",
        "cache_bytes_max",
        "cache_pages",
        "entity_databases_open",
        "entity_watchers",
        "waiting",
        "wal_pages",
    }
)
"""What of other rooms' counts goes up and down."""
_WORLD_GAUGES = (
    ("epoch", "epoch", "The publisher's epoch"),
    ("tick", "tick", "Newest tick received"),
    ("readers", "readers", "Subscribers attached"),
    ("publisher", "publisher", "1 while a publisher is attached"),
    ("records", "records", "Records in the world state"),
)
_JOURNAL_COUNTERS = (
    ("commits_total", "commits", "Commits of the journal"),
    ("commit_failures_total", "commit_failures", "Commits that failed and were tried again"),
    ("commit_seconds_total", "commit_seconds", "Time spent in commits"),
)
_TCP: tuple[tuple[str, str, MetricKind, str], ...] = (
    ("connections", "connections", "gauge", "TCP connections open"),
    ("connections_refused_total", "connections_refused", "counter", "Connections over the bound"),
    ("handshakes_failed_total", "handshakes_failed", "counter", "Connections that broke off"),
    (
        "connections_failed_total",
        "connections_failed",
        "counter",
        "Connections that broke a protocol's rules",
    ),
)


def resident_bytes() -> int:
    """This process's resident memory; 0 where the system does not tell."""
    return memory().resident


def _process_metrics() -> Iterator[Metric]:
    used = memory()
    yield _one("process_cpu_seconds_total", "counter", "CPU time used", time.process_time())
    yield _one("process_resident_memory_bytes", "gauge", "Memory resident", used.resident)
    yield _one("process_virtual_memory_bytes", "gauge", "Memory reserved", used.virtual)
    yield _one("process_open_fds", "gauge", "File descriptors open", descriptors_open())
    yield _one("process_max_fds", "gauge", "File descriptors allowed", descriptors_max())
    yield _one("process_start_time_seconds", "gauge", "When the process began, Unix time", started_at())


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float(value is not None)


def _access_metrics(gate: AccessGate | None) -> Iterator[Metric]:
    """Without access control they are there, and empty."""
    subjects = Subjects() if gate is None else gate.subjects
    refused = {} if gate is None else gate.refused
    ended = {} if gate is None else gate.sessions_ended
    keys, revoked = (0, 0) if gate is None else (len(gate.source.keys), len(gate.revoked))
    text = "Requests and sessions refused"
    yield _labelled("mvgateway_access_refused_total", "counter", text, "rule", refused)
    yield _labelled("mvgateway_access_ended_total", "counter", "Grants that ended in use", "reason", ended)
    yield _one("mvgateway_access_keys", "gauge", "Public keys in use", keys)
    yield _one("mvgateway_access_revoked", "gauge", "Names that are revoked", revoked)
    grants: tuple[tuple[str, MetricKind, str, Mapping[str, float]], ...] = (
        ("sessions", "gauge", "Sessions open under grants", subjects.sessions()),
        ("requests_total", "counter", "Requests under grants", subjects.requests),
        ("refused_total", "counter", "Refusals by a grant's own bounds", subjects.refused),
        ("http_bytes_total", "counter", "Bytes of answers under grants", subjects.bytes),
    )
    for name, kind, text, values in grants:
        yield _labelled(f"mvgateway_grant_{name}", kind, text, "sub", values)


def _one(name: str, kind: MetricKind, text: str, value: float, **labels: str) -> Metric:
    return Metric(name, kind, text, (Sample(value, labels),))


def _labelled(name: str, kind: MetricKind, text: str, label: str, values: Mapping[str, float]) -> Metric:
    return Metric(name, kind, text, tuple(Sample(value, {label: key}) for key, value in values.items()))
