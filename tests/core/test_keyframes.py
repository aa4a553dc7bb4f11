"""The keyframe that those who join together share: for how long, and that it tells nobody anything old."""

from __future__ import annotations

import sys

import pytest

from gateway.core.counters import Counters
from gateway.core.keyframes import KeyframeCache
from gateway.core.outgoing import Outgoing
from gateway.core.state import WorldState
from gateway.limits import KEYFRAME_SHARE_S
from gateway.wire import Frame, Record, decode_frame, encode_frame


class Rig:
    def __init__(self) -> None:
        self.state = WorldState()
        self.counters = Counters()
        self.cache = KeyframeCache(self.state, self.counters)

    def publish(self, tick: int, key: int, mono: float, *, epoch: int = 1) -> None:
        message = encode_frame(Frame(epoch, tick, [Record(key, b"%d" % tick)]))
        frame = decode_frame(message)
        self.cache.note(Outgoing(frame, message, self.state.apply(frame).changed), mono)

    def of(self, mono: float, **how: bool) -> tuple[int, list[int]]:
        """The tick of the shared keyframe, and the keys that changed since."""
        keyframe = self.cache.get(mono, **how)
        return decode_frame(keyframe.messages[0]).tick, list(keyframe.changed)


def test_one_keyframe_serves_all_who_come_within_its_time_and_tells_what_changed_since() -> None:
    rig = Rig()
    rig.publish(1, 7, 0.0)
    assert rig.of(0.0) == (1, [])
    rig.publish(2, 8, 0.1)
    assert rig.of(KEYFRAME_SHARE_S) == (1, [8])
    assert rig.counters.keyframes_encoded == 1
    assert rig.of(KEYFRAME_SHARE_S + 0.01) == (2, [])
    assert rig.counters.keyframes_encoded == 2


def test_a_keyframe_of_the_epoch_before_is_shared_with_nobody() -> None:
    rig = Rig()
    rig.publish(900, 7, 0.0)
    assert rig.of(0.0) == (900, [])
    rig.publish(1, 7, 0.01, epoch=2)
    assert decode_frame(rig.cache.get(0.02).messages[0]).epoch == 2
    assert rig.of(0.02) == (1, [])


@pytest.mark.parametrize("moved", ["state", "tick"])
def test_a_fresh_one_is_made_anew_as_soon_as_anything_came(moved: str) -> None:
    rig = Rig()
    rig.publish(1, 7, 0.0)
    first = rig.cache.fresh(0.0)
    assert rig.cache.fresh(0.0) is first
    if moved == "state":
        rig.publish(1, 8, 0.0)
    else:
        rig.state.order += 1
    assert rig.cache.fresh(0.0) is not first


def test_what_changes_after_its_time_is_not_noted_with_it() -> None:
    rig = Rig()
    rig.publish(1, 7, 0.0)
    kept = rig.cache.get(0.0)
    rig.publish(2, 8, KEYFRAME_SHARE_S + 0.01)
    assert not kept.changed


def test_the_compressed_one_and_the_plain_one_are_two() -> None:
    rig = Rig()
    rig.publish(1, 7, 0.0)
    plain, packed = rig.cache.get(0.0), rig.cache.get(0.0, zstd=True)
    assert plain is not packed
    rig.publish(2, 8, 0.0)
    assert list(plain.changed) == list(packed.changed) == [8]
    rig.cache.forget()
    assert rig.cache.get(0.0) is not plain


@pytest.mark.parametrize("late_s", [0.0, 0.01])
def test_what_nobody_may_share_any_more_is_not_held_until_somebody_asks(late_s: float) -> None:
    rig = Rig()
    rig.publish(1, 7, 0.0)
    keyframe = rig.cache.get(0.0)
    held = sys.getrefcount(keyframe)
    rig.publish(2, 8, KEYFRAME_SHARE_S + late_s)
    assert sys.getrefcount(keyframe) == (held - 1 if late_s else held)


@pytest.mark.parametrize(
    ("late_s", "is_shared"), [(KEYFRAME_SHARE_S, True), (KEYFRAME_SHARE_S + 0.01, False)]
)
def test_what_a_keyframe_is_of_and_until_when_it_is_shared(late_s: float, is_shared: bool) -> None:
    rig = Rig()
    rig.publish(3, 7, 8.0, epoch=6)
    made = rig.cache.get(8.0)
    assert (made.order, made.size_bytes, made.made_at) == (6 << 32 | 3, len(made.messages[0]), 8.0)
    rig.publish(4, 9, 8.125, epoch=6)
    assert list(made.changed) == [9]
    assert (rig.cache.get(8.0 + late_s) is made) is is_shared


def test_the_keys_of_a_keyframe_are_those_that_live_and_those_that_are_gone() -> None:
    rig = Rig()
    rig.publish(1, 7, 0.0)
    rig.publish(1, 8, 0.0)
    rig.state.apply(Frame(1, 2, [Record(7, None)]))
    assert rig.cache.get(0.0).keys == (8, 7)
