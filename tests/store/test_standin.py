"""The stand-in behaves as the real mvstore was seen to: each line of what is known of it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import pytest_asyncio

from tests.store.protocol.backends import Door, commit, digest, framed, opened, page, part, read
from tests.store.standin import Clock, Knobs, Process, differences, serving
from tests.store.standin.names import NameCache

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:.*is not an async function:pytest.PytestWarning"),
]
NOWHERE = "0" * 20


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        async with opened("standin/h2c", tmp_path_factory.mktemp("standin"), monkeypatch) as door:
            yield door


def named(key: str) -> dict[str, str]:
    return {"x-namespace-key": key}


async def head(door: Door, key: str) -> str:
    return str((await door.ask("GET", "/stat", headers=named(key))).json()["version"])


async def committed(door: Door, key: str, fill: int, version: str | None = None) -> str:
    at = version or await head(door, key)
    answer = await door.ask("POST", "/batch/commit", commit(part(key, at, {1: page(fill)})))
    assert answer.status == 200
    return answer.headers["x-committed-version"]


async def pages_at(door: Door, key: str, version: str) -> list[bytes]:
    answer = await door.ask("POST", "/batch/read", framed(read(1, version)), named(key))
    assert answer.status == 200
    return [one["data"] for one in answer.frames()]


async def truncated(door: Door, key: str, before: str) -> list[str]:
    done = await door.admin("truncate_namespace", key=key, before_version=before, apply=True)
    return done.text.splitlines()


async def now(door: Door) -> str:
    return str((await door.ask("GET", "/time2version", t=0)).json()["after"]["version"])


# --- names --------------------------------------------------------------------------------------


def test_a_name_is_remembered_five_seconds_after_its_last_use_and_two_minutes_at_most() -> None:
    clock = Clock(lambda: 0.0)
    names = NameCache(clock)
    names.put("a", "1")
    for _ in range(29):
        clock.advance(4.0)
        assert names.get("a") == "1"
    clock.advance(4.0)
    assert names.get("a") is None
    names.put("b", "2")
    clock.advance(5.0)
    assert names.get("b") is None


async def test_commits_after_delete_and_create_land_in_the_deleted_namespace(door: Door) -> None:
    assert door.standin is not None
    key = await door.namespace()
    old = await committed(door, key, 1)
    await door.admin("delete_namespace", key=key)
    await door.admin("create_namespace", key=key)
    new_id = (await door.admin("stat_namespace", key=key)).json()["nsid"]
    lost = await committed(door, key, 2, old)
    assert await pages_at(door, key, lost) == [page(2)]
    await door.standin.advance(5.0)
    assert await head(door, key) == new_id
    assert await pages_at(door, key, new_id) == [b""]


async def test_a_deleted_name_goes_on_answering_and_so_does_a_renamed_one(door: Door) -> None:
    assert door.standin is not None
    gone, moved = await door.namespace(), await door.namespace()
    first_id = await head(door, gone)
    await committed(door, gone, 1)
    version = await committed(door, moved, 2)
    await door.admin("delete_namespace", key=gone)
    await door.admin("rename_namespace", old_key=moved, new_key=moved + "-new")
    assert await head(door, gone) == first_id
    assert await pages_at(door, moved, version) == [page(2)] == await pages_at(door, moved + "-new", version)
    await door.standin.advance(5.0)
    for key in (gone, moved):
        assert (await door.ask("GET", "/stat", headers=named(key))).status == 404


async def test_each_process_has_its_own_memory_of_names(tmp_path: Path) -> None:
    async with serving(tmp_path, planes=2) as served:
        import httpx

        async with httpx.AsyncClient() as client:
            await client.post(f"{served.admin_url}/api/create_namespace", json={"key": "k"})
            first, second = served.urls
            was = (await client.get(f"{first}/stat", headers=named("k"))).json()["version"]
            await client.post(f"{served.admin_url}/api/delete_namespace", json={"key": "k"})
            await client.post(f"{served.admin_url}/api/create_namespace", json={"key": "k"})
            assert (await client.get(f"{first}/stat", headers=named("k"))).json()["version"] == was
            assert (await client.get(f"{second}/stat", headers=named("k"))).json()["version"] > was


async def test_a_protected_name_made_by_use_without_proof_is_a_panic(tmp_path: Path) -> None:
    async with serving(tmp_path, Knobs(auto_create=True)) as served:
        import httpx

        async with httpx.AsyncClient() as client:
            key = "guarded:" + digest(b"x").hex()
            assert (await client.get(f"{served.url}/stat", headers=named(key))).status_code == 500
            assert (await client.get(f"{served.url}/stat", headers=named("open"))).status_code == 200


# --- versions -----------------------------------------------------------------------------------


async def test_a_mark_above_the_head_refuses_the_head_until_an_empty_commit(door: Door) -> None:
    assert door.standin is not None
    key = await door.namespace()
    version = await committed(door, key, 1)
    await committed(door, await door.namespace(), 2)
    assert await truncated(door, key, await now(door)) == ["DONE"]
    mark = (await door.admin("stat_namespace", key=key)).json()["metadata"]["truncated_before"]
    assert mark > version == await head(door, key)
    assert await pages_at(door, key, version) == []
    answer = await door.ask("POST", "/batch/commit", commit(part(key, version, {})))
    healed = answer.headers["x-committed-version"]
    assert healed > mark
    assert await pages_at(door, key, healed) == [page(1)]


async def test_a_version_just_read_is_served_for_two_seconds_below_a_fresh_mark(door: Door) -> None:
    assert door.standin is not None
    key = await door.namespace()
    old = await committed(door, key, 1)
    new = await committed(door, key, 2)
    assert await pages_at(door, key, old) == [page(1)]
    await truncated(door, key, new)
    assert await pages_at(door, key, old) == [page(1)]
    await door.standin.advance(2.0)
    assert await pages_at(door, key, old) == []
    assert await truncated(door, key, new) == ["1", "DONE"]


async def test_a_read_above_the_head_is_refused(door: Door) -> None:
    key = await door.namespace()
    await committed(door, key, 1)
    assert await pages_at(door, key, "f" * 20) == []


async def test_a_retry_is_known_until_the_next_commit(door: Door) -> None:
    key, attempt = await door.namespace(), os.urandom(16)
    base = await head(door, key)
    head_of = {"idempotency_key": attempt, "allow_skip_idempotency_check": False}
    first = await door.ask("POST", "/batch/commit", commit(part(key, base, {1: page(1)}), **head_of))
    again = await door.ask("POST", "/batch/commit", commit(part(key, base, {1: page(1)}), **head_of))
    assert again.headers["x-committed-version"] == first.headers["x-committed-version"]
    await committed(door, key, 2)
    assert (
        await door.ask("POST", "/batch/commit", commit(part(key, base, {1: page(1)}), **head_of))
    ).status == 409


async def test_a_version_older_than_the_namespace_is_taken(door: Door) -> None:
    old = await head(door, await door.namespace())
    key = await door.namespace()
    answer = await door.ask("POST", "/batch/commit", commit(part(key, old, {1: page(1)}, read_set=[1])))
    assert answer.status == 200


async def test_an_overlay_reads_its_base_and_not_the_base_of_that(door: Door) -> None:
    base = await door.namespace()
    keys, at = [base], await committed(door, base, 1)
    for name in ("-child", "-grandchild"):
        ns_id = (await door.admin("stat_namespace", key=keys[-1])).json()["nsid"]
        keys.append(base + name)
        overlay = {"ns_id": ns_id, "snapshot_version": at}
        assert (await door.admin("create_namespace", key=keys[-1], overlay_base=overlay)).status_code == 201
        at = await head(door, keys[-1])
    assert await pages_at(door, keys[1], await head(door, keys[1])) == [page(1)]
    assert await pages_at(door, keys[2], await head(door, keys[2])) == [b""]


# --- the limits of what is below -------------------------------------------------------------------


@pytest.mark.parametrize(("pages", "status"), [(10_000, 200), (20_000, 500), (50_000, 500)])
async def test_a_transaction_has_bounds_that_no_retry_mends(door: Door, pages: int, status: int) -> None:
    key, data = await door.namespace(), os.urandom(64)
    await door.ask("POST", "/batch/write", framed({"data": data, "delta_base": None}, b""), named(key))
    body = commit(part(key, await head(door, key), dict.fromkeys(range(pages), data), inline=False))
    for _ in range(1 if status == 200 else 2):
        answer = await door.ask("POST", "/batch/commit", body)
        assert answer.status == status
        assert (answer.body == b"") == (status == 500)


async def test_a_commit_takes_its_time(tmp_path: Path) -> None:
    async with serving(tmp_path, Knobs(commit_ms=(30.0, 40.0))) as served:
        import httpx

        async with httpx.AsyncClient(base_url=served.url) as client:
            await client.post(f"{served.admin_url}/api/create_namespace", json={"key": "k"})
            version = (await client.get("/stat", headers=named("k"))).json()["version"]
            loop = asyncio.get_running_loop()
            began = loop.time()
            await client.post("/batch/commit", content=commit(part("k", version, {1: page(1)})))
            assert loop.time() - began >= 0.03


async def test_a_second_collection_fails_while_the_first_is_under_way(tmp_path: Path) -> None:
    async with serving(tmp_path, Knobs(collect_s=0.5)) as served:
        import httpx

        async with httpx.AsyncClient(base_url=served.admin_url) as client:
            await client.post("/api/create_namespace", json={"key": "k"})
            asked = [client.post("/api/delete_unreferenced_content", json={"key": "k"}) for _ in range(2)]
            ends = sorted([answer.text for answer in await asyncio.gather(*asked)])
            assert ends == ["DONE\n", "ERROR\n"]
            assert served.standin.counts.refused_collections == 1


async def test_content_that_nothing_refers_to_stays_for_an_hour(door: Door) -> None:
    assert door.standin is not None
    key = await door.namespace()
    for fill in range(3):
        last = await committed(door, key, fill)
    await truncated(door, key, last)
    await door.standin.advance(2.0)
    assert await truncated(door, key, last) == ["2", "DONE"]
    ask = {"key": key, "apply": True}
    assert (await door.admin("delete_unreferenced_content", **ask)).text == "DONE\n"
    await door.standin.advance(3_601.0)
    assert (await door.admin("delete_unreferenced_content", **ask)).text == "2\nDONE\n"


async def test_the_time_keeper_keeps_points_while_nothing_happens(door: Door) -> None:
    assert door.standin is not None
    key = await door.namespace()
    version = await committed(door, key, 1)
    await door.standin.advance(60.0)
    t = int(door.standin.clock()) - 15
    after = (await door.ask("GET", "/time2version", t=t)).json()["after"]
    assert after["version"] > version
    assert t - 6 <= after["time"] < t


# --- answers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [b"", b"\0\0\0\1\xc1", (40_961).to_bytes(4, "big"), framed({"num_namespaces": 1})]
)
async def test_a_malformed_commit_is_an_empty_500(door: Door, body: bytes) -> None:
    answer = await door.ask("POST", "/batch/commit", body)
    assert (answer.status, answer.body) == (500, b"")


async def test_a_malformed_part_of_an_unknown_namespace_is_404(door: Door) -> None:
    head = {"idempotency_key": bytes(16), "allow_skip_idempotency_check": True, "num_namespaces": 1}
    answer = await door.ask(
        "POST", "/batch/commit", framed(head, part("nobody", NOWHERE, {}, num_pages=2)[0])
    )
    assert (answer.status, answer.body) == (404, b"namespace not found")


@pytest.mark.parametrize("work", ["acquire", "release"])
@pytest.mark.parametrize(
    "value", [None, {}, {"owner": 1}, {"owner": "x" * 257}, {"owner": "me", "version": 7}]
)
async def test_a_malformed_lock_is_500(door: Door, work: str, value: Any) -> None:
    key = await door.namespace()
    body = b"{" if value is None else json.dumps(value).encode()
    assert (await door.ask("POST", f"/nslock/{work}", body, named(key))).status == 500


async def test_a_bad_version_or_time_is_500(door: Door) -> None:
    key = await door.namespace()
    assert (await door.ask("GET", "/stat", headers=named(key), from_version="12")).status == 500
    for t in ("", "x", "-1"):
        assert (await door.ask("GET", "/time2version", t=t)).status == 500


async def test_the_admin_api_answers_the_malformed_in_its_own_ways(door: Door) -> None:
    for path in ("create_namespace", "truncate_namespace"):
        assert (await door.api.post(f"/api/{path}", content=b"{")).status_code == 500
    assert (await door.admin("truncate_namespace", key="nobody", before_version="12")).status_code == 404
    assert (
        await door.admin("truncate_namespace", key=await door.namespace(), before_version="12")
    ).status_code == 500
    assert (await door.admin("delete_unreferenced_content", key="nobody")).status_code == 400


async def test_an_inline_page_with_another_hash_is_a_bad_reference(door: Door) -> None:
    key = await door.namespace()
    init, _ = part(key, await head(door, key), {2: b"x"})
    lie = [{"page_index": 2, "hash": digest(b"another"), "data": b"x"}]
    assert (await door.ask("POST", "/batch/commit", commit((init, lie)))).status == 410


async def test_text_is_taken_as_a_page(door: Door) -> None:
    key = await door.namespace()
    body = framed({"data": "text", "delta_base": None}, b"")
    assert len((await door.ask("POST", "/batch/write", body, named(key))).frames()) == 2
    told = commit(part(key, await head(door, key), {1: b"text"}, inline=False))
    assert (await door.ask("POST", "/batch/commit", told)).status == 200


async def test_the_changelog_of_a_first_commit_is_empty(door: Door) -> None:
    key = await door.namespace()
    answer = await door.ask("POST", "/batch/commit", commit(part(key, await head(door, key), {1: page(1)})))
    assert msgpack.unpackb(answer.body) == {"changelog": {}}


async def test_headers_and_errors_are_bare(door: Door) -> None:
    key = await door.namespace()
    version = await committed(door, key, 1)
    await door.ask("POST", "/nslock/acquire", json.dumps({"owner": "me"}).encode(), named(key))
    stat = await door.ask("GET", "/stat", headers=named(key), lock_owner="you")
    refused = await door.ask("POST", "/batch/commit", commit(part(key, version, {1: page(1)})))
    base = {
        "ns_id": (await door.admin("stat_namespace", key=key)).json()["nsid"],
        "snapshot_version": version,
    }
    forked = await door.admin("create_namespace", key=key + "-f", overlay_base=base)
    assert [(one.status, one.body) for one in (stat, refused)] == [(410, b""), (409, b"")]
    assert forked.status_code == 409
    for answer in (stat, refused, forked):
        assert "x-lock-owner" not in answer.headers
        assert "content-type" not in answer.headers
    early = await door.ask("POST", "/batch/read", framed(read(1, "f" * 20)), named(key))
    assert (early.status, early.body) == (200, b"")
    assert not {"x-ended-early", "content-type"} & set(early.headers)


# --- as a process -----------------------------------------------------------------------------------


async def test_what_it_acknowledged_outlives_kill_9_and_names_are_then_known_anew(tmp_path: Path) -> None:
    import httpx

    with Process(tmp_path, "--commit-ms", "0") as store:
        async with (
            httpx.AsyncClient(base_url=store.url) as client,
            httpx.AsyncClient(base_url=store.admin_url) as api,
        ):
            await api.post("/api/create_namespace", json={"key": "k"})
            version = (await client.get("/stat", headers=named("k"))).json()["version"]
            answer = await client.post("/batch/commit", content=commit(part("k", version, {1: page(1)})))
            made = answer.headers["x-committed-version"]
            t = (await client.get("/time2version", params={"t": 0})).json()["after"]["version"]
            await api.post("/api/truncate_namespace", json={"key": "k", "before_version": t, "apply": True})
            await asyncio.to_thread(store.kill)
            await asyncio.to_thread(store.start)
            assert (await client.get("/stat", headers=named("k"))).json()["version"] == made
            body = framed(read(1, made))
            assert (await client.post("/batch/read", content=body, headers=named("k"))).content == b""
            await api.post("/api/delete_namespace", json={"key": "k"})
            assert (await client.get("/stat", headers=named("k"))).status_code == 200
            await asyncio.to_thread(store.kill)
            await asyncio.to_thread(store.start)
            assert (await client.get("/stat", headers=named("k"))).status_code == 404


# --- what is listed ---------------------------------------------------------------------------------


def test_every_difference_stands_in_the_docs() -> None:
    told = (Path(__file__).parents[2] / "docs" / "STORE.md").read_text()
    for difference in differences.KINDER:
        assert difference in told, f"docs/STORE.md does not tell: {difference}"
