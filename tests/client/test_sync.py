"""The client without ``await``: what it answers and raises is what the awaited one does, from any thread, and it ends cleanly."""

from __future__ import annotations

import asyncio
import inspect
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gateway.client as awaited
from gateway.client import sync
from gateway.errors import BadInput, ConfigError, NotFound, PublisherPresent, StoreUnavailable, UnknownWorld
from tests.client.conftest import Served
from tests.kits.abilities import proves
from tests.patience import HANG_S

ROOT = Path(__file__).parents[2]


def threads() -> list[str]:
    """Those that blocking ends have in this process."""
    return [one.name for one in threading.enumerate() if one.name == "mvgateway-client"]


async def blocking(body: Callable[[], Any]) -> Any:
    """Run where the gateway's loop is not: it is this test's."""
    return await asyncio.wait_for(asyncio.to_thread(body), HANG_S)


@proves("python", "background")
async def test_a_world_is_published_and_followed_without_await(served: Served) -> None:
    def body() -> list[dict[int, bytes | None]]:
        with (
            sync.Publisher(served.url, "w", ca=served.ca) as publisher,
            sync.Subscriber(served.url, "w", ca=served.ca) as reader,
        ):
            assert publisher.send({1: b"one", 2: b"two"}) == 1
            mark = publisher.wait_durable(timeout_s=HANG_S)
            assert (mark.epoch, mark.tick) == (publisher.epoch, publisher.tick) == (1, 1)
            seen = []
            for frame in reader:
                seen.append(dict(frame.records))
                if 2 in frame.records:
                    break
            assert reader.records() == publisher.records() == {1: b"one", 2: b"two"}
            with pytest.raises(BadInput):
                publisher.send({1: b"back"}, tick=1)
            reader.focus({1: 4.0})
            for _ in reader.frames(timeout_s=0.5):
                pass  # what is still on its way; an iteration with a time-out ends
            with pytest.raises(TimeoutError):
                reader.next(timeout_s=0.05)
            publisher.send({3: b"after"})
            while 3 not in reader.next(HANG_S).records:
                pass
            assert (reader.connected, publisher.error, reader.connects) == (True, None, 1)
        assert sync.fetch_last(served.url, "w", ca=served.ca).records[3] == b"after"
        return seen

    assert {1: b"one", 2: b"two"} in await blocking(body)
    assert not threads(), "the thread ends with its last user"


async def test_errors_are_those_of_the_awaited_client_and_leave_nothing(served: Served) -> None:
    def body() -> None:
        with sync.Publisher(served.url, "w", ca=served.ca), pytest.raises(PublisherPresent):
            sync.Publisher(served.url, "w", ca=served.ca).__enter__()
        with pytest.raises(UnknownWorld), sync.Subscriber(served.url, "nowhere", ca=served.ca):
            pass
        with pytest.raises(ConfigError):
            sync.Subscriber("ftp://nothing", "w")
        with sync.Entities(served.url, "w", ca=served.ca) as town, pytest.raises(NotFound):
            town.get("nobody")
        with (
            pytest.raises(StoreUnavailable),
            sync.Publisher("https://127.0.0.1:1", "w", insecure=True, connect_timeout_s=0.2),
        ):
            pass
        with pytest.raises(RuntimeError, match="Entities is closed"):
            town.get("nobody")

    await blocking(body)
    assert not threads()


async def test_entities_and_recordings_answer_as_they_do_awaited(served: Served) -> None:
    def body() -> None:
        with (
            sync.Publisher(served.url, "town", ca=served.ca) as publisher,
            sync.Entities(served.url, "town", ca=served.ca) as town,
            sync.Recordings(served.url, "town", ca=served.ca) as film,
        ):
            first = town.put("chest", {"gold": 12}, kind="json", tags=["a b"])
            assert town.get("chest").value == {"gold": 12}
            second = town.patch("chest", owner="s")
            town.put("lamp", b"x")
            assert [entity.id for entity in town.all()] == ["chest", "lamp"]
            changes = [change.id for change in town.watch(first, timeout_s=1.0)]
            assert (changes, second > first) == (["chest", "lamp"], True)
            publisher.send({1: b"before"})
            publisher.send({1: b"after"})
            publisher.wait_durable(timeout_s=HANG_S)
            assert film.mark("early", tick=1)["name"] == "early"
            assert [mark["name"] for mark in film.marks()] == ["early"]
            assert film.state(mark="early").records == film.state(tick=1).records == {1: b"before"}
            assert film.last().records == {1: b"after"}
            assert (film.gaps(), film.summary()["world"]) == ([], "town")
            with pytest.raises(BadInput, match="give one of"):
                film.state()
            with pytest.raises(awaited.NothingRecorded, match="there are: early"):
                film.state(mark="late")

    await blocking(body)


