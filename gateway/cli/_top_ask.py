"""Asking gateways, each by itself: one that does not answer holds up nobody. Room: cli."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gateway import wallclock
from gateway.cli._exposition import samples
from gateway.cli._top_look import Look, gateway_row
from gateway.cli._top_worlds import world_rows
from gateway.errors import GatewayError
from gateway.limits import TOP_ASK_S, TOP_GATEWAYS_MAX

if TYPE_CHECKING:
    from gateway.client import HttpClient


class AskedGateway:
    """One gateway. ``error``: why it did not answer last; ``is_found``: others told of it."""

    def __init__(self, args: argparse.Namespace, url: str, *, is_found: bool = False) -> None:
        self.url, self.is_found = url, is_found
        self.now: Look | None = None
        self.before: Look | None = None
        self.error: str | None = None
        self._args = args
        self._client: HttpClient | None = None

    async def look(self) -> None:
        """Ask it, within ``TOP_ASK_S``; what it told stands in :attr:`now`, or why not in :attr:`error`."""
        try:
            async with asyncio.timeout(TOP_ASK_S):
                look = await self._look()
        except TimeoutError:
            await self._failed(f"does not answer within {TOP_ASK_S:g} s")
        except GatewayError as error:
            await self._failed(error.message)
        except (OSError, ValueError) as error:
            await self._failed(f"answers what no gateway does: {error}")
        else:
            self.before, self.now, self.error = self.now, look, None

    async def _failed(self, why: str) -> None:
        # Both: a rate over the time in which it was away would be shown as one of a second.
        self.before = self.now = None
        self.error = why
        await self.close()

    async def _look(self) -> Look:
        from gateway.cli._client import http_client

        if self._client is None:
            self._client = http_client(self._args, self.url)
        client = self._client
        health = _object(await client.get_json("/healthz"))
        listed = _object(await client.get_json("/v1/worlds")).get("worlds")
        worlds = {str(one["world"]): one for one in map(_object, listed if isinstance(listed, list) else [])}
        look = Look(time.monotonic(), health, worlds)
        try:
            # By itself: an older gateway, or a token without the right to metrics, has worlds to show all
            # the same.
            answer = await client.request("GET", "/metrics")
        except GatewayError as error:
            look.no_metrics = error.message
        else:
            look.at = time.monotonic()
            look.add(samples(answer.body.decode("utf-8", "replace")))
        return look

    async def close(self) -> None:
        """Idempotent."""
        client, self._client = self._client, None
        if client is not None:
            await client.__aexit__()

    def row(self) -> dict[str, object]:
        """As it is shown."""
        told: dict[str, object] = {"url": self.url}
        if self.is_found:
            told["found"] = True
        if self.now is None:
            return {**told, "error": self.error or "was not asked yet"}
        return {**told, **gateway_row(self.now, self.before)}


class Top:
    """All that are asked: those that were named, and those that they tell of as the homes of worlds."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self.gateways = [AskedGateway(args, url) for url in dict.fromkeys(args.urls)]
        self._known = {url.rstrip("/") for url in args.urls}

    async def look(self) -> dict[str, object]:
        """Ask all, and whoever is told of for the first time; what they told."""
        await asyncio.gather(*(gateway.look() for gateway in self.gateways))
        found = [] if self._args.no_discover else self._found()
        if found:
            await asyncio.gather(*(gateway.look() for gateway in found))
            self.gateways += found
        await self._drop_doubles()
        pairs = {g.url: (g.now, g.before) for g in self.gateways if g.now is not None}
        return {
            "at": round(wallclock.now_us() / 1e6, 3),
            "gateways": [gateway.row() for gateway in self.gateways],
            "worlds": world_rows(pairs),
        }

    def _found(self) -> list[AskedGateway]:
        homes = {
            home.rstrip("/")
            for gateway in self.gateways
            if gateway.now is not None
            for world in gateway.now.worlds.values()
            if isinstance(home := world.get("home"), str)
        }
        self._known |= {g.now.node for g in self.gateways if g.now is not None and g.now.node is not None}
        room = TOP_GATEWAYS_MAX - len(self.gateways)
        new = sorted(homes - self._known)[: max(0, room)]
        self._known.update(new)
        return [AskedGateway(self._args, url, is_found=True) for url in new]

    async def _drop_doubles(self) -> None:
        """One gateway may have several URLs; the first that was asked stands for it."""
        seen: set[str] = set()
        for gateway in list(self.gateways):
            instance = None if gateway.now is None else gateway.now.instance
            # Never one that was named: whoever names two URLs of one gateway wants to see both.
            if instance in seen and gateway.is_found:
                self.gateways.remove(gateway)
                await gateway.close()
            elif instance is not None:
                seen.add(instance)

    async def close(self) -> None:
        """Let go of every connection."""
        await asyncio.gather(*(gateway.close() for gateway in self.gateways))

    @property
    def is_any_there(self) -> bool:
        """Whether any gateway answered last."""
        return any(gateway.now is not None for gateway in self.gateways)


def _object(told: object) -> Mapping[str, object]:
    if not isinstance(told, dict):
        raise ValueError("an object was expected")
    return told
