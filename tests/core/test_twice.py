"""What one reader is told twice: the same bytes, a parity, or newest values; only after losses, and never beyond room or budget."""

from __future__ import annotations

import pytest

from gateway.core.budget import Budget
from gateway.core.bundle import Bundle
from gateway.core.counters import Counters
from gateway.core.outgoing import Outgoing
from gateway.core.outlet import Outlet
from gateway.core.ports import Refusal, RoundTrips
from gateway.core.state import WorldState
from gateway.core.twice import Twice
from gateway.core.window import Keys
from gateway.limits import BUDGET_BURST_S, READER_DATAGRAMS_MAX, REDUNDANCY_SPARE_PACKETS
from gateway.wire import Frame, Record, decode_frame, encode_frame
from gateway.wire.parity import TYPE_PARITY
from tests.core.links import RecordingLink

BEGAN = 100.0
SPARE = REDUNDANCY_SPARE_PACKETS * 1_200


class Tripping(RecordingLink):
    """A link that knows its round trips, and may be closed."""

    trips: RoundTrips | None = None
    refusal: Refusal | None = None

    def round_trips(self) -> RoundTrips | None:
        return self.trips

    def send_burst(self, burst: object, token: int) -> int | Refusal:
        return super().send_burst(burst, token) if self.refusal is None else self.refusal  # type: ignore[arg-type]


class Rig:
    """What a reader says twice, after so many messages were sent to it."""

    def __init__(self, sent: int = 100, *, kbps: int = 0) -> None:
        self.state, self.counters, self.link = WorldState(), Counters(), Tripping()
        self.losing: list[str] = []
        budget = Budget(kbps, BEGAN, 1_100) if kbps else None
        self.outlet = Outlet(self.state, self.link, budget, lambda keys: None)
        self.twice = Twice(
            self.state, self.outlet, self.counters, BEGAN, lambda: self.losing.append("losing"), self._said
        )
        self.sends(sent)
        self.tick = 0

    def _said(self, keys: Keys, mono: float) -> None:
        raise AssertionError("it is the reader that says so")

    def sends(self, count: int) -> None:
        self.outlet.remember_all(((9,),) * count)

    def loses(self, count: int = 1) -> None:
        for token in range(0, 2 * count, 2):
            self.twice.lost(token)

    def frame(self, parts: int = 1, size: int = 100) -> Bundle:
        self.tick += 1
        outs = []
        for part in range(parts):
            frame = Frame(1, self.tick, [Record(part, bytes(size))], part=part, parts=parts)
            outs.append(Outgoing(frame, encode_frame(frame), self.state.apply(frame).changed))
        return Bundle(outs)

    def said(self) -> list[bytes]:
        """The messages that went since the last call."""
        sent, self.link.sent = self.link.sent, []
        return [message for _, message in sent]

    @property
    def counts(self) -> tuple[int, int, int, int]:
        some = self.counters
        return some.repeated, some.parity, some.redundant_bytes, some.redundancy_withheld


def plain(bundle: Bundle) -> list[bytes]:
    return [out.message for out in bundle.outs]


def sizes(bundle: Bundle) -> int:
    return sum(map(len, plain(bundle)))


def test_who_loses_nothing_is_told_nothing_twice_and_need_not_be_asked() -> None:
    rig = Rig()
    rig.twice.set(None, True)
    assert rig.twice.say(rig.frame(2), 101.0) is False
    assert rig.twice.say_parity(rig.frame(2), 101.0) is False
    assert rig.twice.say_values((1,), 101.0) is False
    assert (rig.said(), rig.counts, rig.losing) == ([], (0, 0, 0, 0), [])


def test_after_a_loss_what_is_offered_goes_again_under_the_next_tokens() -> None:
    rig = Rig()
    rig.loses(2)
    assert rig.losing == ["losing"]
    bundle = rig.frame(3)
    assert rig.twice.say(bundle, 101.0) is True
    assert rig.link.sent == [(100 + at, message) for at, message in enumerate(plain(bundle))]
    assert rig.counts == (3, 0, sizes(bundle), 0)
    assert (rig.outlet.messages, rig.outlet.window.lost(101)) == (103, (1,))


