"""The machines of the fault rounds: a store, two gateways and the clients, each in namespaces of its own. Room: bench.

They are joined by :class:`bench.link.Network` with its first host as the router, which forwards what goes between the others:
there a pair of them is cut apart by rules that drop its packets without a word, as a network does that has come apart. A
gateway's namespace of process numbers is its own, too: that another's process has ended is to be seen on one machine only
(:mod:`gateway.runtime.places`), and here are several. Needs root.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import psutil

from bench.link import Direction, Host, LinkPath, Network, unavailable_because
from bench.link.network import ip
from bench.processes import ROOT, BenchError
from gateway.runtime.certs import ensure_own

DATA_PORT, ADMIN_PORT, GATEWAY_PORT = 7000, 7001, 4433
HOSTS = ("store", "a", "b", "publishers", "readers")
LINGER_MS = 3_000
"""Worlds that are over are quiet soon, and closed where another one wants to be open."""
CACHE_MIB = 4
WORLDS_MAX = 8
"""A gateway keeps pages, and worlds open, up to these bounds: with small ones both are full after a few rounds, and what grows
from then on grows for ever."""
MIB = 1 << 20
_ROUTER = (
    "echo 1 > /proc/sys/net/ipv4/ip_forward; for f in /proc/sys/net/ipv4/conf/*/send_redirects "
    "/proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done"
)
_FIRST = ("nice", "-n", "-10")
"""As the carrier of the link: what is asked is how soon gateways are well again, and not what else the machine has to do."""
_ALONE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def missing() -> str | None:
    """A sentence why there can be no machines here, or None."""
    if (why := unavailable_because()) is not None:
        return why
    if shutil.which("unshare") is None:
        return "the command `unshare` is missing: install util-linux"
    done = subprocess.run([*_ALONE, "true"], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"`unshare --pid` is refused here: {done.stderr.strip()}"


class Size(NamedTuple):
    """What a process holds."""

    rss_bytes: int
    files: int


class Service:
    """A server on a machine that can be killed, stopped and started again. ``log``: its standard error goes on there."""

    def __init__(self, host: Host, argv: Sequence[str], log: Path) -> None:
        self.host, self.log = host, log
        self._argv = [*_FIRST, *_ALONE, sys.executable, "-m", "gateway.cli", *argv]
        self.starts = 0
        self.is_up = False
        self._process: psutil.Process | None = None
        self._begin()

    def _begin(self) -> None:
        with self.log.open("a") as log:
            self._outer: subprocess.Popen[str] = self.host.popen(
                self._argv, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT
            )

    def wait_ready(self) -> None:
        """Raises BenchError where it ends instead."""
        assert self._outer.stdout is not None
        while "ready" not in (line := self._outer.stdout.readline()):
            if not line:
                raise BenchError(f"{' '.join(self._argv)} ended at its start, see {self.log}")
        self._process = psutil.Process(self._outer.pid).children()[0]
        self.starts += 1
        self.is_up = True

    @property
    def address(self) -> str:
        """The machine's first."""
        return self.host.address

    @property
    def url(self) -> str:
        """Of a gateway."""
        return f"https://{self.address}:{GATEWAY_PORT}"

    def kill(self) -> None:
        """``kill -9``."""
        self.is_up = False
        self._outer.kill()  # --kill-child: the service with it, also one that stands still
        self._outer.communicate()

    def start(self) -> None:
        """Again, as it was. Returns before it is ready."""
        self._begin()

    def stop(self) -> None:
        """Let it stand still."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let it go on; harmless for one that does."""
        if self._process is not None and self.is_up:
            self._process.send_signal(signal.SIGCONT)

    def size(self) -> Size:
        """Now."""
        assert self._process is not None
        return Size(self._process.memory_info().rss, self._process.num_fds())


