"""What a recorded frame leans on, part by part: bodies taken apart, lists of keys, arithmetic on lanes, what a chain remembers."""

from __future__ import annotations

import random
import struct
from itertools import pairwise
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import Frame, Record, encode_frame, framechain, split
from gateway.wire.framechain import (
    BodyLayout,
    Chain,
    FrameHead,
    KeyLists,
    Lanes,
    RowValues,
    join,
    messages_of,
    put_together,
    take_apart,
)
from gateway.wire.framecodec import ALONE, COLUMNS, PLAIN, FrameDecoder, FrameEncoder, Unpacked

STRIDE = 8
SENT_AT = 1_700_000_000_000_000


def records(count: int, *, first: int = 1) -> list[Record]:
    return [Record(first + n, struct.pack("<II", first + n, 7 * n)) for n in range(count)]


def message(count: int = 3, *, tick: int = 5, first: int = 1, **more: Any) -> bytes:
    more = {"stride": STRIDE, "sent_at": SENT_AT, **more}
    return encode_frame(Frame(2, tick, records(count, first=first), **more))


def layout_of(*messages: bytes) -> BodyLayout | None:
    return take_apart(join(messages), KeyLists())


def laid_out(*messages: bytes) -> BodyLayout:
    layout = layout_of(*messages)
    assert layout is not None
    return layout


# --- bodies ---------------------------------------------------------------------------------


def test_a_body_is_taken_apart_and_put_together_again() -> None:
    parts = split(Frame(2, 5, records(40), stride=STRIDE, sent_at=SENT_AT), 100)
    layout = laid_out(*parts)
    assert len(parts) > 3
    assert put_together(layout.heads, layout.records.bytes) == join(parts)
    assert layout.keys.keys == tuple(range(1, 41))
    assert layout.columns() == (layout.keys.keys, [record.data for record in records(40)], None)


def test_what_is_not_whole_records_of_one_stride_is_not_taken_apart() -> None:
    whole = message()
    assert layout_of(whole) is not None
    assert layout_of() is None
    for place, byte in ((0, 2), (1, 2), (1, 16)):
        assert layout_of(whole[:place] + bytes([byte]) + whole[place + 1 :]) is None
    assert layout_of(whole[:23]) is None
    assert layout_of(whole + b"x") is None
    assert (
        layout_of(message(), encode_frame(Frame(2, 5, [Record(1, b"\1".ljust(12, b"\0"))], stride=12)))
        is None
    )
    assert layout_of(encode_frame(Frame(2, 5, [Record(1, b"abc")]))) is None


def test_a_stride_of_four_bytes_is_the_key_alone_and_a_message_may_be_without_records() -> None:
    keys = [Record(n, struct.pack("<I", n)) for n in (1, 2)]
    assert laid_out(encode_frame(Frame(2, 5, keys, stride=4))).keys.keys == (1, 2)
    empty = message(0)
    assert len(empty) == 24
    assert laid_out(empty, message()).keys.keys == (1, 2, 3)


def test_ticks_of_records_are_left_out_and_their_rows_are_not_plain() -> None:
    own = [Record(record.key, record.data, 4) for record in records(3)]
    layout = laid_out(encode_frame(Frame(2, 5, own, ticks=True, stride=STRIDE)))
    assert layout.records.bytes == b"".join(record.data or b"" for record in own)
    assert layout.keys.keys == (1, 2, 3)
    assert not layout.plain
    assert layout.one_frame() is None
    assert laid_out(message()).plain


def test_records_that_make_no_whole_lanes_are_not_plain() -> None:
    odd = [Record(1, struct.pack("<IB", 1, 9))]
    assert not laid_out(encode_frame(Frame(2, 5, odd, stride=5))).plain


def test_heads_that_do_not_share_out_the_records_are_an_error() -> None:
    layout = laid_out(message(0), message())
    layout.check()
    short = struct.pack("<I", 23) + layout.heads[4:28]
    more = struct.pack("<I", 24 + 3 * STRIDE + 1) + layout.heads[4:28]
    for heads in (b"", short + more, layout.heads[:28], layout.heads * 2):
        with pytest.raises(ValueError, match="do not share out 24 bytes"):
            layout._replace(heads=heads).check()


# --- one frame ------------------------------------------------------------------------------


def test_a_row_that_is_one_frame_says_which_whole_or_in_parts() -> None:
    head = FrameHead(2, 5, SENT_AT)
    parts = split(Frame(2, 5, records(40), stride=STRIDE, sent_at=SENT_AT), 100)
    for row in ([message()], parts, parts[:2]):
        assert laid_out(*row).one_frame() == head
        assert Unpacked(join(row), laid_out(*row)).one_frame() == head
    assert Unpacked(join([message()]), None).one_frame() is None


