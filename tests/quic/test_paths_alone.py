"""Addresses of the peer: which is used, how they are proved, how many are kept and what may go to one that is not proved."""

from __future__ import annotations

import pytest

from gateway import limits
from gateway.quic.connection.ids import ConnectionId
from gateway.quic.connection.paths import Path, Paths

HOME = ("10.0.0.1", 1)


def _at(port: int) -> tuple[str, int]:
    return ("10.0.0.2", port)


def _paths(*ports: int, proved: tuple[int, ...] = ()) -> Paths:
    paths = Paths(Path(HOME, is_proved=True))
    for port in ports:
        path = paths.find(_at(port))
        path.is_proved = port in proved
        assert paths.keep(path) is None
    return paths


def test_three_times_what_came_may_go_to_an_address_that_is_not_proved() -> None:
    path = Path(HOME)
    assert path.allowed_bytes() == 0
    path.came_bytes = 100
    assert path.allowed_bytes() == 300
    path.sent_bytes = 120
    assert path.allowed_bytes() == 180
    path.is_proved = True
    assert path.allowed_bytes() is None
    assert Path(HOME, is_proved=True).allowed_bytes() is None


def test_the_answer_to_any_of_the_challenges_of_late_proves_a_path_once() -> None:
    path, most = Path(HOME), limits.QUIC_CHALLENGES_SENT_MAX
    assert not path.challenge_sent
    sent = [path.challenge() for _ in range(most + 1)]
    assert path.challenge_sent
    assert {(len(frame), frame[:1]) for frame in sent} == {(9, b"\x1a")}
    assert len(set(sent)) == most + 1
    assert not path.answers(b"8 bytes.")
    assert not path.answers(sent[0][1:]), "that is one too many ago"
    assert not path.is_proved
    assert path.answers(sent[1][1:])
    assert path.is_proved
    assert not path.answers(sent[2][1:])


@pytest.mark.parametrize(("room", "count"), [(0, 0), (8, 0), (9, 1), (17, 1), (18, 2), (27, 3), (1_000, 3)])
def test_challenges_are_answered_in_order_as_there_is_room(room: int, count: int) -> None:
    path = Path(HOME)
    data = [b"data-%03d" % n for n in range(3)]
    for one in data:
        path.take_challenge(one)
    assert path.responses(room) == b"".join(b"\x1b" + one for one in data[:count])
    assert path.challenges_due == tuple(data[count:])


def test_so_many_challenges_wait_for_an_answer_and_no_more() -> None:
    path, most = Path(HOME), limits.QUIC_CHALLENGES_WAITING_MAX
    for n in range(most + 1):
        path.take_challenge(b"data-%03d" % n)
    assert path.challenges_due == tuple(b"data-%03d" % n for n in range(most))


def test_an_address_is_found_where_it_is_kept_and_is_new_where_not() -> None:
    paths = _paths(1, 2)
    assert paths.find(HOME) is paths.active
    assert paths.find(_at(2)) is paths.others[1]
    new = paths.find(_at(3))
    assert (new.address, new.is_proved) == (_at(3), False)
    assert paths.find(_at(3)) is not new
    assert len(paths) == 3
    assert [path.address for path in paths] == [HOME, _at(1), _at(2)]


def test_what_is_kept_is_not_kept_twice() -> None:
    paths = _paths(1)
    assert paths.keep(paths.active) is None
    assert paths.keep(paths.others[0]) is None
    assert len(paths) == 2


@pytest.mark.parametrize(
    ("proved", "gone"),
    [((), 0), ((0,), 1), ((0, 1, 2), 3), (tuple(range(limits.QUIC_PATHS_MAX)), 0)],
)
def test_the_oldest_that_is_not_proved_or_else_the_oldest_makes_room(
    proved: tuple[int, ...], gone: int
) -> None:
    paths = _paths(*range(limits.QUIC_PATHS_MAX - 1), proved=proved)
    oldest = paths.others[gone]
    new = Path(_at(99))
    assert paths.keep(new) is oldest
    assert oldest not in paths.others
    assert paths.others[-1] is new
    assert len(paths) == limits.QUIC_PATHS_MAX


def test_the_path_that_is_used_gives_way_to_another_and_is_the_first_to_come_back_to() -> None:
    paths = _paths(1, 2)
    one, two = paths.others
    one.challenge_sent, one.give_up_at = True, 5.0
    paths.promote(one)
    assert (paths.active, paths.address) == (one, _at(1))
    assert [path.address for path in paths.others] == [HOME, _at(2)]
    assert (one.challenge_sent, one.give_up_at) == (False, None), "it is to be proved anew"
    two.is_proved, two.challenge_sent, two.give_up_at = True, True, 6.0
    paths.promote(two)
    assert [path.address for path in paths] == [_at(2), _at(1), HOME]
    assert (two.challenge_sent, two.give_up_at) == (True, 6.0)


def test_a_path_that_cannot_be_proved_is_left_for_the_last_one_that_was() -> None:
    paths = _paths(1, 2, 3, proved=(3,))
    paths.promote(paths.others[1])
    assert [path.address for path in paths.others] == [HOME, _at(1), _at(3)]
    assert paths.give_up_active()
    assert (paths.active.address, paths.address) == (HOME, HOME)
    assert [path.address for path in paths.others] == [_at(1), _at(3)]
    paths.others[1].is_proved = False
    assert not paths.give_up_active()
    assert (paths.address, len(paths)) == (HOME, 3)


def test_an_answer_proves_the_path_that_its_challenge_went_to() -> None:
    paths = _paths(1, 2)
    frames = [path.challenge() for path in paths]
    paths.prove(b"unknown!")
    assert [path.is_proved for path in paths] == [True, False, False]
    paths.prove(frames[2][1:])
    assert [path.is_proved for path in paths] == [True, False, True]
    paths.active.is_proved = False
    paths.prove(frames[0][1:])
    assert [path.is_proved for path in paths] == [True, False, True]


def test_the_ids_of_other_paths_are_reserved() -> None:
    paths = _paths(1, 2, 3)
    ids = [ConnectionId(b"id%d" % n, n, b"") for n in range(3)]
    paths.others[0].cid, paths.others[2].cid, paths.active.cid = ids
    assert paths.reserved() == ids[:2]


def test_the_first_path_is_wherever_it_turns_out_to_be() -> None:
    paths = _paths(1)
    paths.begin_at(_at(7))
    assert (paths.address, paths.active.address) == (_at(7), _at(7))
    assert paths.find(_at(7)) is paths.active
