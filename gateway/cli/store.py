"""``mvgateway store``: the embedded engine as a stand-alone mvstore. Room: cli."""

from __future__ import annotations

import argparse
import os

NAME = "store"
HELP = "run the embedded store as a stand-alone mvstore, or check, describe, back up or salvage one"
EXAMPLE = """
mvgateway store --data-plane 127.0.0.1:7000 --admin-api 127.0.0.1:7001 --path ./pages --auto-create-namespace
mvgateway store check ./pages
mvgateway store stat ./pages --json
mvgateway store backup ./pages ./pages-today.backup
mvgateway store salvage ./pages --to ./pages-salvaged
"""


TRUNCATE_ENV = "MVSTORE_TRUNCATE_MIN_AGE_SECONDS"
NO_USE = ("--raw-data-prefix", "--metadata-prefix")
"""What a start of mvstore names: where in FoundationDB its data is."""


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no whole number of seconds from 0")
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the server, and the verbs below it."""
    parser.add_argument(
        "--data-plane", metavar="ADDRESS:PORT", default="127.0.0.1:7000", help="listen here for clients"
    )
    parser.add_argument(
        "--admin-api", metavar="ADDRESS:PORT", default="127.0.0.1:7001", help="listen here for the admin API"
    )
    parser.add_argument(
        "--path", metavar="DIR", default="store", help="folder of the store (made if missing)"
    )
    parser.add_argument(
        "--auto-create-namespace", action="store_true", help="make a namespace when it is first used"
    )
    parser.add_argument("--wire-zstd", action="store_true", help="compress pages for clients that accept it")
    parser.add_argument(
        "--insecure-public",
        action="store_true",
        help="listen beyond loopback although nothing checks who connects",
    )
    parser.add_argument(
        "--allow-origin",
        metavar="ORIGIN",
        action="append",
        default=[],
        help="let web pages of this origin use the store (repeatable; * for all)",
    )
    parser.add_argument(
        "--read-only",
        action="store_true",
        help="serve what is in the folder, and refuse every write with 403; another process may be writing it",
    )
    parser.add_argument(
        "--truncate-min-age-seconds",
        metavar="SECONDS",
        type=_seconds,
        default=_seconds(os.environ.get(TRUNCATE_ENV) or "0"),
        help=f"refuse to truncate what is younger than this (environment: {TRUNCATE_ENV}; default 0: no such check)",
    )
    for flag in NO_USE:
        parser.add_argument(
            flag,
            metavar="PREFIX",
            help="taken because mvstore wants it; does nothing here, where a folder is the store",
        )
    works = parser.add_subparsers(
        dest="work", metavar="check|stat|backup|salvage", title="on a store's folder"
    )
    check = works.add_parser("check", help="verify every page's hash and every reference; exit 1 on damage")
    stat = works.add_parser("stat", help="sizes and counts")
    backup = works.add_parser("backup", help="copy a store to one file, also while it is in use")
    salvage = works.add_parser(
        "salvage", help="get out of a damaged store what can be read, into a new folder; exit 1 if not all"
    )
    for work in (check, stat, backup, salvage):
        work.add_argument("path", metavar="DIR", help="the store's folder")
    backup.add_argument("file", metavar="FILE", help="the copy; must not exist")
    salvage.add_argument("--to", metavar="NEWDIR", required=True, help="the new folder; must be empty")
    for work in (check, stat, salvage):
        work.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(args: argparse.Namespace) -> int:
    """Serve until stopped, or do one work on a folder."""
    if args.work is None:
        from gateway.cli import _store_server

        return _store_server.run(args)
    from gateway.cli import _store_folder

    works = {
        "check": _store_folder.check,
        "stat": _store_folder.stat,
        "backup": _store_folder.backup,
        "salvage": _store_folder.salvage,
    }
    return works[str(args.work)](args)
