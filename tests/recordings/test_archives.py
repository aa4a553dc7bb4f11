"""Archives in a folder and in a real S3 server, with the connection cut in the middle."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from moto import server as moto_server

from gateway import limits
from gateway.cli import main
from gateway.errors import ConfigError, TooLarge, Unprocessable
from gateway.recordings.archives import ArchivePlace, Damaged, Manifest, TransferFailed
from gateway.recordings.reaching import nobody_at
from gateway.recordings.recording import LocalRecording, Moment, open_film, open_world
from gateway.store.embedded import EmbeddedStore
from tests.recordings.filming import Filmed, film


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ARCHIVE_PART_FRAMES_MAX", 50)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket on an S3 server of our own: its endpoint URL."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    import fsspec

    fsspec.filesystem("s3", endpoint_url=f"http://{host}:{port}", skip_instance_cache=True).makedirs(
        "films", exist_ok=True
    )
    yield f"http://{host}:{port}"
    server.stop()


class CutLine:
    """A TCP relay that breaks every connection once so many bytes have gone through, until mended."""

    def __init__(self, to_port: int, bytes_until_cut: int) -> None:
        self._to_port = to_port
        self._left = bytes_until_cut
        self.mended = False
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._to_port))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(4096):
                self._left -= len(data)
                if self._left < 0 and not self.mended:
                    self.cuts += 1
                    break
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        self._listener.close()


def every_moment(recording: LocalRecording, made: Filmed) -> None:
    for place, records in made.states.items():
        assert recording.snapshot(Moment(*place)).records == records


def check_store(folder: Path, name: str, made: Filmed) -> None:
    store = EmbeddedStore.open(folder)
    world = open_world(store.blocking(), name)
    every_moment(LocalRecording(name, world), made)
    assert [(g.epoch, g.from_tick) for g in world.gaps()] == [(g.epoch, g.from_tick) for g in made.gaps]
    assert [mark["name"] for mark in world.marks()] == ["goal"]
    world.close()
    store.close()


def test_a_folder_takes_a_recording_and_gives_it_back(tmp_path: Path) -> None:
    made = film(tmp_path / "store")
    there = str(tmp_path / "archive")
    assert main(["archive", "w", there, "--store", str(tmp_path / "store")]) == 0
    assert main(["restore", there, "--check"]) == 0
    assert main(["restore", there, "--out", str(tmp_path / "back.sqlite")]) == 0
    with open_film(tmp_path / "back.sqlite") as recording:
        every_moment(recording, made)
    (tmp_path / "empty").mkdir()
    for _ in range(2):
        assert main(["restore", there, "--store", str(tmp_path / "empty"), "--world", "again"]) == 0
    check_store(tmp_path / "empty", "again", made)


def test_s3_resumes_where_the_connection_was_cut(
    tmp_path: Path, s3: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ARCHIVE_TRIES_MAX", 1)
    made = film(tmp_path / "store", ticks=150)
    line = CutLine(int(s3.rsplit(":", 1)[1]), bytes_until_cut=150_000)
    options = ["--storage", f"endpoint_url=http://127.0.0.1:{line.port}"]
    options += [
        "--storage",
        'config_kwargs={"retries": {"max_attempts": 1}}',
        "--storage",
        "skip_instance_cache=true",
    ]
    archive = ["archive", "w", "s3://films/w", "--store", str(tmp_path / "store"), *options, "--json"]
    assert main(archive) == 1
    assert "run the same command again to resume" in capsys.readouterr().err
    assert line.cuts >= 1
    line.mended = True
    before = ArchivePlace("s3://films/w", endpoint_url=s3, skip_instance_cache=True).manifest()
    assert before is not None
    assert 0 < len(before.parts) < 6
    assert main(archive) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["sent"] == facts["parts"] - len(before.parts)
    assert main(["restore", "s3://films/w", "--out", str(tmp_path / "back.sqlite"), *options]) == 0
    with open_film(tmp_path / "back.sqlite") as recording:
        every_moment(recording, made)
    line.close()


def test_a_changed_part_is_found_out_and_restores_nothing(tmp_path: Path) -> None:
    film(tmp_path / "store")
    there = tmp_path / "archive"
    assert main(["archive", "w", str(there), "--store", str(tmp_path / "store")]) == 0
    part = sorted(there.glob("part-*.sqlite"))[1]
    data = bytearray(part.read_bytes())
    data[5000] ^= 1
    part.write_bytes(data)
    place = ArchivePlace(str(there))
    with pytest.raises(Damaged):
        place.get_part(place.need_manifest().parts[1], tmp_path / "fetched")
    assert main(["restore", str(there), "--out", str(tmp_path / "back.sqlite")]) == 1
    assert not (tmp_path / "back.sqlite").exists()


def test_a_place_that_fails_is_tried_again_and_then_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    place = ArchivePlace(str(tmp_path), sleep=pauses.append)
    assert place.manifest() is None

    def fail(*_: Any) -> None:
        raise OSError("the line is dead")

    monkeypatch.setattr(LocalFileSystem, "put_file", fail)
    file = tmp_path / "x"
    file.write_bytes(b"x")
    with pytest.raises(TransferFailed, match="the line is dead"):
        place.put_part(file, "part")
    assert pauses == [0.5, 1.0, 2.0, 4.0]


def reach(endpoint: str, pauses: list[float] | None = None) -> None:
    """The first look at a place."""
    place = ArchivePlace(
        "s3://films/w",
        sleep=pytest.fail if pauses is None else pauses.append,
        endpoint_url=endpoint,
        skip_instance_cache=True,
    )
    place.manifest()


def test_where_nobody_listens_is_told_after_two_tries_and_before_the_client_is_loaded(s3: str) -> None:
    pauses: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(TransferFailed, match=f"can't be reached: nobody listens at 127.0.0.1 port {port};"):
        reach(f"http://127.0.0.1:{port}", pauses)
    assert pauses == [0.5]


def test_a_name_that_no_resolver_knows_is_told_by_that_name() -> None:
    with pytest.raises(
        TransferFailed, match=r"no host is known by the name nowhere\.invalid; nothing was sent"
    ):
        reach("http://nowhere.invalid:9000")


def test_a_resolver_that_says_nothing_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setattr(limits, "ARCHIVE_CONNECT_S", 0.1)
    monkeypatch.setattr("gateway.recordings.reaching.socket.create_connection", lambda *_: never.wait())
    try:
        with pytest.raises(TransferFailed, match=r"s3\.example port 443 does not answer within 0\.1 s"):
            reach("https://s3.example")
    finally:
        never.set()


def test_an_address_that_swallows_what_is_sent_is_told_after_one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener whose queue is full: the kernel answers no further SYN."""
    monkeypatch.setattr(limits, "ARCHIVE_CONNECT_S", 0.1)
    with socket.socket() as listener, ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            queued = waiting.enter_context(socket.socket())
            queued.setblocking(False)
            queued.connect_ex(listener.getsockname())
        with pytest.raises(TransferFailed, match=r"does not answer within 0\.1 s; nothing was sent"):
            reach(f"http://127.0.0.1:{listener.getsockname()[1]}")