def test_where_there_is_nothing_to_say_the_reader_is_still_asked() -> None:
    rig = Rig()
    rig.loses()
    assert rig.twice.say(None, 101.0) is True
    assert rig.twice.say_values((), 101.0) is True
    assert (rig.said(), rig.counts) == ([], (0, 0, 0, 0))


def test_one_that_rebuilds_is_told_the_parity_at_once_where_that_mends() -> None:
    rig = Rig()
    bundle = rig.frame(2)
    rig.loses()
    assert rig.twice.say_parity(bundle, 101.0) is False
    rig.twice.set(None, True)
    assert rig.twice.say_parity(bundle, 101.0) is True
    (parity,) = rig.said()
    assert parity[0] == TYPE_PARITY
    assert rig.counts == (0, 1, len(parity), 0)
    rig.twice.set(None, None)
    assert rig.twice.say(bundle, 101.0) is True
    assert rig.said() == [parity]
    assert rig.twice.say_parity(rig.frame(1), 101.0) is False
    assert rig.twice.say_parity(rig.frame(READER_DATAGRAMS_MAX + 1), 101.0) is False
    alone = rig.frame(1)
    assert rig.twice.say(alone, 101.0) is True
    assert rig.said() == plain(alone)
    rig.twice.set(None, False)
    rig.twice.say(bundle, 101.0)
    assert rig.said() == plain(bundle)


def test_where_too_much_is_lost_for_a_parity_everything_goes_again_or_the_parity_where_that_alone_has_room() -> (
    None
):
    rig = Rig(sent=10)
    rig.twice.set(None, True)
    rig.loses()
    rig.twice.say(None, 101.0)
    bundle = rig.frame(4)
    assert rig.twice.say_parity(bundle, 101.0) is False
    rig.twice.say(bundle, 101.0)
    assert rig.said() == plain(bundle)
    rig.link.room = 2 * sizes(bundle) + SPARE - 1
    rig.twice.say(bundle, 101.0)
    assert [message[0] for message in rig.said()] == [TYPE_PARITY]
    rig.link.room = sizes(bundle) + SPARE
    before = rig.counts
    rig.twice.say(bundle, 101.0)
    assert rig.said() == []
    assert rig.counts == (*before[:3], 1)


@pytest.mark.parametrize(("room", "went"), [(0, 1), (-1, 0)])
def test_there_is_room_to_the_byte_for_what_goes_again_and_for_the_next_frame(room: int, went: int) -> None:
    rig = Rig()
    rig.loses()
    bundle = rig.frame()
    rig.link.room = 2 * sizes(bundle) + SPARE + room
    rig.twice.say(bundle, 101.0)
    assert (len(rig.said()), rig.counters.redundancy_withheld) == (went, 1 - went)


def test_what_goes_again_is_within_the_budget_and_taken_from_it() -> None:
    rig = Rig(kbps=8)
    budget = rig.outlet.budget
    assert budget is not None
    rig.loses()
    bundle = rig.frame(1, 60)
    full = 1_000 * BUDGET_BURST_S
    assert sizes(bundle) * 2 < full < sizes(bundle) * 3
    rig.twice.say(bundle, BEGAN)
    assert (rig.said(), budget.level) == (plain(bundle), full - sizes(bundle))
    rig.twice.say(bundle, BEGAN)
    assert (rig.said(), budget.level) == ([], full - sizes(bundle))
    rig.twice.say(bundle, BEGAN + 1.0)
    assert rig.said() == plain(bundle)


def test_newest_values_go_again_as_one_repair_that_fits_a_datagram() -> None:
    rig = Rig()
    rig.frame(3)
    rig.loses()
    assert rig.twice.say_values((0, 2), 101.0) is True
    (message,) = rig.said()
    assert (decode_frame(message).keys, decode_frame(message).repair) == ((0, 2), True)
    assert rig.counts == (1, 0, len(message), 0)
    assert rig.outlet.window.lost(100) == (0, 2)
    for bytes_max, went in ((len(message), 1), (len(message) - 1, 0)):
        rig.link.bytes_max = bytes_max
        assert rig.twice.say_values((0, 2), 101.0) is True
        assert len(rig.said()) == went


