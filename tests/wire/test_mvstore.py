"""mvstore's messages: every shape that the page names, and every way to get it wrong."""

from __future__ import annotations

import msgpack
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadInput, MalformedMessage, TooLarge
from gateway.wire import mvstore
from gateway.wire.mvstore import CommitHead, CommitNamespace, CommitPage, FrameReader, ReadMessage

VERSION = "00000000000000aa0001"
HASH = blake3(b"page").digest()
KEY = bytes(range(16))


def contents(framed: bytes) -> bytes:
    reader = FrameReader()
    reader.feed(framed)
    frame = reader.pull()
    assert frame is not None
    reader.finish()
    return frame


def packed(value: object) -> bytes:
    return msgpack.packb(value, use_bin_type=True)


def test_frames_come_out_whole_however_the_bytes_come_in() -> None:
    frames = [b"", b"a", b"x" * 40_960, b"last"]
    body = b"".join(map(mvstore.frame, frames))
    for step in (1, 3, 4_096, len(body)):
        reader, out = FrameReader(), []
        for at in range(0, len(body), step):
            reader.feed(body[at : at + step])
            out.extend(reader)
        reader.finish()
        assert out == frames


@given(st.lists(st.binary(max_size=200), max_size=20), st.integers(1, 50))
def test_any_frames_survive_any_cut(frames: list[bytes], step: int) -> None:
    body = b"".join(map(mvstore.frame, frames))
    reader, out = FrameReader(), []
    for at in range(0, len(body), step):
        reader.feed(body[at : at + step])
        out.extend(reader)
    reader.finish()
    assert out == frames


def test_a_frame_over_the_bound_is_refused_by_its_length_alone() -> None:
    reader = FrameReader()
    reader.feed((40_961).to_bytes(4, "big"))
    with pytest.raises(TooLarge, match=r"40961.*40960"):
        reader.pull()


def test_a_body_that_ends_inside_a_frame_is_malformed() -> None:
    for cut in (b"\0", b"\0\0\0\5", b"\0\0\0\5four"):
        reader = FrameReader()
        reader.feed(cut)
        assert reader.pull() is None
        with pytest.raises(MalformedMessage):
            reader.finish()


def test_a_read_says_the_same_as_map_and_as_array() -> None:
    wanted = ReadMessage(7, VERSION, HASH, True)
    assert mvstore.decode_read(contents(mvstore.encode_read(*wanted))) == wanted
    assert mvstore.decode_read(packed([7, VERSION, HASH, True])) == wanted
    assert mvstore.decode_read(packed([7, VERSION])) == ReadMessage(7, VERSION, None, False)
    assert mvstore.decode_read(packed({"page_index": 7, "version": VERSION, "news": 1})) == (
        ReadMessage(7, VERSION, None, False)
    )


def test_a_write_carries_its_page_and_any_hint() -> None:
    assert mvstore.decode_write(contents(mvstore.encode_write(b"page"))) == b"page"
    assert mvstore.decode_write(packed({"data": b"page", "delta_base": 3})) == b"page"
    assert mvstore.decode_write(packed([b"page"])) == b"page"
    for no_page in ("3", -1, 2**32):
        with pytest.raises(MalformedMessage, match="delta_base"):
            mvstore.decode_write(packed({"data": b"page", "delta_base": no_page}))


def test_a_commit_says_the_same_after_a_round_trip() -> None:
    head = CommitHead(KEY, True, 2, "me")
    assert mvstore.decode_commit_head(contents(mvstore.encode_commit_head(head))) == head
    namespace = CommitNamespace(VERSION, "k:1", "ab", None, 3, frozenset({1, 2}))
    framed = mvstore.encode_commit_namespace(namespace)
    assert mvstore.decode_commit_namespace(contents(framed)) == namespace
    page = CommitPage(9, HASH, b"data")
    assert mvstore.decode_commit_page(contents(mvstore.encode_commit_page(*page))) == page


