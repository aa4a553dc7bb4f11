"""The data plane, sentence by sentence, on every door of every store that speaks it."""

from __future__ import annotations

import json
import os

import pytest

from tests.store.protocol.backends import Door, commit, digest, framed, page, part, read

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOWHERE = "0" * 20


def named(key: str, proof: str | None = None) -> dict[str, str]:
    return (
        {"x-namespace-key": key}
        if proof is None
        else {"x-namespace-key": key, "x-namespace-hashproof": proof}
    )


async def head(door: Door, key: str) -> str:
    answer = await door.ask("GET", "/stat", headers=named(key))
    assert answer.status == 200
    return str(answer.json()["version"])


async def committed(door: Door, key: str, pages: dict[int, bytes], version: str | None = None) -> str:
    version = version or await head(door, key)
    answer = await door.ask("POST", "/batch/commit", commit(part(key, version, pages)))
    assert answer.status == 200, answer
    return answer.headers["x-committed-version"]


async def pages_at(door: Door, key: str, version: str, *indexes: int) -> list[bytes]:
    body = framed(*(read(index, version) for index in indexes))
    answer = await door.ask("POST", "/batch/read", body, named(key))
    assert answer.status == 200
    return [one["data"] for one in answer.frames()]


# --- /stat --------------------------------------------------------------------------------------


async def test_a_new_namespace_has_its_id_as_head(door: Door) -> None:
    key = await door.namespace()
    info = (await door.admin("stat_namespace", key=key)).json()
    answer = await door.ask("GET", "/stat", headers=named(key))
    assert answer.json() == {"version": info["nsid"], "metadata": "", "read_only": False, "interval": None}
    assert answer.headers["content-type"] == "application/json"


async def test_stat_tells_what_changed_between_two_versions(door: Door) -> None:
    key = await door.namespace()
    first = await committed(door, key, {1: page(1)})
    second = await committed(door, key, {2: page(2), 5: page(5)})
    third = await committed(door, key, {5: page(6)})
    since = {
        v: (await door.ask("GET", "/stat", headers=named(key), from_version=v)).json()
        for v in (first, second, third, NOWHERE, "f" * 20)
    }
    assert {answer["version"] for answer in since.values()} == {third}
    assert sorted(since[first]["interval"]) == [2, 5]
    assert since[second]["interval"] == [5]
    assert since[third]["interval"] == []
    assert since[NOWHERE]["interval"] is None
    assert since["f" * 20]["interval"] is None


async def test_stat_takes_the_hint_about_causal_reads(door: Door) -> None:
    key = await door.namespace()
    assert (await door.ask("GET", "/stat", headers=named(key), causal_read_risky=1)).status == 200


async def test_a_namespace_must_be_named(door: Door) -> None:
    for method, path in (("GET", "/stat"), ("POST", "/batch/read"), ("POST", "/batch/write")):
        assert (await door.ask(method, path, b"")).status == 400


# --- /batch/read --------------------------------------------------------------------------------


async def test_pages_come_in_request_order_at_the_version_asked_for(door: Door) -> None:
    key = await door.namespace()
    first = await committed(door, key, {3: page(1), 1: page(2)})
    second = await committed(door, key, {3: page(3)})
    body = framed(read(3, second), read(1, second), read(3, first), read(9, second))
    answer = await door.ask("POST", "/batch/read", body, named(key))
    assert answer.frames() == [
        {"version": second, "data": page(3), "zstd": False},
        {"version": first, "data": page(2), "zstd": False},
        {"version": first, "data": page(1), "zstd": False},
        {"version": "", "data": b"", "zstd": False},
    ]


async def test_a_read_may_be_an_array_and_may_have_fields_from_the_future(door: Door) -> None:
    key = await door.namespace()
    version = await committed(door, key, {1: page(7)})
    body = framed([1, version, None, False], {**read(1, version), "tomorrow": [1, {}]}, [1, version])
    answer = await door.ask("POST", "/batch/read", body, named(key))
    assert [one["data"] for one in answer.frames()] == [page(7)] * 3


async def test_an_upper_case_version_means_the_same(door: Door) -> None:
    key = await door.namespace()
    version = await committed(door, key, {1: page(8)})
    assert await pages_at(door, key, version.upper(), 1) == [page(8)]


async def test_pages_may_have_up_to_32768_bytes(door: Door) -> None:
    key = await door.namespace()
    big = os.urandom(32_768)
    version = await committed(door, key, {0: big})
    assert await pages_at(door, key, version, 0) == [big]


async def test_what_follows_the_200th_read_is_not_read(door: Door) -> None:
    key = await door.namespace()
    version = await committed(door, key, {1: page(1)})
    answer = await door.ask("POST", "/batch/read", framed(*[read(1, version)] * 201), named(key))
    assert answer.status == 200
    assert len(answer.frames()) == 200


