"""The command line: one small module per verb. Room: cli.

A verb's module has ``NAME``, ``HELP`` (one line), ``EXAMPLE`` (shell lines), ``add_arguments(parser)``
and ``run(args) -> int`` (the exit code). It stands in ``gateway/cli/NAME.py`` (dashes as
underscores, a trailing one where it is a word of Python's; a large verb is a folder of that name), is found by its file name, and imports at module level only the standard
library without asyncio, and :mod:`gateway.config`, :mod:`gateway.errors`, :mod:`gateway.limits`: whatever is heavy is imported in
the functions that need it, and for types where only mypy looks, so that ``--help`` answers at once. What several verbs share stands
in a file with ``_`` before its name, and such a file is never one verb's other half.

Exit codes: 0 good; 1 the work failed; 2 wrong usage or configuration; 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import keyword
import os
import pkgutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from gateway import __version__
from gateway.cli._parser import Parser
from gateway.errors import ConfigError, GatewayError, StoreDamaged

__all__ = ["EXIT_FAILED", "EXIT_INTERRUPTED", "EXIT_USAGE", "Verb", "build_parser", "main", "verb_names"]

_EXTRAS = {"pyarrow": "export", "mcap": "export"}
"""Packages that only some need, and the extra that brings them."""
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class Verb(Protocol):
    """What a verb's module offers."""

    NAME: str
    HELP: str
    EXAMPLE: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


def verb_names() -> list[str]:
    """The names of all verbs, from the files of this package, without importing any. A file whose
    name would be a word of Python's has a ``_`` behind it (``import_.py``)."""
    files = (m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
    return sorted(file.rstrip("_").replace("_", "-") for file in files)


def load_verb(name: str) -> Verb:
    """Import one verb's module. Raises ``ModuleNotFoundError`` where there is none."""
    file = name.replace("-", "_") + ("_" if keyword.iskeyword(name) else "")
    return cast(Verb, importlib.import_module(f"{__name__}.{file}"))


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser with all verbs, or with just the one that is going to run."""
    parser = Parser(
        prog="mvgateway",
        description="A UDP-based HTTP/3 gateway in front of mvstore: real-time state for multiplayer worlds.",
        epilog="mvgateway VERB --help shows a verb's flags and an example.",
    )
    parser.add_argument("--version", action="version", version=f"mvgateway {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    for name in [only] if only else verb_names():
        _add_verb(verbs.add_parser, load_verb(name))
    return parser


def _add_verb(add_parser: Callable[..., argparse.ArgumentParser], verb: Verb) -> None:
    example = textwrap.indent(textwrap.dedent(verb.EXAMPLE).strip(), "  ")
    parser = add_parser(
        verb.NAME,
        help=verb.HELP,
        description=verb.HELP,
        epilog=f"example:\n{example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_arguments(parser)
    parser.set_defaults(run=verb.run)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and answer its exit code. Never raises but for ``SystemExit`` of argparse."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:  # without a look at the verbs, of which some twenty would be loaded
        print(f"mvgateway {__version__}")
        return 0
    # One verb's module is loaded, not all of some twenty: that is most of the time until something is
    # shown.
    only = arguments[0] if arguments and arguments[0] in verb_names() else None
    parser = build_parser(only)
    args = parser.parse_args(arguments)
    if args.verb is None:
        parser.print_help()
        return EXIT_USAGE
    return _guarded(args.run, args)


def _guarded(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run a verb and answer its exit code; what went wrong is told on standard error."""
    try:
        return run(args)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # the reader of our output went away (`| head`): nobody is left to tell, also not at exit,
        # where Python flushes what is left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except ModuleNotFoundError as missing:
        print(f"mvgateway {args.verb}: {_what_brings(missing, args.verb)}", file=sys.stderr)
        return EXIT_USAGE
    except GatewayError as error:
        print(f"mvgateway {args.verb}: {error.message}{_way_out(error)}", file=sys.stderr)
        return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED


def _what_brings(missing: ModuleNotFoundError, verb: str) -> str:
    """Says how to get a package that is not installed. Raises ``missing`` again where it is a module of ours."""
    package = (missing.name or "").split(".")[0]
    if package == "bench":
        return "the benchmarks are not installed with the package: run it in a checkout of mvgateway, after `make dev`"
    if package in ("", "gateway"):
        raise missing
    if verb == "bench":
        return f"needs the package {package}; `make dev` in the checkout installs what benchmarks need"
    if package in _EXTRAS:
        return f"needs the package {package}, which is not installed: `pip install 'mvgateway[{_EXTRAS[package]}]'` brings it"
    return f"needs the package {package}, which is not installed: `pip install mvgateway` brings it (mvgateway-client does not)"


def _way_out(error: GatewayError) -> str:
    """Damage on disk has one way out, whoever meets it."""
    if not isinstance(error, StoreDamaged):
        return ""
    return "; `mvgateway store salvage DIR --to NEWDIR` gets out of the store's folder what can be read"
