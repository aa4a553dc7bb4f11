"""The carrier: one process that moves IP packets between TUN devices by the link's model.

Room: link. Run as ``python -m gateway.link.carrier`` by the demo and by the benchmarks' links; it
gets its devices as inherited file descriptors and its rules as JSON on the command line. A line ``report`` on its
standard input is answered by its counters as one JSON line, a line of JSON (``paths``, ``seed``) by ``carrying``
once those rules hold and the counters are zero; at the end of its input it prints its counters and ends.
``select`` is used because its time-out has microseconds (epoll's has milliseconds).
"""

from __future__ import annotations

import ctypes
import heapq
import json
import os
import select
import socket
import sys
import time
from typing import Any

from gateway import limits
from gateway.link.model import Direction, GilbertElliott, LinkPath, Shaper

PR_SET_TIMERSLACK = 29
DESTINATION = slice(16, 20)
SOURCE = slice(12, 16)


def path_from(fields: dict[str, Any]) -> LinkPath:
    """The inverse of ``LinkPath.describe``."""

    def direction(d: dict[str, Any]) -> Direction:
        burst = GilbertElliott(**d["burst"]) if d["burst"] else None
        return Direction(**{**d, "burst": burst})

    return LinkPath(direction(fields["up"]), direction(fields["down"]))


class Carrier:
    """Moves packets between device 0 (the first host, 10.77.0.1) and the devices of the other hosts."""

    def __init__(self, fds: list[int], paths: list[LinkPath], seed: int) -> None:
        self._fds = fds
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._order = 0
        self.begin(paths, seed)

    def begin(self, paths: list[LinkPath], seed: int) -> None:
        """New rules and new chances; what is on its way is dropped, and the counters begin at zero."""
        self._paths = paths
        self._seed = seed
        self._waiting.clear()
        self._shapers: dict[tuple[int, bytes, bool], Shaper] = {}
        self.carried = 0
        self.overflowed = 0
        self._bytes: dict[bytes, list[int]] = {}
        self.late_us_max = 0.0
        self.late_us_sum = 0.0
        self._began = (time.monotonic(), time.process_time())

    def run(self, control_fd: int) -> None:
        """Carry until ``control_fd`` is closed at the other end."""
        heard = b""
        watched = [*self._fds, control_fd]
        while True:
            ready, _, _ = select.select(watched, [], [], self._until_next())
            if control_fd in ready:
                piece = os.read(control_fd, 65_536)
                if not piece:
                    return
                *lines, heard = (heard + piece).split(b"\n")
                for line in lines:
                    self._obey(line)
                ready.remove(control_fd)
            # Before more is taken, and again after: a burst that is read must not make what is due late.
            self._deliver_due(time.monotonic())
            for fd in ready:
                self._take(fd)
            self._deliver_due(time.monotonic())

    def _obey(self, line: bytes) -> None:
        if line == b"report":
            print(json.dumps(self.report()), flush=True)
            return
        rules = json.loads(line)
        self.begin([path_from(p) for p in rules["paths"]], rules["seed"])
        print("carrying", flush=True)

    def _until_next(self) -> float | None:
        if not self._waiting:
            return None
        return max(0.0, self._waiting[0][0] - time.monotonic())

    def _take(self, fd: int) -> None:
        source = self._fds.index(fd)
        for _ in range(limits.LINK_READ_BURST_PACKETS):
            try:
                packet = os.read(fd, 65_536)
            except BlockingIOError:
                return
            # IPv6 sends by itself (neighbours, routers) on any device that is up; the link is of IPv4.
            if packet[0] >> 4 == 4:
                self._schedule(source, packet, time.monotonic())

    def _schedule(self, source: int, packet: bytes, now: float) -> None:
        upwards = source != 0
        target = 0 if upwards else self._host_of(packet[DESTINATION])
        if target is None:
            return
        host = source if upwards else target
        address = packet[SOURCE] if upwards else packet[DESTINATION]
        counted = self._bytes.get(address)
        if counted is None:
            counted = self._bytes[address] = [0, 0]
        counted[upwards] += len(packet)
        arrives = self._shaper(host, address, upwards).admit(len(packet), now)
        if arrives is None:
            return
        if len(self._waiting) >= limits.LINK_PACKETS_WAITING_MAX:
            self.overflowed += 1
            return
        self._order += 1
        # The order in which they came decides between equal times: else packets of one moment would be
        # sorted by their bytes.
        heapq.heappush(self._waiting, (arrives, self._order, self._fds[target], packet))

    def _host_of(self, address: bytes) -> int | None:
        """Host k owns 10.77.k.0/24 (k >= 1)."""
        host = address[2]
        return host if address[:2] == b"\x0a\x4d" and 0 < host < len(self._fds) else None

    def _shaper(self, host: int, address: bytes, upwards: bool) -> Shaper:
        key = (host, address, upwards)
        shaper = self._shapers.get(key)
        if shaper is None:
            path = self._paths[host - 1]
            rule = path.up if upwards else path.down
            shaper = self._shapers[key] = Shaper(rule, f"{self._seed}/{key}")
        return shaper

    def _deliver_due(self, now: float) -> None:
        waiting = self._waiting
        while waiting and waiting[0][0] <= now:
            due, _, fd, packet = heapq.heappop(waiting)
            try:
                os.write(fd, packet)
            except BlockingIOError:
                self.overflowed += 1
                continue
            self.carried += 1
            late_us = (now - due) * 1e6
            self.late_us_sum += late_us
            self.late_us_max = max(self.late_us_max, late_us)

    def report(self) -> dict[str, Any]:
        """The counters since the rules came: packets carried, dropped by the models, IP bytes offered to each
        address (down: from host 0), lateness in microseconds, seconds, CPU seconds."""
        shapers = self._shapers.values()
        return {
            "carried": self.carried,
            "dropped_loss": sum(s.dropped_loss for s in shapers),
            "dropped_queue": sum(s.dropped_queue for s in shapers),
            "overflowed": self.overflowed,
            "bytes_down": {socket.inet_ntoa(a): down for a, (down, _) in self._bytes.items()},
            "bytes_up": {socket.inet_ntoa(a): up for a, (_, up) in self._bytes.items()},
            "late_us_mean": round(self.late_us_sum / self.carried, 1) if self.carried else 0.0,
            "late_us_sum": round(self.late_us_sum, 1),
            "late_us_max": round(self.late_us_max, 1),
            "seconds": round(time.monotonic() - self._began[0], 3),
            "cpu_s": round(time.process_time() - self._began[1], 3),
        }


def main() -> None:
    """Entry: argv[1] is JSON ``{"fds": [...], "paths": [...], "seed": n}``."""
    settings = json.loads(sys.argv[1])
    # Nanoseconds. By default the kernel may wake a process 50 us late (prctl(2)), which would be part of
    # every delay.
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1)
    for fd in settings["fds"]:
        os.set_blocking(fd, False)
    carrier = Carrier(settings["fds"], [path_from(p) for p in settings["paths"]], settings["seed"])
    print("carrying", flush=True)
    carrier.run(sys.stdin.fileno())
    print(json.dumps(carrier.report()), flush=True)


if __name__ == "__main__":
    main()
