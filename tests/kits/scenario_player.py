"""What the two servers and the player of the shared scenario do with the Python kit, without ``await``: a program that is told
its steps by lines and answers each with one: ``python -m tests.kits.scenario_player URL CA``."""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from gateway.client.sync import Entities, Publisher, Subscriber
from tests.patience import HANG_S


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + HANG_S
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


def hexed(records: Mapping[int, bytes]) -> dict[str, str]:
    return {str(key): data.hex() for key, data in sorted(records.items())}


class Play:
    """The scenario, step by step."""

    def __init__(self, url: str, ca: str) -> None:
        self.to, self.url = {"ca": ca}, url
        self.forest = Publisher(url, "forest", **self.to)
        self.town = Publisher(url, "town", **self.to)
        self.entities = Entities(url, "town", **self.to)
        self.player = Subscriber(url, "town", follow="player", on_message=lambda _: None, **self.to)

    def walk(self, server: Publisher, steps: int) -> None:
        for at in range(steps):
            server.send({10: struct.pack("<fff", at, 0, server.tick)})
            time.sleep(0.016)

    def begin(self) -> str | None:
        self.forest.open()
        self.forest.send({2: b"a tree"})
        self.town.open()
        self.town.send({1: b"the square", 10: struct.pack("<fff", 0, 0, 0)})
        self.entities.put("player", {"name": "ann"}, kind="json", key=10)
        self.player.open()
        until(lambda: 10 in self.player.records())
        return self.player.transport

    def walk_over(self) -> float:
        self.walk(self.town, 60)
        self.town.wait_durable(timeout_s=HANG_S)
        self.entities.hibernate("player", 10)
        until(lambda: 10 not in self.town.records())
        ticket = self.entities.transfer("player", to="forest")
        with Entities(self.url, "forest", **self.to) as forest:
            forest.accept(ticket)
            forest.wake("player", 10)
        until(lambda: 10 in self.forest.records())
        woken: float = struct.unpack("<fff", self.forest.records()[10])[0]
        self.walk(self.forest, 60)
        self.forest.wait_durable(timeout_s=HANG_S)
        until(lambda: self.player.world == "forest" and 10 in self.player.records())
        return woken

    def trade(self) -> list[Any]:
        with (
            Entities(self.url, "ann", inventory=True, **self.to) as ann,
            Entities(self.url, "bob", inventory=True, **self.to) as bob,
        ):
            ann.put("gold", {}, kind="json", quantity=10)
            bob.put("sword", {"edge": 3}, kind="json")
            moves = [{"item": "gold", "from": "ann", "to": "bob", "quantity": 7}]
            ann.trade([*moves, {"item": "sword", "from": "bob", "to": "ann"}])
            return [ann.get("gold").quantity, bob.get("gold").quantity, ann.get("sword").value]

    def walk_while_away(self) -> None:
        self.walk(self.forest, 30)

    def end(self) -> dict[str, Any]:
        self.walk(self.forest, 30)
        self.forest.send({3: b"after", 2: None})
        self.town.send({3: b"after"})
        until(lambda: self.forest.connected and self.town.connected)
        for server in (self.forest, self.town):
            server.wait_durable(timeout_s=HANG_S)
        wanted = self.forest.records()
        until(lambda: self.player.records() == wanted)
        with Subscriber(
            self.url, "forest", replay={"speed": "max"}, on_message=lambda _: None, **self.to
        ) as film:
            until(lambda: film.records() == wanted)
            shown = hexed(film.records())
        states = {
            "town": hexed(self.town.records()),
            "forest": hexed(wanted),
            "player": hexed(self.player.records()),
        }
        for one in (self.player, self.entities, self.town, self.forest):
            one.close()
        return {**states, "film": shown}


if __name__ == "__main__":
    play = Play(*sys.argv[1:])
    for line in sys.stdin:
        print(json.dumps(getattr(play, line.strip())()), flush=True)