def test_an_empty_read_set_is_not_the_same_as_none() -> None:
    fields = {"version": VERSION, "ns_key": "k", "num_pages": 0}
    assert mvstore.decode_commit_namespace(packed({**fields, "read_set": []})).read_set == frozenset()
    assert mvstore.decode_commit_namespace(packed({**fields, "read_set": None})).read_set is None
    assert mvstore.decode_commit_namespace(packed(fields)).read_set is None


def test_answers_say_the_same_after_a_round_trip() -> None:
    assert mvstore.decode_page(contents(mvstore.encode_page(VERSION, b"data"))) == (VERSION, b"data", False)
    assert mvstore.decode_hash(contents(mvstore.encode_hash(HASH))) == HASH
    assert mvstore.decode_hash(contents(mvstore.encode_hash(b""))) == b""
    assert mvstore.decode_changelog(mvstore.encode_changelog({"k": [2, 1], "m": []})) == {
        "k": (1, 2),
        "m": (),
    }


@pytest.mark.parametrize(
    "value",
    [
        1,
        "text",
        None,
        {},
        [],
        {"page_index": -1, "version": VERSION},
        {"page_index": 2**32, "version": VERSION},
        {"page_index": True, "version": VERSION},
        {"page_index": 1.0, "version": VERSION},
        {"page_index": 1},
        {"page_index": 1, "version": b"bytes"},
        {"page_index": 1, "version": VERSION, "hash": b"short"},
        {"page_index": 1, "version": VERSION, "hash": "x" * 32},
        {"page_index": 1, "version": VERSION, "accept_zstd": 1},
    ],
)
def test_a_read_of_the_wrong_shape_is_malformed(value: object) -> None:
    with pytest.raises(MalformedMessage):
        mvstore.decode_read(packed(value))


@pytest.mark.parametrize(
    "fields",
    [
        {"idempotency_key": KEY[:15]},
        {"idempotency_key": "x" * 16},
        {"num_namespaces": -1},
        {"num_namespaces": "1"},
        {"lock_owner": 3},
        {"allow_skip_idempotency_check": None},
    ],
)
def test_a_commit_head_of_the_wrong_shape_is_malformed(fields: dict[str, object]) -> None:
    good = {"idempotency_key": KEY, "allow_skip_idempotency_check": True, "num_namespaces": 1}
    mvstore.decode_commit_head(packed(good))
    with pytest.raises(MalformedMessage):
        mvstore.decode_commit_head(packed({**good, **fields}))


@pytest.mark.parametrize("version", ["", "0" * 19, "0" * 21, "g" * 20, "0" * 20 + "\n", "０" * 20])
def test_a_version_is_twenty_hex_digits(version: str) -> None:
    with pytest.raises(MalformedMessage):
        mvstore.version_of(version)


def test_versions_are_lower_case_inside() -> None:
    assert mvstore.version_of("ABCDEF0123456789abcd") == "abcdef0123456789abcd"


def test_a_deep_nest_is_malformed_and_not_a_crash() -> None:
    with pytest.raises(MalformedMessage):
        mvstore.decode_read(b"\x91" * 40_000)


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_bad_input(data: bytes) -> None:
    for decode in (
        mvstore.decode_read,
        mvstore.decode_write,
        mvstore.decode_commit_head,
        mvstore.decode_commit_namespace,
        mvstore.decode_commit_page,
        mvstore.decode_page,
        mvstore.decode_hash,
        mvstore.decode_changelog,
    ):
        try:
            decode(data)
        except BadInput:
            pass


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=5) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=9), inner, max_size=6),
    max_leaves=12,
)


@given(_values)
def test_no_message_raises_anything_but_bad_input(value: object) -> None:
    test_no_bytes_raise_anything_but_bad_input.hypothesis.inner_test(packed(value))  # type: ignore[attr-defined]


def test_a_key_without_a_colon_is_open() -> None:
    assert mvstore.proof_ok("plain", None)
    assert mvstore.proof_ok("plain", "zz")