async def test_an_empty_batch_answers_nothing(door: Door) -> None:
    key = await door.namespace()
    answer = await door.ask("POST", "/batch/read", b"", named(key))
    assert (answer.status, answer.body) == (200, b"")


async def test_written_content_is_read_by_its_hash_before_any_commit(door: Door) -> None:
    key = await door.namespace()
    data = os.urandom(4_096)
    await door.ask("POST", "/batch/write", framed({"data": data, "delta_base": None}, b""), named(key))
    version = await head(door, key)
    body = framed(
        read(1, version, hash=digest(data)), read(1, "not a version", hash=digest(data)), read(1, version)
    )
    frames = (await door.ask("POST", "/batch/read", body, named(key))).frames()
    assert [one["data"] for one in frames] == [data, data, b""]


# --- /batch/write -------------------------------------------------------------------------------


async def test_a_write_answers_each_hash_and_then_an_empty_one(door: Door) -> None:
    key = await door.namespace()
    pages = [os.urandom(4_096) for _ in range(100)]
    body = framed(*({"data": data, "delta_base": at} for at, data in enumerate(pages)), b"")
    answer = await door.ask("POST", "/batch/write", body, named(key))
    assert answer.status == 200
    assert [one["hash"] for one in answer.frames()] == [*map(digest, pages), b""]


async def test_a_write_of_nothing_is_complete_at_once(door: Door) -> None:
    key = await door.namespace()
    answer = await door.ask("POST", "/batch/write", framed(b""), named(key))
    assert answer.frames() == [{"hash": b""}]


async def test_written_content_becomes_visible_by_a_commit_only(door: Door) -> None:
    key = await door.namespace()
    data = os.urandom(4_096)
    await door.ask("POST", "/batch/write", framed({"data": data, "delta_base": None}, b""), named(key))
    before = await head(door, key)
    assert await pages_at(door, key, before, 4) == [b""]
    answer = await door.ask("POST", "/batch/commit", commit(part(key, before, {4: data}, inline=False)))
    assert answer.status == 200
    assert await pages_at(door, key, answer.headers["x-committed-version"], 4) == [data]


# --- /batch/commit ------------------------------------------------------------------------------


async def test_a_commit_answers_its_version_and_what_others_changed(door: Door) -> None:
    key = await door.namespace()
    base = await head(door, key)
    first = await committed(door, key, {1: page(1)}, base)
    second = await committed(door, key, {2: page(2)}, first)
    body = commit(part(key, first, {7: page(7)}, read_set=[7]))
    answer = await door.ask("POST", "/batch/commit", body)
    assert answer.status == 200
    assert answer.headers["x-last-version"] == "f" * 20
    assert base < first < second < answer.headers["x-committed-version"] == await head(door, key)
    assert answer.headers["x-committed-version"].islower() or answer.headers["x-committed-version"].isdigit()
    assert len(answer.headers["x-committed-version"]) == 20
    import msgpack

    assert msgpack.unpackb(answer.body) == {"changelog": {key: [2]}}


async def test_a_commit_on_an_old_version_conflicts(door: Door) -> None:
    key = await door.namespace()
    base = await head(door, key)
    await committed(door, key, {1: page(1)}, base)
    assert (await door.ask("POST", "/batch/commit", commit(part(key, base, {2: page(2)})))).status == 409


async def test_a_read_set_narrows_the_conflict_to_its_pages(door: Door) -> None:
    key = await door.namespace()
    base = await head(door, key)
    await committed(door, key, {1: page(1)}, base)
    hit = commit(part(key, base, {2: page(2)}, read_set=[1, 2]))
    miss = commit(part(key, base, {2: page(2)}, read_set=[2]))
    assert (await door.ask("POST", "/batch/commit", hit)).status == 409
    assert (await door.ask("POST", "/batch/commit", miss)).status == 200


async def test_a_commit_ahead_of_the_head_conflicts(door: Door) -> None:
    key = await door.namespace()
    assert (await door.ask("POST", "/batch/commit", commit(part(key, "f" * 20, {1: page(1)})))).status == 409


async def test_a_retry_after_a_lost_answer_commits_once(door: Door) -> None:
    key, other = await door.namespace(), await door.namespace()
    base, attempt = await head(door, key), os.urandom(16)
    body = commit(part(key, base, {1: page(1)}), idempotency_key=attempt)
    again = commit(part(key, base, {1: page(1)}), idempotency_key=attempt, allow_skip_idempotency_check=False)
    first = await door.ask("POST", "/batch/commit", body)
    await committed(door, other, {1: page(9)})
    second = await door.ask("POST", "/batch/commit", again)
    assert (first.status, second.status) == (200, 200)
    assert (
        first.headers["x-committed-version"] == second.headers["x-committed-version"] == await head(door, key)
    )
    import msgpack

    assert msgpack.unpackb(second.body) == {"changelog": {}}


