"""Asking the other workers of the group. Room: runtime."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, TypeVar

from gateway.errors import GatewayError
from gateway.limits import WORKER_ASK_S
from gateway.runtime.workers.channel import Channel, Kind, SiblingGone, raised
from gateway.runtime.workers.group import Worker

T = TypeVar("T")


class Siblings:
    """The others, as one worker reaches them."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    async def connect(
        self, number: int, what: str, on_frame: Callable[[Channel, int, bytes], None], **fields: object
    ) -> Channel:
        """A channel to another worker, which was told what for. Raises :class:`SiblingGone`."""
        channel = Channel()
        channel.on_frame = lambda kind, data: on_frame(channel, kind, data)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(WORKER_ASK_S):
                await loop.create_unix_connection(lambda: channel, self.worker.path(number))
        except (OSError, TimeoutError) as error:
            raise SiblingGone(f"worker {number} does not answer: {error}") from None
        hello = {"secret": self.worker.group.secret, "what": what, "from": self.worker.number, **fields}
        channel.write_json(Kind.HELLO, hello)
        return channel

    async def ask(self, number: int, what: str, timeout_s: float = WORKER_ASK_S, **fields: object) -> Any:
        """One question, one answer. Raises what the other raised, and :class:`SiblingGone`."""
        answered: asyncio.Future[object] = asyncio.get_running_loop().create_future()

        def on_frame(channel: Channel, kind: int, data: bytes) -> None:
            settle(answered, kind, data)

        channel = await self.connect(number, what, on_frame, **fields)
        channel.on_lost = lambda: gone(answered, number)
        try:
            async with asyncio.timeout(timeout_s):
                return await answered
        except TimeoutError:
            raise SiblingGone(f"worker {number} did not answer within {timeout_s:g} s") from None
        finally:
            channel.close()

    async def ask_all(self, what: str, **fields: object) -> dict[int, Any]:
        """What each of the others answers; those that don't are left out."""
        numbers = self.worker.others()
        answers = await asyncio.gather(*(self._or_none(number, what, fields) for number in numbers))
        return {number: answer for number, answer in zip(numbers, answers, strict=True) if answer is not None}

    async def _or_none(self, number: int, what: str, fields: dict[str, object]) -> object:
        try:
            return await self.ask(number, what, WORKER_ASK_S, **fields)
        except GatewayError:
            return None


def settle(answered: asyncio.Future[T], kind: int, data: bytes) -> None:
    """``ANSWER`` or ``FAILED`` into a future."""
    # Whoever waited has given up, or the channel told its end first.
    if answered.done():
        return
    if kind == Kind.ANSWER:
        told: Any = json.loads(data) if data else None
        answered.set_result(told)
    elif kind == Kind.FAILED:
        answered.set_exception(raised(json.loads(data)))


def gone(answered: asyncio.Future[T], number: int) -> None:
    """The channel has ended before there was an answer."""
    if not answered.done():
        answered.set_exception(SiblingGone(f"worker {number} has ended"))


__all__ = ["Siblings", "gone", "settle"]