def test_a_protected_key_opens_to_its_proof_only() -> None:
    proof = b"secret"
    key = f"name:{blake3(proof).hexdigest()}"
    assert mvstore.proof_ok(key, proof.hex())
    for wrong in (None, "", "zz", b"other".hex(), proof.hex() + "00"):
        assert not mvstore.proof_ok(key, wrong)
    assert not mvstore.proof_ok("name:abcd", proof.hex())
    assert not mvstore.proof_ok("name:nothex", proof.hex())


EDGES = (0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1)


@pytest.mark.parametrize("page", EDGES)
def test_the_usual_form_of_a_message_is_read_as_any_other_form(page: int) -> None:
    """What clients send all the time takes a shorter way: a map in the fields' order."""
    version, digest = "0123456789abcdef0123", bytes(range(32))
    read = {"page_index": page, "version": version, "hash": None, "accept_zstd": True}
    ahead = {"page_index": page, "hash": digest, "data": None}
    for fields in (read, dict(reversed(read.items()))):
        assert mvstore.decode_read(packed(fields)) == mvstore.ReadMessage(page, version, None, True)
    for fields in (ahead, dict(reversed(ahead.items()))):
        assert mvstore.decode_commit_page(packed(fields)) == mvstore.CommitPage(page, digest, None)
    assert mvstore.encode_commit_page(page, digest, None) == mvstore.frame(packed(ahead))


@pytest.mark.parametrize("size", [0, 1, 255, 256, 8_192, 32_768, 65_535, 65_536])
@pytest.mark.parametrize("version", ["", "0123456789abcdef0123", "x" * 40])
@pytest.mark.parametrize("zstd", [False, True])
def test_a_page_in_pieces_is_the_page_and_read_as_any_other_form(size: int, version: str, zstd: bool) -> None:
    data = bytes(n % 251 for n in range(size))
    fields = {"version": version, "data": data, "zstd": zstd}
    assert b"".join(mvstore.page_pieces(version, data, zstd)) == mvstore.frame(packed(fields))
    for each in (fields, dict(reversed(fields.items()))):
        assert mvstore.decode_page(packed(each)) == mvstore.ReadAnswer(version, data, zstd)


@given(st.binary(max_size=80), st.integers(0, 120), st.integers(0, 255))
def test_a_usual_message_that_was_hit_is_never_read_as_something_else(
    noise: bytes, at: int, value: int
) -> None:
    whole = bytearray(packed({"version": "0" * 20, "data": noise, "zstd": False}))
    whole[at % len(whole)] = value
    try:
        found = mvstore.decode_page(bytes(whole))
    except MalformedMessage:
        return
    meant = msgpack.unpackb(bytes(whole), raw=False, strict_map_key=False)
    if isinstance(meant, dict):
        assert tuple(found) == (meant["version"], meant["data"], meant.get("zstd", False))


@pytest.mark.parametrize("key", ["w", "a world", "ber", "x:" + "0" * 64, "a.b-c_d~e"])
def test_a_key_that_a_client_can_say_is_taken(key: str) -> None:
    assert mvstore.openable(key) == key


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("über", "printable ASCII"),
        ("a\nb", "printable ASCII"),
        ("a\x7f", "printable ASCII"),
        (" a", "spaces"),
        ("a ", "spaces"),
        ("a@b", "version follows"),
        ("x:00", "64 hex digits"),
        ("x:" + "g" * 64, "64 hex digits"),
        ("x:" + "0" * 65, "64 hex digits"),
    ],
)
def test_a_key_that_no_client_could_say_is_refused_with_the_reason(key: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        mvstore.openable(key)


NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x10000, 2**32 - 1]


def one_by_one(body: bytes) -> list[ReadMessage]:
    reader = FrameReader()
    reader.feed(body)
    messages = [mvstore.decode_read(frame) for frame in reader]
    reader.finish()
    return messages


@pytest.mark.parametrize("accepts", [True, False])
def test_reads_are_written_as_any_other_encoder_writes_them_and_read_at_one_go(accepts: bool) -> None:
    body = b""
    for number in NUMBERS:
        value = {"page_index": number, "version": VERSION, "hash": None, "accept_zstd": accepts}
        framed = mvstore.encode_read(number, VERSION, None, accepts)
        assert framed == mvstore.frame(packed(value))
        body += framed
    assert mvstore.usual_reads(body) == [ReadMessage(number, VERSION, None, accepts) for number in NUMBERS]


