"""Containers as one line of Python, without recursion and within a bound. Room: wire."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.wire.variant.values import Array, ContainerType, Dictionary, EncodedObject, Value


def show(value: Value, chars_max: int) -> str:
    """What prints well: ``Dictionary({'a': Array([1, 2])})``; cut with an ellipsis at the bound."""
    out: list[str] = []
    size = 0
    stack: list[Iterator[Value]] = [_pieces(value)]
    while stack:
        for piece in stack[-1]:
            if isinstance(piece, _Text):
                out.append(piece)
                size += len(piece)
                # Looked at as it grows: a megabyte of array is not written out to show its first line.
                if size > chars_max:
                    return "".join(out)[:chars_max] + "…"
            else:
                stack.append(_pieces(piece))
                break
        else:
            stack.pop()
    return "".join(out)


class _Text(str):
    """A finished piece of output, as against a value still to be shown."""

    __slots__ = ()


def _pieces(value: Value) -> Iterator[Value]:
    if isinstance(value, Array | list | tuple):
        yield _Text("Array([")
        for index, item in enumerate(value):
            yield _Text(", " if index else "")
            yield item
        yield _Text("]" + _declared("element_type", getattr(value, "element_type", None)) + ")")
    elif isinstance(value, Dictionary | dict):
        yield from _dictionary_pieces(value if isinstance(value, Dictionary) else Dictionary(value))
    elif isinstance(value, EncodedObject):
        yield _Text(f"EncodedObject({value.class_name!r}, [")
        for index, (name, content) in enumerate(value.properties):
            yield _Text(f"{', ' if index else ''}({name!r}, ")
            yield content
            yield _Text(")")
        yield _Text("])")
    else:
        yield _Text(repr(value))


def _dictionary_pieces(value: Dictionary) -> Iterator[Value]:
    yield _Text("Dictionary([")
    for index, (key, content) in enumerate(value.pairs):
        yield _Text("(" if not index else ", (")
        yield key
        yield _Text(", ")
        yield content
        yield _Text(")")
    declared = _declared("key_type", value.key_type) + _declared("value_type", value.value_type)
    yield _Text("]" + declared + ")")


def _declared(name: str, declared: ContainerType | None) -> str:
    return "" if declared is None else f", {name}={declared!r}"
