"""The admin API of a stand-alone store."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.store.protocol.backends import Door, commit, framed, opened, page, part, read

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    folder: Path = tmp_path_factory.mktemp("door")
    with pytest.MonkeyPatch.context() as monkeypatch:
        async with opened("store/h2c", folder, monkeypatch) as door:
            yield door


async def with_versions(door: Door, count: int) -> tuple[str, list[str]]:
    key = await door.namespace()
    version = (await door.ask("GET", "/stat", headers={"x-namespace-key": key})).json()["version"]
    versions = []
    for number in range(count):
        answer = await door.ask("POST", "/batch/commit", commit(part(key, version, {1: page(number)})))
        version = answer.headers["x-committed-version"]
        versions.append(version)
    return key, versions


async def test_a_namespace_is_made_once(door: Door) -> None:
    assert (await door.admin("create_namespace", key="once")).status_code == 201
    assert (await door.admin("create_namespace", key="once")).status_code == 422


async def test_a_namespace_is_renamed(door: Door) -> None:
    key, versions = await with_versions(door, 1)
    other = await door.namespace()
    assert (await door.admin("rename_namespace", old_key=key, new_key=other)).status_code == 422
    assert (await door.admin("rename_namespace", old_key="nobody", new_key="x")).status_code == 404
    assert (await door.admin("rename_namespace", old_key=key, new_key=key + "-new")).status_code == 200
    stat = await door.ask("GET", "/stat", headers={"x-namespace-key": key + "-new"})
    assert stat.json()["version"] == versions[0]


async def test_a_namespace_is_deleted_unless_others_stand_on_it(door: Door) -> None:
    key, versions = await with_versions(door, 1)
    info = (await door.admin("stat_namespace", key=key)).json()
    base = {"ns_id": info["nsid"], "snapshot_version": versions[0]}
    assert (await door.admin("create_namespace", key=key + "-fork", overlay_base=base)).status_code == 201
    assert (await door.admin("delete_namespace", key=key)).status_code == 409
    assert (await door.admin("delete_namespace", key=key + "-fork")).status_code == 200
    assert (await door.admin("delete_namespace", key=key)).status_code == 200
    assert (await door.admin("delete_namespace", key=key)).status_code == 404


async def test_a_fork_reads_its_base_until_it_writes(door: Door) -> None:
    key, versions = await with_versions(door, 2)
    info = (await door.admin("stat_namespace", key=key)).json()
    base = {"ns_id": info["nsid"], "snapshot_version": versions[0]}
    fork = key + "-fork"
    await door.admin("create_namespace", key=fork, overlay_base=base)
    described = (await door.admin("stat_namespace", key=fork)).json()
    assert described["metadata"] == {"lock": None, "overlay_base": base, "truncated_before": None}
    version = (await door.ask("GET", "/stat", headers={"x-namespace-key": fork})).json()["version"]
    answer = await door.ask("POST", "/batch/read", framed(read(1, version)), {"x-namespace-key": fork})
    assert answer.frames()[0] == {"version": versions[0], "data": page(0), "zstd": False}
    # nothing at or below the fork's snapshot may be cut off below it
    await door.admin("truncate_namespace", key=key, before_version=versions[1], apply=True)
    again = await door.ask("POST", "/batch/read", framed(read(1, version)), {"x-namespace-key": fork})
    assert again.frames() == answer.frames()


async def test_truncation_tells_its_progress_and_changes_nothing_unless_told_to(door: Door) -> None:
    key, versions = await with_versions(door, 5)
    asked = framed(read(1, versions[0]))
    for apply, readable in ((None, 1), (False, 1), (True, 0)):
        value = {"key": key, "before_version": versions[3]} | ({} if apply is None else {"apply": apply})
        done = await door.admin("truncate_namespace", **value)
        assert done.status_code == 200
        assert done.text.endswith("DONE\n")
        answer = await door.ask("POST", "/batch/read", asked, {"x-namespace-key": key})
        found = 0 if answer.status == 410 else len(answer.frames())
        assert found == readable
    described = (await door.admin("stat_namespace", key=key)).json()
    assert described["metadata"]["truncated_before"] == versions[3]
    kept = await door.ask("POST", "/batch/read", framed(read(1, versions[3])), {"x-namespace-key": key})
    assert kept.frames()[0]["data"] == page(3)


async def test_content_is_collected_with_the_same_words(door: Door) -> None:
    key, _ = await with_versions(door, 2)
    for apply in (False, True):
        done = await door.admin("delete_unreferenced_content", key=key, apply=apply)
        assert (done.status_code, done.text.splitlines()[-1]) == (200, "DONE")


async def test_namespaces_are_listed_by_prefix_a_line_each(door: Door) -> None:
    for name in ("list-b", "list-a", "other"):
        await door.admin("create_namespace", key=name)
    listed = await door.api.get("/api/list_namespace", params={"prefix": "list-"})
    lines = [json.loads(line) for line in listed.text.splitlines()]
    assert [line["nskey"] for line in lines] == ["list-a", "list-b"]
    assert all(len(line["nsid"]) == 20 for line in lines)
    assert len((await door.api.get("/api/list_namespace")).text.splitlines()) > 3


async def test_a_lock_is_told(door: Door) -> None:
    key, versions = await with_versions(door, 1)
    await door.ask("POST", "/nslock/acquire", b'{"owner": "me"}', {"x-namespace-key": key})
    lock = (await door.admin("stat_namespace", key=key)).json()["metadata"]["lock"]
    assert {**lock, "nonce": ""} == {
        "snapshot_version": versions[0],
        "owner": "me",
        "nonce": "",
        "rolling_back": False,
    }
    base = {
        "ns_id": (await door.admin("stat_namespace", key=key)).json()["nsid"],
        "snapshot_version": versions[0],
    }
    assert (await door.admin("create_namespace", key=key + "-f", overlay_base=base)).status_code == 409


@pytest.mark.parametrize(
    ("path", "value", "status"),
    [
        ("create_namespace", {}, 400),
        ("create_namespace", {"key": 1}, 400),
        ("create_namespace", {"key": "x", "overlay_base": {"ns_id": "12"}}, 400),
        ("truncate_namespace", {"key": "nobody", "before_version": "0" * 20}, 404),
        ("truncate_namespace", {"key": "x", "before_version": "12"}, 400),
        ("truncate_namespace", {"key": "x", "before_version": "0" * 20, "apply": "yes"}, 400),
        ("delete_unreferenced_content", {"key": "nobody"}, 404),
        ("stat_namespace", {"key": "nobody"}, 404),
    ],
)
async def test_bad_requests_are_refused_for_good(
    door: Door, path: str, value: dict[str, object], status: int
) -> None:
    assert (await door.admin(path, **value)).status_code == status


async def test_there_is_no_foundationdb_to_ask(door: Door) -> None:
    answer = await door.api.get("/fdb/status")
    assert answer.status_code == 404
    assert "FoundationDB" in answer.json()["detail"]


UNOPENABLE = [
    "a:b",
    "a@b",
    "a@",
    "käse",
    "a\tb",
    " a",
    "a ",
    "a:" + "0" * 63,
    "a:" + "0" * 64 + ":b",
    "/a",
    ":",
]


@pytest.mark.parametrize("key", UNOPENABLE)
async def test_a_key_that_no_client_could_open_is_not_made_and_the_reason_is_told(
    door: Door, key: str
) -> None:
    if door.name.startswith("standin") or "before-standin" in door.name:
        pytest.skip("mvstore makes it")
    refused = await door.admin("create_namespace", key=key)
    assert refused.status_code == 400
    assert "no client could open" in refused.json()["detail"]
    good = await door.namespace()
    assert (await door.admin("rename_namespace", old_key=good, new_key=key)).status_code == 400


async def test_a_protected_key_and_odd_letters_are_made(door: Door) -> None:
    for key in (f"a-{door.name}:" + "0" * 64, f"!#$%&'*+.^_`|~ -{door.name}", f"{door.name}/b?c=d"):
        assert (await door.admin("create_namespace", key=key)).status_code == 201