@given(st.lists(st.sampled_from(NUMBERS), max_size=5), st.data())
def test_reads_that_are_read_at_one_go_are_those_that_are_read_one_by_one(
    numbers: list[int], data: st.DataObject
) -> None:
    body = bytearray(b"".join(mvstore.encode_read(number, VERSION, None, True) for number in numbers))
    for _ in range(data.draw(st.integers(0, 2))):
        if body:
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    del body[data.draw(st.integers(0, len(body))) :]
    found = mvstore.usual_reads(bytes(body))
    if found is not None:
        assert found == one_by_one(bytes(body))


def test_reads_by_hash_and_what_stands_between_frames_are_left_to_the_careful_reader() -> None:
    usual = mvstore.encode_read(1, VERSION, None, True)
    assert mvstore.usual_reads(usual) is not None
    for other in (mvstore.encode_read(1, VERSION, HASH), b"\0", mvstore.COMPLETE, usual[:-1], usual.upper()):
        for body in (usual + other, other + usual, usual + other + usual):
            assert mvstore.usual_reads(body) is None


PAGES = [("", b""), (VERSION, b""), (VERSION, b"x" * 300), ("f" * 20, b"y" * 8_192), (VERSION, b"z" * 32_768)]


@given(st.lists(st.sampled_from(PAGES), max_size=4), st.data())
def test_pages_that_are_read_at_one_go_are_those_that_are_read_one_by_one(
    pages: list[tuple[str, bytes]], data: st.DataObject
) -> None:
    body = bytearray(b"".join(mvstore.encode_page(*page, data.draw(st.booleans())) for page in pages))
    for _ in range(data.draw(st.integers(0, 2))):
        if body:
            near = data.draw(st.integers(0, min(len(body), 60) - 1))
            body[data.draw(st.sampled_from([near, len(body) - 1 - near]))] = data.draw(st.integers(0, 255))
    del body[data.draw(st.sampled_from([len(body), data.draw(st.integers(0, len(body)))])) :]
    found = mvstore.usual_pages(bytes(body))
    if found is None:
        return
    reader = FrameReader(1 << 17)
    reader.feed(bytes(body))
    assert found == list(map(mvstore.decode_page, reader))
    reader.finish()


def test_usual_pages_are_read_at_one_go() -> None:
    body = b"".join(mvstore.encode_page(version, data) for version, data in PAGES[2:])
    found = mvstore.usual_pages(body)
    assert found is not None
    assert [(page.version, page.data) for page in found] == PAGES[2:]


# --- at the edges of the short ways --------------------------------------------------------


@pytest.mark.parametrize("size", [1, 0xFF, 0x100, 0xFFFF, 0x1_0000])
@pytest.mark.parametrize("version", [VERSION, "v" * 31, "v" * 32, ""])
def test_a_page_in_pieces_is_the_page_that_is_encoded_whole(size: int, version: str) -> None:
    data = bytes(size)
    pieces = mvstore.page_pieces(version, data, True)
    assert b"".join(pieces) == mvstore.encode_page(version, data, True)
    assert (pieces[1] is data) is (size <= 0xFFFF and len(version) <= 31), "copied only where it has to be"
    assert mvstore.decode_page(b"".join(pieces)[4:]) == (version, data, True)


@pytest.mark.parametrize("size", [0x100, 0x101, 4_096, 0xFFFF])
@pytest.mark.parametrize("zstd", [False, True])
def test_a_usual_page_is_read_by_the_short_way_as_by_the_long_one(size: int, zstd: bool) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    framed = mvstore.encode_page(VERSION, data[:size], zstd)
    assert mvstore.decode_page(framed[4:]) == (VERSION, data[:size], zstd)
    assert mvstore.usual_pages(framed * 3) == [(VERSION, data[:size], zstd)] * 3
    assert mvstore.usual_pages(b"") == []
    for torn in (framed[:-1], framed + b"\0", framed + framed[:-1], framed[:40], b"\0\0\0\0" + framed):
        assert mvstore.usual_pages(torn) is None, "not whole pages alone"


