"""Records as an MCAP file, by its own library, for Foxglove and what else reads it. Room: recordings.

Two topics, each a JSON message a step with its JSON schema: ``/WORLD/records`` has the values by field (the layout is the
schema), ``/WORLD/scene`` the same records where they are, as ``foxglove.SceneUpdate``, which the 3D panel draws. Source: MCAP
specification, version 1; https://docs.foxglove.dev/docs/sdk/schemas/scene-update.
"""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any, BinaryIO, Final

from gateway import __version__, limits
from gateway.recordings.exports.steps import Step
from gateway.recordings.exports.whole import Export
from gateway.wire.layouts import Field, Layout, Pose, pose_of
from gateway.wire.layouts.fields import NUMBERS
from gateway.wire.layouts.poses import UNTURNED, Quaternion, times

_HALF: Final = math.sqrt(0.5)
_Z_UP: Final[Quaternion] = (_HALF, 0.0, 0.0, _HALF)
"""Takes what has y up to what has z up, as Foxglove's view has."""
_FORWARD: Final[Quaternion] = (0.0, -_HALF, 0.0, _HALF)
"""Takes +x, along which an arrow points, to +z, where a record that is not turned looks."""
_TIME: Final = {
    "type": "object",
    "title": "time",
    "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}},
}
_XYZ: Final = {name: {"type": "number"} for name in "xyz"}
_POSE: Final = {
    "type": "object",
    "properties": {
        "position": {"type": "object", "properties": _XYZ},
        "orientation": {"type": "object", "properties": {**_XYZ, "w": {"type": "number"}}},
    },
}
_COLOUR: Final = {"type": "object", "properties": {name: {"type": "number"} for name in "rgba"}}


def _list(**members: object) -> dict[str, object]:
    return {"type": "array", "items": {"type": "object", "properties": members}}


_NUMBER: Final = {"type": "number"}
SCENE_SCHEMA: Final = {
    "type": "object",
    "title": "foxglove.SceneUpdate",
    "properties": {
        "deletions": _list(timestamp=_TIME, type={"type": "integer"}, id={"type": "string"}),
        "entities": _list(
            timestamp=_TIME,
            frame_id={"type": "string"},
            id={"type": "string"},
            lifetime=_TIME,
            frame_locked={"type": "boolean"},
            arrows=_list(
                pose=_POSE,
                shaft_length=_NUMBER,
                shaft_diameter=_NUMBER,
                head_length=_NUMBER,
                head_diameter=_NUMBER,
                color=_COLOUR,
            ),
            spheres=_list(pose=_POSE, size={"type": "object", "properties": _XYZ}, color=_COLOUR),
            texts=_list(
                pose=_POSE,
                billboard={"type": "boolean"},
                font_size=_NUMBER,
                scale_invariant={"type": "boolean"},
                color=_COLOUR,
                text={"type": "string"},
            ),
        ),
    },
}
_ARROW: Final = {"shaft_length": 0.5, "shaft_diameter": 0.12, "head_length": 0.25, "head_diameter": 0.3}
_BALL: Final = {"x": 0.4, "y": 0.4, "z": 0.4}
_GREY: Final = {"r": 0.6, "g": 0.6, "b": 0.6, "a": 1.0}


class McapExport(Export):
    """One message a step and topic, in chunks that bound what is held."""

    def __init__(self, path: Path, layout: Layout | None, world: str) -> None:
        super().__init__(path)
        self._layout = layout
        self._world = world
        self._file: BinaryIO | None = None
        self._count = 0

    def _open(self) -> None:
        from mcap.writer import Writer

        self._file = self.partial.open("wb")
        self._writer: Any = Writer(self._file, chunk_size=limits.EXPORT_CHUNK_BYTES)
        self._writer.start(profile="", library=f"mvgateway {__version__}")
        facts = {"world": self._world}
        self._records = self._channel("records", "mvgateway.Records", records_schema(self._layout), facts)
        self._scene = None
        if self._layout is not None and self._layout.position:
            self._scene = self._channel("scene", "foxglove.SceneUpdate", SCENE_SCHEMA, facts)
        if self._layout is not None:
            self._writer.add_metadata("layout", {"name": self._layout.name, "document": self._layout.text()})

    def _channel(self, name: str, title: str, schema: object, facts: dict[str, str]) -> int:
        written = self._writer.register_schema(title, "jsonschema", _bytes(schema))
        channel: int = self._writer.register_channel(f"/{self._world}/{name}", "json", written, facts)
        return channel

    def _step(self, step: Step) -> None:
        gone = [key for key, record in step.changed if record is None]
        said: list[dict[str, object]] = []
        for key, record in step.changed:
            if record is not None:
                values = _values(self._layout, record)
                self.unread.look(step, key, record, values.values())
                said.append({"key": key, **values})
        self._say(
            self._records, step, {"epoch": step.epoch, "tick": step.tick, "records": said, "gone": gone}
        )
        if self._scene is not None and self._layout is not None:
            self._say(self._scene, step, scene_update(self._layout, self._world, step))
        self._count += 1

    def _say(self, channel: int, step: Step, message: object) -> None:
        at_ns = step.received_at_us * 1000
        self._writer.add_message(channel, at_ns, _bytes(message), at_ns, self._count)

    def mark(self, name: str, epoch: int, tick: int, at_us: int) -> None:
        self._writer.add_metadata(
            "mark", {"name": name, "epoch": str(epoch), "tick": str(tick), "at_us": str(at_us)}
        )

    def _finish(self) -> None:
        assert self._file is not None
        self._writer.finish()
        self._file.close()

    def _abandon(self) -> None:
        if self._file is not None:
            self._file.close()


