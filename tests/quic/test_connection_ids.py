"""Connection IDs: which frames issue and give them back, what the bounds are, and what a peer may not say of them."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator

import pytest
from aioquic.buffer import encode_uint_var
from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from gateway import limits
from gateway.quic.connection.faults import PeerFault
from gateway.quic.connection.flight import Handler
from gateway.quic.connection.ids import ConnectionId, OurIds, PeerIds, random_cid, reset_token

FIRST, KEY = b"12345678", b"a key for tokens"
LONGEST_BYTES, ISSUE_BYTES, RETIRE_BYTES = 42, 28, 9
TOKEN = bytes(range(16))


def _ours(count_max: int = 8) -> OurIds:
    names = (b"cid-%04d" % n for n in range(1, 10_000))
    ids = OurIds(FIRST, KEY, names.__next__)
    ids.count_max = count_max
    ids.replenish()
    return ids


def _said(ids: OurIds, room: int = 1_000) -> tuple[bytes, list[Handler], list[bytes]]:
    handlers: list[Handler] = []
    issued: list[bytes] = []
    return ids.frames(room, handlers, issued.append), handlers, issued


def _issue(number: int, cid: bytes, token: bytes) -> bytes:
    """NEW_CONNECTION_ID as RFC 9000 section 19.15 has it."""
    return b"\x18" + encode_uint_var(number) + b"\x00" + bytes([len(cid)]) + cid + token


def _peers(*numbers: int) -> PeerIds:
    """A peer's, of which these spare ones came."""
    ids = PeerIds()
    ids.begin(b"zero", TOKEN)
    for number in numbers:
        ids.add(number, 0, b"cid%d" % number, bytes([number]) * 16, [])
    return ids


def _fault(doing: Callable[[], object]) -> PeerFault:
    with pytest.raises(PeerFault) as caught:
        doing()
    return caught.value


def _tell(handlers: list[Handler], acked: bool) -> None:
    for handler, args in handlers:
        handler(acked, *args)


# -- ours -----------------------------------------------------------------------------------


def test_a_token_is_the_first_half_of_a_keyed_hash_of_the_id() -> None:
    whole = hmac.digest(KEY, b"stateless reset" + FIRST, "sha256")
    assert reset_token(KEY, FIRST) == whole[:16]
    assert _ours().token_of(FIRST) == whole[:16]


def test_without_a_key_each_token_is_another_one_of_sixteen_bytes() -> None:
    ids = OurIds(FIRST, None)
    tokens = {ids.token_of(FIRST) for _ in range(3)}
    assert len(tokens) == 3
    assert {len(token) for token in tokens} == {16}
    assert len({random_cid() for _ in range(3)}) == 3
    assert len(random_cid()) == 8


@pytest.mark.parametrize(
    ("peer_keeps", "known"), [(0, 1), (1, 1), (2, 2), (3, 3), (4, 4), (5, 4), (1_000, 4)]
)
def test_as_many_are_known_as_the_peer_keeps_up_to_our_own_bound(peer_keeps: int, known: int) -> None:
    assert limits.QUIC_CONNECTION_IDS_MAX == 4
    ids = _ours(peer_keeps)
    assert [one.number for one in ids.known] == list(range(known))
    assert [ids.number_of(one.cid) for one in ids.known] == list(range(known))
    assert ids.number_of(b"unknown!") is None


def test_until_the_peer_says_how_many_it_keeps_it_keeps_two() -> None:
    ids = OurIds(FIRST, KEY)
    ids.replenish()
    assert len(ids.known) == 2
    assert ids.used == FIRST


def test_the_first_is_never_said_and_each_other_once_with_its_number_and_token() -> None:
    ids = _ours()
    assert ids.is_due
    frames, handlers, issued = _said(ids)
    new = [b"cid-%04d" % n for n in (1, 2, 3)]
    assert frames == b"".join(_issue(n, cid, reset_token(KEY, cid)) for n, cid in enumerate(new, 1))
    assert issued == new
    assert len(handlers) == 3
    assert not ids.is_due
    assert _said(ids) == (b"", [], [])


