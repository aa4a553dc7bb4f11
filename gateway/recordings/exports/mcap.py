"""Records as an MCAP file, by its own library, for Foxglove and what else reads it. Room: recordings.

Two topics, each a JSON message a step with its JSON schema: ``/WORLD/records`` has the values by field (the layout is the
schema), ``/WORLD/scene`` the same records where they are, as ``foxglove.SceneUpdate``, which the 3D panel draws. Source: MCAP
specification, version 1; https://docs.foxglove.dev/docs/sdk/schemas/scene-update.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from gateway import __version__, limits
from gateway.recordings.exports.foxglove import SCENE_SCHEMA, SceneTexts, objects_of
from gateway.recordings.exports.steps import Rows, Step
from gateway.recordings.exports.whole import Export
from gateway.wire.layouts import Field, Layout, by_lengths
from gateway.wire.layouts.fields import NUMBERS


class McapExport(Export):
    """One message a step and topic, in chunks that bound what is held."""

    def __init__(self, path: Path, layout: Layout | None, world: str) -> None:
        super().__init__(path)
        self._layout = layout
        self._world = world
        self._fields = fields_by_name(layout)
        # Names of fields need no escapes and hold no %: a layout allows letters, digits and underscores.
        self._form = ",".join(f'"{name}":%s' for name in self._fields)
        self._scenes = SceneTexts(layout, world) if layout is not None and layout.position else None
        self._file: BinaryIO | None = None
        self._count = 0

    def _open(self) -> None:
        from mcap.writer import Writer

        self._file = self.partial.open("wb")
        self._writer: Any = Writer(self._file, chunk_size=limits.EXPORT_CHUNK_BYTES)
        self._writer.start(profile="", library=f"mvgateway {__version__}")
        facts = {"world": self._world}
        self._records = self._channel("records", "mvgateway.Records", records_schema(self._layout), facts)
        if self._scenes is not None:
            self._scene = self._channel("scene", "foxglove.SceneUpdate", SCENE_SCHEMA, facts)
        if self._layout is not None:
            self._writer.add_metadata("layout", {"name": self._layout.name, "document": self._layout.text()})

    def _channel(self, name: str, title: str, schema: object, facts: dict[str, str]) -> int:
        written = self._writer.register_schema(title, "jsonschema", _bytes(schema))
        channel: int = self._writer.register_channel(f"/{self._world}/{name}", "json", written, facts)
        return channel

    def _step(self, step: Step) -> None:
        gone = [str(key) for key, record in step.changed if record is None]
        said = [f'{{"key":{key},{text}}}' for key, text in self._said(step)]
        message = f'{{"epoch":{step.epoch},"tick":{step.tick},"records":[{",".join(said)}],"gone":[{",".join(gone)}]}}'
        self._say(self._records, step, message.encode())
        if self._scenes is not None:
            self._say(self._scene, step, self._scenes.update(step))
        self._count += 1

    def _said(self, step: Step) -> Iterable[tuple[int, str]]:
        """Of each record that a step set its key, and its values as members of a JSON object."""
        live = [(key, record) for key, record in step.changed if record is not None]
        if self._layout is None:
            return [(key, f'"bytes":"{base64.b64encode(record).decode()}"') for key, record in live]
        rows, fields = Rows(), self._fields.values()
        rows.add(step, live)
        columns = by_lengths(
            rows.records, len(fields), lambda alike: [alike.json_texts(one) for one in fields]
        )
        self.unread.look(rows, list(map(_holes, fields, columns)), True)
        texts = zip(*columns, strict=True)
        return [(key, self._form % values) for key, values in zip(rows.keys, texts, strict=True)]

    def _say(self, channel: int, step: Step, message: bytes) -> None:
        at_ns = step.received_at_us * 1000
        self._writer.add_message(channel, at_ns, message, at_ns, self._count)

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


def _holes(field: Field, texts: Sequence[str | None]) -> list[bool]:
    """Where a value, or one of its numbers, is none."""
    if field.type in NUMBERS and field.count > 1:
        return [text is not None and "null" in text for text in texts]
    return [text == "null" for text in texts]


def fields_by_name(layout: Layout | None) -> dict[str, Field]:
    """The layout's fields by what they are called in a message: one that is called ``key`` stands behind the others by another
    name, beside the key that the record goes by."""
    named = {} if layout is None else {field.name: field for field in layout.fields}
    field = named.pop("key", None)
    if field is not None:
        own = "key_"
        while own in named:
            own += "_"
        named[own] = field
    return named


def records_schema(layout: Layout | None) -> dict[str, object]:
    """The JSON schema of a message of records: of each its key, and its fields by name."""
    whole: dict[str, object] = {"type": "integer"}
    members: dict[str, object] = {"key": whole}
    if layout is None:
        members["bytes"] = {"type": "string", "contentEncoding": "base64"}
    else:
        members |= {name: _schema(field) for name, field in fields_by_name(layout).items()}
    return {
        "type": "object",
        "title": "mvgateway.Records",
        "properties": {
            "epoch": whole,
            "tick": whole,
            "records": objects_of(**members),
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


def _bytes(message: object) -> bytes:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
