"""Beside a download that never gives way to the queue it makes a game keeps what it had; among flows that do, nobody does less than before."""

from __future__ import annotations

import pytest

from gateway.quic.connection.congestion import RealtimeCongestion
from gateway.quic.connection.rivals import CLAIM_S, EASED_LEAST, VAIN_S, VAIN_SHARE, Rivals
from tests.quic.shared_path import PACKET, Bottleneck, Flow, measured

MBIT = 125_000.0
DEEP = 1_000_000
"""A queue of the kind that routers at home have: 0.4 s of 20 Mbit/s."""


def _beside(game: int, controllers: list[str], rtt_s: float) -> tuple[Flow, list[Flow]]:
    """A game that plays for three seconds, then downloads begin: what came in the twenty after."""
    path = Bottleneck(20 * MBIT, DEEP, rtt_s)
    flow = Flow(path, "realtime", game)
    downloads = [Flow(path, name, begins=3.0 + 0.001 * n) for n, name in enumerate(controllers)]
    measured(path, [flow, *downloads], warm_s=3.0, seconds=20.0)
    return flow, downloads


@pytest.mark.parametrize("controllers", [["cubic", "cubic"], ["reno", "reno"]])
@pytest.mark.parametrize("rtt_s", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("packets", [4, 16])
def test_a_game_keeps_most_of_what_it_had_beside_downloads(
    packets: int, rtt_s: float, controllers: list[str]
) -> None:
    game, downloads = _beside(packets, controllers, rtt_s)
    assert game.share > 0.5, (
        "without knowing others' queues a tenth to a quarter beside cubic, a third to two thirds beside reno"
    )
    left = 20 * MBIT - game.packets * PACKET * 60
    got = sum(flow.arrived for flow in downloads) * PACKET / 20
    assert got > 0.9 * left, "the downloads have the rest"


def test_after_the_download_the_queue_is_gone_and_the_game_is_whole() -> None:
    path = Bottleneck(20 * MBIT, DEEP, 0.05)
    game, download = Flow(path, "realtime", 4), Flow(path, "cubic", begins=3.0)
    measured(path, [game, download], warm_s=3.0, seconds=10.0)
    download.packets = 1  # it has nothing more to send, and never a tick
    path.run_until(16.0)
    game.measure()
    path.run_until(20.0)
    assert game.share > 0.98
    assert game.mean_wait_s < 0.01


@pytest.mark.parametrize(
    ("mbit", "games", "packets", "gap_s", "wait_s"),
    [(20, 12, 4, 1.0, 0.15), (4, 8, 2, 2.1, 0.45), (10, 20, 2, 0.5, 0.3)],
)
def test_games_that_ask_for_more_than_there_is_do_not_fill_the_queue(
    mbit: float, games: int, packets: int, gap_s: float, wait_s: float
) -> None:
    """Each would find its own claim good, and together they would wait for seconds: it is others of their kind that they meet."""
    path = Bottleneck(mbit * MBIT, DEEP, 0.05)
    flows = [Flow(path, "realtime", packets, begins=gap_s * n + 0.0011 * n) for n in range(games)]
    measured(path, flows, warm_s=gap_s * games + 5, seconds=60.0)
    waits = [wait for flow in flows for wait in flow.waits]
    assert sum(waits) / len(waits) < wait_s
    assert sum(flow.arrived for flow in flows) * PACKET / 60 > 0.9 * mbit * MBIT


def test_bulk_flows_share_as_before() -> None:
    path = Bottleneck(20 * MBIT, DEEP, 0.05)
    flows = [Flow(path, "realtime", begins=3.0 * n) for n in range(3)]
    measured(path, flows, warm_s=9.0, seconds=20.0)
    assert max(flow.mean_wait_s for flow in flows) < 0.05
    assert max(f.arrived for f in flows) < 4 * min(f.arrived for f in flows)


def test_a_short_queue_leaves_a_game_the_rate_that_it_had() -> None:
    """As BBR keeps it, of a round trip: nothing is learnt from giving way to it, and the first window is less than the game needs."""
    control = RealtimeCongestion(PACKET)
    control.window = control.ssthresh = 120_000
    now = 1.0
    for _ in range(20):
        _say_a_round(control, 30_000, 0.1, now)
        now += 0.2
    for _ in range(8):
        _say_a_round(control, 30_000, 0.19, now)
        now += 0.4
    assert control.window == pytest.approx(30_000 * 1.9, rel=0.02)


def _say_a_round(control: RealtimeCongestion, size: int, rtt: float, now: float) -> None:
    """So many bytes of a game, never as many as the window holds, and that they arrived over a while."""
    for n in range(4):
        control.on_sent(size // 4, now + n * 0.01)
        control.on_acked(size // 4, now + n * 0.01, now + n * 0.01 + rtt)
        control.on_rtt(rtt, rtt, rtt, now + n * 0.01 + rtt)


# -- the judgement by itself ------------------------------------------------------------------


def _eased(rounds: int = 8) -> Rivals:
    rivals = Rivals()
    for _ in range(rounds):
        rivals.no_queue(limited=False)
    return rivals


def _in_vain(rivals: Rivals, *, left: float = 1.0, limited: bool = True) -> list[bool]:
    """What it answers to a queue of which so much is left each time, over two seconds."""
    queue, said = 0.3, []
    for n in range(5):
        if rivals.claims_since:
            break
        said.append(rivals.gives_way(10.0 + n * 0.5, queue, 30_000 >> n, limited))
        queue *= left
    return said


def test_what_was_given_in_vain_twice_is_not_given_again_and_after_a_while_claimed() -> None:
    rivals = _eased()
    assert _in_vain(rivals) == [True, True, False, False]
    assert rivals.claims_since == 10.0 + VAIN_S
    assert rivals.had() == 30_000
    assert rivals.low == 30_000 >> 3


@pytest.mark.parametrize(
    ("rounds", "left", "limited"),
    [
        (8, VAIN_SHARE, True),
        (8, 1.0, False),
        (EASED_LEAST - 1, 1.0, True),
        (0, 1.0, True),
    ],
    ids=["the queue shortens", "nothing was held back", "too few easy rounds", "nothing known"],
)
def test_else_it_gives_way_for_as_long_as_the_queue_stands(rounds: int, left: float, limited: bool) -> None:
    rivals = _eased(rounds)
    assert not rivals.claims_since
    assert _in_vain(rivals, left=left, limited=limited) == [True] * 5
    assert not rivals.claims_since


def test_a_queue_that_shortens_in_between_is_counted_anew() -> None:
    rivals = _eased()
    queues = [0.3, 0.3, 0.1, 0.1, 0.1]
    said = [rivals.gives_way(10.0 + n, queue, 30_000, True) for n, queue in enumerate(queues)]
    assert said == [True, True, True, True, False]
    assert rivals.claims_since == 14.0


def test_four_easy_rounds_of_the_last_eight_are_enough() -> None:
    rivals = Rivals()
    for n in range(8):
        rivals.no_queue(limited=n % 2 == 0)
    assert _in_vain(rivals) == [True, True, False, False]


def test_who_was_held_back_in_most_rounds_without_a_queue_takes_whatever_there_is_and_claims_nothing() -> (
    None
):
    rivals = _eased()
    for _ in range(9 - EASED_LEAST):
        rivals.no_queue(limited=True)
    assert _in_vain(rivals) == [True] * 5


def test_a_claim_ends_with_the_queue_or_at_its_time_which_all_have_at_once() -> None:
    rivals = _eased()
    _in_vain(rivals)
    assert not rivals.ends(CLAIM_S - 0.001, 0.3)
    assert rivals.claims_since
    assert rivals.ends(CLAIM_S, 0.3)
    assert not rivals.claims_since
    again = _eased()
    _in_vain(again)
    again.no_queue(limited=True)
    assert not again.claims_since


def test_after_a_claim_two_rounds_in_vain_and_the_same_time_lead_to_the_next() -> None:
    rivals = _eased()
    _in_vain(rivals)
    assert rivals.ends(CLAIM_S, 0.3)
    answers = [rivals.gives_way(15.0 + n, 0.3, 7_500, True) for n in (0.5, 1.0, VAIN_S)]
    assert answers == [True, False, False]
    assert rivals.claims_since == 15.0 + VAIN_S


def test_what_a_game_needs_is_what_arrived_in_a_round_that_did_not_hold_it_back() -> None:
    rivals = Rivals()
    for n in range(EASED_LEAST):
        assert rivals.needed() == 0
        rivals.no_queue(limited=False, arrived=1_000.0 * n)
    assert rivals.needed() == 1_000 * (EASED_LEAST - 1)


def test_a_window_that_cannot_become_smaller_tells_nothing_of_whose_queue_it_is() -> None:
    rivals = _eased()
    for n in range(5):
        assert rivals.gives_way(10.0 + n, 0.05, 12_000, True)
        rivals.tells_nothing()


def test_a_controller_that_claims_has_its_window_back_and_more_for_the_longer_round_trip() -> None:
    control = RealtimeCongestion(PACKET)
    control.window = control.ssthresh = 60_000
    now = 1.0
    for _ in range(8):
        control.on_rtt(0.1, 0.1, 0.1, now)
        now += 0.2
    windows = []
    for _ in range(7):
        control.in_flight = 0
        control.on_sent(control.window, now)
        control.in_flight = 0
        control.on_rtt(0.4, 0.4, 0.4, now)
        windows.append(control.window)
        now += 0.5
    assert windows == [60_000, 30_000, 30_000, 15_000, 15_000, 60_000, 60_000]
    assert control.ssthresh == 240_000
    control.on_acked(PACKET, now - 0.5, now)
    assert control.window == 60_000 + PACKET, "the queue that stands does not keep it from growing"
