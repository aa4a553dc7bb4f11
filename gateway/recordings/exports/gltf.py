"""Records as an animated glTF 2.0 scene: a node a record, that goes where it went and turns as it turned. Room: recordings.

``.glb`` is one file, ``.gltf`` JSON with a ``.bin`` beside it. A record that is not there has scale 0. Source: Khronos
glTF 2.0, sections 3.6 (buffers), 3.11 (animations) and 4.4 (GLB).
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import tempfile
from array import array
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from gateway import __version__
from gateway.errors import ConfigError
from gateway.recordings.exports.scene import Scene
from gateway.recordings.exports.steps import Step
from gateway.recordings.exports.tracks import Tracks
from gateway.recordings.exports.whole import Export
from gateway.wire.layouts import Layout, poses_of

_MAGIC, _VERSION, _JSON, _BIN = 0x4654_6C67, 2, 0x4E4F_534A, 0x004E_4942


class GltfExport(Export):
    """Needs a layout that says where records are. Raises :class:`ConfigError` without one."""

    def __init__(self, path: Path, layout: Layout | None, world: str) -> None:
        super().__init__(path)
        if layout is None or not layout.position:
            raise ConfigError(
                f"glTF shows where records are, and the layout of {world} does not say; give it one with a position "
                f"(mvgateway worlds set {world} --layout NAME), or take another --format"
            )
        self._layout = layout
        self._world = world
        self._begin_us: int | None = None
        self._now_s = 0.0
        self._open_files: list[IO[bytes]] = []

    def _open(self) -> None:
        # Without ``with``: it outlives this method, and is closed with the writer.
        self._spill: BinaryIO = cast(BinaryIO, tempfile.TemporaryFile(dir=self.path.parent))  # noqa: SIM115
        self._open_files.append(self._spill)
        self._tracks = Tracks(self._spill)

    def _step(self, step: Step) -> None:
        if self._begin_us is None:
            self._begin_us = step.received_at_us
        before_s = self._now_s
        # as its file has it, and never back: by a clock that was set, time stands until it is caught up with
        now_s = max(before_s, array("f", [(step.received_at_us - self._begin_us) / 1e6])[0])
        self._now_s = now_s
        live = [record for _, record in step.changed if record is not None]
        poses, by_key = iter(poses_of(self._layout, live)), self._tracks.by_key
        for key, record in step.changed:
            pose = None if record is None else next(poses)
            if record is None or pose is None:
                if record is not None:
                    self.unread.add(step.epoch, step.tick, key)
                self._tracks.gone(key, now_s)
                continue
            if key not in by_key:
                self._tracks.begin(key, *self._called(key, record))
            self._tracks.put(key, pose, now_s, before_s)

    def _called(self, key: int, record: bytes) -> tuple[str, str]:
        label, kind = self._layout.label, self._layout.kind
        name = None if label is None else label.read(record)
        return str(key if name in (None, "") else name), "" if kind is None else str(kind.read(record))

    def _finish(self) -> None:
        # Without ``with``: it is among the files that the writer closes at its end.
        body = cast(BinaryIO, tempfile.TemporaryFile(dir=self.path.parent))  # noqa: SIM115
        self._open_files.append(body)
        scene = Scene(self._world, f"mvgateway {__version__}", body)
        for track in self._tracks.by_key.values():
            scene.add(track, self._tracks)
        document, size = scene.document(), body.tell()
        body.seek(0)
        if self.path.suffix == ".glb":
            self._write_glb(document, body, size)
        else:
            self._write_pair(document, body)
        self._abandon()

    def _write_glb(self, document: dict[str, object], body: BinaryIO, size: int) -> None:
        text = _padded(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())
        with self.partial.open("wb") as file:
            # The whole length stands in the head (glTF 2.0 section 4.4.2), hence the spool file: it is
            # known only at the end.
            file.write(struct.pack("<III", _MAGIC, _VERSION, 12 + 8 + len(text) + 8 + size))
            file.write(struct.pack("<II", len(text), _JSON) + text)
            file.write(struct.pack("<II", size, _BIN))
            shutil.copyfileobj(body, file)

    def _write_pair(self, document: dict[str, Any], body: BinaryIO) -> None:
        binary = self.path.with_suffix(".bin")
        document["buffers"][0]["uri"] = binary.name
        partial = binary.with_name(f".{binary.name}.partial")
        try:
            with partial.open("wb") as file:
                shutil.copyfileobj(body, file)
                file.flush()
                os.fsync(file.fileno())
            self.partial.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
            # Before the document gets its name: one that is there has its numbers.
            os.replace(partial, binary)
        finally:
            partial.unlink(missing_ok=True)

    def _abandon(self) -> None:
        for file in self._open_files:
            file.close()


def _padded(text: bytes) -> bytes:
    # Spaces, as a chunk of JSON is padded (glTF 2.0 section 4.4.3).
    return text + b" " * (-len(text) % 4)