@pytest.mark.parametrize(
    ("room", "count"),
    [
        (0, 0),
        (LONGEST_BYTES - 1, 0),
        (LONGEST_BYTES, 1),
        (LONGEST_BYTES + ISSUE_BYTES - 1, 1),
        (LONGEST_BYTES + ISSUE_BYTES, 2),
        (200, 3),
    ],
)
def test_as_many_are_said_as_there_is_room_for_at_their_longest(room: int, count: int) -> None:
    ids = _ours()
    frames, handlers, issued = _said(ids, room)
    assert (len(handlers), len(issued), len(frames)) == (count, count, ISSUE_BYTES * count)
    assert ids.is_due == (count < 3)


def test_what_was_lost_is_said_again_and_what_arrived_is_not() -> None:
    ids = _ours()
    frames, handlers, _ = _said(ids)
    _tell(handlers[:1], True)
    assert not ids.is_due
    _tell(handlers[1:], False)
    assert ids.is_due
    again, _, issued = _said(ids)
    assert again == frames[ISSUE_BYTES:]
    assert issued == [b"cid-0002", b"cid-0003"]


def test_one_that_is_given_back_is_answered_and_makes_room_for_the_next_number() -> None:
    ids = _ours()
    assert ids.retire(1, FIRST) == b"cid-0001"
    assert ids.retire(1, FIRST) is None
    assert ids.number_of(b"cid-0001") is None
    ids.replenish()
    assert [one.number for one in ids.known] == [0, 2, 3, 4]
    assert ids.retire(0, b"cid-0002") == FIRST


@pytest.mark.parametrize("number", [4, 5, 1 << 40])
def test_what_was_never_issued_cannot_be_given_back(number: int) -> None:
    ids = _ours()
    fault = _fault(lambda: ids.retire(number, FIRST))
    assert (fault.code, fault.frame_type) == (
        QuicErrorCode.PROTOCOL_VIOLATION,
        QuicFrameType.RETIRE_CONNECTION_ID,
    )
    assert "unknown" in fault.reason


def test_the_one_that_the_packet_bears_cannot_be_given_back_in_it() -> None:
    ids = _ours()
    fault = _fault(lambda: ids.retire(2, b"cid-0002"))
    assert (fault.code, fault.frame_type) == (
        QuicErrorCode.PROTOCOL_VIOLATION,
        QuicFrameType.RETIRE_CONNECTION_ID,
    )
    assert "current" in fault.reason
    assert ids.number_of(b"cid-0002") == 2


# -- the peer's -----------------------------------------------------------------------------


def test_what_the_handshake_says_counts_until_another_is_in_use() -> None:
    ids = PeerIds()
    assert (ids.cid, ids.current.token) == (b"", b"")
    ids.begin(b"first", None)
    assert (ids.cid, ids.current.cid, ids.current.token) == (b"first", b"first", b"")
    ids.begin(b"then", TOKEN)
    ids.begin(b"then", None)
    assert (ids.cid, ids.current.cid, ids.current.token) == (b"then", b"then", TOKEN)
    ids.add(1, 0, b"one", bytes(16), [])
    assert ids.change()
    ids.begin(b"late", TOKEN)
    assert (ids.cid, ids.current.cid, ids.current.token) == (b"one", b"one", bytes(16))


@pytest.mark.parametrize(("size", "fits"), [(0, False), (1, True), (20, True), (21, False)])
def test_an_id_has_one_to_twenty_bytes(size: int, fits: bool) -> None:
    ids = _peers()
    if fits:
        assert ids.add(1, 0, bytes(size), TOKEN, []) == []
        assert [(one.cid, one.number, one.token) for one in ids.spare] == [(bytes(size), 1, TOKEN)]
        return
    fault = _fault(lambda: ids.add(1, 0, bytes(size), TOKEN, []))
    assert (fault.code, fault.frame_type) == (
        QuicErrorCode.FRAME_ENCODING_ERROR,
        QuicFrameType.NEW_CONNECTION_ID,
    )
    assert "Length" in fault.reason