@pytest.mark.parametrize(
    "row",
    [
        [message(keyframe=True)],
        [message(repair=True)],
        [message(), message(first=1)],
        [message(), message(first=9, tick=6)],
        [message(), message(first=9, sent_at=SENT_AT + 1)],
        [message(), message(first=9, repair=True)],
    ],
    ids=["a keyframe", "a repair", "a key twice", "two ticks", "two times", "a frame and a repair"],
)
def test_a_row_that_is_anything_else_is_no_one_frame(row: list[bytes]) -> None:
    assert laid_out(*row).one_frame() is None


def test_a_part_beyond_the_parts_and_a_torn_record_make_no_frame() -> None:
    whole = message()
    for part, parts, is_one in ((0, 0, True), (0, 1, True), (1, 2, True), (1, 1, False), (2, 1, False)):
        changed = whole[:2] + struct.pack("<HH", part, parts) + whole[6:]
        assert (laid_out(changed).one_frame() is not None) is is_one, (part, parts)
    layout = laid_out(message(2), message(2, first=9))
    torn = struct.pack("<I", 24 + 12) + layout.heads[4:28] + struct.pack("<I", 24 + 20) + layout.heads[32:]
    assert layout.one_frame() is not None
    assert layout._replace(heads=torn).one_frame() is None


# --- lists of keys --------------------------------------------------------------------------


@given(st.lists(st.integers(0, 0xFFFF_FFFF), min_size=1, max_size=20), st.sampled_from([4, 5, 8, 100]))
def test_a_list_of_keys_is_one_object_however_it_comes(keys: list[int], stride: int) -> None:
    lists = KeyLists()
    data = b"".join(struct.pack("<I", key).ljust(stride, b"x") for key in keys)
    found = lists.of_records(data, stride)
    assert found.keys == tuple(keys)
    assert lists.of_records(data, stride) is found
    assert lists.of_steps(found.steps) is found
    steps = struct.unpack(f"<{len(keys)}I", found.steps)
    assert [sum(steps[: n + 1]) % 2**32 for n in range(len(keys))] == keys
    other = KeyLists()
    by_steps = other.of_steps(found.steps)
    assert by_steps.keys == tuple(keys)
    assert other.of_records(data, stride) is by_steps


def list_of(lists: KeyLists, *keys: int) -> framechain.KeyList:
    return lists.of_records(struct.pack(f"<{len(keys)}I", *keys), 4)


def test_so_many_lists_are_known_again_and_with_one_more_all_begin_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(framechain, "FRAME_CHAIN_RUNS_MAX", 2)
    lists = KeyLists()
    known = [list_of(lists, n) for n in range(8)]
    assert [list_of(lists, n) for n in range(8)] == known
    newest = list_of(lists, 8)
    assert list_of(lists, 8) is newest
    assert list_of(lists, 0) is not known[0]
    assert lists.of_steps(known[1].steps) is not known[1]


def test_so_many_keys_are_kept_in_lists_and_one_more_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framechain, "FRAME_CHAIN_LISTED_KEYS_MAX", 4)
    lists = KeyLists()
    first, second = list_of(lists, 1, 2), list_of(lists, 3, 4)
    assert (list_of(lists, 1, 2), list_of(lists, 3, 4)) == (first, second)
    third = list_of(lists, 5, 6, 7)
    assert list_of(lists, 5, 6, 7) is third
    assert list_of(lists, 1, 2) is not first, "and the new one was counted: two more are one too many"
    assert list_of(lists, 1, 2, 3, 4) is list_of(lists, 1, 2, 3, 4), "the bound itself is kept"
    large = list_of(lists, 1, 2, 3, 4, 5)
    assert large.keys == (1, 2, 3, 4, 5)
    assert list_of(lists, 1, 2, 3, 4, 5) is not large


# --- arithmetic -----------------------------------------------------------------------------

rows = st.integers(1, 9).flatmap(
    lambda lanes: st.tuples(*[st.lists(st.integers(0, 0xFFFF), min_size=lanes, max_size=lanes)] * 3)
)


def packed(lanes: list[int]) -> bytes:
    return struct.pack(f"<{len(lanes)}H", *lanes)


def number(lanes: list[int]) -> int:
    return int.from_bytes(packed(lanes), "little")


@given(rows)
def test_each_lane_is_added_and_taken_away_by_itself(given_rows: tuple[list[int], ...]) -> None:
    a, b, _ = given_rows
    lanes = Lanes(2 * len(a))
    assert lanes.plus(number(a), number(b)) == number([(x + y) % 65_536 for x, y in zip(a, b, strict=True)])
    assert lanes.minus(number(a), number(b)) == number([(x - y) % 65_536 for x, y in zip(a, b, strict=True)])


