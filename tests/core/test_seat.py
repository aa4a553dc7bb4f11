"""A publisher's place is given back for its secret, never for a number that everybody knows."""

from __future__ import annotations

import pytest

from gateway.core.options import parse_live_query
from gateway.core.ports import CloseCode, LiveOptions
from gateway.core.world import World
from gateway.errors import BadInput, PublisherPresent
from tests.core.links import RecordingLink

SECRET, OTHER = "a" * 32, "b" * 32


def world_of(epoch: int = 0) -> World:
    return World("arena", mono=100.0, now_us=0, last_epoch=epoch)


def attached(world: World, epoch: int, **more: object) -> tuple[RecordingLink, str | None]:
    link = RecordingLink()
    world.attach_publisher(link, epoch, 100.0, **more)  # type: ignore[arg-type]
    told = link.controls[0].get("resume")
    return link, told if isinstance(told, str) else None


def options(**more: object) -> LiveOptions:
    return LiveOptions(role="publish", **more)  # type: ignore[arg-type]


def test_welcome_tells_the_publisher_its_secret_and_nobody_else() -> None:
    world, reader = world_of(), RecordingLink()
    assert attached(world, 1, fresh=SECRET)[1] == SECRET
    world.attach_subscriber(reader, LiveOptions(), 100.0)
    assert reader.controls[0].get("resume") is None
    assert SECRET not in repr(options(resume=SECRET))
    assert SECRET not in repr(vars(world).get("_seat"))


@pytest.mark.parametrize("resume", [None, OTHER])
def test_the_public_number_throws_no_connected_publisher_out(resume: str | None) -> None:
    world = world_of()
    first, _ = attached(world, 1, fresh=SECRET)
    with pytest.raises(PublisherPresent, match="resume="):
        world.reclaim_epoch(options(epoch=1, resume=resume))
    with pytest.raises(PublisherPresent):
        world.attach_publisher(RecordingLink(), 1, 100.0, resume=resume)
    assert first.closed is None
    assert world.reclaim_epoch(options(epoch=1, resume=resume, takeover=True)) is None


def test_the_same_publisher_comes_back_over_the_connection_that_it_lost() -> None:
    world = world_of()
    first, _ = attached(world, 1, fresh=SECRET)
    assert world.reclaim_epoch(options(epoch=1, resume=SECRET)) == 1
    again, told = attached(world, 1, resume=SECRET, fresh=OTHER)
    assert told == SECRET
    assert first.controls[-1].fields["reason"] == "reconnected"
    assert (first.closed, again.closed) == (CloseCode.TAKEN_OVER, None)


def test_an_older_client_gets_its_epoch_back_from_an_empty_place_and_the_one_who_knows_it_from_that() -> None:
    world = world_of()
    attached(world, 1, fresh=SECRET)
    assert world.publisher is not None
    world.publisher.on_closed(101.0)
    assert world.reclaim_epoch(options(epoch=1)) == 1
    older, told = attached(world, 1, fresh=OTHER)
    assert told is None
    assert world.reclaim_epoch(options(epoch=1, resume=SECRET)) == 1
    assert attached(world, 1, resume=SECRET)[1] == SECRET
    assert older.closed == CloseCode.TAKEN_OVER


def test_each_epoch_has_a_secret_of_its_own() -> None:
    world = world_of()
    attached(world, 1, fresh=SECRET)
    assert attached(world, 2, takeover=True, fresh=OTHER)[1] == OTHER
    for epoch, resume in ((1, SECRET), (2, SECRET)):
        with pytest.raises(PublisherPresent):
            world.reclaim_epoch(options(epoch=epoch, resume=resume))


def test_after_a_restart_an_epoch_is_given_back_and_the_secret_that_comes_along_is_kept() -> None:
    world = world_of(epoch=7)
    assert world.reclaim_epoch(options(epoch=7, resume=SECRET)) == 7
    assert attached(world, 7, resume=SECRET, fresh=OTHER)[1] == SECRET
    with pytest.raises(PublisherPresent):
        world.reclaim_epoch(options(epoch=7))
    assert world.reclaim_epoch(options(epoch=7, resume=SECRET)) == 7


@pytest.mark.parametrize("text", ["", "a" * 31, "a" * 33, "g" * 32, "%20" + "a" * 31, "é" * 32])
def test_what_is_no_secret_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(BadInput, match="32 hex digits") as refused:
        parse_live_query(f"role=publish&epoch=1&resume={text}")
    assert not text or text not in refused.value.message


def test_a_query_that_cannot_be_read_is_told_without_its_secrets() -> None:
    with pytest.raises(BadInput) as refused:
        parse_live_query(f"resume={SECRET}&token=abc.def&x")
    assert SECRET not in refused.value.message
    assert "abc.def" not in refused.value.message
    assert parse_live_query(f"role=publish&epoch=1&resume={SECRET.upper()}").resume == SECRET
