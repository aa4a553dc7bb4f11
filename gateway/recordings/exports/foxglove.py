"""Records where they are, as ``foxglove.SceneUpdate``, which Foxglove's 3D panel draws. Room: recordings.

Source: https://docs.foxglove.dev/docs/sdk/schemas/scene-update.
"""

from __future__ import annotations

import json
import math
from typing import Final

from gateway.recordings.exports.steps import Step
from gateway.wire.layouts import AlikeRecords, Layout, Pose, live_by_lengths, poses_of, quoted
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


def objects_of(**members: object) -> dict[str, object]:
    """The JSON schema of a list of objects."""
    return {"type": "array", "items": {"type": "object", "properties": members}}


_NUMBER: Final = {"type": "number"}
SCENE_SCHEMA: Final = {
    "type": "object",
    "title": "foxglove.SceneUpdate",
    "properties": {
        "deletions": objects_of(timestamp=_TIME, type={"type": "integer"}, id={"type": "string"}),
        "entities": objects_of(
            timestamp=_TIME,
            frame_id={"type": "string"},
            id={"type": "string"},
            lifetime=_TIME,
            frame_locked={"type": "boolean"},
            arrows=objects_of(
                pose=_POSE,
                shaft_length=_NUMBER,
                shaft_diameter=_NUMBER,
                head_length=_NUMBER,
                head_diameter=_NUMBER,
                color=_COLOUR,
            ),
            spheres=objects_of(pose=_POSE, size={"type": "object", "properties": _XYZ}, color=_COLOUR),
            texts=objects_of(
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


class SceneTexts:
    """A world's updates as JSON. Written by hand in the pieces that every record has: of each some sixty members, of which eleven differ,
    and ``json.dumps`` of all of them took half of a file's time."""

    def __init__(self, layout: Layout, world: str) -> None:
        self._layout = layout
        colour, world_text = _json(_GREY), _json(world)
        pose = '{"position":{"x":%r,"y":%r,"z":%r},"orientation":{"x":%r,"y":%r,"z":%r,"w":%r}}'
        # Doubled: what stands for itself in a text that % fills.
        about = f'"frame_id":{world_text}'.replace("%", "%%")
        self._head = '{"timestamp":%s,' + about + ',"id":"%d",'
        arrow = "".join(f',"{name}":{size}' for name, size in _ARROW.items())
        self._arrow = f'"arrows":[{{"pose":{pose}{arrow},"color":{colour}}}]'
        self._ball = f'"spheres":[{{"pose":{pose},"size":{_json(_BALL)},"color":{colour}}}]'
        form = f'"billboard":true,"font_size":12.0,"scale_invariant":true,"color":{colour}'
        self._text = f',"texts":[{{"pose":{pose},{form},"text":%s}}]'

    def update(self, step: Step) -> bytes:
        """What changed: an arrow where it is known how a record is turned, else a ball; z is up."""
        second, rest = divmod(step.received_at_us, 1_000_000)
        stamp = f'{{"sec":{second},"nsec":{rest * 1000}}}'
        records = [record for _, record in step.changed if record is not None]
        poses, names = iter(poses_of(self._layout, records)), iter(self._names(records))
        entities, deletions = [], []
        for key, record in step.changed:
            pose, name = (None, "") if record is None else (next(poses), next(names))
            if pose is None:
                deletions.append(f'{{"timestamp":{stamp},"type":0,"id":"{key}"}}')
            else:
                entities.append(self._entity(stamp, key, pose, name))
        text = f'{{"deletions":[{",".join(deletions)}],"entities":[{",".join(entities)}]}}'
        return text.encode()

    def _names(self, records: list[bytes]) -> list[str]:
        label = self._layout.label
        if label is None:
            return [""] * len(records)

        def read(alike: AlikeRecords) -> list[str]:
            return ["" if value is None else str(value) for value in alike.values(label)]

        return live_by_lengths(records, read)

    def _entity(self, stamp: str, key: int, pose: Pose, name: str) -> str:
        (x, y, z), turned = pose.place, pose.rotation
        place = (x, -z, y)
        if turned is None:
            shape = self._ball % (*place, *UNTURNED)
        else:
            shape = self._arrow % (*place, *times(times(_Z_UP, turned), _FORWARD))
        text = self._text % (x, -z, y + 0.5, *UNTURNED, quoted(name)) if name else ""
        return self._head % (stamp, key) + shape + text + "}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