@given(rows)
def test_what_a_prediction_missed_is_small_both_ways_and_gives_the_records_back(
    given_rows: tuple[list[int], ...],
) -> None:
    new, last, before = given_rows
    lanes = Lanes(2 * len(new))
    records_, last_, before_ = RowValues(packed(new)), RowValues(packed(last)), RowValues(packed(before))
    residue = lanes.residue(records_, last_, before_)
    missed = [(n - 2 * b + c) % 65_536 for n, b, c in zip(new, last, before, strict=True)]
    signed = [m - 65_536 if m >= 32_768 else m for m in missed]
    assert residue == packed([2 * m if m >= 0 else -2 * m - 1 for m in signed])
    restored = lanes.restored(residue, RowValues(packed(last)), RowValues(packed(before)))
    assert restored.bytes == packed(new)
    assert restored.size_bytes == len(packed(new))
    speed = number([(n - b) % 65_536 for n, b in zip(new, last, strict=True)])
    assert restored.speed == records_.speed == speed, "the next prediction need not count it again"


# --- what a chain remembers -----------------------------------------------------------------


def follow(chain: Chain, *messages: bytes, alone: bool = False) -> None:
    body = join(messages)
    chain.follow(body, take_apart(body, chain.lists), alone=alone)


def test_a_chain_counts_the_keys_that_it_remembers_in_runs_and_by_themselves() -> None:
    chain = Chain()
    follow(chain, message(3), alone=True)
    assert chain.known_keys == 3
    follow(chain, message(2, first=10))
    assert chain.known_keys == 5
    follow(chain, message(1, first=3), message(1, first=3))
    assert chain.known_keys == 5, "a list with a key twice dissolves what it shares, and is kept by key"
    chain.restart()
    assert (chain.known_keys, chain.begun, chain.body) == (0, False, b"")


def test_another_stride_forgets_the_values() -> None:
    chain = Chain()
    follow(chain, message(3), alone=True)
    follow(chain, encode_frame(Frame(2, 6, [Record(1, struct.pack("<III", 1, 2, 3))], stride=12)))
    assert chain.known_keys == 1
    assert chain.guesses(chain.lists.of_steps(struct.pack("<I", 1)), STRIDE)[0].bytes == bytes(STRIDE)


def test_a_chain_is_heavy_from_one_key_or_one_byte_beyond_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain()
    follow(chain, message(4), alone=True)
    size = len(join([message(4)]))
    for bound, at in (("FRAME_CHAIN_KEYS_KEPT_MAX", 4), ("FRAME_CHAIN_BYTES_MAX", size)):
        monkeypatch.setattr(framechain, bound, at)
        assert chain.is_heavy is False, bound
        monkeypatch.setattr(framechain, bound, at - 1)
        assert chain.is_heavy is True, bound
        monkeypatch.setattr(framechain, bound, 1 << 20)
    apart = Chain()
    apart.follow(None, laid_out(message(4)), alone=False)
    for at, heavy in ((4 * STRIDE, False), (4 * STRIDE - 1, True)):
        monkeypatch.setattr(framechain, "FRAME_CHAIN_BYTES_MAX", at)
        assert apart.is_heavy is heavy
    assert apart.body == join([message(4)])


def test_more_runs_than_the_bound_are_kept_by_key_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framechain, "FRAME_CHAIN_RUNS_MAX", 2)
    chain, dice = Chain(), random.Random(1)
    values = {first: dice.randbytes(4) for first in (1, 2, 3)}
    for first, value in values.items():
        follow(
            chain, encode_frame(Frame(2, 5, [Record(first, struct.pack("<I", first) + value)], stride=STRIDE))
        )
    assert chain.known_keys == 3
    for first, value in values.items():
        last, before = chain.guesses(list_of(chain.lists, first), STRIDE)
        assert last.bytes == before.bytes == struct.pack("<I", first) + value


def test_a_body_ends_with_its_last_message_or_is_an_error() -> None:
    body = join([b"abc", b"", b"de"])
    assert messages_of(body) == [b"abc", b"", b"de"]
    assert messages_of(b"") == []
    for cut in (1, 3, 5, 8, len(body) - 1):
        with pytest.raises(Exception, match="ends inside a message"):
            messages_of(body[:cut])


# --- by the layout of a row (docs/SCHEMA.md), whatever the code that reads and writes it --------------------------------


