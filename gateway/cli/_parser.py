"""The parser of the command line: a word that is not known gets the nearest one that is. Room: cli."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from gateway import limits

NEAR = 0.5
"""How alike two words must be for one to be offered; as for settings (:mod:`gateway.config`)."""


class Parser(argparse.ArgumentParser):
    """Its errors say what was meant, as far as that can be told."""

    _given: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        """Usage, and the error with the nearest word. Ends the process with 2."""
        # argparse says so of the flag's value: it leaves an unknown flag aside and takes the next word for
        # the verb.
        if "invalid choice" in message and (flag := self._unknown_flag()):
            message = f"unrecognized arguments: {flag}"  # what follows it was taken for a verb's name
        usage = self.format_usage()
        if usage.count("\n") > limits.CLI_USAGE_LINES_MAX:
            usage = f"usage: {self.prog} --help lists the flags\n"
        self.exit(2, f"{usage}{self.prog}: error: {message}{self._meant(message)}\n")

    def parse_known_args(self, args: Any = None, namespace: object = None) -> Any:
        """As the base; what was given is kept for :meth:`error`."""
        self._given = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def _unknown_flag(self) -> str | None:
        """The first flag given that is none, before any other word: what comes after one is that verb's own matter."""
        known = self._option_string_actions
        for word in self._given:
            flag = word.partition("=")[0]
            if flag == "--" or not flag.startswith("-"):
                return None
            if flag.startswith("--") and not any(option.startswith(flag) for option in known):
                return flag
        return None

    def parse_args(self, args: object = None, namespace: Any = None) -> Any:
        """As the base, but words left over are an error of the verb that they were given to."""
        known, left = self.parse_known_args(args, namespace)
        if left:
            verb = self._verb(getattr(known, "verb", None)) or self
            verb.error(f"unrecognized arguments: {' '.join(left)}")
        return known

    def _where_flags_stand(self) -> str:
        """For whoever gives the program a flag that is one verb's."""
        if any(isinstance(action, argparse._SubParsersAction) for action in self._actions):
            return f"; a verb's flags stand behind it: {self.prog} VERB --help shows them"
        return f"; {self.prog} --help shows its flags"

    def _verb(self, name: str | None) -> argparse.ArgumentParser | None:
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction) and name in action.choices:
                found: argparse.ArgumentParser = action.choices[name]
                return found
        return None

    def _meant(self, message: str) -> str:
        unknown = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        if unknown:
            return _nearest(unknown[1], self._option_string_actions) or self._where_flags_stand()
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if choice:
            return _nearest(choice[1], re.findall(r"[\w-]+", choice[2]))
        return ""


def _nearest(word: str, known: Iterable[str]) -> str:
    """Without the dashes that all flags have: they alone make any two short ones alike."""
    # One-letter flags are left out: each of them is half of any two letters.
    bare = {one.lstrip("-"): one for one in known if one.startswith("--") or not one.startswith("-")}
    near = difflib.get_close_matches(word.lstrip("-"), bare, n=1, cutoff=NEAR)
    return f"; did you mean {bare[near[0]]}?" if near else ""
