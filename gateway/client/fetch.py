"""One request for a world's state: the last synced one, or as of a moment. Room: client."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway.client.address import world_path
from gateway.client.connect import TransportChoice
from gateway.client.http import FRAMES_TYPE, HttpClient
from gateway.client.token import Token, TokenSource
from gateway.client.trust import Trust
from gateway.core.state import WorldState
from gateway.errors import MalformedMessage
from gateway.wire import Frame, MessageStream, decode_message


@dataclass(frozen=True, slots=True)
class FetchedState:
    """A recorded state. ``records``: key → bytes; ``messages``: the same as a keyframe's messages;
    ``durable_at_us``: when it was stored, microseconds since the Unix epoch (0: not told)."""

    epoch: int
    tick: int
    durable_at_us: int
    stride: int
    records: dict[int, bytes]
    messages: tuple[bytes, ...]


async def fetch_last(
    url: str,
    world: str,
    *,
    transport: TransportChoice = "auto",
    ca: str | Path | None = None,
    certificate_sha256: str | bytes | None = None,
    insecure: bool = False,
    token: TokenSource | Token | None = None,
    delay_s: float = 0.0,
) -> FetchedState:
    """The last synced state of ``world``, from the store: what a restarting game server asks first. ``token`` as in
    :class:`gateway.client.live.Live`; ``delay_s``: as it was so many seconds ago.

    Raises :class:`gateway.errors.UnknownWorld`, :class:`gateway.errors.NothingRecorded`,
    :class:`gateway.errors.StoreUnavailable`.
    """
    trust = Trust.of(ca=ca, certificate_sha256=certificate_sha256, insecure=insecure)
    delay = {"delay_s": f"{delay_s:.3f}"} if delay_s else {}
    async with HttpClient(url, trust=trust, transport=transport, token=token) as client:
        return await fetch_state(client, world_path(world, "frames", "last", **delay))


async def fetch_state(client: HttpClient, path: str) -> FetchedState:
    """The state that ``path`` answers: ``…/frames/last`` or ``…/frames?tick=`` and the like."""
    answer = await client.request("GET", path, headers={"accept": FRAMES_TYPE})
    messages = read_messages(answer.body)
    state = state_of(messages)
    return FetchedState(
        int(answer.headers.get("x-epoch", state.epoch)),
        int(answer.headers.get("x-tick", state.tick)),
        int(answer.headers.get("x-durable-at", 0)),
        state.stride,
        state.snapshot(),
        messages,
    )


def read_messages(body: bytes) -> tuple[bytes, ...]:
    """The messages of a length-prefixed body. Raises :class:`MalformedMessage` where it breaks off."""
    stream = MessageStream()
    stream.feed(body)
    messages = tuple(stream)
    stream.finish()
    return messages


def state_of(messages: tuple[bytes, ...]) -> WorldState:
    """The state that these messages add up to. Raises :class:`MalformedMessage`."""
    state = WorldState()
    for message in messages:
        frame = decode_message(message)
        if not isinstance(frame, Frame):
            raise MalformedMessage("a recorded state holds frames only, and here is a control message")
        state.apply(frame)
    return state
