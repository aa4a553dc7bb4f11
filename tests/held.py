"""What an object holds, looked at from outside: whatever the garbage collector can reach from it, under whatever names.

A bound on memory is a promise about what an object holds, not about the attribute that happens to hold it: these find it
wherever it is kept, in parts of the object too, and go on finding it when those are named or cut otherwise.
"""

from __future__ import annotations

import gc
import logging
from collections import deque
from collections.abc import Iterator
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, ModuleType

SHARED = (type, ModuleType, CodeType, FrameType, BuiltinFunctionType, logging.Logger)
"""What no object has for itself alone, and what leads from it to everything there is."""
SIZED = (bytes, bytearray, str, memoryview, tuple, list, dict, set, frozenset, deque)


def reached(root: object, *beside: object) -> Iterator[object]:
    """Everything that ``root`` holds, each once, itself first; without ``beside`` and what only they lead to."""
    seen = {id(root), *map(id, beside)}
    waiting = [root]
    while waiting:
        one = waiting.pop()
        yield one
        # A module's names are not a function's own; what it closed over is.
        inner = one.__closure__ or () if type(one) is FunctionType else gc.get_referents(one)
        if issubclass(type(one), dict):
            inner = [*inner, *dict.keys(one)]  # which the collector passes over where all are text
        for other in inner:
            # By its own type: what is gone behind a weak proxy raises where it is asked for its class.
            if id(other) not in seen and not issubclass(type(other), SHARED):
                seen.add(id(other))
                waiting.append(other)


def count(root: object, *beside: object, kind: type = object) -> int:
    """How many objects of a kind it holds."""
    return sum(issubclass(type(one), kind) for one in reached(root, *beside))


def longest(root: object, *beside: object, kind: type | tuple[type, ...] = SIZED) -> int:
    """The length of the longest collection, text or run of bytes that it holds, or of the longest of a kind."""
    return max((len(one) for one in reached(root, *beside) if issubclass(type(one), kind)), default=0)  # type: ignore[arg-type]