def test_an_id_may_have_all_before_itself_given_back_and_itself_not() -> None:
    ids = _peers()
    fault = _fault(lambda: ids.add(3, 4, b"three", TOKEN, []))
    assert (fault.code, fault.frame_type) == (
        QuicErrorCode.FRAME_ENCODING_ERROR,
        QuicFrameType.NEW_CONNECTION_ID,
    )
    assert "Retire Prior To" in fault.reason
    ids.add(3, 3, b"three", TOKEN, [])
    assert (ids.cid, ids.current.number, ids.spare, ids.retiring) == (b"three", 3, [], [0])


def test_one_that_is_said_again_is_kept_once_and_one_that_was_given_back_not_at_all() -> None:
    ids = _peers(1, 2)
    ids.add(2, 0, b"cid2", TOKEN, [])
    ids.add(0, 0, b"zero", TOKEN, [])
    assert [one.number for one in ids.spare] == [1, 2]
    ids.add(3, 2, b"cid3", TOKEN, [])
    assert ([one.number for one in ids.spare], ids.current.number, ids.retiring) == ([3], 2, [0, 1])
    ids.add(1, 0, b"cid1", TOKEN, [])
    assert ([one.number for one in ids.spare], ids.retiring) == ([3], [0, 1])
    ids.add(2, 1, b"cid2", TOKEN, [])
    assert ([one.number for one in ids.spare], ids.retiring) == ([3], [0, 1])


def test_below_the_mark_the_current_the_spare_and_the_reserved_are_given_back_in_that_order() -> None:
    ids = _peers(1, 2, 3)
    reserved = [ids.spare.pop(0), ids.spare.pop(1)]
    assert ids.add(4, 3, b"cid4", TOKEN, reserved) == reserved[:1]
    assert ids.retiring == [0, 2, 1]
    assert (ids.current.number, ids.cid, ids.spare) == (4, b"cid4", [])
    ids.add(5, 0, b"cid5", TOKEN, reserved[1:])
    assert [one.number for one in ids.spare] == [5]


def test_where_the_current_one_has_to_go_the_oldest_spare_one_is_used() -> None:
    ids = _peers(1, 2)
    ids.add(3, 1, b"cid3", TOKEN, [])
    assert (ids.current.number, ids.cid, [one.number for one in ids.spare]) == (1, b"cid1", [2, 3])
    assert ids.retiring == [0]


@pytest.mark.parametrize("reserved", range(4))
def test_as_many_are_kept_as_we_announce_and_no_more(reserved: int) -> None:
    """Those in use, spare and reserved for other paths together."""
    ids = _peers(1, 2, 3)
    kept = [ids.spare.pop() for _ in range(reserved)]
    assert 1 + len(ids.spare) + len(kept) == limits.QUIC_CONNECTION_IDS_MAX
    fault = _fault(lambda: ids.add(4, 0, b"cid4", TOKEN, kept))
    assert (fault.code, fault.frame_type) == (
        QuicErrorCode.CONNECTION_ID_LIMIT_ERROR,
        QuicFrameType.NEW_CONNECTION_ID,
    )
    assert "active" in fault.reason


def test_reserved_ones_that_are_retired_count_no_more() -> None:
    ids = _peers(1, 2, 3)
    kept = [ids.spare.pop(0)]
    assert ids.add(4, 2, b"cid4", TOKEN, kept) == kept
    assert (ids.current.number, [one.number for one in ids.spare]) == (2, [3, 4])


