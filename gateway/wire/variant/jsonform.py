"""A Variant as JSON and back, without loss (docs/VARIANT.md has the table). Room: wire.

What JSON has is plain: null, booleans, strings, integers up to 2**53, floats (always with a point
or an exponent), untyped arrays, and untyped dictionaries whose keys are all strings other than
``@``. Everything else is an object with the type's name under ``@``.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator

from gateway.errors import Unprocessable
from gateway.limits import VARIANT_JSON_DEPTH_MAX
from gateway.wire.variant.fixed import Fixed
from gateway.wire.variant.jsonread import on_array, on_object
from gateway.wire.variant.jsontext import JsonTextReader
from gateway.wire.variant.layout import VariantType
from gateway.wire.variant.packed import Packed
from gateway.wire.variant.values import (
    BUILTIN,
    CLASS_NAME,
    RID,
    Array,
    Callable,
    ContainerType,
    Dictionary,
    EncodedObject,
    NodePath,
    ObjectId,
    PackedStringArray,
    Signal,
    StringName,
    Value,
)

SAFE_INTEGER = (1 << 53) - 1
"""JavaScript's Number.MAX_SAFE_INTEGER: a larger INT travels as a string."""


def from_json(text: str) -> Value:
    """The value whose JSON form is ``text``. Raises ``Unprocessable`` with ``offset`` in characters."""
    return JsonTextReader(text, on_array, on_object, VARIANT_JSON_DEPTH_MAX).read()


def to_json(value: Value) -> str:
    """The JSON form of ``value``, on one line."""
    out: list[str] = []
    stack: list[Iterator[Value]] = [_pieces(value)]
    while stack:
        for piece in stack[-1]:
            if isinstance(piece, _Text):
                out.append(piece)
            else:
                stack.append(_pieces(piece))
                break
        else:
            stack.pop()
    return "".join(out)


class _Text(str):
    """A finished piece of JSON, as against a value still to be written."""

    __slots__ = ()


def _pieces(value: Value) -> Iterator[Value]:
    if isinstance(value, Dictionary | dict):
        return _dictionary(value if isinstance(value, Dictionary) else Dictionary(value))
    if isinstance(value, EncodedObject):
        return _object(value)
    if isinstance(value, Array | list | tuple):
        return _array(value if isinstance(value, Array) else Array(value))
    return iter((_Text(json.dumps(_leaf(value), allow_nan=False)),))


def _array(value: Array) -> Iterator[Value]:
    if value.element_type is None:
        yield from _listed(value.items)
        return
    yield _Text(f'{{"@": "Array", "of": {_declared(value.element_type)}, "v": ')
    yield from _listed(value.items)
    yield _Text("}")


def _listed(items: tuple[Value, ...]) -> Iterator[Value]:
    yield _Text("[")
    for index, item in enumerate(items):
        if index:
            yield _Text(", ")
        yield item
    yield _Text("]")


def _dictionary(value: Dictionary) -> Iterator[Value]:
    typed = value.key_type is not None or value.value_type is not None
    # "@" as a key would be read back as a type's name.
    if typed or any(type(key) is not str or key == "@" for key, _ in value.pairs):
        yield from _tagged_dictionary(value)
        return
    yield _Text("{")
    for index, (key, content) in enumerate(value.pairs):
        yield _Text(f"{', ' if index else ''}{json.dumps(key)}: ")
        yield content
    yield _Text("}")


def _tagged_dictionary(value: Dictionary) -> Iterator[Value]:
    yield _Text('{"@": "Dictionary"')
    for name, declared in (("key", value.key_type), ("value", value.value_type)):
        if declared is not None:
            yield _Text(f', "{name}": {_declared(declared)}')
    yield _Text(', "v": ')
    yield from _listed(tuple(Array(pair) for pair in value.pairs))
    yield _Text("}")


def _object(value: EncodedObject) -> Iterator[Value]:
    yield _Text(f'{{"@": "EncodedObject", "class": {json.dumps(value.class_name)}, "properties": ')
    yield from _listed(tuple(Array(item) for item in value.properties))
    yield _Text("}")


def _declared(declared: ContainerType) -> str:
    if declared.kind == BUILTIN:
        return json.dumps(VariantType(declared.builtin).name)
    return json.dumps({"class" if declared.kind == CLASS_NAME else "script": declared.name})


def _leaf(value: Value) -> object:
    """A JSON-ready form of what holds no other values."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        # JavaScript reads every number as a double: a larger one would come back as its neighbour.
        return value if abs(value) <= SAFE_INTEGER else {"@": "int", "v": str(value)}
    if isinstance(value, float):
        return value if math.isfinite(value) else {"@": "float", "v": str(value)}
    if isinstance(value, bytes | bytearray):
        return {"@": "PackedByteArray", "v": base64.b64encode(value).decode()}
    if isinstance(value, Fixed | Packed):
        form: dict[str, object] = {"@": type(value).__name__, "v": [_component(c) for c in value.components]}
        return {**form, "wide": True} if value.wide else form
    return _named(value)


def _component(number: float) -> object:
    if isinstance(number, float) and not math.isfinite(number):
        return str(number)
    return number if abs(number) <= SAFE_INTEGER or isinstance(number, float) else str(number)


def _named(value: Value) -> object:
    match value:
        case StringName(text):
            return {"@": "StringName", "v": text}
        case NodePath(names, subnames, absolute):
            return {"@": "NodePath", "names": names, "subnames": subnames, "absolute": absolute}
        case RID(number):
            return {"@": "RID", "v": str(number)}
        case ObjectId(number):
            return {"@": "Object", "v": str(number)}
        case Callable():
            return {"@": "Callable"}
        case Signal(name, number):
            return {"@": "Signal", "name": name, "object": str(number)}
        case PackedStringArray(strings):
            return {"@": "PackedStringArray", "v": strings}
    raise Unprocessable(f"no Variant holds a Python {type(value).__name__}")
