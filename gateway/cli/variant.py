"""``mvgateway variant``: Godot Variants to JSON and back. Room: cli."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gateway import limits
from gateway.cli._files import write_whole
from gateway.errors import ConfigError, Unprocessable
from gateway.givenfiles import read_given

NAME = "variant"
HELP = "show a Godot Variant as JSON, or make one from JSON"
EXAMPLE = """
    mvgateway variant decode state.bin
    echo '{"hp": 100, "at": {"@": "Vector3", "v": [1.0, 2.0, 3.0]}}' | mvgateway variant encode - > state.bin
    mvgateway variant decode --prefixed saved.var    # as FileAccess.store_var and put_var write it
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action", choices=("decode", "encode"), help="decode: bytes to JSON; encode: JSON to bytes"
    )
    parser.add_argument("file", metavar="FILE", help="what to read; - is standard input")
    parser.add_argument("--prefixed", action="store_true", help="a u32 length stands before the Variant")
    parser.add_argument("--python", action="store_true", help="decode: print Python values instead of JSON")
    parser.add_argument(
        "--godot",
        type=int,
        choices=(3, 4),
        default=4,
        help="decode: which Godot wrote it (4); the bytes don't tell",
    )
    parser.add_argument(
        "-o", "--output", "--out", metavar="FILE", help="write there instead of standard output"
    )


def run(args: argparse.Namespace) -> int:
    data = _read(args.file)
    out = _decode(data, args) if args.action == "decode" else _encode(data, args)
    if args.output:
        write_whole(Path(args.output), out)
    else:
        sys.stdout.buffer.write(out)
        sys.stdout.buffer.flush()
    return 0


def _read(name: str) -> bytes:
    try:
        return read_given(name, limits.GIVEN_VALUE_BYTES_MAX)
    except OSError as error:
        raise ConfigError(
            f"cannot read {name}: {error.strerror}; FILE is a path, or - for standard input"
        ) from error


def _decode(data: bytes, args: argparse.Namespace) -> bytes:
    from gateway.wire import variant

    value = variant.decode(_unprefixed(data) if args.prefixed else data, godot=args.godot)
    return ((repr(value) if args.python else variant.to_json(value)) + "\n").encode()


def _encode(data: bytes, args: argparse.Namespace) -> bytes:
    from gateway.wire import variant

    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Unprocessable(f"JSON is UTF-8; byte {error.start} is not", offset=error.start) from error
    encoded = variant.encode(variant.from_json(text))
    return len(encoded).to_bytes(4, "little") + encoded if args.prefixed else encoded


def _unprefixed(data: bytes) -> bytes:
    size = int.from_bytes(data[:4], "little")
    if len(data) < 4 or size != len(data) - 4:
        raise Unprocessable(f"the length prefix says {size} bytes, {max(0, len(data) - 4)} follow", offset=0)
    return data[4:]