def test_what_is_no_usual_page_is_read_by_the_long_way_alone() -> None:
    for framed in (
        mvstore.encode_page(VERSION, bytes(255)),
        mvstore.encode_page("é" * 10, bytes(300)),
        mvstore.COMPLETE,
    ):
        assert mvstore.usual_pages(framed) is None
    assert mvstore.decode_page(contents(mvstore.encode_page("é" * 10, bytes(300)))).version == "é" * 10


@pytest.mark.parametrize("page", [0, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x1_0000, 2**32 - 1])
def test_a_page_number_of_any_width_is_read_back(page: int) -> None:
    asked = mvstore.decode_read(contents(mvstore.encode_read(page, VERSION, None, True)))
    assert (asked.page, asked.version, asked.accept_zstd) == (page, VERSION, True)
    sent = mvstore.decode_commit_page(contents(mvstore.encode_commit_page(page, HASH, None)))
    assert (sent.page, sent[1], sent.data) == (page, HASH, None)


def test_a_reader_says_whether_anything_waits_in_it() -> None:
    reader = FrameReader()
    assert reader.is_empty is True
    reader.feed(mvstore.frame(b"ab") + b"\0")
    assert reader.is_empty is False
    assert reader.pull() == b"ab"
    assert reader.is_empty is False
    reader.feed(b"\0\0\0")
    assert reader.pull() == b""
    assert reader.is_empty is True


def test_a_hash_is_32_bytes_or_none() -> None:
    assert mvstore.decode_hash(contents(mvstore.encode_hash(HASH))) == HASH
    assert mvstore.decode_hash(contents(mvstore.encode_hash(b""))) == b""
    for size in (1, 31, 33):
        with pytest.raises(MalformedMessage, match=f"{size} bytes, not 32"):
            mvstore.decode_hash(packed({"hash": bytes(size)}))


def test_a_version_or_a_hash_of_another_length_is_written_as_it_is() -> None:
    for version in ("", "0" * 19, "0" * 21, "é" * 20):
        read = {"page_index": 7, "version": version, "hash": None, "accept_zstd": False}
        assert mvstore.encode_read(7, version, None) == mvstore.frame(packed(read))
    for digest in (b"", HASH[:31], HASH + b"x"):
        ahead = {"page_index": 7, "hash": digest, "data": None}
        assert mvstore.encode_commit_page(7, digest, None) == mvstore.frame(packed(ahead))


@pytest.mark.parametrize(
    ("namespaces", "found"), [(-1, "int"), (None, "nil"), ("2", "str"), (True, "bool"), (..., "nothing")]
)
def test_what_is_no_number_of_namespaces_is_refused_by_what_it_is(namespaces: object, found: str) -> None:
    head = {"idempotency_key": KEY, "num_namespaces": namespaces}
    sent = {name: value for name, value in head.items() if value is not ...}
    with pytest.raises(MalformedMessage, match=f"^num_namespaces is {found}, not a number from 0"):
        mvstore.decode_commit_head(packed(sent))


def test_a_commit_may_be_of_no_namespace() -> None:
    assert mvstore.decode_commit_head(packed({"idempotency_key": KEY, "num_namespaces": 0})).namespaces == 0


@pytest.mark.parametrize("zstd", [False, True])
def test_a_page_with_a_field_that_is_not_known_or_in_another_order_is_the_page(zstd: bool) -> None:
    for size in (300, 42_084):
        data = bytes(size - 6) + b"\xa4zstd" + bytes([0xC2 + (not zstd)])
        page = mvstore.ReadAnswer(VERSION, data, zstd)
        for fields in (
            {"version": VERSION, "data": data, "zstd": zstd, "news": 1},
            {"version": VERSION, "zstd": zstd, "data": data},
            {"data": data, "version": VERSION, "zstd": zstd},
        ):
            assert mvstore.decode_page(packed(fields)) == page
            assert mvstore.usual_pages(mvstore.frame(packed(fields))) is None