def test_a_short_message_is_refused_wherever_in_the_row_it_is() -> None:
    for size in (16, 23):
        assert layout_of(message(), message()[:size]) is None
    assert layout_of(message(), message(0)) is not None


def test_heads_that_differ_in_type_or_stride_are_not_one_frames() -> None:
    layout = laid_out(message(2), message(2, first=9))
    assert layout.one_frame() is not None
    for place in (4, 5, 10, 11, 12, 16, 20, 27):
        heads = bytearray(layout.heads)
        heads[28 + place] ^= 1
        assert layout._replace(heads=bytes(heads)).one_frame() is None, place


def test_a_torn_record_makes_no_frame_whatever_the_stride() -> None:
    rows = [Record(n, struct.pack("<I", n).ljust(20, b"x")) for n in (1, 2)]
    layout = laid_out(encode_frame(Frame(2, 5, rows, stride=20)))
    assert layout.one_frame() is not None
    for length in (24 + 30, 24 + 39, 24 + 16):
        heads = struct.pack("<I", length) + layout.heads[4:]
        assert layout._replace(heads=heads).one_frame() is None


def test_after_lists_began_anew_as_many_keys_are_kept_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framechain, "FRAME_CHAIN_LISTED_KEYS_MAX", 4)
    lists = KeyLists()
    for first in (1, 3, 5):  # the third is one too many
        list_of(lists, first, first + 1)
    newest = list_of(lists, 7, 8)
    assert list_of(lists, 7, 8) is newest
    assert list_of(lists, 5, 6) is list_of(lists, 5, 6)
    assert list_of(lists, 7, 8) is newest


class Model:
    """A chain told key by key: the last two values of each, as the layout of a row says. No runs, no lanes, nothing joined."""

    def __init__(self) -> None:
        self.stride = 0
        self.last: dict[int, bytes] = {}
        self.before: dict[int, bytes] = {}

    def row(self, values: list[tuple[int, bytes]], stride: int) -> bytes:
        """The residue by columns that a row of these records has."""
        if stride != self.stride:
            self.last, self.before, self.stride = {}, {}, stride
        rows = [self._missed(key, value) for key, value in values]
        self.before.update({key: self.last[key] for key, _ in values if key in self.last})
        self.last.update(values)
        return b"".join(bytes(row[column] for row in rows) for column in range(stride))

    def _missed(self, key: int, value: bytes) -> bytes:
        last = self.last.get(key, bytes(self.stride))
        before = self.before.get(key, last)
        lanes = []
        lists = [struct.unpack(f"<{self.stride // 2}H", data) for data in (value, last, before)]
        for new, one, two in zip(*lists, strict=True):
            missed = (new - 2 * one + two) % 65_536
            lanes.append(2 * missed if missed < 32_768 else 2 * (65_536 - missed) - 1)
        return struct.pack(f"<{len(lanes)}H", *lanes)


LISTS = ([1, 2, 3], [1, 2, 3, 4], [7, 8], [3, 7], [9], [2**32 - 1, 5], [3, 2, 1], [1, 1, 2])


@pytest.mark.parametrize("seed", range(6))
def test_a_row_by_columns_holds_what_the_last_two_values_of_each_key_did_not_foretell(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framechain, "FRAME_CHAIN_RUNS_MAX", 2 + seed)
    dice, model, encoder, decoder = random.Random(seed), Model(), FrameEncoder(), FrameDecoder()
    stride, by_columns = 32, 0
    for tick in range(60):
        stride = dice.choice((32, 64)) if dice.random() < 0.05 else stride
        values = [
            (key, struct.pack("<IH", key, (dice.randrange(9) * key) % 65_536) + bytes(stride - 6))
            for key in dice.choice(LISTS)
        ]
        rows = [Record(*value) for value in values]
        cut = dice.randrange(len(rows))
        row = [encode_frame(Frame(2, tick, some, stride=stride)) for some in (rows[:cut], rows[cut:]) if some]
        codec, data = encoder.encode(row)
        residue = model.row(values, stride)
        assert decoder.decode(codec, data) == row
        if codec in (ALONE, PLAIN):
            model.last = {}
            model.row(values, stride)
            continue
        assert codec == COLUMNS
        by_columns += 1
        heads = b"".join(struct.pack("<I", len(one)) + one[:24] for one in row)
        steps = [(key - before) % 2**32 for (before, _), (key, _) in pairwise([(0, b""), *values])]
        assert zstandard.decompress(data) == b"".join(
            (
                struct.pack("<I", len(heads)),
                heads,
                struct.pack("<I", stride),
                struct.pack(f"<{len(steps)}I", *steps),
                residue,
            )
        )
    assert by_columns > 5