async def test_one_publisher_takes_frames_of_many_threads(served: Served) -> None:
    def body() -> None:
        with sync.Publisher(served.url, "w", ca=served.ca) as publisher:

            def send(first: int) -> None:
                for key in range(first, first + 50):
                    publisher.send({key: b"x"})

            threads = [threading.Thread(target=send, args=(100 * n,)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert (publisher.tick, len(publisher.records())) == (200, 200)
            assert len([one for one in threading.enumerate() if one.name == "mvgateway-client"]) == 1

    await blocking(body)


async def test_who_waits_is_told_where_another_thread_closes(served: Served) -> None:
    def body() -> list[object]:
        told: list[object] = []
        with sync.Publisher(served.url, "w", ca=served.ca):
            reader = sync.Subscriber(served.url, "w", ca=served.ca)
            reader.open()
            waiting = threading.Thread(target=lambda: told.extend(reader.frames()))
            waiting.start()
            reader.close()
            reader.close()
            waiting.join(HANG_S)
            assert not waiting.is_alive()
            return told

    assert await blocking(body) == []


SCRIPT = """
import os, signal, sys, threading
from gateway.client import sync
signal.signal(signal.SIGINT, signal.default_int_handler)  # else it is ignored by a child of what runs in the background
url, ca, what = sys.argv[1:]
publisher = sync.Publisher(url, "w", ca=ca)
publisher.open()
publisher.send({1: b"said"})
publisher.wait_durable()
if what == "fork":
    child = os.fork()
    if child == 0:
        try:
            publisher.send({1: b"by a child"})
        except RuntimeError as error:
            print(error, flush=True)
        with sync.Subscriber(url, "w", ca=ca) as own:
            print("own", next(iter(own)).records, flush=True)
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    publisher.send({1: b"by the parent"})
    publisher.wait_durable()
    print("parent", flush=True)
if what == "interrupt":
    with sync.Subscriber(url, "w", ca=ca) as reader:
        reader.next()
        try:
            print("waits", flush=True)
            for _ in reader: pass
        except KeyboardInterrupt:
            print("interrupted", reader.records(), flush=True)
if what == "uncaught":
    with sync.Subscriber(url, "w", ca=ca) as reader:
        reader.next()
        print("waits", flush=True)
        for _ in reader: pass
print("ends", flush=True)
"""


def begin(served: Served, what: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-W", "default", "-c", SCRIPT, served.url, str(served.ca), what]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


@pytest.mark.parametrize("what", ["exit", "fork", "interrupt", "uncaught"])
async def test_a_program_that_ends_forks_or_is_interrupted_leaves_no_word_and_no_session(
    served: Served, until: Callable[..., Any], what: str
) -> None:
    def body() -> tuple[int, str, str]:
        process = begin(served, what)
        assert process.stdout is not None
        told = ""
        try:
            if what in ("interrupt", "uncaught"):
                told = process.stdout.readline()
                process.send_signal(signal.SIGINT)
            out, complaints = process.communicate(timeout=HANG_S / 2)
        finally:
            process.kill()
        return process.returncode, told + out, complaints

    code, out, complaints = await blocking(body)
    if what == "uncaught":
        assert complaints.strip().endswith("KeyboardInterrupt"), complaints
        assert "never retrieved" not in complaints
    else:
        assert (code, complaints, out.splitlines()[-1]) == (0, "", "ends"), complaints
    if what == "fork":
        assert "before fork()" in out
        assert "own {1: b'said'}" in out
    if what == "interrupt":
        assert "interrupted {1: b'said'}" in out
    world = served.gateway.worlds.hosts["w"].world
    await until(lambda: world.publisher is None and not world.subscribers)


def test_a_callback_that_would_wait_for_itself_is_told() -> None:
    town = sync.Entities("https://127.0.0.1:1", "w", insecure=True)
    with town, pytest.raises(RuntimeError, match="own thread"):
        # A callback of its own could do that only by this; the methods that take one are on the other ends.
        town._call(lambda: town.get("x"))


@pytest.mark.parametrize("name", ["Entities", "Publisher", "Recordings", "Subscriber"])
def test_each_method_of_the_awaited_end_has_one_without_await(name: str) -> None:
    ours, theirs = getattr(sync, name), getattr(awaited, name)
    internal = {"start", "aclose", "path", "follow", "link", "lags", "durable_order", "counts", "facts"}
    public = {
        one
        for one, member in inspect.getmembers(theirs)
        if not one.startswith(("_", "on_")) and callable(member)
    }
    assert public - internal <= set(dir(ours))


async def test_every_error_that_a_client_may_get_is_exported() -> None:
    for one in awaited.__all__:
        assert getattr(awaited, one) is not None
    from gateway import errors

    raised = {name for name, member in vars(errors).items() if inspect.isclass(member)}
    servers = {
        "BadName",
        "ForeignSchema",
        "NameTaken",
        "NoNamespace",
        "StoreDamaged",
        "StoreError",
        "Unsupported",
    }
    assert raised - servers - {"Any", "ClassVar"} <= set(awaited.__all__)
