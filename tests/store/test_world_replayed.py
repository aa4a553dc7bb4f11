"""Rows put into a state at once, against the same messages put in one by one."""

from __future__ import annotations

import random
import struct

import pytest

from gateway.core.state import WorldState
from gateway.limits import REPLAYED_FRAMES_WAITING_MAX
from gateway.store.world.state import Replayed
from gateway.wire import Frame, Record, decode_frame, split
from gateway.wire.framecodec import FrameDecoder, FrameEncoder

STRIDE = 12


def _record(dice: random.Random, key: int) -> Record:
    return Record(key, struct.pack("<IQ", key, dice.getrandbits(64)))


class Play:
    """Rows of a world in which a few groups of keys move, and now and then anything else happens."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.groups = [sorted(self.dice.sample(range(20), self.dice.randint(1, 12))) for _ in range(4)]
        self.live = WorldState()
        self.tick = 0
        self.late: list[bytes] = []

    def row(self) -> tuple[list[bytes], bool]:
        """A row's messages, and whether it stands alone."""
        dice = self.dice
        self.tick += dice.randint(0, 2)
        chance = dice.random()
        if chance < 0.05:
            return self.live.keyframe_messages(60), True
        if chance < 0.1:
            return split(Frame(1, self.tick, [Record(dice.randrange(20), None)]), 60), False
        if chance < 0.15 and self.late:
            return [self.late.pop()], False
        if chance < 0.2:
            records = [_record(dice, key) for key in dice.choices(range(20), k=5)]
            return split(Frame(1, self.tick, records, stride=STRIDE), 60), False
        records = [_record(dice, key) for key in dice.choice(self.groups)]
        whole = chance > 0.95
        frame = Frame(1, self.tick, records, stride=STRIDE, keyframe=whole, sent_at=self.tick)
        messages = split(frame, dice.choice([60, 2000]))
        if chance < 0.3:
            self.late.append(messages.pop())
        return messages, False


def _apply(state: WorldState, messages: list[bytes]) -> None:
    for message in messages:
        state.apply(decode_frame(message))


@pytest.mark.parametrize("seed", range(40))
def test_rows_leave_the_same_state_at_once_as_message_by_message(seed: int) -> None:
    play, plain = Play(seed), WorldState()
    encoder, decoder = FrameEncoder(), FrameDecoder()
    replayed = Replayed(WorldState())
    for number in range(120):
        messages, alone = play.row()
        _apply(play.live, messages)
        _apply(plain, messages)
        unpacked = decoder.unpack(*encoder.encode(messages, fresh=alone))
        assert unpacked.messages() == messages
        replayed.apply(unpacked)
        if number % 7 == 0:
            state = replayed.settle()
            assert (state.epoch, state.tick) == (plain.epoch, plain.tick)
            assert state.records == plain.records
            assert isinstance(state, WorldState)
            assert (state.tombstones, state.floor) == (plain.tombstones, plain.floor)
            assert (state.stride, state.sent_at) == (plain.stride, plain.sent_at)


def test_frames_of_ever_other_keys_do_not_pile_up() -> None:
    encoder, decoder, state = FrameEncoder(), FrameDecoder(), WorldState()
    replayed = Replayed(state)
    for tick in range(1, REPLAYED_FRAMES_WAITING_MAX + 1):
        key = struct.pack("<IQ", tick, tick)
        messages = split(Frame(1, tick, [Record(tick, key)], stride=STRIDE), 2000)
        assert not state.records
        replayed.apply(decoder.unpack(*encoder.encode(messages)))
    assert len(state.records) == REPLAYED_FRAMES_WAITING_MAX