async def test_several_namespaces_commit_at_one_version_or_not_at_all(door: Door) -> None:
    keys = [await door.namespace() for _ in range(16)]
    heads = {key: await head(door, key) for key in keys}
    answer = await door.ask("POST", "/batch/commit", commit(*(part(k, heads[k], {0: page(1)}) for k in keys)))
    assert answer.status == 200
    assert {await head(door, key) for key in keys} == {answer.headers["x-committed-version"]}
    stale = commit(
        part(keys[0], answer.headers["x-committed-version"], {0: page(2)}),
        part(keys[1], heads[keys[1]], {0: page(2)}),
    )
    assert (await door.ask("POST", "/batch/commit", stale)).status == 409
    assert await head(door, keys[0]) == answer.headers["x-committed-version"]


@pytest.mark.parametrize("count", [0, 17])
async def test_the_number_of_namespaces_is_bounded(door: Door, count: int) -> None:
    key = await door.namespace()
    parts = [part(f"{key}-{n}", NOWHERE, {0: page(1)}) for n in range(count)]
    assert (await door.ask("POST", "/batch/commit", commit(*parts))).status == 412


async def test_a_namespace_twice_in_a_commit_is_refused(door: Door) -> None:
    key = await door.namespace()
    twice = [part(key, await head(door, key), {n: page(n)}) for n in (1, 2)]
    assert (await door.ask("POST", "/batch/commit", commit(*twice))).status == 400


async def test_a_commit_to_no_namespace_is_not_found(door: Door) -> None:
    nowhere = commit(part("nobody-made-this", NOWHERE, {0: page(1)}))
    assert (await door.ask("POST", "/batch/commit", nowhere)).status == 404


async def test_a_hash_that_was_never_written_is_gone(door: Door) -> None:
    key = await door.namespace()
    body = commit(part(key, await head(door, key), {0: os.urandom(4_096)}, inline=False))
    assert (await door.ask("POST", "/batch/commit", body)).status == 410


async def test_too_many_pages_are_refused_before_they_come(door: Door) -> None:
    key = await door.namespace()
    version = await head(door, key)
    declared = framed(
        {"idempotency_key": bytes(16), "num_namespaces": 1},
        {"version": version, "ns_key": key, "num_pages": 50_001},
    )
    assert (await door.ask("POST", "/batch/commit", declared)).status == 413
    inline = commit(part(key, version, {n: page(n, 512) for n in range(101)}))
    assert (await door.ask("POST", "/batch/commit", inline)).status == 413
    large = commit(part(key, version, {0: page(1, 32_769)}))
    assert (await door.ask("POST", "/batch/commit", large)).status == 413


async def test_a_commit_of_thousands_of_pages_is_taken(door: Door) -> None:
    key, data = await door.namespace(), os.urandom(512)
    await door.ask("POST", "/batch/write", framed({"data": data, "delta_base": None}, b""), named(key))
    many = dict.fromkeys(range(5_000), data)
    body = commit(part(key, await head(door, key), many, inline=False))
    answer = await door.ask("POST", "/batch/commit", body)
    assert answer.status == 200
    assert await pages_at(door, key, answer.headers["x-committed-version"], 0, 4_999) == [data, data]


async def test_a_commit_may_be_made_of_arrays(door: Door) -> None:
    key, data = await door.namespace(), page(3)
    body = framed(
        [os.urandom(16), True, 1, None],
        [await head(door, key), key, None, None, 1, None],
        [4, digest(data), data],
    )
    answer = await door.ask("POST", "/batch/commit", body)
    assert answer.status == 200
    assert await pages_at(door, key, answer.headers["x-committed-version"], 4) == [data]


# --- protected keys -----------------------------------------------------------------------------


async def test_a_protected_namespace_opens_to_its_proof_only(door: Door) -> None:
    proof = os.urandom(8)
    key = f"guarded:{digest(proof).hex()}"
    assert (await door.admin("create_namespace", key=key)).status_code == 201
    version = (await door.ask("GET", "/stat", headers=named(key, proof.hex()))).json()["version"]
    good = commit(part(key, version, {1: page(5)}, ns_key_hashproof=proof.hex()))
    version = (await door.ask("POST", "/batch/commit", good)).headers["x-committed-version"]
    asked = framed(read(1, version))
    assert (await door.ask("POST", "/batch/read", asked, named(key, proof.hex()))).frames()[0][
        "data"
    ] == page(5)
    for wrong in (None, "", "00", "xyz"):
        assert (await door.ask("GET", "/stat", headers=named(key, wrong))).status == 404
        assert (await door.ask("POST", "/batch/read", asked, named(key, wrong))).status == 404
        assert (await door.ask("POST", "/batch/write", framed(b""), named(key, wrong))).status == 404
        bad = commit(part(key, version, {1: page(6)}, ns_key_hashproof=wrong))
        assert (await door.ask("POST", "/batch/commit", bad)).status == 404