def test_so_many_may_wait_to_be_given_back_and_no_more() -> None:
    ids = _peers()
    for number in range(1, limits.QUIC_IDS_RETIRING_MAX + 1):
        ids.add(number, number, b"cid%d" % number, TOKEN, [])
    assert len(ids.retiring) == limits.QUIC_IDS_RETIRING_MAX
    number = limits.QUIC_IDS_RETIRING_MAX + 1
    fault = _fault(lambda: ids.add(number, number, b"more", TOKEN, []))
    assert (fault.code, fault.frame_type) == (
        QuicErrorCode.CONNECTION_ID_LIMIT_ERROR,
        QuicFrameType.NEW_CONNECTION_ID,
    )
    assert "retired" in fault.reason


def _used_up(ids: PeerIds, last: int) -> Iterator[int]:
    """Go through the numbers up to ``last``, one at a time, none of them below a mark."""
    for number in range(1, last + 1):
        ids.add(number, 0, b"cid%d" % number, TOKEN, [])
        ids.change()
        ids.frames(1_000, [])
        yield number


def test_the_numbers_of_late_are_remembered_so_that_a_late_copy_is_none() -> None:
    ids = _peers()
    for number in _used_up(ids, limits.QUIC_SEQUENCE_NUMBERS_MAX + 10):
        for late in range(max(1, number - limits.QUIC_SEQUENCE_NUMBERS_MAX // 2 + 1), number + 1, 25):
            ids.add(late, 0, b"cid%d" % late, TOKEN, [])
        assert ids.spare == []


def test_what_is_remembered_stays_bounded_and_only_what_is_oldest_is_forgotten() -> None:
    """A number that is forgotten may be used anew: that is how it shows from outside."""
    ids, most = _peers(), limits.QUIC_SEQUENCE_NUMBERS_MAX
    for number in _used_up(ids, most - 1):
        assert number
    ids.add(1, 0, b"late", TOKEN, [])
    assert ids.spare == [], "of as many as are remembered none is forgotten"
    ids.add(most, 0, b"more", TOKEN, [])
    ids.change()
    half = most - most // 2
    ids.add(half + 1, 0, b"known", TOKEN, [])
    assert ids.spare == []
    ids.add(half, 0, b"forgotten", TOKEN, [])
    assert [one.cid for one in ids.spare] == [b"forgotten"]


def test_going_on_under_another_gives_the_one_of_now_back() -> None:
    ids = _peers(1, 2)
    assert ids.change()
    assert (ids.cid, ids.current.number, ids.retiring) == (b"cid1", 1, [0])
    one = ConnectionId(b"reserved", 7, TOKEN)
    ids.use(one)
    assert (ids.cid, ids.current, ids.retiring) == (b"reserved", one, [0, 1])
    ids.retire(ConnectionId(b"other", 9, TOKEN))
    assert ids.retiring == [0, 1, 9]
    assert ids.change()
    assert not ids.change()
    assert (ids.cid, ids.retiring) == (b"cid2", [0, 1, 9, 7])


def test_each_is_given_back_in_a_frame_and_again_where_that_is_lost() -> None:
    ids = _peers()
    ids.retiring += [3, 100, 20_000]
    handlers: list[Handler] = []
    assert ids.frames(1_000, handlers) == b"\x19\x03\x19\x40\x64\x19\x80\x00\x4e\x20"
    assert ids.retiring == []
    _tell(handlers[:1], True)
    assert ids.retiring == []
    _tell(handlers[1:], False)
    assert ids.retiring == [100, 20_000]


@pytest.mark.parametrize(
    ("room", "left"), [(8, 3), (RETIRE_BYTES, 2), (RETIRE_BYTES + 1, 2), (RETIRE_BYTES + 2, 1), (13, 0)]
)
def test_frames_stay_within_their_room_at_their_longest(room: int, left: int) -> None:
    ids = _peers()
    ids.retiring += [1, 2, 3]
    handlers: list[Handler] = []
    assert len(ids.frames(room, handlers)) == 2 * (3 - left) == 2 * len(handlers)
    assert len(ids.retiring) == left