def test_a_server_that_takes_the_request_and_says_nothing_is_told(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ARCHIVE_REACH_S", 0.5)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(TransferFailed, match=r"no answer within 0\.5 s; nothing was sent or fetched"),
    ):
        reach(f"http://127.0.0.1:{listener.getsockname()[1]}")


def test_where_a_proxy_stands_between_the_client_is_left_to_find_out(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", s3)
    monkeypatch.setattr("gateway.recordings.reaching.socket.create_connection", pytest.fail)
    assert nobody_at("http://nowhere.invalid:9000", pytest.fail) == ""
    assert nobody_at("nonsense", pytest.fail) == nobody_at("http://h:port", pytest.fail) == ""


def test_a_bucket_that_is_not_there_is_told_at_once(s3: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["restore", "s3://no-such-bucket/w", "--check", "--storage", f"endpoint_url={s3}"]
    assert main(words) == 1
    assert "no archive at s3://no-such-bucket/w: there is no manifest.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"endpoint_ulr": "http://127.0.0.1:9"}, "endpoint_ulr"),
        ({"endpoint_url": "nonsense"}, "Invalid endpoint: nonsense"),
    ],
)
def test_what_no_further_try_would_mend_is_told_at_once(s3: str, options: dict[str, str], said: str) -> None:
    pauses: list[float] = []
    with pytest.raises(ConfigError, match=f"{said}.*--storage"):
        ArchivePlace("s3://films/w", sleep=pauses.append, skip_instance_cache=True, **options).manifest()
    assert not pauses


def test_missing_credentials_are_told_with_the_names_of_what_to_set(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="no credentials; set AWS_ACCESS_KEY_ID"):
        ArchivePlace("s3://films/w", sleep=pytest.fail, endpoint_url=s3, skip_instance_cache=True).manifest()


def test_a_manifest_of_a_newer_format_is_not_guessed_at() -> None:
    with pytest.raises(Unprocessable, match="format 99"):
        Manifest.decode(b'{"format": 99}', "x")
    with pytest.raises(Unprocessable):
        Manifest.decode(b"[]", "x")


def test_a_manifest_of_exactly_the_bound_is_read_and_a_larger_one_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Manifest("w", 0).encode()
    (tmp_path / "manifest.json").write_bytes(data)
    monkeypatch.setattr(limits, "ARCHIVE_MANIFEST_BYTES_MAX", len(data))
    assert ArchivePlace(str(tmp_path)).manifest() == Manifest("w", 0)
    monkeypatch.setattr(limits, "ARCHIVE_MANIFEST_BYTES_MAX", len(data) - 1)
    with pytest.raises(TooLarge, match=f"over {len(data) - 1} bytes"):
        ArchivePlace(str(tmp_path)).manifest()
