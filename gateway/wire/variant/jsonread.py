"""The JSON form's objects back to values. Room: wire. Called by ``jsonform`` for what closes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable as Maker
from collections.abc import Sequence

from gateway.errors import Unprocessable
from gateway.wire.variant.fixed import FIXED
from gateway.wire.variant.layout import VariantType
from gateway.wire.variant.packed import PACKED
from gateway.wire.variant.values import (
    BUILTIN,
    CLASS_NAME,
    RID,
    SCRIPT,
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

Members = dict[str, Value]


def on_array(items: list[Value]) -> Value:
    """A JSON array is an untyped Array (until the object around it says what it is)."""
    return Array(items)


def on_object(pairs: list[tuple[str, Value]]) -> Value:
    """A JSON object is a Dictionary, or what its ``@`` names. Raises ``Unprocessable``."""
    members = dict(pairs)
    if "@" not in members:
        return Dictionary(pairs)
    maker = _MAKERS.get(members["@"]) if isinstance(members["@"], str) else None
    if maker is None:
        raise Unprocessable(f"there is no Variant type named {members['@']!r}")
    try:
        return maker(members)
    # OverflowError: 1e999 is a JSON number, and no int; one of 400 digits is no float.
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise Unprocessable(f"members of a {members['@']} do not fit: {error!r}") from error


def _number(component: object) -> int | float:
    if isinstance(component, str):
        # As text: whole numbers beyond 2**53, and "inf" and "nan", which JSON has not.
        return int(component) if component.lstrip("-").isdigit() else float(component)
    if isinstance(component, bool) or not isinstance(component, int | float):
        raise TypeError(f"{component!r} is not a number")
    return component


def _items(value: Value) -> Sequence[Value]:
    if not isinstance(value, Array):
        raise TypeError(f"{value!r} is not an array")
    return value.items


def _numbers(members: Members) -> tuple[int | float, ...]:
    return tuple(_number(component) for component in _items(members["v"]))


def _scalar(value: Value) -> str | int | float:
    if not isinstance(value, str | int | float):
        raise TypeError(f"{value!r} is not a number")
    return value


def _whole(value: Value) -> int:
    return int(_scalar(value))


def _id(value: Value) -> int:
    number = _whole(value)
    if not 0 <= number < 1 << 64:
        raise ValueError(f"{number} is not an unsigned 64-bit number")
    return number


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value


def _texts(value: Value) -> tuple[str, ...]:
    return tuple(_text(item) for item in _items(value))


def _bytes(members: Members) -> bytes:
    try:
        return base64.b64decode(_text(members["v"]), validate=True)
    except binascii.Error as error:
        raise ValueError(f"base64: {error}") from error


def _packed(members: Members) -> Value:
    packed = _PACKED_NAMES[_text(members["@"])]
    numbers, wide = _numbers(members), bool(members.get("wide", False))
    if packed.ELEMENT is None:
        return packed(numbers, wide=wide)
    step = packed.ELEMENT.COUNT
    if len(numbers) % step:
        raise ValueError(f"{len(numbers)} components are no multiple of {step}")
    return packed((numbers[at : at + step] for at in range(0, len(numbers), step)), wide=wide)


def _declared(value: Value) -> ContainerType | None:
    if value is None:
        return None
    if isinstance(value, str):
        return ContainerType(BUILTIN, VariantType[value])
    if not isinstance(value, Dictionary):
        raise TypeError(f"{value!r} is no type")
    ((kind, name),) = value.pairs
    return ContainerType(
        {"class": CLASS_NAME, "script": SCRIPT}[_text(kind)], VariantType.OBJECT, _text(name)
    )


def _pair(value: Value) -> tuple[Value, Value]:
    key, content = _items(value)
    return key, content


def _dictionary(members: Members) -> Value:
    pairs = [_pair(pair) for pair in _items(members["v"])]
    return Dictionary(pairs, _declared(members.get("key")), _declared(members.get("value")))


def _object(members: Members) -> Value:
    properties = [(_text(name), content) for name, content in map(_pair, _items(members["properties"]))]
    return EncodedObject(_text(members["class"]), properties)


def _node_path(members: Members) -> Value:
    return NodePath(_texts(members["names"]), _texts(members["subnames"]), bool(members["absolute"]))


_PACKED_NAMES = {cls.__name__: cls for cls in PACKED.values()}
_FIXED_NAMES = {cls.__name__: cls for cls in FIXED.values()}


def _fixed(members: Members) -> Value:
    return _FIXED_NAMES[_text(members["@"])](*_numbers(members), wide=bool(members.get("wide", False)))


_MAKERS: dict[str, Maker[[Members], Value]] = {
    **dict.fromkeys(_FIXED_NAMES, _fixed),
    **dict.fromkeys(_PACKED_NAMES, _packed),
    "int": lambda members: _whole(members["v"]),
    "float": lambda members: float(_scalar(members["v"])),
    "PackedByteArray": _bytes,
    "PackedStringArray": lambda members: PackedStringArray(_texts(members["v"])),
    "StringName": lambda members: StringName(_text(members["v"])),
    "NodePath": _node_path,
    "RID": lambda members: RID(_id(members["v"])),
    "Object": lambda members: ObjectId(_id(members["v"])),
    "EncodedObject": _object,
    "Callable": lambda members: Callable(),
    "Signal": lambda members: Signal(_text(members["name"]), _id(members["object"])),
    "Array": lambda members: Array(_items(members["v"]), _declared(members["of"])),
    "Dictionary": _dictionary,
}
