"""Clips that a gateway cuts for whoever asks: a stretch of a world's recording as a file. Room: runtime."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gateway import limits
from gateway.errors import BadInput, ConfigError, TooLarge, Unprocessable
from gateway.recordings.exports.cutting import ALL_FORMATS, Cut
from gateway.recordings.recording import snapshot_of
from gateway.store.world import History
from gateway.store.world.history import FrameCursor
from gateway.store.world.lanes import WorldLanes
from gateway.store.world.state import Recovered
from gateway.wallclock import now_us
from gateway.wire.journal import Gap, JournalFrame
from gateway.wire.layouts import kept
from gateway.wire.recorded import KeptMark

_SUFFIXES = {
    "sqlite": ".sqlite",
    "csv": ".csv",
    "parquet": ".parquet",
    "mcap": ".mcap",
    "gltf": ".glb",
}
Item = JournalFrame | Gap


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a clip is to hold: ticks of an epoch (None: the newest), both ends included."""

    form: str
    begin: int
    end: int
    epoch: int | None = None


class Clip:
    """A file that is there until it is closed."""

    def __init__(self, folder: str, path: Path, name: str) -> None:
        self._folder = folder
        self.path = path
        self.name = name

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


async def cut(world: WorldLanes, name: str, wanted: Wanted, until_us: int | None) -> Clip:
    """Cut it. Raises :class:`BadInput` for a form that is not known, :class:`Unprocessable` for one that can't be had of
    this world or on this gateway, :class:`TooLarge` beyond the bounds, ``NothingRecorded`` for a stretch that is not there."""
    if wanted.form not in ALL_FORMATS:
        raise BadInput(f"format {wanted.form!r:.40} is not known; there are {', '.join(ALL_FORMATS)}")
    if wanted.end < wanted.begin:
        raise BadInput(f"to={wanted.end} lies before from={wanted.begin}")
    folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="mvgateway-clip-")
    try:
        path = Path(folder, f"clip{_SUFFIXES[wanted.form]}")
        await _written(world, name, wanted, until_us, path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Clip(folder, path, f"{name}-{wanted.begin}-{wanted.end}{path.suffix}")


async def _written(world: WorldLanes, name: str, wanted: Wanted, until_us: int | None, path: Path) -> None:
    def begun(history: History) -> tuple[Recovered, int, list[KeptMark], FrameCursor]:
        epoch = wanted.epoch
        if epoch is None:
            last = history.summary()["last"]
            epoch = last["epoch"] if last else 0
        # Not exact: where a stretch begins in a gap the state before it is what was to be seen then.
        found = history.state_at_tick(epoch, wanted.begin, exact=False)
        # From the tick after: the first one's state is the clip's beginning already.
        cursor = FrameCursor(history, (epoch, wanted.begin + 1), (epoch, wanted.end), keyframes=True)
        return found, epoch, history.marks(), cursor

    start, epoch, marks, cursor = await world.history(begun, until_us=until_us)
    info = world.info
    try:
        making = Cut(
            wanted.form,
            path,
            world=name,
            stride=info.stride,
            layout=kept(info.layout),
            now_us=now_us(),
        )
        # By hand and not by `with`: opening and ending write files, which would hold the loop up.
        await asyncio.to_thread(making.__enter__)
    except ModuleNotFoundError as error:
        raise Unprocessable(
            f"format {wanted.form} needs the package {error.name} on the gateway: pip install 'mvgateway[export]'"
        ) from None
    except ConfigError as error:
        raise Unprocessable(error.message) from None
    try:
        messages = snapshot_of(start, info.stride).messages
        await asyncio.to_thread(making.begin, messages, start.epoch, start.tick, start.received_at_us)
        if wanted.end > wanted.begin:
            await _rows(world, cursor, making, path, until_us)
        for mark in marks:
            if (epoch, wanted.begin) <= (mark["epoch"], mark["tick"]) <= (epoch, wanted.end):
                data = mark["data"] if isinstance(mark["data"], str | None) else json.dumps(mark["data"])
                making.mark(mark["name"], mark["epoch"], mark["tick"], mark["at_us"], data)
    except BaseException as error:
        # Shielded: whoever asked may have gone, and the file must be closed before its folder is removed.
        await asyncio.shield(asyncio.to_thread(making.__exit__, type(error), error, None))
        raise
    await asyncio.to_thread(making.__exit__, None, None, None)
    await asyncio.to_thread(_check_bounds, path)


async def _rows(
    world: WorldLanes, cursor: FrameCursor, making: Cut, path: Path, until_us: int | None
) -> None:
    def page(history: History) -> list[Item]:
        # Each page is read at a version of its own: a clip of an hour would hold one for minutes.
        cursor.history = history
        return cursor.next()

    lost, rows = False, 0
    while items := await world.history(page, until_us=until_us):
        kept_items: list[Item] = []
        for item in items:
            # After dropped frames the next keyframe says what the state is; before that it repeats what the
            # frames have said.
            if isinstance(item, Gap):
                lost = lost or item.reason == "dropped"
            elif item.keyframe and not lost:
                continue  # the gateway's own, which says nothing new
            elif item.keyframe:
                lost = False
            kept_items.append(item)
        rows += len(kept_items)
        await asyncio.to_thread(_add, making, kept_items)
        # As it grows, not at the end: the disk would be full by then.
        await asyncio.to_thread(_check_bounds, path, rows)


def _check_bounds(path: Path, rows: int = 0) -> None:
    """Of what has come to disk so far."""
    if rows > limits.CLIP_ROWS_MAX or _written_bytes(path) > limits.CLIP_BYTES_MAX:
        raise TooLarge(
            f"a clip over HTTP has at most {limits.CLIP_ROWS_MAX:,} frames and {limits.CLIP_BYTES_MAX // limits.MIB} MiB; take a "
            "shorter stretch, or `mvgateway clip`, which has no such bound"
        )


def _add(making: Cut, items: Iterable[Item]) -> None:
    for item in items:
        making.add(item)


def _written_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.iterdir())
