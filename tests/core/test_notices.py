"""When a publisher hears how far the store is: right after a commit, not too often, and again where it did not arrive."""

from __future__ import annotations

import pytest

from gateway.core.notices import DurableNotices
from gateway.core.ports import Mark, Refusal, Sent
from gateway.limits import DURABLE_BUSY_PATIENCE_S, DURABLE_NOTICE_S, DURABLE_PATIENCE_S, NOTICE_COMMITS_MAX
from gateway.wire.journal import Gap
from tests.core.links import RecordingLink

NOW = 64.0
"""A power of two: sums with the waits below are told apart from those with one bit more."""
MARK = Mark(2, 7)
NOTICE, PATIENCE, BUSY = DURABLE_NOTICE_S, DURABLE_PATIENCE_S, DURABLE_BUSY_PATIENCE_S


class Answering(RecordingLink):
    """A link that answers every datagram so."""

    def __init__(self, answer: Sent, *, lossy: bool = True) -> None:
        super().__init__(lossy=lossy)
        self.answer = answer

    def send(self, message: bytes, token: int) -> Sent:
        super().send(message, token)
        return self.answer


def said(tick: int = 6, mono: float = NOW) -> DurableNotices:
    """Notices whose newest went at ``mono``."""
    notices = DurableNotices()
    notices.say(Mark(2, tick), RecordingLink(lossy=False), mono)
    return notices


def told(notices: DurableNotices, mono: float = NOW, **more: bool) -> dict[str, object]:
    link = RecordingLink(lossy=False)
    notices.say(MARK, link, mono, **more)
    return link.controls[0].fields


def test_a_publisher_that_was_told_nothing_is_due_at_once() -> None:
    assert DurableNotices().is_due(MARK, 2, 0.0, busy=False, fresh=False)
    assert DurableNotices().is_due(MARK, 2, 0.0, busy=True, fresh=True)


@pytest.mark.parametrize(("mark", "epoch"), [(None, 2), (MARK, 1), (MARK, 3), (Mark(2, 6), 2)])
def test_nothing_is_due_of_no_mark_of_another_epoch_and_of_what_was_said(
    mark: Mark | None, epoch: int
) -> None:
    notices = said(tick=6)
    assert notices.due(mark, epoch) is None
    assert not notices.is_due(mark, epoch, NOW + 100, busy=False, fresh=True)


def test_after_a_notice_the_next_waits_its_time_and_for_a_commit_a_little_longer() -> None:
    notices = said()
    at = NOW + NOTICE + PATIENCE
    assert notices.due(MARK, 2) == at
    for mono, is_due in ((at - 0.001, False), (at, True)):
        assert notices.is_due(MARK, 2, mono, busy=False, fresh=False) is is_due
    assert not notices.is_due(MARK, 2, at - PATIENCE - 0.001, busy=False, fresh=True)
    assert notices.is_due(MARK, 2, at - PATIENCE, busy=False, fresh=True)


def test_where_the_mark_is_about_to_move_more_patience_is_had_until_that_is_over_too() -> None:
    notices = said()
    assert not notices.is_due(MARK, 2, NOW + NOTICE + PATIENCE - 0.001, busy=True, fresh=False)
    assert notices.due(MARK, 2) == NOW + NOTICE + PATIENCE, "nobody was patient yet"
    assert not notices.is_due(MARK, 2, NOW + NOTICE + PATIENCE, busy=True, fresh=False)
    assert notices.due(MARK, 2) == NOW + NOTICE + BUSY
    assert notices.is_due(MARK, 2, NOW + NOTICE + BUSY, busy=True, fresh=False)
    notices.say(MARK, RecordingLink(lossy=False), NOW + 1)
    assert notices.due(Mark(2, 8), 2) == NOW + 1 + NOTICE + PATIENCE


def test_on_a_link_that_loses_nothing_it_is_a_control_message() -> None:
    link = RecordingLink(lossy=False)
    DurableNotices().say(MARK, link, NOW)
    assert ([one.fields for one in link.controls], link.sent) == ([{"epoch": 2, "tick": 7}], [])


@pytest.mark.parametrize(
    ("answer", "controls", "is_said"),
    [
        (True, 0, True),
        (Refusal.TOO_LARGE, 1, True),
        (Refusal.UNSUPPORTED, 1, True),
        (Refusal.BLOCKED, 0, False),
        (Refusal.CLOSED, 0, False),
    ],
)
def test_a_datagram_is_the_way_where_it_goes_and_else_a_stream_or_later(
    answer: Sent, controls: int, is_said: bool
) -> None:
    link, notices = Answering(answer), DurableNotices()
    notices.say(MARK, link, NOW)
    assert [token for token, _ in link.sent] == [0]
    assert len(link.controls) == controls
    assert (notices.due(MARK, 2) is None) == is_said


def test_what_was_lost_is_due_again_after_its_time() -> None:
    notices = said(tick=7)
    notices.again()
    assert notices.due(MARK, 2) == NOW + NOTICE + PATIENCE


def test_ticks_that_were_dropped_are_told_of_the_marks_epoch_alone() -> None:
    link = RecordingLink(lossy=False)
    gaps = [Gap(1, 1, 9, "dropped"), Gap(2, 3, 4, "dropped"), Gap(2, 6, 6, "dropped")]
    DurableNotices().say(MARK, link, NOW, gaps)
    assert link.controls[0].fields["dropped"] == [[3, 4], [6, 6]]


def test_each_commit_is_told_with_how_long_it_is_ago_in_milliseconds_and_once() -> None:
    notices = DurableNotices()
    for mark, ago_s in ((Mark(1, 90), 0.5), (Mark(2, 5), 0.25), (MARK, 0.125)):
        notices.moved(mark, NOW - ago_s)
    assert told(notices, each_commit=True)["commits"] == [[5, 250], [7, 125]]
    assert "commits" not in told(notices, each_commit=True)


@pytest.mark.parametrize(
    ("commits", "is_told"),
    [([(7, 0.0)], False), ([(7, 0.002)], True), ([(6, 0.0), (7, 0.0)], True), ([], False)],
)
def test_one_commit_that_is_just_now_needs_no_telling(
    commits: list[tuple[int, float]], is_told: bool
) -> None:
    notices = DurableNotices()
    for tick, ago_s in commits:
        notices.moved(Mark(2, tick), NOW - ago_s)
    assert ("commits" in told(notices, each_commit=True)) == is_told


def test_who_did_not_ask_hears_of_no_commit() -> None:
    notices = DurableNotices()
    notices.moved(MARK, NOW - 1)
    assert told(notices) == {"epoch": 2, "tick": 7}


def test_of_too_many_commits_the_oldest_are_told_as_later_ones() -> None:
    notices = DurableNotices()
    for tick in range(NOTICE_COMMITS_MAX + 2):
        notices.moved(Mark(2, tick), NOW)
    commits = told(notices, each_commit=True)["commits"]
    assert commits == [[tick, 0] for tick in range(2, NOTICE_COMMITS_MAX + 2)]
