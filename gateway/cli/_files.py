"""Files under their name only when they are whole. Room: cli."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.errors import ConfigError
from gateway.givenfiles import can_be_replaced


def add_file(parser: argparse.ArgumentParser, metavar: str, help: str) -> None:
    """The file to write: behind the world, or as other verbs take it, by ``--out``. :func:`file_of` answers which."""
    parser.add_argument("file", nargs="?", metavar=metavar, type=Path, help=help)
    parser.add_argument("--out", metavar=metavar, type=Path, help="the same, as other verbs take it")


def file_of(args: argparse.Namespace, metavar: str) -> Path:
    """What :func:`add_file` was given. Raises :class:`ConfigError` where that is nothing, or two."""
    if (args.file is None) == (args.out is None):
        given = "none was given" if args.file is None else f"{args.file} and --out {args.out} are two"
        raise ConfigError(f"name one file to write, and {given}: mvgateway {args.verb} WORLD {metavar}")
    file: Path = args.file or args.out
    return file


def need_file(path: Path, what: str, way_out: str) -> None:
    """Raises :class:`ConfigError` where a file to be read is not there, by one rule for all verbs: what is named wrongly is
    wrong usage (exit code 2); what is there, and is not what it should be, fails the work (1)."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder, and {what} is a file; {way_out}")
    if not path.exists():
        raise ConfigError(f"no {what} at {path}; {way_out}")


def _end_as_by_ctrl_c(number: int, frame: object) -> None:
    if (
        signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    ):  # a shell's background job is deaf to Ctrl-C, not to this
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


@contextmanager
def tidy_at_term() -> Iterator[None]:
    """SIGTERM ends what runs within as Ctrl-C does, so that what is half written goes: by itself it would end the process at once."""
    is_ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    )
    if not is_ours:
        yield
        return
    signal.signal(signal.SIGTERM, _end_as_by_ctrl_c)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` beside ``path``, bring it to disk, then rename; what is no ordinary file (a pipe, ``/dev/null``) is
    written to as it is. Raises :class:`ConfigError`."""
    # A rename would put a file in the place of the pipe, with its reader waiting for ever.
    if path.exists() and not path.is_file() and not path.is_dir():
        path.write_bytes(data)
        return
    if path.is_file() and not can_be_replaced(path):
        raise ConfigError(f"{path} is no file of its own, but one that is open already; name that itself")
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise ConfigError(f"{path} was not written: {error.strerror}; choose another place") from error
    finally:
        partial.unlink(missing_ok=True)