def test_who_wants_nothing_twice_is_told_nothing_until_it_does_and_loses_again() -> None:
    rig = Rig()
    rig.loses()
    rig.twice.set(False, None)
    rig.loses()
    assert rig.twice.say(rig.frame(), 101.0) is False
    rig.twice.set(None, True)
    rig.loses()
    assert (rig.twice.say(rig.frame(), 101.0), rig.losing) == (False, ["losing"])
    rig.twice.set(True, None)
    assert rig.twice.say(rig.frame(), 101.0) is False
    rig.loses()
    rig.twice.set(True, None)
    assert (rig.twice.say(rig.frame(), 101.0), rig.losing) == (True, ["losing", "losing"])
    assert len(rig.said()) == 1


def test_what_was_only_guessed_to_be_lost_is_taken_back_once() -> None:
    rig = Rig()
    rig.link.trips = RoundTrips(0.05, 0.05, given_up=1)
    rig.loses()
    rig.twice.say(rig.frame(), 101.0)
    assert rig.said() == []
    rig.loses()
    rig.twice.say(rig.frame(), 101.0)
    assert len(rig.said()) == 1
    other = Rig()
    other.link.trips = RoundTrips(0.05, 0.05, given_up=3)
    other.loses(3)
    other.twice.say(other.frame(), 101.0)
    other.link.trips = RoundTrips(0.05, 0.05, given_up=4)
    other.loses(2)
    other.twice.say(other.frame(), 101.0)
    assert len(other.said()) == 1


def test_one_loss_of_a_thousand_messages_asks_for_nothing() -> None:
    rig = Rig(sent=1_000)
    rig.loses()
    assert rig.twice.say(rig.frame(), 101.0) is True
    assert (rig.said(), rig.counts) == ([], (0, 0, 0, 0))


def test_on_a_full_path_what_would_have_gone_is_counted_as_withheld() -> None:
    rig = Rig()
    rig.loses(30)
    for bundle, withheld in ((None, 0), (rig.frame(), 1), (None, 1)):
        assert rig.twice.say(bundle, 101.0) is True
        assert (rig.said(), rig.counts) == ([], (0, 0, 0, withheld))


def test_long_after_its_last_loss_a_reader_is_forgotten_until_it_loses_again() -> None:
    rig = Rig()
    rig.loses()
    assert rig.twice.say(rig.frame(), 101.0) is True
    assert rig.twice.say(rig.frame(), 130.0) is False
    assert rig.losing == ["losing"]
    rig.loses()
    assert rig.losing == ["losing", "losing"]


@pytest.mark.parametrize(
    ("parts", "size", "bound", "went"),
    [(8, 100, 8, 8), (9, 100, 8, 0), (1, 3_000, 8, 0), (1, 1_200 - 24 - 8, 8, 1)],
)
def test_what_went_by_a_stream_is_not_said_again(parts: int, size: int, bound: int, went: int) -> None:
    rig = Rig()
    rig.twice.datagrams_max = bound
    rig.loses()
    bundle = rig.frame(parts, size)
    rig.twice.say(bundle, 101.0)
    assert rig.said() == plain(bundle)[:went]


def test_a_message_that_went_in_pieces_goes_again_in_pieces() -> None:
    rig = Rig()
    rig.loses()
    frame = Frame(1, 1, [Record(key, bytes(500)) for key in range(5)])
    rig.twice.say(Bundle([Outgoing(frame, encode_frame(frame), rig.state.apply(frame).changed)]), 101.0)
    said = [decode_frame(message).keys for message in rig.said()]
    assert said == [(0, 1), (2, 3), (4,)]


def test_what_the_link_refuses_is_not_counted() -> None:
    rig = Rig()
    rig.loses()
    rig.link.refusal = Refusal.CLOSED
    assert rig.twice.say(rig.frame(), 101.0) is True
    assert (rig.said(), rig.counts, rig.outlet.messages) == ([], (0, 0, 0, 0), 100)
