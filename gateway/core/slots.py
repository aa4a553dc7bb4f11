"""A small number for each key of a world, so that a set of keys is the bits of one integer. Room: core. Pure.

Readers that are behind are marked by whole sets: which of a frame's records a reader does not wait for
yet is one ``&`` of two integers, whatever the frame holds, and only those are looked at one by one. A set
takes an eighth of a byte a record.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from gateway.core.state import WorldState
from gateway.limits import SLOT_KEYS_CACHED_MAX, SLOT_SETS_CACHED_MAX, SLOTS_SPARE_MAX

_FEW: Final = 6
"""So many bits are found one by one; more of them byte by byte."""
_SOME: Final = 32
"""So many bits are set one by one; more of them as digits."""
_ONE: Final = ord("1")
_BUSY_BYTES: Final = re.compile(rb"[^\0]", re.DOTALL).finditer
_BITS_OF_BYTE: Final = [tuple([bit for bit in range(8) if byte >> bit & 1]) for byte in range(256)]


class Slots:
    """The slots of one state's keys. Whoever keeps sets remembers :attr:`generation` and :attr:`keys`
    with them: when the generation has moved on, they have to be made again from the old ``keys``."""

    __slots__ = ("_cache", "_numbers", "_state", "generation", "keys")

    def __init__(self, state: WorldState) -> None:
        self.keys: list[int] = []
        """The key of each slot. Another list in each generation."""
        self.generation = 0
        self._numbers: dict[int, int] = {}
        self._cache: dict[tuple[int, ...], int] = {}
        self._state = state

    def number(self, key: int) -> int:
        """The key's slot; it gets one if it has none."""
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.keys)
            self.keys.append(key)
        return number

    def bits(self, keys: tuple[int, ...]) -> int:
        """These keys as a set. The lists that come again and again are made once."""
        if len(keys) > SLOT_KEYS_CACHED_MAX:
            return bits_of([self.number(key) for key in keys])
        bits = self._cache.get(keys)
        if bits is None:
            bits = bits_of([self.number(key) for key in keys])
            if len(self._cache) >= SLOT_SETS_CACHED_MAX:
                self._cache.clear()
            # Publishers send the same keys frame after frame, as the same tuple: the set is made once.
            self._cache[keys] = bits
        return bits

    def tidy(self) -> None:
        """Start a new generation if most slots belong to keys that are long gone."""
        state = self._state
        if len(self.keys) > 2 * (len(state.records) + len(state.tombstones)) + SLOTS_SPARE_MAX:
            self.keys = []
            self._numbers.clear()
            self._cache.clear()
            self.generation += 1


def bits_of(numbers: Sequence[int]) -> int:
    """These slots as a set."""
    if len(numbers) > _SOME:
        # As text in base 2: setting bits one by one makes a new integer of hundreds of bytes for each of them.
        digits = bytearray(b"0") * (max(numbers) + 1)
        for number in numbers:
            digits[~number] = _ONE
        return int(digits, 2)
    bits = 0
    for number in numbers:
        bits |= 1 << number
    return bits


def numbers_of(bits: int) -> list[int]:
    """The slots in a set, in order."""
    if bits.bit_count() <= _FEW:
        found = []
        while bits:
            low = bits & -bits
            found.append(low.bit_length() - 1)
            bits ^= low
        return found
    data = bits.to_bytes((bits.bit_length() + 7) // 8, "little")
    found = []
    # Bytes that are not zero are found by the regular expression's engine, in C, and looked up as bits eight at a
    # time.
    for match in _BUSY_BYTES(data):
        at = match.start()
        first = at << 3
        found += [first + bit for bit in _BITS_OF_BYTE[data[at]]]
    return found