# --- /time2version ------------------------------------------------------------------------------


async def test_now_is_a_point_in_time(door: Door) -> None:
    key = await door.namespace()
    version = await committed(door, key, {1: page(1)})
    bounds = (await door.ask("GET", "/time2version", t=0)).json()
    assert set(bounds) == {"after", "not_after"}
    assert bounds["after"]["version"] >= version
    assert isinstance(bounds["after"]["time"], int)
    past = (await door.ask("GET", "/time2version", t=1)).json()
    assert past["after"] is None


@pytest.mark.parametrize("t", ["", "x", "-1", "1.5", "9" * 30])
async def test_a_time_that_is_no_number_is_refused(door: Door, t: str) -> None:
    assert (await door.ask("GET", "/time2version", t=t)).status == 400


async def test_the_time_must_be_given(door: Door) -> None:
    assert (await door.ask("GET", "/time2version")).status == 400


# --- /nslock ------------------------------------------------------------------------------------


async def lock(door: Door, key: str, work: str, **value: object) -> tuple[int, str | None]:
    answer = await door.ask("POST", f"/nslock/{work}", json.dumps(value).encode(), named(key))
    return answer.status, answer.headers.get("x-lock-owner")


async def test_a_lock_has_one_owner(door: Door) -> None:
    key = await door.namespace()
    assert await lock(door, key, "acquire", owner="me") == (201, None)
    assert await lock(door, key, "acquire", owner="me") == (201, None)
    assert await lock(door, key, "acquire", owner="you") == (409, "me")
    assert await lock(door, key, "release", owner="you", mode="commit") == (422, "me")
    assert await lock(door, key, "release", owner="me", mode="commit") == (201, None)
    assert await lock(door, key, "release", owner="me", mode="commit") == (422, None)


async def test_readers_of_a_locked_namespace_get_its_snapshot(door: Door) -> None:
    key = await door.namespace()
    before = await committed(door, key, {1: page(1)})
    await lock(door, key, "acquire", owner="me")
    body = commit(part(key, before, {1: page(2)}), lock_owner="me")
    answer = await door.ask("POST", "/batch/commit", body)
    assert answer.status == 200
    own = await door.ask("GET", "/stat", headers=named(key), lock_owner="me")
    assert own.json()["version"] == answer.headers["x-committed-version"]
    assert await head(door, key) == before
    assert (await door.ask("GET", "/stat", headers=named(key), lock_owner="you")).status == 410
    assert (await door.ask("POST", "/batch/commit", commit(part(key, before, {2: page(2)})))).status == 409
    await lock(door, key, "release", owner="me", mode="commit")
    assert await head(door, key) == answer.headers["x-committed-version"]
    assert (await door.ask("GET", "/stat", headers=named(key), lock_owner="me")).status == 410


async def test_a_rollback_takes_back_what_the_owner_wrote(door: Door) -> None:
    key = await door.namespace()
    before = await committed(door, key, {1: page(1)})
    await lock(door, key, "acquire", owner="me")
    body = commit(part(key, before, {1: page(2), 2: page(2)}), lock_owner="me")
    assert (await door.ask("POST", "/batch/commit", body)).status == 200
    assert (await lock(door, key, "release", owner="me", mode="rollback"))[0] == 200
    assert await head(door, key) == before
    assert await pages_at(door, key, before, 1, 2) == [page(1), b""]


@pytest.mark.parametrize(
    "value", [{"owner": ""}, {"owner": "x" * 257}, {}, {"owner": 1}, {"owner": "\udc80"}]
)
async def test_an_owner_has_1_to_256_bytes(door: Door, value: dict[str, object]) -> None:
    key = await door.namespace()
    assert (await lock(door, key, "acquire", **value))[0] == 400


async def test_a_lock_is_not_taken_ahead_of_the_head(door: Door) -> None:
    key = await door.namespace()
    assert await lock(door, key, "acquire", owner="me", version="f" * 20) == (409, None)
    first = await committed(door, key, {1: page(1)})
    await committed(door, key, {1: page(2)})
    assert await lock(door, key, "acquire", owner="me", version=first) == (201, None)
    assert await head(door, key) == first


async def test_a_release_is_commit_or_rollback(door: Door) -> None:
    key = await door.namespace()
    await lock(door, key, "acquire", owner="me")
    assert (await lock(door, key, "release", owner="me", mode="other"))[0] == 400
    assert (await lock(door, key, "release", owner="me"))[0] == 400
