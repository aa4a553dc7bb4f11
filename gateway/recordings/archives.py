"""Recordings moved to and from any place that fsspec can write: a folder, S3 and the like. Room: recordings.

An archive is a folder of parts, each a film (an SQLite file) of at most a minute at 60 Hz, and a
``manifest.json`` that lists them with their BLAKE3 sums. The manifest is written again after every
part, so that a transfer that breaks off goes on where it was. Blocks: call it on a thread.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from blake3 import blake3

from gateway import limits
from gateway.errors import ConfigError, GatewayError, NotFound, TooLarge, Unprocessable
from gateway.recordings.reaching import Silent, nobody_at, within

T = TypeVar("T")
FORMAT = 1
MANIFEST = "manifest.json"
S3_PATIENCE = {
    "connect_timeout": limits.ARCHIVE_CONNECT_S,
    "read_timeout": 60,
    "retries": {"max_attempts": 0},
}
"""For botocore, whose own retries take half a minute before they say that nobody is there; :meth:`ArchivePlace._tried` tries again."""


class TransferFailed(GatewayError):
    """The place did not take or give a part, after several tries; running it again resumes."""

    code = "transfer_failed"
    title = "Transfer failed"
    retry = True


class Damaged(Unprocessable):
    """A part is not what the manifest says."""

    code = "archive_damaged"
    title = "Archive damaged"


@dataclass(frozen=True, slots=True)
class ArchivedPart:
    """One part: its file, the span it holds ([epoch, tick], both included), its size and sum."""

    name: str
    begin: tuple[int, int]
    end: tuple[int, int]
    frames: int
    gaps: int
    bytes: int
    blake3: str


@dataclass(slots=True)
class Manifest:
    """What an archive holds. ``complete``: the whole span that was asked for is there; ``layout``: the document that says
    what records mean, where the world had one when it was archived last."""

    world: str
    stride: int
    parts: list[ArchivedPart] = field(default_factory=list)
    complete: bool = False
    layout: dict[str, Any] | None = None

    @property
    def end(self) -> tuple[int, int] | None:
        """The last (epoch, tick) that is there."""
        return self.parts[-1].end if self.parts else None

    def encode(self) -> bytes:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode()

    @classmethod
    def decode(cls, data: bytes, where: str) -> Manifest:
        """Raises :class:`Unprocessable` for what is no manifest, or one of a newer format."""
        try:
            document = json.loads(data)
            if document["format"] > FORMAT:
                raise Unprocessable(
                    f"{where} is of format {document['format']}, known here is up to {FORMAT}; use the newer gateway"
                )
            parts = [
                ArchivedPart(**{**part, "begin": tuple(part["begin"]), "end": tuple(part["end"])})
                for part in document["parts"]
            ]
            return cls(
                document["world"], document["stride"], parts, document["complete"], document.get("layout")
            )
        except (ValueError, KeyError, TypeError) as error:
            raise Unprocessable(f"{where} is no manifest of an archive: {error}") from error


class ArchivePlace:
    """A folder anywhere. ``url``: ``/path``, ``s3://bucket/prefix``, whatever fsspec knows.

    ``sleep`` pauses between tries. Raises :class:`ConfigError` for a URL that fsspec does not know, :class:`TransferFailed` for
    an S3 endpoint where nobody is.
    """

    def __init__(self, url: str, *, sleep: Callable[[float], None] = time.sleep, **options: object) -> None:
        if url.startswith(("s3://", "s3a://")):
            if not url.partition("://")[2].strip("/"):
                raise ConfigError(f"{url} names no bucket; write s3://BUCKET/PREFIX")
            options = {"config_kwargs": S3_PATIENCE, **options}
            why = nobody_at(_endpoint(options), sleep)
            if why:
                raise TransferFailed(f"{url} can't be reached: {why}; nothing was sent or fetched")
        try:
            self._fs, self._root = importlib.import_module("fsspec.core").url_to_fs(url, **options)
        except ImportError as error:
            raise ConfigError(
                f"{url} needs a package that is not installed ({error}); pip install 'mvgateway[archive]'"
            ) from error
        except ValueError as error:
            raise ConfigError(f"{url}: {error}") from error
        self.url = url.rstrip("/")
        self._sleep = sleep
        self._reached = False

    def manifest(self) -> Manifest | None:
        """The archive's manifest; None where there is none yet."""

        def get() -> bytes | None:
            try:
                if self._fs.size(self._path(MANIFEST)) > limits.ARCHIVE_MANIFEST_BYTES_MAX:
                    raise TooLarge(f"{self.url}/{MANIFEST} is over {limits.ARCHIVE_MANIFEST_BYTES_MAX} bytes")
                return bytes(self._fs.cat_file(self._path(MANIFEST)))
            except FileNotFoundError:
                return None

        def tried() -> bytes | None:
            return self._tried(get, MANIFEST)

        try:
            data = tried() if self._reached or self._is_local else within(limits.ARCHIVE_REACH_S, tried)
        except Silent as error:
            raise TransferFailed(
                f"{self.url} can't be reached: {error}; nothing was sent or fetched"
            ) from None
        self._reached = True
        return None if data is None else Manifest.decode(data, f"{self.url}/{MANIFEST}")

    def need_manifest(self) -> Manifest:
        """The same; raises :class:`NotFound` where there is none."""
        manifest = self.manifest()
        if manifest is None:
            raise NotFound(f"no archive at {self.url}: there is no {MANIFEST}")
        return manifest

    def put_manifest(self, manifest: Manifest) -> None:
        """Write it; whole or not at all."""
        self._tried(lambda: self._fs.invalidate_cache(), MANIFEST)
        partial = self._path(f".{MANIFEST}.partial")

        def put() -> None:
            self._make_folder()
            # An object store puts an object whole or not at all; a file system needs the rename for that.
            if self._is_local:
                self._fs.pipe_file(partial, manifest.encode())
                self._fs.mv(partial, self._path(MANIFEST))
            else:
                self._fs.pipe_file(self._path(MANIFEST), manifest.encode())

        self._tried(put, MANIFEST)

    def put_part(self, file: Path, name: str) -> tuple[int, str]:
        """Send a part and look that it is there whole; its size and BLAKE3 in hex."""
        digest = sum_of(file)
        size = file.stat().st_size

        def put() -> None:
            self._make_folder()
            self._fs.put_file(str(file), self._path(name))
            # fsspec remembers listings: the size asked next would be that from before.
            self._fs.invalidate_cache()
            if self._fs.size(self._path(name)) != size:
                raise OSError(f"{name} arrived incomplete")

        self._tried(put, name)
        return size, digest

    def get_part(self, part: ArchivedPart, file: Path) -> None:
        """Fetch a part to ``file``. Raises :class:`Damaged` where its sum is not the manifest's."""

        def get() -> None:
            self._fs.get_file(self._path(part.name), str(file))
            # Less is a transfer that broke off, and is tried again; a wrong sum is not.
            if file.stat().st_size < part.bytes:
                raise OSError(f"{part.name} arrived incomplete")

        try:
            self._tried(get, part.name)
        except FileNotFoundError as error:
            raise Damaged(f"{self.url}/{part.name} is not there, though the manifest lists it") from error
        if sum_of(file) != part.blake3:
            raise Damaged(f"{self.url}/{part.name} does not match its checksum; it was changed or damaged")

    def _make_folder(self) -> None:
        try:
            self._fs.makedirs(self._root, exist_ok=True)
        except FileNotFoundError as error:
            raise NotFound(f"{self.url}: {error}; look at the bucket's name, and at the endpoint") from error

    @property
    def _is_local(self) -> bool:
        protocol = self._fs.protocol
        return "file" in ((protocol,) if isinstance(protocol, str) else protocol)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _tried(self, fn: Callable[[], T], name: str) -> T:
        """Try several times; what is wrong for good is raised at once. A place that was never reached has nothing to
        resume: it is told after two tries."""
        tries = limits.ARCHIVE_TRIES_MAX if self._reached else limits.ARCHIVE_REACH_TRIES_MAX
        for attempt in range(tries):
            try:
                return fn()
            except (GatewayError, FileNotFoundError):
                raise
            except Exception as error:
                if wrong := _wrong_for_good(error):
                    raise ConfigError(f"{self.url}/{name}: {wrong}") from error
                if attempt + 1 == tries:
                    raise self._failed(error, name, tries) from error
                self._sleep(limits.ARCHIVE_PAUSE_S * 2**attempt)
        raise AssertionError("unreachable")

    def _failed(self, error: Exception, name: str, tries: int) -> TransferFailed:
        said = str(error) or type(error).__name__
        if not self._reached:
            return TransferFailed(f"{self.url} can't be reached: {said}; nothing was sent or fetched")
        return TransferFailed(
            f"{self.url}/{name}: {said} ({tries} tries); run the same command again to resume"
        )