class Station:
    """A process of :mod:`bench.faults_ends` on its machine."""

    def __init__(self, host: Host, role: str, log: Path) -> None:
        self._role = role
        with log.open("a") as errors:
            self._process: subprocess.Popen[str] = host.popen(
                [*_FIRST, sys.executable, "-m", "bench.faults_ends", role],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
            )

    def ask(self, do: str, **told: object) -> Any:
        """Have it do that, and hear what comes of it. Raises BenchError where it ends."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **told}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(f"the {self._role} have ended")
        answer = json.loads(line)
        if "error" in answer:
            raise BenchError(f"{self._role}, {do}: {answer['error']}")
        return answer["ok"]

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


class Machines:
    """All of them, over one network that lasts. A context manager. ``folder``: what they write."""

    def __init__(self, folder: Path, *, rtt_ms: float, loss: float, seed: int) -> None:
        legs = 4  # there and back by the router
        leg = Direction(delay_ms=rtt_ms / legs, loss=1 - (1 - loss) ** 0.5)
        self.folder = folder
        self._network = Network([LinkPath.symmetric(leg)] * len(HOSTS), addresses=2, seed=seed)
        self._hosts = dict(zip(HOSTS, self._network.hosts[1:], strict=True))
        self._stations: list[Station] = []
        self.gateways: dict[str, Service] = {}
        self.ca = str(folder / "a" / "ca.pem")

    def __enter__(self) -> Machines:
        self._network.__enter__()
        try:
            self._network.hosts[0].run(["sh", "-c", _ROUTER])
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for station in self._stations:
            station.kill()
        for service in self.services.values():
            service.kill()
        self._network.__exit__(kind, error, trace)

    @property
    def services(self) -> dict[str, Service]:
        """Store and gateways, by name."""
        return {**({"store": self.store} if hasattr(self, "store") else {}), **self.gateways}

    def _start(self) -> None:
        argv = ["store", "--path", str(self.folder / "pages"), "--auto-create-namespace", "--insecure-public"]
        argv += ["--data-plane", f"0.0.0.0:{DATA_PORT}", "--admin-api", f"0.0.0.0:{ADMIN_PORT}"]
        self.store = Service(self._hosts["store"], argv, self.folder / "store.log")
        self.store.wait_ready()
        for name in ("a", "b"):
            self.gateways[name] = self._gateway(name)
        for gateway in self.gateways.values():
            gateway.wait_ready()
        self.publishers, self.readers, self.record = [
            Station(self._hosts[host], role, self.folder / f"{role}.log")
            for host, role in (("publishers", "publishers"), ("readers", "readers"), ("store", "record"))
        ]
        self._stations = [self.publishers, self.readers, self.record]

    def _gateway(self, name: str) -> Service:
        certs, host = self.folder / name, self._hosts[name]
        if name != "a":  # one authority for both
            certs.mkdir()
            for file in ("ca.pem", "ca.key"):
                shutil.copy(self.folder / "a" / file, certs / file)
        ensure_own(certs, host.address, datetime.now(UTC))
        doors = self._hosts["store"].addresses
        argv = [
            "serve",
            "--host",
            host.address,
            "--port",
            str(GATEWAY_PORT),
            "--no-plain",
            "--insecure-public",
        ]
        argv += ["--store", ",".join(f"http://{door}:{DATA_PORT}" for door in doors)]
        argv += ["--store-admin", ",".join(f"http://{door}:{ADMIN_PORT}" for door in doors)]
        argv += ["--certs", str(certs), "--node", f"https://{host.address}:{GATEWAY_PORT}"]
        argv += ["--retention", "record", "--linger-ms", str(LINGER_MS), "--store-cache-mib", str(CACHE_MIB)]
        argv += ["--worlds-max", str(WORLDS_MAX)]
        argv += ["--json-logs", "--log-level", "debug"]  # homes that were taken
        return Service(host, argv, self.folder / f"{name}.log")

    def read(self, world: str) -> Any:
        """Its recording, as :meth:`bench.faults_ends.Record.read` tells it."""
        return self.record.ask("read", url=f"http://127.0.0.1:{DATA_PORT}", world=world)

    def mend(self) -> None:
        """Who was killed is there again, and nobody stands still."""
        down = [service for service in self.services.values() if not service.is_up]
        for service in self.services.values():
            service.wake()
        for service in down:
            service.start()
        for service in down:
            service.wait_ready()

    # -- the network ----------------------------------------------------------------------

    def net(self, name: str) -> str:
        """All addresses of a machine."""
        return self._hosts[name].address.rpartition(".")[0] + ".0/24"

    def door(self, number: int) -> str:
        """One of the store's two addresses."""
        return f"{self._hosts['store'].addresses[number]}/32"

    @contextlib.contextmanager
    def apart(self, *pairs: tuple[str, str], one_way: bool = False) -> Iterator[None]:
        """Nothing passes between these addresses within. ``one_way``: nothing from the first to the second."""
        router = self._network.hosts[0].name
        both = [way for one, other in pairs for way in ((one, other), (other, one))[: 1 if one_way else 2]]
        made: list[tuple[str, str]] = []
        try:
            for source, target in both:
                ip("-n", router, "rule", "add", "from", source, "to", target, "blackhole")
                made.append((source, target))
            yield
        finally:
            for source, target in made:
                ip("-n", router, "rule", "del", "from", source, "to", target, "blackhole")

    # -- what is to be seen ---------------------------------------------------------------

    def sizes(self) -> dict[str, Size]:
        """Of every service that is up."""
        return {name: service.size() for name, service in self.services.items() if service.is_up}

    def fences(self) -> list[tuple[str, int]]:
        """Every home that a gateway said it became: world and fence."""
        found: list[tuple[str, int]] = []
        for gateway in self.gateways.values():
            for line in gateway.log.read_text().splitlines():
                with contextlib.suppress(ValueError):
                    told = json.loads(line)
                    if told.get("event") == "home taken":
                        found.append((told["world"], told["fence"]))
        return found


def until(seconds: float, look: Any, every_s: float = 0.02) -> float | None:
    """Look again and again: how long it took until that held; None where it did not within ``seconds``."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if look():
            return time.monotonic() - began
        time.sleep(every_s)
    return None