def _values(layout: Layout | None, record: bytes) -> dict[str, object]:
    if layout is None:
        return {"bytes": base64.b64encode(record).decode()}
    values = layout.read(record)
    if "key" in values:  # the layout's own, beside the key that the record goes by
        values["key_"] = values.pop("key")
    return values


def records_schema(layout: Layout | None) -> dict[str, object]:
    """The JSON schema of a message of records: of each its key, and its fields by name."""
    whole: dict[str, object] = {"type": "integer"}
    members: dict[str, object] = {"key": whole}
    if layout is None:
        members["bytes"] = {"type": "string", "contentEncoding": "base64"}
    else:
        for field in layout.fields:
            members["key_" if field.name == "key" else field.name] = _schema(field)
    return {
        "type": "object",
        "title": "mvgateway.Records",
        "properties": {
            "epoch": whole,
            "tick": whole,
            "records": _list(**members),
            "gone": {"type": "array", "items": whole},
        },
    }


def _schema(field: Field) -> dict[str, object]:
    about: dict[str, object] = {"description": field.unit} if field.unit else {}
    if field.type == "variant":
        return {"description": "a Godot Variant in its JSON form"}
    if field.type in ("text", "bytes"):
        return {"type": "string", **about}
    whole = field.scale == 1.0 and NUMBERS[field.type][0] not in "efd"
    number = {"type": "integer" if whole else "number"}
    return {**({"type": "array", "items": number} if field.count > 1 else number), **about}


def scene_update(layout: Layout, world: str, step: Step) -> dict[str, object]:
    """What changed, as Foxglove draws it: an arrow where it is known how a record is turned, else a ball; z is up."""
    stamp = {"sec": step.received_at_us // 1_000_000, "nsec": step.received_at_us % 1_000_000 * 1000}
    entities, deletions = [], []
    for key, record in step.changed:
        pose = None if record is None else pose_of(layout, record)
        if record is None or pose is None:
            deletions.append({"timestamp": stamp, "type": 0, "id": str(key)})
            continue
        entity: dict[str, object] = {"timestamp": stamp, "frame_id": world, "id": str(key), **_shape(pose)}
        label = None if layout.label is None else layout.label.read(record)
        if label not in (None, ""):
            entity["texts"] = [_text(pose, str(label))]
        entities.append(entity)
    return {"deletions": deletions, "entities": entities}


def _shape(pose: Pose) -> dict[str, object]:
    if pose.rotation is None:
        return {"spheres": [{"pose": _pose(pose, UNTURNED), "size": _BALL, "color": _GREY}]}
    turned = times(times(_Z_UP, pose.rotation), _FORWARD)
    return {"arrows": [{"pose": _pose(pose, turned), **_ARROW, "color": _GREY}]}


def _pose(pose: Pose, turned: Quaternion, up: float = 0.0) -> dict[str, object]:
    x, y, z = pose.place
    return {
        "position": {"x": x, "y": -z, "z": y + up},
        "orientation": dict(zip("xyzw", turned, strict=True)),
    }


def _text(pose: Pose, label: str) -> dict[str, object]:
    return {
        "pose": _pose(pose, UNTURNED, up=0.5),
        "billboard": True,
        "font_size": 12.0,
        "scale_invariant": True,
        "color": _GREY,
        "text": label,
    }


def _bytes(message: object) -> bytes:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