_DISK_SAYS_NO = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG})


def _wrong_for_good(error: Exception) -> str:
    """What no further try would mend, in plain words; "" for what may pass. The S3 client's errors are told by their
    names: it is there only where it was asked for."""
    kind = type(error).__name__
    if isinstance(error, PermissionError):
        return f"{error.strerror or error}; look at the place's name, and at what you may do there"
    if isinstance(error, OSError) and error.errno in _DISK_SAYS_NO:
        return f"{error.strerror}; make room there or give another place, then run the same command again to resume"
    if kind in ("NoCredentialsError", "PartialCredentialsError"):
        return "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give --storage key=… --storage secret=…"
    if isinstance(error, (TypeError, ValueError)) or kind == "ParamValidationError":
        return f"{error}; look at the place's URL and at what --storage says"
    return ""


def _endpoint(options: Mapping[str, object]) -> object:
    """The URL that the S3 client would ask, where it is said by the options or the environment; else AWS's own, by its region."""
    more = options.get("client_kwargs")
    named = options.get("endpoint_url") or (more.get("endpoint_url") if isinstance(more, dict) else None)
    return named or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def sum_of(file: Path) -> str:
    """BLAKE3-256 of a file, in hex."""
    hasher = blake3()
    for block in _blocks(file):
        hasher.update(block)
    return hasher.hexdigest()


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while block := opened.read(limits.MIB):
            yield block
