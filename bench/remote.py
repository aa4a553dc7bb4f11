"""Scenarios 1, 2 and 5 against a gateway that is already running: your deployment, your link. Room: bench.

What ``mvgateway bench --url`` runs. The load comes from this machine; ages need no clock at the gateway,
because the publisher and the readers are both here: an age is a whole way, up to the gateway and down again.
The gateway's CPU time is read from its ``/metrics``. The world that was made is deleted at the end; the pages
that ``reads`` opens stay in the namespace ``bench~cold`` (4 MB), because only a store's admin API deletes one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.ages import AgeHistogram
from bench.doors import trust
from bench.payload import records_for
from bench.processes import Worker, workers
from bench.results import Row
from gateway.client import HttpClient
from gateway.errors import GatewayError

RUN_SLACK_S = 60.0
WARMUP_S = 1.0
DOORS = ("webtransport", "websocket", "http")
TRANSPORTS = ("h3", "h2", "h1")
COLD_PAGES = 500
PAGE_BYTES = 8_192
OPEN_S_MAX = 50.0
CPU = re.compile(r"^mvgateway_process_cpu_seconds_total (\S+)$", re.MULTILINE)

Tell = Callable[[str], None]


class Remote:
    """A gateway under measurement: where it is, whom to trust, how much to load it."""

    def __init__(
        self, target: Mapping[str, Any], *, seconds: float, hz: int, frame_bytes: int, readers: int
    ) -> None:
        self._target = {**target, "world": f"bench-{os.getpid()}"}
        self._seconds = seconds
        self._hz = hz
        self._frame_bytes = frame_bytes
        self._readers = readers

    def run(self, scenarios: Sequence[str], tell: Tell) -> list[Row]:
        """Run the named ones (``frames``, ``reads``, ``fanout``); ``tell`` gets a line before each."""
        made: list[Row] = []
        try:
            for name in scenarios:
                made += {"frames": self._frames, "reads": self._reads, "fanout": self._fanout}[name](tell)
        finally:
            self._clean_up()
        return made

    def _load(self, **fields: Any) -> dict[str, Any]:
        return {
            "seconds": self._seconds,
            "warmup_s": WARMUP_S,
            "records": records_for(self._frame_bytes),
            "target": self._target,
            **fields,
        }

    def _frames(self, tell: Tell) -> list[Row]:
        tell("frames: one reader on each transport")
        results = self._live(dict.fromkeys(DOORS, 1))
        return [
            Row("frames", self._params(door=way), 0, self._ages(result))
            for way, result in zip(DOORS, results, strict=True)
        ]

    def _fanout(self, tell: Tell) -> list[Row]:
        tell(f"fanout: {self._readers} readers by WebTransport")
        before = self._gateway_cpu_s()
        (result,) = self._live({"webtransport": self._readers})
        after = self._gateway_cpu_s()
        measures = self._ages(result)
        if before is not None and after is not None and result["frames_seen"]:
            whole_run = (self._seconds + WARMUP_S) / self._seconds
            measures["gateway_cpu_us_per_frame"] = (
                1e6 * (after - before) / (result["frames_seen"] * whole_run)
            )
        measures["generator_cpu_percent"] = 100 * result["cpu_share"]
        return [Row("fanout", self._params(readers=self._readers), 0, measures)]

    def _params(self, **more: Any) -> dict[str, Any]:
        return {"hz": self._hz, "frame_bytes": self._frame_bytes, **more}

    def _ages(self, result: Mapping[str, Any]) -> dict[str, float | None]:
        histogram = AgeHistogram.load(result["histogram"])
        offered = self._hz * result["seconds"] * result["readers"]
        return {**histogram.measures(), "delivered_percent": 100 * result["frames_seen"] / offered}

    def _live(self, readers: Mapping[str, int]) -> list[dict[str, Any]]:
        publisher = Worker("publish", self._load(door="webtransport", hz=self._hz))
        reading = []
        with workers(publisher):
            publisher.wait_ready()
            reading = [Worker("read", self._load(door=way, readers=count)) for way, count in readers.items()]
            with workers(*reading):
                for reader in reading:
                    reader.wait_ready()
                for worker in (*reading, publisher):
                    worker.go()
                limit_s = self._seconds + WARMUP_S + RUN_SLACK_S
                publisher.result(limit_s)
                counts = readers.values()
                return [{**r.result(limit_s), "readers": n} for r, n in zip(reading, counts, strict=True)]

    def _reads(self, tell: Tell) -> list[Row]:
        tell(f"reads: a database of {COLD_PAGES} pages, opened cold, then point by point")
        fields = {**{k: v for k, v in self._target.items() if k != "world"}, "seconds": self._seconds}
        fields |= {"pages": COLD_PAGES, "page_bytes": PAGE_BYTES, "parallel": 1, "open_s_max": OPEN_S_MAX}
        rows = []
        self._store_worker("prepare", {**fields, "transport": "h2"})
        for transport in TRANSPORTS:
            result = self._store_worker("reads", {**fields, "transport": transport})
            result.pop("cpu_share")
            rows.append(Row("reads", {"transport": transport, "pages": COLD_PAGES}, 0, result))
        return rows

    def _store_worker(self, role: str, settings: dict[str, Any]) -> dict[str, Any]:
        worker = Worker(role, settings, module="bench.store_load")
        with workers(worker):
            if role != "prepare":
                worker.wait_ready()
                worker.go()
            return worker.result(self._seconds + RUN_SLACK_S)

    def _gateway_cpu_s(self) -> float | None:
        found = CPU.search(asyncio.run(self._request("GET", "/metrics")))
        return float(found.group(1)) if found else None

    async def _request(self, method: str, path: str) -> str:
        async with HttpClient(self._target["url"], trust=trust(self._target)) as client:
            return (await client.request(method, path)).body.decode()

    def _clean_up(self) -> None:
        with contextlib.suppress(GatewayError):
            asyncio.run(self._request("DELETE", f"/v1/worlds/{self._target['world']}"))
